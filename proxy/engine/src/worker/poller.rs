//! Where a worker waits for its sockets: the only file of the data path that knows epoll(7).
//!
//! What stands beside it one day has the same few calls: watch a source, change what is watched for, wait, and name
//! what an event is about. A source is forgotten when its descriptor is closed. No trait: a worker has one kind of
//! poller, chosen when it is built.

use std::os::fd::{AsFd, OwnedFd};

use proxy_core::session::action::Readiness;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Events taken at once.
const EVENTS: usize = 256;

/// What an event is about; packed into epoll's 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Mailbox,
    TcpListener(u32),
    UdpListener(u32),
    ClientOf(u32),
    BackendOf(u32),
    Flow(u32),
}

impl Token {
    fn pack(self) -> epoll::EventData {
        let (kind, index): (u64, u32) = match self {
            Token::Mailbox => (0, 0),
            Token::TcpListener(index) => (1, index),
            Token::UdpListener(index) => (2, index),
            Token::ClientOf(index) => (3, index),
            Token::BackendOf(index) => (4, index),
            Token::Flow(index) => (5, index),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(index))
    }

    fn unpack(data: epoll::EventData) -> Token {
        let index = data.u64() as u32;
        match data.u64() >> 32 {
            0 => Token::Mailbox,
            1 => Token::TcpListener(index),
            2 => Token::UdpListener(index),
            3 => Token::ClientOf(index),
            4 => Token::BackendOf(index),
            5 => Token::Flow(index),
            kind => unreachable!("pack makes no kind {kind}"),
        }
    }
}

/// What is told of a source.
#[derive(Debug, Clone, Copy)]
pub enum Interest {
    /// Each arrival, once: whoever reads, reads until nothing is left.
    Arrivals,
    /// Arrivals, for as long as the source is readable: it may be left half read.
    Unread,
    /// Everything, once: the halves of a session remember what they were told, so no event has to be asked for
    /// twice.
    Everything,
    /// Everything but arrivals. An arrival counts as urgent too, as far as epoll is concerned, so both go; what is
    /// urgent is told when arrivals are told again.
    NoArrivals,
}

impl Interest {
    #[inline]
    fn flags(self) -> EventFlags {
        match self {
            Interest::Arrivals => EventFlags::IN | EventFlags::ET,
            Interest::Unread => EventFlags::IN,
            Interest::Everything => {
                let arrivals = EventFlags::IN | EventFlags::PRI;
                arrivals | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
            }
            Interest::NoArrivals => EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        }
    }
}

/// What a source has to tell.
#[derive(Clone, Copy)]
pub struct Event(epoll::Event);

impl Event {
    #[inline]
    pub fn token(self) -> Token {
        Token::unpack(self.0.data)
    }

    /// What the event says of a connection.
    #[inline]
    pub fn readiness(self) -> Readiness {
        let flags = self.0.flags;
        let is = |flag| flags.contains(flag);
        Readiness {
            is_readable: is(EventFlags::IN),
            is_writable: is(EventFlags::OUT),
            is_read_closed: is(EventFlags::RDHUP),
            is_hung_up: is(EventFlags::HUP),
            has_failed: is(EventFlags::ERR),
            is_urgent: is(EventFlags::PRI),
        }
    }
}

/// What one wait has brought.
pub struct Events(Vec<epoll::Event>);

impl Default for Events {
    fn default() -> Events {
        Events(Vec::with_capacity(EVENTS))
    }
}

impl Events {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.0.iter().copied().map(Event)
    }
}

/// An epoll instance.
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub fn new() -> Result<Poller, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll })
    }

    /// Tells of `source` from now on.
    pub fn watch(&self, source: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, source, token.pack(), interest.flags())
    }

    /// Changes what is told of a `source` that is watched already; what is so now is told again.
    pub fn watch_for(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
    ) -> Result<(), Errno> {
        epoll::modify(&self.epoll, source, token.pack(), interest.flags())
    }

    /// Waits for events, at most `timeout_ms`; `None`: until one comes. What `events` held is over.
    pub fn wait(&self, events: &mut Events, timeout_ms: Option<u64>) {
        let timeout = timeout_ms.map(|timeout| Timespec {
            tv_sec: (timeout / 1_000) as i64,
            tv_nsec: (timeout % 1_000 * 1_000_000) as i64,
        });
        let Events(events) = events;
        events.clear();
        let buffer = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => unreachable!("our own epoll descriptor and buffer are right: {error}"),
        }
    }

    /// One descriptor more, good for nothing but its place; `None` where there is none left.
    pub fn spare_descriptor(&self) -> Option<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.epoll, 0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_packing() {
        let tokens = [
            Token::Mailbox,
            Token::TcpListener(1),
            Token::UdpListener(2),
            Token::ClientOf(u32::MAX),
            Token::BackendOf(7),
            Token::Flow(0),
        ];
        for token in tokens {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }

    #[test]
    fn what_is_left_unread_is_told_again_only_where_that_is_asked_for() {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        std::io::Write::write_all(&mut &far, b"?").expect("sent");
        let table = [
            (Interest::Arrivals, [true, false]),
            (Interest::Unread, [true, true]),
            (Interest::Everything, [true, false]),
        ];
        for (interest, told) in table {
            let (poller, mut events) = (Poller::new().expect("a descriptor"), Events::default());
            poller
                .watch(&near, Token::Flow(3), interest)
                .expect("a watch");
            for told in told {
                poller.wait(&mut events, Some(0));
                let seen = events.iter().map(Event::token);
                let right = told.then_some(Token::Flow(3));
                assert!(seen.eq(right), "{interest:?}");
            }
            let again = poller.watch_for(&near, Token::Flow(3), Interest::NoArrivals);
            again.expect("it is watched");
            poller.wait(&mut events, Some(0));
            let is_any_readable = events.iter().any(|event| event.readiness().is_readable);
            assert!(!is_any_readable, "{interest:?}");
        }
    }
}
