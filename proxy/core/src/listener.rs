//! A listener as the running proxy knows it: its name and what is counted of it, over every reload.
//!
//! Sessions and flows name theirs by [`ListenerId`]. Each worker keeps the states of those that it may
//! still have to count for ([`HeldListeners`]), and so long the id means no other listener.

use std::collections::HashSet;
use std::sync::Arc;

use contract::{Listener, Name};

use crate::counts::Counts;
use crate::ids::{ById, ListenerId, Names, PoolId};
use crate::snapshot::Snapshot;

#[derive(Debug)]
pub struct ListenerState {
    pub id: ListenerId,
    pub name: Name,
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

    /// Takes over a configuration: the state of each of its listeners, in order. Those that are neither
    /// configured nor held by anybody any more are forgotten.
    pub fn adopt(&mut self, listeners: &[Listener]) -> Vec<Arc<ListenerState>> {
        let workers = self.workers;
        let adopted = listeners.iter().map(|listener| {
            let id = self.listeners.intern(&listener.name, |id| {
                Arc::new(ListenerState {
                    id,
                    name: listener.name.clone(),
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

/// The listeners that one worker may have to count for.
#[derive(Debug, Default)]
pub struct HeldListeners(ById<Arc<ListenerState>>);

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
        let is_needed = |listener: &&Arc<ListenerState>| {
            open.contains(&listener.id) || listener.worker(worker).in_flight() > 0
        };
        let before = self.0.iter().filter(is_needed);
        let all = before.chain(snapshot.listeners());
        self.0 = ById::collect(all.map(|listener| (listener.id, Arc::clone(listener))));
    }

    /// What `worker` counts of a listener; it has sockets, sessions or flows of it.
    pub fn counts(&self, listener: ListenerId, worker: usize) -> Option<&Counts> {
        Some(self.0.get(listener)?.worker(worker))
    }
}
