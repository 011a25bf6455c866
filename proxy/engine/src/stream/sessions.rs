//! The TCP side of a worker: carries out what sessions ask for, and counts what becomes of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::ids::PoolId;
use proxy_core::latency::add;
use proxy_core::listener::Serving;
use proxy_core::plan::Protocol;
use proxy_core::reason::SessionEnd;
use proxy_core::score::witnessed::Failure;
use proxy_core::session::SessionState;
use proxy_core::session::action::{Action, Choice, ConnectFailure, Ended, Readiness};
use proxy_core::session::relay::Side;
use proxy_core::session::turn::Turn;
use proxy_core::timer_wheel::TimerWheel;
use rustix::io::Errno;
use slab::Slab;

use super::pipes::Pipes;
use super::session::{Session, Sockets, start_connect};
use super::transfer::{Direction, Store};
use super::transport::Transport;
use crate::connect::{is_shortage, reset_on_close};
use crate::worker::core::Core;
use crate::worker::gone::Gone;
use crate::worker::meters::Meters;
use crate::worker::session_log::Record;

/// The most bytes that one read of a half asks for.
const BUFFER_BYTES: usize = proxy_core::session::half::MAX_READ;

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
        let settings = &core.rules(serving.listener).settings;
        let index = self.sessions.insert(Session {
            state: SessionState::new(serving, settings, core.now_us),
            sockets: Sockets {
                client: Transport::Plain(client),
                backend: None,
            },
            client_addr,
            up_store: Store::Empty,
            down_store: Store::Empty,
        });
        let (sockets, index) = (&self.sessions[index].sockets, index as u32);
        if sockets.watch_client(core, index).is_err() {
            return self.reset(core, index, SessionEnd::InternalError);
        }
        self.connect(core, index);
    }

    /// Tries backends until a connect is under way, or ends the session.
    fn connect(&mut self, core: &mut Core, index: u32) {
        loop {
            let session = &mut self.sessions[index as usize];
            let (placement, timeout_ms) =
                match core.choose(&mut session.state, session.client_addr.ip()) {
                    Choice::Try {
                        placement,
                        timeout_ms,
                        is_retry,
                    } => {
                        if is_retry {
                            let listener = session.state.listener();
                            core.count(listener, |counts| add(&counts.connect_retries, 1));
                        }
                        (placement, timeout_ms)
                    }
                    Choice::End(end) => return self.reset(core, index, end),
                };
            let backend = &*placement.backend;
            let mut socket = start_connect(core, backend.addr.0, index);
            if matches!(socket, Err(Errno::MFILE | Errno::NFILE)) && core.release_reserve() {
                socket = start_connect(core, backend.addr.0, index);
            }
            let failure = match socket {
                Ok(socket) => {
                    session.sockets.backend = Some(Transport::Plain(socket));
                    let next = session
                        .state
                        .connecting(&placement, timeout_ms, core.now_us);
                    if let Some((pool, slot)) = session.state.slot() {
                        let joins_batch = placement.joins_batch;
                        self.meters.began(core, index, pool, slot, joins_batch);
                    }
                    return self.carry_out(core, index, next);
                }
                Err(Errno::ADDRNOTAVAIL | Errno::AGAIN) => ConnectFailure::NoPort,
                Err(error) if is_shortage(error) => {
                    return self.reset(core, index, SessionEnd::InternalError);
                }
                Err(_) => ConnectFailure::Refused,
            };
            session.state.could_not_connect(backend.addr, failure);
            count_failure(core, &session.state, backend, failure);
        }
    }

    pub fn client_event(&mut self, core: &mut Core, index: u32, readiness: Readiness) {
        self.event(core, index, Side::Client, readiness);
    }

    pub fn backend_event(&mut self, core: &mut Core, index: u32, readiness: Readiness) {
        self.event(core, index, Side::Backend, readiness);
    }

    fn event(&mut self, core: &mut Core, index: u32, side: Side, readiness: Readiness) {
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        if readiness.is_urgent {
            session.sockets.take_urgent_inline(side);
        }
        match session.state.event(side, readiness) {
            Action::Move => {
                self.drive(core, index);
                if readiness.is_readable {
                    self.mute_if_sink_blocked(core, index, side);
                }
            }
            action => self.carry_out(core, index, action),
        }
    }

    fn carry_out(&mut self, core: &mut Core, index: u32, action: Action) {
        match action {
            Action::Wait => {}
            Action::Arm { at_ms } => self.timers.arm(index, at_ms),
            Action::AskConnect { is_broken } => self.ask_connect(core, index, is_broken),
            Action::Connected { after_us, at_ms } => {
                if let Some(backend) = self.sessions[index as usize].state.backend() {
                    count_connect(core, backend, after_us);
                }
                self.timers.arm(index, at_ms);
                self.drive(core, index);
            }
            Action::GiveUpConnect(failure) => self.give_up_connect(core, index, failure),
            Action::Move => self.drive(core, index),
            Action::Reset(end) => self.reset(core, index, end),
            Action::Close(end) => self.close(core, index, end),
        }
    }

    fn ask_connect(&mut self, core: &mut Core, index: u32, is_broken: bool) {
        let session = &mut self.sessions[index as usize];
        let backend = session.state.backend();
        let outcome = session.sockets.connect_outcome(backend, is_broken);
        let next = session.state.connect_ended(outcome, core.now_us);
        self.carry_out(core, index, next);
    }

    fn give_up_connect(&mut self, core: &mut Core, index: u32, failure: ConnectFailure) {
        let session = &mut self.sessions[index as usize];
        if let Some(socket) = session.sockets.backend.take() {
            // One that was connected to itself would keep its backend's port else (TIME_WAIT).
            reset_on_close(socket);
        }
        if let Some(slot) = session.state.connect_failed(failure) {
            count_failure(core, &session.state, slot.backend(), failure);
        }
        self.connect(core, index);
    }

    /// The algorithm of these pools wants to be told otherwise from now on, or not at all.
    pub fn forget_meters(&mut self, pools: &[PoolId]) {
        let slots = self
            .sessions
            .iter_mut()
            .filter_map(|(_, session)| session.state.slot());
        let slots = slots.filter(|(pool, _)| pools.contains(pool));
        slots.for_each(|(_, slot)| slot.forget());
    }

    fn mute_if_sink_blocked(&mut self, core: &Core, index: u32, side: Side) {
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        if state.is_to_be_muted(side) {
            let is_muted = sockets.watch_for(core, index, side, true).is_ok();
            state.set_muted(side, is_muted);
        }
    }

    /// Has arrivals told again where they can be passed on.
    fn unmute(&mut self, core: &Core, index: u32) {
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        for side in Side::BOTH {
            if state.is_to_be_unmuted(side) {
                let is_muted = sockets.watch_for(core, index, side, false).is_err();
                state.set_muted(side, is_muted);
            }
        }
    }

    /// Moves what can be moved, both ways, and ends the session where that follows.
    fn drive(&mut self, core: &mut Core, index: u32) {
        let mut turn = self.sessions[index as usize].state.turn();
        while turn.goes_on() {
            self.pass(core, index, &mut turn);
        }
        if self.sessions[index as usize].state.is_any_muted() {
            self.unmute(core, index);
        }
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        match state.settle(&turn, sockets, core.now_ms()) {
            Action::Wait => {}
            next => self.carry_out(core, index, next),
        }
    }

    /// Runs both halves once.
    fn pass(&mut self, core: &mut Core, index: u32, turn: &mut Turn) {
        let session = &mut self.sessions[index as usize];
        let Sockets { client, backend } = &mut session.sockets;
        let Some(backend) = backend else {
            return turn.stop();
        };
        let up = Direction {
            run: session.state.run(Side::Client),
            store: &mut session.up_store,
            source: &mut *client,
            sink: &mut *backend,
        };
        let up = up.carry_out(&mut self.buffer, &mut self.pipes);
        let down = Direction {
            run: session.state.run(Side::Backend),
            store: &mut session.down_store,
            source: backend,
            sink: client,
        };
        let down = down.carry_out(&mut self.buffer, &mut self.pipes);
        let passed = session.state.passed(turn, up, down, core.now_us);
        let listener = session.state.listener();
        if let Some((pool, slot)) = session.state.slot() {
            if !(up.is_nothing() && down.is_nothing()) {
                core.count_bytes(listener, slot.backend(), up.read, down.read);
                if passed.is_first_answer {
                    core.note_first_answer(slot.backend(), session.client_addr.ip());
                }
                if let Some(asked_us) = passed.asked_us {
                    core.count_first_byte(listener, slot.backend(), asked_us);
                }
            }
            let (up, down) = (up.read > 0, down.read > 0);
            self.meters.moved(core, index, pool, slot, up, down);
        }
        if passed.is_unfinished {
            self.unfinished.push_back(index);
        }
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
            if let Some(session) = self.sessions.get_mut(index as usize) {
                let next = session.state.resume();
                self.carry_out(core, index, next);
            }
        }
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
            if let Some(session) = self.sessions.get_mut(index as usize) {
                let next = session.state.timer(&session.sockets, core.now_ms());
                self.carry_out(core, index, next);
            }
        }
        self.end_those_of_gone_backends(core);
        let sessions = &mut self.sessions;
        while self.meters.look(core, |index| {
            let (pool, slot) = sessions.get_mut(index as usize)?.state.slot()?;
            Some((pool, slot, true))
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
            let session = self.sessions.get(index);
            match session.and_then(|one| one.state.must_end_at_ms(&core.snapshot, now_ms)) {
                Some(end_ms) if end_ms <= now_ms => {
                    self.reset(core, index as u32, SessionEnd::BackendGone);
                }
                Some(end_ms) => self.gone.note(end_ms),
                None => {}
            }
        }
        self.gone.part_is_done();
    }

    /// Ends every session now.
    pub fn stop(&mut self, core: &mut Core) {
        let all: Vec<u32> = self
            .sessions
            .iter()
            .map(|(index, _)| index as u32)
            .collect();
        all.into_iter()
            .for_each(|index| self.reset(core, index, SessionEnd::Shutdown));
        self.reap();
    }

    /// Ends a session by resetting what is open of it.
    fn reset(&mut self, core: &mut Core, index: u32, end: SessionEnd) {
        self.sessions[index as usize].sockets.reset_on_close();
        self.close(core, index, end);
    }

    /// Ends a session; its sockets are closed when it is reaped.
    fn close(&mut self, core: &mut Core, index: u32, end: SessionEnd) {
        let session = &mut self.sessions[index as usize];
        let Some(ended) = session.state.end(end) else {
            return;
        };
        let Ended {
            pool,
            mut slot,
            backend,
            is_unanswered,
        } = ended;
        let (state, client) = (&session.state, session.client_addr);
        self.timers.disarm(index);
        self.ended.push(index);
        let is_held_against = match &slot {
            Some(slot) => {
                slot.backend().worker(core.worker).failed_ends.session(end);
                is_unanswered && core.note_unanswered(slot.backend(), client.ip())
            }
            None => false,
        };
        core.count(state.listener(), |counts| counts.session_ended(end));
        core.give_place_back(state.listener());
        let metered = slot.as_deref_mut();
        self.meters
            .session_ended(core, index, pool, metered, is_held_against);
        let (bytes_up, bytes_down) = state.bytes();
        let record = Record {
            protocol: Protocol::Tcp,
            client,
            backend,
            end: end.word(),
            is_failure: end.is_failure(),
            bytes_up,
            bytes_down,
            duration_us: core.now_us - state.started_us(),
            attempts: state.attempts(),
        };
        core.log_end(state.listener(), pool, record);
    }

    /// Frees the sessions that ended in this turn, and with them their descriptors.
    pub fn reap(&mut self) -> usize {
        let count = self.ended.len();
        for index in self.ended.drain(..) {
            let session = self.sessions.remove(index as usize);
            let (up, down) = (Side::Client, Side::Backend);
            for (store, from) in [(session.up_store, up), (session.down_store, down)] {
                store.release(session.state.pending(from), &mut self.pipes);
            }
        }
        count
    }
}

fn count_connect(core: &Core, backend: &BackendState, after_us: u64) {
    backend.set_last_connect(Protocol::Tcp, LastConnect::Succeeded);
    backend.protocols().set_answered(Protocol::Tcp);
    let counters = backend.worker(core.worker);
    add(&counters.sessions_total, 1);
    counters.connect_latency.record(after_us);
}

fn count_failure(
    core: &Core,
    session: &SessionState,
    backend: &BackendState,
    failure: ConnectFailure,
) {
    let failure = match failure {
        ConnectFailure::Refused => {
            core.count_refusal(session.listener(), Protocol::Tcp, backend);
            Failure::ConnectRefused
        }
        ConnectFailure::TimedOut => {
            core.count_timeout(session.listener(), backend);
            Failure::ConnectTimedOut
        }
        ConnectFailure::NoPort => return,
    };
    core.meter_failure(session.pool(), backend, failure);
}
