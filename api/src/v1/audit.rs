//! The audit log.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct AuditLines {
    /// The lines, the oldest first
    #[schemars(with = "Vec<Map<String, Value>>")]
    pub lines: Vec<Value>,
    /// Value of `after` for the next call
    pub next: u64,
    /// The number of the newest line
    pub last: u64,
    /// The file
    #[schemars(with = "String")]
    pub path: PathBuf,
}
