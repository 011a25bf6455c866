//! What the admin socket answers: the counts of all workers, summed at the time of asking.

mod backends;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::health::{AllDown, ProbeKind};
use contract::status::{
    Counters, HealthStatus, LimitStatus, ListenerTotals, PoolStatus, ProtocolHealth, States,
    Status, Timings, Totals, WorkerStatus,
};
use proxy_core::counts::Counts;
use proxy_core::health::{PROTOCOLS, subject};
use proxy_core::latency::{Histogram, quantile};
use proxy_core::plan::Protocol;
use proxy_core::snapshot::PoolSnapshot;
use proxy_engine::WorkerCounters;
use proxy_engine::clock::monotonic_ms;

use crate::log;
use crate::reasons::{self, Judged};
use crate::supervise::Supervisor;
use crate::supervise::state::State;
use crate::udp_alone::is_udp_alone;

/// `named`: of only these backends, as a [`contract::BackendKey`] is shown.
pub fn status(supervisor: &Supervisor, named: Option<&HashSet<&str>>) -> Status {
    let state = supervisor.state();
    let backends = backends::all(&state, named);
    let pools = state.snapshot.pools.iter().enumerate();
    let pools = pools.map(|(at, pool)| PoolStatus {
        name: pool.name.to_string(),
        algorithm: state.config.pools[at].algorithm.name().to_owned(),
        tcp: pool.serves(Protocol::Tcp),
        udp: pool.serves(Protocol::Udp),
        health: health(&state, at),
    });
    let pools: Vec<PoolStatus> = pools.collect();
    // The base format has one pool; what is said of it there is said of the first one.
    let first = pools.first();
    let workers = supervisor.counters().map(|counters| WorkerStatus {
        sessions_active: counters.all.sessions_active.load(Relaxed),
        sessions_total: counters.all.sessions_total.load(Relaxed),
        flows_active: counters.all.flows_active.load(Relaxed),
        reload_stall_us: counters.reload_stall_us.load(Relaxed),
    });
    let sum = |count: fn(&WorkerCounters) -> u64| -> u64 { supervisor.counters().map(count).sum() };
    let snapshot = &state.snapshot;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        running: supervisor.running().borrow().clone(),
        reloads_ok: state.reloads_ok,
        reloads_refused: state.reloads_refused,
        draining: state.is_draining,
        algorithm: first.map_or_else(String::new, |pool| pool.algorithm.clone()),
        workers: workers.collect(),
        totals: totals(supervisor),
        health: first.map_or_else(HealthStatus::default, |pool| pool.health.clone()),
        pools,
        listener_totals: listener_totals(&state),
        backends,
        limits: LimitStatus {
            max_sessions: snapshot.max_sessions_in_force(),
            max_flows: (snapshot.max_flows_per_worker * supervisor.counters().count()) as u64,
            accept_pauses: sum(|counters| counters.all.accept_pauses.load(Relaxed)),
            log_lines_dropped: sum(|counters| counters.log_lines_dropped.load(Relaxed))
                + log::lines_dropped(),
        },
    }
}

/// A mark of the states that the configured backends are in, and of what the configuration came to; the
/// same as long as those are.
pub fn states(supervisor: &Supervisor) -> States {
    let state = supervisor.state();
    // By fixed keys, so that it is comparable; what is hashed is our own.
    let mut mark = DefaultHasher::new();
    for (pool, snapshot) in state.config.pools.iter().zip(&state.snapshot.pools) {
        let judged = judged(&state, snapshot);
        judged.is_udp_alone.hash(&mut mark);
        for backend in &pool.backends {
            let known = snapshot.backend(backends::index_of(snapshot, backend));
            let (operational, _) = reasons::operational(known, backend.is_warming_up, judged);
            (backend.addr, operational).hash(&mut mark);
            for protocol in PROTOCOLS {
                reasons::over(protocol, known, backend.is_warming_up, judged).hash(&mut mark);
            }
        }
        snapshot.name.hash(&mut mark);
        // The snapshot follows what probes find a moment later.
        for protocol in PROTOCOLS {
            let health = snapshot.health(protocol);
            let all_down = health.all_down.map(AllDown::name);
            (health.ready, health.available, all_down).hash(&mut mark);
        }
    }
    let running = supervisor.running();
    let running = running.borrow();
    running.generation.hash(&mut mark);
    running.config_digest.hash(&mut mark);
    for listener in &running.listeners {
        (&listener.name, listener.addr, listener.tcp, listener.udp).hash(&mut mark);
    }
    for refusal in &running.refusals {
        (refusal.code, &refusal.place, &refusal.value).hash(&mut mark);
    }
    state.is_draining.hash(&mut mark);
    let has_several_pools = state.config.pools.len() > 1;
    States {
        mark: format!("{:016x}", mark.finish()),
        totals: Some(totals(supervisor)),
        listener_totals: match has_several_pools {
            true => listener_totals(&state),
            false => Vec::new(),
        },
    }
}

/// What the backends of a pool are judged by.
fn judged<'a>(state: &State, pool: &'a PoolSnapshot) -> Judged<'a> {
    let rules = &pool.settings.health;
    Judged {
        rules,
        is_udp_alone: is_udp_alone(pool, &state.registry),
        serves: PROTOCOLS.map(|protocol| pool.serves(protocol)),
        now_ms: monotonic_ms(),
    }
}

/// Of the pool that stands at `pool` in the configuration.
fn health(state: &State, pool: usize) -> HealthStatus {
    let snapshot = &state.snapshot.pools[pool];
    let rules = &snapshot.settings.health;
    let is_udp_alone = judged(state, snapshot).is_udp_alone;
    let probe = match subject(&state.config, pool) {
        Some(_) => rules.probe.kind,
        None => ProbeKind::Off,
    };
    let of = |protocol| {
        let pool = snapshot.health(protocol);
        ProtocolHealth {
            ready: pool.ready as u64,
            available: pool.available as u64,
            all_down_in_force: pool.all_down.map(AllDown::name).map(str::to_owned),
        }
    };
    let mut tcp = of(Protocol::Tcp);
    if is_udp_alone {
        tcp.all_down_in_force = None;
    }
    HealthStatus {
        probe: probe.name().to_owned(),
        all_down: rules.all_down.name().to_owned(),
        tcp,
        udp: of(Protocol::Udp),
        udp_alone: is_udp_alone,
        ejections_spared: state.watch.spared(snapshot.id),
    }
}

fn totals(supervisor: &Supervisor) -> Totals {
    let workers: Vec<&Counts> = supervisor.counters().map(|worker| &worker.all).collect();
    sum(&workers)
}

/// In the order of their names.
fn listener_totals(state: &State) -> Vec<ListenerTotals> {
    let listeners = state.registry.listeners.all().map(|listener| {
        let workers: Vec<&Counts> = listener.workers().iter().collect();
        let pauses = workers
            .iter()
            .map(|counts| counts.accept_pauses.load(Relaxed));
        ListenerTotals {
            name: listener.name.to_string(),
            accept_pauses: pauses.sum(),
            totals: sum(&workers),
        }
    });
    let mut listeners: Vec<ListenerTotals> = listeners.collect();
    listeners.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    listeners
}

fn sum(parts: &[&Counts]) -> Totals {
    let of = |count: fn(&Counts) -> &AtomicU64| -> u64 {
        parts.iter().map(|part| count(part).load(Relaxed)).sum()
    };
    let histograms: Vec<&Histogram> = parts.iter().map(|part| &part.first_byte_latency).collect();
    let first_bytes = Histogram::counts(&histograms);
    Totals {
        counters: Counters {
            sessions_active: of(|counts| &counts.sessions_active),
            sessions_total: of(|counts| &counts.sessions_total),
            flows_active: of(|counts| &counts.flows_active),
            flows_total: of(|counts| &counts.flows_total),
            bytes_up: of(|counts| &counts.bytes_up),
            bytes_down: of(|counts| &counts.bytes_down),
            connect_failures: of(|counts| &counts.connect_failures),
            connect_timeouts: of(|counts| &counts.connect_timeouts),
        },
        first_byte_p50_us: quantile(&first_bytes, 0.50),
        first_byte_p99_us: quantile(&first_bytes, 0.99),
        first_byte: Timings {
            sum_us: Histogram::sum(&histograms),
            buckets: first_bytes,
        },
        connect_retries: of(|counts| &counts.connect_retries),
        sessions_ended: by_reason(parts.iter().flat_map(|part| part.sessions_ended())),
        flows_ended: by_reason(parts.iter().flat_map(|part| part.flows_ended())),
        datagrams_dropped: by_reason(parts.iter().flat_map(|part| part.dropped_by_reason())),
    }
}

/// Sums counts of the same reason; reasons never seen are left out.
fn by_reason(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in counts.filter(|(_, count)| *count > 0) {
        *sums.entry(reason.to_owned()).or_default() += count;
    }
    sums
}
