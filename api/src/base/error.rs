//! Errors as the base API gives them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::v1::{self, Gone, Problem};

/// Why a call was refused
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// false
    pub ok: bool,
    /// What is wrong, and what is allowed
    pub error: String,
    /// With 412: the current tag
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub etag: Option<String>,
    /// Each fault of the request
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Fault>")]
    pub faults: Option<Vec<Fault>>,
    /// With 429: seconds until the next attempt, as in Retry-After
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub retry_after_s: Option<u64>,
    /// Of a backend that is no longer listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
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
    /// JSON pointer
    pub place: String,
    /// What was found
    pub found: String,
    /// What is allowed
    pub allowed: String,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        let faults = problem.errors.map(|errors| {
            let errors = errors.into_iter();
            errors.map(Fault::from).collect()
        });
        Refusal {
            ok: false,
            error: problem.detail,
            etag: problem.etag,
            faults,
            retry_after_s: problem.retry_after_s,
            gone: problem.gone,
            more: problem.more,
        }
    }
}

impl From<v1::Fault> for Fault {
    fn from(fault: v1::Fault) -> Fault {
        Fault {
            place: fault.pointer.or(fault.parameter).unwrap_or_default(),
            found: fault.found,
            allowed: fault.allowed,
        }
    }
}

/// An error with members of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Refused<T> {
    /// false
    pub ok: bool,
    /// What is wrong
    pub error: String,
    /// What the call says besides.
    #[serde(flatten)]
    pub rest: T,
}
