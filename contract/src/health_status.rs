//! Health in the proxy's status, for the whole and for each backend.

use serde::{Deserialize, Serialize};

use crate::backend_state::OperationalState;
use crate::state_reason::ProbeFailure;

/// Health as configured, and how many backends it leaves.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct HealthStatus {
    /// The kind of probe that runs; also `off` if no listener serves the protocol that it judges.
    pub probe: String,
    /// The rule: `reject` or `fail_open`.
    pub all_down: String,
    /// What health leaves for sessions.
    pub tcp: ProtocolHealth,
    /// What health leaves for flows.
    pub udp: ProtocolHealth,
    /// All are out for TCP, or connects fail, and none has accepted a TCP connection since the proxy started,
    /// while flows are answered, so the service probably uses UDP only. `all_down` is then not reported for
    /// TCP. False from older proxies.
    pub udp_alone: bool,
    /// Ejections that were skipped because too many backends were out already.
    pub ejections_spared: u64,
}

/// Number of backends of one protocol.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct ProtocolHealth {
    /// Those that take new sessions or flows by configuration.
    pub ready: u64,
    /// Those of them that are not out because of their health.
    pub available: u64,
    /// The rule that applies while all backends are out: `reject` or `fail_open`.
    pub all_down_in_force: Option<String>,
}

/// Health of one backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct BackendHealth {
    /// Probes since the backend is known.
    pub probes_total: u64,
    /// Those of them that failed.
    pub probe_failures_total: u64,
    /// When the last probe ended, unix milliseconds.
    pub probed_at_ms: Option<u64>,
    /// How the last probe ended, in words.
    pub probe_result: Option<String>,
    /// How the last probe failed, if it did; absent from older proxies.
    pub probe_failure: Option<ProbeFailure>,
    /// How long the last probe that passed took.
    pub probe_latency_us: Option<u64>,
    /// Consecutive sessions that this backend has failed.
    pub session_failures_in_row: u64,
    /// Consecutive flows that this backend has refused.
    pub flow_failures_in_row: u64,
    /// Ejections since the backend is known.
    pub ejections_total: u64,
    /// Time left of an ejection; 0 if it lasts until probes pass again.
    pub ejected_for_ms: Option<u64>,
    /// Progress of slow start, above 0 and up to 1.
    pub slow_start: f64,
    /// Whether health and warm-up allow new sessions.
    pub takes_sessions: bool,
    /// The same for new flows.
    pub takes_flows: bool,
    /// The operational state for TCP alone; absent where no listener takes TCP, and from older proxies.
    pub tcp: Option<OperationalState>,
    /// The same for UDP.
    pub udp: Option<OperationalState>,
}

impl Default for BackendHealth {
    fn default() -> Self {
        BackendHealth {
            probes_total: 0,
            probe_failures_total: 0,
            probed_at_ms: None,
            probe_result: None,
            probe_failure: None,
            probe_latency_us: None,
            session_failures_in_row: 0,
            flow_failures_in_row: 0,
            ejections_total: 0,
            ejected_for_ms: None,
            slow_start: 1.0,
            takes_sessions: true,
            takes_flows: true,
            tcp: None,
            udp: None,
        }
    }
}
