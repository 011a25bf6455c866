//! What the status says of health, of the whole and of each backend.

use serde::{Deserialize, Serialize};

use crate::status::OperationalState;

/// Health as it is configured, and what it left of the backends.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct HealthStatus {
    /// The kind of probe that runs: `off` also where no listener asks for what it would tell.
    pub probe: String,
    /// The rule: `reject` or `fail_open`.
    pub all_down: String,
    pub tcp: ProtocolHealth,
    pub udp: ProtocolHealth,
    /// All are out for TCP, and none has accepted a TCP connection since the proxy started, while flows are
    /// answered: it looks like a service of UDP alone. No rule of TCP is said to be in force then. False
    /// from older proxies.
    pub udp_alone: bool,
    /// Ejections that did not take place since too many backends were out already.
    pub ejections_spared: u64,
}

/// How many backends one protocol has.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct ProtocolHealth {
    /// Those that take new sessions or flows by configuration.
    pub ready: u64,
    /// Those of them that are not out for their health.
    pub available: u64,
    /// The rule for all being out, while it is in force: `reject` or `fail_open`.
    pub all_down_in_force: Option<String>,
}

/// Health of one backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct BackendHealth {
    pub probes_total: u64,
    pub probe_failures_total: u64,
    /// When the last probe ended, unix milliseconds.
    pub probed_at_ms: Option<u64>,
    /// How the last probe ended, in words.
    pub probe_result: Option<String>,
    /// How long the last probe that passed took.
    pub probe_latency_us: Option<u64>,
    /// Sessions in a row that this backend has failed by now.
    pub session_failures_in_row: u64,
    /// Flows in a row that this backend has refused by now.
    pub flow_failures_in_row: u64,
    pub ejections_total: u64,
    /// What is left of an ejection; 0 where it lasts until probes pass again.
    pub ejected_for_ms: Option<u64>,
    /// How far slow start has come, above 0 and up to 1.
    pub slow_start: f64,
    /// Whether its health, and warming up, let it take new sessions.
    pub takes_sessions: bool,
    /// The same of new flows.
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
