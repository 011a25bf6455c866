//! The policies that are compared: algorithms of the proxy, and the oracle.

use std::fmt;
use std::str::FromStr;

use contract::Algorithm;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Picker(Algorithm),
    /// Knows the true state of every server and the size of the job.
    Oracle,
}

impl Policy {
    /// In the order of the tables.
    pub const ALL: [Policy; 8] = [
        Policy::Picker(Algorithm::RoundRobin),
        Policy::Picker(Algorithm::WeightedRoundRobin),
        Policy::LEAST_CONNECTIONS,
        Policy::Picker(Algorithm::WeightedLeastConnections),
        Policy::Picker(Algorithm::PowerOfTwo),
        Policy::Picker(Algorithm::PeakEwma),
        Policy::GPU_AWARE,
        Policy::Oracle,
    ];
    /// What the others are compared with.
    pub const LEAST_CONNECTIONS: Policy = Policy::Picker(Algorithm::LeastConnections);
    pub const GPU_AWARE: Policy = Policy::Picker(Algorithm::GpuAware);

    pub fn name(self) -> &'static str {
        match self {
            Policy::Picker(algorithm) => algorithm.name(),
            Policy::Oracle => "oracle",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let found = Policy::ALL.into_iter().find(|policy| policy.name() == text);
        found.ok_or_else(|| {
            let names = Policy::ALL.map(Policy::name).join(", ");
            format!("allowed: {names}")
        })
    }
}
