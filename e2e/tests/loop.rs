//! The loop closes: traffic follows the weights of the file, and a weight that an operator changes
//! by the API is what new sessions follow, with nothing restarted and nothing lost.

use std::net::SocketAddr;

use e2e::loop_bench::published;
use e2e::spread::{self, Transport, assert_near, spread};
use e2e::traffic::Traffic;
use serde_json::json;
use testkit::ports::free_address;
use testkit::{Backend, Control, Folder, LONG, Manner, Proxy, proxy_config, until};

/// Backends a, b and c with weights 10, 30 and 0.
struct Pool([Backend; 3]);

impl Pool {
    fn start(manner: Manner) -> Pool {
        Pool(["a", "b", "c"].map(|name| Backend::start(name, manner)))
    }

    fn weights(&self) -> Vec<(SocketAddr, u64)> {
        let addresses = self.0.iter().map(|backend| backend.addr);
        addresses.zip([10, 30, 0]).collect()
    }
}

fn one_worker_splits_40_exactly(transport: Transport) {
    let pool = Pool::start(Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let config = proxy_config(listen, &pool.weights());
    let _proxy = Proxy::start(&folder, &config, &["-w", "1"]);
    let split = spread::in_turn(transport, listen, 40);
    assert_eq!(split, spread([("a", 10), ("b", 30)]));
}

#[test]
fn one_worker_splits_40_sessions_exactly_10_and_30() {
    one_worker_splits_40_exactly(Transport::Tcp);
}

#[test]
fn one_worker_splits_40_flows_exactly_10_and_30() {
    one_worker_splits_40_exactly(Transport::Udp);
}

fn two_workers_split_4000_within_2_percent(transport: Transport) {
    const COUNT: u64 = 4000;
    let pool = Pool::start(Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let mut config = proxy_config(listen, &pool.weights());
    config["max_flows"] = json!(COUNT + 100);
    config["session_log"] = json!("failures");
    let proxy = Proxy::start(&folder, &config, &["-w", "2"]);
    let split = spread::of(transport, listen, COUNT);
    assert_near(&split, &[("a", 0.25), ("b", 0.75), ("c", 0.0)], COUNT, 0.02);
    let workers = proxy.status().workers;
    assert_eq!(workers.len(), 2);
    let shared = workers.iter().all(|worker| match transport {
        Transport::Tcp => worker.sessions_total > 0,
        Transport::Udp => worker.flows_active > 0,
    });
    assert!(shared, "one worker did it all: {workers:?}");
}

#[test]
fn two_workers_split_4000_sessions_within_2_percent() {
    two_workers_split_4000_within_2_percent(Transport::Tcp);
}

#[test]
fn two_workers_split_4000_flows_within_2_percent() {
    two_workers_split_4000_within_2_percent(Transport::Udp);
}

#[test]
fn a_weight_set_by_api_holds_for_every_session_after_applied() {
    let pool = Pool::start(Manner::Duplex);
    let [_, b, c] = &pool.0;
    let folder = Folder::new();
    let listen = free_address();
    folder.write_k8s(&pool.weights());
    let control = Control::start(&folder, listen, &json!({}));
    until("the pool is published", LONG, || published(&folder, c.addr));
    let mut proxy = Proxy::start_on(&folder, &[]);
    let pid = proxy.program.pid();
    let traffic = Traffic::start(listen, 2);
    traffic.await_sessions(20);
    assert!(b.accepted() > 0);

    for (round, (down, up)) in [(b, c), (c, b), (b, c)].into_iter().enumerate() {
        for (backend, weight) in [(up, 30), (down, 0)] {
            let (status, answer) = control.api.set_weight(backend.addr, weight);
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
        }
        for transport in Transport::BOTH {
            for _ in 0..60 {
                let reached = match transport {
                    // A duplex backend waits for a plan, which these sessions never send.
                    Transport::Tcp => testkit::Session::open(listen).expect("served").backend,
                    Transport::Udp => transport.ask(listen),
                };
                assert_ne!(reached, down.name(), "round {round}, {transport:?}");
            }
        }
        let before = up.accepted();
        traffic.await_sessions(20);
        assert!(up.accepted() > before, "{} gets sessions", up.name());
    }
    traffic.stop_without_failure();
    assert!(proxy.program.is_running());
    assert_eq!(proxy.status().running.pid, pid);
    proxy.await_no_sessions();
}
