//! Backends in the status.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use contract::health::{AllDown, Health as Rules};
use contract::status::{AdminState, BackendCost, BackendStatus, Counters, Failed};
use contract::{Backend, BackendAddr, BackendKey, Name, Pool, StateReason};
use proxy_core::backend::{BackendCounters, BackendState};
use proxy_core::failed_ends::FailedEnds;
use proxy_core::latency::RecentMean;
use proxy_core::live::Explained;
use proxy_core::pick::{BackendIndex, takes_sessions};
use proxy_core::plan::Protocol;
use proxy_core::snapshot::PoolSnapshot;
use proxy_engine::clock::monotonic_ms;

use super::{by_reason, judged};
use crate::clock::{now, unix_ms};
use crate::reasons::{self, Judged};
use crate::supervise::state::State;

/// The configured backends in file order, pool by pool, then removed ones that still have sessions or
/// flows.
pub(super) fn all(state: &State, named: Option<&HashSet<&str>>) -> Vec<BackendStatus> {
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

pub(super) fn index_of(snapshot: &PoolSnapshot, backend: &Backend) -> BackendIndex {
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
