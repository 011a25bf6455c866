//! Whether traffic flows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How bad a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum Level {
    Ok,
    Degraded,
    Unknown,
    Down,
}

/// One finding
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// ok: traffic flows; degraded: it flows, and something is wrong; unknown: control cannot tell; down: new sessions or
    /// flows are refused, or most of them fail
    pub level: Level,
    /// What was found
    #[schemars(extend("enum" = CODES))]
    pub code: String,
    /// The figures of the code, see docs/api.md
    pub args: Map<String, Value>,
    /// Time since which level and code have not changed, in unix milliseconds; null: since before control started
    pub since: Option<u64>,
    /// The same in one English sentence
    pub text: String,
    /// The pool that the finding is about; absent: all of the proxy, or the pool default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pool: Option<String>,
}

/// The codes of findings; a newer control may have others.
const CODES: [&str; 22] = [
    "not_looked",
    "proxy_not_running",
    "proxy_stuck",
    "proxy_without_status",
    "proxy_unseen",
    "proxy_draining",
    "not_listening",
    "no_backend_known",
    "no_backend_usable",
    "fail_open",
    "udp_alone",
    "sessions_failing",
    "flows_failing",
    "refused",
    "other_file",
    "not_published",
    "not_applied",
    "listener_not_applied",
    "backends_out",
    "no_pool",
    "no_listener",
    "serving",
];

/// Whether traffic flows: the worst finding
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The worst finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// The other findings, the worst first
    pub others: Vec<Finding>,
    /// The verdict of each pool, by its name
    pub pools: BTreeMap<String, Finding>,
    /// Sessions and flows of the last minute
    pub traffic: Traffic,
    /// Time of this verdict, in unix milliseconds; 0: none yet
    pub at_ms: u64,
}

/// Sessions and flows of the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Traffic {
    /// Length of the time that these figures cover; below 60 if control has read the proxy's status for less
    pub window_s: u64,
    /// TCP sessions: those that began or those that ended, whichever number is larger
    pub sessions: u64,
    /// TCP sessions that began
    pub new_sessions: u64,
    /// Failed TCP sessions
    pub failed: u64,
    /// 0 to 1; null without sessions
    pub failed_share: Option<f64>,
    /// Failed TCP sessions a second
    pub failed_per_s: f64,
    /// Number by reason
    pub failed_reasons: BTreeMap<String, u64>,
    /// Connect attempts after the first
    pub retries: u64,
    /// UDP flows: those that began or those that ended, whichever number is larger
    pub flows: u64,
    /// Failed UDP flows
    pub flows_failed: u64,
    /// 0 to 1; null without flows
    pub flows_failed_share: Option<f64>,
    /// Number by reason
    pub flows_ended: BTreeMap<String, u64>,
    /// Datagrams that were not forwarded
    pub datagrams_dropped: u64,
    /// Number by reason
    pub dropped_reasons: BTreeMap<String, u64>,
}
