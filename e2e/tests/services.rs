//! Many services on one proxy: the extended format, in which each listener and each pool goes by rules of
//! its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use contract::refusal::RefusalCode;
use contract::status::{ListenerTotals, OperationalState};
use e2e::sessions::assert_alive;
use e2e::traffic::Traffic;
use serde_json::{Value, json};
use testkit::client::{UdpClient, connect};
use testkit::ports::{bind_both, free_address};
use testkit::{Backend, Folder, LONG, Manner, Proxy, Session, process, until};

/// A listener that leads to `pool`.
fn listener(name: &str, addr: SocketAddr, pool: &str, settings: Value) -> Value {
    let mut listener =
        json!({ "name": name, "host": addr.ip(), "port": addr.port(), "pool": pool });
    extend(&mut listener, settings);
    listener
}

fn pool(backends: &[&Backend], settings: Value) -> Value {
    let backends = backends.iter();
    let backends: Vec<Value> = backends
        .map(|backend| json!({ "ip": backend.addr.ip(), "port": backend.addr.port() }))
        .collect();
    let mut pool = json!({ "backends": backends, "health": { "probe": "off" } });
    extend(&mut pool, settings);
    pool
}

fn extend(object: &mut Value, with: Value) {
    let (Value::Object(object), Value::Object(with)) = (object, with) else {
        panic!("settings are an object");
    };
    object.extend(with);
}

fn start(config: &Value) -> (Proxy, Folder) {
    let folder = Folder::new();
    (Proxy::start(&folder, config, &["-w", "2"]), folder)
}

fn echo(name: &str) -> Backend {
    Backend::start(name, Manner::Echo)
}

fn open(addr: SocketAddr) -> Session {
    Session::open(addr).expect("served")
}

fn totals(proxy: &Proxy, name: &str) -> ListenerTotals {
    let all = proxy.status().listener_totals;
    let found = all.into_iter().find(|listener| listener.name == name);
    found.unwrap_or_else(|| panic!("{name} is a listener"))
}

/// How many ended for `reason`.
fn count(ended: &BTreeMap<String, u64>, reason: &str) -> u64 {
    ended.get(reason).copied().unwrap_or(0)
}

#[test]
fn each_listener_takes_its_protocols_to_its_pool() {
    let (chat, dns, web) = (echo("chat"), echo("dns"), echo("web"));
    let [at_chat, at_dns, at_web] = [free_address(), free_address(), free_address()];
    let config = json!({
        "listen": { "host": at_web.ip(), "port": at_web.port() },
        "backends": [{ "ip": web.addr.ip(), "port": web.addr.port() }],
        "listeners": [
            listener("chat", at_chat, "chat", json!({ "protocol": "tcp" })),
            listener("dns", at_dns, "dns", json!({ "protocol": "tcp+udp" })),
        ],
        "pools": { "chat": pool(&[&chat], json!({})), "dns": pool(&[&dns], json!({})) },
    });
    let (proxy, _folder) = start(&config);
    for (addr, name) in [(at_chat, "chat"), (at_dns, "dns"), (at_web, "web")] {
        assert_eq!(open(addr).backend, name);
    }
    for (addr, name) in [(at_dns, "dns"), (at_web, "web")] {
        let who = UdpClient::new(addr).who().expect("answered");
        assert_eq!(who.backend, name);
    }
    assert!(UdpClient::new(at_chat).who().is_err(), "TCP only");
    let status = proxy.status();
    let pools = status
        .pools
        .iter()
        .map(|pool| (&*pool.name, pool.tcp, pool.udp));
    let right = [
        ("default", true, true),
        ("chat", true, false),
        ("dns", true, true),
    ];
    assert_eq!(pools.collect::<Vec<_>>(), right);
    assert_eq!(totals(&proxy, "chat").totals.counters.sessions_total, 1);
}

#[test]
fn the_session_log_names_the_service_also_of_a_pool_that_was_removed() {
    let (chat, web) = (echo("chat"), echo("web"));
    let [at_chat, at_web] = [free_address(), free_address()];
    let base = json!({
        "listen": { "host": at_web.ip(), "port": at_web.port() },
        "backends": [{ "ip": web.addr.ip(), "port": web.addr.port() }],
    });
    let mut config = base.clone();
    config["listeners"] = json!([listener("talk", at_chat, "chat", json!({}))]);
    config["pools"] = json!({ "chat": pool(&[&chat], json!({})) });
    let (mut proxy, _folder) = start(&config);
    // Each line of a client, by its own address.
    let line_of = |proxy: &mut Proxy, session: Session| {
        let client = session.stream.local_addr().expect("bound");
        drop(session);
        proxy.program.wait_for_line(&format!("client={client} "))
    };
    let line = {
        let session = open(at_chat);
        line_of(&mut proxy, session)
    };
    assert!(line.contains(r#"listener="talk" pool="chat""#), "{line}");
    let line = {
        let session = open(at_web);
        line_of(&mut proxy, session)
    };
    assert!(
        !line.contains("listener=") && !line.contains("pool="),
        "{line}"
    );
    let client = UdpClient::new(at_chat);
    client.who().expect("answered");
    let left = open(at_chat);
    proxy.reload(&base);
    let line = line_of(&mut proxy, left);
    assert!(line.contains(r#"listener="talk" pool="chat""#), "{line}");
}

#[test]
fn idle_times_are_the_listeners() {
    let backend = echo("b");
    let [short, long] = [free_address(), free_address()];
    let config = json!({
        "listeners": [
            listener("short", short, "all", json!({ "idle_timeout_ms": 300, "udp_idle_ms": 300 })),
            listener("long", long, "all", json!({})),
        ],
        "pools": { "all": pool(&[&backend], json!({})) },
    });
    let (proxy, _folder) = start(&config);
    let patient = UdpClient::new(long);
    let before = patient.who().expect("answered");
    let mut staying = [open(long)];
    let (_silent, hasty) = (open(short), UdpClient::new(short));
    let first = hasty.who().expect("answered");
    proxy.await_sessions_ended("idle_timeout", 1);
    until("the flow of the short one is over", LONG, || {
        let flows = totals(&proxy, "short").totals.counters.flows_active;
        (flows == 0).then_some(())
    });
    assert_ne!(hasty.who().expect("answered").upstream, first.upstream);
    assert_eq!(patient.who().expect("answered"), before, "the same flow");
    assert_alive(&mut staying);
    let ended = |name| count(&totals(&proxy, name).totals.sessions_ended, "idle_timeout");
    assert_eq!((ended("short"), ended("long")), (1, 0));
}

#[test]
fn a_full_listener_pauses_alone() {
    let backend = echo("b");
    let [small, large] = [free_address(), free_address()];
    let config = json!({
        "listeners": [
            listener("small", small, "all", json!({ "max_sessions": 2 })),
            listener("large", large, "all", json!({})),
        ],
        "pools": { "all": pool(&[&backend], json!({})) },
    });
    let (proxy, _folder) = start(&config);
    let full = [open(small), open(small)];
    let waiting = connect(small).expect("the kernel queues it");
    until("the small one pauses", LONG, || {
        (totals(&proxy, "small").accept_pauses > 0).then_some(())
    });
    let mut others: Vec<Session> = (0..20).map(|_| open(large)).collect();
    assert_alive(&mut others);
    let active = |name| totals(&proxy, name).totals.counters.sessions_active;
    assert_eq!((active("small"), active("large")), (2, 20));
    assert_eq!(totals(&proxy, "large").accept_pauses, 0);
    drop(full);
    let mut served = [Session::over(waiting).expect("there is room now")];
    assert_alive(&mut served);
}

#[test]
fn a_listener_full_of_flows_takes_none_of_another() {
    let backend = echo("b");
    let [small, large] = [free_address(), free_address()];
    let config = json!({
        "listeners": [
            listener("small", small, "all", json!({ "max_flows": 4 })),
            listener("large", large, "all", json!({})),
        ],
        "pools": { "all": pool(&[&backend], json!({})) },
    });
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, &config, &["-w", "1"]);
    let patient = UdpClient::new(large);
    let before = patient.who().expect("answered");
    for _ in 0..40 {
        UdpClient::new(small).who().expect("answered");
    }
    let of = |name| totals(&proxy, name).totals;
    assert_eq!(of("small").counters.flows_active, 4);
    assert_eq!(count(&of("small").flows_ended, "evicted"), 36);
    assert_eq!(patient.who().expect("answered"), before, "the same flow");
    assert_eq!(count(&of("large").flows_ended, "evicted"), 0);
}

#[test]
fn an_address_in_two_pools_is_judged_by_the_rules_of_each() {
    let (dead, reserved) = bind_both();
    let addr = dead.local_addr().expect("bound");
    // Nobody listens there, and nobody else can.
    drop((dead, reserved));
    let entry = json!([{ "ip": addr.ip(), "port": addr.port() }]);
    let quick = json!({ "probe": "tcp", "interval_ms": 50, "timeout_ms": 500, "fall": 1 });
    let config = json!({
        "listeners": [
            listener("a", free_address(), "watched", json!({})),
            listener("b", free_address(), "quiet", json!({})),
        ],
        "pools": {
            "watched": { "backends": entry, "health": quick },
            "quiet": { "backends": entry, "health": { "probe": "off" } },
        },
    });
    let (proxy, _folder) = start(&config);
    let state = |pool: &str| {
        let rows = proxy.status().backends;
        let row = rows.into_iter().find(|row| row.pool == pool);
        row.expect("it is listed").operational
    };
    until("the watched one is down", LONG, || {
        (state("watched") == OperationalState::Down).then_some(())
    });
    assert_ne!(state("quiet"), OperationalState::Down);
    let probes: BTreeMap<String, String> = proxy
        .status()
        .pools
        .into_iter()
        .map(|pool| (pool.name, pool.health.probe))
        .collect();
    assert_eq!(probes["watched"], "tcp");
    assert_eq!(probes["quiet"], "off");
}

#[test]
fn sessions_of_gone_backends_end_by_the_time_of_their_pool() {
    let (leaving, staying) = (echo("leaving"), echo("staying"));
    let [hasty, patient, removed] = [free_address(), free_address(), free_address()];
    let listeners = |of_removed: &str| {
        json!([
            listener("hasty", hasty, "hasty", json!({})),
            listener("patient", patient, "patient", json!({})),
            listener("removed", removed, of_removed, json!({})),
        ])
    };
    let now = json!({ "backend_gone_timeout_ms": 0 });
    let later = json!({ "backend_gone_timeout_ms": 700 });
    let before = json!({
        "listeners": listeners("removed"),
        "pools": {
            "hasty": pool(&[&leaving], now.clone()),
            "patient": pool(&[&leaving], json!({})),
            "removed": pool(&[&leaving], later),
        },
    });
    let (mut proxy, _folder) = start(&before);
    let (_hasty, mut kept, mut last) = (open(hasty), [open(patient)], [open(removed)]);
    let after = json!({
        "listeners": listeners("hasty"),
        "pools": { "hasty": pool(&[&staying], now), "patient": pool(&[&staying], json!({})) },
    });
    let begun = Instant::now();
    proxy.reload(&after);
    proxy.await_sessions_ended("backend_gone", 1);
    assert_alive(&mut last);
    // The pool is no more; its sessions have the time that it gave them.
    proxy.await_sessions_ended("backend_gone", 2);
    assert!(begun.elapsed() >= Duration::from_millis(600), "too soon");
    assert_alive(&mut kept);
    assert_eq!(open(removed).backend, "staying");
}

#[test]
fn a_listener_that_cannot_be_bound_is_named_and_the_others_change() {
    let (a, b) = (echo("a"), echo("b"));
    let (taken, _udp) = bind_both();
    let taken = taken.local_addr().expect("bound");
    let [old, free] = [free_address(), free_address()];
    let pools = json!({ "a": pool(&[&a], json!({})), "b": pool(&[&b], json!({})) });
    let tcp = || json!({ "protocol": "tcp" });
    let of = |first: Value| json!({ "listeners": first, "pools": pools });
    let (mut proxy, _folder) = start(&of(json!([listener("one", old, "a", tcp())])));
    proxy.reload(&of(json!([
        listener("two", free, "b", tcp()),
        listener("one", taken, "a", tcp()),
    ])));
    let value = format!("{taken}/tcp");
    proxy.await_refusals(&[(RefusalCode::AddressInUse, "/listeners/1", &value)]);
    assert_eq!(open(free).backend, "b");
    assert_eq!(open(old).backend, "a", "its last address serves on");
    proxy.reload(&of(json!([listener("one", free, "a", tcp())])));
    proxy.await_refusals(&[]);
    assert_eq!(open(free).backend, "a", "the same socket, another listener");
}

#[test]
fn a_listener_moved_to_another_pool_keeps_its_socket_and_loses_no_session() {
    let (a, b) = (echo("a"), echo("b"));
    let addr = free_address();
    let of = |to: &str| {
        json!({
            "listeners": [listener("one", addr, to, json!({}))],
            "pools": { "a": pool(&[&a], json!({})), "b": pool(&[&b], json!({})) },
        })
    };
    let (mut proxy, _folder) = start(&of("a"));
    let mut before = [open(addr)];
    let flow = UdpClient::new(addr);
    let asked = flow.who().expect("answered");
    proxy.reload(&of("b"));
    assert_alive(&mut before);
    assert_eq!(flow.who().expect("answered"), asked, "the same flow");
    assert_eq!(open(addr).backend, "b");
    let who = UdpClient::new(addr).who().expect("answered");
    assert_eq!(who.backend, "b");
}

#[test]
fn sessions_and_flows_of_a_removed_listener_take_no_place_of_the_others() {
    let backend = echo("b");
    let [x, y] = [free_address(), free_address()];
    let bounds = |sessions: u64| json!({ "max_sessions": sessions, "max_flows": sessions });
    let of = |name: &str| {
        json!({
            "listeners": [listener(name, x, "all", bounds(5)), listener("y", y, "all", bounds(7))],
            "pools": { "all": pool(&[&backend], json!({})) },
        })
    };
    let folder = Folder::new();
    let mut proxy = Proxy::start(&folder, &of("x"), &["-w", "1"]);
    let sessions =
        |addr, count: usize| -> Vec<Session> { (0..count).map(|_| open(addr)).collect() };
    let flows = |addr, count: usize| -> Vec<UdpClient> {
        let clients = (0..count).map(|_| UdpClient::new(addr));
        clients
            .inspect(|client| drop(client.who().expect("answered")))
            .collect()
    };
    let mut held = sessions(x, 5);
    let _full = (flows(x, 5), flows(y, 7));
    assert_eq!(proxy.status().limits.max_sessions, 12);
    proxy.reload(&of("x2"));
    held.extend(sessions(x, 5));
    held.extend(sessions(y, 7));
    assert_alive(&mut held);
    let _more = flows(x, 5);
    let evicted = |name| count(&totals(&proxy, name).totals.flows_ended, "evicted");
    assert_eq!((evicted("x"), evicted("x2"), evicted("y")), (0, 0, 0));
}

#[test]
fn a_new_client_of_a_retired_address_reaches_the_listener_of_its_family() {
    let [e, a, c] = ["e", "a", "c"].map(echo);
    let v6 = testkit::ports::free_address_on("::1".parse().expect("an address"));
    let port = v6.port();
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    let at = |host: &str| SocketAddr::new(host.parse().expect("an address"), port);
    let pools = json!({
        "e": pool(&[&e], json!({})), "a": pool(&[&a], json!({})), "c": pool(&[&c], json!({})),
    });
    let wide = [
        listener("w", at("0.0.0.0"), "a", json!({ "protocol": "udp" })),
        listener("v", at("::"), "c", json!({ "protocol": "udp" })),
    ];
    let mut backwards = wide.clone();
    backwards.reverse();
    for wide in [wide, backwards] {
        for (narrow, right) in [(v4, "a"), (v6, "c")] {
            let first = json!([listener("o", narrow, "e", json!({ "protocol": "udp" }))]);
            let config = |listeners: Value| json!({ "listeners": listeners, "pools": pools });
            let (mut proxy, _folder) = start(&config(first));
            let old = UdpClient::new(narrow);
            assert_eq!(old.who().expect("answered").backend, "e");
            proxy.reload(&config(json!(wide)));
            assert_eq!(
                old.who().expect("answered").backend,
                "e",
                "its flow goes on"
            );
            let new = UdpClient::new(narrow).who().expect("answered");
            assert_eq!(new.backend, right, "{narrow}");
        }
    }
}

#[test]
fn more_listeners_than_there_are_descriptors_for_are_refused() {
    let backend = echo("b");
    let first = free_address();
    let config = |count: u16| {
        let mut listeners = vec![listener("first", first, "all", json!({}))];
        // Nobody binds them: the file is refused before.
        listeners.extend((0..count).map(|at| {
            let addr = SocketAddr::from(([127, 0, 0, 2], 20_000 + at));
            listener(&format!("other-{at}"), addr, "all", json!({}))
        }));
        json!({ "listeners": listeners, "pools": { "all": pool(&[&backend], json!({})) } })
    };
    let folder = Folder::new();
    folder.write_proxy_config(&config(0));
    let start = |folder: &Folder| {
        let mut command = process::command_with_descriptors("proxy_server", 400);
        command.args(["--root", folder.root_argument(), "-w", "1"]);
        process::Program::spawn(command)
    };
    let mut proxy = Proxy::ready(&folder, start(&folder));
    let reload = proxy.reload_refused(config(250).to_string().as_bytes());
    let reason = reload.reason.expect("it says why");
    assert!(
        reason.contains("/listeners: found 251 listeners"),
        "{reason}"
    );
    assert!(reason.contains("limit on open files"), "{reason}");
    assert_alive(&mut [open(first)]);
    proxy.reload(&config(1));
    // A start says the same.
    let folder = Folder::new();
    folder.write_proxy_config(&config(250));
    let mut program = start(&folder);
    program.wait_for_line("/listeners: found 251 listeners");
    assert!(!program.wait_exit(LONG).success());
}

/// Reloads of [`two_hundred_reloads_fail_no_session_and_move_no_flow`].
const RELOADS: u64 = 200;

#[test]
fn two_hundred_reloads_fail_no_session_and_move_no_flow() {
    let streams: Vec<Backend> = (0..2)
        .map(|at| Backend::start(&format!("stream-{at}"), Manner::Duplex))
        .collect();
    let answers = [echo("answer-0"), echo("answer-1")];
    let [tcp, udp] = [free_address(), free_address()];
    let others = [free_address(), free_address()];
    // Names and order change, pools come and go; the two addresses that are asked are always there.
    let config = |turn: u64| {
        let name = |what: &str, every: u64| format!("{what}-{}", turn / every % 2);
        let (of_tcp, of_udp) = (name("streams", 3), name("answers", 5));
        let mut listeners = vec![
            listener(&name("tcp", 1), tcp, &of_tcp, json!({ "protocol": "tcp" })),
            listener(&name("udp", 2), udp, &of_udp, json!({ "protocol": "udp" })),
        ];
        for (at, addr) in (0..).zip(others) {
            if turn >> at & 1 == 1 {
                listeners.push(listener(&format!("other-{at}"), addr, &of_tcp, json!({})));
            }
        }
        let count = listeners.len();
        listeners.rotate_left(turn as usize % count);
        let both: Vec<&Backend> = streams.iter().collect();
        let mut pools = BTreeMap::new();
        pools.insert(of_tcp, pool(&both, json!({})));
        pools.insert(of_udp, pool(&[&answers[0], &answers[1]], json!({})));
        if turn % 4 < 2 {
            pools.insert("aside".to_owned(), pool(&[&answers[0]], json!({})));
        }
        json!({ "listeners": listeners, "pools": pools })
    };
    let (mut proxy, _folder) = start(&config(0));
    let traffic = Traffic::start(tcp, 4);
    let is_over = Arc::new(AtomicBool::new(false));
    let flows: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let client = UdpClient::new(udp);
                let first = client.who().expect("answered");
                while !is_over.load(Relaxed) {
                    assert_eq!(client.who().expect("answered"), first, "the same flow");
                    std::thread::sleep(Duration::from_millis(2));
                }
            })
        })
        .collect();
    for turn in 1..=RELOADS {
        proxy.reload(&config(turn));
    }
    traffic.await_sessions(10);
    is_over.store(true, Relaxed);
    for flow in flows {
        flow.join().expect("the flow was never moved");
    }
    traffic.stop_without_failure();
    proxy.await_no_sessions();
    let status = proxy.status();
    assert_eq!(status.reloads_ok, RELOADS);
    assert_eq!(status.reloads_refused, 0);
    assert!(status.running.refusals.is_empty());
    let failed = [
        "no_backend",
        "connect_refused",
        "backend_gone",
        "internal_error",
    ];
    for reason in failed {
        assert_eq!(count(&status.totals.sessions_ended, reason), 0, "{reason}");
    }
}

#[test]
fn the_check_takes_the_extended_format_and_names_its_faults() {
    let backend = echo("b");
    let mut config = json!({
        "listeners": [listener("one", free_address(), "all", json!({ "udp_idle_ms": 5 }))],
        "pools": { "all": pool(&[&backend], json!({})) },
    });
    let check = |config: &Value| {
        let folder = Folder::new();
        folder.write_proxy_config(config);
        let path = folder.root.proxy_config();
        let path = path.to_str().expect("a path of text");
        let output = process::run("proxy_server", ["--check", "-c", path]);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (code, text) = check(&config);
    assert_eq!(code, Some(0), "{text}");
    config["listeners"][0]["pool"] = json!("al");
    config["pools"]["all"]["routes"] = json!([]);
    let (code, text) = check(&config);
    assert_ne!(code, Some(0));
    assert!(
        text.contains("/listeners/0/pool: found \"al\", allowed: one of all"),
        "{text}"
    );
    assert!(text.contains("/pools/all/routes"), "{text}");
}

#[test]
fn a_listener_serves_at_several_addresses_and_a_reload_adds_and_switches_off() {
    let chat = echo("chat");
    let addr = free_address();
    let other = SocketAddr::from(([127, 0, 0, 2], addr.port()));
    let config = |host: Value, enabled: bool| {
        let more = json!({ "host": host, "enabled": enabled });
        json!({
            "listeners": [listener("chat", addr, "chat", more)],
            "pools": { "chat": pool(&[&chat], json!({})) },
        })
    };
    let both = json!(["127.0.0.1", "127.0.0.2"]);
    let (mut proxy, _folder) = start(&config(json!("127.0.0.1"), true));
    let mut open_session = open(addr);
    assert!(Session::open(other).is_err());
    proxy.reload(&config(both.clone(), true));
    for addr in [addr, other] {
        assert_eq!(open(addr).backend, "chat");
        assert_eq!(
            UdpClient::new(addr).who().expect("answered").backend,
            "chat"
        );
    }
    assert_eq!(proxy.status().running.listeners.len(), 2);

    proxy.reload(&config(both.clone(), false));
    until("new sessions are refused", LONG, || {
        Session::open(other).err()
    });
    assert!(Session::open(addr).is_err());
    open_session
        .echo(b"still there")
        .expect("a reload touches nothing open");
    assert_eq!(proxy.status().running.listeners, []);
    proxy.reload(&config(both, true));
    assert_eq!(open(other).backend, "chat");
    open_session
        .echo(b"still there")
        .expect("a reload touches nothing open");
}
