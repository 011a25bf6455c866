//! The algorithms by their names, and who takes no or fewer new sessions under them.

use std::net::{Ipv4Addr, SocketAddr};

use e2e::ALGORITHMS;
use e2e::spread::{self, Spread, Transport, assert_near, spread};
use serde_json::{Value, json};
use testkit::client::connect_from;
use testkit::ports::free_address;
use testkit::{Backend, Folder, Manner, Proxy, Session, proxy_config};

/// Backends a, b and c behind one proxy.
struct Bench {
    pool: [Backend; 3],
    proxy: Proxy,
    listen: SocketAddr,
    _folder: Folder,
}

impl Bench {
    fn start(algorithm: &str, weights: [u64; 3], change: impl Fn(&mut Value)) -> Bench {
        let pool = ["a", "b", "c"].map(|name| Backend::start(name, Manner::Echo));
        let folder = Folder::new();
        let listen = free_address();
        let backends: Vec<_> = pool
            .iter()
            .map(|backend| backend.addr)
            .zip(weights)
            .collect();
        let mut config = proxy_config(listen, &backends);
        config["algorithm"] = json!(algorithm);
        config["session_log"] = json!("failures");
        change(&mut config);
        Bench {
            proxy: Proxy::start(&folder, &config, &["-w", "1"]),
            pool,
            listen,
            _folder: folder,
        }
    }

    /// Opens sessions and keeps them all open; returns where they went.
    fn held(&self, count: usize) -> Spread {
        let open = |_| Session::open(self.listen).expect("a session is served");
        let sessions: Vec<_> = (0..count).map(open).collect();
        let mut reached = Spread::new();
        for session in &sessions {
            *reached.entry(session.backend.clone()).or_default() += 1;
        }
        reached
    }

    /// One session from each of `count` client addresses; twice, to see whether they stay.
    fn of_many_clients(&self, count: u32) -> Spread {
        let mut reached = Spread::new();
        for client in 0..count {
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 7, 0, 1)) + client);
            let [first, second] = [0, 1].map(|_| {
                let stream = connect_from(ip, self.listen).expect("it listens");
                Session::over(stream).expect("a session is served").backend
            });
            assert_eq!(first, second, "{ip} stays with its backend");
            *reached.entry(first).or_default() += 1;
        }
        reached
    }
}

#[test]
fn round_robin_takes_turns() {
    let bench = Bench::start("round_robin", [10, 30, 10], |_| {});
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 30);
    assert_eq!(reached, spread([("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn weighted_round_robin_follows_the_weights_smoothly() {
    let bench = Bench::start("weighted_round_robin", [10, 30, 20], |_| {});
    // In every round of six, not only in the long run.
    for _ in 0..5 {
        let reached = spread::in_turn(Transport::Tcp, bench.listen, 6);
        assert_eq!(reached, spread([("a", 1), ("b", 3), ("c", 2)]));
    }
}

#[test]
fn least_connections_counts_what_is_open() {
    let bench = Bench::start("least_connections", [10, 30, 20], |_| {});
    assert_eq!(bench.held(30), spread([("a", 10), ("b", 10), ("c", 10)]));
    let bench = Bench::start("weighted_least_connections", [10, 30, 20], |_| {});
    assert_eq!(bench.held(30), spread([("a", 5), ("b", 15), ("c", 10)]));
}

#[test]
fn random_and_power_of_two_follow_the_weights() {
    // 1,200 draws: the standard deviation of the smallest share, 200, is 13.
    const COUNT: u64 = 1200;
    let shares = [("a", 1.0 / 6.0), ("b", 3.0 / 6.0), ("c", 2.0 / 6.0)];
    let bench = Bench::start("random", [10, 30, 20], |_| {});
    let reached = spread::in_turn(Transport::Tcp, bench.listen, COUNT);
    assert_near(&reached, &shares, COUNT, 0.4);
    let bench = Bench::start("power_of_two", [10, 30, 20], |_| {});
    let reached = bench.held(300);
    assert_near(&reached, &shares, 300, 0.3);
}

#[test]
fn gpu_aware_and_peak_ewma_follow_the_weights() {
    let bench = Bench::start("gpu_aware", [10, 30, 20], |_| {});
    assert_eq!(bench.held(30), spread([("a", 5), ("b", 15), ("c", 10)]));
    const COUNT: u64 = 1200;
    // Two that differ are drawn by weight, and equals win half of their draws.
    let shares = [("a", 0.208), ("b", 0.425), ("c", 0.367)];
    let bench = Bench::start("peak_ewma", [10, 30, 20], |_| {});
    let reached = spread::in_turn(Transport::Tcp, bench.listen, COUNT);
    assert_near(&reached, &shares, COUNT, 0.25);
}

#[test]
fn source_hash_keeps_a_client_with_its_backend_and_follows_the_weights() {
    const CLIENTS: u32 = 400;
    let bench = Bench::start("source_hash", [10, 30, 20], |_| {});
    let reached = bench.of_many_clients(CLIENTS);
    let shares = [("a", 1.0 / 6.0), ("b", 3.0 / 6.0), ("c", 2.0 / 6.0)];
    assert_near(&reached, &shares, u64::from(CLIENTS), 0.5);
}

#[test]
fn under_every_algorithm_disabled_and_weight_0_take_nobody() {
    for algorithm in ALGORITHMS {
        let bench = Bench::start(algorithm, [10, 30, 0], |config| {
            config["backends"][1]["enabled"] = json!(false);
        });
        for transport in Transport::BOTH {
            let reached = spread::in_turn(transport, bench.listen, 20);
            assert_eq!(reached, spread([("a", 20)]), "{algorithm}, {transport:?}");
        }
        assert_eq!(bench.proxy.status().algorithm, algorithm);
        let effective = |at: usize| bench.proxy.backend(bench.pool[at].addr).weight_effective;
        assert!(effective(0) > 0, "{algorithm}");
        assert_eq!((effective(1), effective(2)), (0, 0), "{algorithm}");
    }
}

#[test]
fn a_warming_backend_gets_a_tenth_of_its_weight_or_nothing() {
    let warming = |config: &mut Value| config["backends"][1]["is_warming_up"] = json!(true);
    // A tenth of 30 is 3, a tenth of 25 is 2.5 and counts as 3.
    for weight in [30, 25] {
        let bench = Bench::start("weighted_round_robin", [10, weight, 0], warming);
        let reached = spread::in_turn(Transport::Tcp, bench.listen, 26);
        assert_eq!(reached, spread([("a", 20), ("b", 6)]), "{weight}");
        assert_eq!(bench.proxy.backend(bench.pool[1].addr).weight_effective, 3);
    }
    let bench = Bench::start("weighted_round_robin", [10, 30, 0], |config| {
        warming(config);
        config["warming_share"] = json!("none");
    });
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 20);
    assert_eq!(reached, spread([("a", 20)]));
}
