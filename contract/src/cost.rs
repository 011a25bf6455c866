//! Why a backend gets what it gets under `gpu_aware`: what one session more costs there, with its
//! parts.

use serde::{Deserialize, Serialize};

/// What has failed at a backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Failed {
    /// `connect_refused`, `connect_timed_out`, `session_unanswered`, `flow_refused` or
    /// `flow_unanswered`.
    pub what: String,
    /// How often, since the proxy knows the backend or last found that its unanswered sessions were
    /// no fault of its own.
    pub count: u64,
    /// How long ago the last time was.
    pub age_ms: u64,
}

/// `total = (in_flight + 1 + failures) * slowness / (weight * warm_up)
///        + report_weight * (vram + gpu)`,
/// and much more where a warming backend has its one session. The least total is picked.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendCost {
    pub total: f64,
    /// Busy sessions and flows, and idle ones at their lesser weight.
    pub in_flight: f64,
    /// Configured weight in proportion to the mean of the pool.
    pub weight: f64,
    /// How many times longer it takes than the middle of the pool, learned from first-byte latency.
    pub slowness: f64,
    /// Answered requests that this was learned from.
    pub latency_samples: u64,
    /// 1 when warm; less while it warms up and after.
    pub warm_up: f64,
    /// Recent failures, in sessions.
    pub failures: f64,
    /// What they were, while they cost something.
    #[serde(default)]
    pub failed: Vec<Failed>,
    /// The share of VRAM that one session more is expected to lead to; absent without a report.
    pub vram_expected: Option<f64>,
    /// What that costs.
    pub vram: f64,
    /// What work on the GPU costs that is not ours.
    pub gpu: f64,
    /// 1 while the report is fresh, fading to 0.
    pub report_weight: f64,
    pub report_age_ms: Option<u64>,
}
