//! Settings, the proxy, the audit log and the ping of the base API.

use std::path::PathBuf;

use contract::status::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::InForce;
use crate::v1::Planned;

/// `GET /api/settings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SettingsAnswer {
    /// true
    pub ok: bool,
    /// The settings in force
    pub settings: InForce,
}

/// `GET /api/proxy`: the proxy as it sees itself, and what control has published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Proxy {
    /// true
    pub ok: bool,
    /// What control has published.
    #[serde(flatten)]
    pub planned: Planned,
    /// The proxy's own status; null without an admin socket
    #[schemars(with = "Option<Map<String, Value>>")]
    pub status: Option<Box<Status>>,
}

/// `GET /api/logs/audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct AuditLog {
    /// true
    pub ok: bool,
    /// One JSON object a line
    pub data: String,
    /// The file
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// What is wrong with the log
    pub warnings: Vec<String>,
    /// What was lost; null while the log can be written
    pub lost: Option<LostLines>,
}

/// Lines of the audit log that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LostLines {
    /// Since when, in unix milliseconds
    pub since_ms: u64,
    /// How many
    pub lines: u64,
    /// Why
    pub error: String,
}

/// `POST /api/ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PingRequest {
    /// The address of a backend, or 127.0.0.1
    pub ip: String,
}

/// The result of a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PingAnswer {
    /// true
    pub ok: bool,
    /// As ping prints it
    pub output: String,
}
