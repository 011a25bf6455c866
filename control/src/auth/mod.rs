//! Which caller may do what: scopes, protected mode, and how a caller proves its identity. Pure, except
//! for `access`, which holds what changes while the server runs, and `token_file` with `command`, with
//! which an operator changes it.

mod access;
pub mod command;
mod failures;
mod first_token;
mod grace;
mod grace_file;
mod hosts;
mod sessions;
mod token;
pub mod token_file;
mod token_uses;

use std::net::IpAddr;

pub use access::{Access, SESSION_COOKIE, TokenChange};
pub use failures::network;
pub use hosts::Hosts;
pub use sessions::SessionKey;
pub use token::{KnownToken, SecretHash, TokenSet};
pub use token_file::TokenFileError;

/// What a token is for. SECURITY.md has the matrix of scopes and calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Look at everything, change nothing.
    Read,
    /// Register backends, and nothing else.
    Register,
    /// Also read and edit backends, sync, ping.
    Write,
    /// Also the settings of the proxy, and letting a held-back mass expiry happen.
    Admin,
}

impl Scope {
    pub const ALL: [(&'static str, Scope); 4] = [
        ("read", Scope::Read),
        ("register", Scope::Register),
        ("write", Scope::Write),
        ("admin", Scope::Admin),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Register => "register",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }

    pub fn allows(self, need: Need) -> bool {
        match (self, need) {
            (_, Need::Nothing)
            | (Scope::Admin, _)
            | (Scope::Write, Need::Read | Need::Register | Need::Write)
            | (Scope::Read, Need::Read)
            | (Scope::Register, Need::Register) => true,
            (Scope::Write, Need::Admin)
            | (Scope::Read, Need::Register | Need::Write | Need::Admin)
            | (Scope::Register, Need::Read | Need::Write | Need::Admin) => false,
        }
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Pages, files, signing in, and `/livez`.
    Nothing,
    Read,
    Register,
    Write,
    Admin,
}

impl Need {
    fn word(self) -> &'static str {
        match self {
            Need::Nothing | Need::Read => "read",
            Need::Register => "register",
            Need::Write => "write",
            Need::Admin => "admin",
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "protected mode: no tokens are configured, so only clients on this machine are served. \
         Make some with \"control_server token create\" and set \"allowed_hosts\" in \
         control/config/control_config.json, or tunnel: ssh -L 8080:127.0.0.1:8080 this-machine"
    )]
    Protected,
    #[error("a token is needed: sign in, or send it as \"Authorization: Bearer TOKEN\"")]
    NoToken,
    #[error(
        "a token is needed: without one, only registrations from before the first token can be \
         refreshed, and this is a new one"
    )]
    NewWithoutToken,
    #[error("unknown or revoked token")]
    WrongToken,
    #[error("this token has expired")]
    ExpiredToken,
    #[error("this session has ended: sign in again")]
    SessionOver,
    #[error("the token lacks the scope {}", .0.word())]
    LesserToken(Need),
    #[error(
        "too many wrong tokens from this address: try again in {retry_after_s} s, or use a token \
         that \"control_server token create\" made, which is always accepted"
    )]
    TooManyFailures { retry_after_s: u64 },
}

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub ip: IpAddr,
    /// It came through a forwarding proxy, so `ip` is not its origin.
    pub forwarded: bool,
    pub shown: Shown<'a>,
}

impl Caller<'_> {
    pub fn is_local(&self) -> bool {
        self.ip.to_canonical().is_loopback() && !self.forwarded
    }
}

/// The credential of a caller.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    Nothing,
    /// The token of `Authorization: Bearer`.
    Bearer(&'a str),
    /// The id in the session cookie.
    Session(&'a str),
}

/// The proven identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub scope: Scope,
    pub proof: Proof,
    /// Its name in the audit log; `None` for a local caller in protected mode.
    pub label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Protected mode: a client of this machine may do everything.
    Local,
    Token(SecretHash),
    Session(SessionKey),
}
