//! One run of a half: its moves, one after the other, until it waits, meets an end or has had its turn.
//!
//! The caller carries out each [`Move`] and tells the outcome; [`Run::done`] says what came of all of them.

use super::half::{Break, End, Half, Mode, Step};

/// So many bytes of one half are moved before others get their turn.
pub const BUDGET: u64 = 2 << 20;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Read at most `limit` bytes and write them. What the sink does not take is stored.
    Copy {
        /// In bytes, from 1 to [`MAX_READ`](super::half::MAX_READ).
        limit: usize,
    },
    /// Take at most `limit` bytes into a pipe, which is then what stores them.
    Splice {
        /// In bytes, from 1 to [`MAX_SPLICE`](super::half::MAX_SPLICE).
        limit: usize,
    },
    /// Write what is stored.
    Flush,
    /// Shut the sink's write side. Where that fails, the sink's own half says why.
    Shut,
    /// The way of moving has changed, and nothing is stored: give an empty pipe back.
    ReleasePipe,
}

/// Why a run stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Until the next event, or for good.
    Waiting,
    /// The budget is used up; there is more to do.
    Budget,
    /// The source has ended; what was read before has been written or stored.
    SourceEnded(End),
    /// The sink takes no more, ever.
    SinkFailed(Break),
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes taken from the source.
    pub read: u64,
    /// Bytes that the sink took.
    pub written: u64,
    /// Why it went no further.
    pub stopped: Stopped,
}

impl Moved {
    /// Whether no byte passed.
    #[inline]
    pub fn is_nothing(&self) -> bool {
        self.read == 0 && self.written == 0
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Run<'a> {
    half: &'a mut Half,
    /// The other half is done: both sockets are closed with this one, which says as much as a shut.
    is_last: bool,
    stored: u64,
    read: u64,
    stopped: Option<Stopped>,
}

impl<'a> Run<'a> {
    /// Begins a run of `half`. `is_last`: the other half is done.
    #[inline]
    pub fn new(half: &'a mut Half, is_last: bool) -> Run<'a> {
        Run {
            stored: half.pending() as u64,
            half,
            is_last,
            read: 0,
            stopped: None,
        }
    }

    /// What to do next; `None` once the run has stopped.
    #[inline]
    pub fn next_move(&mut self) -> Option<Move> {
        if self.stopped.is_some() {
            return None;
        }
        if self.read >= BUDGET {
            self.stopped = Some(Stopped::Budget);
            return None;
        }
        if let Some(mode) = self.half.wanted_mode() {
            self.half.set_mode(mode);
            return Some(Move::ReleasePipe);
        }
        match self.half.step() {
            Step::Read { limit } => Some(match self.half.mode() {
                Mode::Copy => Move::Copy { limit },
                Mode::Splice => Move::Splice { limit },
            }),
            Step::Flush => Some(Move::Flush),
            Step::ShutSink => {
                self.half.sink_shut();
                self.stopped = Some(Stopped::Waiting);
                (!self.is_last).then_some(Move::Shut)
            }
            Step::Wait | Step::Done => {
                self.stopped = Some(Stopped::Waiting);
                None
            }
        }
    }

    /// A read of at most `limit` gave `count` bytes, above 0.
    #[inline]
    pub fn read(&mut self, count: usize, limit: usize) {
        self.read += count as u64;
        self.half.read(count, limit);
    }

    /// A read would block.
    #[inline]
    pub fn source_blocked(&mut self) {
        self.half.source_blocked();
    }

    /// The source has ended.
    pub fn source_ended(&mut self, end: End) {
        self.stopped = Some(Stopped::SourceEnded(end));
    }

    /// A splice stopped at urgent data or at the end: only a read will say which.
    pub fn source_urgent(&mut self) {
        self.half.source_urgent();
    }

    /// There is no pipe for it.
    pub fn cannot_splice(&mut self) {
        self.half.set_mode(Mode::Copy);
    }

    /// The sink took `count` of the bytes that were read before.
    #[inline]
    pub fn wrote(&mut self, count: usize) {
        self.half.wrote(count);
    }

    /// A write would block.
    #[inline]
    pub fn sink_blocked(&mut self) {
        self.half.sink_blocked();
    }

    /// The sink's connection broke.
    pub fn sink_failed(&mut self, how: Break) {
        self.stopped = Some(Stopped::SinkFailed(how));
    }

    /// Bytes that were read and not written.
    #[inline]
    pub fn pending(&self) -> usize {
        self.half.pending()
    }

    /// What came of the run, which has stopped.
    #[inline]
    pub fn done(self) -> Moved {
        Moved {
            read: self.read,
            written: self.stored + self.read - self.half.pending() as u64,
            stopped: self.stopped.unwrap_or(Stopped::Waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::half::MAX_SPLICE;

    fn run(half: &mut Half) -> Run<'_> {
        Run::new(half, false)
    }

    #[test]
    fn a_source_that_never_runs_dry_leaves_others_their_turn() {
        let mut half = Half::default();
        let mut run = run(&mut half);
        let mut moves = 0;
        while let Some(next) = run.next_move() {
            if let Move::Copy { limit } | Move::Splice { limit } = next {
                run.read(limit, limit);
                run.wrote(limit);
            }
            moves += 1;
            assert!(moves < 1_000, "it never stops");
        }
        let moved = run.done();
        assert_eq!(moved.stopped, Stopped::Budget);
        let most = BUDGET + MAX_SPLICE as u64;
        assert!((BUDGET..most).contains(&moved.read), "{moved:?}");
        assert_eq!(moved.read, moved.written);
    }

    #[test]
    fn the_last_half_leaves_the_shut_to_the_close() {
        for (is_last, right) in [(true, None), (false, Some(Move::Shut))] {
            let mut half = Half::default();
            half.source_ended(End::Eof);
            let mut run = Run::new(&mut half, is_last);
            assert_eq!((run.next_move(), run.next_move()), (right, None));
            assert_eq!(run.done().stopped, Stopped::Waiting);
            assert!(half.is_done());
        }
    }

    #[test]
    fn a_pipe_is_given_back_before_a_stream_is_copied_again() {
        let mut half = Half::default();
        half.set_mode(Mode::Splice);
        half.source_urgent();
        let mut run = run(&mut half);
        assert_eq!(run.next_move(), Some(Move::ReleasePipe));
        assert!(matches!(run.next_move(), Some(Move::Copy { .. })));
    }

    #[test]
    fn what_was_stored_before_counts_as_written_and_not_as_read() {
        let mut half = Half::default();
        half.read(100, 200);
        half.wrote(40);
        let mut run = run(&mut half);
        assert_eq!(run.next_move(), Some(Move::Flush));
        run.wrote(60);
        assert_eq!(run.next_move(), None, "the read before was short");
        let (read, written) = (0, 60);
        let stopped = Stopped::Waiting;
        let right = Moved {
            read,
            written,
            stopped,
        };
        assert_eq!(run.done(), right);
    }
}
