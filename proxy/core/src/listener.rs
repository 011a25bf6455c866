//! A listener as the running proxy knows it: its name and what is counted of it, over every reload.
//!
//! Sessions and flows name theirs by [`ListenerId`]. Each worker keeps the states of those that it may
//! still have to count for ([`crate::held_listeners`]), and so long the id means no other listener.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use contract::{Listener, ListenerSettings, Name, Routes};

use crate::counts::Counts;
use crate::ids::{ListenerId, Names};
use crate::route::Target;

/// One listener, as long as it is configured or in use.
#[derive(Debug)]
pub struct ListenerState {
    /// Its identity in this process.
    pub id: ListenerId,
    /// Its identity in the configuration.
    pub name: Name,
    /// Sessions at once, over all workers.
    pub sessions: AtomicU64,
    by_worker: Box<[Counts]>,
}

impl ListenerState {
    /// The counters of one worker.
    ///
    /// # Panics
    /// If there are not so many workers.
    pub fn worker(&self, worker: usize) -> &Counts {
        &self.by_worker[worker]
    }

    /// The counters of each worker.
    pub fn workers(&self) -> &[Counts] {
        &self.by_worker
    }
}

/// What a listener goes by, as a configuration says.
#[derive(Debug, Default)]
pub struct ListenerRules {
    /// As configured.
    pub settings: ListenerSettings,
    /// Where new sessions and flows go.
    pub routes: Routes<Target>,
    /// Sessions at once, over all workers.
    pub max_sessions: u64,
    /// Flows at once in one worker.
    pub max_flows_per_worker: usize,
}

/// Every listener that is configured or still in use.
#[derive(Debug, Default)]
pub struct ListenerRegistry {
    workers: usize,
    listeners: Names<ListenerId, Arc<ListenerState>>,
}

impl ListenerRegistry {
    /// A registry without listeners, for so many workers.
    pub fn new(workers: usize) -> Self {
        ListenerRegistry {
            workers,
            ..ListenerRegistry::default()
        }
    }

    /// What `listener` goes by where all of them together may have so many sessions, and so many flows a
    /// worker. `pools` are those of the configuration, in its order.
    pub fn rules(
        &self,
        listener: &Listener,
        pools: &[Target],
        max_sessions: u64,
        max_flows_per_worker: usize,
    ) -> ListenerRules {
        let settings = listener.settings.clone();
        let sessions = settings.max_sessions.unwrap_or(max_sessions);
        let flows = settings.max_flows.map(|flows| {
            let per_worker = flows.div_ceil(self.workers.max(1) as u64).max(1);
            usize::try_from(per_worker).unwrap_or(usize::MAX)
        });
        ListenerRules {
            max_sessions: sessions.min(max_sessions),
            max_flows_per_worker: flows.map_or(max_flows_per_worker, |flows| {
                flows.min(max_flows_per_worker)
            }),
            routes: listener.routes.map(|at| pools[*at]),
            settings,
        }
    }

    /// Takes over a configuration: the state of each of its listeners, in order. Those that are neither
    /// configured nor held by anybody any more are forgotten.
    pub fn adopt(&mut self, listeners: &[Listener]) -> Vec<Arc<ListenerState>> {
        let workers = self.workers;
        let adopted = listeners.iter().map(|listener| {
            let id = self.listeners.intern(&listener.name, |id| {
                Arc::new(ListenerState {
                    id,
                    name: listener.name.clone(),
                    sessions: AtomicU64::new(0),
                    by_worker: (0..workers).map(|_| Counts::default()).collect(),
                })
            });
            self.listeners.get(id).cloned()
        });
        let adopted: Vec<Arc<ListenerState>> = adopted.flatten().collect();
        self.listeners
            .retain(|_, listener| Arc::strong_count(listener) > 1);
        adopted
    }

    /// All that are known, those of earlier configurations included that still have sessions or flows.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ListenerState>> {
        self.listeners.iter()
    }
}
