use std::net::SocketAddr;

use contract::{
    Algorithm, Backend, BackendAddr, Config, Listener, ListenerSettings, LocalAddresses, Name,
    Networks, Pool, ProcessSettings, Report,
};

use super::Flow;
use super::life::Present;
use super::listening::{Listening, Sockets, refuses};
use super::seek::{Seek, Step, Unconnected};
use crate::flow_table::{FlowIndex, FlowKey, FlowTable};
use crate::held_listeners::HeldListeners;
use crate::placement::Draw;
use crate::plan::{Endpoint, Protocol};
use crate::reason::{DropReason, FlowEnd};
use crate::registry::BackendRegistry;
use crate::route::Routers;
use crate::snapshot::Snapshot;

const ATTEMPTS: u64 = 2;

#[derive(Default)]
struct Listenings(Vec<Listening>);

impl Sockets for Listenings {
    fn all(&self) -> impl Iterator<Item = (usize, &Listening)> {
        self.0.iter().enumerate()
    }

    fn at(&self, place: usize) -> &Listening {
        &self.0[place]
    }

    /// As if this host had one address.
    fn is_of_this_host(&self, addr: SocketAddr) -> bool {
        addr.ip().to_canonical() == at("192.0.2.1:1").ip()
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn key(client: &str) -> FlowKey {
    FlowKey {
        client: at(client),
        local_ip: Some(at("192.0.2.1:53").ip()),
        port: 53,
    }
}

struct World {
    registry: BackendRegistry,
    snapshot: Snapshot,
    listeners: HeldListeners,
    routers: Routers,
    sockets: Listenings,
    table: FlowTable<Flow<()>>,
}

/// Listeners at these addresses lead to one pool; each may have so many flows, and all together 4.
fn config(addrs: &[&str], backends: u16, most_each: u64) -> Config {
    let backend = |port| Backend {
        addr: BackendAddr::new([10, 0, 0, 1].into(), port),
        weight: 1,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    let backends = (1..=backends).map(backend).collect();
    let mut pool = Pool::new(Name::default(), Algorithm::RoundRobin, backends);
    pool.settings.connect.attempts = ATTEMPTS;
    let listeners = addrs.iter().map(|addr| Listener {
        name: Name::new(&format!("l{}", addr.len())).expect("a name"),
        hosts: vec![at(addr).ip()],
        port: at(addr).port(),
        enabled: true,
        tcp: false,
        udp: true,
        routes: contract::Routes::to(0),
        settings: ListenerSettings {
            max_flows: Some(most_each),
            ..ListenerSettings::default()
        },
    });
    Config {
        generation: None,
        updated_at: None,
        listeners: listeners.collect(),
        pools: vec![pool],
        process: ProcessSettings::default(),
    }
}

const MOST: usize = 4;
const ALL: &str = "0.0.0.0:53";
const ONE: &str = "192.0.2.1:53";

impl World {
    fn new(config: &Config) -> World {
        let mut registry = BackendRegistry::new(1);
        let snapshot = Snapshot::build(None, config, &mut registry, 1, MOST, 0);
        let sockets = config.listeners.iter().map(|listener| {
            let endpoint = Endpoint {
                addr: listener.addrs().next().expect("one"),
                protocol: Protocol::Udp,
            };
            let listener = snapshot.listener_at(endpoint, None);
            Listening::new(endpoint, listener.expect("it is configured"))
        });
        let sockets = Listenings(sockets.collect());
        let mut listeners = HeldListeners::default();
        listeners.update(&snapshot, 0, std::iter::empty());
        let mut routers = Routers::default();
        routers.update(&snapshot, &listeners);
        World {
            routers,
            registry,
            snapshot,
            listeners,
            sockets,
            table: FlowTable::default(),
        }
    }

    fn reload(&mut self, config: &Config) {
        let (previous, registry) = (Some(&self.snapshot), &mut self.registry);
        self.snapshot = Snapshot::build(previous, config, registry, 1, MOST, 0);
        let open = self.sockets.0.iter().map(|one| one.listener);
        self.listeners.update(&self.snapshot, 0, open);
        self.routers.update(&self.snapshot, &self.listeners);
    }

    fn step(&mut self, seek: &mut Seek) -> Step {
        let present = Present {
            snapshot: &self.snapshot,
            listeners: &self.listeners,
            now_us: 0,
        };
        let mut draw = Draw {
            random: &mut fastrand::Rng::with_seed(1),
            routers: &mut self.routers,
        };
        let step = seek.next_step(&mut self.table, &self.sockets, present, &mut draw);
        if let Step::End(index, _) = step {
            self.table.remove(index).expect("it is in the table");
        }
        step
    }

    /// A flow of `client` that begins with a datagram at the socket at `place`; returns the ends before.
    fn begin(&mut self, client: &str, place: usize) -> (FlowIndex, Vec<FlowEnd>) {
        let mut seek = Seek::new(key(client), place);
        let mut ends = Vec::new();
        loop {
            match self.step(&mut seek) {
                Step::End(_, end) => ends.push(end),
                Step::Connect { placement, place } => {
                    seek.connected();
                    let listener = self.sockets.at(place).listener;
                    let present = Present {
                        snapshot: &self.snapshot,
                        listeners: &self.listeners,
                        now_us: 0,
                    };
                    let flow = Flow::new((), &placement.backend, place, listener, present);
                    return (self.table.insert(key(client), flow, listener, 0), ends);
                }
                step => panic!("{step:?}"),
            }
        }
    }

    /// Why a datagram of `client` at the socket at `place` is dropped.
    fn dropped(&mut self, client: &str, place: usize) -> Option<DropReason> {
        match self.step(&mut Seek::new(key(client), place)) {
            Step::Drop(reason) => Some(reason),
            Step::Send(_) | Step::Connect { .. } => None,
            Step::End(..) => panic!("nothing is to end"),
        }
    }
}

#[test]
fn a_retired_socket_serves_its_flows_and_leaves_new_ones_to_the_open_one() {
    let mut world = World::new(&config(&[ONE, ALL], 1, 9));
    let (flow, _) = world.begin("10.0.0.1:7", 0);
    world.sockets.0[0].life.retire(0);
    let step = world.step(&mut Seek::new(key("10.0.0.1:7"), 0));
    assert!(
        matches!(step, Step::Send(index) if index == flow),
        "{step:?}"
    );
    let new = world.step(&mut Seek::new(key("10.0.0.2:7"), 0));
    assert!(matches!(new, Step::Connect { place: 1, .. }), "{new:?}");
    // No other socket gets what is sent there.
    world.sockets.0[1].life.retire(0);
    assert_eq!(
        world.dropped("10.0.0.2:7", 0),
        Some(DropReason::ListenerClosed)
    );
    // Whoever has a flow gets another by the same socket, wherever the datagram came.
    world
        .table
        .get_mut(flow)
        .expect("it lives")
        .1
        .state
        .refuse();
    let mut seek = Seek::new(key("10.0.0.1:7"), 1);
    let refused = world.step(&mut seek);
    assert!(matches!(refused, Step::End(_, FlowEnd::Refused)));
    let next = world.step(&mut seek);
    assert!(matches!(next, Step::Connect { place: 0, .. }), "{next:?}");
}

fn networks(network: &str) -> Networks {
    let document = serde_json::json!({
        "listen": {"host": "127.0.0.1", "port": 1}, "algorithm": "random", "backends": [],
        "udp_peers": [network],
    });
    let bytes = document.to_string();
    let checked = contract::check(bytes.as_bytes(), &LocalAddresses::default());
    let checked = checked.expect("it is right");
    checked.config.listeners[0].settings.udp_peers.clone()
}

#[test]
fn nothing_begins_for_a_source_that_would_answer_for_ever() {
    let mut config = config(&[ALL], 1, 9);
    config.listeners[0].settings.udp_peers = networks("198.51.100.0/24");
    let mut world = World::new(&config);
    for (client, right) in [
        ("192.0.2.1:53", Some(DropReason::FromListener)),
        ("192.0.2.2:53", None),
        ("192.0.2.1:54", None),
        ("198.51.100.7:9", Some(DropReason::FromPeer)),
        ("198.51.101.7:9", None),
    ] {
        assert_eq!(world.dropped(client, 0), right, "{client}");
    }
    // Retired, it still receives.
    world.sockets.0[0].life.retire(0);
    let rules = world.listeners.rules(world.sockets.0[0].listener);
    let reason = refuses(&world.sockets, rules, at("192.0.2.1:53"));
    assert_eq!(reason, Some(DropReason::FromListener));
}

#[test]
fn a_listener_and_the_table_have_bounds_of_their_own() {
    let mut world = World::new(&config(&[ONE, ALL], 1, 3));
    for client in 1..=3 {
        let (_, ends) = world.begin(&format!("10.0.0.{client}:7"), 0);
        assert_eq!(ends, []);
    }
    let evicted = [FlowEnd::Evicted];
    assert_eq!(world.begin("10.0.0.4:7", 0).1, evicted, "of the listener");
    assert_eq!(world.begin("10.0.0.5:7", 1).1, []);
    assert_eq!(world.table.len(), MOST);
    assert_eq!(world.begin("10.0.0.6:7", 1).1, evicted, "of all");
    assert_eq!(world.table.len(), MOST);
    // What a removed listener has takes no place of the others.
    let mut world = World::new(&config(&[ONE, ALL], 1, 9));
    (1..=4).for_each(|client| drop(world.begin(&format!("10.0.0.{client}:7"), 0)));
    world.reload(&config(&[ALL], 1, 9));
    assert_eq!(world.begin("10.0.0.5:7", 1).1, []);
    assert_eq!(world.table.len(), MOST + 1);
}

#[test]
fn where_descriptors_are_short_one_flow_makes_room_once() {
    let mut world = World::new(&config(&[ALL], 2, 9));
    let (flow, _) = world.begin("10.0.0.1:7", 0);
    let mut seek = Seek::new(key("10.0.0.2:7"), 0);
    let Step::Connect { placement, .. } = world.step(&mut seek) else {
        panic!("there is a backend");
    };
    seek.could_not_connect(Unconnected::Shortage);
    let evicted = world.step(&mut seek);
    assert!(matches!(evicted, Step::End(index, FlowEnd::Evicted) if index == flow));
    let again = world.step(&mut seek);
    let same = placement.backend.addr;
    assert!(
        matches!(&again, Step::Connect { placement, .. } if placement.backend.addr == same),
        "{again:?}"
    );
    world.begin("10.0.0.3:7", 0);
    seek.could_not_connect(Unconnected::Shortage);
    let dropped = world.step(&mut seek);
    assert!(matches!(dropped, Step::Drop(DropReason::NoRoom)));
    assert_eq!(world.table.len(), 1);
}

#[test]
fn as_many_backends_are_tried_as_the_pool_allows_each_once() {
    let mut world = World::new(&config(&[ALL], 5, 9));
    let mut seek = Seek::new(key("10.0.0.1:7"), 0);
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let Step::Connect { placement, .. } = world.step(&mut seek) else {
            panic!("it may try another");
        };
        assert!(!tried.contains(&placement.backend.addr));
        tried.push(placement.backend.addr);
        seek.could_not_connect(Unconnected::Refused);
    }
    let dropped = world.step(&mut seek);
    assert!(matches!(dropped, Step::Drop(DropReason::NoBackend)));
    // With one alone, that may be back by now.
    let mut world = World::new(&config(&[ALL], 1, 9));
    let mut seek = Seek::new(key("10.0.0.1:7"), 0);
    for _ in 0..ATTEMPTS {
        assert!(matches!(world.step(&mut seek), Step::Connect { .. }));
        seek.could_not_connect(Unconnected::Refused);
    }
    assert!(matches!(world.step(&mut seek), Step::Drop(_)));
    // And none where the pool has none.
    let mut world = World::new(&config(&[ALL], 0, 9));
    assert_eq!(world.dropped("10.0.0.1:7", 0), Some(DropReason::NoBackend));
}

#[test]
fn datagrams_that_are_refused_while_they_are_sent_go_to_another_backend() {
    let mut world = World::new(&config(&[ALL], 3, 9));
    let (index, _) = world.begin("10.0.0.1:7", 0);
    let mut seek = Seek::new(key("10.0.0.1:7"), 0);
    assert!(matches!(world.step(&mut seek), Step::Send(_)));
    let (_, flow) = world.table.get_mut(index).expect("it lives");
    let first = flow.state.backend().addr;
    assert_eq!(seek.refused(flow, &world.snapshot), None);
    assert!(matches!(
        world.step(&mut seek),
        Step::End(_, FlowEnd::Refused)
    ));
    let next = world.step(&mut seek);
    assert!(
        matches!(&next, Step::Connect { placement, .. } if placement.backend.addr != first),
        "{next:?}"
    );
    // The second refusal is one too many.
    let (index, _) = world.begin("10.0.0.2:7", 0);
    let (_, flow) = world.table.get_mut(index).expect("it lives");
    let last = seek.refused(flow, &world.snapshot);
    assert_eq!(last, Some(DropReason::NoBackend));
}
