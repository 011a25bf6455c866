//! The listeners that one worker still counts for.

use std::collections::HashSet;
use std::sync::Arc;

use contract::Networks;

use crate::ids::{ById, ListenerId};
use crate::listener::{ListenerRules, ListenerState};
use crate::snapshot::Snapshot;

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

    /// Those that it holds.
    pub fn ids(&self) -> impl Iterator<Item = ListenerId> {
        self.held.iter().map(|held| held.state.id)
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
