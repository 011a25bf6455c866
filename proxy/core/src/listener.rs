//! A listener as the running proxy knows it: its name and what is counted of it, over every reload.
//!
//! Sessions and flows name theirs by [`ListenerId`]. Each worker keeps the states of those that it may
//! still have to count for ([`HeldListeners`]), and so long the id means no other listener.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use contract::{Listener, ListenerSettings, Name, Networks};

use crate::counts::Counts;
use crate::ids::{ById, ListenerId, Names, PoolId};
use crate::snapshot::Snapshot;

#[derive(Debug)]
pub struct ListenerState {
    pub id: ListenerId,
    pub name: Name,
    /// Sessions at once, over all workers.
    pub sessions: AtomicU64,
    by_worker: Box<[Counts]>,
}

impl ListenerState {
    pub fn worker(&self, worker: usize) -> &Counts {
        &self.by_worker[worker]
    }

    pub fn workers(&self) -> &[Counts] {
        &self.by_worker
    }
}

/// What a listener goes by, as a configuration says.
#[derive(Debug, Default)]
pub struct ListenerRules {
    pub settings: ListenerSettings,
    /// Sessions at once, over all workers.
    pub max_sessions: u64,
    /// Flows at once in one worker.
    pub max_flows_per_worker: usize,
}

/// For which listener an open endpoint accepts, and which pool its sessions and flows go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    pub listener: ListenerId,
    /// [`PoolId::NONE`] where the pool was removed with the listener.
    pub pool: PoolId,
}

/// Every listener that is configured or still in use.
#[derive(Debug, Default)]
pub struct ListenerRegistry {
    workers: usize,
    listeners: Names<ListenerId, Arc<ListenerState>>,
}

impl ListenerRegistry {
    pub fn new(workers: usize) -> Self {
        ListenerRegistry {
            workers,
            ..ListenerRegistry::default()
        }
    }

    /// What `listener` goes by where all of them together may have so many sessions, and so many flows a
    /// worker.
    pub fn rules(
        &self,
        listener: &Listener,
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

/// The listeners that one worker may have sessions or flows of, and what each goes by: those that a
/// configuration does not name any more, as the last one said that did.
#[derive(Debug, Default)]
pub struct HeldListeners {
    held: ById<Held>,
    /// Of a listener that is not held, which has nothing here.
    otherwise: ListenerRules,
}

#[derive(Debug, Clone)]
struct Held {
    state: Arc<ListenerState>,
    rules: Arc<ListenerRules>,
}

impl HeldListeners {
    /// Holds those of `snapshot` from now on, and of the others those for which `worker` has sockets
    /// open, sessions or flows.
    pub fn update(
        &mut self,
        snapshot: &Snapshot,
        worker: usize,
        open: impl Iterator<Item = ListenerId>,
    ) {
        let open: HashSet<ListenerId> = open.collect();
        let is_needed = |held: &&Held| {
            let listener = &held.state;
            open.contains(&listener.id) || listener.worker(worker).in_flight() > 0
        };
        let before = self.held.iter().filter(is_needed).cloned();
        let named = snapshot.rules_of_listeners().map(|(state, rules)| Held {
            state: Arc::clone(state),
            rules: Arc::clone(rules),
        });
        let all = before.chain(named);
        self.held = ById::collect(all.map(|held| (held.state.id, held)));
    }

    /// What is known of a listener over all workers; the worker has sockets, sessions or flows of it.
    pub fn state(&self, listener: ListenerId) -> Option<&ListenerState> {
        self.held.get(listener).map(|held| &*held.state)
    }

    /// What a listener goes by.
    pub fn rules(&self, listener: ListenerId) -> &ListenerRules {
        let held = self.held.get(listener);
        held.map_or(&self.otherwise, |held| &held.rules)
    }

    /// The networks whose datagrams start no flow, of each listener.
    pub fn udp_peers(&self) -> impl Iterator<Item = (ListenerId, &Networks)> {
        let held = self.held.iter();
        held.map(|held| (held.state.id, &held.rules.settings.udp_peers))
    }
}
