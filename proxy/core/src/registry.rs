//! Every pool and backend that is configured or in use, and the identity by which each is found again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use contract::{BackendAddr, Name, Pool, Report};

use crate::backend::BackendState;
use crate::ids::{MemberId, Names, PoolId};
use crate::listener::ListenerRegistry;
use crate::protocols::Protocols;

/// Every listener, every pool and each of its backends, as long as they are configured or in use.
#[derive(Debug, Default)]
pub struct BackendRegistry {
    /// The listeners.
    pub listeners: ListenerRegistry,
    workers: usize,
    /// So many were made in all.
    made: usize,
    pools: Names<PoolId, PoolEntry>,
    /// Those of one address, each in a pool of its own.
    states: HashMap<BackendAddr, Vec<Arc<BackendState>>>,
}

#[derive(Debug)]
struct PoolEntry {
    name: Name,
    /// Backends of it that are known.
    members: usize,
    protocols: Arc<Protocols>,
}

/// A pool of a configuration that was taken over.
#[derive(Debug)]
pub struct Adopted {
    /// Its identity in this process.
    pub id: PoolId,
    /// Of each of its backends, in order.
    pub states: Vec<Arc<BackendState>>,
}

impl BackendRegistry {
    /// A registry that knows nothing, for so many workers.
    pub fn new(workers: usize) -> Self {
        BackendRegistry {
            listeners: ListenerRegistry::new(workers),
            workers,
            ..BackendRegistry::default()
        }
    }

    /// Takes over a configuration: its pools, in order, with the state of each of their backends. Known
    /// ones keep theirs, the others are made, and those that are neither configured nor in use any more
    /// are forgotten.
    pub fn adopt(&mut self, pools: &[Pool]) -> Vec<Adopted> {
        // Names first: an id that is freed here is given to nobody before all have seen that it is.
        let adopted: Vec<Adopted> = pools.iter().map(|pool| self.adopt_pool(pool)).collect();
        let configured: HashSet<MemberId> = adopted
            .iter()
            .flat_map(|pool| &pool.states)
            .map(|state| state.id())
            .collect();
        let pools = &mut self.pools;
        self.states.retain(|_, members| {
            members.retain(|state| {
                // Workers read while this is written, so a backend that stays is never said to be gone.
                if configured.contains(&state.id()) {
                    return true;
                }
                state.remove();
                let is_retained = Arc::strong_count(state) > 1 || state.is_in_use();
                if let Some(pool) = pools.get_mut(state.pool).filter(|_| !is_retained) {
                    pool.members -= 1;
                }
                is_retained
            });
            !members.is_empty()
        });
        let configured: HashSet<PoolId> = adopted.iter().map(|pool| pool.id).collect();
        self.pools
            .retain(|id, pool| pool.members > 0 || configured.contains(&id));
        adopted
    }

    fn adopt_pool(&mut self, pool: &Pool) -> Adopted {
        let id = self.pools.intern(&pool.name, |_| PoolEntry {
            name: pool.name.clone(),
            members: 0,
            protocols: Arc::default(),
        });
        let protocols = self.pools.get(id).map(|entry| &entry.protocols);
        let protocols = protocols.map_or_else(Arc::default, Arc::clone);
        let mut states = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let members = self.states.entry(backend.addr).or_default();
            let known = members.iter().position(|state| state.pool == id);
            let at = known.unwrap_or_else(|| {
                self.made += 1;
                let member = MemberId {
                    pool: id,
                    addr: backend.addr,
                };
                let state =
                    BackendState::new(member, Arc::clone(&protocols), self.made, self.workers);
                members.push(Arc::new(state));
                if let Some(pool) = self.pools.get_mut(id) {
                    pool.members += 1;
                }
                members.len() - 1
            });
            let state = &members[at];
            state.configure(backend.enabled);
            let telemetry = state.telemetry();
            telemetry.set(&newer(&telemetry.get(), &backend.report));
            states.push(Arc::clone(state));
        }
        Adopted { id, states }
    }

    /// What the backends of a pool have ever answered; `None` as for its name.
    pub fn protocols(&self, pool: PoolId) -> Option<&Protocols> {
        self.pools.get(pool).map(|entry| &*entry.protocols)
    }

    /// The name of a pool that is configured or whose backends are in use.
    pub fn pool_name(&self, pool: PoolId) -> Option<&Name> {
        self.pools.get(pool).map(|entry| &entry.name)
    }

    /// The state of a member, if it is configured or in use.
    pub fn find(&self, id: MemberId) -> Option<&Arc<BackendState>> {
        self.at(id.addr).iter().find(|state| state.pool == id.pool)
    }

    /// The members of all pools that have this address.
    pub fn at(&self, addr: BackendAddr) -> &[Arc<BackendState>] {
        self.states.get(&addr).map_or(&[], Vec::as_slice)
    }

    /// Every member of every pool, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.states.values().flatten()
    }
}

/// The file is refreshed less often than the admin socket is told, so it may say older things.
fn newer(known: &Report, from_file: &Report) -> Report {
    if known.reported_at_ms > from_file.reported_at_ms {
        *known
    } else {
        *from_file
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::Protocol;
    use crate::slot::SessionSlot;
    use contract::{Algorithm, Backend};

    pub(crate) fn backend(port: u16) -> Backend {
        Backend {
            addr: BackendAddr::new([127, 0, 0, 1].into(), port),
            weight: 1,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        }
    }

    pub(crate) fn pool(name: &str, backends: impl IntoIterator<Item = Backend>) -> Pool {
        let name = Name::new(name).expect("a name");
        Pool::new(name, Algorithm::RoundRobin, backends.into_iter().collect())
    }

    /// The states of a configuration whose only pool has these backends.
    pub(crate) fn adopt(
        registry: &mut BackendRegistry,
        backends: impl IntoIterator<Item = Backend>,
    ) -> Vec<Arc<BackendState>> {
        registry
            .adopt(&[pool("default", backends)])
            .remove(0)
            .states
    }

    #[test]
    fn state_outlives_reloads_by_address() {
        let mut registry = BackendRegistry::new(1);
        let first = adopt(&mut registry, [backend(1), backend(2)]);
        let slot = SessionSlot::take(&first[1]);
        let second = adopt(&mut registry, [backend(2)]);
        assert_eq!(second[0].sessions(), 1);
        drop(slot);
        assert_eq!(second[0].sessions(), 0);
    }

    #[test]
    fn an_address_in_two_pools_has_two_counts() {
        let mut registry = BackendRegistry::new(1);
        let two = [pool("a", [backend(1)]), pool("b", [backend(1)])];
        let adopted = registry.adopt(&two);
        let [a, b] = [0, 1].map(|at| Arc::clone(&adopted[at].states[0]));
        let slot = SessionSlot::take(&a);
        assert_eq!((a.sessions(), b.sessions()), (1, 0));
        assert_eq!(registry.at(a.addr).len(), 2);
        let found = [&a, &b].map(|state| registry.find(state.id()).map(Arc::as_ptr));
        assert_eq!(found, [Some(Arc::as_ptr(&a)), Some(Arc::as_ptr(&b))]);
        // Gone from one, it is not gone from the other.
        drop(adopted);
        registry.adopt(&two[1..]);
        assert!(!a.keeps_flows() && b.keeps_flows());
        drop(slot);
    }

    #[test]
    fn a_pool_is_known_by_its_name_wherever_it_stands() {
        let mut registry = BackendRegistry::new(1);
        let [a, b, c] = ["a", "b", "c"].map(|name| pool(name, [backend(1)]));
        let ids = |adopted: &[Adopted]| adopted.iter().map(|pool| pool.id).collect::<Vec<_>>();
        let first = ids(&registry.adopt(&[a.clone(), b.clone()]));
        let second = ids(&registry.adopt(&[c, b.clone(), a.clone()]));
        assert_eq!(second[1..], [first[1], first[0]]);
        assert!(!first.contains(&second[0]));
    }

    #[test]
    fn the_id_of_a_pool_is_free_when_the_last_session_of_it_has_ended() {
        let mut registry = BackendRegistry::new(1);
        let adopted = registry.adopt(&[pool("a", [backend(1)])]);
        let (id, slot) = (adopted[0].id, SessionSlot::take(&adopted[0].states[0]));
        drop(adopted);
        let other = registry.adopt(&[pool("b", [backend(1)])]);
        assert_ne!(other[0].id, id);
        assert_eq!(registry.pool_name(id).map(Name::as_str), Some("a"));
        drop(slot);
        registry.adopt(&[pool("b", [backend(1)])]);
        assert_eq!(registry.pool_name(id), None);
        assert_eq!(registry.adopt(&[pool("c", [])])[0].id, id);
    }

    #[test]
    fn a_removed_backend_is_forgotten_only_when_unused() {
        let mut registry = BackendRegistry::new(1);
        let states = adopt(&mut registry, [backend(1)]);
        let slot = SessionSlot::take(&states[0]);
        drop(states);
        registry.adopt(&[]);
        assert_eq!(registry.all().count(), 1);
        assert!(!slot.backend().keeps_flows());
        drop(slot);
        registry.adopt(&[]);
        assert_eq!(registry.all().count(), 0);
    }

    #[test]
    fn who_answered_what_is_known_of_forgotten_backends_too() {
        let mut registry = BackendRegistry::new(1);
        let one = |registry: &mut BackendRegistry, port| adopt(registry, [backend(port)]).remove(0);
        let state = one(&mut registry, 1);
        let (pool, addr) = (state.pool, state.addr);
        let has_answered = |registry: &BackendRegistry, protocol| {
            let protocols = registry.protocols(pool).expect("it is configured");
            protocols.have_answered(protocol)
        };
        drop(state);
        assert!(!has_answered(&registry, Protocol::Udp), "nothing is known");
        one(&mut registry, 1).set_answers_datagrams();
        one(&mut registry, 2);
        assert!(registry.at(addr).is_empty());
        assert!(has_answered(&registry, Protocol::Udp), "all are others");
        assert!(!has_answered(&registry, Protocol::Tcp));
    }

    #[test]
    fn the_newer_report_counts() {
        let mut registry = BackendRegistry::new(1);
        let mut listed = backend(1);
        listed.report = Report {
            gpu_usage: Some(0.1),
            reported_at_ms: Some(5),
            ..Report::default()
        };
        let states = adopt(&mut registry, [listed.clone()]);
        let told = Report {
            gpu_usage: Some(0.9),
            reported_at_ms: Some(9),
            ..Report::default()
        };
        states[0].telemetry().set(&told);
        adopt(&mut registry, [listed]);
        assert_eq!(states[0].telemetry().get(), told);
    }
}
