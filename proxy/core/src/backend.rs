//! A backend as the running proxy knows it: its address and all that is counted and learned of it.
//!
//! One [`BackendState`] a backend, kept by address over every reload (invariant 1). What sessions
//! change once in their life is shared by the workers; what changes with every read is counted by
//! each worker for itself, so that no cache line is written by two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use contract::{Backend, BackendAddr, Report};

use crate::health::Health;
use crate::latency::RecentMean;

#[derive(Debug)]
pub struct BackendState {
    pub addr: BackendAddr,
    /// False once a reload has removed or disabled it: its flows move at their next datagram.
    keeps_flows: AtomicBool,
    last_connect: AtomicU8,
    telemetry: Telemetry,
    health: Health,
    /// Sessions in flight, connecting ones included, over all workers: what least-connections ranks.
    sessions: AtomicU64,
    flows: AtomicU64,
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
    pub connect_latency: RecentMean,
    pub first_byte_latency: RecentMean,
}

/// How the last connect to a backend went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LastConnect {
    None,
    Succeeded,
    Failed,
    TimedOut,
}

impl BackendState {
    fn new(addr: BackendAddr, workers: usize) -> Self {
        BackendState {
            addr,
            keeps_flows: AtomicBool::new(true),
            last_connect: AtomicU8::new(LastConnect::None as u8),
            telemetry: Telemetry::default(),
            health: Health::default(),
            sessions: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            by_worker: (0..workers).map(|_| BackendCounters::default()).collect(),
        }
    }

    pub fn keeps_flows(&self) -> bool {
        self.keeps_flows.load(Relaxed)
    }

    pub fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    pub fn flows(&self) -> u64 {
        self.flows.load(Relaxed)
    }

    pub fn worker(&self, worker: usize) -> &BackendCounters {
        &self.by_worker[worker]
    }

    pub fn workers(&self) -> &[BackendCounters] {
        &self.by_worker
    }

    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How far slow start has come, above 0 and up to 1.
    pub fn ramp(&self, now_ms: u64) -> f64 {
        self.health.slow_start().ramp(now_ms)
    }

    pub fn last_connect(&self) -> LastConnect {
        match self.last_connect.load(Relaxed) {
            1 => LastConnect::Succeeded,
            2 => LastConnect::Failed,
            3 => LastConnect::TimedOut,
            _ => LastConnect::None,
        }
    }

    /// Written only when it changes, so that the line stays shared between cores.
    pub fn set_last_connect(&self, last: LastConnect) {
        if self.last_connect() != last {
            self.last_connect.store(last as u8, Relaxed);
        }
    }

    fn is_in_use(&self) -> bool {
        self.sessions() > 0 || self.flows() > 0
    }
}

/// One session in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct SessionSlot(Arc<BackendState>);

impl SessionSlot {
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.sessions.fetch_add(1, Relaxed);
        SessionSlot(Arc::clone(backend))
    }

    pub fn backend(&self) -> &BackendState {
        &self.0
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
    }
}

/// One flow in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct FlowSlot(Arc<BackendState>);

impl FlowSlot {
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.flows.fetch_add(1, Relaxed);
        FlowSlot(Arc::clone(backend))
    }

    pub fn backend(&self) -> &BackendState {
        &self.0
    }
}

impl Drop for FlowSlot {
    fn drop(&mut self) {
        self.0.flows.fetch_sub(1, Relaxed);
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
        }
    }
}

impl Telemetry {
    pub fn set(&self, report: &Report) {
        let share = |share: Option<f64>| share.map_or(ABSENT_SHARE, f64::to_bits);
        self.gpu_usage.store(share(report.gpu_usage), Relaxed);
        self.vram_usage.store(share(report.vram_usage), Relaxed);
        self.reported_at_ms
            .store(report.reported_at_ms.unwrap_or(0), Relaxed);
        self.heartbeat_ms
            .store(report.heartbeat_ms.unwrap_or(0), Relaxed);
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

/// Every backend that is configured or still in use, by address.
#[derive(Debug, Default)]
pub struct BackendRegistry {
    workers: usize,
    states: HashMap<BackendAddr, Arc<BackendState>>,
}

impl BackendRegistry {
    pub fn new(workers: usize) -> Self {
        BackendRegistry {
            workers,
            states: HashMap::new(),
        }
    }

    /// Takes over a configuration: the state of each of its backends, in order. Known ones keep theirs, the
    /// others are made, and those that are neither configured nor in use any more are forgotten.
    pub fn adopt<'a>(
        &mut self,
        backends: impl IntoIterator<Item = &'a Backend>,
    ) -> Vec<Arc<BackendState>> {
        let mut adopted = Vec::new();
        for backend in backends {
            let state = self
                .states
                .entry(backend.addr)
                .or_insert_with(|| Arc::new(BackendState::new(backend.addr, self.workers)));
            state.keeps_flows.store(backend.enabled, Relaxed);
            state
                .telemetry
                .set(&newer(&state.telemetry.get(), &backend.report));
            adopted.push(Arc::clone(state));
        }
        // Workers read while this is written, so a backend that stays is never said to be gone.
        let configured: HashSet<BackendAddr> = adopted.iter().map(|state| state.addr).collect();
        for state in self
            .states
            .values()
            .filter(|state| !configured.contains(&state.addr))
        {
            state.keeps_flows.store(false, Relaxed);
        }
        self.states
            .retain(|_, state| Arc::strong_count(state) > 1 || state.is_in_use());
        adopted
    }

    pub fn find(&self, addr: BackendAddr) -> Option<&Arc<BackendState>> {
        self.states.get(&addr)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.states.values()
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
mod tests {
    use super::*;

    fn backend(port: u16) -> Backend {
        Backend {
            addr: BackendAddr::new([127, 0, 0, 1].into(), port),
            weight: 1,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        }
    }

    #[test]
    fn state_outlives_reloads_by_address() {
        let mut registry = BackendRegistry::new(1);
        let first = registry.adopt(&[backend(1), backend(2)]);
        let slot = SessionSlot::take(&first[1]);
        let second = registry.adopt(&[backend(2)]);
        assert_eq!(second[0].sessions(), 1);
        drop(slot);
        assert_eq!(second[0].sessions(), 0);
    }

    #[test]
    fn a_removed_backend_is_forgotten_only_when_unused() {
        let mut registry = BackendRegistry::new(1);
        let states = registry.adopt(&[backend(1)]);
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
    fn the_newer_report_counts() {
        let mut registry = BackendRegistry::new(1);
        let mut listed = backend(1);
        listed.report = Report {
            gpu_usage: Some(0.1),
            reported_at_ms: Some(5),
            ..Report::default()
        };
        let states = registry.adopt([&listed]);
        let told = Report {
            gpu_usage: Some(0.9),
            reported_at_ms: Some(9),
            ..Report::default()
        };
        states[0].telemetry().set(&told);
        registry.adopt([&listed]);
        assert_eq!(states[0].telemetry().get(), told);
    }
}
