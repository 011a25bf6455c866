//! Ending open sessions. The list is the proxy's ([`contract::sessions`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The session or flow was ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SessionEnded {
    /// Always true
    pub ok: bool,
    /// Which one
    pub id: String,
}
