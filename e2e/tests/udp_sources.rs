//! Datagrams that are no client's: of our own listeners, whose answer would be the next request, and of
//! the networks of `udp_peers`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use e2e::datagrams::send_as;
use e2e::proxy_bench::{ProxyBench, configuration};
use serde_json::json;
use testkit::ports::{LOOPBACK, free_address, free_address_on};
use testkit::{Backend, LONG, Manner, UdpClient, until};

#[track_caller]
fn await_dropped(bench: &ProxyBench, reason: &str, count: u64) {
    until(reason, LONG, || {
        let dropped = bench.proxy.status().totals.datagrams_dropped;
        (dropped.get(reason) == Some(&count)).then_some(())
    });
    let metrics = bench.proxy.admin.metrics();
    let line = format!("reason=\"{reason}\"}} {count}");
    assert!(metrics.contains(&line), "{metrics}");
}

/// A datagram from `source`, at the port of the listener at `listen`, to `to`, which are addresses.
#[track_caller]
fn check_own_source(listen: IpAddr, source: IpAddr, to: IpAddr) {
    let case = format!("{listen}: {source} to {to}");
    let backend = Backend::start("echo", Manner::Echo);
    let listen = free_address_on(listen);
    let bench = ProxyBench::on(listen, &[backend.addr], json!({}));
    let port = listen.port();
    let to = SocketAddr::new(to, port);
    send_as((source, port).into(), to);
    await_dropped(&bench, "from_listener", 1);
    assert_eq!(backend.datagrams(), 0, "{case}");
    // The same port elsewhere is a client like any other.
    let stranger = free_address_on(Ipv4Addr::new(127, 0, 0, 9).into());
    let client = UdpSocket::bind(stranger).expect("free");
    client.set_read_timeout(Some(LONG)).expect("above zero");
    client
        .send_to(b"hello", SocketAddr::new(LOOPBACK, port))
        .ok();
    if to.is_ipv4() {
        client.recv_from(&mut [0; 64]).expect("an answer");
        assert_eq!(backend.datagrams(), 1, "{case}");
    }
    assert_eq!(
        bench.proxy.status().totals.counters.flows_total,
        backend.datagrams()
    );
}

#[test]
fn a_datagram_from_our_own_listener_goes_nowhere() {
    let other = IpAddr::from([127, 0, 0, 7]);
    let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    let v6_loopback = Ipv6Addr::LOCALHOST.into();
    check_own_source(LOOPBACK, LOOPBACK, LOOPBACK);
    // A wildcard listens on every address of this host.
    check_own_source(v4, other, LOOPBACK);
    check_own_source(v6_loopback, v6_loopback, v6_loopback);
    // There IPv4 comes as IPv6.
    check_own_source(v6, other, LOOPBACK);
}

#[test]
fn the_listeners_port_on_another_address_is_a_clients() {
    let backend = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let source = SocketAddr::new([127, 0, 0, 7].into(), bench.listen.port());
    let client = UdpSocket::bind(source).expect("only 127.0.0.1 is taken");
    client.set_read_timeout(Some(LONG)).expect("above zero");
    client.send_to(b"hello", bench.listen).expect("sent");
    client.recv_from(&mut [0; 64]).expect("an answer");
}

#[test]
fn a_retired_listener_is_one_of_ours_too() {
    let backend = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[backend.addr], json!({}));
    // Its flow keeps the listener that the reload gives up.
    let client = UdpClient::new(bench.listen);
    client.who().expect("served");
    let next = free_address();
    bench
        .proxy
        .reload(&configuration(next, &[backend.addr], json!({})));
    send_as(bench.listen, next);
    await_dropped(&bench, "from_listener", 1);
    client.who().expect("it is still there");
    assert_eq!(backend.datagrams(), 2);
}

/// From the start and from a reload on, which ends what goes round already.
#[test]
fn datagrams_of_peers_begin_no_flow() {
    let backend = Backend::start("echo", Manner::Echo);
    let peers = json!({ "udp_peers": ["::ffff:127.0.0.7/128", "127.16.0.0/12"] });
    let from = |ip: [u8; 4], to: SocketAddr| {
        let client = UdpSocket::bind((Ipv4Addr::from(ip), 0)).expect("an address of this host");
        client.set_read_timeout(Some(LONG)).expect("above zero");
        client.send_to(b"hello", to).expect("loopback takes it");
        client
    };
    let bench = ProxyBench::start(&[backend.addr], peers.clone());
    from([127, 0, 0, 7], bench.listen);
    await_dropped(&bench, "from_peer", 1);
    let client = from([127, 0, 0, 8], bench.listen);
    client.recv_from(&mut [0; 64]).expect("no peer, an answer");

    let mut bench = ProxyBench::start(&[backend.addr], json!({}));
    let before = UdpClient::new(bench.listen);
    before.who().expect("served");
    bench
        .proxy
        .reload(&configuration(bench.listen, &[backend.addr], peers));
    until("its flow has ended", LONG, || {
        (bench.flows_ended("source_refused") == 1).then_some(())
    });
    let timeout = Some(Duration::from_millis(100));
    before.socket.set_read_timeout(timeout).expect("above zero");
    before.who().expect_err("it is a peer now");
    await_dropped(&bench, "from_peer", 1);
}

/// More than the workers look at in one turn; those of others go on.
#[test]
fn a_new_entry_of_udp_peers_ends_all_flows_of_its_network_and_no_other() {
    let backend = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[backend.addr], json!({ "max_flows": 6_000 }));
    let begin = |last: u8, count: usize| -> Vec<UdpSocket> {
        let begun = (0..count).map(|_| {
            let client =
                UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).expect("of this host");
            client.set_read_timeout(Some(LONG)).expect("above zero");
            client.send_to(b"hello", bench.listen).expect("sent");
            client.recv_from(&mut [0; 64]).expect("an answer");
            client
        });
        begun.collect()
    };
    let peers = begin(7, 1_600);
    let others = begin(8, 800);
    let last_peers = begin(7, 1_600);
    let settings = json!({ "max_flows": 6_000, "udp_peers": ["127.0.0.7"] });
    let config = configuration(bench.listen, &[backend.addr], settings);
    bench.proxy.reload(&config);
    let refused = (peers.len() + last_peers.len()) as u64;
    until("all flows of peers have ended", LONG, || {
        (bench.flows_ended("source_refused") >= refused).then_some(())
    });
    let counters = bench.proxy.status().totals.counters;
    assert_eq!(counters.flows_active, others.len() as u64);
    assert_eq!(bench.flows_ended("source_refused"), refused);
}

#[test]
fn faults_of_udp_peers_are_named_with_their_places() {
    let backend = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[backend.addr], json!({}));
    let peers = json!({ "udp_peers": ["10.0.0.0/8", "10.0.0.0/33"] });
    let wrong = configuration(bench.listen, &[backend.addr], peers);
    let refused = bench.proxy.reload_refused(wrong.to_string().as_bytes());
    let refused = format!("{refused:?}");
    assert!(refused.contains("/udp_peers/1"), "{refused}");
}
