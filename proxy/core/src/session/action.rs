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
    Arm {
        /// Milliseconds on the clock of the workers.
        at_ms: u64,
    },
    /// Look at what the client has sent without taking it, at most [`MAX_PREFACE`](crate::route::hello::MAX_PREFACE)
    /// bytes, and tell by `SessionState::peeked`.
    Peek {
        /// Nothing more is waited for.
        is_last: bool,
    },
    /// Tell of the client only once it has sent so many bytes, or no more will come.
    AwaitBytes {
        /// From the first one on.
        at_least: usize,
    },
    /// Choose a backend by `SessionState::choose`.
    Choose {
        /// Every byte of the client is to be told of again.
        has_awaited_bytes: bool,
    },
    /// Ask the socket to the backend how the connect went, and tell by `SessionState::connect_ended`. An
    /// error waits there only if it `is_broken`.
    AskConnect {
        /// An event said that the connect failed or the connection broke.
        is_broken: bool,
    },
    /// The backend is connected, after so long: arm the timer, and move.
    Connected {
        /// Since the connect began.
        after_us: u64,
        /// When the timer is to call, in milliseconds on the clock of the workers.
        at_ms: u64,
    },
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
        /// The backend to try.
        placement: Placement,
        /// How long this connect may take.
        timeout_ms: u64,
        /// Another backend has failed this session before.
        is_retry: bool,
    },
    /// Reset it.
    End(SessionEnd),
}

/// What an event says of a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Bytes, or an end, can be read.
    pub is_readable: bool,
    /// Bytes can be written.
    pub is_writable: bool,
    /// The peer has closed its side.
    pub is_read_closed: bool,
    /// Both sides are closed.
    pub is_hung_up: bool,
    /// An error waits at the socket.
    pub has_failed: bool,
    /// Urgent data waits (RFC 6093).
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
    /// The connection stands.
    Made,
    /// It was made, and broke since. That is no refusal, and the bytes before it can still be read.
    Broken(Break),
    /// No connection was made.
    Refused,
}

/// Why a connect did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Refused, unreachable or reset.
    Refused,
    /// It took longer than `connect_timeout_ms`.
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
    /// The pool that its backend is a member of.
    pub pool: PoolId,
    /// Its place in the backend's count, if it had reached one.
    pub slot: Option<SessionSlot>,
    /// The last backend that was tried.
    pub backend: Option<BackendAddr>,
    /// Its backend has ended it without an answer: a reset before the first byte, or a close without one
    /// after the client had sent some. A client that sends nothing fails nobody.
    pub is_unanswered: bool,
}
