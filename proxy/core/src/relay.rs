//! A session whose two ends are connected: two halves, and how the whole ends.
//!
//! No sockets: the caller moves the bytes as the halves ask and tells what it sees;
//! [`Relay::verdict`] says when and how the session is over (invariant 2: a half-close is
//! forwarded, a reset is forwarded after the bytes before it).

use crate::half::{End, Half};

/// One of the two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Backend,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
}

/// What is to become of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Bytes may still pass.
    Continue,
    /// Both directions closed in order; `first` closed first.
    Closed { first: Side },
    /// `by` reset, and all that it sent before has been written to the other end: reset that one
    /// as soon as its send queue is empty.
    Reset { by: Side },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relay {
    /// Client to backend.
    pub up: Half,
    /// Backend to client.
    pub down: Half,
    first_closed: Option<Side>,
    reset_by: Option<Side>,
}

impl Relay {
    /// The half that reads from `side`.
    pub fn half_from(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }

    /// The half that writes to `side`.
    pub fn half_to(&mut self, side: Side) -> &mut Half {
        self.half_from(side.other())
    }

    /// Readiness of `side`'s socket, as epoll tells it.
    pub fn ready(&mut self, side: Side, readable: bool, writable: bool, hung_up: bool) {
        if readable || hung_up {
            self.half_from(side).source_ready(hung_up);
        }
        if writable || hung_up {
            self.half_to(side).sink_ready();
        }
    }

    /// Another backend is tried in place of one that could not be reached. What is known of the client
    /// stays, since it is told only once.
    pub fn backend_changed(&mut self) {
        self.down = Half::default();
    }

    /// Reading from `side` came to its end.
    pub fn read_ended(&mut self, side: Side, end: End) {
        if end == End::Reset {
            return self.lost(side);
        }
        self.first_closed.get_or_insert(side);
        // A reset met while writing uses up the socket's error, and reading then ends in order.
        let end = if self.reset_by == Some(side) {
            End::Reset
        } else {
            End::Eof
        };
        self.half_from(side).source_ended(end);
    }

    /// Writing to `side` failed for good. What it sent before its reset may still wait in the
    /// socket, so its own half goes on until it ends.
    pub fn write_failed(&mut self, side: Side) {
        self.reset_by.get_or_insert(side);
        self.half_to(side).sink_lost();
        self.half_from(side).source_ready(true);
    }

    fn lost(&mut self, side: Side) {
        self.reset_by.get_or_insert(side);
        self.half_to(side).sink_lost();
        self.half_from(side).source_ended(End::Reset);
    }

    pub fn verdict(&self) -> Verdict {
        if !self.up.is_done() || !self.down.is_done() {
            return Verdict::Continue;
        }
        match (self.reset_by, self.first_closed) {
            (Some(by), _) => Verdict::Reset { by },
            (None, Some(first)) => Verdict::Closed { first },
            (None, None) => unreachable!("a half is done only by an end of a side"),
        }
    }

    /// One direction has ended and the other goes on.
    pub fn is_half_closed(&self) -> bool {
        self.up.is_done() != self.down.is_done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::half::Step;

    #[test]
    fn a_half_close_leaves_the_other_direction_open() {
        let mut relay = Relay::default();
        relay.read_ended(Side::Client, End::Eof);
        assert_eq!(relay.up.step(), Step::ShutSink);
        relay.up.sink_shut();
        assert!(relay.is_half_closed());
        assert_eq!(relay.verdict(), Verdict::Continue);
        relay.read_ended(Side::Backend, End::Eof);
        relay.down.sink_shut();
        assert_eq!(
            relay.verdict(),
            Verdict::Closed {
                first: Side::Client
            }
        );
    }

    #[test]
    fn bytes_before_a_reset_are_written_first() {
        let mut relay = Relay::default();
        relay.down.read(100, 100);
        relay.down.sink_blocked();
        relay.read_ended(Side::Backend, End::Reset);
        assert_eq!(relay.verdict(), Verdict::Continue);
        relay.ready(Side::Client, false, true, false);
        relay.down.wrote(100);
        assert_eq!(relay.verdict(), Verdict::Reset { by: Side::Backend });
    }

    #[test]
    fn what_a_side_sent_before_it_refused_our_bytes_is_still_read() {
        let mut relay = Relay::default();
        relay.up.read(10, 10);
        relay.write_failed(Side::Backend);
        assert!(relay.up.is_done());
        assert!(matches!(relay.down.step(), Step::Read { .. }));
        // The failed write used up the error, so the read ends like an orderly close.
        relay.read_ended(Side::Backend, End::Eof);
        assert_eq!(relay.verdict(), Verdict::Reset { by: Side::Backend });
    }
}
