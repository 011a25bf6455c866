//! What the guard tells a handler of its caller.

use std::net::IpAddr;

use crate::auth::{Grant, Need, Proof, SessionKey};

/// What a request comes with, for the handlers.
#[derive(Debug, Clone)]
pub struct Client {
    pub ip: IpAddr,
    /// A program of this machine, and not through a forwarding proxy.
    pub is_local: bool,
    /// What it has proved; nothing where nothing is needed.
    pub grant: Option<Grant>,
    /// The id in its session cookie.
    pub session: Option<SessionKey>,
}

impl Client {
    /// Whether the token's scope is more than a backend's. Without tokens all callers on this machine are
    /// equal, and owners' secrets decide.
    pub fn is_operator(&self) -> bool {
        let grant = self.grant.as_ref();
        grant.is_some_and(|grant| grant.scope.allows(Need::Write) && grant.proof != Proof::Local)
    }
}
