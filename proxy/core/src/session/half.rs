//! One direction of a session, as a state machine without sockets: bytes go from a *source* to a
//! *sink*. Written once, used for both directions.
//!
//! The caller asks [`Half::step`] what to do, does it, and tells the outcome; events only set what
//! is known of readiness. Bytes that were read and not yet written are *pending*: in the caller's
//! buffer (copying) or in a pipe (splicing). Nothing is read while anything is pending, so a half
//! never owns more than one read (invariant 3), and the sink is shut only after the last pending
//! byte (invariant 2).

/// The most bytes of one copying read, and so the most that a half buffers for a slow sink.
pub const MAX_READ: usize = 64 << 10;
/// The first read asks for this much; each read that the sink takes whole doubles it.
const FIRST_READ: usize = 16 << 10;
/// A read of at least this size speaks for a stream.
const BIG_READ: usize = 32 << 10;
/// So many big reads in a row make a stream, for which splicing pays.
const STREAM_AFTER: u8 = 3;
/// So many small reads in a row end it.
const STREAM_ENDS_AFTER: u8 = 16;
/// The most bytes of one splicing read, and so the most that a pipe holds for a slow sink.
pub const MAX_SPLICE: usize = 512 << 10;

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It closed its side in order.
    Eof,
    /// Its connection broke.
    Broken(Break),
}

/// How a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The peer reset it.
    Reset,
    /// The kernel gave up: the peer did not acknowledge, or no way leads to it any more.
    Lost,
}

/// What is to be done next for this half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read at most `limit` bytes from the source.
    Read {
        /// In bytes, from 1 to [`MAX_SPLICE`].
        limit: usize,
    },
    /// Write what is pending.
    Flush,
    /// Everything has been written and the source closed in order: shut the sink's write side.
    ShutSink,
    /// Nothing until the next event.
    Wait,
    /// Nothing ever again.
    Done,
}

/// How bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Through a buffer of the worker.
    Copy,
    /// Through a pipe of its own, with splice(2).
    Splice,
}

/// One direction of a session: what to do next, decided from what the sockets said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// Nothing says that a read would block.
    readable: bool,
    /// A hang-up was seen: the end of the source stands behind what is still to be read, and no
    /// further event will tell of it. Edge-triggered epoll reports it once, perhaps while we are
    /// blocked on the sink, so it is remembered.
    hung_up: bool,
    /// Urgent data was seen (RFC 6093). A read stops short of it though more waits, and a splice
    /// stops there for good.
    urgent: bool,
    writable: bool,
    ended: Option<End>,
    /// The sink's write side was shut, or the sink is gone and what comes is worth nothing.
    closed: bool,
    mode: Mode,
    read_limit: u32,
    pending: u32,
    /// Big reads in a row while copying, small ones while splicing.
    streak: u8,
}

impl Default for Half {
    /// A half whose sockets have just been connected: both are tried at once, without waiting for
    /// an event.
    fn default() -> Self {
        Half {
            readable: true,
            hung_up: false,
            urgent: false,
            writable: true,
            ended: None,
            closed: false,
            mode: Mode::Copy,
            read_limit: FIRST_READ as u32,
            pending: 0,
            streak: 0,
        }
    }
}

impl Half {
    /// What to do next; it stays so until the caller tells an outcome.
    pub fn step(&self) -> Step {
        if self.closed {
            return Step::Done;
        }
        if self.pending > 0 {
            return if self.writable {
                Step::Flush
            } else {
                Step::Wait
            };
        }
        match self.ended {
            Some(End::Eof) => Step::ShutSink,
            Some(End::Broken(_)) => Step::Done,
            None if self.readable => Step::Read {
                limit: self.limit(),
            },
            None => Step::Wait,
        }
    }

    fn limit(&self) -> usize {
        match self.mode {
            Mode::Copy => self.read_limit as usize,
            Mode::Splice => MAX_SPLICE,
        }
    }

    /// An event says that the source can be read, or, with `hung_up`, that its end is in sight.
    pub fn source_ready(&mut self, hung_up: bool) {
        self.readable = true;
        self.hung_up |= hung_up;
    }

    /// An event says that urgent data waits.
    pub fn source_urgent(&mut self) {
        self.readable = true;
        self.urgent = true;
    }

    /// An event says that the sink takes bytes again.
    pub fn sink_ready(&mut self) {
        self.writable = true;
    }

    /// A read of at most `limit` gave `count` bytes, above 0. They are pending now.
    pub fn read(&mut self, count: usize, limit: usize) {
        self.pending = count as u32;
        // Less than asked for means that the socket is empty, which saves the read that would say
        // so: new bytes make a new event. An end already seen makes none.
        self.readable = count == limit || self.hung_up || self.urgent;
        if self.mode == Mode::Splice {
            // A pipe may be full before the limit, so a splice is only done when it would block.
            self.readable = true;
        }
        self.count_streak(count);
    }

    fn count_streak(&mut self, count: usize) {
        let continues = match self.mode {
            Mode::Copy => count >= BIG_READ,
            Mode::Splice => count < BIG_READ,
        };
        self.streak = if continues {
            self.streak.saturating_add(1)
        } else {
            0
        };
    }

    /// The source has nothing now.
    pub fn source_blocked(&mut self) {
        self.readable = false;
    }

    /// The source has ended; what was read before is still written.
    pub fn source_ended(&mut self, end: End) {
        self.ended = Some(end);
    }

    /// The sink took `count` of the pending bytes.
    pub fn wrote(&mut self, count: usize) {
        self.pending -= count as u32;
        if self.pending == 0 {
            self.read_limit = (self.read_limit * 2).min(MAX_READ as u32);
        }
    }

    /// The sink takes no more for now.
    pub fn sink_blocked(&mut self) {
        self.writable = false;
        self.read_limit = FIRST_READ as u32;
    }

    /// The sink's write side has been shut, as [`Step::ShutSink`] asked.
    pub fn sink_shut(&mut self) {
        self.closed = true;
    }

    /// The sink is gone: what is pending and what may come cannot be delivered.
    pub fn sink_lost(&mut self) {
        self.closed = true;
    }

    /// Whether the way of moving bytes should change now, and to which.
    pub fn wanted_mode(&self) -> Option<Mode> {
        if self.pending > 0 || self.closed || self.ended.is_some() {
            return None;
        }
        match self.mode {
            Mode::Copy if self.streak >= STREAM_AFTER && !self.urgent => Some(Mode::Splice),
            Mode::Splice if self.streak >= STREAM_ENDS_AFTER || self.urgent => Some(Mode::Copy),
            Mode::Copy | Mode::Splice => None,
        }
    }

    /// The caller changed the mode, or, with the mode as it was, declined to.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        self.streak = 0;
    }

    /// How bytes are moved at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes read and not written; what is left here when the half is done was lost.
    pub fn pending(&self) -> usize {
        self.pending as usize
    }

    /// How the source ended, if it has.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Nothing more will pass this way, and nothing is pending.
    pub fn is_done(&self) -> bool {
        self.step() == Step::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_waits_for_the_next_event() {
        let mut half = Half::default();
        half.read(10, FIRST_READ);
        half.wrote(10);
        assert_eq!(half.step(), Step::Wait);
        half.source_ready(false);
        assert!(matches!(half.step(), Step::Read { .. }));
    }

    #[test]
    fn a_hang_up_seen_while_blocked_on_the_sink_is_remembered() {
        let mut half = Half::default();
        half.read(10, FIRST_READ);
        half.sink_blocked();
        half.source_ready(true);
        half.sink_ready();
        half.wrote(10);
        half.read(5, FIRST_READ);
        half.wrote(5);
        // No event will come any more, so the end has to be read for.
        assert!(matches!(half.step(), Step::Read { .. }));
        half.source_ended(End::Eof);
        assert_eq!(half.step(), Step::ShutSink);
        half.sink_shut();
        assert!(half.is_done());
    }

    #[test]
    fn the_sink_is_shut_only_after_the_last_pending_byte() {
        let mut half = Half::default();
        half.read(10, FIRST_READ);
        half.source_ended(End::Eof);
        half.wrote(4);
        half.sink_blocked();
        assert_eq!(half.step(), Step::Wait);
        half.sink_ready();
        assert_eq!(half.step(), Step::Flush);
        half.wrote(6);
        assert_eq!(half.step(), Step::ShutSink);
    }

    #[test]
    fn a_reset_source_shuts_nothing() {
        let mut half = Half::default();
        half.source_ended(End::Broken(Break::Reset));
        assert_eq!(half.step(), Step::Done);
    }

    #[test]
    fn three_big_reads_make_a_stream_and_small_ones_end_it() {
        let mut half = Half::default();
        for _ in 0..STREAM_AFTER {
            assert_eq!(half.wanted_mode(), None);
            half.read(BIG_READ, BIG_READ);
            half.wrote(BIG_READ);
        }
        assert_eq!(half.wanted_mode(), Some(Mode::Splice));
        half.set_mode(Mode::Splice);
        for _ in 0..STREAM_ENDS_AFTER {
            assert_eq!(half.wanted_mode(), None);
            half.read(1, MAX_SPLICE);
            half.wrote(1);
        }
        assert_eq!(half.wanted_mode(), Some(Mode::Copy));
    }

    #[test]
    fn reads_grow_only_while_the_sink_takes_them_whole() {
        let mut half = Half::default();
        for expected in [FIRST_READ, 2 * FIRST_READ, MAX_READ, MAX_READ] {
            assert_eq!(half.step(), Step::Read { limit: expected });
            half.read(expected, expected);
            half.wrote(expected);
            half.source_ready(false);
        }
        half.read(MAX_READ, MAX_READ);
        half.wrote(1);
        half.sink_blocked();
        half.sink_ready();
        half.wrote(MAX_READ - 1);
        assert_eq!(
            half.step(),
            Step::Read {
                limit: 2 * FIRST_READ
            }
        );
    }
}
