//! `POST` and `DELETE /api/register`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/register`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RegisterRequest {
    /// A unicast address, IPv4 or IPv6
    pub ip: String,
    /// Its port
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The name of a pool; default: default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pool: Option<String>,
    /// Relative to the other backends of the pool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 0, max = 1000))]
    pub weight: Option<u16>,
    /// Share of the GPU in use
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub gpu_usage: Option<f64>,
    /// Share of the VRAM in use
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub vram_usage: Option<f64>,
    /// false: no new sessions and no probes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub enabled: Option<bool>,
    /// true: it starts with a small share of sessions
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub is_warming_up: Option<bool>,
    /// Requests waiting in the engine's queue
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub queue: Option<u64>,
    /// Requests in progress
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub running: Option<u64>,
    /// Age of the figures, if they were read earlier
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 0, max = 3_600_000))]
    pub report_age_ms: Option<u64>,
    /// How often this call is made
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub heartbeat_ms: Option<u64>,
    /// Requests that the engine computes together
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 1, max = 4096))]
    pub max_batch: Option<u16>,
    /// How long the engine waits to fill a batch
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u16", range(min = 0, max = 10_000))]
    pub batch_window_ms: Option<u16>,
    /// A secret; without it, other clients with the scope register can neither refresh nor remove the registration
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 16, max = 256))]
    pub owner: Option<String>,
}

/// `DELETE /api/register`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct UnregisterRequest {
    /// A unicast address, IPv4 or IPv6
    pub ip: String,
    /// Its port
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The name of a pool; default: default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pool: Option<String>,
    /// The secret that it was registered with
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub owner: Option<String>,
}

/// The backend of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Target {
    /// Its address
    #[schemars(with = "String")]
    pub ip: IpAddr,
    /// Its port
    pub port: u16,
    /// Its pool; absent: default
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pool: Option<String>,
}

/// Of the answer to a registration or heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Whether it was registered or only refreshed
    pub message: String,
    /// The backend
    pub backend: Target,
    /// Unknown keys; a pool that is not defined
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Of the answer to a deregistration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unregistered {
    /// The backend
    pub backend: Target,
}
