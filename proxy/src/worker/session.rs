//! One TCP session of a worker: what is known of it, and what follows from that alone.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use contract::{BackendAddr, ConnectSettings};
use proxy_core::backend::{BackendState, SessionSlot};
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::listener::Serving;
use proxy_core::pick::BackendIndex;
use proxy_core::plan::Protocol;
use proxy_core::reason::SessionEnd;
use proxy_core::score::witnessed::Failure;
use proxy_core::session::half::{Break, Step};
use proxy_core::session::relay::{Closed, Relay, Side, Verdict};
use proxy_sys::send_queue::{self, unacknowledged_bytes};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::core::{Core, Placement, Token};
use super::transfer::{Moved, Stopped, Store, break_of};
use crate::connecting::is_connected_to_itself;

/// One session, from its accept to its end.
pub struct Session {
    pub client: OwnedFd,
    pub backend: Option<OwnedFd>,
    pub client_addr: SocketAddr,
    /// The listener it came by, and the pool that its backends are members of.
    pub listener: ListenerId,
    pub pool: PoolId,
    pub stage: Stage,
    pub relay: Relay,
    pub up_store: Store,
    pub down_store: Store,
    /// The backend being tried or in use.
    pub slot: Option<SessionSlot>,
    /// Backends that failed this session.
    pub tried: Vec<BackendAddr>,
    pub attempts: u8,
    pub is_unfinished: bool,
    /// Whether arrivals from a side are not told at present, see [`Session::is_sink_blocked`].
    pub muted: Muted,
    /// What was in force when the session began: a reload changes nothing that is open.
    pub idle_timeout_ms: u64,
    pub half_close_timeout_ms: u64,
    pub started_us: u64,
    pub last_active_ms: u64,
    /// What was under way when the session had been silent for as long as it may.
    under_way: Option<UnderWay>,
    /// When the client's first byte was passed on; for the backend's first-byte latency.
    pub first_up_us: Option<u64>,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connecting {
        since_us: u64,
        deadline_ms: u64,
    },
    Relaying,
    /// The connection to one end broke; the other end gets its reset once it has acknowledged the bytes
    /// before, or has acknowledged nothing for too long.
    Resetting(Draining),
    Ended,
}

/// A send queue that is looked at until it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    pub unacknowledged: usize,
    /// When it was last seen to shrink.
    pub since_ms: u64,
    pub pause_ms: u64,
}

/// What neither end has acknowledged, and when that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    to_client: usize,
    to_backend: usize,
    seen_ms: u64,
}

/// What is to become of a session that has been silent for as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Bytes are still being acknowledged, or may be: look again.
    LookAgain,
    Over(SessionEnd),
}

/// The sides of which arrivals are not told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Muted {
    client: bool,
    backend: bool,
}

impl Muted {
    pub fn of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    pub fn is_any(self) -> bool {
        self.client || self.backend
    }
}

/// Why a connect did not come about.
#[derive(Debug, Clone, Copy)]
pub enum ConnectFailure {
    Refused,
    TimedOut,
    /// This host had no local port left towards it, which says nothing of the backend.
    NoPort,
}

impl Session {
    /// The session of a client accepted just now.
    pub fn new(core: &Core, client: OwnedFd, client_addr: SocketAddr, serving: Serving) -> Session {
        let settings = &core.rules(serving.listener).settings;
        let now_ms = core.now_ms();
        Session {
            client,
            backend: None,
            client_addr,
            listener: serving.listener,
            pool: serving.pool,
            stage: Stage::Connecting {
                since_us: core.now_us,
                deadline_ms: now_ms,
            },
            relay: Relay::default(),
            up_store: Store::Empty,
            down_store: Store::Empty,
            slot: None,
            tried: Vec::new(),
            attempts: 0,
            is_unfinished: false,
            muted: Muted::default(),
            idle_timeout_ms: settings.idle_timeout_ms,
            half_close_timeout_ms: settings.half_close_timeout_ms,
            started_us: core.now_us,
            last_active_ms: now_ms,
            under_way: None,
            first_up_us: None,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    pub fn note_readiness(&mut self, side: Side, flags: EventFlags) {
        let ends = EventFlags::RDHUP | EventFlags::ERR | EventFlags::HUP;
        let (readable, writable) = (
            flags.contains(EventFlags::IN),
            flags.contains(EventFlags::OUT),
        );
        self.relay
            .ready(side, readable, writable, flags.intersects(ends));
        if flags.contains(EventFlags::ERR) {
            self.relay.failed(side);
        }
        if flags.contains(EventFlags::PRI) {
            self.take_urgent_inline(side);
        }
    }

    /// Ends the halves that write to a side which has failed though reading came to its end before.
    pub fn look_for_unread_failures(&mut self) {
        for side in Side::BOTH {
            if self.relay.has_failed_unread(side) {
                let how = self.socket(side).map_or(Break::Reset, why_broken);
                self.relay.write_failed(side, how);
            }
        }
    }

    fn socket(&self, side: Side) -> Option<&OwnedFd> {
        match side {
            Side::Client => Some(&self.client),
            Side::Backend => self.backend.as_ref(),
        }
    }

    /// Has urgent data read in its place among the rest: there is no second stream to forward it on.
    fn take_urgent_inline(&mut self, side: Side) {
        if let Some(socket) = self.socket(side) {
            // Refused only by a socket that is closed already.
            let _ = sockopt::set_socket_oobinline(socket, true);
        }
        self.relay.half_from(side).source_urgent();
    }

    /// Why the connect under way failed. A reset is no refusal: it ends a connection that was there,
    /// and the bytes before it can still be read.
    pub fn connect_error(&self) -> Option<Errno> {
        let socket = self.backend.as_ref()?;
        match sockopt::socket_error(socket) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error),
        }
    }

    pub fn is_connected_to_itself(&self) -> bool {
        let (Some(socket), Some(slot)) = (&self.backend, &self.slot) else {
            return false;
        };
        is_connected_to_itself(socket, slot.backend().addr.0)
    }

    /// Where a reload took the pool away meanwhile, the session goes to the pool that its listener leads
    /// to now. Returns how a backend of it is connected to; `None`: there is no such pool either.
    pub fn route<'a>(&mut self, core: &'a Core) -> Option<&'a ConnectSettings> {
        if core.snapshot.pool(self.pool).is_none() {
            self.pool = core.snapshot.pool_of(self.listener)?;
        }
        let pool = core.snapshot.pool(self.pool)?;
        Some(&pool.settings.connect)
    }

    /// The backend to try next.
    pub fn pick(&self, core: &mut Core) -> Option<Placement> {
        let pool = core.snapshot.pool(self.pool);
        let index_of = |addr: &BackendAddr| pool.and_then(|pool| pool.index_of(*addr));
        let tried: Vec<BackendIndex> = self.tried.iter().filter_map(index_of).collect();
        core.pick(Protocol::Tcp, self.pool, self.client_addr.ip(), &tried)
    }

    pub fn count_failure(&mut self, core: &Core, backend: &BackendState, failure: ConnectFailure) {
        self.tried.push(backend.addr);
        let failure = match failure {
            ConnectFailure::Refused => {
                core.count_refusal(self.listener, Protocol::Tcp, backend);
                Failure::ConnectRefused
            }
            ConnectFailure::TimedOut => {
                core.count_timeout(self.listener, backend);
                Failure::ConnectTimedOut
            }
            ConnectFailure::NoPort => return,
        };
        core.meter_failure(self.pool, backend, failure);
    }

    /// Counts what one run of each half moved. A sink that takes bytes is as alive as a source that
    /// sends them.
    pub fn count(&mut self, core: &Core, up: &Moved, down: &Moved) {
        if up.is_nothing() && down.is_nothing() {
            return;
        }
        self.last_active_ms = core.now_ms();
        self.relay.moved(up.read > 0, down.read > 0);
        self.count_read(core, up.read, down.read);
    }

    fn count_read(&mut self, core: &Core, up: u64, down: u64) {
        let is_first_answer = down > 0 && self.bytes_down == 0;
        self.bytes_up += up;
        self.bytes_down += down;
        if up > 0 {
            self.first_up_us.get_or_insert(core.now_us);
        }
        let Some(slot) = &self.slot else { return };
        core.count_bytes(self.listener, slot.backend(), up, down);
        if is_first_answer {
            core.note_first_answer(slot.backend(), self.client_addr.ip());
        }
        if let Some(first_up_us) = self.first_up_us.filter(|_| is_first_answer) {
            core.count_first_byte(self.listener, slot.backend(), first_up_us);
        }
    }

    /// Notes an end without an answer: a reset before the first byte, or a close without one after the
    /// client had sent some. A client that sends nothing fails nobody. Returns whether it is held
    /// against the backend.
    pub fn note_end(&self, core: &Core, end: SessionEnd) -> bool {
        let Some(slot) = self.slot.as_ref().filter(|_| self.bytes_down == 0) else {
            return false;
        };
        let is_unanswered = match end {
            SessionEnd::BackendReset | SessionEnd::BackendLost => true,
            SessionEnd::BackendClosed | SessionEnd::BackendClosedUnanswered => self.bytes_up > 0,
            SessionEnd::ClientClosed
            | SessionEnd::ClientReset
            | SessionEnd::ClientResetAfterEnd
            | SessionEnd::ClientLost
            | SessionEnd::BackendResetAfterEnd
            | SessionEnd::ConnectRefused
            | SessionEnd::ConnectTimeout
            | SessionEnd::NoBackend
            | SessionEnd::IdleTimeout
            | SessionEnd::ClientStalled
            | SessionEnd::BackendStalled
            | SessionEnd::HalfCloseTimeout
            | SessionEnd::BackendGone
            | SessionEnd::Shutdown
            | SessionEnd::InternalError => false,
        };
        is_unanswered && core.note_unanswered(slot.backend(), self.client_addr.ip())
    }

    /// Tells the relay why the half that reads from `side` stopped. Returns whether that was an end.
    pub fn apply(&mut self, side: Side, stopped: Stopped) -> bool {
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

    /// Whether nothing can be done with what arrives from `side`, because the other side takes no
    /// more. Each segment would wake the worker for nothing: a stream to a slow reader did so some
    /// twenty times for each pipe that it filled.
    pub fn is_sink_blocked(&mut self, side: Side) -> bool {
        let half = self.relay.half_from(side);
        half.pending() > 0 && half.step() == Step::Wait
    }

    /// How long this session may be silent.
    pub fn silence_allowed_ms(&self) -> u64 {
        if self.relay.is_half_closed() {
            self.half_close_timeout_ms
        } else {
            self.idle_timeout_ms
        }
    }

    /// Judges a session that has been silent for as long as it may. A peer that takes what waits in the
    /// kernel makes no event until much of it is gone, so a silent session is over only when two looks
    /// in a row, as far apart as it may be silent, find the same bytes under way.
    pub fn judge_silence(&mut self, now_ms: u64) -> Silence {
        let under_way = UnderWay {
            to_client: self.unacknowledged(Side::Client),
            to_backend: self.unacknowledged(Side::Backend),
            seen_ms: now_ms,
        };
        let before = self.under_way.replace(under_way);
        let before = before.filter(|before| before.seen_ms >= self.last_active_ms);
        let (to_client, to_backend) = (under_way.to_client, under_way.to_backend);
        let stands_still = match before {
            Some(before) => (before.to_client, before.to_backend) == (to_client, to_backend),
            None => (to_client, to_backend) == (0, 0),
        };
        if !stands_still {
            return Silence::LookAgain;
        }
        Silence::Over(match (to_client, to_backend) {
            (0, 0) if self.relay.is_half_closed() => SessionEnd::HalfCloseTimeout,
            (0, 0) => SessionEnd::IdleTimeout,
            (0, _) => SessionEnd::BackendStalled,
            (_, _) => SessionEnd::ClientStalled,
        })
    }

    /// Whether the first close ended the exchange. A client that had closed and was still owed an answer
    /// may have got only part of it; one that has gone does not wait for the rest.
    fn is_finished(&self, after: Option<Closed>) -> bool {
        after.is_some_and(|closed| {
            let may_wait = closed.is_owed && !self.has_client_gone();
            !may_wait
        })
    }

    fn has_client_gone(&self) -> bool {
        // A socket that cannot tell is none of a client that waits.
        send_queue::is_closed(self.client.as_fd()).unwrap_or(true)
    }

    /// What the session is called that ends by the relay's verdict.
    pub fn end_of(&self, verdict: Verdict) -> Option<SessionEnd> {
        Some(match verdict {
            Verdict::Continue => return None,
            Verdict::Closed(Closed { first, is_owed }) => match first {
                Side::Client => SessionEnd::ClientClosed,
                Side::Backend if is_owed => SessionEnd::BackendClosedUnanswered,
                Side::Backend => SessionEnd::BackendClosed,
            },
            Verdict::Broken { by, how, after } => match (by, how) {
                (Side::Client, Break::Lost) => SessionEnd::ClientLost,
                (Side::Backend, Break::Lost) => SessionEnd::BackendLost,
                (Side::Client, Break::Reset) if after.is_some() => SessionEnd::ClientResetAfterEnd,
                (Side::Client, Break::Reset) => SessionEnd::ClientReset,
                (Side::Backend, Break::Reset) if self.is_finished(after) => {
                    SessionEnd::BackendResetAfterEnd
                }
                (Side::Backend, Break::Reset) => SessionEnd::BackendReset,
            },
        })
    }

    /// Changes what the poller tells of the socket to `side`.
    pub fn watch_for(
        &self,
        core: &Core,
        index: u32,
        side: Side,
        interest: EventFlags,
    ) -> Result<(), Errno> {
        match (side, &self.backend) {
            (Side::Client, _) => core.watch_for(&self.client, Token::ClientOf(index), interest),
            (Side::Backend, Some(backend)) => {
                core.watch_for(backend, Token::BackendOf(index), interest)
            }
            (Side::Backend, None) => Ok(()),
        }
    }

    /// What `side` has not acknowledged, and still may.
    pub fn unacknowledged(&self, side: Side) -> usize {
        let count = |socket: &OwnedFd| unacknowledged_bytes(socket.as_fd());
        // A socket that cannot tell has nothing to wait for.
        self.socket(side)
            .map_or(0, |socket| count(socket).unwrap_or(0))
    }
}

fn why_broken(socket: &OwnedFd) -> Break {
    match sockopt::socket_error(socket) {
        Ok(Err(error)) | Err(error) => break_of(error),
        // Somebody has taken the error already.
        Ok(Ok(())) => Break::Reset,
    }
}
