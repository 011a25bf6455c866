//! The static list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Stored;

/// The values of a source; null leaves a value to weaker sources, or to the default
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// The weight
    #[schemars(range(min = 0, max = 1000))]
    pub weight: Option<u16>,
    /// Whether it is enabled
    pub enabled: Option<bool>,
    /// Whether it starts with a small share of sessions
    pub is_warming_up: Option<bool>,
}

/// An absent value is taken from discovery, or is the default
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StaticRequest {
    /// The weight
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: Option<u16>,
    /// Whether it is enabled
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it starts with a small share of sessions
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_warming_up: Option<bool>,
}

/// A backend of the static list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StaticBackend {
    /// Its values.
    #[serde(flatten)]
    pub said: Said,
    /// ip:port in the pool default, pool/ip:port in another
    pub id: String,
}

/// `GET static`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StaticList {
    /// The entries of the file
    pub backends: Vec<StaticBackend>,
    /// The file, which can also be edited by hand
    pub path: String,
}

/// Of the answer to a change of the static list: the entry before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticDiff {
    /// The entry before; null: none
    pub old: Option<Said>,
    /// The entry after; null: none
    pub new: Option<Said>,
    /// A pool that is not defined
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The answer to a change of the static list.
pub type StaticChanged = Stored<StaticDiff>;
