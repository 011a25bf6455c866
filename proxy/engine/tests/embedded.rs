//! The smallest program that serves, by the engine's public face alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use contract::{Config, LocalAddresses};
use proxy_core::plan::{Endpoint, endpoints_of};
use proxy_core::registry::BackendRegistry;
use proxy_core::retirement::EndpointUse;
use proxy_core::snapshot::Snapshot;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::session_log::{Entry, entries};
use proxy_engine::{Command, Workers, listen};
use tokio::sync::mpsc;

const WORKERS: usize = 2;

/// A TCP and a UDP socket with the same free port.
fn pair() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("bound");
        if let Ok(socket) = UdpSocket::bind(addr) {
            return (listener, socket, addr);
        }
    }
}

/// Sends everything back, over TCP and UDP.
fn backend() -> SocketAddr {
    let (listener, socket, addr) = pair();
    std::thread::spawn(move || {
        for session in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &session, &mut &session));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((count, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], client);
        }
    });
    addr
}

/// A configuration in the base format, checked as a program does it.
fn config(listen: SocketAddr, backends: &[SocketAddr]) -> Config {
    let backend =
        |addr: &SocketAddr| format!(r#"{{"ip": "{}", "port": {}}}"#, addr.ip(), addr.port());
    let backends: Vec<String> = backends.iter().map(backend).collect();
    let text = format!(
        r#"{{"listen": {{"host": "{}", "port": {}}}, "algorithm": "least_connections", "backends": [{}]}}"#,
        listen.ip(),
        listen.port(),
        backends.join(",")
    );
    let checked = contract::check(text.as_bytes(), &LocalAddresses::default());
    checked.expect("it has no fault").config
}

/// Each worker's commands to accept on these endpoints.
fn accept_on(endpoints: impl Iterator<Item = Endpoint>) -> Vec<Vec<Command>> {
    let mut commands: Vec<Vec<Command>> = (0..WORKERS).map(|_| Vec::new()).collect();
    for endpoint in endpoints {
        let in_use = Arc::<EndpointUse>::default();
        let sockets = listen::bind(endpoint, WORKERS).expect("it is free");
        for (commands, socket) in commands.iter_mut().zip(sockets) {
            commands.push(Command::Open {
                endpoint,
                socket,
                in_use: Arc::clone(&in_use),
            });
        }
    }
    commands
}

fn build(
    before: Option<&Snapshot>,
    config: &Config,
    registry: &mut BackendRegistry,
) -> Arc<Snapshot> {
    let (sessions, flows) = (100, 100);
    Arc::new(Snapshot::build(
        before,
        config,
        registry,
        sessions,
        flows,
        monotonic_ms(),
    ))
}

#[test]
fn a_program_serves_reloads_and_reads_what_became_of_its_sessions() {
    // Free again here.
    let (_, _, listen) = pair();
    let with_one = config(listen, &[backend()]);
    let mut registry = BackendRegistry::new(WORKERS);
    let snapshot = build(None, &with_one, &mut registry);
    let (failing, _) = mpsc::channel(1);
    let (ended, lines) = entries();
    let workers = Workers::start(WORKERS, false, &snapshot, 1, &failing, &ended).expect("threads");
    drop(ended);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    let endpoints = endpoints_of(&with_one.listeners[0]);
    runtime.block_on(workers.tell_each(accept_on(endpoints)));

    let mut session = TcpStream::connect(listen).expect("accepted");
    let flow = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    flow.connect(listen).expect("an address");
    let long = Some(Duration::from_secs(10));
    session.set_read_timeout(long).expect("a time");
    flow.set_read_timeout(long).expect("a time");
    let mut echoes = || {
        let mut answer = [0; 4];
        session.write_all(b"over").expect("it is open");
        session.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"over");
        flow.send(b"here").expect("sent");
        let count = flow.recv(&mut answer).expect("answered");
        assert_eq!(&answer[..count], b"here");
    };
    echoes();

    // Nobody new is served by a snapshot without a backend; who is open goes on.
    let without = build(Some(&snapshot), &config(listen, &[]), &mut registry);
    let install = || vec![Command::Install(Arc::clone(&without))];
    runtime.block_on(workers.tell_all(install));
    echoes();
    let mut refused = TcpStream::connect(listen).expect("accepted");
    refused.set_read_timeout(long).expect("a time");
    assert!(refused.read(&mut [0]).is_err(), "reset");

    let in_flight =
        |workers: &Workers| -> u64 { workers.counters().map(|one| one.all.in_flight()).sum() };
    assert_eq!(in_flight(&workers), 2, "a session and a flow");
    runtime.block_on(workers.stop());
    assert_eq!(in_flight(&workers), 0);
    let started: u64 = workers
        .counters()
        .map(|one| one.all.sessions_total.load(Relaxed))
        .sum();
    assert_eq!(started, 2);
    let ends = lines
        .into_iter()
        .map(|Entry { record, .. }| (record.end, record.protocol.word(), record.bytes_up));
    let mut ends: Vec<(&str, &str, u64)> = ends.collect();
    ends.sort_unstable();
    let right = [
        ("no_backend", "tcp", 0),
        ("shutdown", "tcp", 8),
        ("shutdown", "udp", 8),
    ];
    assert_eq!(ends, right);
}
