//! A proxy that starts while a listener cannot be bound: what can be bound serves, the rest follows when
//! it can, and with none the proxy waits as one that runs.

use std::net::{TcpListener, UdpSocket};

use contract::RefusalCode;
use e2e::sessions::weights;
use e2e::spread::Transport;
use rustix::process::Signal;
use testkit::ports::free_address;
use testkit::process::run;
use testkit::{Backend, Folder, LONG, Manner, Proxy, proxy_config};

#[test]
fn what_can_be_bound_serves_and_the_rest_follows() {
    let a = Backend::start("a", Manner::Echo);
    for (held, other) in [
        (Transport::Tcp, Transport::Udp),
        (Transport::Udp, Transport::Tcp),
    ] {
        let folder = Folder::new();
        let listen = free_address();
        let (tcp, udp) = match held {
            Transport::Tcp => (Some(TcpListener::bind(listen).expect("free")), None),
            Transport::Udp => (None, Some(UdpSocket::bind(listen).expect("free"))),
        };
        let config = proxy_config(listen, &weights(&[&a], 10));
        let mut proxy = Proxy::start(&folder, &config, &[]);
        let value = match held {
            Transport::Tcp => format!("{listen}/tcp"),
            Transport::Udp => format!("{listen}/udp"),
        };
        let refused = [(RefusalCode::AddressInUse, "/listen", &*value)];
        proxy.await_refusals(&refused);
        assert_eq!(other.ask(listen), "a");
        let line = proxy.program.wait_for_line("refused code=address_in_use");
        assert!(line.contains("ERROR") && line.contains(&value), "{line}");
        let listener = &proxy.status().running.listeners[0];
        assert_eq!(listener.tcp, udp.is_some());
        assert_eq!(listener.udp, tcp.is_some());
        drop((tcp, udp));
        proxy.await_refusals(&[]);
        assert_eq!(held.ask(listen), "a");
        assert_eq!(other.ask(listen), "a");
        assert_eq!(proxy.program.count_lines("refused code=address_in_use"), 1);
    }
}

#[test]
fn with_no_listener_it_waits_as_one_that_runs() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let taken = (
        TcpListener::bind(listen).expect("free"),
        UdpSocket::bind(listen).expect("free"),
    );
    let config = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("{listen}/{protocol}"));
    let refused = |value| (RefusalCode::AddressInUse, "/listen", value);
    proxy.await_refusals(&[refused(&*tcp), refused(&*udp)]);
    assert!(proxy.status().running.listeners.is_empty());
    proxy.program.wait_for_line("listen=none");

    // A hang-up is a reload, another one is refused the folder, and weights are taken.
    let mut moved = config.clone();
    moved["algorithm"] = "random".into();
    proxy.reload(&moved);
    assert_eq!(proxy.status().algorithm, "random");
    let second = run("proxy_server", ["--root", folder.root_argument()]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&proxy.program.pid().to_string()), "{said}");

    drop(taken);
    proxy.await_refusals(&[]);
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(Transport::Udp.ask(listen), "a");
}

#[test]
fn while_it_waits_it_takes_another_address_and_ends_when_it_is_told() {
    let a = Backend::start("a", Manner::Echo);
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        let [taken, free] = [free_address(), free_address()];
        let _tcp = TcpListener::bind(taken).expect("free");
        let _udp = UdpSocket::bind(taken).expect("free");
        let config = |listen| proxy_config(listen, &weights(&[&a], 10));
        let mut proxy = Proxy::start(&folder, &config(taken), &[]);
        proxy.reload(&config(free));
        proxy.await_refusals(&[]);
        assert_eq!(Transport::Tcp.ask(free), "a");
        // Back to one that cannot be bound: nothing that serves is given up.
        proxy.reload(&config(taken));
        assert_eq!(Transport::Tcp.ask(free), "a");
        drop(proxy);
        std::fs::remove_file(folder.root.proxy_pid()).expect("a killed proxy leaves it");

        let mut proxy = Proxy::start_on(&folder, &[]);
        assert!(proxy.status().running.listeners.is_empty());
        proxy.program.signal(signal);
        assert_eq!(proxy.program.wait_exit(LONG).code(), Some(0));
        assert!(!folder.root.proxy_pid().exists());
    }
}

/// The port of another proxy, which shares it with itself.
#[test]
fn the_port_of_another_proxy_is_taken_too() {
    let a = Backend::start("a", Manner::Echo);
    let [one, other] = [Folder::new(), Folder::new()];
    let listen = free_address();
    let config = proxy_config(listen, &weights(&[&a], 10));
    let first = Proxy::start(&one, &config, &["-w", "2"]);
    let second = Proxy::start(&other, &config, &["-w", "2"]);
    assert!(second.status().running.listeners.is_empty());
    for _ in 0..8 {
        assert_eq!(Transport::Tcp.ask(listen), "a");
        assert_eq!(Transport::Udp.ask(listen), "a");
    }
    assert_eq!(second.status().totals.counters.sessions_total, 0);
    assert_eq!(second.status().totals.counters.flows_total, 0);
    drop(first);
    second.await_refusals(&[]);
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(second.status().totals.counters.sessions_total, 1);
}
