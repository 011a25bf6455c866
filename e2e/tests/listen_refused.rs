//! A listener that a reload asks for and that cannot be bound: the last accepted one serves on, everything
//! else is in force, and the new one is taken as soon as it can be.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use contract::RefusalCode;
use e2e::far_proxy::FarProxy;
use e2e::sessions::{assert_alive, open_sessions, weights};
use e2e::spread::Transport;
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::host::Host;
use testkit::ports::{free_address, free_address_on};
use testkit::{
    Backend, Folder, LONG, Manner, Proxy, Session, UdpClient, proxy_config, skipped, until,
    without_probes,
};

/// Somebody else's socket.
#[derive(Debug)]
enum Taken {
    Tcp(#[expect(dead_code, reason = "held")] TcpListener),
    Udp(#[expect(dead_code, reason = "held")] UdpSocket),
}

impl Taken {
    fn by(transport: Transport, addr: SocketAddr) -> Taken {
        match transport {
            Transport::Tcp => Taken::Tcp(TcpListener::bind(addr).expect("free")),
            Transport::Udp => Taken::Udp(UdpSocket::bind(addr).expect("free")),
        }
    }

    fn value(&self, addr: SocketAddr) -> String {
        match self {
            Taken::Tcp(_) => format!("{addr}/tcp"),
            Taken::Udp(_) => format!("{addr}/udp"),
        }
    }
}

fn both_ask(addr: SocketAddr) -> [String; 2] {
    [Transport::Tcp, Transport::Udp].map(|transport| transport.ask(addr))
}

#[test]
fn while_a_port_is_taken_the_old_listener_serves_and_all_else_is_applied() {
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().expect("a literal");
        for transport in [Transport::Tcp, Transport::Udp] {
            taken_and_freed(ip, transport);
        }
    }
}

fn taken_and_freed(ip: IpAddr, transport: Transport) {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    // For both families, since a port of one is looked for on IPv4.
    let at = |port: SocketAddr| SocketAddr::new(ip, port.port());
    let (old, new) = (at(free_address()), at(free_address()));
    let mut proxy = Proxy::start(&folder, &proxy_config(old, &weights(&[&a], 10)), &[]);
    let mut open = open_sessions(old, 3);
    let flow = UdpClient::new(old);
    let before = flow.who().expect("a flow is served");

    let taken = Taken::by(transport, new);
    let value = taken.value(new);
    let refused = [(RefusalCode::AddressInUse, "/listen", &*value)];
    let config = proxy_config(new, &[(a.addr, 0), (b.addr, 10)]);
    let generation = proxy.reload(&config);
    let first = proxy.await_refusals(&refused);
    assert!(first[0].detail.contains("in use"), "{:?}", first[0]);
    let running = proxy.status().running;
    assert_eq!(running.generation, generation);
    assert!(running.last_reload.is_some_and(|reload| reload.ok));
    assert_eq!(running.listeners.len(), 1);
    assert_eq!(running.listeners[0].addr, old);
    assert_eq!(both_ask(old), ["b", "b"], "the weights are in force");
    assert_alive(&mut open);
    assert_eq!(flow.who().expect("the flow lives"), before);

    // The refusal is that of the first time, however often it is tried.
    proxy.reload(&proxy_config(new, &[(a.addr, 10), (b.addr, 0)]));
    assert_eq!(proxy.await_refusals(&refused)[0].since, first[0].since);
    assert_eq!(both_ask(old), ["a", "a"]);
    let metrics = proxy.admin.metrics();
    let metric = "wicketgate_proxy_refusals{code=\"address_in_use\",place=\"/listen\"} 1";
    assert!(metrics.contains(metric), "{metrics}");

    let mut late = open_sessions(old, 2);
    drop(taken);
    proxy.await_refusals(&[]);
    assert_eq!(both_ask(new), ["a", "a"]);
    let running = proxy.status().running;
    assert_eq!(running.listeners.len(), 1);
    assert_eq!(running.listeners[0].addr, new);
    until("the old listener is closed", LONG, || connect(old).err());
    assert_alive(&mut open);
    assert_alive(&mut late);
    assert_eq!(flow.who().expect("the flow lives"), before);
    proxy.program.assert_one_line("refused code=address_in_use");
    let line = proxy.program.wait_for_line("listening listen=");
    assert!(line.contains(&format!("{new}/tcp+udp")), "{line}");
    proxy
        .program
        .wait_for_line("refusal over code=address_in_use");
}

/// An address of loopback that no other process takes a port of.
fn address_of_this_process() -> IpAddr {
    // Linux gives no more than 22 bits to a process id.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    IpAddr::from([127, 64 | high, middle, low])
}

#[test]
fn a_newer_reload_replaces_what_is_tried() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [old, newest] = [free_address(), free_address()];
    let tried = free_address_on(address_of_this_process());
    let config = |listen| proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config(old), &[]);
    let taken = TcpListener::bind(tried).expect("free");
    let value = format!("{tried}/tcp");
    let refused = [(RefusalCode::AddressInUse, "/listen", &*value)];
    proxy.reload(&config(tried));
    proxy.await_refusals(&refused);

    // A file that is wrong replaces nothing: what is tried is tried on.
    proxy.reload_refused(b"{");
    let codes: Vec<RefusalCode> = proxy
        .status()
        .running
        .refusals
        .iter()
        .map(|r| r.code)
        .collect();
    assert_eq!(codes, [RefusalCode::Invalid, RefusalCode::AddressInUse]);

    proxy.reload(&config(newest));
    proxy.await_refusals(&[]);
    assert_eq!(both_ask(newest), ["a", "a"]);
    proxy.reload(&config(tried));
    proxy.await_refusals(&refused);
    // Back to what is accepted on already.
    proxy.reload(&config(newest));
    proxy.await_refusals(&[]);
    drop(taken);
    assert_eq!(both_ask(newest), ["a", "a"]);
    assert!(connect(tried).is_err(), "nobody asks for it any more");
}

#[test]
fn a_backend_that_is_the_kept_listener_is_skipped_until_it_is_none() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [old, new] = [free_address(), free_address()];
    let mut proxy = Proxy::start(&folder, &proxy_config(old, &weights(&[&a], 10)), &[]);
    let taken = TcpListener::bind(new).expect("free");
    proxy.reload(&proxy_config(new, &[(a.addr, 10), (old, 10)]));
    let (value, backend) = (format!("{new}/tcp"), old.to_string());
    let skipped = (RefusalCode::OwnListener, "/backends/1", &*backend);
    proxy.await_refusals(&[(RefusalCode::AddressInUse, "/listen", &*value), skipped]);
    for _ in 0..4 {
        assert_eq!(both_ask(old), ["a", "a"]);
    }
    assert_eq!(proxy.status().backends.len(), 1);
    drop(taken);
    proxy.await_refusals(&[]);
    until("it is a backend like any other", LONG, || {
        (proxy.status().backends.len() == 2).then_some(())
    });
}

/// A listener on all addresses gets those that the host gains, and a backend there is the proxy then.
#[test]
fn a_backend_whose_address_becomes_the_proxys_own_is_skipped_then() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let a = Backend::start_at(free_address_on(host.here), "a", Manner::Echo);
    let all = SocketAddr::from(([0, 0, 0, 0], 9_000));
    let later = SocketAddr::from(([198, 51, 100, 7], 9_000));
    let config = [(a.addr, 10), (later, 10)];
    let mut far = FarProxy::start(host, all, &[a.addr], without_probes(json!({})));
    let config = without_probes(proxy_config(all, &config));
    far.proxy.reload(&config);
    far.proxy.await_refusals(&[]);

    far.host.add_address(later.ip());
    let own = later.to_string();
    let refused = [(RefusalCode::OwnListener, "/backends/1", &*own)];
    far.proxy.await_refusals(&refused);
    let status = far.proxy.status();
    assert!(status.running.addresses.contains(&later.ip()));
    assert_eq!(status.backends.len(), 1, "{:?}", status.backends);
}

#[test]
fn an_address_that_comes_later_is_taken_when_it_is_here() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let a = Backend::start_at(free_address_on(host.here), "a", Manner::Echo);
    let old = SocketAddr::new(host.addr, 9_000);
    let later = SocketAddr::from(([198, 51, 100, 7], 9_000));
    let mut far = FarProxy::start(host, old, &[a.addr], without_probes(json!({})));
    let config = proxy_config(later, &weights(&[&a], 10));
    far.proxy.reload(&without_probes(config));
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("{later}/{protocol}"));
    let refused = |value| (RefusalCode::AddressNotAvailable, "/listen", value);
    far.proxy.await_refusals(&[refused(&*tcp), refused(&*udp)]);
    let mut open = Session::open(old).expect("the old one serves");

    far.host.add_address(later.ip());
    far.proxy.await_refusals(&[]);
    let running = far.proxy.status().running;
    assert_eq!(running.listeners[0].addr, later);
    assert!(running.addresses.contains(&later.ip()), "{running:?}");
    open.echo(b"unharmed").expect("it goes on");
}

#[test]
fn a_listener_that_waits_is_taken_by_a_proxy_that_is_restarted_meanwhile() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [old, new] = [free_address(), free_address()];
    let mut proxy = Proxy::start(&folder, &proxy_config(old, &weights(&[&a], 10)), &[]);
    let taken = UdpSocket::bind(new).expect("free");
    let value = format!("{new}/udp");
    let refused = [(RefusalCode::AddressInUse, "/listen", &*value)];
    proxy.reload(&proxy_config(new, &weights(&[&a], 10)));
    proxy.await_refusals(&refused);
    proxy.program.signal(rustix::process::Signal::INT);
    proxy.program.wait_exit(LONG);
    let proxy = Proxy::start_on(&folder, &[]);
    proxy.await_refusals(&refused);
    assert_eq!(Transport::Tcp.ask(new), "a", "what can be bound serves");
    drop(taken);
    proxy.await_refusals(&[]);
    assert_eq!(both_ask(new), ["a", "a"]);
}

#[test]
fn a_check_says_what_would_be_refused_and_changes_nothing() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [listen, free, taken] = [free_address(), free_address(), free_address()];
    let config = |listen| proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config(listen), &[]);
    let mut open = open_sessions(listen, 2);
    let _taken = TcpListener::bind(taken).expect("free");
    let before = proxy.status().running;
    let check = |document: &Value| -> Vec<(RefusalCode, String)> {
        let trial = proxy.admin.check(document);
        let parts = trial.refusals.into_iter().map(|one| (one.code, one.value));
        parts.collect()
    };
    assert!(check(&config(listen)).is_empty());
    assert!(check(&config(free)).is_empty());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], listen.port()));
    assert!(check(&config(everywhere)).is_empty());
    let in_use = (RefusalCode::AddressInUse, format!("{taken}/tcp"));
    assert_eq!(check(&config(taken)), [in_use]);
    let own = check(&proxy_config(listen, &[(listen, 10)]));
    assert_eq!(own, [(RefusalCode::OwnListener, listen.to_string())]);
    let mut bad = config(listen);
    bad["algorithm"] = json!("fastest");
    let invalid = (RefusalCode::Invalid, "\"fastest\"".to_owned());
    assert_eq!(check(&bad), [invalid]);
    // A reload takes these, and whoever asks hears of them all the same, as with `--check`.
    let mut doubtful = config(listen);
    doubtful["health"] = json!({ "port": listen.port() });
    doubtful["pools_"] = json!([]);
    let trial = proxy.admin.check(&doubtful);
    assert_eq!(trial.refusals, []);
    let warned = |place: &str| trial.warnings.iter().any(|one| one.starts_with(place));
    assert!(warned("/health/port") && warned("/pools_"), "{trial:?}");
    // Free for others at once.
    TcpListener::bind(free).expect("released");
    UdpSocket::bind(free).expect("released");
    assert_eq!(proxy.status().running, before);
    assert_eq!(both_ask(listen), ["a", "a"]);
    assert_alive(&mut open);
    // What is refused already began when it began.
    proxy.reload(&config(taken));
    let value = format!("{taken}/tcp");
    let refused = proxy.await_refusals(&[(RefusalCode::AddressInUse, "/listen", &*value)]);
    assert_eq!(proxy.admin.check(&config(taken)).refusals, refused);
}
