//! The TCP side of a worker: accepts clients, connects each to a backend, and relays.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use proxy_core::backend::{LastConnect, SessionSlot};
use proxy_core::ids::PoolId;
use proxy_core::latency::add;
use proxy_core::listener::Serving;
use proxy_core::plan::Protocol;
use proxy_core::reason::SessionEnd;
use proxy_core::session::relay::{Side, Verdict};
use proxy_core::timer_wheel::TimerWheel;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use slab::Slab;

use super::core::{Core, Placement, Token};
use super::gone::Gone;
use super::load::Meters;
use super::pipes::Pipes;
use super::session::{ConnectFailure, Draining, Session, Silence, Stage};
use super::session_log::Record;
use super::transfer::{Direction, Stopped, break_of};
use crate::connecting::{is_shortage, reset_on_close, socket_for};

/// The most bytes that one read of a half asks for.
const BUFFER_BYTES: usize = proxy_core::session::half::MAX_READ;
/// No event tells that a peer has acknowledged all, so the send queue is looked at before a reset is
/// forwarded: soon at first, then after pauses twice as long each. One that does not shrink for the time
/// of patience is given up.
const RESET_POLL_MS: u64 = 5;
const LONGEST_RESET_POLL_MS: u64 = 160;
const RESET_PATIENCE_MS: u64 = 10_000;

pub struct Tcp {
    sessions: Slab<Session>,
    /// Ended in this turn. Their places are reused only in the next, since events of this turn may
    /// still name them.
    ended: Vec<u32>,
    /// Sessions that used up their budget and have more to do.
    unfinished: VecDeque<u32>,
    timers: TimerWheel,
    gone: Gone,
    buffer: Box<[u8]>,
    pipes: Pipes,
    meters: Meters,
}

impl Tcp {
    pub fn new(now_ms: u64, most_pipes: usize) -> Tcp {
        Tcp {
            sessions: Slab::new(),
            ended: Vec::new(),
            unfinished: VecDeque::new(),
            timers: TimerWheel::new(now_ms),
            gone: Gone::default(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            pipes: Pipes::new(most_pipes),
            meters: Meters::new(now_ms),
        }
    }

    /// Begins the session of a client that was just accepted. The caller has taken a place for it
    /// ([`Core::take_place`]).
    pub fn begin(
        &mut self,
        core: &mut Core,
        client: OwnedFd,
        client_addr: SocketAddr,
        serving: Serving,
    ) {
        core.count(serving.listener, |counts| counts.session_started());
        let session = Session::new(core, client, client_addr, serving);
        let index = self.sessions.insert(session) as u32;
        let client = &self.sessions[index as usize].client;
        if core
            .watch(client, Token::ClientOf(index), INTEREST)
            .is_err()
        {
            return self.abort(core, index, SessionEnd::InternalError);
        }
        self.connect(core, index, None);
    }

    /// Tries backends until a connect is under way, or ends the session.
    fn connect(&mut self, core: &mut Core, index: u32, mut failure: Option<ConnectFailure>) {
        let rules = self.sessions[index as usize].route(core);
        let (max_attempts, timeout_ms) =
            rules.map_or((0, 0), |rules| (rules.attempts as u8, rules.timeout_ms));
        loop {
            let session = &mut self.sessions[index as usize];
            let placement = if session.attempts < max_attempts {
                session.pick(core)
            } else {
                None
            };
            let Some(Placement {
                backend,
                joins_batch,
            }) = placement
            else {
                let end = match failure {
                    None => SessionEnd::NoBackend,
                    Some(ConnectFailure::Refused) => SessionEnd::ConnectRefused,
                    Some(ConnectFailure::TimedOut) => SessionEnd::ConnectTimeout,
                    Some(ConnectFailure::NoPort) => SessionEnd::InternalError,
                };
                return self.abort(core, index, end);
            };
            if session.attempts > 0 {
                core.count(session.listener, |counts| add(&counts.connect_retries, 1));
            }
            session.attempts += 1;
            let mut socket = start_connect(core, backend.addr.0, index);
            if matches!(socket, Err(Errno::MFILE | Errno::NFILE)) && core.release_reserve() {
                socket = start_connect(core, backend.addr.0, index);
            }
            match socket {
                Ok(socket) => {
                    session.backend = Some(socket);
                    let slot = session.slot.insert(SessionSlot::take(&backend));
                    self.meters
                        .began(core, index, session.pool, slot, joins_batch);
                    let deadline_ms = core.now_ms() + timeout_ms;
                    session.stage = Stage::Connecting {
                        since_us: core.now_us,
                        deadline_ms,
                    };
                    self.timers.arm(index, deadline_ms);
                    return;
                }
                // Another backend may be reached from ports that are in use towards this one.
                Err(Errno::ADDRNOTAVAIL | Errno::AGAIN) => {
                    session.count_failure(core, &backend, ConnectFailure::NoPort);
                    failure = failure.or(Some(ConnectFailure::NoPort));
                }
                Err(error) if is_shortage(error) => {
                    return self.abort(core, index, SessionEnd::InternalError);
                }
                Err(_) => {
                    session.count_failure(core, &backend, ConnectFailure::Refused);
                    failure = Some(ConnectFailure::Refused);
                }
            }
        }
    }

    fn connect_failed(&mut self, core: &mut Core, index: u32, failure: ConnectFailure) {
        let session = &mut self.sessions[index as usize];
        if let Some(socket) = session.backend.take() {
            // One that was connected to itself would keep its backend's port else (TIME_WAIT).
            reset_on_close(socket);
        }
        session.relay.backend_changed();
        if let Some(slot) = session.slot.take() {
            session.count_failure(core, slot.backend(), failure);
        }
        self.connect(core, index, Some(failure));
    }

    pub fn client_event(&mut self, core: &mut Core, index: u32, flags: EventFlags) {
        self.event(core, index, Side::Client, flags);
    }

    pub fn backend_event(&mut self, core: &mut Core, index: u32, flags: EventFlags) {
        self.event(core, index, Side::Backend, flags);
    }

    fn event(&mut self, core: &mut Core, index: u32, side: Side, flags: EventFlags) {
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        match session.stage {
            Stage::Connecting { .. } if side == Side::Client => {
                session.note_readiness(side, flags);
                // Nobody is left to connect for.
                if failed {
                    self.abort(core, index, SessionEnd::ClientReset);
                }
            }
            Stage::Connecting { since_us, .. } => {
                // The backend may have said all and closed or reset by now, which is told only once.
                session.note_readiness(side, flags);
                match if failed {
                    session.connect_error()
                } else {
                    None
                } {
                    None if session.is_connected_to_itself() => {
                        self.connect_failed(core, index, ConnectFailure::Refused);
                    }
                    None => self.connected(core, index, since_us),
                    // It had closed before it reset, so that reading finds the close.
                    Some(Errno::PIPE) => self.connected(core, index, since_us),
                    Some(error @ Errno::CONNRESET) => {
                        session.relay.write_failed(Side::Backend, break_of(error));
                        self.connected(core, index, since_us);
                    }
                    Some(_) => self.connect_failed(core, index, ConnectFailure::Refused),
                }
            }
            Stage::Relaying | Stage::Resetting(_) => {
                session.note_readiness(side, flags);
                self.drive(core, index);
                if flags.contains(EventFlags::IN) {
                    self.mute_if_sink_blocked(core, index, side);
                }
            }
            Stage::Ended => {}
        }
    }

    /// The algorithm of these pools wants to be told otherwise from now on, or not at all.
    pub fn forget_meters(&mut self, pools: &[PoolId]) {
        let sessions = self.sessions.iter_mut().map(|(_, session)| session);
        let sessions = sessions.filter(|session| pools.contains(&session.pool));
        let slots = sessions.filter_map(|session| session.slot.as_mut());
        slots.for_each(|slot| slot.forget());
    }

    fn mute_if_sink_blocked(&mut self, core: &Core, index: u32, side: Side) {
        let session = &mut self.sessions[index as usize];
        if session.is_sink_blocked(side) && !*session.muted.of(side) {
            *session.muted.of(side) = session.watch_for(core, index, side, MUTED_INTEREST).is_ok();
        }
    }

    /// Has arrivals told again where they can be passed on.
    fn unmute(&mut self, core: &Core, index: u32) {
        let session = &mut self.sessions[index as usize];
        for side in [Side::Client, Side::Backend] {
            if *session.muted.of(side) && !session.is_sink_blocked(side) {
                *session.muted.of(side) = session.watch_for(core, index, side, INTEREST).is_err();
            }
        }
    }

    fn connected(&mut self, core: &mut Core, index: u32, since_us: u64) {
        let session = &mut self.sessions[index as usize];
        if let Some(slot) = &session.slot {
            let backend = slot.backend();
            backend.set_last_connect(Protocol::Tcp, LastConnect::Succeeded);
            backend.protocols().set_answered(Protocol::Tcp);
            let counters = backend.worker(core.worker);
            add(&counters.sessions_total, 1);
            counters.connect_latency.record(core.now_us - since_us);
        }
        session.stage = Stage::Relaying;
        session.last_active_ms = core.now_ms();
        self.timers
            .arm(index, core.now_ms() + session.idle_timeout_ms);
        self.drive(core, index);
    }

    /// Moves what can be moved, both ways, and ends the session where that is the verdict.
    fn drive(&mut self, core: &mut Core, index: u32) {
        let was_half_closed = self.sessions[index as usize].relay.is_half_closed();
        // An end of one half may set the other going again, but each ends only once.
        const MOST_PASSES: usize = 4;
        for _ in 0..MOST_PASSES {
            if !self.pass(core, index) {
                break;
            }
        }
        if self.sessions[index as usize].muted.is_any() {
            self.unmute(core, index);
        }
        let session = &mut self.sessions[index as usize];
        session.look_for_unread_failures();
        let verdict = session.relay.verdict();
        match (verdict, session.end_of(verdict)) {
            (Verdict::Broken { by, .. }, Some(end)) => self.forward_reset(core, index, by, end),
            (Verdict::Closed(_), Some(end)) => self.end(core, index, end),
            (_, _) => {
                if !was_half_closed && session.relay.is_half_closed() {
                    self.timers
                        .arm(index, core.now_ms() + session.half_close_timeout_ms);
                }
            }
        }
    }

    /// Runs both halves once. Returns whether an end was met, after which both are worth another run.
    fn pass(&mut self, core: &mut Core, index: u32) -> bool {
        let session = &mut self.sessions[index as usize];
        let Some(backend) = &session.backend else {
            return false;
        };
        let (client, backend) = (session.client.as_fd(), backend.as_fd());
        let up = Direction {
            half: &mut session.relay.up,
            store: &mut session.up_store,
            source: client,
            sink: backend,
            is_last: session.relay.down.is_done(),
        };
        let up = up.run(&mut self.buffer, &mut self.pipes);
        let down = Direction {
            half: &mut session.relay.down,
            store: &mut session.down_store,
            source: backend,
            sink: client,
            is_last: session.relay.up.is_done(),
        };
        let down = down.run(&mut self.buffer, &mut self.pipes);
        session.count(core, &up, &down);
        if let Some(slot) = &mut session.slot {
            let (up, down) = (up.read > 0, down.read > 0);
            self.meters.moved(core, index, session.pool, slot, up, down);
        }
        let up_ended = session.apply(Side::Client, up.stopped);
        let down_ended = session.apply(Side::Backend, down.stopped);
        let over_budget = up.stopped == Stopped::Budget || down.stopped == Stopped::Budget;
        if over_budget && !session.is_unfinished {
            session.is_unfinished = true;
            self.unfinished.push_back(index);
        }
        up_ended || down_ended
    }

    /// Whether sessions wait for their next turn.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty() || self.gone.is_looking()
    }

    /// Gives each session that used up its budget one more turn.
    pub fn run_unfinished(&mut self, core: &mut Core) {
        for _ in 0..self.unfinished.len() {
            let Some(index) = self.unfinished.pop_front() else {
                return;
            };
            let Some(session) = self.sessions.get_mut(index as usize) else {
                continue;
            };
            session.is_unfinished = false;
            // The session that was unfinished may have ended, and another begun in its place.
            if matches!(session.stage, Stage::Relaying | Stage::Resetting(_)) {
                self.drive(core, index);
            }
        }
    }

    /// Resets the other end, but not before it has acknowledged all that `by` sent before: a reset
    /// destroys what the send queue still holds.
    fn forward_reset(&mut self, core: &mut Core, index: u32, by: Side, end: SessionEnd) {
        let now_ms = core.now_ms();
        let session = &mut self.sessions[index as usize];
        let unacknowledged = session.unacknowledged(by.other());
        let before = match session.stage {
            Stage::Resetting(before) => Some(before),
            Stage::Connecting { .. } | Stage::Relaying | Stage::Ended => None,
        };
        let since_ms = before
            .filter(|before| unacknowledged == before.unacknowledged)
            .map_or(now_ms, |before| before.since_ms);
        let pause_ms = before.map_or(RESET_POLL_MS, |before| {
            (before.pause_ms * 2).min(LONGEST_RESET_POLL_MS)
        });
        if unacknowledged == 0 || now_ms >= since_ms + RESET_PATIENCE_MS {
            return self.abort(core, index, end);
        }
        session.stage = Stage::Resetting(Draining {
            unacknowledged,
            since_ms,
            pause_ms,
        });
        self.timers.arm(index, now_ms + pause_ms);
    }

    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let wakeups = [
            self.timers.next_wakeup_ms(),
            self.meters.next_wakeup_ms(),
            self.gone.next_wakeup_ms(),
        ];
        wakeups.into_iter().flatten().min()
    }

    pub fn run_timers(&mut self, core: &mut Core) {
        while let Some(index) = self.timers.expire(core.now_ms()) {
            self.timer(core, index);
        }
        self.end_those_of_gone_backends(core);
        let sessions = &mut self.sessions;
        while self.meters.look(core, |index| {
            let session = sessions.get_mut(index as usize)?;
            Some((session.pool, session.slot.as_mut()?, true))
        }) {}
    }

    /// A new snapshot is installed.
    pub fn backends_changed(&mut self, core: &Core) {
        self.gone = Gone::default();
        if core.snapshot.ends_those_of_gone_backends() {
            self.gone.restart();
        }
    }

    fn end_those_of_gone_backends(&mut self, core: &mut Core) {
        let now_ms = core.now_ms();
        for index in self.gone.part(now_ms, self.sessions.capacity()) {
            let slot = self.sessions.get(index).and_then(|s| s.slot.as_ref());
            let end_ms = slot.and_then(|slot| {
                let timeout_ms = core.snapshot.gone_timeout_ms(slot.backend().pool)?;
                Some(slot.backend().gone_since_ms(now_ms)? + timeout_ms)
            });
            match end_ms {
                Some(end_ms) if end_ms <= now_ms => {
                    self.abort(core, index as u32, SessionEnd::BackendGone);
                }
                Some(end_ms) => self.gone.note(end_ms),
                None => {}
            }
        }
        self.gone.part_is_done();
    }

    fn timer(&mut self, core: &mut Core, index: u32) {
        let now_ms = core.now_ms();
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        match session.stage {
            Stage::Connecting { deadline_ms, .. } if now_ms >= deadline_ms => {
                self.connect_failed(core, index, ConnectFailure::TimedOut);
            }
            Stage::Connecting { deadline_ms, .. } => self.timers.arm(index, deadline_ms),
            Stage::Relaying => {
                // Activity only notes its time; the timer follows it here.
                let timeout_ms = session.silence_allowed_ms();
                let deadline_ms = session.last_active_ms + timeout_ms;
                if now_ms < deadline_ms {
                    return self.timers.arm(index, deadline_ms);
                }
                match session.judge_silence(now_ms) {
                    Silence::LookAgain => self.timers.arm(index, now_ms + timeout_ms),
                    Silence::Over(end) => self.abort(core, index, end),
                }
            }
            Stage::Resetting(_) => self.drive(core, index),
            Stage::Ended => {}
        }
    }

    /// Ends every session now.
    pub fn stop(&mut self, core: &mut Core) {
        let all: Vec<u32> = self
            .sessions
            .iter()
            .map(|(index, _)| index as u32)
            .collect();
        all.into_iter()
            .for_each(|index| self.abort(core, index, SessionEnd::Shutdown));
        self.reap();
    }

    /// Ends a session by resetting what is open of it.
    fn abort(&mut self, core: &mut Core, index: u32, end: SessionEnd) {
        let session = &self.sessions[index as usize];
        reset_on_close(&session.client);
        if let Some(backend) = &session.backend {
            reset_on_close(backend);
        }
        self.end(core, index, end);
    }

    fn end(&mut self, core: &mut Core, index: u32, end: SessionEnd) {
        let session = &mut self.sessions[index as usize];
        if session.stage == Stage::Ended {
            return;
        }
        session.stage = Stage::Ended;
        let is_held_against = session.note_end(core, end);
        self.timers.disarm(index);
        self.ended.push(index);
        core.count(session.listener, |counts| counts.session_ended(end));
        core.give_place_back(session.listener);
        let last_tried = session.tried.last().copied();
        let mut slot = session.slot.take();
        if let Some(slot) = &slot {
            slot.backend().worker(core.worker).failed_ends.session(end);
        }
        let metered = slot.as_deref_mut();
        self.meters
            .session_ended(core, index, session.pool, metered, is_held_against);
        let record = Record {
            protocol: Protocol::Tcp,
            client: session.client_addr,
            backend: slot.as_ref().map(|slot| slot.backend().addr).or(last_tried),
            end: end.word(),
            is_failure: end.is_failure(),
            bytes_up: session.bytes_up,
            bytes_down: session.bytes_down,
            duration_us: core.now_us - session.started_us,
            attempts: session.attempts,
        };
        let listener = session.listener;
        core.log_end(listener, record);
    }

    /// Frees the sessions that ended in this turn, and with them their descriptors.
    pub fn reap(&mut self) -> usize {
        let count = self.ended.len();
        for index in self.ended.drain(..) {
            let session = self.sessions.remove(index as usize);
            session
                .up_store
                .release(session.relay.up.pending(), &mut self.pipes);
            session
                .down_store
                .release(session.relay.down.pending(), &mut self.pipes);
        }
        count
    }
}

/// Everything, once: the halves remember what they were told, so no event has to be asked for twice.
const INTEREST: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::PRI)
    .union(EventFlags::RDHUP);
/// An arrival counts as urgent too, as far as the poller is concerned, so both go; what is urgent is
/// told when arrivals are told again.
const MUTED_INTEREST: EventFlags = EventFlags::OUT.union(EventFlags::RDHUP);

fn start_connect(core: &Core, addr: SocketAddr, index: u32) -> Result<OwnedFd, Errno> {
    let socket = socket_for(addr, SocketType::STREAM)?;
    // Small answers of a token stream must not wait for the acknowledgement of the one before.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    // Watched only now: a socket that is not connecting yet reports a hang-up.
    core.watch(&socket, Token::BackendOf(index), INTEREST)?;
    Ok(socket)
}
