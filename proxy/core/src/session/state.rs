//! The state of a session, and what it makes of events, timers and its end.

use contract::sessions::SessionPhase;
use contract::{BackendAddr, ListenerSettings};

use super::action::{Action, ConnectFailure, Ended, Ends, Readiness};
use super::half::Step;
use super::relay::{Relay, Side};
use crate::backend::BackendState;
use crate::ids::{ListenerId, PoolId};
use crate::reason::SessionEnd;
use crate::slot::{SessionSlot, Slot};
use crate::snapshot::Snapshot;

/// See the [module](super).
#[derive(Debug)]
pub struct SessionState {
    pub(super) listener: ListenerId,
    /// The pool that its backends are members of, once a route led there.
    pub(super) pool: PoolId,
    pub(super) stage: Stage,
    pub(super) relay: Relay,
    /// The backend being tried or in use.
    pub(super) slot: Option<SessionSlot>,
    /// Backends that failed this session.
    pub(super) tried: Vec<BackendAddr>,
    pub(super) attempts: u8,
    /// It used up its budget, and the caller has been told.
    pub(super) is_unfinished: bool,
    muted: Muted,
    /// What was in force when the session began: a reload changes nothing that is open.
    pub(super) idle_timeout_ms: u64,
    pub(super) half_close_timeout_ms: u64,
    pub(super) started_us: u64,
    pub(super) last_active_ms: u64,
    /// What was under way when the session had been silent for as long as it may.
    pub(super) under_way: Option<UnderWay>,
    /// When the client's first byte was passed on; for the backend's first-byte latency.
    pub(super) first_up_us: Option<u64>,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client's first bytes decide where it goes.
    Preface {
        deadline_ms: u64,
        /// It has asked for several bytes at once.
        has_awaited_bytes: bool,
    },
    /// No connect is under way.
    Choosing {
        /// Why the ones before did not come about.
        failure: Option<ConnectFailure>,
        /// What the client said in TLS decided the pool.
        is_by_tls: bool,
    },
    Connecting {
        since_us: u64,
        deadline_ms: u64,
        is_by_tls: bool,
    },
    Relaying,
    /// The connection to one end broke; the other end gets its reset once it has acknowledged the bytes
    /// before, or has acknowledged nothing for too long.
    Resetting(Draining),
    Ended,
}

/// A send queue that is looked at until it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draining {
    pub(super) unacknowledged: usize,
    /// When it was last seen to shrink.
    pub(super) since_ms: u64,
    pub(super) pause_ms: u64,
}

/// What neither end has acknowledged, and when that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) to_client: usize,
    pub(super) to_backend: usize,
    pub(super) seen_ms: u64,
}

/// The sides of which arrivals are not told.
#[derive(Debug, Clone, Copy, Default)]
struct Muted {
    client: bool,
    backend: bool,
}

impl SessionState {
    /// The session of a client that was accepted at `now_us`. [`SessionState::begin`] comes next.
    pub fn new(listener: ListenerId, settings: &ListenerSettings, now_us: u64) -> SessionState {
        SessionState {
            listener,
            pool: PoolId::NONE,
            stage: Stage::Choosing {
                failure: None,
                is_by_tls: false,
            },
            relay: Relay::default(),
            slot: None,
            tried: Vec::new(),
            attempts: 0,
            is_unfinished: false,
            muted: Muted::default(),
            idle_timeout_ms: settings.idle_timeout_ms,
            half_close_timeout_ms: settings.half_close_timeout_ms,
            started_us: now_us,
            last_active_ms: now_us / 1_000,
            under_way: None,
            first_up_us: None,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// The listener it came by.
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// The pool that its backends are members of; [`PoolId::NONE`] before a route led to one.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// The backend being tried or in use.
    pub fn backend(&self) -> Option<&BackendState> {
        self.slot.as_ref().map(|slot| slot.backend())
    }

    /// Microseconds on the clock of the workers.
    pub fn started_us(&self) -> u64 {
        self.started_us
    }

    /// How far it is; `None`: it has ended.
    pub fn phase(&self) -> Option<SessionPhase> {
        match self.stage {
            Stage::Preface { .. } => Some(SessionPhase::AwaitingHello),
            Stage::Choosing { .. } | Stage::Connecting { .. } => Some(SessionPhase::Connecting),
            Stage::Relaying if self.relay.is_half_closed() => Some(SessionPhase::HalfClosed),
            Stage::Relaying => Some(SessionPhase::Open),
            Stage::Resetting(_) => Some(SessionPhase::Resetting),
            Stage::Ended => None,
        }
    }

    /// When bytes passed last, or it was accepted, in milliseconds on the clock of the workers.
    pub fn last_active_ms(&self) -> u64 {
        self.last_active_ms
    }

    /// Backends tried.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// From the client and from the backend.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_up, self.bytes_down)
    }

    /// The slot at the backend being tried or in use, and the pool of that backend.
    #[inline]
    pub fn slot(&mut self) -> Option<(PoolId, &mut Slot)> {
        let slot = self.slot.as_deref_mut()?;
        Some((self.pool, slot))
    }

    /// An event of the socket to `side`.
    #[inline]
    pub fn event(&mut self, side: Side, is: Readiness) -> Action {
        match (self.stage, side) {
            (Stage::Ended, _) => return Action::Wait,
            (Stage::Preface { .. } | Stage::Choosing { .. } | Stage::Connecting { .. }, _) => {}
            (Stage::Relaying | Stage::Resetting(_), _) => {
                self.note(side, is);
                return Action::Move;
            }
        }
        // The backend may have said all and closed or reset by now, which is told only once.
        self.note(side, is);
        match (self.stage, side) {
            // Nobody is left to connect for.
            (_, Side::Client) if is.is_broken() => Action::Reset(SessionEnd::ClientReset),
            (Stage::Preface { .. }, Side::Client) if is.is_readable || is.is_read_closed => {
                Action::Peek {
                    is_last: is.is_read_closed,
                }
            }
            (Stage::Connecting { .. }, Side::Backend) => Action::AskConnect {
                is_broken: is.is_broken(),
            },
            (_, _) => Action::Wait,
        }
    }

    #[inline]
    fn note(&mut self, side: Side, is: Readiness) {
        let hung_up = is.is_read_closed || is.is_broken();
        self.relay
            .ready(side, is.is_readable, is.is_writable, hung_up);
        if is.has_failed {
            self.relay.failed(side);
        }
        if is.is_urgent {
            self.relay.half_from(side).source_urgent();
        }
    }

    /// The caller gives it the turn that `Passed::is_unfinished` asked for. It may have ended since, and
    /// another begun in its place.
    pub fn resume(&mut self) -> Action {
        self.is_unfinished = false;
        match self.stage {
            Stage::Relaying | Stage::Resetting(_) => Action::Move,
            Stage::Preface { .. }
            | Stage::Choosing { .. }
            | Stage::Connecting { .. }
            | Stage::Ended => Action::Wait,
        }
    }

    /// The time for which the timer was armed has come. Never to be called before: two looks at a silent session
    /// must be as far apart as it may be silent.
    pub fn timer(&mut self, ends: &impl Ends, now_ms: u64) -> Action {
        match self.stage {
            Stage::Preface { deadline_ms, .. } if now_ms >= deadline_ms => {
                Action::Peek { is_last: true }
            }
            Stage::Preface { deadline_ms, .. } => Action::Arm { at_ms: deadline_ms },
            Stage::Connecting { deadline_ms, .. } if now_ms >= deadline_ms => {
                Action::GiveUpConnect(ConnectFailure::TimedOut)
            }
            Stage::Connecting { deadline_ms, .. } => Action::Arm { at_ms: deadline_ms },
            Stage::Relaying => {
                // Activity only notes its time; the timer follows it here.
                let timeout_ms = self.silence_allowed_ms();
                let deadline_ms = self.last_active_ms + timeout_ms;
                if now_ms < deadline_ms {
                    return Action::Arm { at_ms: deadline_ms };
                }
                match self.end_of_silence(ends, now_ms) {
                    None => Action::Arm {
                        at_ms: now_ms + timeout_ms,
                    },
                    Some(end) => Action::Reset(end),
                }
            }
            Stage::Resetting(_) => Action::Move,
            Stage::Choosing { .. } | Stage::Ended => Action::Wait,
        }
    }

    /// When it is to end because its backend is gone, if the settings say so.
    pub fn must_end_at_ms(&self, snapshot: &Snapshot, now_ms: u64) -> Option<u64> {
        let backend = self.slot.as_ref()?.backend();
        let timeout_ms = snapshot.gone_timeout_ms(backend.pool)?;
        Some(backend.gone_since_ms(now_ms)? + timeout_ms)
    }

    /// Whether any side's arrivals are not told.
    #[inline]
    pub fn is_any_muted(&self) -> bool {
        self.muted.client || self.muted.backend
    }

    /// Whether what arrives from `side` need not be told any more, because the other side takes no more.
    /// Each segment would wake the worker for nothing: a stream to a slow reader did so some twenty
    /// times for each pipe that it filled.
    #[inline]
    pub fn is_to_be_muted(&mut self, side: Side) -> bool {
        !*self.muted(side) && self.is_sink_blocked(side)
    }

    /// Whether arrivals are to be told again.
    pub fn is_to_be_unmuted(&mut self, side: Side) -> bool {
        *self.muted(side) && !self.is_sink_blocked(side)
    }

    /// Whether arrivals from `side` are told no longer, since its sink takes nothing.
    pub fn set_muted(&mut self, side: Side, is_muted: bool) {
        *self.muted(side) = is_muted;
    }

    fn muted(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Client => &mut self.muted.client,
            Side::Backend => &mut self.muted.backend,
        }
    }

    #[inline]
    fn is_sink_blocked(&mut self, side: Side) -> bool {
        let half = self.relay.half_from(side);
        half.pending() > 0 && half.step() == Step::Wait
    }

    /// Bytes read from `side` and not written.
    pub fn pending(&self, side: Side) -> usize {
        match side {
            Side::Client => self.relay.up.pending(),
            Side::Backend => self.relay.down.pending(),
        }
    }

    /// The session ends by `end`; `None`: it has ended already.
    pub fn end(&mut self, end: SessionEnd) -> Option<Ended> {
        if self.stage == Stage::Ended {
            return None;
        }
        self.stage = Stage::Ended;
        let slot = self.slot.take();
        let backend = slot.as_ref().map(|slot| slot.backend().addr);
        Some(Ended {
            pool: self.pool,
            is_unanswered: slot.is_some() && self.is_unanswered(end),
            backend: backend.or(self.tried.last().copied()),
            slot,
        })
    }

    fn is_unanswered(&self, end: SessionEnd) -> bool {
        self.bytes_down == 0
            && match end {
                SessionEnd::BackendReset | SessionEnd::BackendLost => true,
                SessionEnd::BackendClosed | SessionEnd::BackendClosedUnanswered => {
                    self.bytes_up > 0
                }
                SessionEnd::ClientClosed
                | SessionEnd::ClientReset
                | SessionEnd::ClientResetAfterEnd
                | SessionEnd::ClientLost
                | SessionEnd::BackendResetAfterEnd
                | SessionEnd::ConnectRefused
                | SessionEnd::ConnectTimeout
                | SessionEnd::NoBackend
                | SessionEnd::NoRoute
                | SessionEnd::NotTls
                | SessionEnd::IdleTimeout
                | SessionEnd::ClientStalled
                | SessionEnd::BackendStalled
                | SessionEnd::HalfCloseTimeout
                | SessionEnd::BackendGone
                | SessionEnd::Ended
                | SessionEnd::Shutdown
                | SessionEnd::InternalError => false,
            }
    }
}
