//! A changed listen address, on the same port or another, cuts nothing off and lets nobody wait in
//! vain.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use e2e::sessions::{assert_alive, open_sessions, weights};
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::json;
use testkit::client::connect;
use testkit::ports::free_address;
use testkit::{Backend, Folder, LONG, Manner, Proxy, Session, UdpClient, proxy_config, until};

/// Changes the host on the same port from `first` to `second`, with a flow open over it.
#[track_caller]
fn check_host_change(first: Ipv4Addr, second: Ipv4Addr) {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let pool = [(a.addr, 10), (b.addr, 10)];
    let port = free_address().port();
    let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let folder = Folder::new();
    let config = proxy_config(SocketAddr::from((first, port)), &pool);
    let mut proxy = Proxy::start(&folder, &config, &["-w", "2"]);
    let open = UdpClient::new(asked);
    let before = open.who().expect("a flow is served");

    proxy.reload(&proxy_config(SocketAddr::from((second, port)), &pool));
    for round in 0..8 {
        let new = UdpClient::new(asked).who();
        assert!(new.is_ok(), "{first} to {second}, new client {round}");
        let after = open.who().expect("the open flow is served");
        assert_eq!(after, before, "{first} to {second}");
    }
    Session::open(asked).expect("a session is served");
}

#[test]
fn a_host_change_on_the_same_port_keeps_flows_and_serves_new_clients() {
    check_host_change(Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
    check_host_change(Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST);
}

#[test]
fn a_reload_under_the_same_generation_reaches_flows_too() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let listen = free_address();
    let folder = Folder::new();
    let mut config = proxy_config(listen, &[(a.addr, 10)]);
    config["generation"] = json!(7);
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let client = UdpClient::new(listen);
    assert_eq!(client.who().expect("a flow is served").backend, "a");

    let mut edited = proxy_config(listen, &[(b.addr, 10)]);
    edited["generation"] = json!(7);
    proxy.publish(edited.to_string().as_bytes());
    proxy.program.signal(Signal::HUP);
    until("the edited file runs", LONG, || {
        (proxy.status().reloads_ok == 1).then_some(())
    });
    let new = UdpClient::new(listen);
    assert_eq!(new.who().expect("a flow is served").backend, "b");
    // The flow of a removed backend goes on while that backend answers.
    assert_eq!(client.who().expect("a flow is served").backend, "a");
    drop(a);
    until("the flow moves", LONG, || {
        let answer = client.who().ok()?;
        (answer.backend == "b").then_some(())
    });
}

#[test]
fn who_waits_at_an_old_address_for_room_is_served_and_the_address_may_come_back() {
    let a = Backend::start("a", Manner::Echo);
    let [first, second] = [free_address(), free_address()];
    let with_room_for_one = |listen| {
        let mut config = proxy_config(listen, &[(a.addr, 10)]);
        config["max_sessions"] = json!(1);
        config
    };
    let folder = Folder::new();
    let mut proxy = Proxy::start(&folder, &with_room_for_one(first), &["-w", "1"]);
    let open = Session::open(first).expect("a session is served");
    let waiting = connect(first).expect("the queue has room");

    proxy.reload(&with_room_for_one(second));
    // Longer than a retired listener serves those who come one after the other.
    std::thread::sleep(Duration::from_millis(1_500));
    proxy.reload(&with_room_for_one(first));
    open.finish().expect("an echoing backend closes in order");
    let served = Session::over(waiting).expect("it waited and is served");
    served.finish().expect("an echoing backend closes in order");
}

/// `::ffff:127.0.0.1` is `127.0.0.1`, and `::ffff:0.0.0.0` all of IPv4: two sockets for one address would
/// take each other's clients.
#[test]
fn another_form_of_the_same_host_is_the_same_listener() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let config = |host: &str| {
        let mut config = proxy_config(listen, &weights(&[&a], 10));
        config["listen"]["host"] = host.into();
        config
    };
    for forms in [
        ["127.0.0.1", "::ffff:127.0.0.1"],
        ["0.0.0.0", "::ffff:0.0.0.0"],
        ["::", "::ffff:127.0.0.1"],
        ["::ffff:127.0.0.1", "127.0.0.1"],
    ] {
        let mut proxy = Proxy::start(&folder, &config(forms[0]), &[]);
        let flow = UdpClient::new(listen);
        let before = flow.who().expect("a flow is served");
        let mut open = open_sessions(listen, 2);
        proxy.reload(&config(forms[1]));
        for client in 0..6 {
            let who = UdpClient::new(listen).who();
            who.unwrap_or_else(|error| panic!("{forms:?}, client {client}: {error}"));
            assert_eq!(Transport::Tcp.ask(listen), "a", "{forms:?}");
        }
        assert_eq!(flow.who().expect("the flow lives"), before, "{forms:?}");
        assert_alive(&mut open);
        let status = proxy.status();
        let dropped = status.totals.datagrams_dropped;
        assert!(dropped.is_empty(), "{forms:?}: {dropped:?}");
        assert!(status.running.listeners[0].addr.is_ipv4(), "{forms:?}");
        proxy.program.signal(Signal::INT);
        proxy.program.wait_exit(LONG);
    }
}
