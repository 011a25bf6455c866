//! A backend: its row in lists and events, and its page.

use std::borrow::Cow;
use std::net::IpAddr;

use contract::StateReason;
use contract::state_reason::read_known;
use contract::status::{AdminState, BackendCost};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::InProxy;

/// A word of a closed list, which a newer control may have made longer.
type Word = Cow<'static, str>;

/// An operator's override, stronger than the registration, the static list and discovery
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Override {
    /// 0 to 1000; absent: not overridden
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16")]
    pub weight: Option<u16>,
    /// Whether it is enabled; absent: not overridden
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
    /// Whether it is drained; absent: not overridden
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub drain: Option<bool>,
    /// Unix seconds
    pub at: u64,
    /// The actor who set it
    pub actor: String,
}

/// What holds once the override is cleared
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct Beneath {
    pub weight: u16,
    pub enabled: bool,
}

/// A backend as control and the proxy know it
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// The name of its pool
    pub pool: String,
    /// Its address
    #[schemars(with = "String")]
    pub ip: IpAddr,
    /// Its port
    pub port: u16,
    /// The weight in force, 0 to 1000
    pub weight: u16,
    /// 0 to 1
    pub gpu_usage: Option<f64>,
    /// 0 to 1
    pub vram_usage: Option<f64>,
    /// Whether it is enabled
    pub enabled: bool,
    /// Whether it is warming up (reported by the backend)
    pub is_warming_up: bool,
    /// Unix seconds
    pub last_seen: Option<u64>,
    /// The strongest source that knows it: runtime, static, or the name of a discovery source, such as k8s
    pub source: Word,
    /// Every source that knows it, the strongest first
    pub sources: Vec<Word>,
    /// The operator's override
    pub r#override: Option<Override>,
    /// What holds once the override is cleared; null without an override
    pub without_override: Option<Beneath>,
    /// What operators and sources want of it
    #[schemars(extend("enum" = ["no_pool", "expired", "disabled", "drain", "no_listener", "warming", "ready"]))]
    pub state: Word,
    /// The weight in the published configuration
    pub published_weight: u16,
    /// When its figures were read, in unix milliseconds
    pub reported_at_ms: Option<u64>,
    /// How often it sends a heartbeat
    pub heartbeat_ms: Option<u64>,
    /// Registered with an owner's secret, which is needed to refresh or remove it
    pub owned: bool,
    /// Requests waiting in the engine's queue
    pub queue: Option<u64>,
    /// Requests in progress
    pub running: Option<u64>,
    /// Requests that its engine computes together
    pub max_batch: Option<u16>,
    /// How long its engine waits to fill a batch
    pub batch_window_ms: Option<u16>,
    /// ip:port in the pool default, pool/ip:port in another
    pub id: String,
    /// When its registration expires without a heartbeat
    pub expires_at_ms: Option<u64>,
    /// Its cost in parts, for algorithms that have one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub cost: Option<BackendCost>,
    /// Its status in the proxy. `operational` is its state, `reasons` are the reasons for it (StateReason); `tcp` and
    /// `udp` are its states over each protocol alone, null where no listener takes the protocol: up, down, checking,
    /// warming, ejected. `sessions_failed` and `flows_failed` count by reason what it failed after the connect, since
    /// the proxy started; reasons never seen are absent
    #[schemars(with = "Option<Map<String, Value>>")]
    pub proxy: Option<Box<InProxy>>,
}

/// `GET backends`: a page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Page {
    /// Number of backends on all pages
    pub total: usize,
    /// The cursor of the next page; null on the last
    pub next: Option<String>,
    /// In the order of pools and addresses
    pub backends: Vec<Backend>,
}

/// `GET backends/{id}`: what a list leaves out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Detail {
    /// Its row
    pub backend: Backend,
    /// The values of each source, the strongest first; the first source that mentions a value decides; null: not
    /// mentioned
    pub layers: Layers,
    /// Its last changes of state since control started, at most 20, the newest first
    pub history: Vec<Transition>,
    /// Its newest lines of the audit log, at most 10, the newest first; a line about many backends is reduced to this
    /// one
    pub edits: Vec<Map<String, Value>>,
    /// The newest lines of the audit log about changes of settings that were not refused, at most 3, the newest first
    pub settings_edits: Vec<Map<String, Value>>,
}

/// The values of each source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Layers {
    /// By an operator
    pub r#override: Option<Override>,
    /// By the backend itself
    pub registration: Option<Registration>,
    /// In the static list
    pub r#static: Option<OfSource>,
    /// By discovery
    pub discovery: Option<OfSource>,
}

/// The values of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct Registration {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    /// An expired registration is ignored if a file lists the backend
    pub is_expired: bool,
}

/// The values of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct OfSource {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
}

/// A change of a backend's state
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// When control saw it, in unix milliseconds; the oldest one is the state found at control's start
    pub at_ms: u64,
    /// What operators and sources want of it
    #[schemars(with = "String", extend("enum" = ["ready", "drain", "disabled"]))]
    pub admin: AdminState,
    /// What the proxy sees of it
    #[schemars(extend("enum" = ["up", "down", "checking", "warming", "ejected", "expired", "no_listener", "unknown"]))]
    pub operational: Word,
    /// In English; the next release removes it, since `reasons` says it
    pub reason: String,
    /// Empty from older proxies
    #[serde(default, deserialize_with = "read_known")]
    #[schemars(with = "Vec<StateReasonShape>")]
    pub reasons: Vec<StateReason>,
}

/// With 404 of a backend that is no longer listed: what control still knows of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Gone {
    /// Time since which it has not been listed, in unix milliseconds; null: since before control started
    pub at_ms: Option<u64>,
    /// Its last sources, the strongest first
    pub sources: Vec<Word>,
    /// Its last states, the newest first
    pub history: Vec<Transition>,
    /// Its last lines of the audit log, the newest first
    pub edits: Vec<Map<String, Value>>,
}

/// One part of why a backend is in its state
// `StateReason` of the contract is the type; this is its description.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StateReason")]
#[allow(missing_docs)]
pub struct StateReasonShape {
    #[schemars(extend("enum" = STATE_REASONS))]
    pub code: String,
    /// The figures of the code; absent where it has none. `protocol` is tcp or udp; `failure` is refused, unreachable,
    /// timed_out, closed, unexpected, not_http or http_status, the last with `status`
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
}

const STATE_REASONS: [&str; 24] = [
    "warming_up",
    "slow_start",
    "probe_passed",
    "probes_pass",
    "probe_failed",
    "no_probe_yet",
    "probe_of_own_listener",
    "other_protocol_unaffected",
    "failed_in_row",
    "ejected_for",
    "ejected_until_probes_pass",
    "last_connect_refused",
    "last_connect_timed_out",
    "last_connect_succeeded",
    "last_flow_answered",
    "last_flow_refused",
    "no_connect_yet",
    "flows_answered",
    "no_flow_answered_yet",
    "no_tcp_accepted_yet",
    "all_down_still_used",
    "no_listener",
    "registration_expired",
    "not_reported",
];
