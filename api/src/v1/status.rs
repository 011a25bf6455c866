//! The state of the whole.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Level, Proxy, Verdict};
use crate::ProxyRefusal;

/// Whether the proxy runs, and what control has published and found: what `GET /api/proxy` and `GET status` share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// Whether the proxy runs
    pub running: bool,
    /// Why the proxy does not answer
    pub why: Option<String>,
    /// The generation that control published last
    pub published_generation: Option<u64>,
    /// null if unknown
    pub applied: Option<bool>,
    /// Whether applied compares the digest of the running configuration; false for an older proxy, null if the proxy
    /// does not answer
    pub verified: Option<bool>,
    /// Both paths, if the proxy reads a different file from the one that control writes
    pub other_file: Option<OtherFile>,
    /// What the proxy refuses
    pub refusals: Vec<ProxyRefusal>,
    /// How the last publish ended
    pub last_publish: Option<LastPublish>,
    /// Unix seconds of the published file
    pub updated_at: Option<u64>,
    /// Why the configuration is not published
    pub failure: Option<String>,
    /// Everything that is not as it should be
    pub warnings: Vec<String>,
    /// A mass expiry that is held back
    pub freeze: Option<Freeze>,
    /// Whether only this machine is served, since no tokens are configured
    pub protected: bool,
    /// How long a registration lasts without a heartbeat
    pub ttl_ms: u64,
}

/// Both paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct OtherFile {
    /// The file that the proxy reads
    pub proxy: String,
    /// The file that control writes
    pub control: String,
    /// The same as a sentence
    pub message: String,
}

/// The last publish that was sent to the proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LastPublish {
    /// Unix milliseconds
    pub at_ms: u64,
    /// Its generation
    pub generation: u64,
    /// Whether the proxy was notified
    pub signalled: bool,
    /// How the proxy was notified, or why not
    pub info: String,
    /// Whether the proxy runs it; null while that is unknown
    pub applied: Option<bool>,
    /// Whether applied compares the digest of the configuration
    pub verified: bool,
    /// Why the proxy does not run it
    pub reason: Option<String>,
    /// Time from the signal to the proxy's confirmation
    pub applied_in_ms: Option<u64>,
}

/// A mass expiry that is held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Freeze {
    /// For how long
    pub held_for_ms: u64,
    /// The call that carries it out
    pub acknowledge: String,
}

/// The proxy, the published configuration, the verdict, and the listeners and pools as control knows them
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// What control has published.
    #[serde(flatten)]
    pub planned: Planned,
    /// The proxy's own status without its backends; null without an admin socket
    #[schemars(with = "Option<Map<String, Value>>")]
    pub proxy: Option<Box<Proxy>>,
    /// What is known of each proxy, this node's first; empty until control has looked at it
    pub proxies: Vec<OfProxy>,
    /// Time of this state, in unix milliseconds
    pub at_ms: u64,
    /// The tag of the current edits, for If-Match
    pub etag: String,
    /// Whether traffic flows
    pub verdict: Verdict,
    /// Ends that count as failures, by their reason
    pub failures: Failures,
    /// The number of the newest audit line
    pub audit_seq: u64,
    /// As discovery wrote it
    pub k8s_updated_at: Value,
    /// Unix seconds
    pub runtime_updated_at: Option<u64>,
    /// The pools, those of known backends that are not defined included
    pub pools: Vec<Pool>,
    /// The listeners that control publishes or would publish
    pub listeners: Vec<Listener>,
}

/// What is known of a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct OfProxy {
    /// Its name
    pub name: String,
    /// Whether this control publishes to it
    pub is_local: bool,
    /// The generation that was published for it
    pub published_generation: Option<u64>,
    /// The generation that it runs; null if it does not answer
    pub generation: Option<u64>,
    /// null if unknown
    pub applied: Option<bool>,
    /// The level of the verdict
    pub level: Level,
    /// The code of the verdict
    pub code: String,
}

/// Ends that count as failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Failures {
    /// Of TCP sessions
    pub sessions: Vec<String>,
    /// Those of `sessions` in which no backend was reached
    pub unconnected: Vec<String>,
    /// Of UDP flows
    pub flows: Vec<String>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Pool {
    /// Its name
    pub name: String,
    /// null: the pool is not defined, so its backends are not published
    pub algorithm: Option<String>,
    /// Known backends
    pub backends: u64,
}

/// The protocols of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum Protocols {
    #[serde(rename = "tcp")]
    Tcp,
    #[serde(rename = "udp")]
    Udp,
    #[serde(rename = "tcp+udp")]
    TcpAndUdp,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Listener {
    /// Its name
    pub name: String,
    /// Its address
    #[schemars(with = "String")]
    pub host: IpAddr,
    /// Its port
    pub port: u16,
    /// Its protocols
    pub protocol: Protocols,
    /// The first pool that it leads to; null: none
    pub pool: Option<String>,
}
