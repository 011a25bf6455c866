//! Who does something: nobody can write a mutation that has no actor (invariant 7).

use std::fmt;
use std::net::IpAddr;

/// Whoever asked for a change or a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A client of the HTTP interface, and by what it was let in: a token or a session of one;
    /// nothing where none is configured or needed.
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
