//! The routing state of one generation: what a worker reads to place a new session or flow. Built
//! off the data path, never changed afterwards, swapped whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use contract::health::{AllDown, Health as Rules};
use contract::{
    Algorithm, BackendAddr, Config, Listener, Name, Pool, PoolSettings, ProcessSettings, Routes,
};

use crate::backend::BackendState;
use crate::batch::Batches;
use crate::health::roster::{PoolHealth, Roster};
use crate::health::{PROTOCOLS, is_served, listeners_of, subject};
use crate::ids::{ById, ListenerId, MemberId, PoolId};
use crate::listener::{ListenerRules, ListenerState};
use crate::meter::Metering;
use crate::pick::{BackendIndex, PickTable, Picker};
use crate::plan::{Endpoint, Protocol, endpoints_of};
use crate::registry::{Adopted, BackendRegistry};
use crate::route::Target;
use crate::score::Scorer;

/// See the [module](self).
#[derive(Debug)]
pub struct Snapshot {
    /// Which snapshot of this process it is. Unlike the file's generation it grows with each.
    pub epoch: u64,
    /// In the order of the configuration.
    pub pools: Vec<PoolSnapshot>,
    /// Where each pool stands in `pools`.
    places: ById<usize>,
    listeners: ById<RoutedListener>,
    /// By endpoint, each once.
    endpoints: Box<[(Endpoint, ListenerId)]>,
    /// Every pool that has sessions or flows, also if it is not configured any more.
    known_pools: ById<KnownPool>,
    /// Settings that no pool or listener has a part in.
    pub process: ProcessSettings,
    /// Sessions at once, over all workers and listeners.
    pub max_sessions: u64,
    /// Flows at once in one worker, over all listeners.
    pub max_flows_per_worker: usize,
}

#[derive(Debug)]
struct RoutedListener {
    state: Arc<ListenerState>,
    rules: Arc<ListenerRules>,
}

/// One pool of a [`Snapshot`].
#[derive(Debug)]
pub struct PoolSnapshot {
    /// Its identity in this process.
    pub id: PoolId,
    /// Its identity in the configuration.
    pub name: Name,
    /// As configured.
    pub settings: PoolSettings,
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
    /// The candidates of a protocol, as the algorithm needs them.
    pub fn table(&self, protocol: Protocol) -> &PickTable {
        &self.tables[protocol as usize]
    }

    pub(crate) fn picker(&self, protocol: Protocol) -> &Picker {
        &self.pickers[protocol as usize]
    }

    /// What health leaves of it for a protocol.
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

    /// Whether it has no backends.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The backend at a place of this generation.
    ///
    /// # Panics
    /// If `index` is of a generation with more backends.
    pub fn backend(&self, index: BackendIndex) -> &Arc<BackendState> {
        &self.backends[index.0 as usize]
    }

    /// In the order of the configuration.
    pub fn backends(&self) -> &[Arc<BackendState>] {
        &self.backends
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
        let adopted = registry.adopt(&config.pools);
        configure_health(config, &adopted, registry, now_ms);
        let ids: Vec<PoolId> = adopted.iter().map(|pool| pool.id).collect();
        let named = ids.iter().zip(&config.pools);
        let targets: Vec<Target> = named
            .map(|(id, pool)| Target::new(*id, &pool.name))
            .collect();
        let states = registry.listeners.adopt(&config.listeners);
        let routed = config
            .listeners
            .iter()
            .zip(states)
            .map(|(listener, state)| {
                let listeners = &registry.listeners;
                let rules = listeners.rules(listener, &targets, max_sessions, max_flows_per_worker);
                let routed = RoutedListener {
                    state,
                    rules: Arc::new(rules),
                };
                (listener, routed)
            });
        let routed: Vec<(&Listener, RoutedListener)> = routed.collect();
        let endpoints = endpoints_of_all(&routed);
        let known_pools = known_pools(previous, config, &ids, registry);
        let pools = config.pools.iter().zip(adopted).enumerate();
        let pools = pools.map(|(at, (pool, adopted))| {
            let listeners: Vec<&Listener> = listeners_of(config, at).collect();
            let previous = previous.and_then(|previous| previous.pool(adopted.id));
            if let Some(protocols) = registry.protocols(adopted.id) {
                let serves =
                    PROTOCOLS.map(|protocol| is_served(listeners.iter().copied(), protocol));
                protocols.configure(serves, pool.settings.health.probe.kind);
            }
            build_pool(previous, pool, &listeners, adopted, now_ms)
        });
        let pools = pools.collect();
        let listeners = routed
            .into_iter()
            .map(|(_, routed)| (routed.state.id, routed));
        Snapshot {
            epoch: previous.map_or(0, |previous| previous.epoch + 1),
            pools,
            places: ById::collect(ids.into_iter().zip(0..)),
            listeners: ById::collect(listeners),
            endpoints,
            known_pools,
            process: config.process.clone(),
            max_sessions,
            max_flows_per_worker,
        }
    }

    /// `None` where the configuration has no such pool any more.
    pub fn pool(&self, id: PoolId) -> Option<&PoolSnapshot> {
        self.pools.get(*self.places.get(id)?)
    }

    /// The listeners of the configuration, and what each goes by.
    pub fn rules_of_listeners(
        &self,
    ) -> impl Iterator<Item = (&Arc<ListenerState>, &Arc<ListenerRules>)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (&listener.state, &listener.rules))
    }

    /// Sessions at once over all listeners of the configuration, by what each may have.
    pub fn max_sessions_in_force(&self) -> u64 {
        let rules = || self.rules_of_listeners().map(|(_, rules)| rules);
        let is_bounded = |rules: &Arc<ListenerRules>| rules.settings.max_sessions.is_some();
        match rules().next().is_some() && rules().all(is_bounded) {
            true => rules()
                .map(|rules| rules.max_sessions)
                .sum::<u64>()
                .min(self.max_sessions),
            false => self.max_sessions,
        }
    }

    /// How long sessions and flows of removed and disabled backends of a pool may go on; `None`: until
    /// they end by themselves.
    pub fn gone_timeout_ms(&self, pool: PoolId) -> Option<u64> {
        self.known_pools.get(pool)?.gone_timeout_ms
    }

    /// Whether those of any pool are ended.
    pub fn ends_those_of_gone_backends(&self) -> bool {
        let mut known = self.known_pools.iter();
        known.any(|pool| pool.gone_timeout_ms.is_some())
    }

    /// Every pool that has sessions or flows, also if it is not configured any more.
    pub fn known_pools(&self) -> impl Iterator<Item = (PoolId, &Name)> {
        self.known_pools.iter().map(|pool| (pool.id, &pool.name))
    }

    /// What a pool is called that has sessions or flows.
    pub fn pool_name(&self, pool: PoolId) -> Option<&Name> {
        Some(&self.known_pools.get(pool)?.name)
    }

    /// Where new sessions and flows of a listener of the configuration go.
    pub fn routes_of(&self, listener: ListenerId) -> Option<&Routes<Target>> {
        Some(&self.listeners.get(listener)?.rules.routes)
    }

    /// The listener that an open `endpoint` accepts for now, which did so for `before`. One that the configuration
    /// does not name, since it is retired or its successor cannot be bound, goes on for the same listener.
    pub fn listener_at(
        &self,
        endpoint: Endpoint,
        before: Option<ListenerId>,
    ) -> Option<ListenerId> {
        let named = self
            .endpoints
            .binary_search_by_key(&endpoint, |(one, _)| *one);
        match named {
            Ok(at) => Some(self.endpoints[at].1),
            Err(_) => before,
        }
    }

    /// The pools whose sessions and flows have been told what is worth nothing under `after`.
    pub fn metered_otherwise(&self, after: &Snapshot) -> Vec<PoolId> {
        let metering = |pool: &PoolSnapshot| after.pool(pool.id).and_then(|pool| pool.metering);
        let changed = self.pools.iter().filter(|before| {
            !Metering::goes_on(before.metering.as_ref(), metering(before).as_ref())
        });
        changed.map(|pool| pool.id).collect()
    }
}

/// Tells each backend's health what the configuration says of it; those that are no longer in it
/// are told that too.
fn configure_health(config: &Config, adopted: &[Adopted], registry: &BackendRegistry, now_ms: u64) {
    let mut count = 0;
    for (at, (pool, adopted)) in config.pools.iter().zip(adopted).enumerate() {
        let (rules, subject) = (&pool.settings.health, subject(config, at));
        for (backend, state) in pool.backends.iter().zip(&adopted.states) {
            state
                .health()
                .configure(Some(backend), rules, subject, now_ms);
        }
        count += adopted.states.len();
    }
    if registry.all().count() == count {
        return;
    }
    let states = adopted.iter().flat_map(|pool| &pool.states);
    let is_configured: HashSet<MemberId> = states.map(|state| state.id()).collect();
    let removed = registry
        .all()
        .filter(|state| !is_configured.contains(&state.id()));
    let rules = Rules::default();
    removed.for_each(|state| state.health().configure(None, &rules, None, now_ms));
}

/// The endpoints that lead to `listeners`, each once.
fn endpoints_of_all(listeners: &[(&Listener, RoutedListener)]) -> Box<[(Endpoint, ListenerId)]> {
    let endpoints = listeners.iter().flat_map(|(listener, routed)| {
        endpoints_of(listener).map(|endpoint| (endpoint, routed.state.id))
    });
    let mut endpoints: Vec<(Endpoint, ListenerId)> = endpoints.collect();
    endpoints.sort_unstable();
    endpoints.dedup_by_key(|(endpoint, _)| *endpoint);
    endpoints.into()
}

/// What outlives the configuration of a pool.
#[derive(Debug, Clone)]
struct KnownPool {
    id: PoolId,
    name: Name,
    /// How long sessions and flows of removed and disabled backends may go on.
    gone_timeout_ms: Option<u64>,
}

/// `pools` are in the order of the configuration. A pool that it does not name any more keeps its own for as
/// long as somebody uses its backends.
fn known_pools(
    previous: Option<&Snapshot>,
    config: &Config,
    pools: &[PoolId],
    registry: &BackendRegistry,
) -> ById<KnownPool> {
    let before = previous.into_iter().flat_map(|one| one.known_pools.iter());
    let before = before.filter(|pool| registry.pool_name(pool.id).is_some());
    let now = pools.iter().zip(&config.pools).map(|(id, pool)| KnownPool {
        id: *id,
        name: pool.name.clone(),
        gone_timeout_ms: pool.settings.connect.backend_gone_timeout_ms,
    });
    ById::collect(before.cloned().chain(now).map(|pool| (pool.id, pool)))
}

fn build_pool(
    previous: Option<&PoolSnapshot>,
    pool: &Pool,
    listeners: &[&Listener],
    adopted: Adopted,
    now_ms: u64,
) -> PoolSnapshot {
    let Adopted {
        id,
        states: backends,
    } = adopted;
    let is_served = |protocol| is_served(listeners.iter().copied(), protocol);
    let rosters = PROTOCOLS.map(|protocol| {
        let mut roster = Roster::of(pool, &backends, protocol, now_ms);
        if !is_served(protocol) {
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
        id,
        name: pool.name.clone(),
        settings: pool.settings.clone(),
        by_addr: by_addr.collect(),
        serves: PROTOCOLS.map(is_served),
        health: rosters.each_ref().map(|roster| roster.health),
        scorer: is_scored.then(|| Scorer::new(scored_before, pool, &backends, takes_any)),
        batches: if is_scored { Batches::of(pool) } else { None },
        metering: Metering::of(pool.algorithm, pool.gpu_aware),
        pickers,
        tables,
        backends,
    }
}
