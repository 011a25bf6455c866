//! What a server notices of the probes: nothing of a plain one, an orderly end of the others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use contract::status::OperationalState::{Checking, Up};
use e2e::far_proxy::FarProxy;
use e2e::health::{await_probes, await_state, quick_probes};
use e2e::proxy_bench::ProxyBench;
use serde_json::json;
use testkit::host::Host;
use testkit::ports::{free_address, free_address_on};
use testkit::{Proxy, skipped};

/// A listener whose program accepts nobody yet: whoever completed the handshake waits there, also
/// after a reset.
fn listener_on(ip: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).expect("a port is free");
    listener.set_nonblocking(true).expect("it is open");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

#[track_caller]
fn assert_nobody_waits(listener: &TcpListener) {
    let accepted = listener.accept().map_err(|error| error.kind());
    assert_eq!(accepted.err(), Some(ErrorKind::WouldBlock));
}

/// Connections of `addr` that wait out their close, on this host; whoever had the port in the last minute
/// may have left some.
fn time_waits(addr: SocketAddr) -> usize {
    const TIME_WAIT: &str = "06";
    let port = format!(":{:04X}", addr.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let waits = lines.filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, _, to, TIME_WAIT] if to.ends_with(&port))
    });
    waits.count()
}

/// Awaits more probes of `addr`, all of which pass.
#[track_caller]
fn await_passes(proxy: &Proxy, addr: SocketAddr, more: u64) {
    await_probes(proxy, addr, more);
    assert_eq!(proxy.backend(addr).health.probe_failures_total, 0);
    await_state(proxy, addr, Up);
}

#[test]
fn a_server_hears_nothing_of_a_plain_probe() {
    const PROBES: u64 = 200;
    let listeners = ["127.0.0.1", "::1"].map(|ip| listener_on(ip.parse().expect("an address")));
    let addresses = [listeners[0].1, listeners[1].1];
    let left = addresses.map(time_waits);
    let bench = ProxyBench::start(&addresses, quick_probes(json!({ "interval_ms": 10 })));
    await_passes(&bench.proxy, addresses[0], 1);
    let descriptors = bench.proxy.program.open_descriptors();
    for (addr, left) in addresses.into_iter().zip(left) {
        await_passes(&bench.proxy, addr, PROBES);
        assert!(time_waits(addr) <= left, "{addr}");
    }
    for (listener, _) in &listeners {
        assert_nobody_waits(listener);
    }
    // A probe of each backend may be under way at either look.
    let grown = bench.proxy.program.open_descriptors() as i64 - descriptors as i64;
    assert!(grown <= 4, "{grown} descriptors more");
}

#[test]
fn a_server_on_another_host_hears_nothing_of_a_plain_probe() {
    let Some(host) = Host::new() else {
        return skipped("a network namespace cannot be made here");
    };
    let (listener, addr) = listener_on(host.here);
    let listen = free_address_on(host.addr);
    let settings = quick_probes(json!({ "interval_ms": 10 }));
    let far = FarProxy::start(host, listen, &[addr], settings);
    await_passes(&far.proxy, addr, 200);
    assert_nobody_waits(&listener);
}

/// Serves one connection after the other, and sends how each ended: what was read to its end.
fn serve_each(
    serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static,
) -> (SocketAddr, Receiver<std::io::Result<()>>) {
    let listener = TcpListener::bind(free_address()).expect("the port was free just now");
    let addr = listener.local_addr().expect("it is bound");
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let result = serve(&mut stream);
            if sender.send(result).is_err() {
                return;
            }
        }
    });
    (addr, ended)
}

fn read_to_end(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn a_probe_that_asks_ends_in_order_whatever_the_server_still_says() {
    // More than the buffers of both sides hold.
    const BODY: &[u8] = &[b'.'; 900 << 10];
    let greeter = |stream: &mut TcpStream| {
        stream.write_all(b"220 ready\r\n250-and\r\n")?;
        stream.write_all(BODY)?;
        read_to_end(stream)
    };
    let http = |status: &'static str| {
        move |stream: &mut TcpStream| {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request)?;
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n")?;
            stream.write_all(BODY)?;
            stream.shutdown(std::net::Shutdown::Write)?;
            read_to_end(stream)
        }
    };
    let expect = json!({ "probe": "send_expect", "expect": "220" });
    for (probe, (addr, ended)) in [
        (expect, serve_each(greeter)),
        (json!({ "probe": "http" }), serve_each(http("200 OK"))),
        (json!({ "probe": "http" }), serve_each(http("503 Busy"))),
    ] {
        let left = time_waits(addr);
        let bench = ProxyBench::start(&[addr], quick_probes(probe.clone()));
        for _ in 0..20 {
            let ended = ended.recv().expect("the server lives");
            ended.unwrap_or_else(|error| panic!("{probe}: {error}"));
        }
        // Where the server closes first, it keeps the port, and not this side.
        if probe["probe"] == "http" {
            assert!(time_waits(addr) <= left, "{probe}");
        }
        drop(bench);
    }
}

/// The verdict is known with the answer, and the close may take as long as the time-out allows.
#[test]
fn a_server_that_refuses_to_close_delays_no_verdict() {
    let settings = json!({ "timeout_ms": 60_000, "interval_ms": 60_000 });
    let answers_and_stays = |stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n220 ready\r\n")?;
        loop {
            std::thread::park();
        }
    };
    for kind in ["http", "send_expect"] {
        let mut probe = settings.clone();
        probe["probe"] = json!(kind);
        if kind == "send_expect" {
            probe["expect"] = json!("220");
        }
        let (addr, _ended) = serve_each(answers_and_stays);
        let bench = ProxyBench::start(&[addr], json!({ "health": probe }));
        await_state(&bench.proxy, addr, Up);
        assert_eq!(bench.proxy.backend(addr).health.probes_total, 1);
    }
}

#[test]
fn a_probe_that_would_reach_the_proxy_itself_is_not_made() {
    let listen = free_address();
    let (listener, addr) = listener_on(listen.ip());
    let settings = quick_probes(json!({ "interval_ms": 10, "port": listen.port() }));
    let bench = ProxyBench::on(listen, &[addr], settings);
    let row = testkit::until("it is said", testkit::LONG, || {
        let row = bench.proxy.backend(addr);
        row.reason.contains("not probed").then_some(row)
    });
    assert_eq!(row.operational, Checking);
    assert!(row.health.takes_sessions, "{row:?}");
    assert_eq!(row.health.probes_total, 0);
    let totals = bench.proxy.status().totals.counters;
    assert_eq!(totals.sessions_total, 0, "no probe came in as a session");
    bench.proxy.program.assert_one_line("is not probed");
    assert_nobody_waits(&listener);
}
