//! Round robin over all workers: whoever keeps a few connections open has them spread evenly, whichever
//! worker the kernel gives each to.

use std::any::Any;
use std::net::SocketAddr;

use e2e::spread::{Spread, Transport, spread};
use serde_json::json;
use testkit::ports::free_address;
use testkit::{Backend, Folder, Manner, Proxy, Session, UdpClient, proxy_config};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROUNDS: usize = 25;
const KEPT: usize = 8;

/// Opens [`KEPT`] sessions or flows at the same time. Returns where they went, and what keeps them open.
fn keep(transport: Transport, listen: SocketAddr) -> (Spread, Vec<Box<dyn Any + Send>>) {
    let open = || -> (String, Box<dyn Any + Send>) {
        match transport {
            Transport::Tcp => {
                let session = Session::open(listen).expect("a session is served");
                (session.backend.clone(), Box::new(session))
            }
            Transport::Udp => {
                let client = UdpClient::new(listen);
                let backend = client.who().expect("a flow is served").backend;
                (backend, Box::new(client))
            }
        }
    };
    let (mut reached, mut kept) = (Spread::new(), Vec::new());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..KEPT).map(|_| scope.spawn(open)).collect();
        for client in clients {
            let (backend, open) = client.join().expect("each is served");
            *reached.entry(backend).or_default() += 1;
            kept.push(open);
        }
    });
    (reached, kept)
}

/// Every one of [`ROUNDS`] is even. After each second round come three reloads: one that
/// changes nothing, one that takes a backend out, and one that brings it back.
fn check(algorithm: &str, workers: usize, transport: Transport) {
    let pool = NAMES.map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let listed = pool.each_ref().map(|backend| (backend.addr, 7));
    let mut config = proxy_config(listen, &listed);
    config["algorithm"] = json!(algorithm);
    config["slow_start_ms"] = json!(0);
    let mut proxy = Proxy::start(&folder, &config, &["-w", &workers.to_string()]);
    for round in 0..ROUNDS {
        let (reached, kept) = keep(transport, listen);
        assert_eq!(
            reached,
            spread(NAMES.map(|name| (name, 2))),
            "{algorithm}, {workers} workers, {transport:?}, round {round}"
        );
        if round % 2 == 1 {
            proxy.reload(&config);
            let mut fewer = config.clone();
            fewer["backends"][round / 2 % NAMES.len()]["enabled"] = json!(false);
            proxy.reload(&fewer);
            proxy.reload(&config);
        }
        drop(kept);
    }
}

#[test]
fn kept_sessions_are_even_over_any_number_of_workers() {
    for workers in [1, 2, 4] {
        check("round_robin", workers, Transport::Tcp);
        check("weighted_round_robin", workers, Transport::Tcp);
    }
}

#[test]
fn kept_flows_are_even_over_any_number_of_workers() {
    for workers in [1, 2, 4] {
        check("round_robin", workers, Transport::Udp);
        check("weighted_round_robin", workers, Transport::Udp);
    }
}
