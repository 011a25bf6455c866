//! A backend as the running proxy knows it in one pool: its address and all that is counted and learned
//! of it there.
//!
//! One [`BackendState`] a member of a pool, kept by pool and address over every reload (invariant 1). What sessions
//! change once in their life is shared by the workers; what changes with every read is counted by
//! each worker for itself, so that no cache line is written by two.

use std::collections::{HashMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::{BackendAddr, Name, Pool, Report};

use crate::failed_ends::FailedEnds;
use crate::health::blame::{Record, Tally};
use crate::health::sources::{AnsweredSources, Source};
use crate::health::{Health, Unanswered};
use crate::ids::{MemberId, Names, PoolId};
use crate::latency::RecentMean;
use crate::listener::ListenerRegistry;
use crate::load::Load;
use crate::meter::{Meter, Moment};
use crate::plan::Protocol;
use crate::protocols::Protocols;
use crate::score::learned::Learned;
use crate::score::witnessed::Witnessed;

#[derive(Debug)]
pub struct BackendState {
    pub pool: PoolId,
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
    pub sessions_total: AtomicU64,
    pub flows_total: AtomicU64,
    pub bytes_up: AtomicU64,
    pub bytes_down: AtomicU64,
    pub connect_failures: AtomicU64,
    pub connect_timeouts: AtomicU64,
    pub failed_ends: FailedEnds,
    pub tally: Tally,
    pub connect_latency: RecentMean,
    pub first_byte_latency: RecentMean,
    /// Answered requests, and the sum of `log2(latency) - log2(load at dispatch)` of them, in
    /// 1/65,536, two's complement; see [`crate::meter`].
    pub latency_samples: AtomicU64,
    pub latency_log2_sum: AtomicU64,
}

/// How the last connect to a backend went, or, of a flow, what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LastConnect {
    None,
    Succeeded,
    Failed,
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
    fn new(id: MemberId, protocols: Arc<Protocols>, number: usize, workers: usize) -> Self {
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

    pub fn id(&self) -> MemberId {
        MemberId {
            pool: self.pool,
            addr: self.addr,
        }
    }

    pub fn keeps_flows(&self) -> bool {
        self.keeps_flows.load(Relaxed)
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

    pub fn sessions(&self) -> u64 {
        self.load.sessions.load(Relaxed)
    }

    pub fn flows(&self) -> u64 {
        self.load.flows.load(Relaxed)
    }

    pub fn worker(&self, worker: usize) -> &BackendCounters {
        &self.by_worker[worker]
    }

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

    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What has been learned of it; for whoever scores or explains, never a worker.
    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    fn is_in_use(&self) -> bool {
        self.sessions() > 0 || self.flows() > 0
    }
}

/// One session in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct SessionSlot(Slot);

/// One flow in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct FlowSlot(Slot);

/// What both are: a backend, and what is metered of this session or flow.
#[derive(Debug)]
pub struct Slot {
    backend: Arc<BackendState>,
    meter: Meter,
}

impl Slot {
    fn of(backend: &Arc<BackendState>) -> Slot {
        Slot {
            backend: Arc::clone(backend),
            meter: Meter::default(),
        }
    }

    pub fn backend(&self) -> &BackendState {
        &self.backend
    }

    /// See [`crate::meter`] for this and what follows.
    pub fn mark_active(&mut self, moment: Moment<'_>) -> bool {
        self.meter.mark_active(&self.backend, moment)
    }

    pub fn join_batch(&mut self) {
        self.meter.join_batch();
    }

    pub fn sent(&mut self, moment: Moment<'_>) {
        self.meter.sent(&self.backend, moment);
    }

    pub fn answered(&mut self, moment: Moment<'_>) {
        self.meter.answered(&self.backend, moment);
    }

    pub fn aborted(&mut self, moment: Moment<'_>) {
        self.meter.aborted(&self.backend, moment);
    }

    pub fn unanswered_flow(&mut self, moment: Moment<'_>) {
        self.meter.unanswered_flow(&self.backend, moment);
    }

    pub fn mark_idle(&mut self, moment: Moment<'_>, awaits_answer: bool) -> Option<u64> {
        self.meter.mark_idle(&self.backend, moment, awaits_answer)
    }

    pub fn is_owed(&self) -> bool {
        self.meter.is_owed()
    }

    pub fn forget(&mut self) {
        self.meter.forget(&self.backend);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.meter.release(&self.backend);
    }
}

impl SessionSlot {
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.load.sessions.fetch_add(1, Relaxed);
        SessionSlot(Slot::of(backend))
    }
}

impl FlowSlot {
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.load.flows.fetch_add(1, Relaxed);
        FlowSlot(Slot::of(backend))
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.backend().load.sessions.fetch_sub(1, Relaxed);
    }
}

impl Drop for FlowSlot {
    fn drop(&mut self) {
        self.backend().load.flows.fetch_sub(1, Relaxed);
    }
}

impl Deref for SessionSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl DerefMut for SessionSlot {
    fn deref_mut(&mut self) -> &mut Slot {
        &mut self.0
    }
}

impl Deref for FlowSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl DerefMut for FlowSlot {
    fn deref_mut(&mut self) -> &mut Slot {
        &mut self.0
    }
}

/// The last report of a backend, readable and replaceable at any time. A reader may see the parts of
/// two reports mixed, which is as good as either: both are recent.
#[derive(Debug)]
pub struct Telemetry {
    gpu_usage: AtomicU64,
    vram_usage: AtomicU64,
    reported_at_ms: AtomicU64,
    heartbeat_ms: AtomicU64,
    /// How many reports there have been, so that a new one is known from the one before.
    count: AtomicU64,
}

/// Shares are kept as the bits of an `f64`, absent ones as a NaN.
const ABSENT_SHARE: u64 = f64::NAN.to_bits();

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            gpu_usage: AtomicU64::new(ABSENT_SHARE),
            vram_usage: AtomicU64::new(ABSENT_SHARE),
            reported_at_ms: AtomicU64::new(0),
            heartbeat_ms: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

impl Telemetry {
    pub fn set(&self, report: &Report) {
        // Said again with its time, it is the same report; without one, it may be a new one.
        let is_new = report.reported_at_ms.is_none() || *report != self.get();
        let share = |share: Option<f64>| share.map_or(ABSENT_SHARE, f64::to_bits);
        self.gpu_usage.store(share(report.gpu_usage), Relaxed);
        self.vram_usage.store(share(report.vram_usage), Relaxed);
        self.reported_at_ms
            .store(report.reported_at_ms.unwrap_or(0), Relaxed);
        self.heartbeat_ms
            .store(report.heartbeat_ms.unwrap_or(0), Relaxed);
        if is_new {
            self.count.fetch_add(1, Relaxed);
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn get(&self) -> Report {
        let share = |share: &AtomicU64| {
            let share = f64::from_bits(share.load(Relaxed));
            (!share.is_nan()).then_some(share)
        };
        let present = |number: &AtomicU64| match number.load(Relaxed) {
            0 => None,
            number => Some(number),
        };
        Report {
            gpu_usage: share(&self.gpu_usage),
            vram_usage: share(&self.vram_usage),
            reported_at_ms: present(&self.reported_at_ms),
            heartbeat_ms: present(&self.heartbeat_ms),
        }
    }
}

/// Every listener, every pool and each of its backends, as long as they are configured or in use.
#[derive(Debug, Default)]
pub struct BackendRegistry {
    pub listeners: ListenerRegistry,
    workers: usize,
    /// So many were made in all.
    made: usize,
    pools: Names<PoolId, PoolEntry>,
    /// Those of one address, each in a pool of its own.
    states: HashMap<BackendAddr, Vec<Arc<BackendState>>>,
}

#[derive(Debug)]
struct PoolEntry {
    name: Name,
    /// Backends of it that are known.
    members: usize,
    protocols: Arc<Protocols>,
}

/// A pool of a configuration that was taken over.
#[derive(Debug)]
pub struct Adopted {
    pub id: PoolId,
    /// Of each of its backends, in order.
    pub states: Vec<Arc<BackendState>>,
}

impl BackendRegistry {
    pub fn new(workers: usize) -> Self {
        BackendRegistry {
            listeners: ListenerRegistry::new(workers),
            workers,
            ..BackendRegistry::default()
        }
    }

    /// Takes over a configuration: its pools, in order, with the state of each of their backends. Known
    /// ones keep theirs, the others are made, and those that are neither configured nor in use any more
    /// are forgotten.
    pub fn adopt(&mut self, pools: &[Pool]) -> Vec<Adopted> {
        // Names first: an id that is freed here is given to nobody before all have seen that it is.
        let adopted: Vec<Adopted> = pools.iter().map(|pool| self.adopt_pool(pool)).collect();
        let configured: HashSet<MemberId> = adopted
            .iter()
            .flat_map(|pool| &pool.states)
            .map(|state| state.id())
            .collect();
        let pools = &mut self.pools;
        self.states.retain(|_, members| {
            members.retain(|state| {
                // Workers read while this is written, so a backend that stays is never said to be gone.
                if configured.contains(&state.id()) {
                    return true;
                }
                state.keeps_flows.store(false, Relaxed);
                let is_kept = Arc::strong_count(state) > 1 || state.is_in_use();
                if let Some(pool) = pools.get_mut(state.pool).filter(|_| !is_kept) {
                    pool.members -= 1;
                }
                is_kept
            });
            !members.is_empty()
        });
        let configured: HashSet<PoolId> = adopted.iter().map(|pool| pool.id).collect();
        self.pools
            .retain(|id, pool| pool.members > 0 || configured.contains(&id));
        adopted
    }

    fn adopt_pool(&mut self, pool: &Pool) -> Adopted {
        let id = self.pools.intern(&pool.name, |_| PoolEntry {
            name: pool.name.clone(),
            members: 0,
            protocols: Arc::default(),
        });
        let protocols = self.pools.get(id).map(|entry| &entry.protocols);
        let protocols = protocols.map_or_else(Arc::default, Arc::clone);
        let mut states = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let members = self.states.entry(backend.addr).or_default();
            let known = members.iter().position(|state| state.pool == id);
            let at = known.unwrap_or_else(|| {
                self.made += 1;
                let member = MemberId {
                    pool: id,
                    addr: backend.addr,
                };
                let state =
                    BackendState::new(member, Arc::clone(&protocols), self.made, self.workers);
                members.push(Arc::new(state));
                if let Some(pool) = self.pools.get_mut(id) {
                    pool.members += 1;
                }
                members.len() - 1
            });
            let state = &members[at];
            state.keeps_flows.store(backend.enabled, Relaxed);
            if backend.enabled {
                state.gone_since_ms.store(0, Relaxed);
            }
            state
                .telemetry
                .set(&newer(&state.telemetry.get(), &backend.report));
            states.push(Arc::clone(state));
        }
        Adopted { id, states }
    }

    /// What the backends of a pool have ever answered; `None` as for its name.
    pub fn protocols(&self, pool: PoolId) -> Option<&Protocols> {
        self.pools.get(pool).map(|entry| &*entry.protocols)
    }

    /// The name of a pool that is configured or whose backends are in use.
    pub fn pool_name(&self, pool: PoolId) -> Option<&Name> {
        self.pools.get(pool).map(|entry| &entry.name)
    }

    pub fn find(&self, id: MemberId) -> Option<&Arc<BackendState>> {
        self.at(id.addr).iter().find(|state| state.pool == id.pool)
    }

    /// The members of all pools that have this address.
    pub fn at(&self, addr: BackendAddr) -> &[Arc<BackendState>] {
        self.states.get(&addr).map_or(&[], Vec::as_slice)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.states.values().flatten()
    }
}

/// The file is refreshed less often than the admin socket is told, so it may say older things.
fn newer(known: &Report, from_file: &Report) -> Report {
    if known.reported_at_ms > from_file.reported_at_ms {
        *known
    } else {
        *from_file
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use contract::{Algorithm, Backend};

    pub(crate) fn backend(port: u16) -> Backend {
        Backend {
            addr: BackendAddr::new([127, 0, 0, 1].into(), port),
            weight: 1,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        }
    }

    pub(crate) fn pool(name: &str, backends: impl IntoIterator<Item = Backend>) -> Pool {
        let name = Name::new(name).expect("a name");
        Pool::new(name, Algorithm::RoundRobin, backends.into_iter().collect())
    }

    /// The states of a configuration whose only pool has these backends.
    pub(crate) fn adopt(
        registry: &mut BackendRegistry,
        backends: impl IntoIterator<Item = Backend>,
    ) -> Vec<Arc<BackendState>> {
        registry
            .adopt(&[pool("default", backends)])
            .remove(0)
            .states
    }

    #[test]
    fn state_outlives_reloads_by_address() {
        let mut registry = BackendRegistry::new(1);
        let first = adopt(&mut registry, [backend(1), backend(2)]);
        let slot = SessionSlot::take(&first[1]);
        let second = adopt(&mut registry, [backend(2)]);
        assert_eq!(second[0].sessions(), 1);
        drop(slot);
        assert_eq!(second[0].sessions(), 0);
    }

    #[test]
    fn an_address_in_two_pools_has_two_counts() {
        let mut registry = BackendRegistry::new(1);
        let two = [pool("a", [backend(1)]), pool("b", [backend(1)])];
        let adopted = registry.adopt(&two);
        let [a, b] = [0, 1].map(|at| Arc::clone(&adopted[at].states[0]));
        let slot = SessionSlot::take(&a);
        assert_eq!((a.sessions(), b.sessions()), (1, 0));
        assert_eq!(registry.at(a.addr).len(), 2);
        let found = [&a, &b].map(|state| registry.find(state.id()).map(Arc::as_ptr));
        assert_eq!(found, [Some(Arc::as_ptr(&a)), Some(Arc::as_ptr(&b))]);
        // Gone from one, it is not gone from the other.
        drop(adopted);
        registry.adopt(&two[1..]);
        assert!(!a.keeps_flows() && b.keeps_flows());
        drop(slot);
    }

    #[test]
    fn a_pool_is_known_by_its_name_wherever_it_stands() {
        let mut registry = BackendRegistry::new(1);
        let [a, b, c] = ["a", "b", "c"].map(|name| pool(name, [backend(1)]));
        let ids = |adopted: &[Adopted]| adopted.iter().map(|pool| pool.id).collect::<Vec<_>>();
        let first = ids(&registry.adopt(&[a.clone(), b.clone()]));
        let second = ids(&registry.adopt(&[c, b.clone(), a.clone()]));
        assert_eq!(second[1..], [first[1], first[0]]);
        assert!(!first.contains(&second[0]));
    }

    #[test]
    fn the_id_of_a_pool_is_free_when_the_last_session_of_it_has_ended() {
        let mut registry = BackendRegistry::new(1);
        let adopted = registry.adopt(&[pool("a", [backend(1)])]);
        let (id, slot) = (adopted[0].id, SessionSlot::take(&adopted[0].states[0]));
        drop(adopted);
        let other = registry.adopt(&[pool("b", [backend(1)])]);
        assert_ne!(other[0].id, id);
        assert_eq!(registry.pool_name(id).map(Name::as_str), Some("a"));
        drop(slot);
        registry.adopt(&[pool("b", [backend(1)])]);
        assert_eq!(registry.pool_name(id), None);
        assert_eq!(registry.adopt(&[pool("c", [])])[0].id, id);
    }

    #[test]
    fn a_removed_backend_is_forgotten_only_when_unused() {
        let mut registry = BackendRegistry::new(1);
        let states = adopt(&mut registry, [backend(1)]);
        let slot = SessionSlot::take(&states[0]);
        drop(states);
        registry.adopt(&[]);
        assert_eq!(registry.all().count(), 1);
        assert!(!slot.backend().keeps_flows());
        drop(slot);
        registry.adopt(&[]);
        assert_eq!(registry.all().count(), 0);
    }

    #[test]
    fn who_answered_what_is_known_of_forgotten_backends_too() {
        let mut registry = BackendRegistry::new(1);
        let one = |registry: &mut BackendRegistry, port| adopt(registry, [backend(port)]).remove(0);
        let state = one(&mut registry, 1);
        let (pool, addr) = (state.pool, state.addr);
        let has_answered = |registry: &BackendRegistry, protocol| {
            let protocols = registry.protocols(pool).expect("it is configured");
            protocols.have_answered(protocol)
        };
        drop(state);
        assert!(!has_answered(&registry, Protocol::Udp), "nothing is known");
        one(&mut registry, 1).set_answers_datagrams();
        one(&mut registry, 2);
        assert!(registry.at(addr).is_empty());
        assert!(has_answered(&registry, Protocol::Udp), "all are others");
        assert!(!has_answered(&registry, Protocol::Tcp));
    }

    #[test]
    fn the_newer_report_counts() {
        let mut registry = BackendRegistry::new(1);
        let mut listed = backend(1);
        listed.report = Report {
            gpu_usage: Some(0.1),
            reported_at_ms: Some(5),
            ..Report::default()
        };
        let states = adopt(&mut registry, [listed.clone()]);
        let told = Report {
            gpu_usage: Some(0.9),
            reported_at_ms: Some(9),
            ..Report::default()
        };
        states[0].telemetry().set(&told);
        adopt(&mut registry, [listed]);
        assert_eq!(states[0].telemetry().get(), told);
    }
}
