//! A changed listen address: the new one is bound before the old one is closed, what waits at the old
//! one or is on its way there is served, and flows go on.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use contract::RefusalCode;
use e2e::far_proxy::FarProxy;
use e2e::sessions::{assert_alive, open_sessions, weights};
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::host::Host;
use testkit::ports::{free_address, free_address_on};
use testkit::proxy::numbered;
use testkit::{
    Backend, Folder, LONG, Manner, Proxy, Session, UdpClient, proxy_config, skipped, until,
    without_probes,
};

#[test]
fn a_new_listen_address_serves_what_waited_at_the_old_one() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let old = free_address();
    let mut proxy = Proxy::start(&folder, &proxy_config(old, &weights(&[&a], 10)), &[]);
    let mut open = open_sessions(old, 5);
    let flow = UdpClient::new(old);
    let before = flow.who().expect("a flow is served");

    // Stopped, it accepts nobody, so that these wait in the queue of a listener that it will close.
    proxy.program.signal(Signal::STOP);
    let waiting: Vec<_> = (0..20)
        .map(|_| connect(old).expect("the kernel answers"))
        .collect();
    let new = free_address();
    let config = proxy_config(new, &weights(&[&a], 10));
    proxy.publish(numbered(&config, 2).to_string().as_bytes());
    proxy.program.signal(Signal::HUP);
    proxy.program.signal(Signal::CONT);
    until("generation 2 runs", LONG, || {
        (proxy.status().running.generation == 2).then_some(())
    });

    for (index, stream) in waiting.into_iter().enumerate() {
        let session = Session::over(stream);
        let mut session = session.unwrap_or_else(|error| panic!("waiting {index}: {error}"));
        session.echo(b"served").expect("served to the end");
    }
    assert_alive(&mut open);
    assert_eq!(flow.who().expect("the flow lives"), before);
    assert_eq!(Transport::Tcp.ask(new), "a");
    assert_eq!(Transport::Udp.ask(new), "a");
    until("the old listener is closed", LONG, || connect(old).err());
    let listeners = proxy.status().running.listeners;
    assert_eq!(listeners.len(), 1);
    assert_eq!(listeners[0].addr, new);
}

/// A handshake takes as long as the network does; here, until the proxy's host says its part again
/// (after a second, RFC 6298), since the first time is lost.
#[test]
fn a_client_on_its_way_to_the_old_address_is_served_there() {
    const SAID_AGAIN: Duration = Duration::from_secs(1);
    const ATTEMPTS: usize = 5;
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let a = Backend::start_at(free_address_on(host.here), "a", Manner::Echo);
    let [mut old, mut new] = [9_000, 9_001].map(|port| SocketAddr::new(host.addr, port));
    let mut far = FarProxy::start(host, old, &[a.addr], without_probes(json!({})));
    for _ in 0..ATTEMPTS {
        far.host.lose_answers();
        let begun = Instant::now();
        let client = thread::spawn(move || Session::open(old));
        until("it is on its way", LONG, || {
            (far.host.half_open_connects() > 0).then_some(())
        });
        // The old listener stays for hardly longer than this takes, so the reload comes in its middle.
        thread::sleep((SAID_AGAIN / 2).saturating_sub(begun.elapsed()));
        let config = proxy_config(new, &weights(&[&a], 10));
        far.proxy.reload(&without_probes(config));
        far.host.let_answers_through();
        let in_time = begun.elapsed() < SAID_AGAIN;
        let served = client.join().expect("no panic");
        if in_time {
            let mut session = served.expect("it is served");
            return session.echo(b"served").expect("served to the end");
        }
        // This machine was too slow for that to say anything.
        (old, new) = (new, old);
    }
    panic!("too slow in {ATTEMPTS} attempts");
}

/// Two that share the address would share its clients, and those of the old one would be reset when it
/// closes.
#[test]
fn an_address_that_comes_back_at_once_is_served_by_the_same_listener() {
    const ATTEMPTS: usize = 5;
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [old, other] = [free_address(), free_address()];
    let config = |listen| proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config(old), &["-w", "2"]);
    for _ in 0..ATTEMPTS {
        let before = listening(old);
        assert_eq!(before.len(), 2, "one a worker");
        let given_up = Instant::now();
        proxy.reload(&config(other));
        proxy.reload(&config(old));
        let after = listening(old);
        if given_up.elapsed() < Duration::from_secs(1) {
            assert_eq!(after, before);
            until("the other one is closed", LONG, || connect(other).err());
            assert_eq!(listening(old), before);
            return assert_eq!(Transport::Tcp.ask(old), "a");
        }
        // This machine was too slow for that to say anything.
    }
    panic!("too slow in {ATTEMPTS} attempts");
}

#[test]
fn an_address_that_a_backend_takes_over_is_given_up_at_once() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [old, new] = [free_address(), free_address()];
    let first = proxy_config(old, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &first, &[]);
    assert_eq!(Transport::Tcp.ask(old), "a");
    // The proxy is put before what is to listen where it has listened itself.
    proxy.reload(&proxy_config(new, &[(old, 10)]));
    for _ in 0..20 {
        drop(connect(new));
    }
    proxy.await_no_sessions();
    until("the old address is free", LONG, || connect(old).err());
    let counters = &proxy.backend(old).counters;
    // A session that came back to us would have been many.
    assert!(counters.sessions_total <= 21, "{counters:?}");
}

/// The inode of each socket that listens on `addr`, of IPv4 (proc_net_tcp.rst of the kernel).
fn listening(addr: SocketAddr) -> BTreeSet<String> {
    const LISTEN: &str = "0A";
    let SocketAddr::V4(addr) = addr else {
        panic!("{addr} is not of IPv4");
    };
    let ip = u32::from_ne_bytes(addr.ip().octets());
    let local = format!("{ip:08X}:{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let inode = |row: &str| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        (fields[1] == local && fields[3] == LISTEN).then(|| fields[9].to_string())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[test]
fn the_same_port_can_change_its_address_back_and_forth() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let one = free_address();
    let all = SocketAddr::from(([0, 0, 0, 0], one.port()));
    let config = |listen| proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config(one), &[]);
    let mut open = open_sessions(one, 3);
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], one.port()));
    for _ in 0..3 {
        proxy.reload(&config(all));
        assert_eq!(Transport::Tcp.ask(elsewhere), "a");
        assert_eq!(Transport::Udp.ask(elsewhere), "a");
        proxy.reload(&config(one));
        until("the wider one is closed", LONG, || connect(elsewhere).err());
        for transport in Transport::BOTH {
            assert_eq!(transport.ask(one), "a");
        }
        assert_alive(&mut open);
    }
}

#[test]
fn one_protocol_can_be_switched_off_and_on() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let config = |tcp: bool, udp: bool| {
        let mut config = proxy_config(listen, &weights(&[&a], 10));
        config["listen"]["tcp"] = json!(tcp);
        config["listen"]["udp"] = json!(udp);
        config
    };
    let mut proxy = Proxy::start(&folder, &config(true, true), &[]);
    let mut open = open_sessions(listen, 3);
    proxy.reload(&config(false, true));
    until("TCP is closed", LONG, || connect(listen).err());
    assert_eq!(Transport::Udp.ask(listen), "a");
    assert_alive(&mut open);
    proxy.reload(&config(true, false));
    assert_eq!(Transport::Tcp.ask(listen), "a");
    proxy.reload(&config(true, true));
    for transport in Transport::BOTH {
        assert_eq!(transport.ask(listen), "a");
    }
    assert_alive(&mut open);
}

/// The new address is taken for one of the two protocols.
fn check_taken(new: SocketAddr, what: &str) {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let old = free_address();
    let config = |listen| -> Value { proxy_config(listen, &weights(&[&a], 10)) };
    let mut proxy = Proxy::start(&folder, &config(old), &[]);
    proxy.reload(&config(new));
    let value = format!("{new}/{what}");
    proxy.await_refusals(&[(RefusalCode::AddressInUse, "/listen", &value)]);
    for transport in Transport::BOTH {
        assert_eq!(transport.ask(old), "a", "{what}");
    }
    let listeners = proxy.status().running.listeners;
    assert_eq!(listeners.len(), 1, "{what}: {listeners:?}");
}

#[test]
fn an_address_that_is_taken_for_one_protocol_is_left_to_the_other() {
    let tcp = TcpListener::bind(free_address()).expect("free");
    let addr = tcp.local_addr().expect("bound");
    check_taken(addr, "tcp");
    UdpSocket::bind(addr).expect("UDP was let go");
    let udp = UdpSocket::bind(free_address()).expect("free");
    let addr = udp.local_addr().expect("bound");
    check_taken(addr, "udp");
    TcpListener::bind(addr).expect("TCP was let go");
}

#[test]
fn ipv6_is_served_too() {
    let backend = Backend::start("four", Manner::Echo);
    let folder = Folder::new();
    let listen = SocketAddr::new("::1".parse().expect("a literal"), free_address().port());
    let proxy = Proxy::start(
        &folder,
        &proxy_config(listen, &weights(&[&backend], 10)),
        &[],
    );
    assert_eq!(Transport::Tcp.ask(listen), "four");
    assert_eq!(proxy.status().running.listeners[0].addr, listen);
}

#[test]
fn a_hang_up_in_a_drain_opens_nothing_again() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let config = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let mut open = open_sessions(listen, 1);
    proxy.program.signal(Signal::TERM);
    until("it drains", LONG, || connect(listen).err());
    let other = free_address();
    proxy.publish(
        numbered(&proxy_config(other, &[]), 2)
            .to_string()
            .as_bytes(),
    );
    proxy.program.signal(Signal::HUP);
    assert_alive(&mut open);
    assert!(proxy.status().draining);
    for closed in [listen, other] {
        connect(closed).expect_err("nobody is accepted in a drain");
    }
    drop(open);
    assert_eq!(proxy.program.wait_exit(LONG).code(), Some(0));
}
