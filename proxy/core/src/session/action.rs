//! What a session is told, what it asks, and what is to be done for it.

use contract::BackendAddr;

use super::half::Break;
use super::relay::Side;
use crate::ids::PoolId;
use crate::placement::Placement;
use crate::reason::SessionEnd;
use crate::slot::SessionSlot;

/// What is to be done for a session now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nothing until the next event.
    Wait,
    /// Tell it by `SessionState::timer` when this time has come, in place of the time before.
    Arm { at_ms: u64 },
    /// Ask the socket to the backend how the connect went, and tell by `SessionState::connect_ended`. An
    /// error waits there only if it `is_broken`.
    AskConnect { is_broken: bool },
    /// The backend is connected, after so long: arm the timer, and move.
    Connected { after_us: u64, at_ms: u64 },
    /// Close the socket to the backend, tell by `SessionState::connect_failed`, and choose another.
    GiveUpConnect(ConnectFailure),
    /// Make a `Turn`.
    Move,
    /// Reset what is open of it, and tell by `SessionState::end`.
    Reset(SessionEnd),
    /// Close both ends in order, and tell by `SessionState::end`.
    Close(SessionEnd),
}

/// The backend to connect to, or that there is none.
#[derive(Debug)]
pub enum Choice {
    /// Begin to connect, and tell by `SessionState::connecting` or `SessionState::could_not_connect`.
    Try {
        placement: Placement,
        timeout_ms: u64,
        is_retry: bool,
    },
    /// Reset it.
    End(SessionEnd),
}

/// What an event says of a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    pub is_readable: bool,
    pub is_writable: bool,
    /// The peer has closed its side.
    pub is_read_closed: bool,
    /// Both sides are closed.
    pub is_hung_up: bool,
    pub has_failed: bool,
    pub is_urgent: bool,
}

impl Readiness {
    /// The connection is no more, or no connect came about.
    #[inline]
    pub fn is_broken(self) -> bool {
        self.has_failed || self.is_hung_up
    }
}

/// What became of a connect that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    Made,
    /// It was made, and broke since. That is no refusal, and the bytes before it can still be read.
    Broken(Break),
    Refused,
}

/// Why a connect did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    Refused,
    TimedOut,
    /// This host had no local port left towards it, which says nothing of the backend.
    NoPort,
}

/// What the sockets of a session are asked, only where it decides something: each question is a system
/// call.
pub trait Ends {
    /// Why the connection to `side` broke, as far as its socket knows.
    fn why_broken(&self, side: Side) -> Break;
    /// What `side` has not acknowledged, and still may.
    fn unacknowledged(&self, side: Side) -> usize;
    /// Whether the connection to the client is no more.
    fn has_client_gone(&self) -> bool;
}

/// What is left of a session that has ended.
#[derive(Debug)]
pub struct Ended {
    pub pool: PoolId,
    pub slot: Option<SessionSlot>,
    /// The last backend that was tried.
    pub backend: Option<BackendAddr>,
    /// Its backend has ended it without an answer: a reset before the first byte, or a close without one
    /// after the client had sent some. A client that sends nothing fails nobody.
    pub is_unanswered: bool,
}
