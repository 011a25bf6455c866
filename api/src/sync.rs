//! What became of a change: stored, published, and running in the proxy.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the proxy was notified, and whether it runs the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reload {
    /// Whether the proxy was notified; null if that was not needed
    pub ok: Option<bool>,
    /// How the proxy was notified, or why not
    pub info: String,
    /// Whether the proxy runs this generation or a later one, by the digest of its configuration
    pub applied: Option<bool>,
    /// Whether applied compares the digest of the configuration; false for an older proxy without a digest, and if
    /// the proxy does not answer
    pub verified: bool,
    /// The generation that was published
    pub generation: Option<u64>,
    /// Time from the signal to the proxy's confirmation
    pub applied_in_ms: Option<u64>,
    /// Why the proxy does not run it
    pub reason: Option<String>,
}

/// The result of publishing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sync {
    /// Whether the configuration is published
    pub ok: bool,
    /// The reason for this publish
    pub reason: String,
    /// The file that the proxy reads
    #[schemars(with = "String")]
    pub proxy_config_path: PathBuf,
    /// How the proxy was notified
    pub reload: Reload,
    /// Backends published
    pub merged_count: usize,
    /// As discovery wrote it
    pub k8s_updated_at: Value,
    /// Unix seconds
    pub runtime_updated_at: Option<u64>,
    /// Everything that is not as it should be
    pub warnings: Vec<String>,
    /// Why it is not published
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}

/// What publishing a stored change came to: three members of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Stored and published.
    pub ok: bool,
    /// The result of publishing.
    pub sync: Sync,
    /// Why it is not published yet.
    pub error: Option<String>,
}

/// The answer to a call whose change is stored: its own members between `ok` and `sync`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Stored<T> {
    /// Stored and published
    pub ok: bool,
    /// What the call answers besides.
    #[serde(flatten)]
    pub rest: T,
    /// The result of publishing and of the signal
    pub sync: Sync,
    /// Why it is not published yet
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}

impl<T> Stored<T> {
    /// The answer that says what publishing came to.
    pub fn new(rest: T, published: Published) -> Stored<T> {
        let Published { ok, sync, error } = published;
        Stored {
            ok,
            rest,
            sync,
            error,
        }
    }
}
