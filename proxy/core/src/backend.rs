//! A backend as the running proxy knows it in one pool: its address and all that is counted and learned
//! of it there.
//!
//! One [`BackendState`] a member of a pool, kept by pool and address over every reload (invariant 1). What sessions
//! change once in their life is shared by the workers; what changes with every read is counted by
//! each worker for itself, so that no cache line is written by two.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::BackendAddr;

use crate::failed_ends::FailedEnds;
use crate::health::blame::{Record, Tally};
use crate::health::sources::{AnsweredSources, Source};
use crate::health::{Health, Unanswered};
use crate::ids::{MemberId, PoolId};
use crate::latency::RecentMean;
use crate::load::Load;
use crate::plan::Protocol;
use crate::protocols::Protocols;
use crate::score::learned::Learned;
use crate::score::witnessed::Witnessed;
use crate::telemetry::Telemetry;

/// See the [module](self).
#[derive(Debug)]
pub struct BackendState {
    /// The pool that it is a member of.
    pub pool: PoolId,
    /// Where it is connected to.
    pub addr: BackendAddr,
    /// Of its pool.
    protocols: Arc<Protocols>,
    /// That many were made up to it: what tells it apart where an address is too long.
    number: usize,
    /// False once a reload has removed or disabled it: its flows go on only while it answers.
    keeps_flows: AtomicBool,
    /// When a worker first saw that it is gone, where somebody asks; 0: nobody has.
    gone_since_ms: AtomicU64,
    last_connect: AtomicU8,
    /// The same for each protocol alone.
    last_over: [AtomicU8; 2],
    /// Some flow has got an answer from it.
    answers_datagrams: AtomicBool,
    telemetry: Telemetry,
    health: Health,
    load: Load,
    witnessed: Witnessed,
    /// Not read on the path.
    learned: Mutex<Learned>,
    by_worker: Box<[BackendCounters]>,
}

/// What one worker counts of one backend. Only that worker writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct BackendCounters {
    /// Sessions that began here.
    pub sessions_total: AtomicU64,
    /// Flows that began here.
    pub flows_total: AtomicU64,
    /// Payload to the backend, TCP and UDP.
    pub bytes_up: AtomicU64,
    /// Payload from the backend.
    pub bytes_down: AtomicU64,
    /// Connects refused, unreachable or reset.
    pub connect_failures: AtomicU64,
    /// Connects that took longer than `connect_timeout_ms`.
    pub connect_timeouts: AtomicU64,
    /// Sessions and flows that it failed after it had taken them.
    pub failed_ends: FailedEnds,
    /// How sessions ended that waited for an answer.
    pub tally: Tally,
    /// From the begin of a connect to its success.
    pub connect_latency: RecentMean,
    /// From the client's first byte to the backend's.
    pub first_byte_latency: RecentMean,
    /// Answered requests, and the sum of `log2(latency) - log2(load at dispatch)` of them, in
    /// 1/65,536, two's complement; see [`crate::meter`].
    pub latency_samples: AtomicU64,
    /// See `latency_samples`.
    pub latency_log2_sum: AtomicU64,
}

/// How the last connect to a backend went, or, of a flow, what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LastConnect {
    /// No connect has ended and no flow got anything back.
    None,
    /// The connection was made.
    Succeeded,
    /// Refused, unreachable or reset.
    Failed,
    /// It took longer than `connect_timeout_ms`.
    TimedOut,
    /// A datagram came back.
    FlowAnswered,
    /// ICMP came back.
    FlowRefused,
}

impl LastConnect {
    fn of(place: &AtomicU8) -> LastConnect {
        match place.load(Relaxed) {
            1 => LastConnect::Succeeded,
            2 => LastConnect::Failed,
            3 => LastConnect::TimedOut,
            4 => LastConnect::FlowAnswered,
            5 => LastConnect::FlowRefused,
            _ => LastConnect::None,
        }
    }
}

impl BackendState {
    pub(crate) fn new(
        id: MemberId,
        protocols: Arc<Protocols>,
        number: usize,
        workers: usize,
    ) -> Self {
        let MemberId { pool, addr } = id;
        BackendState {
            pool,
            addr,
            protocols,
            number,
            keeps_flows: AtomicBool::new(true),
            gone_since_ms: AtomicU64::new(0),
            last_connect: AtomicU8::new(LastConnect::None as u8),
            last_over: [const { AtomicU8::new(LastConnect::None as u8) }; 2],
            answers_datagrams: AtomicBool::new(false),
            telemetry: Telemetry::default(),
            health: Health::default(),
            load: Load::default(),
            witnessed: Witnessed::default(),
            learned: Mutex::default(),
            by_worker: (0..workers).map(|_| BackendCounters::default()).collect(),
        }
    }

    /// The identity that outlives reloads.
    pub fn id(&self) -> MemberId {
        MemberId {
            pool: self.pool,
            addr: self.addr,
        }
    }

    /// False once a reload has removed or disabled it: its flows continue only while it answers.
    pub fn keeps_flows(&self) -> bool {
        self.keeps_flows.load(Relaxed)
    }

    /// A configuration has it, enabled or not.
    pub(crate) fn configure(&self, is_enabled: bool) {
        self.keeps_flows.store(is_enabled, Relaxed);
        if is_enabled {
            self.gone_since_ms.store(0, Relaxed);
        }
    }

    /// No configuration has it any more.
    pub(crate) fn remove(&self) {
        self.keeps_flows.store(false, Relaxed);
    }

    /// Since when it has been removed or disabled, as far as workers have asked; `None`: it is neither.
    pub fn gone_since_ms(&self, now_ms: u64) -> Option<u64> {
        if self.keeps_flows() {
            return None;
        }
        // Asked at each datagram of such a flow: written once, so that the line stays shared.
        match self.gone_since_ms.load(Relaxed) {
            0 => {
                let first = self
                    .gone_since_ms
                    .compare_exchange(0, now_ms, Relaxed, Relaxed);
                Some(first.map_or_else(|since_ms| since_ms, |_| now_ms))
            }
            since_ms => Some(since_ms),
        }
    }

    /// In flight over all workers, connecting ones included.
    pub fn sessions(&self) -> u64 {
        self.load.sessions.load(Relaxed)
    }

    /// In flight over all workers.
    pub fn flows(&self) -> u64 {
        self.load.flows.load(Relaxed)
    }

    /// The counters of one worker.
    ///
    /// # Panics
    /// If there are not so many workers.
    pub fn worker(&self, worker: usize) -> &BackendCounters {
        &self.by_worker[worker]
    }

    /// The counters of each worker.
    pub fn workers(&self) -> &[BackendCounters] {
        &self.by_worker
    }

    /// What has failed at it.
    pub fn witnessed(&self) -> &Witnessed {
        &self.witnessed
    }

    /// Sessions without an answer were no fault of its.
    pub fn forgive_unanswered(&self) {
        self.load.failures.forgive_unanswered();
        self.witnessed.forgive_unanswered();
    }

    /// Its last report.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// What the pickers read at each pick.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What has been learned of it; for whoever scores or explains, never a worker.
    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any flow has got an answer from it.
    pub fn answers_datagrams(&self) -> bool {
        self.answers_datagrams.load(Relaxed)
    }

    /// Written only when it changes, so that the line stays shared between cores.
    pub fn set_answers_datagrams(&self) {
        if !self.answers_datagrams() {
            self.answers_datagrams.store(true, Relaxed);
        }
        self.protocols.set_answered(Protocol::Udp);
    }

    /// What the backends of its pool have ever answered.
    pub fn protocols(&self) -> &Protocols {
        &self.protocols
    }

    /// Streaks of failures, slow start, and what probes and ejections say.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How its sessions ended that waited for an answer.
    pub fn record(&self) -> Record {
        Record::of(self.by_worker.iter().map(|worker| &worker.tally))
    }

    /// This backend has begun to answer a session or flow of `source`, as `sources` of a worker is to
    /// know.
    pub fn answered(&self, sources: &AnsweredSources, source: Source, now_ms: u64) {
        sources.answered(source, self.number, now_ms);
    }

    /// It has ended a session of `source` without an answer.
    pub fn left_unanswered(
        &self,
        worker: usize,
        sources: &AnsweredSources,
        source: Source,
        failures_to_eject: u64,
        now_ms: u64,
    ) -> Unanswered {
        let can_tell = sources.can_tell_of(source, self.number, now_ms);
        sources.unanswered(source, self.number, now_ms);
        let tally = &self.worker(worker).tally;
        self.health
            .left_unanswered(source, can_tell, tally, failures_to_eject, now_ms)
    }

    /// How far slow start has come, above 0 and up to 1.
    pub fn ramp(&self, now_ms: u64) -> f64 {
        self.health.slow_start().ramp(now_ms)
    }

    /// The outcome of the last connect or flow, over either protocol.
    pub fn last_connect(&self) -> LastConnect {
        LastConnect::of(&self.last_connect)
    }

    /// How the last connect went, or what the last flow got back.
    pub fn last_over(&self, protocol: Protocol) -> LastConnect {
        LastConnect::of(&self.last_over[protocol as usize])
    }

    /// Written only when it changes, so that the line stays shared between cores.
    pub fn set_last_connect(&self, protocol: Protocol, last: LastConnect) {
        for place in [&self.last_connect, &self.last_over[protocol as usize]] {
            if LastConnect::of(place) != last {
                place.store(last as u8, Relaxed);
            }
        }
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.sessions() > 0 || self.flows() > 0
    }
}
