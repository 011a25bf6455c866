//! The TCP side of a worker: carries out what sessions ask for, and counts what becomes of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;

use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::latency::add;
use proxy_core::listing::{Listing, Open, OpenId};
use proxy_core::plan::Protocol;
use proxy_core::reason::SessionEnd;
use proxy_core::route::hello::MAX_PREFACE;
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
use crate::worker::backend_gone::GoneBackends;
use crate::worker::context::Context;
use crate::worker::meters::Meters;
use crate::worker::session_log::Record;

/// The most bytes that one read of a half asks for.
const BUFFER_BYTES: usize = proxy_core::session::half::MAX_READ;

pub struct Sessions {
    sessions: Slab<Session>,
    /// Ended in this turn. Their places are reused only in the next, since events of this turn may
    /// still name them.
    ended: Vec<u32>,
    /// Sessions that used up their budget and have more to do.
    unfinished: VecDeque<u32>,
    timers: TimerWheel,
    gone: GoneBackends,
    buffer: Box<[u8]>,
    pipes: Pipes,
    meters: Meters,
}

impl Sessions {
    pub fn new(now_ms: u64, most_pipes: usize) -> Sessions {
        Sessions {
            sessions: Slab::new(),
            ended: Vec::new(),
            unfinished: VecDeque::new(),
            timers: TimerWheel::new(now_ms),
            gone: GoneBackends::default(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            pipes: Pipes::new(most_pipes),
            meters: Meters::new(now_ms),
        }
    }

    /// Begins the session of a client that was just accepted. The caller has taken a place for it
    /// ([`Context::take_place`]).
    pub fn begin(
        &mut self,
        context: &mut Context,
        client: OwnedFd,
        client_addr: SocketAddr,
        listener: ListenerId,
    ) {
        context.count(listener, |counts| counts.session_started());
        let settings = &context.rules(listener).settings;
        let index = self.sessions.insert(Session {
            state: SessionState::new(listener, settings, context.now_us),
            sockets: Sockets {
                client: Transport::Plain(client),
                backend: None,
            },
            client_addr,
            up_store: Store::Empty,
            down_store: Store::Empty,
        });
        let (sockets, index) = (&self.sessions[index].sockets, index as u32);
        if sockets.watch_client(context, index).is_err() {
            return self.reset(context, index, SessionEnd::InternalError);
        }
        let session = &mut self.sessions[index as usize];
        let next = context.begin(&mut session.state, client_addr.ip());
        self.carry_out(context, index, next);
    }

    /// Looks at what the client has sent so far; it stays where it is.
    fn peek(&mut self, context: &mut Context, index: u32, is_last: bool) {
        let Session {
            state,
            sockets,
            client_addr,
            ..
        } = &mut self.sessions[index as usize];
        let buffer = &mut self.buffer[..MAX_PREFACE];
        // What broke the connection is told by an event.
        let count = sockets.client.peek(buffer).unwrap_or(0);
        let next = context.peeked(state, client_addr.ip(), &buffer[..count], is_last);
        self.carry_out(context, index, next);
    }

    /// Has the client's arrivals told only when there are so many bytes. Each segment of a few bytes would have all
    /// those before it looked at again.
    fn await_bytes(&mut self, index: u32, at_least: usize) {
        self.sessions[index as usize]
            .sockets
            .client
            .set_low_water(at_least);
    }

    /// Tries backends until a connect is under way, or ends the session.
    fn connect(&mut self, context: &mut Context, index: u32) {
        loop {
            let session = &mut self.sessions[index as usize];
            let (placement, timeout_ms) =
                match context.choose(&mut session.state, session.client_addr.ip()) {
                    Choice::Try {
                        placement,
                        timeout_ms,
                        is_retry,
                    } => {
                        if is_retry {
                            let listener = session.state.listener();
                            context.count(listener, |counts| add(&counts.connect_retries, 1));
                        }
                        (placement, timeout_ms)
                    }
                    Choice::End(end) => return self.reset(context, index, end),
                };
            let backend = &*placement.backend;
            let mut socket = start_connect(context, backend.addr.0, index);
            if matches!(socket, Err(Errno::MFILE | Errno::NFILE)) && context.release_reserve() {
                socket = start_connect(context, backend.addr.0, index);
            }
            let failure = match socket {
                Ok(socket) => {
                    session.sockets.backend = Some(Transport::Plain(socket));
                    let next = session
                        .state
                        .connecting(&placement, timeout_ms, context.now_us);
                    if let Some((pool, slot)) = session.state.slot() {
                        let joins_batch = placement.joins_batch;
                        self.meters.began(context, index, pool, slot, joins_batch);
                    }
                    return self.carry_out(context, index, next);
                }
                Err(Errno::ADDRNOTAVAIL | Errno::AGAIN) => ConnectFailure::NoPort,
                Err(error) if is_shortage(error) => {
                    return self.reset(context, index, SessionEnd::InternalError);
                }
                Err(_) => ConnectFailure::Refused,
            };
            session.state.could_not_connect(backend.addr, failure);
            count_failure(context, &session.state, backend, failure);
        }
    }

    /// The poller tells of one of the two ends of a session.
    pub fn event(&mut self, context: &mut Context, index: u32, side: Side, readiness: Readiness) {
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        if readiness.is_urgent {
            session.sockets.take_urgent_inline(side);
        }
        match session.state.event(side, readiness) {
            Action::Move => {
                self.drive(context, index);
                if readiness.is_readable {
                    self.mute_if_sink_blocked(context, index, side);
                }
            }
            action => self.carry_out(context, index, action),
        }
    }

    fn carry_out(&mut self, context: &mut Context, index: u32, action: Action) {
        match action {
            Action::Wait => {}
            Action::Arm { at_ms } => self.timers.arm(index, at_ms),
            Action::Peek { is_last } => self.peek(context, index, is_last),
            Action::AwaitBytes { at_least } => self.await_bytes(index, at_least),
            Action::Choose { has_awaited_bytes } => {
                if has_awaited_bytes {
                    self.await_bytes(index, 1);
                }
                self.connect(context, index);
            }
            Action::AskConnect { is_broken } => self.ask_connect(context, index, is_broken),
            Action::Connected { after_us, at_ms } => {
                if let Some(backend) = self.sessions[index as usize].state.backend() {
                    count_connect(context, backend, after_us);
                }
                self.timers.arm(index, at_ms);
                self.drive(context, index);
            }
            Action::GiveUpConnect(failure) => self.give_up_connect(context, index, failure),
            Action::Move => self.drive(context, index),
            Action::Reset(end) => self.reset(context, index, end),
            Action::Close(end) => self.close(context, index, end),
        }
    }

    fn ask_connect(&mut self, context: &mut Context, index: u32, is_broken: bool) {
        let session = &mut self.sessions[index as usize];
        let backend = session.state.backend();
        let outcome = session.sockets.connect_outcome(backend, is_broken);
        let next = session.state.connect_ended(outcome, context.now_us);
        self.carry_out(context, index, next);
    }

    fn give_up_connect(&mut self, context: &mut Context, index: u32, failure: ConnectFailure) {
        let session = &mut self.sessions[index as usize];
        if let Some(socket) = session.sockets.backend.take() {
            // One that was connected to itself would keep its backend's port else (TIME_WAIT).
            reset_on_close(socket);
        }
        if let Some(slot) = session.state.connect_failed(failure) {
            count_failure(context, &session.state, slot.backend(), failure);
        }
        self.connect(context, index);
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

    fn mute_if_sink_blocked(&mut self, context: &Context, index: u32, side: Side) {
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        if state.is_to_be_muted(side) {
            let is_muted = sockets.watch_for(context, index, side, true).is_ok();
            state.set_muted(side, is_muted);
        }
    }

    /// Has arrivals told again where they can be passed on.
    fn unmute(&mut self, context: &Context, index: u32) {
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        for side in Side::BOTH {
            if state.is_to_be_unmuted(side) {
                let is_muted = sockets.watch_for(context, index, side, false).is_err();
                state.set_muted(side, is_muted);
            }
        }
    }

    /// Moves what can be moved, both ways, and ends the session where that follows.
    fn drive(&mut self, context: &mut Context, index: u32) {
        let mut turn = self.sessions[index as usize].state.turn();
        while turn.goes_on() {
            self.pass(context, index, &mut turn);
        }
        if self.sessions[index as usize].state.is_any_muted() {
            self.unmute(context, index);
        }
        let Session { state, sockets, .. } = &mut self.sessions[index as usize];
        match state.settle(&turn, sockets, context.now_ms()) {
            Action::Wait => {}
            next => self.carry_out(context, index, next),
        }
    }

    /// Runs both halves once.
    fn pass(&mut self, context: &mut Context, index: u32, turn: &mut Turn) {
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
        let passed = session.state.passed(turn, up, down, context.now_us);
        let listener = session.state.listener();
        if let Some((pool, slot)) = session.state.slot() {
            if !(up.is_nothing() && down.is_nothing()) {
                context.count_bytes(listener, slot.backend(), up.read, down.read);
                if passed.is_first_answer {
                    context.note_first_answer(slot.backend(), session.client_addr.ip());
                }
                if let Some(asked_us) = passed.asked_us {
                    context.count_first_byte(listener, slot.backend(), asked_us);
                }
            }
            let (up, down) = (up.read > 0, down.read > 0);
            self.meters.moved(context, index, pool, slot, up, down);
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
    pub fn run_unfinished(&mut self, context: &mut Context) {
        for _ in 0..self.unfinished.len() {
            let Some(index) = self.unfinished.pop_front() else {
                return;
            };
            if let Some(session) = self.sessions.get_mut(index as usize) {
                let next = session.state.resume();
                self.carry_out(context, index, next);
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

    pub fn run_timers(&mut self, context: &mut Context) {
        while let Some(index) = self.timers.expire(context.now_ms()) {
            if let Some(session) = self.sessions.get_mut(index as usize) {
                let next = session.state.timer(&session.sockets, context.now_ms());
                self.carry_out(context, index, next);
            }
        }
        self.end_those_of_gone_backends(context);
        let sessions = &mut self.sessions;
        while self.meters.look(context, |index| {
            let (pool, slot) = sessions.get_mut(index as usize)?.state.slot()?;
            Some((pool, slot, true))
        }) {}
    }

    /// A new snapshot is installed.
    pub fn backends_changed(&mut self, context: &Context) {
        self.gone = GoneBackends::default();
        if context.snapshot.ends_those_of_gone_backends() {
            self.gone.restart();
        }
    }

    fn end_those_of_gone_backends(&mut self, context: &mut Context) {
        let now_ms = context.now_ms();
        for index in self.gone.part(now_ms, self.sessions.capacity()) {
            let session = self.sessions.get(index);
            match session.and_then(|one| one.state.must_end_at_ms(&context.snapshot, now_ms)) {
                Some(end_ms) if end_ms <= now_ms => {
                    self.reset(context, index as u32, SessionEnd::BackendGone);
                }
                Some(end_ms) => self.gone.note(end_ms),
                None => {}
            }
        }
        self.gone.part_is_done();
    }

    /// Places of sessions, also of none.
    pub fn places(&self) -> usize {
        self.sessions.capacity()
    }

    /// Notes the sessions at these places.
    pub fn list(&self, context: &Context, places: Range<usize>, listing: &mut Listing) {
        let sessions = places.filter_map(|place| Some((place, self.sessions.get(place)?)));
        for (place, session) in sessions {
            let state = &session.state;
            let Some(phase) = state.phase() else {
                continue;
            };
            let (bytes_up, bytes_down) = state.bytes();
            let age_ms = context.now_us.saturating_sub(state.started_us()) / 1_000;
            let idle_ms = context.now_ms().saturating_sub(state.last_active_ms());
            listing.note(Open {
                id: OpenId {
                    protocol: Protocol::Tcp,
                    worker: context.worker,
                    place: place as u32,
                    started_us: state.started_us(),
                },
                client: session.client_addr,
                listener: state.listener(),
                pool: state.pool(),
                backend: state.backend().map(|backend| backend.addr),
                phase,
                age_ms,
                // The two are rounded differently.
                idle_ms: idle_ms.min(age_ms),
                bytes_up,
                bytes_down,
            });
        }
    }

    /// Ends this session; false where it has ended before.
    pub fn end_one(&mut self, context: &mut Context, id: OpenId) -> bool {
        let session = self.sessions.get(id.place as usize);
        let is_open =
            |one: &Session| one.state.started_us() == id.started_us && one.state.phase().is_some();
        let is_open = session.is_some_and(is_open);
        if is_open {
            self.reset(context, id.place, SessionEnd::Ended);
        }
        is_open
    }

    /// Ends every session now.
    pub fn stop(&mut self, context: &mut Context) {
        let all: Vec<u32> = self
            .sessions
            .iter()
            .map(|(index, _)| index as u32)
            .collect();
        all.into_iter()
            .for_each(|index| self.reset(context, index, SessionEnd::Shutdown));
        self.reap();
    }

    /// Ends a session by resetting what is open of it.
    fn reset(&mut self, context: &mut Context, index: u32, end: SessionEnd) {
        self.sessions[index as usize].sockets.reset_on_close();
        self.close(context, index, end);
    }

    /// Ends a session; its sockets are closed when it is reaped.
    fn close(&mut self, context: &mut Context, index: u32, end: SessionEnd) {
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
                slot.backend()
                    .worker(context.worker)
                    .failed_ends
                    .session(end);
                is_unanswered && context.note_unanswered(slot.backend(), client.ip())
            }
            None => false,
        };
        context.count(state.listener(), |counts| counts.session_ended(end));
        context.give_place_back(state.listener());
        let metered = slot.as_deref_mut();
        self.meters
            .session_ended(context, index, pool, metered, is_held_against);
        let (bytes_up, bytes_down) = state.bytes();
        let record = Record {
            protocol: Protocol::Tcp,
            client,
            backend,
            end: end.word(),
            is_failure: end.is_failure(),
            bytes_up,
            bytes_down,
            duration_us: context.now_us - state.started_us(),
            attempts: state.attempts(),
        };
        context.log_end(state.listener(), pool, record);
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

fn count_connect(context: &Context, backend: &BackendState, after_us: u64) {
    backend.set_last_connect(Protocol::Tcp, LastConnect::Succeeded);
    backend.protocols().set_answered(Protocol::Tcp);
    let counters = backend.worker(context.worker);
    add(&counters.sessions_total, 1);
    counters.connect_latency.record(after_us);
}

fn count_failure(
    context: &Context,
    session: &SessionState,
    backend: &BackendState,
    failure: ConnectFailure,
) {
    let failure = match failure {
        ConnectFailure::Refused => {
            context.count_refusal(session.listener(), Protocol::Tcp, backend);
            Failure::ConnectRefused
        }
        ConnectFailure::TimedOut => {
            context.count_timeout(session.listener(), backend);
            Failure::ConnectTimedOut
        }
        ConnectFailure::NoPort => return,
    };
    context.meter_failure(session.pool(), backend, failure);
}
