//! The routing state of one generation: what a worker reads to place a new session or flow. Built
//! off the data path, never changed afterwards, swapped whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use contract::health::AllDown;
use contract::{Algorithm, Backend, BackendAddr, Config, Listener, Pool, Settings};

use crate::backend::{BackendRegistry, BackendState};
use crate::batch::Batches;
use crate::health::roster::{PoolHealth, Roster};
use crate::health::{PROTOCOLS, is_served, subject};
use crate::meter::Metering;
use crate::pick::{BackendIndex, PickTable, Picker};
use crate::plan::Protocol;
use crate::score::Scorer;

#[derive(Debug)]
pub struct Snapshot {
    /// Which snapshot of this process it is. Unlike the file's generation it grows with each.
    pub epoch: u64,
    /// In the order of the configuration; listeners name theirs by index.
    pub pools: Vec<PoolSnapshot>,
    pub settings: Settings,
    /// Sessions at once, over all workers.
    pub max_sessions: u64,
    /// Flows at once in one worker.
    pub max_flows_per_worker: usize,
}

#[derive(Debug)]
pub struct PoolSnapshot {
    /// For TCP and for UDP; one and the same where health makes no difference between them.
    pub(crate) tables: [Arc<PickTable>; 2],
    /// One each, whatever the tables.
    pickers: [Picker; 2],
    health: [PoolHealth; 2],
    /// Whether a listener takes it.
    serves: [bool; 2],
    pub(crate) backends: Vec<Arc<BackendState>>,
    by_addr: HashMap<BackendAddr, BackendIndex>,
    /// What sessions and flows are metered for, if anything.
    pub metering: Option<Metering>,
    /// Absent where nothing is scored.
    pub(crate) scorer: Option<Scorer>,
    /// Absent where no backend takes batches.
    pub(crate) batches: Option<Batches>,
}

impl PoolSnapshot {
    pub fn table(&self, protocol: Protocol) -> &PickTable {
        &self.tables[protocol as usize]
    }

    pub(crate) fn picker(&self, protocol: Protocol) -> &Picker {
        &self.pickers[protocol as usize]
    }

    pub fn health(&self, protocol: Protocol) -> PoolHealth {
        self.health[protocol as usize]
    }

    /// Whether a listener of this pool takes `protocol`.
    pub fn serves(&self, protocol: Protocol) -> bool {
        self.serves[protocol as usize]
    }

    /// How many backends it has.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    pub fn backend(&self, index: BackendIndex) -> &Arc<BackendState> {
        &self.backends[index.0 as usize]
    }

    /// Where a backend stands in this generation; `None` where it was removed.
    pub fn index_of(&self, addr: BackendAddr) -> Option<BackendIndex> {
        self.by_addr.get(&addr).copied()
    }
}

impl Snapshot {
    /// Builds the state of `config` on top of what `registry` knows of its backends at `now_ms`.
    /// Rotations go on where those of `previous` stand.
    pub fn build(
        previous: Option<&Snapshot>,
        config: &Config,
        registry: &mut BackendRegistry,
        max_sessions: u64,
        max_flows_per_worker: usize,
        now_ms: u64,
    ) -> Snapshot {
        let backends = config.pools.iter().flat_map(|pool| &pool.backends);
        let states = registry.adopt(backends.clone());
        configure_health(config, backends.zip(&states), registry, now_ms);
        let mut states = states.into_iter();
        let pools = config.pools.iter().enumerate().map(|(at, pool)| {
            let listeners = config.listeners.iter().filter(|l| l.pool == at);
            let listeners: Vec<Listener> = listeners.cloned().collect();
            let backends: Vec<_> = states.by_ref().take(pool.backends.len()).collect();
            let previous = previous.and_then(|previous| previous.pools.get(at));
            build_pool(
                previous,
                pool,
                &listeners,
                backends,
                &config.settings,
                now_ms,
            )
        });
        let pools = pools.collect();
        let settings = config.settings.clone();
        Snapshot {
            epoch: previous.map_or(0, |previous| previous.epoch + 1),
            pools,
            settings,
            max_sessions,
            max_flows_per_worker,
        }
    }
}

/// Tells each backend's health what the configuration says of it; those that are no longer in it
/// are told that too.
fn configure_health<'a>(
    config: &Config,
    configured: impl Iterator<Item = (&'a Backend, &'a Arc<BackendState>)>,
    registry: &BackendRegistry,
    now_ms: u64,
) {
    let rules = &config.settings.health;
    let subject = subject(config);
    let mut count = 0;
    for (backend, state) in configured {
        state
            .health()
            .configure(Some(backend), rules, subject, now_ms);
        count += 1;
    }
    if registry.all().count() == count {
        return;
    }
    let is_configured: HashSet<BackendAddr> = config
        .pools
        .iter()
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.addr)
        .collect();
    let removed = registry
        .all()
        .filter(|state| !is_configured.contains(&state.addr));
    removed.for_each(|state| state.health().configure(None, rules, subject, now_ms));
}

fn build_pool(
    previous: Option<&PoolSnapshot>,
    pool: &Pool,
    listeners: &[Listener],
    backends: Vec<Arc<BackendState>>,
    settings: &Settings,
    now_ms: u64,
) -> PoolSnapshot {
    let rosters = PROTOCOLS.map(|protocol| {
        let mut roster = Roster::of(pool, &backends, protocol, &settings.health, now_ms);
        if !is_served(listeners, protocol) {
            // Nobody misses what no listener takes.
            roster.health.all_down = None;
        }
        roster
    });
    let [tcp, udp] = &rosters;
    let tcp_table = Arc::new(PickTable::build_for(pool, &tcp.entries));
    let udp_table = if tcp.entries == udp.entries {
        Arc::clone(&tcp_table)
    } else {
        Arc::new(PickTable::build_for(pool, &udp.entries))
    };
    let tables = [tcp_table, udp_table];
    let pickers = PROTOCOLS.map(|protocol| {
        let table = &tables[protocol as usize];
        match previous {
            Some(previous) => {
                let picker = previous.picker(protocol);
                picker.followed(previous.table(protocol), table)
            }
            None => Picker::new(table),
        }
    });
    // Where every backend is used although it is down, its flows would have nowhere better to go.
    let is_open = udp.health.all_down == Some(AllDown::FailOpen);
    // A disabled backend is not probed: what was last known of it holds.
    let used = backends
        .iter()
        .zip(&pool.backends)
        .filter(|(_, b)| b.enabled);
    for (state, _) in used {
        let is_down = state.health().standing().is_down_for(Protocol::Udp);
        state.health().set_moves_flows(is_down && !is_open);
    }
    let by_addr = backends
        .iter()
        .enumerate()
        .map(|(index, state)| (state.addr, BackendIndex(index as u32)));
    let takes_any = |index| tables.iter().any(|table| table.share(index) > 0);
    let is_scored = pool.algorithm == Algorithm::GpuAware;
    let scored_before = previous.and_then(|previous| previous.scorer.as_ref());
    PoolSnapshot {
        by_addr: by_addr.collect(),
        serves: PROTOCOLS.map(|protocol| is_served(listeners, protocol)),
        health: rosters.each_ref().map(|roster| roster.health),
        scorer: is_scored.then(|| Scorer::new(scored_before, pool, &backends, takes_any)),
        batches: if is_scored { Batches::of(pool) } else { None },
        metering: Metering::of(pool.algorithm, pool.gpu_aware),
        pickers,
        tables,
        backends,
    }
}
