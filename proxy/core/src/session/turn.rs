//! A turn of a session: what it moves, and what follows from that.

use super::action::{Action, Ends};
use super::half::Break;
use super::relay::{Closed, Side, Verdict};
use super::run::{Moved, Run, Stopped};
use super::state::{Draining, SessionState, Stage};
use crate::reason::SessionEnd;

/// No event tells that a peer has acknowledged all, so the send queue is looked at before a reset is
/// forwarded: soon at first, then after pauses twice as long each. One that does not shrink for the time
/// of patience is given up.
const RESET_POLL_MS: u64 = 5;
const LONGEST_RESET_POLL_MS: u64 = 160;
/// How long a send queue that does not shrink is waited for.
pub const RESET_PATIENCE_MS: u64 = 10_000;

/// An end of one half may set the other going again, but each ends only once.
const MOST_PASSES: u8 = 4;

/// One turn of a session that moves bytes: some passes, each a run of both halves, and what follows
/// ([`SessionState::settle`]).
#[derive(Debug)]
pub struct Turn {
    was_half_closed: bool,
    passes_left: u8,
}

impl Turn {
    /// Whether another pass may move something.
    #[inline]
    pub fn goes_on(&self) -> bool {
        self.passes_left > 0
    }

    /// There is nothing to move any more.
    pub fn stop(&mut self) {
        self.passes_left = 0;
    }
}

/// What is to be noted after a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Bytes passed from the backend for the first time.
    pub is_first_answer: bool,
    /// When the client's first byte was passed on, where that byte has waited for this answer.
    pub asked_us: Option<u64>,
    /// There is more to move: have it make another turn by [`SessionState::resume`], after others have had
    /// theirs.
    pub is_unfinished: bool,
}

impl SessionState {
    /// Begins a turn.
    #[inline]
    pub fn turn(&self) -> Turn {
        Turn {
            was_half_closed: self.relay.is_half_closed(),
            passes_left: MOST_PASSES,
        }
    }

    /// The run of the half that reads from `side`. A pass is one of the client's, then one of the
    /// backend's, and [`SessionState::passed`].
    #[inline]
    pub fn run(&mut self, from: Side) -> Run<'_> {
        let (half, other) = match from {
            Side::Client => (&mut self.relay.up, &self.relay.down),
            Side::Backend => (&mut self.relay.down, &self.relay.up),
        };
        Run::new(half, other.is_done())
    }

    /// A pass is over; `up` is what the half moved that reads from the client. A sink that takes bytes is
    /// as alive as a source that sends them.
    #[inline]
    pub fn passed(&mut self, turn: &mut Turn, up: Moved, down: Moved, now_us: u64) -> Passed {
        let mut passed = Passed {
            is_first_answer: false,
            asked_us: None,
            is_unfinished: false,
        };
        if !(up.is_nothing() && down.is_nothing()) {
            self.last_active_ms = now_us / 1_000;
            self.relay.moved(up.read > 0, down.read > 0);
            passed.is_first_answer = down.read > 0 && self.bytes_down == 0;
            self.bytes_up += up.read;
            self.bytes_down += down.read;
            if up.read > 0 {
                self.first_up_us.get_or_insert(now_us);
            }
            passed.asked_us = self.first_up_us.filter(|_| passed.is_first_answer);
        }
        let up_ended = self.stopped(Side::Client, up.stopped);
        let down_ended = self.stopped(Side::Backend, down.stopped);
        let over_budget = up.stopped == Stopped::Budget || down.stopped == Stopped::Budget;
        passed.is_unfinished = over_budget && !self.is_unfinished;
        self.is_unfinished |= over_budget;
        turn.passes_left = match up_ended || down_ended {
            true => turn.passes_left - 1,
            false => 0,
        };
        passed
    }

    /// Tells the relay why the half that reads from `side` stopped. Returns whether that was an end.
    #[inline]
    fn stopped(&mut self, side: Side, stopped: Stopped) -> bool {
        match stopped {
            Stopped::Waiting | Stopped::Budget => false,
            Stopped::SourceEnded(end) => {
                self.relay.read_ended(side, end);
                true
            }
            Stopped::SinkFailed(how) => {
                self.relay.write_failed(side.other(), how);
                true
            }
        }
    }

    /// What follows from a turn whose passes are over.
    #[inline]
    pub fn settle(&mut self, turn: &Turn, ends: &impl Ends, now_ms: u64) -> Action {
        for side in Side::BOTH {
            if self.relay.has_failed_unread(side) {
                self.relay.write_failed(side, ends.why_broken(side));
            }
        }
        match self.relay.verdict() {
            Verdict::Continue if !turn.was_half_closed && self.relay.is_half_closed() => {
                Action::Arm {
                    at_ms: now_ms + self.half_close_timeout_ms,
                }
            }
            Verdict::Continue => Action::Wait,
            Verdict::Closed(Closed { first, is_owed }) => Action::Close(match first {
                Side::Client => SessionEnd::ClientClosed,
                Side::Backend if is_owed => SessionEnd::BackendClosedUnanswered,
                Side::Backend => SessionEnd::BackendClosed,
            }),
            Verdict::Broken { by, how, after } => {
                let end = end_of_break(by, how, after, ends);
                self.forward_reset(by, end, ends, now_ms)
            }
        }
    }

    /// Resets the other end, but not before it has acknowledged all that `by` sent before: a reset
    /// destroys what the send queue still holds.
    fn forward_reset(
        &mut self,
        by: Side,
        end: SessionEnd,
        ends: &impl Ends,
        now_ms: u64,
    ) -> Action {
        let unacknowledged = ends.unacknowledged(by.other());
        let before = match self.stage {
            Stage::Resetting(before) => Some(before),
            Stage::Preface { .. }
            | Stage::Choosing { .. }
            | Stage::Connecting { .. }
            | Stage::Relaying
            | Stage::Ended => None,
        };
        let since_ms = before
            .filter(|before| unacknowledged == before.unacknowledged)
            .map_or(now_ms, |before| before.since_ms);
        let pause_ms = before.map_or(RESET_POLL_MS, |before| {
            (before.pause_ms * 2).min(LONGEST_RESET_POLL_MS)
        });
        if unacknowledged == 0 || now_ms >= since_ms + RESET_PATIENCE_MS {
            return Action::Reset(end);
        }
        self.stage = Stage::Resetting(Draining {
            unacknowledged,
            since_ms,
            pause_ms,
        });
        Action::Arm {
            at_ms: now_ms + pause_ms,
        }
    }
}

/// What the end is called of a session that was broken by `by`.
fn end_of_break(by: Side, how: Break, after: Option<Closed>, ends: &impl Ends) -> SessionEnd {
    match (by, how) {
        (Side::Client, Break::Lost) => SessionEnd::ClientLost,
        (Side::Backend, Break::Lost) => SessionEnd::BackendLost,
        (Side::Client, Break::Reset) if after.is_some() => SessionEnd::ClientResetAfterEnd,
        (Side::Client, Break::Reset) => SessionEnd::ClientReset,
        (Side::Backend, Break::Reset) if is_finished(after, ends) => {
            SessionEnd::BackendResetAfterEnd
        }
        (Side::Backend, Break::Reset) => SessionEnd::BackendReset,
    }
}

/// Whether the first close ended the exchange. A client that had closed and was still owed an answer may
/// have got only part of it; one that has gone does not wait for the rest.
fn is_finished(after: Option<Closed>, ends: &impl Ends) -> bool {
    after.is_some_and(|closed| {
        let may_wait = closed.is_owed && !ends.has_client_gone();
        !may_wait
    })
}
