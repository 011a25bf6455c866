//! What the admin socket answers: the counts of all workers, summed at the time of asking.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::health::{AllDown, Health as Rules, ProbeKind};
use contract::status::{
    AdminState, BackendCost, BackendStatus, Counters, Failed, HealthStatus, LimitStatus,
    ListenerTotals, PoolStatus, ProtocolHealth, States, Status, Timings, Totals, WorkerStatus,
};
use contract::{Backend, BackendAddr, BackendKey, Name, Pool, StateReason};
use proxy_core::backend::{BackendCounters, BackendState};
use proxy_core::counts::Counts;
use proxy_core::failed_ends::FailedEnds;
use proxy_core::health::{PROTOCOLS, subject};
use proxy_core::latency::{Histogram, RecentMean, quantile};
use proxy_core::live::Explained;
use proxy_core::pick::{BackendIndex, takes_sessions};
use proxy_core::plan::Protocol;
use proxy_core::snapshot::PoolSnapshot;
use proxy_engine::WorkerCounters;
use proxy_engine::clock::monotonic_ms;

use crate::clock::{now, unix_ms};
use crate::log;
use crate::reasons::{self, Judged};
use crate::supervise::Supervisor;
use crate::supervise::state::State;
use crate::udp_alone::is_udp_alone;

/// `named`: of only these backends, as a [`BackendKey`] is shown.
pub fn status(supervisor: &Supervisor, named: Option<&HashSet<&str>>) -> Status {
    let state = supervisor.state();
    let backends = backends(&state, named);
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
            let known = snapshot.backend(index_of(snapshot, backend));
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

/// The configured backends in file order, pool by pool, then removed ones that still have sessions or
/// flows.
fn backends(state: &State, named: Option<&HashSet<&str>>) -> Vec<BackendStatus> {
    let is_asked = |pool: &Name, addr: BackendAddr| {
        named.is_none_or(|named| {
            let key = BackendKey::new(pool.clone(), addr).to_string();
            named.contains(key.as_str())
        })
    };
    let of_no_pool = Rules::default();
    let pools = state.config.pools.iter().zip(&state.snapshot.pools);
    let configured = pools.flat_map(|(pool, snapshot)| {
        let judged = judged(state, snapshot);
        // Sessions, where they are taken at all.
        let protocol = match snapshot.serves(Protocol::Tcp) && !judged.is_udp_alone {
            true => Protocol::Tcp,
            false => Protocol::Udp,
        };
        let asked = pool.backends.iter();
        let asked = asked.filter(move |backend| is_asked(&pool.name, backend.addr));
        asked.map(move |backend| configured_backend(pool, snapshot, backend, judged, protocol))
    });
    let is_configured = |backend: &BackendState| {
        let pool = state.snapshot.pool(backend.pool);
        pool.is_some_and(|pool| pool.index_of(backend.addr).is_some())
    };
    let is_removed = |backend: &BackendState| {
        let is_open = backend.sessions() > 0 || backend.flows() > 0;
        let pool = state.registry.pool_name(backend.pool);
        let is_asked = pool.is_none_or(|pool| is_asked(pool, backend.addr));
        !is_configured(backend) && is_open && is_asked
    };
    let removed = state
        .registry
        .all()
        .filter(|backend| is_removed(backend))
        .map(|backend| {
            let pool = state.registry.pool_name(backend.pool);
            let removed = Described {
                pool: pool.map(Name::as_str).unwrap_or_default(),
                configured: false,
                admin: AdminState::Disabled,
                weight: 0,
                weight_effective: 0,
                is_warming_up: false,
                cost: None,
            };
            let judged = match state.snapshot.pool(backend.pool) {
                Some(pool) => judged(state, pool),
                None => Judged {
                    rules: &of_no_pool,
                    is_udp_alone: false,
                    serves: [false; 2],
                    now_ms: monotonic_ms(),
                },
            };
            describe(backend, removed, judged)
        });
    configured.chain(removed).collect()
}

/// What the configuration says of a backend.
struct Described<'a> {
    pool: &'a str,
    configured: bool,
    admin: AdminState,
    weight: u16,
    weight_effective: u32,
    is_warming_up: bool,
    cost: Option<BackendCost>,
}

fn index_of(snapshot: &PoolSnapshot, backend: &Backend) -> BackendIndex {
    let index = snapshot.index_of(backend.addr);
    index.expect("the snapshot is built from this pool")
}

fn configured_backend(
    pool: &Pool,
    snapshot: &PoolSnapshot,
    backend: &Backend,
    judged: Judged,
    protocol: Protocol,
) -> BackendStatus {
    let admin = match (backend.enabled, backend.weight) {
        (false, _) => AdminState::Disabled,
        (true, 0) => AdminState::Drain,
        (true, _) => AdminState::Ready,
    };
    let index = index_of(snapshot, backend);
    let described = Described {
        pool: pool.name.as_str(),
        configured: true,
        admin,
        weight: backend.weight,
        weight_effective: snapshot.table(protocol).share(index),
        is_warming_up: backend.is_warming_up,
        cost: snapshot
            .explain(index, now())
            .map(|explained| cost(explained, snapshot.backend(index))),
    };
    let mut row = describe(snapshot.backend(index), described, judged);
    // One that gets nothing while it warms up is not out for its health, and takes nothing all the same.
    if admin == AdminState::Ready && !takes_sessions(pool, backend) {
        (row.health.takes_sessions, row.health.takes_flows) = (false, false);
    }
    if snapshot.health(protocol).all_down == Some(AllDown::FailOpen) && row.weight_effective > 0 {
        row.reasons.push(StateReason::AllDownStillUsed);
        row.reason = StateReason::text_of(&row.reasons);
    }
    row
}

fn describe(backend: &BackendState, described: Described<'_>, judged: Judged) -> BackendStatus {
    let is_warming_up = described.is_warming_up;
    let (operational, why) = reasons::operational(backend, is_warming_up, judged);
    let report = backend.telemetry().get();
    let of_workers =
        |latency: fn(&BackendCounters) -> &RecentMean| backend.workers().iter().map(latency);
    let failed_ends = || backend.workers().iter().map(|worker| &worker.failed_ends);
    BackendStatus {
        pool: described.pool.to_owned(),
        ip: backend.addr.ip(),
        port: backend.addr.port(),
        configured: described.configured,
        admin: described.admin,
        operational,
        reason: StateReason::text_of(&why),
        reasons: why,
        weight: described.weight,
        weight_effective: described.weight_effective,
        gpu_usage: report.gpu_usage,
        vram_usage: report.vram_usage,
        reported_at_ms: report.reported_at_ms,
        health: reasons::status(backend, is_warming_up, judged, unix_ms()),
        counters: backend_counters(backend),
        sessions_failed: by_reason(failed_ends().flat_map(FailedEnds::sessions)),
        flows_failed: by_reason(failed_ends().flat_map(FailedEnds::flows)),
        connect_latency_us: mean(of_workers(|counters| &counters.connect_latency)),
        first_byte_latency_us: mean(of_workers(|counters| &counters.first_byte_latency)),
        cost: described.cost,
    }
}

fn cost(explained: Explained, backend: &BackendState) -> BackendCost {
    let Explained {
        cost,
        in_flight,
        total,
    } = explained;
    BackendCost {
        total: total.into(),
        in_flight: in_flight.into(),
        weight: cost.weight.into(),
        slowness: cost.slowness.into(),
        latency_samples: cost.samples,
        warm_up: cost.warm_up.into(),
        failures: cost.failures.into(),
        failed: match cost.failures > 0.0 {
            true => failed(backend),
            false => Vec::new(),
        },
        vram_expected: cost.vram_expected.map(f64::from),
        vram: cost.vram.into(),
        gpu: cost.gpu.into(),
        report_weight: cost.report_weight.into(),
        report_age_ms: cost.report_age_us.map(|age_us| age_us / 1_000),
    }
}

fn failed(backend: &BackendState) -> Vec<Failed> {
    let now_ms = monotonic_ms();
    let witnessed = backend.witnessed().all();
    let failed = witnessed.map(|one| Failed {
        what: one.failure.word().to_owned(),
        count: one.count,
        age_ms: now_ms.saturating_sub(one.last_ms),
    });
    failed.collect()
}

fn backend_counters(backend: &BackendState) -> Counters {
    let workers = backend.workers();
    let sum = |count: fn(&BackendCounters) -> u64| workers.iter().map(count).sum();
    Counters {
        sessions_active: backend.sessions(),
        sessions_total: sum(|counters| counters.sessions_total.load(Relaxed)),
        flows_active: backend.flows(),
        flows_total: sum(|counters| counters.flows_total.load(Relaxed)),
        bytes_up: sum(|counters| counters.bytes_up.load(Relaxed)),
        bytes_down: sum(|counters| counters.bytes_down.load(Relaxed)),
        connect_failures: sum(|counters| counters.connect_failures.load(Relaxed)),
        connect_timeouts: sum(|counters| counters.connect_timeouts.load(Relaxed)),
    }
}

/// The mean of the workers' recent means; workers without a sample do not count.
fn mean<'a>(parts: impl Iterator<Item = &'a RecentMean>) -> Option<u64> {
    let samples: Vec<u64> = parts.filter_map(RecentMean::get).collect();
    let count = samples.len() as u64;
    (count > 0).then(|| samples.iter().sum::<u64>() / count)
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
