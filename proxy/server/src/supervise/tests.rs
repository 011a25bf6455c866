//! Listeners, snapshots and workers together, as a reload has them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Algorithm, Backend, BackendAddr, Config, ConnectSettings, Listener, Name, Pool, PoolSettings,
    ProcessSettings, Report,
};
use proxy_core::plan::endpoints_of;
use proxy_core::registry::BackendRegistry;
use proxy_core::snapshot::Snapshot;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::session_log::entries;
use proxy_engine::{Command, Workers};
use tokio::sync::mpsc;

use super::listeners::Listeners;
use super::listeners::wanted::Wanted;

const LONG: Duration = Duration::from_secs(10);

/// A server that tells its name to whoever connects, and to whoever sends it a datagram; over TCP, it
/// then says again what it hears. It ends with the test's process.
fn server(name: &'static str) -> SocketAddr {
    let (listener, socket) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("bound");
        if let Ok(socket) = UdpSocket::bind(addr) {
            break (listener, socket);
        }
    };
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for session in listener.incoming().flatten() {
            std::thread::spawn(move || serve(name, session));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), client);
        }
    });
    addr
}

fn serve(name: &str, mut session: TcpStream) {
    let mut reader = session.try_clone().expect("a descriptor");
    let _ = session.write_all(name.as_bytes());
    let _ = std::io::copy(&mut reader, &mut session);
}

/// Opens a session. Returns it with the name of its server.
fn open(addr: SocketAddr) -> (TcpStream, String) {
    let mut session = TcpStream::connect(addr).expect("accepted");
    session.set_read_timeout(Some(LONG)).expect("a time");
    let name = hear(&mut session);
    (session, name)
}

fn hear(session: &mut TcpStream) -> String {
    let mut byte = [0];
    session.read_exact(&mut byte).expect("it is open");
    char::from(byte[0]).to_string()
}

fn is_open((session, _): &mut (TcpStream, String)) -> bool {
    session.write_all(b"?").expect("it is open");
    hear(session) == "?"
}

/// Who answers a datagram of `client`.
fn ask(client: &UdpSocket) -> String {
    client.send(b"?").expect("sent");
    let mut buffer = [0; 16];
    let length = client.recv(&mut buffer).expect("answered");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn client(addr: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    client.set_read_timeout(Some(LONG)).expect("a time");
    client.connect(addr).expect("an address");
    client
}

fn pool(name: &str, addr: SocketAddr) -> Pool {
    let backend = Backend {
        addr: BackendAddr(addr),
        weight: 1,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    let name = Name::new(name).expect("a name");
    Pool {
        settings: PoolSettings {
            connect: ConnectSettings {
                timeout_ms: 300,
                ..ConnectSettings::default()
            },
            ..PoolSettings::default()
        },
        ..Pool::new(name, Algorithm::GpuAware, vec![backend])
    }
}

fn wanted(listener: &Listener) -> Wanted {
    Wanted {
        name: listener.name.clone(),
        place: String::new(),
        endpoints: endpoints_of(listener).collect(),
    }
}

/// What the supervisor does with a configuration, without its file.
struct World {
    runtime: tokio::runtime::Runtime,
    registry: BackendRegistry,
    listeners: Listeners,
    snapshot: Arc<Snapshot>,
    workers: Workers,
}

impl World {
    fn new(pools: &[Pool], listener: Listener) -> World {
        let mut registry = BackendRegistry::new(1);
        let snapshot = build(None, pools, &listener, &mut registry);
        let (reports, _) = mpsc::channel(1);
        let (ended, _) = entries();
        let workers = Workers::start(1, false, &snapshot, 0, &reports, &ended);
        let workers = workers.expect("threads");
        let (mut listeners, sockets) = Listeners::bind(vec![wanted(&listener)], 1);
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(workers.tell_each(listeners.accept_on(sockets)));
        World {
            runtime,
            registry,
            listeners,
            snapshot,
            workers,
        }
    }

    fn reload(&mut self, pools: &[Pool], listener: Listener) {
        let new = build(Some(&self.snapshot), pools, &listener, &mut self.registry);
        self.snapshot = new;
        let install = || Command::Install(Arc::clone(&self.snapshot));
        let change = self.listeners.change_to(vec![wanted(&listener)]);
        let told = self.workers.tell_each(change.after(install));
        self.runtime.block_on(told);
    }

    /// Sessions and flows that this pool has at its backend.
    fn in_flight(&self, pool: &str) -> (u64, u64) {
        let mut pools = self.snapshot.pools.iter();
        let pool = pools.find(|one| one.name.as_str() == pool);
        let pool = pool.expect("it is configured");
        let backend = pool.backend(proxy_core::pick::BackendIndex(0));
        (backend.sessions(), backend.flows())
    }

    /// Sessions and flows that have come by each listener.
    fn totals(&self) -> Vec<(String, u64, u64)> {
        use std::sync::atomic::Ordering::Relaxed;
        let each = self.registry.listeners.all().map(|listener| {
            let counts = listener.worker(0);
            let sessions = counts.sessions_total.load(Relaxed);
            let flows = counts.flows_total.load(Relaxed);
            (listener.name.to_string(), sessions, flows)
        });
        each.collect()
    }
}

fn build(
    previous: Option<&Snapshot>,
    pools: &[Pool],
    listener: &Listener,
    registry: &mut BackendRegistry,
) -> Arc<Snapshot> {
    let config = Config {
        generation: None,
        updated_at: None,
        listeners: vec![listener.clone()],
        pools: pools.to_vec(),
        process: ProcessSettings::default(),
    };
    let now_ms = monotonic_ms();
    Arc::new(Snapshot::build(
        previous, &config, registry, 100, 100, now_ms,
    ))
}

#[test]
fn a_listener_that_moves_to_another_pool_keeps_sessions_flows_and_socket() {
    let (a, b) = (pool("a", server("a")), pool("b", server("b")));
    let addr = super::listeners::tests::free();
    let listener = |name: &str, pool| Listener::new(Name::new(name).expect("a name"), addr, pool);
    let mut world = World::new(std::slice::from_ref(&a), listener("chat", 0));
    let (mut first, flow) = (open(addr), client(addr));
    assert_eq!((first.1.as_str(), ask(&flow).as_str()), ("a", "a"));

    // A pool is put before it, and then the listener is led there.
    let both = [b.clone(), a.clone()];
    for (pool, right) in [(1, "a"), (0, "b")] {
        world.reload(&both, listener("chat", pool));
        assert!(!world.listeners.has_retired(), "the socket stays");
        let (mut second, other) = (open(addr), client(addr));
        assert_eq!((second.1.as_str(), ask(&other).as_str()), (right, right));
        assert!(is_open(&mut first) && is_open(&mut second));
        assert_eq!(ask(&flow), "a", "a flow stays where it is");
    }
    assert_eq!(world.in_flight("b").1, 1);
    assert_eq!(world.totals(), [("chat".to_owned(), 3, 3)]);

    // The same address under another name, and its first pool is gone.
    world.reload(&[b], listener("talk", 0));
    assert!(
        is_open(&mut first),
        "its backend was removed, and serves on"
    );
    assert_eq!(ask(&flow), "a");
    assert_eq!(open(addr).1, "b");
    let right = [("chat".to_owned(), 3, 3), ("talk".to_owned(), 1, 0)];
    assert_eq!(world.totals(), right);
    world.runtime.block_on(world.workers.stop());
}

/// An address where connects get no answer, for as long as what comes with it is held.
fn black_hole() -> (SocketAddr, (socket2::Socket, Vec<TcpStream>)) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a descriptor");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port is free");
    socket.listen(0).expect("bound");
    let addr = socket.local_addr().expect("bound").as_socket();
    let addr = addr.expect("of IPv4");
    let brief = Duration::from_millis(100);
    let connect = || TcpStream::connect_timeout(&addr, brief).ok();
    // Its queue is full when one of these is not taken.
    let fillers = std::iter::from_fn(connect).take(100).collect();
    (addr, (socket, fillers))
}

#[test]
fn a_session_without_a_backend_yet_follows_its_listener_to_another_pool() {
    let (hole, _held) = black_hole();
    let (a, b) = (pool("a", hole), pool("b", server("b")));
    let addr = super::listeners::tests::free();
    let listener = Listener::new(Name::default(), addr, 0);
    let mut world = World::new(&[a], listener.clone());
    let waiting = std::thread::spawn(move || open(addr).1);
    let deadline = std::time::Instant::now() + LONG;
    while world.in_flight("a").0 == 0 {
        assert!(std::time::Instant::now() < deadline, "it is accepted");
        std::thread::yield_now();
    }
    world.reload(&[b], listener);
    assert_eq!(waiting.join().expect("served"), "b");
    world.runtime.block_on(world.workers.stop());
}
