//! A session whose two ends are connected: two halves, and how the whole ends.
//!
//! No sockets: the caller moves the bytes as the halves ask and tells what it sees;
//! [`Relay::verdict`] says when and how the session is over (invariant 2: a half-close is
//! forwarded, a reset is forwarded after the bytes before it).

use super::half::{Break, End, Half};

/// One of the two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected to the proxy.
    Client,
    /// The end that the proxy connected to.
    Backend,
}

impl Side {
    /// Both ends.
    pub const BOTH: [Side; 2] = [Side::Client, Side::Backend];

    /// The end that faces this one.
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
    /// Both directions closed in order.
    Closed(Closed),
    /// The connection to `by` broke, and all that it sent before has been written to the other end:
    /// reset that one as soon as its send queue is empty.
    Broken {
        /// Whose connection broke.
        by: Side,
        /// How it broke.
        how: Break,
        /// The close that came before, if one did.
        after: Option<Closed>,
    },
}

/// The two halves of a session, and which end came first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relay {
    /// Client to backend.
    pub up: Half,
    /// Backend to client.
    pub down: Half,
    /// The client's last bytes have no answer.
    is_owed: bool,
    first_closed: Option<Closed>,
    broken: Option<Broken>,
    /// An event said that the connection to the client failed, which is told only once.
    client_failed: bool,
    backend_failed: bool,
}

/// The first close of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The side that closed.
    pub first: Side,
    /// At that moment the client's last bytes had no answer.
    pub is_owed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Broken {
    by: Side,
    how: Break,
    after: Option<Closed>,
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

    /// An event says that the connection to `side` has failed.
    pub fn failed(&mut self, side: Side) {
        *self.failure_of(side) = true;
    }

    fn failure_of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Client => &mut self.client_failed,
            Side::Backend => &mut self.backend_failed,
        }
    }

    /// Whether the connection to `side` has failed and no read of it will say so, since reading came to
    /// its end before: the caller asks the socket and tells by [`Relay::write_failed`].
    pub fn has_failed_unread(&mut self, side: Side) -> bool {
        *self.failure_of(side)
            && !self.half_to(side).is_done()
            && (self.half_from(side).ended().is_some() || self.half_from(side).is_done())
    }

    /// Another backend is tried in place of one that could not be reached. What is known of the client
    /// stays, since it is told only once.
    pub fn backend_changed(&mut self) {
        self.down = Half::default();
        self.backend_failed = false;
    }

    /// Bytes were taken from the client (`up`), from the backend (`down`), or both; what came both ways
    /// at once counts as an answer.
    pub fn moved(&mut self, up: bool, down: bool) {
        if up || down {
            self.is_owed = !down;
        }
    }

    /// Reading from `side` came to its end.
    pub fn read_ended(&mut self, side: Side, end: End) {
        match (end, self.broken) {
            (End::Broken(how), _) => {
                self.note_break(side, how);
                self.half_to(side).sink_lost();
                self.half_from(side).source_ended(end);
            }
            // A break met while writing uses up the socket's error, and reading then ends in order.
            (End::Eof, Some(broken)) if broken.by == side => {
                self.half_from(side).source_ended(End::Broken(broken.how));
            }
            (End::Eof, _) => {
                let is_owed = self.is_owed;
                let first = side;
                self.first_closed.get_or_insert(Closed { first, is_owed });
                self.half_from(side).source_ended(End::Eof);
            }
        }
    }

    /// Writing to `side` failed for good. What it sent before may still wait in the socket, so its own
    /// half goes on until it ends.
    pub fn write_failed(&mut self, side: Side, how: Break) {
        self.note_break(side, how);
        self.half_to(side).sink_lost();
        self.half_from(side).source_ready(true);
    }

    fn note_break(&mut self, by: Side, how: Break) {
        let after = self.first_closed;
        self.broken.get_or_insert(Broken { by, how, after });
    }

    /// Whether the session is over, and how, by what has been told so far.
    pub fn verdict(&self) -> Verdict {
        if !self.up.is_done() || !self.down.is_done() {
            return Verdict::Continue;
        }
        match (self.broken, self.first_closed) {
            (Some(broken), _) => Verdict::Broken {
                by: broken.by,
                how: broken.how,
                after: broken.after,
            },
            (None, Some(closed)) => Verdict::Closed(closed),
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
    use crate::session::half::Step;

    const RESET: End = End::Broken(Break::Reset);

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
        let first = Side::Client;
        let is_owed = false;
        assert_eq!(relay.verdict(), Verdict::Closed(Closed { first, is_owed }));
    }

    #[test]
    fn bytes_before_a_reset_are_written_first() {
        let mut relay = Relay::default();
        relay.down.read(100, 100);
        relay.down.sink_blocked();
        relay.read_ended(Side::Backend, RESET);
        assert_eq!(relay.verdict(), Verdict::Continue);
        relay.ready(Side::Client, false, true, false);
        relay.down.wrote(100);
        assert_eq!(relay.verdict(), broken(Side::Backend, Break::Reset, None));
    }

    fn broken(by: Side, how: Break, after: Option<Closed>) -> Verdict {
        Verdict::Broken { by, how, after }
    }

    #[test]
    fn what_a_side_sent_before_it_refused_our_bytes_is_still_read() {
        let mut relay = Relay::default();
        relay.up.read(10, 10);
        relay.write_failed(Side::Backend, Break::Lost);
        assert!(relay.up.is_done());
        assert!(matches!(relay.down.step(), Step::Read { .. }));
        // The failed write used up the error, so the read ends like an orderly close.
        relay.read_ended(Side::Backend, End::Eof);
        assert_eq!(relay.verdict(), broken(Side::Backend, Break::Lost, None));
    }

    #[test]
    fn a_break_after_the_end_of_reading_is_looked_for_and_ends_the_session() {
        for side in Side::BOTH {
            let mut relay = Relay::default();
            relay.failed(side);
            assert!(!relay.has_failed_unread(side), "a read will say so");
            relay.read_ended(side, End::Eof);
            relay.half_from(side).sink_shut();
            assert!(relay.has_failed_unread(side) && !relay.has_failed_unread(side.other()));
            relay.write_failed(side, Break::Reset);
            let after = Closed {
                first: side,
                is_owed: false,
            };
            assert_eq!(relay.verdict(), broken(side, Break::Reset, Some(after)));
        }
    }

    #[test]
    fn a_close_tells_whether_an_answer_was_owed() {
        let (up, down, both) = ((true, false), (false, true), (true, true));
        for (moves, expected) in [
            (vec![], false),
            (vec![up], true),
            (vec![up, down], false),
            (vec![up, down, up], true),
            (vec![up, both], false),
            (vec![up, (false, false)], true),
        ] {
            let mut relay = Relay::default();
            moves.iter().for_each(|&(up, down)| relay.moved(up, down));
            relay.read_ended(Side::Backend, End::Eof);
            relay.down.sink_shut();
            // What the client says afterwards asks for no answer.
            relay.moved(true, false);
            relay.read_ended(Side::Client, End::Eof);
            relay.up.sink_shut();
            let first = Side::Backend;
            let is_owed = expected;
            let found = relay.verdict();
            let closed = Closed { first, is_owed };
            assert_eq!(found, Verdict::Closed(closed), "{moves:?}");
        }
    }
}
