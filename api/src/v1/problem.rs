//! Errors as problem documents (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Gone;

/// Why a call was refused (RFC 9457)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// about:blank: the status says the kind
    pub r#type: String,
    /// The status in words
    pub title: String,
    /// The status
    pub status: u16,
    /// What is wrong, and what is allowed
    pub detail: String,
    /// The path of the call
    pub instance: String,
    /// With 412: the current tag
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub etag: Option<String>,
    /// Each fault of the request
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Fault>")]
    pub errors: Option<Vec<Fault>>,
    /// With 429: seconds until the next attempt, as in Retry-After
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub retry_after_s: Option<u64>,
    /// With 404 of a backend that is no longer listed: what control still knows of it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Gone")]
    pub gone: Option<Gone>,
    /// Members of single calls.
    #[serde(flatten)]
    #[schemars(skip)]
    pub more: Map<String, Value>,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Fault {
    /// JSON pointer into the body
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pointer: Option<String>,
    /// The parameter of the path or the query that has the fault
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub parameter: Option<String>,
    /// What was found and what is allowed, in one sentence
    pub detail: String,
    /// What was found
    pub found: String,
    /// What is allowed
    pub allowed: String,
}

impl From<&contract::Fault> for Fault {
    fn from(fault: &contract::Fault) -> Fault {
        let contract::Fault {
            place,
            found,
            allowed,
        } = fault;
        let is_pointer = place.is_empty() || place.starts_with('/');
        Fault {
            pointer: is_pointer.then(|| place.clone()),
            parameter: (!is_pointer).then(|| place.clone()),
            detail: format!("found {found}, allowed: {allowed}"),
            found: found.clone(),
            allowed: allowed.clone(),
        }
    }
}
