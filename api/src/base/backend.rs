//! `GET /api/backends`.

use std::borrow::Cow;
use std::net::IpAddr;

use contract::status::BackendCost;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::v1::{self, Beneath, Freeze, Override};

/// A backend
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Listed")]
pub struct Backend {
    /// default: this call lists no other pool
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
    pub source: Cow<'static, str>,
    /// Every source that knows it, the strongest first
    pub sources: Vec<Cow<'static, str>>,
    /// The operator's override
    pub r#override: Option<Override>,
    /// What holds once the override is cleared; null without an override
    pub without_override: Option<Beneath>,
    /// Time until the registration expires
    pub ttl_remaining_ms: Option<u64>,
    /// What operators and sources want of it
    #[schemars(extend("enum" = ["no_pool", "expired", "disabled", "drain", "no_listener", "warming", "ready"]))]
    pub state: Cow<'static, str>,
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
    /// Its cost in parts, for algorithms that have one
    #[schemars(with = "Option<Map<String, Value>>")]
    pub cost: Option<BackendCost>,
    /// The state in the proxy; unknown if the proxy does not answer
    #[schemars(extend("enum" = ["up", "down", "checking", "warming", "ejected", "expired", "no_pool", "no_listener", "unknown"]))]
    pub operational: Cow<'static, str>,
    /// In use and gets new sessions; null if the proxy does not answer, does not serve TCP or says `udp_alone`
    pub ready_tcp: Option<bool>,
    /// In use and gets new flows; null if the proxy does not answer or does not serve UDP
    pub ready_udp: Option<bool>,
}

impl From<v1::Backend> for Backend {
    /// What the row of `v1` says. What only this call says is empty: the time to live, and what the proxy is asked
    /// for beside the row.
    fn from(row: v1::Backend) -> Backend {
        Backend {
            pool: row.pool,
            ip: row.ip,
            port: row.port,
            weight: row.weight,
            gpu_usage: row.gpu_usage,
            vram_usage: row.vram_usage,
            enabled: row.enabled,
            is_warming_up: row.is_warming_up,
            last_seen: row.last_seen,
            source: row.source,
            sources: row.sources,
            r#override: row.r#override,
            without_override: row.without_override,
            ttl_remaining_ms: None,
            state: row.state,
            published_weight: row.published_weight,
            reported_at_ms: row.reported_at_ms,
            heartbeat_ms: row.heartbeat_ms,
            owned: row.owned,
            queue: row.queue,
            running: row.running,
            max_batch: row.max_batch,
            batch_window_ms: row.batch_window_ms,
            cost: None,
            operational: Cow::Borrowed("unknown"),
            ready_tcp: None,
            ready_udp: None,
        }
    }
}

/// All backends of the pool default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Backends {
    /// true
    pub ok: bool,
    /// Unix seconds of the published file
    pub updated_at: Option<u64>,
    /// The generation that was published last
    pub generation: Option<u64>,
    /// As discovery wrote it
    pub k8s_updated_at: Value,
    /// Unix seconds
    pub runtime_updated_at: Option<u64>,
    /// Everything that is not as it should be
    pub warnings: Vec<String>,
    /// A mass expiry that is held back
    pub freeze: Option<Freeze>,
    /// In the order of addresses
    pub backends: Vec<Backend>,
    /// Overrides of backends that no source lists now
    pub unused_overrides: Vec<UnusedOverride>,
}

/// An override of a backend that no source lists now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct UnusedOverride {
    /// The backend's address
    #[schemars(with = "String")]
    pub ip: IpAddr,
    /// The backend's port
    pub port: u16,
    /// The override
    pub r#override: Override,
}
