//! The actor of a mutation: no mutation can be written without one (invariant 7).

use std::fmt;
use std::net::IpAddr;

/// The origin of a change or of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A client of the HTTP interface, and the token or session that admitted it; `None` if none is
    /// configured or needed.
    Client { ip: IpAddr, by: Option<String> },
    /// Control itself, and which part of it.
    Control(&'static str),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Client { ip, by: None } => write!(f, "{ip}"),
            Actor::Client { ip, by: Some(by) } => write!(f, "{ip} with {by}"),
            Actor::Control(part) => write!(f, "control: {part}"),
        }
    }
}
