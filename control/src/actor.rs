//! Who does something: nobody can write a mutation that has no actor (invariant 7).

use std::fmt;
use std::net::IpAddr;

/// Whoever asked for a change or a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A client of the HTTP interface, and which token it showed.
    Client { ip: IpAddr, token: TokenUse },
    /// Control itself, and which part of it.
    Control(&'static str),
}

/// Which token a client showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenUse {
    /// None is configured, or none was shown.
    None,
    Read,
    Register,
    Write,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Client { ip, token } => match token {
                TokenUse::None => write!(f, "{ip}"),
                TokenUse::Read => write!(f, "{ip} with the read token"),
                TokenUse::Register => write!(f, "{ip} with the register token"),
                TokenUse::Write => write!(f, "{ip} with the write token"),
            },
            Actor::Control(part) => write!(f, "control: {part}"),
        }
    }
}
