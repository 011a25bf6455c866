//! Two pools and their listeners over reloads: what belongs to which, whatever stands where in the
//! configuration (`docs/adr/0016`).

use std::net::SocketAddr;
use std::sync::Arc;

use contract::health::{Ejection, Health, Probe, ProbeKind};
use contract::state_reason::ProbeFailure;
use contract::{
    Algorithm, Backend, BackendAddr, Config, Listener, Name, Pool, PoolSettings, ProcessSettings,
    Report,
};
use proxy_core::backend::BackendState;
use proxy_core::health::Outcome;
use proxy_core::health::watch::{Failing, Watch};
use proxy_core::held_listeners::HeldListeners;
use proxy_core::ids::{ListenerId, MemberId, PoolId};
use proxy_core::pick::Request;
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::reason::SessionEnd;
use proxy_core::registry::BackendRegistry;
use proxy_core::route::{Preface, Routed, Routers};
use proxy_core::score::Now;
use proxy_core::slot::SessionSlot;
use proxy_core::snapshot::{PoolSnapshot, Snapshot};

const FAILURES_TO_EJECT: u64 = 3;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn addr(last: u8) -> BackendAddr {
    BackendAddr::new([10, 0, 0, last].into(), 80)
}

/// A pool of the backends 10.0.0.N:80.
fn pool(text: &str, algorithm: Algorithm, members: impl IntoIterator<Item = u8>) -> Pool {
    let backends = members.into_iter().map(|last| Backend {
        addr: addr(last),
        weight: 1,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    });
    Pool {
        settings: pool_settings(),
        ..Pool::new(name(text), algorithm, backends.collect())
    }
}

/// A listener at this port that leads to the pool at this place.
fn listener(text: &str, port: u16, pool: usize) -> Listener {
    Listener::new(name(text), at(port), pool)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn tcp(port: u16) -> Endpoint {
    Endpoint {
        addr: at(port),
        protocol: Protocol::Tcp,
    }
}

struct World {
    registry: BackendRegistry,
    watch: Watch,
    snapshot: Snapshot,
    random: fastrand::Rng,
    held: HeldListeners,
    routers: Routers,
}

impl World {
    fn new(pools: &[Pool], listeners: &[Listener]) -> World {
        let mut registry = BackendRegistry::new(1);
        let config = config(pools, listeners);
        let snapshot = Snapshot::build(None, &config, &mut registry, 1, 1, 0);
        let mut watch = Watch::new();
        watch.configure(&config, &snapshot, &registry, 0);
        World {
            registry,
            watch,
            snapshot,
            random: fastrand::Rng::with_seed(1),
            held: HeldListeners::default(),
            routers: Routers::default(),
        }
    }

    /// Goes on for the listeners of the snapshot, and those that are `open`.
    fn hold(&mut self, open: &[ListenerId]) {
        self.held.update(&self.snapshot, 0, open.iter().copied());
        self.routers.update(&self.snapshot, &self.held);
    }

    fn listener_at(&self, endpoint: Endpoint, before: Option<ListenerId>) -> ListenerId {
        let listener = self.snapshot.listener_at(endpoint, before);
        listener.expect("it is named")
    }

    /// The pool of a session of `listener`, which has but one route.
    fn route(&mut self, listener: ListenerId) -> PoolId {
        self.hold(&[listener]);
        let routed = self
            .routers
            .route(listener, [192, 0, 2, 1].into(), Preface::Unread);
        let Routed::To { pool, .. } = routed else {
            panic!("{routed:?}");
        };
        pool
    }

    /// Returns the snapshot of before.
    fn reload(&mut self, pools: &[Pool], listeners: &[Listener]) -> Snapshot {
        let config = config(pools, listeners);
        let old = Some(&self.snapshot);
        let new = Snapshot::build(old, &config, &mut self.registry, 1, 1, 0);
        let before = std::mem::replace(&mut self.snapshot, new);
        self.watch
            .configure(&config, &self.snapshot, &self.registry, 0);
        before
    }

    fn pool(&self, text: &str) -> &PoolSnapshot {
        let mut pools = self.snapshot.pools.iter();
        let found = pools.find(|pool| pool.name.as_str() == text);
        found.expect("it is configured")
    }

    fn id(&self, text: &str) -> PoolId {
        self.pool(text).id
    }

    fn member(&self, text: &str, last: u8) -> Arc<BackendState> {
        let pool = self.pool(text);
        let index = pool.index_of(addr(last)).expect("a member");
        Arc::clone(pool.backend(index))
    }

    /// Where the next session of a pool goes.
    fn pick(&mut self, text: &str) -> u16 {
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &[],
        };
        let mut pools = self.snapshot.pools.iter();
        let pool = pools.find(|pool| pool.name.as_str() == text);
        let pool = pool.expect("it is configured");
        let picked = pool.pick(Protocol::Tcp, &request, 0, &mut self.random);
        let picked = pool.backend(picked.expect("not all are out").backend);
        match picked.addr.ip() {
            std::net::IpAddr::V4(ip) => u16::from(ip.octets()[3]),
            std::net::IpAddr::V6(_) => unreachable!("all are of IPv4"),
        }
    }

    /// As many sessions fail at a backend in a row as eject it, which had accepted some before.
    fn fail(&mut self, member: MemberId) {
        let backend = Arc::clone(self.registry.find(member).expect("it is known"));
        backend.protocols().set_answered(Protocol::Tcp);
        for _ in 0..FAILURES_TO_EJECT {
            backend.health().failed(Protocol::Tcp, FAILURES_TO_EJECT);
        }
        let protocol = Protocol::Tcp;
        let failing = Failing { member, protocol };
        self.watch.failing(&self.registry, failing, 0);
    }
}

fn config(pools: &[Pool], listeners: &[Listener]) -> Config {
    Config {
        generation: None,
        updated_at: None,
        listeners: listeners.to_vec(),
        pools: pools.to_vec(),
        process: ProcessSettings::default(),
    }
}

fn pool_settings() -> PoolSettings {
    PoolSettings {
        health: Health {
            probe: Probe {
                kind: ProbeKind::Tcp,
                fall: 1,
                ..Probe::default()
            },
            ejection: Ejection {
                failures: FAILURES_TO_EJECT,
                max_percent: 50,
                ..Ejection::default()
            },
            ..Health::default()
        },
        ..PoolSettings::default()
    }
}

fn is_in(backend: &BackendState) -> bool {
    backend.health().standing().is_available(Protocol::Tcp)
}

#[test]
fn a_pool_inserted_before_another_disturbs_nothing() {
    let a = pool("a", Algorithm::RoundRobin, 1..=3);
    let b = pool("b", Algorithm::RoundRobin, 1..=5);
    let mut world = World::new(std::slice::from_ref(&a), &[listener("l", 1, 0)]);
    let named = world.listener_at(tcp(1), None);
    let led_to = world.route(named);
    let id = world.id("a");
    let slot = SessionSlot::take(&world.member("a", 1));
    let turns: Vec<u16> = (0..2).map(|_| world.pick("a")).collect();
    assert_eq!(turns, [1, 2]);
    let ejected = world.member("a", 3).id();
    world.fail(ejected);
    world.reload(&[b, a], &[listener("l", 1, 1)]);

    assert_eq!(world.id("a"), id);
    let pool = world.snapshot.pool(led_to).expect("it is there");
    assert_eq!((pool.name.as_str(), pool.len()), ("a", 3));
    assert_eq!(world.listener_at(tcp(1), Some(named)), named);
    assert_eq!(world.route(named), led_to);
    assert!(!is_in(&world.member("a", 3)) && is_in(&world.member("b", 3)));
    assert_eq!(world.member("a", 1).sessions(), 1);
    // Of the order that was under way, with one less.
    assert_eq!(world.pick("a"), 1);
    drop(slot);
    assert_eq!(world.member("a", 1).sessions(), 0);
}

#[test]
fn a_rotation_goes_on_in_its_pool_wherever_that_stands() {
    let a = pool("a", Algorithm::RoundRobin, 1..=3);
    let b = pool("b", Algorithm::RoundRobin, 1..=3);
    let mut world = World::new(&[a.clone(), b.clone()], &[]);
    assert_eq!([world.pick("a"), world.pick("a")], [1, 2]);
    world.reload(&[b, a], &[]);
    assert_eq!([world.pick("a"), world.pick("b")], [3, 1]);
}

#[test]
fn what_was_metered_is_forgotten_in_the_pool_whose_algorithm_changed() {
    let a = pool("a", Algorithm::GpuAware, 1..=2);
    let b = pool("b", Algorithm::GpuAware, 1..=2);
    let mut world = World::new(&[a.clone(), b.clone()], &[]);
    let (id_a, id_b) = (world.id("a"), world.id("b"));
    let random = pool("c", Algorithm::Random, 1..=2);
    let before = world.reload(&[random.clone(), b, a.clone()], &[]);
    assert_eq!(before.metered_otherwise(&world.snapshot), []);
    let b = pool("b", Algorithm::Random, 1..=2);
    let before = world.reload(&[random, b, a], &[]);
    assert_eq!(before.metered_otherwise(&world.snapshot), [id_b]);
    let before = world.reload(&[], &[]);
    assert_eq!(before.metered_otherwise(&world.snapshot), [id_a]);
}

#[test]
fn an_address_in_two_pools_has_two_healths() {
    let pools = [
        pool("a", Algorithm::Random, 1..=2),
        pool("b", Algorithm::Random, 1..=2),
    ];
    let listeners = [listener("l", 1, 0), listener("m", 2, 1)];
    let mut world = World::new(&pools, &listeners);
    let mut jobs = Vec::new();
    while let Some(job) = world.watch.take_due(1_000) {
        jobs.push(job);
    }
    assert_eq!(jobs.len(), 4, "each member is probed");
    let [in_a, in_b] = ["a", "b"].map(|pool| world.member(pool, 1));
    for job in jobs {
        let outcome = match job.member == in_a.id() {
            true => Outcome::Failed(ProbeFailure::Refused),
            false => Outcome::Passed { latency_us: 1 },
        };
        let (registry, random) = (&world.registry, &mut world.random);
        world.watch.probed(registry, job, outcome, 0, random);
    }
    let changes = world.watch.take_changes();
    let changed: Vec<MemberId> = changes.iter().map(|change| change.member).collect();
    assert!(!changed.is_empty() && changed.iter().all(|member| *member == in_a.id()));
    world.reload(&pools, &listeners);
    assert_eq!((is_in(&in_a), is_in(&in_b)), (false, true));
    let flows_move = |backend: &BackendState| backend.health().moves_flows();
    let available = |world: &World, text| world.pool(text).health(Protocol::Tcp).available;
    assert_eq!((available(&world, "a"), available(&world, "b")), (1, 2));
    assert!(!flows_move(&in_b));

    // Disabled in one, it is used in the other, also where that comes last.
    let mut disabled = pools.clone();
    disabled[1].backends[0].enabled = false;
    world.reload(&disabled, &listeners);
    assert_eq!((in_a.keeps_flows(), in_b.keeps_flows()), (true, false));
}

#[test]
fn an_address_in_two_pools_has_two_costs() {
    let pools = [
        pool("a", Algorithm::GpuAware, 1..=2),
        pool("b", Algorithm::GpuAware, 1..=2),
    ];
    let mut world = World::new(&pools, &[]);
    let now = Now {
        us: 1_000_000,
        unix_ms: 1_700_000_000_000,
    };
    let [in_a, in_b] = ["a", "b"].map(|pool| world.member(pool, 1));
    in_a.telemetry().set(&Report {
        vram_usage: Some(0.99),
        gpu_usage: Some(0.99),
        reported_at_ms: Some(now.unix_ms),
        heartbeat_ms: Some(1_000),
    });
    world.snapshot.pools.iter().for_each(|pool| {
        pool.score(now);
    });
    assert!(in_a.load().cost() > in_b.load().cost());
    assert!((0..20).all(|_| world.pick("a") == 2));
    assert!((0..20).any(|_| world.pick("b") == 1));
}

/// Of four in pool `a` two may be ejected, of two in pool `b` one, whatever happens in the other pool.
#[test]
fn the_bound_on_ejections_is_a_share_of_the_pool() {
    let pools = [
        pool("a", Algorithm::Random, 1..=4),
        pool("b", Algorithm::Random, 1..=2),
    ];
    let mut world = World::new(&pools, &[]);
    let (a, b) = (world.id("a"), world.id("b"));
    for round in 0..2 {
        for (pool, members) in [(a, 4), (b, 2)] {
            for last in 1..=members {
                let addr = addr(last);
                world.fail(MemberId { pool, addr });
            }
        }
        let out = |text: &str, members| -> Vec<u8> {
            let is_out = |last: &u8| !is_in(&world.member(text, *last));
            (1..=members).filter(is_out).collect()
        };
        assert_eq!((out("a", 4), out("b", 2)), (vec![1, 2], vec![1]), "{round}");
        assert_eq!(world.watch.spared(a), 2 * (round + 1));
        assert_eq!(world.watch.spared(b), round + 1);
        // Counted anew, it is the same.
        world.reload(&pools, &[]);
    }
}

#[test]
fn a_listener_that_moves_to_another_pool_stays_what_it_is() {
    let [a, b] = ["a", "b"].map(|text| pool(text, Algorithm::Random, 1..=2));
    let mut world = World::new(&[a.clone(), b.clone()], &[listener("l", 1, 0)]);
    let before = world.listener_at(tcp(1), None);
    assert_eq!(world.route(before), world.id("a"));
    world.reload(&[a.clone(), b.clone()], &[listener("l", 1, 1)]);
    assert_eq!(world.listener_at(tcp(1), Some(before)), before);
    assert_eq!(world.route(before), world.id("b"));

    // Its new address cannot be bound, so the old one goes on for it, and for the pool it has now.
    world.reload(&[a.clone(), b.clone()], &[listener("l", 2, 0)]);
    assert_eq!(world.listener_at(tcp(1), Some(before)), before);
    assert_eq!(world.route(before), world.id("a"));

    // Another listener takes over the address.
    world.reload(&[a, b], &[listener("k", 1, 1)]);
    let other = world.listener_at(tcp(1), Some(before));
    assert!(other != before && world.route(other) == world.id("b"));
}

#[test]
fn a_retired_listener_leads_to_no_pool_that_came_after_its_own() {
    let only = |text| [pool(text, Algorithm::Random, [])];
    let mut world = World::new(&only("a"), &[listener("l", 1, 0)]);
    let retired = world.listener_at(tcp(1), None);
    world.hold(&[retired]);
    let id = world.id("a");
    world.reload(&only("b"), &[listener("m", 2, 0)]);
    world.hold(&[retired]);
    assert_eq!(world.route(retired), PoolId::NONE);
    world.reload(&only("c"), &[listener("m", 2, 0)]);
    assert_eq!(world.id("c"), id, "the number is free by now");
    world.hold(&[retired]);
    assert_eq!(world.route(retired), PoolId::NONE);
}

#[test]
fn a_removed_listener_is_counted_for_until_its_last_session_has_ended() {
    let pools = [pool("a", Algorithm::Random, 1..=2)];
    let (old, new) = (listener("old", 1, 0), listener("new", 2, 0));
    let mut world = World::new(&pools, std::slice::from_ref(&old));
    let mut held = HeldListeners::default();
    held.update(&world.snapshot, 0, std::iter::empty());
    let id = world.listener_at(tcp(1), None);
    let names = |world: &World| -> Vec<String> {
        let all = world.registry.listeners.all();
        all.map(|listener| listener.name.to_string()).collect()
    };
    let state = held.state(id).expect("held");
    state.worker(0).session_started();
    for _ in 0..3 {
        drop(world.reload(&pools, std::slice::from_ref(&new)));
        held.update(&world.snapshot, 0, std::iter::empty());
        assert_eq!(names(&world), ["old", "new"]);
    }
    let state = held.state(id).expect("it has a session");
    state.worker(0).session_ended(SessionEnd::ClientClosed);
    // A socket of it is still open.
    held.update(&world.snapshot, 0, [id].into_iter());
    drop(world.reload(&pools, std::slice::from_ref(&new)));
    assert_eq!(names(&world), ["old", "new"]);
    held.update(&world.snapshot, 0, std::iter::empty());
    assert!(held.state(id).is_none());
    drop(world.reload(&pools, &[new, listener("third", 3, 0)]));
    assert_eq!(names(&world).len(), 2, "{:?}", names(&world));
}
