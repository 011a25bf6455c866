//! Routes and splits: to which pool a listener sends a new session or flow.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::client::{UdpClient, connect, connect_from};
use testkit::ports::free_address;
use testkit::{Backend, Folder, LONG, Manner, Proxy, Session, until};

/// Bytes of a key share of a post-quantum group (X25519MLKEM768), which make a ClientHello longer than a segment.
const KEY_SHARE: usize = 1_216;

struct Service {
    proxy: Proxy,
    _folder: Folder,
    addr: SocketAddr,
    backends: Vec<Backend>,
    config: Value,
}

impl Service {
    /// A listener that is described by `listener`, and a pool with one backend for each name; `none` has no
    /// backend.
    fn start(listener: Value, pools: &[&str], workers: &str) -> Service {
        let addr = free_address();
        let backends: Vec<Backend> = pools
            .iter()
            .map(|name| Backend::start(name, Manner::Echo))
            .collect();
        let mut described: BTreeMap<&str, Value> = { pools.iter().zip(&backends) }
            .map(|(name, backend)| {
                let backend = json!({ "ip": backend.addr.ip(), "port": backend.addr.port() });
                (
                    *name,
                    json!({ "backends": [backend], "health": { "probe": "off" } }),
                )
            })
            .collect();
        described.insert("none", json!({ "backends": [] }));
        let mut named = json!({ "name": "one", "host": addr.ip(), "port": addr.port() });
        extend(&mut named, listener);
        let config = json!({ "listeners": [named], "pools": described });
        let folder = Folder::new();
        Service {
            proxy: Proxy::start(&folder, &config, &["-w", workers]),
            _folder: folder,
            addr,
            backends,
            config,
        }
    }

    fn reload(&mut self, listener: Value) {
        let mut named = json!({ "name": "one", "host": self.addr.ip(), "port": self.addr.port() });
        extend(&mut named, listener);
        self.config["listeners"] = json!([named]);
        self.proxy.reload(&self.config);
    }

    fn open(&self) -> Session {
        Session::open(self.addr).expect("served")
    }

    /// Which pool a session that begins with `bytes`, sent in pieces of these lengths, reaches. All bytes have to
    /// come back.
    fn reached(&self, bytes: &[u8], pieces: &[usize]) -> String {
        let mut stream = connect(self.addr).expect("accepted");
        send_in_pieces(&mut stream, bytes, pieces);
        let mut session = Session::over(stream).expect("served");
        assert_eq!(
            back(&mut session, bytes.len()),
            bytes,
            "other bytes came back"
        );
        session.echo(b"and more").expect("echoed");
        session.backend
    }

    /// How many sessions ended for `reason`.
    fn ended(&self, reason: &str) -> u64 {
        let status = self.proxy.status();
        status
            .totals
            .sessions_ended
            .get(reason)
            .copied()
            .unwrap_or(0)
    }

    #[track_caller]
    fn await_ended(&self, reason: &str, count: u64) {
        until(reason, LONG, || (self.ended(reason) == count).then_some(()));
    }
}

fn extend(object: &mut Value, with: Value) {
    let (Value::Object(object), Value::Object(with)) = (object, with) else {
        panic!("a listener is an object");
    };
    object.extend(with);
}

fn send_in_pieces(stream: &mut TcpStream, bytes: &[u8], pieces: &[usize]) {
    let mut rest = bytes;
    for length in pieces {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        stream.write_all(piece).expect("taken");
        rest = after;
        if pieces.len() < 10 {
            // So that the proxy sees each by itself, as far as that can be arranged.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    stream.write_all(rest).expect("taken");
}

fn back(session: &mut Session, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    session.stream.read_exact(&mut bytes).expect("echoed");
    bytes
}

/// That the proxy ends a session by a reset, whatever it says first.
#[track_caller]
fn assert_reset(addr: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(addr).expect("accepted");
    // The reset may be there before.
    let _ = stream.write_all(bytes);
    let error = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn list(items: &[u8]) -> Vec<u8> {
    [&(items.len() as u16).to_be_bytes(), items].concat()
}

/// A ClientHello in records of at most so many bytes.
fn hello(name: &str, alpn: &[&str], record: usize) -> Vec<u8> {
    let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes(), &*list(content)].concat();
    let mut extensions = extension(51, &vec![7; KEY_SHARE]);
    if !name.is_empty() {
        let names = list(&[&[0], &*list(name.as_bytes())].concat());
        extensions.extend(extension(0, &names));
    }
    if !alpn.is_empty() {
        let names: Vec<u8> = { alpn.iter() }
            .flat_map(|one| [&[one.len() as u8], one.as_bytes()].concat())
            .collect();
        extensions.extend(extension(16, &list(&names)));
    }
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[0],
        &list(&[0x13, 1]),
        &[1, 0],
        &list(&extensions),
    ];
    let body = body.concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    let records = message.chunks(record);
    records
        .flat_map(|chunk| [&[22, 3, 1][..], &list(chunk)].concat())
        .collect()
}

/// By names and protocols, and else by address.
fn by_tls() -> Value {
    json!({ "protocol": "tcp", "preface_timeout_ms": 60_000, "routes": [
        { "sni": ["a.example", "*.b.example"], "alpn": ["h2"], "pool": "h2" },
        { "sni": ["a.example"], "pool": "a" },
        { "source": ["127.0.0.2/32"], "pool": "second" },
        { "sni": ["*.b.example"], "pool": "b" },
        { "pool": "rest" },
    ] })
}

const POOLS: [&str; 5] = ["h2", "a", "second", "b", "rest"];

#[test]
fn a_session_goes_where_its_name_protocol_and_address_lead_and_every_byte_is_passed_on() {
    let service = Service::start(by_tls(), &POOLS, "2");
    for (name, alpn, pool) in [
        ("a.example", &["h2", "http/1.1"][..], "h2"),
        ("A.Example", &["h2"], "h2"),
        ("a.example", &["http/1.1"], "a"),
        ("a.example", &[], "a"),
        ("c.b.example", &["h2"], "h2"),
        ("d.c.b.example", &[], "b"),
        ("b.example", &["h2"], "rest"),
        ("other.example", &["h2"], "rest"),
        ("", &["h2"], "rest"),
    ] {
        for record in [16_000, 100] {
            let hello = hello(name, alpn, record);
            let reached = service.reached(&hello, &[1, 4, 5, 70, 1_200]);
            assert_eq!(reached, pool, "{name} {alpn:?} in records of {record}");
        }
    }
    assert_eq!(
        service.reached(b"GET / HTTP/1.1\r\n\r\n", &[]),
        "rest",
        "no TLS"
    );
    assert_eq!(service.proxy.status().totals.counters.sessions_total, 19);
}

#[test]
fn a_hello_that_is_cut_anywhere_leads_to_the_same_pool() {
    const SESSIONS: u64 = 2_000;
    let service = Service::start(by_tls(), &POOLS, "2");
    let mut random = testkit::pattern::Random::new(7);
    for _ in 0..SESSIONS {
        let (name, pool) = [
            ("a.example", "a"),
            ("x.b.example", "b"),
            ("x.example", "rest"),
        ][random.below(3) as usize];
        let record = 1 + random.below(1_500) as usize;
        let hello = hello(name, &[], record.max(50));
        let pieces: Vec<usize> = (0..10 + random.below(4))
            .map(|_| random.below(700) as usize)
            .collect();
        assert_eq!(service.reached(&hello, &pieces), pool);
    }
    assert_eq!(
        service.proxy.status().totals.counters.sessions_total,
        SESSIONS
    );
}

#[test]
fn a_route_by_address_waits_for_no_bytes() {
    let mut listener = by_tls();
    listener["routes"] = json!([
        { "source": ["127.0.0.2"], "pool": "second" },
        { "sni": ["a.example"], "pool": "a" },
    ]);
    let service = Service::start(listener, &POOLS, "1");
    let from_second = connect_from(Ipv4Addr::new(127, 0, 0, 2), service.addr);
    let greeted = Session::over(from_second.expect("accepted")).expect("served");
    assert_eq!(greeted.backend, "second");
    let hello = hello("a.example", &[], 16_000);
    assert_eq!(service.reached(&hello, &[]), "a");
}

#[test]
fn what_is_no_tls_takes_the_default_or_is_refused_and_what_has_no_route_is_reset() {
    let mut service = Service::start(by_tls(), &POOLS, "1");
    let with = |keys: Value| {
        let mut listener = by_tls();
        extend(&mut listener, keys);
        listener
    };
    service.reload(with(json!({ "on_not_tls": "refuse" })));
    assert_reset(service.addr, b"GET / HTTP/1.1\r\n\r\n");
    assert_reset(
        service.addr,
        &hello("a.example", &[], 16_000)[..50].repeat(40),
    );
    service.await_ended("not_tls", 2);
    let of_a = hello("a.example", &[], 16_000);
    assert_eq!(service.reached(&of_a, &[]), "a");

    let only_a = json!([{ "sni": ["a.example"], "pool": "a" }]);
    service.reload(with(json!({ "routes": only_a })));
    assert_reset(service.addr, b"GET / HTTP/1.1\r\n\r\n");
    assert_reset(service.addr, &hello("b.example", &[], 16_000));
    service.await_ended("no_route", 2);
    assert_eq!(service.reached(&of_a, &[]), "a");
}

#[test]
fn a_hello_that_comes_too_late_or_never_ends_counts_as_no_tls() {
    let mut listener = by_tls();
    listener["preface_timeout_ms"] = json!(200);
    let service = Service::start(listener, &POOLS, "1");
    let part = &hello("a.example", &[], 16_000)[..700];
    let begun = Instant::now();
    assert_eq!(service.reached(part, &[]), "rest", "too late");
    assert!(begun.elapsed() >= Duration::from_millis(200));

    let greeted = Session::open(service.addr).expect("served");
    assert_eq!(greeted.backend, "rest", "silent");

    let mut closed = connect(service.addr).expect("accepted");
    closed.write_all(part).expect("taken");
    closed.shutdown(Shutdown::Write).expect("connected");
    let mut closed = Session::over(closed).expect("served");
    assert_eq!(closed.backend, "rest", "closed");
    assert_eq!(back(&mut closed, part.len()), part);
}

#[test]
fn a_client_that_gives_up_before_its_hello_is_whole_is_forgotten() {
    let service = Service::start(by_tls(), &POOLS, "1");
    let mut stream = connect(service.addr).expect("accepted");
    stream
        .write_all(&hello("a.example", &[], 16_000)[..700])
        .expect("taken");
    let open = |count: u64| {
        let status = service.proxy.status();
        (status.totals.counters.sessions_active == count).then_some(())
    };
    until("the session is open", LONG, || open(1));
    testkit::client::reset(stream);
    service.await_ended("client_reset", 1);
    assert_eq!(
        service.backends.iter().map(Backend::accepted).sum::<u64>(),
        0
    );
}

/// How many of `count` new sessions each pool gets.
fn shares_of_sessions(service: &Service, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(service.open().backend).or_default() += 1;
    }
    shares
}

fn shares(of: [(&str, usize); 2]) -> BTreeMap<String, usize> {
    of.into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

#[test]
fn a_split_is_exact_for_sessions_and_flows_and_moves_at_once_with_its_shares() {
    let split = |blue: u64, green: u64| json!({ "split": { "blue": blue, "green": green } });
    let mut service = Service::start(split(90, 10), &["blue", "green"], "1");
    let mut open = service.open();
    let expected = shares([("blue", 89), ("green", 10)]);
    assert_eq!(open.backend, "blue");
    assert_eq!(shares_of_sessions(&service, 99), expected);
    let mut flows = BTreeMap::new();
    let clients: Vec<UdpClient> = (0..40).map(|_| UdpClient::new(service.addr)).collect();
    for client in &clients {
        *flows
            .entry(client.who().expect("answered").backend)
            .or_default() += 1;
    }
    assert_eq!(flows, shares([("blue", 36), ("green", 4)]));

    service.reload(split(1, 3));
    assert_eq!(
        shares_of_sessions(&service, 40),
        shares([("blue", 10), ("green", 30)])
    );
    service.reload(split(0, 3));
    assert_eq!(
        shares_of_sessions(&service, 40),
        shares([("blue", 0), ("green", 40)])
    );
    open.echo(b"still there")
        .expect("a reload touches nothing open");
    for client in &clients {
        client.who().expect("its flow goes on");
    }
    assert_eq!(service.ended("client_reset"), 0);
}

#[test]
fn a_pool_without_backends_keeps_its_share_and_refuses_it() {
    let split = json!({ "protocol": "tcp", "split": { "blue": 3, "none": 1 } });
    let service = Service::start(split, &["blue"], "1");
    let served = (0..40)
        .filter(|_| Session::open(service.addr).is_ok())
        .count();
    assert_eq!(served, 30);
    service.await_ended("no_backend", 10);
}

#[test]
fn a_source_stays_in_its_pool_over_reloads_and_restarts() {
    let split = |green: u64| json!({ "protocol": "tcp", "split_by": "source", "split": { "blue": 50, "green": green } });
    let pools = |service: &Service| -> Vec<String> {
        let sources = (1..=60).map(|last| Ipv4Addr::new(127, 0, 1, last));
        let reached = sources.map(|ip| {
            let stream = connect_from(ip, service.addr).expect("accepted");
            Session::over(stream).expect("served").backend
        });
        reached.collect()
    };
    let mut service = Service::start(split(50), &["blue", "green"], "2");
    let before = pools(&service);
    let greens = before.iter().filter(|pool| *pool == "green").count();
    assert!((15..=45).contains(&greens), "{greens} of 60");
    assert_eq!(pools(&service), before);
    assert_eq!(
        pools(&Service::start(split(50), &["blue", "green"], "1")),
        before
    );
    service.reload(split(100));
    let after = pools(&service);
    let moved_back = before
        .iter()
        .zip(&after)
        .filter(|(one, other)| *one == "green" && *other == "blue");
    assert_eq!(moved_back.count(), 0, "only to the pool that gained");
    assert_ne!(after, before);
}
