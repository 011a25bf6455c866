//! The configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::InForce;

/// `GET config`: what is in force, and the file as it was last published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Config {
    /// Of the edits; for If-Match
    pub etag: String,
    /// The settings in force
    pub effective: InForce,
    /// The file as it was last published; null without a file
    #[schemars(with = "Option<Map<String, Value>>")]
    pub published: Option<Value>,
    /// Where the file is
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// The generation that was published last
    pub generation: Option<u64>,
    /// Unix seconds
    pub updated_at: Option<u64>,
}
