//! Invariant 1: a reload never touches what is open, and keeps all balancing state.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use e2e::ALGORITHMS;
use e2e::sessions::{assert_alive, open_sessions, weights};
use e2e::traffic::Traffic;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::{
    Backend, Folder, LONG, Manner, Proxy, UdpClient, proxy_config, until, without_probes,
};

/// The change that one of 200 reloads makes: of pool, weight, algorithm or listen address.
struct Changes {
    duplex: [Backend; 4],
    listens: [SocketAddr; 3],
    round: usize,
    listen: usize,
    algorithm: usize,
    weight: u64,
    in_pool: usize,
}

impl Changes {
    fn next(&mut self) -> Value {
        match self.round % 4 {
            0 => self.in_pool = 2 + (self.in_pool - 1) % 3,
            1 => self.weight = 1 + self.weight % 50,
            2 => self.algorithm = (self.algorithm + 1) % ALGORITHMS.len(),
            _ => self.listen = (self.listen + 1) % self.listens.len(),
        }
        self.round += 1;
        self.config()
    }

    fn config(&self) -> Value {
        let pool: Vec<_> = self.duplex.iter().take(self.in_pool).collect();
        let mut backends = weights(&pool, 10);
        backends[0].1 = self.weight;
        let mut config = proxy_config(self.listens[self.listen], &backends);
        config["algorithm"] = json!(ALGORITHMS[self.algorithm]);
        config["session_log"] = json!("failures");
        config
    }
}

#[test]
fn two_hundred_reloads_under_traffic_fail_no_session_and_cut_none() {
    let keeper = Backend::start("keeper", Manner::Echo);
    let listen = free_address();
    let folder = Folder::new();
    let first = proxy_config(listen, &[(keeper.addr, 10)]);
    let mut proxy = Proxy::start(&folder, &first, &["-w", "2"]);
    // Open before all of them, to a backend that the first reload removes.
    let mut open = open_sessions(listen, 30);

    let mut changes = Changes {
        duplex: ["a", "b", "c", "d"].map(|name| Backend::start(name, Manner::Duplex)),
        listens: [listen, free_address(), free_address()],
        round: 0,
        listen: 0,
        algorithm: 0,
        weight: 1,
        in_pool: 4,
    };
    proxy.reload(&changes.config());
    let traffic = Traffic::start(listen, 2);
    for _ in 0..200 {
        let before = changes.listen;
        let config = changes.next();
        let after = changes.listens[changes.listen];
        if changes.listen == before {
            proxy.reload(&config);
        } else {
            traffic.move_to(after, || {
                proxy.reload(&config);
            });
        }
    }
    traffic.await_sessions(20);
    traffic.stop_without_failure();

    assert_alive(&mut open);
    let status = proxy.status();
    assert_eq!((status.reloads_ok, status.reloads_refused), (201, 0));
    assert_eq!(status.totals.counters.sessions_active, 30);
    assert!(proxy.program.is_running());
    drop(open);
    proxy.await_no_sessions();
    proxy
        .program
        .wait_for_line("reload config success generation=202 backends=");
}

#[test]
fn sessions_in_flight_are_counted_through_reloads_and_still_balance() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let mut config = proxy_config(listen, &weights(&[&a], 10));
    config["algorithm"] = json!("least_connections");
    let mut proxy = Proxy::start(&folder, &config, &["-w", "2"]);
    let old = open_sessions(listen, 12);
    assert_eq!(proxy.backend(a.addr).counters.sessions_active, 12);

    for port in [1, 2, 3] {
        let mut config = config.clone();
        config["idle_timeout_ms"] = json!(600_000 + port);
        proxy.reload(&config);
    }
    let mut both = proxy_config(listen, &weights(&[&a, &b], 10));
    both["algorithm"] = json!("least_connections");
    proxy.reload(&both);
    assert_eq!(proxy.backend(a.addr).counters.sessions_active, 12);
    // As long as a has more in flight, b is the one with least.
    let new = open_sessions(listen, 12);
    assert!(new.iter().all(|session| session.backend == "b"));

    proxy.reload(&proxy_config(listen, &weights(&[&b], 10)));
    let removed = proxy.backend(a.addr);
    assert_eq!(removed.counters.sessions_active, 12);
    assert!(!removed.configured);
    drop((old, new));
    proxy.await_no_sessions();
    until("the removed backend is forgotten", LONG, || {
        let rows = proxy.status().backends;
        (rows.len() == 1).then_some(())
    });
}

#[test]
fn a_flow_keeps_its_upstream_port_through_reloads() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let mut proxy = Proxy::start(&folder, &proxy_config(listen, &weights(&[&a], 10)), &[]);
    let clients: Vec<_> = (0..20).map(|_| UdpClient::new(listen)).collect();
    let asked = |client: &UdpClient| client.who().expect("a flow is served");
    let before: Vec<_> = clients.iter().map(asked).collect();
    for algorithm in ALGORITHMS {
        let mut config = proxy_config(listen, &[(a.addr, 7), (b.addr, 1000)]);
        config["algorithm"] = json!(algorithm);
        proxy.reload(&config);
        let after: Vec<_> = clients.iter().map(asked).collect();
        assert_eq!(before, after, "{algorithm}");
    }
    assert_eq!(proxy.status().totals.counters.flows_total, 20);
}

#[test]
fn a_flow_stays_at_weight_0() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let mut proxy = Proxy::start(&folder, &proxy_config(listen, &weights(&[&a], 10)), &[]);
    let client = UdpClient::new(listen);
    let before = client.who().expect("a flow is served");
    proxy.reload(&proxy_config(listen, &[(a.addr, 0), (b.addr, 10)]));
    assert_eq!(client.who().expect("a flow is served"), before);
    let new = UdpClient::new(listen).who().expect("a flow is served");
    assert_eq!(new.backend, "b", "a new flow");
}

#[test]
fn a_thousand_hang_ups_leave_one_process_and_the_last_configuration() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    // So many that a reload takes longer than what lies between two signals.
    let idle = (1..=300).map(|port| (SocketAddr::from(([192, 0, 2, 1], port)), 0));
    let backends: Vec<_> = { weights(&[&a], 10).into_iter() }.chain(idle).collect();
    let config = without_probes(proxy_config(listen, &backends));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let mut open = open_sessions(listen, 3);
    const HANG_UPS: u64 = 1000;
    for number in 0..HANG_UPS {
        // Every tenth with a new file, the last one amid a reload of the one before.
        if number % 10 == 9 {
            let bytes = testkit::proxy::numbered(&config, 2 + number);
            proxy.publish(bytes.to_string().as_bytes());
        }
        proxy.program.signal(Signal::HUP);
    }
    let last = HANG_UPS + 1;
    let running = proxy
        .admin
        .generation(last, std::time::Duration::from_secs(1));
    assert_eq!(running.generation, last, "within a second of the last one");
    assert_eq!(running.pid, proxy.program.pid());
    assert_alive(&mut open);
    let pid = proxy.program.pid();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let children: BTreeSet<String> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .filter(|children| !children.trim().is_empty())
        .collect();
    assert_eq!(children, BTreeSet::new(), "processes of the proxy's own");
}
