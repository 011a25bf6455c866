//! UDP: datagrams arrive byte-identical, replies come from the address that was asked, flows are
//! bounded, and move when they must.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use e2e::spread::{self, Transport, spread};
use serde_json::json;
use testkit::client::Who;
use testkit::pattern::Pattern;
use testkit::ports::{LOOPBACK, free_address_on};
use testkit::{Backend, LONG, Manner, Session, UdpClient, until};

fn echoing(name: &str) -> Backend {
    Backend::start(name, Manner::Echo)
}

/// Asks until there is an answer: an ICMP error costs the datagram that has caused it.
fn who_at_last(client: &UdpClient) -> Who {
    client
        .socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a time-out above zero");
    until("a flow is served again", LONG, || client.who().ok())
}

#[test]
fn datagrams_of_every_size_come_back_byte_identical() {
    let backend = echoing("echo");
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let client = UdpClient::new(bench.listen);
    for length in [0, 1, 2, 1471, 1472, 1473, 8192, 16_385, 65_506, 65_507, 0] {
        for seed in 0..3 {
            let bytes = Pattern::bytes(seed, length);
            let back = client.exchange(&bytes);
            let back = back.unwrap_or_else(|error| panic!("{length}: {error}"));
            assert!(back == bytes, "{length}: {} bytes came back", back.len());
        }
    }
    let counters = bench.proxy.backend(backend.addr).counters;
    assert_eq!(counters.flows_total, 1);
    assert_eq!(counters.bytes_up, counters.bytes_down);
}

#[test]
fn a_burst_of_mixed_sizes_keeps_its_boundaries_and_order() {
    let backend = echoing("echo");
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let client = UdpClient::new(bench.listen);
    // Runs of equal sizes with a shorter one between: what segmentation offload would merge.
    let sizes = [1200, 1200, 1200, 300, 1200, 1200, 1, 0, 1200, 700, 700, 700];
    for round in 0..10 {
        let seed = |index: usize| round * 100 + index as u64;
        for (index, size) in sizes.into_iter().enumerate() {
            let bytes = Pattern::bytes(seed(index), size);
            client.socket.send(&bytes).expect("loopback takes it");
        }
        for (index, size) in sizes.into_iter().enumerate() {
            let back = client.receive().expect("loopback loses none");
            assert!(
                back == Pattern::bytes(seed(index), size),
                "{round}, {index}"
            );
        }
    }
}

#[test]
fn many_clients_get_their_own_answers() {
    let pool = ["a", "b"].map(echoing);
    let bench = ProxyBench::start(&pool.each_ref().map(|backend| backend.addr), json!({}));
    let clients: Vec<_> = (0..200).map(|_| UdpClient::new(bench.listen)).collect();
    let mut upstreams = std::collections::HashSet::new();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let bytes = Pattern::bytes(round * 1000 + number as u64, 100);
            assert!(client.exchange(&bytes).expect("served") == bytes);
        }
    }
    for client in &clients {
        upstreams.insert(client.who().expect("served").upstream);
    }
    assert_eq!(upstreams.len(), 200, "a socket a flow");
    let counters = bench.proxy.status().totals.counters;
    assert_eq!((counters.flows_active, counters.flows_total), (200, 200));
}

#[test]
fn a_reply_comes_from_the_address_that_was_asked() {
    let backend = echoing("echo");
    let listen = free_address_on([0, 0, 0, 0].into());
    let bench = ProxyBench::on(listen, &[backend.addr], json!({}));
    for last in 1..=5 {
        let asked = SocketAddr::from(([127, 0, 0, last], bench.listen.port()));
        // Not connected, so that an answer from anywhere arrives.
        let client = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
        client.set_read_timeout(Some(LONG)).expect("above zero");
        client.send_to(b"hello", asked).expect("loopback takes it");
        let mut buffer = [0; 100];
        let (length, from) = client.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..length], from), (&b"hello"[..], asked));
    }
}

#[test]
fn a_silent_flow_ends_and_the_next_datagram_begins_a_new_one() {
    let backend = echoing("echo");
    let mut bench = ProxyBench::start(&[backend.addr], json!({ "udp_idle_ms": 300 }));
    let client = UdpClient::new(bench.listen);
    let before = client.who().expect("served");
    until("the flow ends", LONG, || {
        (bench.proxy.status().totals.counters.flows_active == 0).then_some(())
    });
    assert_eq!(bench.flows_ended("idle"), 1);
    bench.proxy.program.wait_for_line("idle");
    let after = client.who().expect("served");
    assert_ne!(before.upstream, after.upstream);
}

#[test]
fn a_flow_moves_when_its_backend_is_refused() {
    let [a, b] = ["a", "b"].map(echoing);
    let bench = ProxyBench::start(&[a.addr, b.addr], json!({}));
    let clients: Vec<_> = (0..10).map(|_| UdpClient::new(bench.listen)).collect();
    let before: Vec<_> = clients
        .iter()
        .map(|client| client.who().expect("served"))
        .collect();
    assert!(before.iter().any(|who| who.backend == "a"));
    drop(a);
    for (client, before) in clients.iter().zip(before) {
        let after = who_at_last(client);
        match before.backend.as_str() {
            "a" => assert_eq!(after.backend, "b"),
            _ => assert_eq!(after, before),
        }
    }
    assert!(bench.flows_ended("refused") > 0);
}

#[test]
fn a_third_partys_datagram_is_not_forwarded() {
    let backend = echoing("echo");
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let client = UdpClient::new(bench.listen);
    let upstream = client.who().expect("served").upstream;
    let stranger = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
    for _ in 0..5 {
        let sent = stranger.send_to(b"forged", upstream);
        sent.expect("loopback takes it");
    }
    // Forwarded, it would stand before this answer.
    assert_eq!(client.exchange(b"mine").expect("served"), b"mine");
    backend.send_datagram(b"not asked for", upstream);
    assert_eq!(client.receive().expect("forwarded"), b"not asked for");
}

#[test]
fn the_table_is_bounded_and_eviction_is_counted_while_tcp_is_unharmed() {
    const MOST: u64 = 50;
    let backend = echoing("echo");
    let bench = ProxyBench::start(&[backend.addr], json!({ "max_flows": MOST }));
    let mut session = Session::open(bench.listen).expect("a session is served");
    let clients: Vec<_> = (0..200).map(|_| UdpClient::new(bench.listen)).collect();
    for client in &clients {
        client.who().expect("served");
    }
    let status = bench.proxy.status();
    assert_eq!(status.limits.max_flows, MOST);
    let counters = &status.totals.counters;
    assert!(counters.flows_active <= MOST, "{}", counters.flows_active);
    assert_eq!(counters.flows_total, 200);
    let evicted = bench.flows_ended("evicted");
    assert!(evicted >= 200 - MOST, "{evicted} evicted");
    assert!(bench.proxy.program.open_descriptors() < 200);
    session.echo(b"unharmed").expect("the session lives");
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 10);
    assert_eq!(reached, spread([("echo", 10)]));
    // Who was evicted is served again.
    clients[0].who().expect("served");
}

#[test]
fn without_backends_a_datagram_is_dropped_and_counted() {
    let bench = ProxyBench::start(&[], json!({}));
    let client = UdpClient::new(bench.listen);
    client.socket.send(b"anyone?").expect("loopback takes it");
    until("the drop is counted", LONG, || {
        let dropped = bench.proxy.status().totals.datagrams_dropped;
        (dropped.get("no_backend") == Some(&1)).then_some(())
    });
    client.socket.set_nonblocking(true).expect("a socket");
    let none = client.receive().expect_err("nobody answers");
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
}
