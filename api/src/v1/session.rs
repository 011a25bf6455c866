//! The console's session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The caller
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// true
    pub ok: bool,
    /// false if no tokens are configured, so only this machine is served
    pub needs_token: bool,
    /// true if signed in with a session
    pub signed_in: bool,
    /// null without a token
    #[schemars(extend("enum" = ["read", "register", "write", "admin", null]))]
    pub scope: Option<String>,
    /// The token's name in the audit log
    pub by: Option<String>,
}

/// `POST session`.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SignIn {
    /// The token that the session is for
    pub token: String,
}

/// `DELETE session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SignedOut {
    /// true
    pub ok: bool,
}
