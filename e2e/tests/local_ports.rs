//! A host has so many ports to connect from. Where they run out that is no fault of the backends, and
//! what is oldest, or what comes next, makes room. And a port to connect from is no backend, even where
//! the kernel gives a backend's.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};

use contract::status::{BackendStatus, OperationalState};
use e2e::far_proxy::FarProxy;
use e2e::health::{await_state, quick_probes};
use serde_json::{Value, json};
use testkit::client::{connect, reset};
use testkit::host::Host;
use testkit::ports::{LOOPBACK, free_address_on};
use testkit::{Backend, LONG, Manner, Session, skipped, until, without_probes};

/// What the proxy's host has.
const PORTS: u16 = 32;

/// A proxy on a host of its own with few ports to connect from, before two backends that are here.
struct Bench {
    far: FarProxy,
    backends: [Backend; 2],
    listen: SocketAddr,
    /// Where clients are, too.
    here: SocketAddr,
}

impl Bench {
    fn start(settings: Value) -> Option<Bench> {
        let host = Host::new()?;
        host.set_local_ports(PORTS);
        let backends = ["a", "b"].map(|name| {
            let addr = free_address_on(host.here);
            Backend::start_at(addr, name, Manner::Echo)
        });
        let listen = SocketAddr::new(host.addr, 9_000);
        let here = SocketAddr::new(host.here, 0);
        let addrs = backends.each_ref().map(|backend| backend.addr);
        Some(Bench {
            far: FarProxy::start(host, listen, &addrs, without_probes(settings)),
            backends,
            listen,
            here,
        })
    }

    #[track_caller]
    fn assert_nothing_held_against_the_backends(&self) {
        for backend in &self.backends {
            let row: BackendStatus = self.far.proxy.backend(backend.addr);
            assert_eq!(row.counters.connect_failures, 0, "{row:?}");
            assert_eq!(row.operational, OperationalState::Up, "{row:?}");
        }
    }

    fn ended(&self, kind: fn(&contract::status::Totals) -> u64) -> u64 {
        kind(&self.far.proxy.status().totals)
    }
}

#[test]
fn where_ports_run_out_the_oldest_flow_makes_room_and_no_backend_is_blamed() {
    const CLIENTS: usize = 200;
    let Some(bench) = Bench::start(json!({ "udp_idle_ms": 600_000, "max_flows": 1_000 })) else {
        return skipped("a network namespace cannot be made here");
    };
    let clients: Vec<UdpSocket> = (0..CLIENTS)
        .map(|_| {
            let client = UdpSocket::bind(bench.here).expect("a port is free");
            client.connect(bench.listen).expect("there is a route");
            client.set_read_timeout(Some(LONG)).expect("not zero");
            client
        })
        .collect();
    // Each of them twice: who was evicted begins anew.
    for client in clients.iter().chain(&clients) {
        client.send(b"hello").expect("sent");
        let mut answer = [0; 16];
        let length = client.recv(&mut answer).expect("answered");
        assert_eq!(&answer[..length], b"hello");
    }
    let evicted = bench.ended(|totals| totals.flows_ended.get("evicted").copied().unwrap_or(0));
    let most = (2 * CLIENTS) as u64;
    assert!(
        evicted >= most - u64::from(PORTS) && evicted < most,
        "{evicted}"
    );
    bench.assert_nothing_held_against_the_backends();
}

#[test]
fn where_ports_run_out_sessions_go_to_whom_there_are_some_left_and_no_backend_is_blamed() {
    let Some(bench) = Bench::start(json!({})) else {
        return skipped("a network namespace cannot be made here");
    };
    let both = 2 * usize::from(PORTS);
    let mut open: Vec<Session> = (0..both)
        .map(|_| Session::open(bench.listen).expect("a port is left"))
        .collect();
    for _ in 0..10 {
        // It is taken, and let go again.
        assert!(Session::open(bench.listen).is_err());
    }
    let refused = bench.ended(|totals| totals.sessions_ended["internal_error"]);
    assert_eq!(refused, 10);
    bench.assert_nothing_held_against_the_backends();

    for session in open.drain(..8) {
        reset(session.stream);
    }
    until("its ports are used again", LONG, || {
        Session::open(bench.listen).ok()
    });
    bench.assert_nothing_held_against_the_backends();
}

#[test]
fn a_connect_that_finds_itself_reaches_nobody() {
    const SESSIONS: u64 = 4;
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    // Nobody listens at the one port that there is to connect from.
    let backend = SocketAddr::new(LOOPBACK, host.set_local_ports(1));
    let (listen, here) = (
        SocketAddr::new(host.addr, 9_000),
        SocketAddr::new(host.here, 0),
    );
    let far = FarProxy::start(host, listen, &[backend], without_probes(json!({})));
    for _ in 0..SESSIONS {
        let served = connect(listen).and_then(|mut stream| {
            stream.write_all(b"hello")?;
            stream.read_exact(&mut [0; 5])
        });
        assert!(served.is_err(), "its own bytes came back");
    }
    far.proxy.await_sessions_ended("connect_refused", SESSIONS);

    let client = UdpSocket::bind(here).expect("a port is free");
    client.connect(listen).expect("there is a route");
    client.send(b"hello").expect("sent");
    until("its datagram is dropped", LONG, || {
        let dropped = far.proxy.status().totals.datagrams_dropped;
        (dropped.get("no_backend").copied() == Some(1)).then_some(())
    });
}

#[test]
fn a_probe_that_finds_itself_passes_for_no_answer() {
    // More than there are seconds to wait: each that kept the port would take one (TIME_WAIT).
    const FALL: u64 = 60;
    for probe in [
        json!({ "probe": "tcp", "fall": FALL }),
        json!({ "probe": "udp", "fall": FALL, "send": "ping" }),
    ] {
        let Some(host) = Host::new() else {
            return skipped("a network namespace cannot be made here");
        };
        let backend = SocketAddr::new(LOOPBACK, host.set_local_ports(1));
        let listen = SocketAddr::new(host.addr, 9_000);
        let far = FarProxy::start(host, listen, &[backend], quick_probes(probe));
        await_state(&far.proxy, backend, OperationalState::Down);
    }
}
