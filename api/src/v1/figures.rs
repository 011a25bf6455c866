//! Past figures.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Figures since control started. null: unknown, because control or the proxy was not running, or the proxy restarted
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// The time between two figures
    pub step_ms: u64,
    /// When the first step began, in unix milliseconds
    pub first_ms: u64,
    /// Figures in each series
    pub count: usize,
    /// Start of the oldest step that is kept, in unix milliseconds; null: none is kept
    pub oldest_ms: Option<u64>,
    /// By name. Of the whole: backends, taking, sessions, flows, session_rate, flow_rate, failed_rate, retry_rate,
    /// drop_rate, bytes_up_rate, bytes_down_rate (rates are a second), first_byte_p50_us, first_byte_p99_us, gpu, vram,
    /// vram_batched, vram_unbatched (0 to 1), flow_failed_rate (of each reason in `failures.flows`), and
    /// failed_REASON_rate of each reason in `failures.sessions` of `GET status`. Of a backend: open, rate,
    /// connect_failures (254: or more), first_byte_us, gpu, vram
    #[schemars(with = "BTreeMap<String, Vec<Option<f64>>>")]
    pub series: BTreeMap<String, Vec<Value>>,
    /// Events in the time range, oldest first; absent for one backend
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Mark>")]
    pub marks: Option<Vec<Mark>>,
    /// Number of backends without history, because history_max_bytes is full; absent for one backend
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize")]
    pub backends_left_out: Option<usize>,
    /// The server's clock
    pub now_ms: u64,
    /// Time at which control started
    pub started_at_ms: u64,
}

/// What a mark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum MarkKind {
    Edit,
    State,
    Applied,
    Refused,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Mark {
    /// Unix milliseconds
    pub at_ms: u64,
    /// edit has actor, action and target; state has to, count and backends; applied has generation; refused has
    /// generation and reason
    pub kind: MarkKind,
    /// The actor, as in the audit log
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub actor: Option<String>,
    /// As in the audit log
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub action: Option<String>,
    /// What was changed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub target: Option<String>,
    /// The state that backends are in now
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub to: Option<String>,
    /// Number of backends
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "usize")]
    pub count: Option<usize>,
    /// The first of these backends
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    pub backends: Option<Vec<String>>,
    /// The configuration's generation
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub generation: Option<u64>,
    /// Why the proxy does not run it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub reason: Option<String>,
}
