//! What the TCP and UDP sides of a worker share: the poller, the time, the snapshot, the counters.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::counts::Counts;
use proxy_core::flow::Flow;
use proxy_core::flow::life::Present;
use proxy_core::flow::listening::Sockets;
use proxy_core::flow::seek::{Seek, Step};
use proxy_core::flow_table::FlowTable;
use proxy_core::health::Unanswered;
use proxy_core::health::sources::{AnsweredSources, Source};
use proxy_core::health::watch::Failing;
use proxy_core::held_listeners::HeldListeners;
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::latency::add;
use proxy_core::listener::ListenerRules;
use proxy_core::meter::{self, Moment};
use proxy_core::placement::Draw;
use proxy_core::plan::Protocol;
use proxy_core::route::Routers;
use proxy_core::score::witnessed::Failure;
use proxy_core::session::SessionState;
use proxy_core::session::action::{Action, Choice};
use proxy_core::snapshot::Snapshot;
use tokio::sync::mpsc;

use super::counters::WorkerCounters;
use super::poller::{Events, Poller};
use super::scoring_bell::ScoringBell;
use super::session_log::{Record, Service, SessionLogger};
use crate::clock::monotonic_us;

/// What all workers share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Sessions at once, over all workers and listeners.
    sessions: AtomicU64,
    pub scoring: ScoringBell,
}

pub struct Context {
    pub worker: usize,
    pub poller: Poller,
    pub now_us: u64,
    /// How often the worker has waited for events.
    pub turn: u64,
    pub snapshot: Arc<Snapshot>,
    random: fastrand::Rng,
    routers: Routers,
    /// A descriptor held back, so that a client accepted with the last one still gets a backend.
    reserve: Option<OwnedFd>,
    pub counters: Arc<WorkerCounters>,
    pub listeners: HeldListeners,
    pub shared: Arc<Shared>,
    pub log: SessionLogger,
    reports: mpsc::Sender<Failing>,
    answered_sources: AnsweredSources,
}

/// What a worker is made from.
pub struct Parts {
    pub worker: usize,
    pub snapshot: Arc<Snapshot>,
    pub counters: Arc<WorkerCounters>,
    pub shared: Arc<Shared>,
    pub log: SessionLogger,
    /// Pipes for splicing that this worker may have.
    pub most_pipes: usize,
    /// Where to tell of backends that fail.
    pub reports: mpsc::Sender<Failing>,
}

impl Context {
    pub fn new(parts: Parts) -> rustix::io::Result<Context> {
        let mut context = Context {
            worker: parts.worker,
            poller: Poller::new()?,
            now_us: 0,
            turn: 0,
            snapshot: parts.snapshot,
            random: fastrand::Rng::new(),
            routers: Routers::default(),
            reserve: None,
            counters: parts.counters,
            listeners: HeldListeners::default(),
            shared: parts.shared,
            log: parts.log,
            reports: parts.reports,
            answered_sources: AnsweredSources::default(),
        };
        context.hold_listeners(std::iter::empty());
        context.update_time();
        Ok(context)
    }

    /// Counts for the listeners of the snapshot from now on, and of the others for those that have
    /// sockets `open` here, sessions or flows.
    pub fn hold_listeners(&mut self, open: impl Iterator<Item = ListenerId>) {
        self.listeners.update(&self.snapshot, self.worker, open);
        self.routers.update(&self.snapshot, &self.listeners);
    }

    /// Counts what happened to a session or flow: in all, and for the listener it came by.
    pub fn count(&self, listener: ListenerId, one: impl Fn(&Counts)) {
        one(&self.counters.all);
        if let Some(listener) = self.listeners.state(listener) {
            one(listener.worker(self.worker));
        }
    }

    /// What a listener goes by.
    pub fn rules(&self, listener: ListenerId) -> &ListenerRules {
        self.listeners.rules(listener)
    }

    /// Takes a place for a session of `listener`, as one of all and as one of its own; false where either
    /// has none left.
    pub fn take_place(&self, listener: ListenerId) -> bool {
        if !take(&self.shared.sessions, self.snapshot.max_sessions) {
            return false;
        }
        let own = self.listeners.state(listener);
        let has_place =
            own.is_none_or(|own| take(&own.sessions, self.rules(listener).max_sessions));
        if !has_place {
            self.shared.sessions.fetch_sub(1, Relaxed);
        }
        has_place
    }

    /// Gives back what [`Context::take_place`] took.
    pub fn give_place_back(&self, listener: ListenerId) {
        self.shared.sessions.fetch_sub(1, Relaxed);
        if let Some(own) = self.listeners.state(listener) {
            own.sessions.fetch_sub(1, Relaxed);
        }
    }

    /// Writes a line for a session or flow of `listener` and `pool` that ended, where the listener's rules say
    /// so.
    pub fn log_end(&mut self, listener: ListenerId, pool: PoolId, record: Record) {
        let which = self.listeners.rules(listener).settings.session_log;
        self.log.log(which, record, || {
            let listener = self.listeners.state(listener).map(|known| &known.name);
            Service::of(listener, self.snapshot.pool_name(pool))
        });
    }

    /// How many failures in a row eject a backend.
    fn failures_that_eject(&self, backend: &BackendState) -> u64 {
        let pool = self.snapshot.pool(backend.pool);
        pool.map_or(0, |pool| pool.settings.health.ejection.failures)
    }

    /// Whether a descriptor is held back; takes one if there is none.
    pub fn has_reserve(&mut self) -> bool {
        if self.reserve.is_none() {
            self.reserve = self.poller.spare_descriptor();
        }
        self.reserve.is_some()
    }

    /// Gives the descriptor held back to whoever needs one now. Returns whether there was one.
    pub fn release_reserve(&mut self) -> bool {
        self.reserve.take().is_some()
    }

    /// Reads the monotonic clock: once a turn of the loop, and after what takes long.
    pub fn update_time(&mut self) {
        self.now_us = monotonic_us();
    }

    pub fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    /// What flows go by now.
    #[inline]
    pub fn present(&self) -> Present<'_> {
        Present {
            snapshot: &self.snapshot,
            listeners: &self.listeners,
            now_us: self.now_us,
        }
    }

    /// What datagrams that look for their flow need next.
    #[inline]
    pub fn seek<S>(
        &mut self,
        seek: &mut Seek,
        flows: &mut FlowTable<Flow<S>>,
        sockets: &impl Sockets,
    ) -> Step {
        let present = Present {
            snapshot: &self.snapshot,
            listeners: &self.listeners,
            now_us: self.now_us,
        };
        let mut draw = Draw {
            random: &mut self.random,
            routers: &mut self.routers,
        };
        seek.next_step(flows, sockets, present, &mut draw)
    }

    /// Finds the pool of a session from `client_ip`, if nothing that the client says is needed for it.
    pub fn begin(&mut self, session: &mut SessionState, client_ip: IpAddr) -> Action {
        let settings = &self.listeners.rules(session.listener()).settings;
        let deadline_ms = self.now_ms() + settings.preface_timeout_ms;
        session.begin(&mut self.routers, client_ip, deadline_ms)
    }

    /// Finds the pool of a session from `client_ip` that begins with `bytes`.
    pub fn peeked(
        &mut self,
        session: &mut SessionState,
        client_ip: IpAddr,
        bytes: &[u8],
        is_last: bool,
    ) -> Action {
        let on_not_tls = self.listeners.rules(session.listener()).settings.on_not_tls;
        session.peeked(bytes, is_last, &mut self.routers, client_ip, on_not_tls)
    }

    /// Chooses the backend that a session from `client_ip` tries next.
    pub fn choose(&mut self, session: &mut SessionState, client_ip: IpAddr) -> Choice {
        let mut draw = Draw {
            random: &mut self.random,
            routers: &mut self.routers,
        };
        session.choose(&self.snapshot, &mut draw, client_ip, self.now_us)
    }

    /// Counts payload passed on, at its backend, for its listener and in all.
    pub fn count_bytes(&self, listener: ListenerId, backend: &BackendState, up: u64, down: u64) {
        let of_backend = backend.worker(self.worker);
        add(&of_backend.bytes_up, up);
        add(&of_backend.bytes_down, down);
        self.count(listener, |counts| counts.bytes(up, down));
    }

    /// Counts the time from a client's first byte, at `since_us`, to its backend's.
    pub fn count_first_byte(&self, listener: ListenerId, backend: &BackendState, since_us: u64) {
        let latency_us = self.now_us - since_us;
        let of_backend = backend.worker(self.worker);
        of_backend.first_byte_latency.record(latency_us);
        self.count(listener, |counts| {
            counts.first_byte_latency.record(latency_us);
        });
    }

    /// Nobody listens at `backend`, or no way leads to it.
    pub fn count_refusal(&self, listener: ListenerId, protocol: Protocol, backend: &BackendState) {
        if protocol == Protocol::Udp && backend.protocols().seems_to_lack(protocol) {
            // A stranger asked a service that uses TCP only: no fault of the backend.
            return;
        }
        self.note_failure(protocol, backend);
        let last = match protocol {
            Protocol::Tcp => LastConnect::Failed,
            Protocol::Udp => LastConnect::FlowRefused,
        };
        backend.set_last_connect(protocol, last);
        add(&backend.worker(self.worker).connect_failures, 1);
        self.count(listener, |counts| add(&counts.connect_failures, 1));
    }

    /// `backend` did not answer a connect in time.
    pub fn count_timeout(&self, listener: ListenerId, backend: &BackendState) {
        self.note_failure(Protocol::Tcp, backend);
        backend.set_last_connect(Protocol::Tcp, LastConnect::TimedOut);
        add(&backend.worker(self.worker).connect_timeouts, 1);
        self.count(listener, |counts| add(&counts.connect_timeouts, 1));
    }

    /// `backend` has failed a session or flow; the main thread hears of it where it is one too many.
    pub fn note_failure(&self, protocol: Protocol, backend: &BackendState) {
        let needed = self.failures_that_eject(backend);
        if backend.health().failed(protocol, needed) {
            self.report(protocol, backend);
        }
    }

    fn report(&self, protocol: Protocol, backend: &BackendState) {
        let member = backend.id();
        // Where there is no room, the next failures ask again.
        let _ = self.reports.try_send(Failing { member, protocol });
    }

    /// `backend` has ended a session of `client` without an answer. Returns whether that is a failure.
    pub fn note_unanswered(&self, backend: &BackendState, client: IpAddr) -> bool {
        let (source, now_ms) = (Source::of(client), self.now_ms());
        let needed = self.failures_that_eject(backend);
        let sources = &self.answered_sources;
        let unanswered = backend.left_unanswered(self.worker, sources, source, needed, now_ms);
        if unanswered == Unanswered::OneTooMany {
            self.report(Protocol::Tcp, backend);
        }
        unanswered != Unanswered::Ignored
    }

    /// `backend` has begun to answer a session of `client`.
    pub fn note_first_answer(&self, backend: &BackendState, client: IpAddr) {
        backend.worker(self.worker).tally.answered();
        self.note_answered_source(backend, client);
        self.note_answer(Protocol::Tcp, backend);
    }

    pub fn note_answered_source(&self, backend: &BackendState, client: IpAddr) {
        backend.answered(&self.answered_sources, Source::of(client), self.now_ms());
    }

    /// Whether a backend has answered this client lately, as far as this worker has seen.
    pub fn is_answered_source(&self, client: IpAddr) -> bool {
        self.answered_sources
            .is_known(Source::of(client), self.now_ms())
    }

    /// `backend` has answered a session or flow.
    pub fn note_answer(&self, protocol: Protocol, backend: &BackendState) {
        backend.health().answered(protocol);
    }

    /// What a meter of this pool is told by; `None` where nothing is metered.
    pub fn moment(&self, pool: PoolId) -> Option<Moment<'_>> {
        let metering = self.snapshot.pool(pool)?.metering.as_ref()?;
        Some(Moment {
            metering,
            worker: self.worker,
            now_us: self.now_us,
        })
    }

    /// `backend` refused a session or flow, or could not be reached.
    pub fn meter_failure(&self, pool: PoolId, backend: &BackendState, failure: Failure) {
        if backend.protocols().seems_to_lack(failure.protocol()) {
            return;
        }
        if let Some(moment) = self.moment(pool) {
            meter::failed(backend, failure, moment);
        }
    }

    /// Waits for events, at most `timeout_ms`; `None`: until one comes. Looks for them busily first,
    /// where the settings say so. Afterwards the time is that of the return.
    pub fn wait(&mut self, events: &mut Events, timeout_ms: Option<u64>) {
        self.turn += 1;
        let busy_poll_us = self.snapshot.process.busy_poll_us;
        if busy_poll_us > 0 && timeout_ms != Some(0) {
            let until_us = self.now_us + busy_poll_us;
            while self.now_us < until_us {
                self.poller.wait(events, Some(0));
                self.update_time();
                if !events.is_empty() {
                    return;
                }
            }
        }
        self.poller.wait(events, timeout_ms);
        self.update_time();
    }
}

fn take(places: &AtomicU64, most: u64) -> bool {
    let has_place = places.fetch_add(1, Relaxed) < most;
    if !has_place {
        places.fetch_sub(1, Relaxed);
    }
    has_place
}
