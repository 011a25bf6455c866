//! What is simulated: servers, weights, load and disturbances.

use contract::Batch;

use super::disturbance::Disturbance;
use super::server::{Kind, Mode};
use super::workload::{Arrival, Workload};

/// How often servers report.
pub const HEARTBEAT_MS: u64 = 5_000;
/// Seconds until the sender of a job that does not fit into the VRAM hears of it.
pub const LOSS_TAKES: f64 = 0.05;

#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// That of its family, and its load where the family has several.
    pub name: String,
    pub about: &'static str,
    pub servers: Vec<Kind>,
    /// As configured; a policy may go by them or not.
    pub weights: Vec<u16>,
    pub workload: Workload,
    /// Offered work in parts of what all servers can do.
    pub rho: f64,
    pub mode: Mode,
    pub proxies: usize,
    pub disturbance: Disturbance,
    /// What servers merge, and say so.
    pub batch: Option<Batch>,
    /// The share of VRAM, and of its GPU, that every other server reports whatever is true.
    pub lie: Option<f64>,
    /// Arrivals of a run; a trace has its own.
    pub jobs: usize,
}

impl Scenario {
    /// The same for every policy.
    pub fn arrivals(&self, seed: u64) -> Vec<Arrival> {
        let capacity: f64 = self.servers.iter().map(Kind::capacity).sum();
        self.workload.arrivals(self.rho, capacity, self.jobs, seed)
    }

    /// The name without the load.
    pub fn family(&self) -> &str {
        let load = self.name.rsplit_once('_');
        load.filter(|(_, load)| load.parse::<f64>().is_ok())
            .map_or(&self.name, |(family, _)| family)
    }
}
