//! The routing state of one generation: what a worker reads to place a new session or flow. Built
//! off the data path, never changed afterwards, swapped whole.

use std::collections::HashMap;
use std::sync::Arc;

use contract::{BackendAddr, Config, Settings};

use crate::backend::{BackendRegistry, BackendState};
use crate::pick::{BackendIndex, PickTable};

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
    pub table: PickTable,
    backends: Vec<Arc<BackendState>>,
    by_addr: HashMap<BackendAddr, BackendIndex>,
}

impl PoolSnapshot {
    pub fn backend(&self, index: BackendIndex) -> &Arc<BackendState> {
        &self.backends[index.0 as usize]
    }

    /// Where a backend stands in this generation; `None` where it was removed.
    pub fn index_of(&self, addr: BackendAddr) -> Option<BackendIndex> {
        self.by_addr.get(&addr).copied()
    }
}

impl Snapshot {
    /// Builds the state of `config` on top of what `registry` knows of its backends.
    pub fn build(
        epoch: u64,
        config: &Config,
        registry: &mut BackendRegistry,
        max_sessions: u64,
        max_flows_per_worker: usize,
    ) -> Snapshot {
        let backends = config.pools.iter().flat_map(|pool| &pool.backends);
        let mut states = registry.adopt(backends).into_iter();
        let pools = config.pools.iter().map(|pool| {
            let backends: Vec<_> = states.by_ref().take(pool.backends.len()).collect();
            let index = |index: usize| BackendIndex(index as u32);
            let by_addr = backends
                .iter()
                .enumerate()
                .map(|(i, state)| (state.addr, index(i)));
            PoolSnapshot {
                table: PickTable::build(pool),
                by_addr: by_addr.collect(),
                backends,
            }
        });
        let pools = pools.collect();
        let settings = config.settings.clone();
        Snapshot {
            epoch,
            pools,
            settings,
            max_sessions,
            max_flows_per_worker,
        }
    }
}
