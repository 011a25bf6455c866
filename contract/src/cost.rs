//! Explains the share of a backend under `gpu_aware`: the cost of one more session there, with its
//! parts.

use serde::{Deserialize, Serialize};

/// What has failed at a backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Failed {
    /// `connect_refused`, `connect_timed_out`, `session_unanswered`, `flow_refused` or
    /// `flow_unanswered`.
    pub what: String,
    /// Number since the proxy first knew the backend, or last found that its unanswered sessions were
    /// not its fault.
    pub count: u64,
    /// Time since the last one.
    pub age_ms: u64,
}

/// `total = (in_flight + 1 + failures) * slowness / (weight * warm_up)
///        + report_weight * (vram + gpu)`,
/// and much more if a warming backend already has its one session. The lowest total is picked.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendCost {
    /// The cost: the lowest gets the next session.
    pub total: f64,
    /// Busy sessions and flows, and idle ones at their lesser weight.
    pub in_flight: f64,
    /// Configured weight in proportion to the mean of the pool.
    pub weight: f64,
    /// Response time relative to the pool's median, learned from first-byte latency.
    pub slowness: f64,
    /// Answered requests that this was learned from.
    pub latency_samples: u64,
    /// 1 when warm; less while it warms up and after.
    pub warm_up: f64,
    /// Cost of recent failures, in sessions.
    pub failures: f64,
    /// These failures by kind, while they have a cost.
    #[serde(default)]
    pub failed: Vec<Failed>,
    /// Share of VRAM expected with one more session; absent without a report.
    pub vram_expected: Option<f64>,
    /// Cost of that share.
    pub vram: f64,
    /// Cost of other work on the GPU.
    pub gpu: f64,
    /// 1 while the report is fresh, fading to 0.
    pub report_weight: f64,
    /// Age of the load report that the cost uses; `None`: there is none.
    pub report_age_ms: Option<u64>,
}
