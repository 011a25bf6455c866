//! Discovery, registrations and operators reach the proxy through control, and traffic outlives
//! control.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use contract::status::OperationalState;
use e2e::loop_bench::{LoopBench, published};
use e2e::spread::{self, Transport, spread};
use e2e::traffic::Traffic;
use serde_json::{Value, json};
use testkit::folder::k8s_endpoints;
use testkit::ports::free_address;
use testkit::proxy::announced;
use testkit::wait::within;
use testkit::{Backend, Control, Folder, LONG, Manner, Program, UdpClient, until};

/// How `k8s_endpoints.json` may be changed by somebody else's program.
type Write = fn(&Path, &[u8]);

fn by_rename(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).expect("a temporary folder");
    fs::rename(&beside, path).expect("a temporary folder");
}

fn in_place(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a temporary folder");
}

#[test]
fn a_change_of_discovery_reaches_new_sessions_within_a_second() {
    let bench = LoopBench::start(json!({}));
    let path = bench.folder.root.k8s_endpoints();
    let only = |backend: &Backend| {
        let value = k8s_endpoints(&[(backend.addr, 10)]);
        value.to_string().into_bytes()
    };
    let ways: [(&str, Write); 2] = [("by rename", by_rename), ("in place", in_place)];
    for (way, write) in ways {
        let mut took = Vec::new();
        for backend in [&bench.b, &bench.a].repeat(3) {
            let begun = Instant::now();
            write(&path, &only(backend));
            bench.await_reached(backend.name());
            took.push(begun.elapsed());
        }
        // Each has arrived; a machine that is busy with other work may have held one up.
        took.sort();
        assert!(
            took[took.len() / 2] < Duration::from_secs(1),
            "{way}: {took:?}"
        );
    }
}

/// `docs/adr/0011`: an agent that is silent says nothing of its server.
#[test]
fn a_flow_of_a_registration_that_expires_goes_on_while_its_backend_answers() {
    let bench = LoopBench::start(json!({ "runtime_ttl_sec": 2 }));
    bench.register_b();
    let (client, before) = until("a flow reaches b", LONG, || {
        let client = UdpClient::new(bench.listen);
        let who = client.who().ok()?;
        (who.backend == "b").then_some((client, who))
    });
    let goes_on = || assert_eq!(client.who().expect("b answers"), before);
    until("the silent registration is disabled", LONG, || {
        goes_on();
        let entry = published(&bench.folder, bench.b.addr)?;
        (entry["enabled"] == json!(false)).then_some(())
    });
    until("no new flow reaches b", LONG, || {
        goes_on();
        let reached = spread::in_turn(Transport::Udp, bench.listen, 10);
        (reached == spread([("a", 10)])).then_some(())
    });
    goes_on();
    bench.b.silence_udp(true);
    let timeout = Some(Duration::from_millis(100));
    client.socket.set_read_timeout(timeout).expect("above zero");
    until("the flow moves", LONG, || {
        (client.who().ok()?.backend == "a").then_some(())
    });
}

#[test]
fn a_registration_is_served_expires_and_can_come_back() {
    let bench = LoopBench::start(json!({ "runtime_ttl_sec": 2 }));
    bench.register_b();
    bench.await_reached("b");
    // Beats go on for longer than the TTL.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3000) {
        bench.register_b();
        let entry = published(&bench.folder, bench.b.addr).expect("registered");
        assert_eq!(entry["enabled"], json!(true), "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    until("the silent registration is disabled", LONG, || {
        let entry = published(&bench.folder, bench.b.addr)?;
        (entry["enabled"] == json!(false)).then_some(())
    });
    until("nobody reaches b any more", LONG, || {
        let reached = spread::in_turn(Transport::Tcp, bench.listen, 10);
        (reached == spread([("a", 10)])).then_some(())
    });
    bench.register_b();
    bench.await_reached("b");
}

#[test]
fn what_discovery_says_counts_again_when_a_registration_is_gone() {
    let bench = LoopBench::start(json!({ "runtime_ttl_sec": 1 }));
    bench
        .folder
        .write_k8s(&[(bench.a.addr, 10), (bench.b.addr, 3)]);
    bench.await_weight(&bench.b, 3);
    bench.register_b();
    bench.await_weight(&bench.b, 10);
    bench.await_weight(&bench.b, 3);
    bench.await_reached("b");
}

#[test]
fn states_are_kept_though_nobody_looks_on() {
    let probes = json!({ "interval_ms": 50, "fall": 1, "rise": 1 });
    let bench = LoopBench::start(json!({ "proxy": { "health": probes } }));
    let addr = bench.a.addr;
    let is = |wanted: OperationalState| {
        until(&format!("{wanted:?}"), LONG, || {
            (bench.proxy.backend(addr).operational == wanted).then_some(())
        });
        // Control looks once a second, and asking it would make it look.
        std::thread::sleep(Duration::from_millis(2_500));
    };
    is(OperationalState::Up);
    drop(bench.a);
    is(OperationalState::Down);
    let _a = Backend::start_at(addr, "a", Manner::Echo);
    is(OperationalState::Up);
    let (status, detail) = bench.control.api.get(&format!("/api/v1/backends/{addr}"));
    assert_eq!(status, 200, "{detail}");
    let history = detail["history"].as_array().expect("a list").iter();
    let words: Vec<&Value> = history.map(|state| &state["operational"]).collect();
    assert_eq!(words[..2], ["up", "down"], "the newest first: {detail}");
}

#[test]
fn an_operators_weight_survives_beats_expiry_and_restarts_until_it_is_cleared() {
    let mut bench = LoopBench::start(json!({ "runtime_ttl_sec": 1 }));
    bench.register_b();
    bench.await_weight(&bench.b, 10);
    let (status, answer) = bench.control.api.set_weight(bench.b.addr, 7);
    assert_eq!(status, 200, "{answer}");
    bench.await_weight(&bench.b, 7);
    let weight = |bench: &LoopBench| bench.proxy.backend(bench.b.addr).weight;
    bench.register_b();
    assert_eq!(weight(&bench), 7, "after a beat");
    until("the registration expires", LONG, || {
        let entry = published(&bench.folder, bench.b.addr)?;
        (entry["enabled"] == json!(false)).then_some(())
    });
    bench.register_b();
    bench.await_reached("b");
    assert_eq!(weight(&bench), 7, "after expiry");
    bench.kill_control();
    bench.restart_control();
    bench.register_b();
    bench.control.api.post_nothing("/api/sync");
    assert_eq!(weight(&bench), 7, "after a restart");

    let (ip, port) = (bench.b.addr.ip(), bench.b.addr.port());
    let path = format!("/api/backends/{ip}/{port}/override");
    let (status, answer) = bench.control.api.delete(&path, None);
    assert_eq!(status, 200, "{answer}");
    bench.register_b();
    bench.await_weight(&bench.b, 10);
}

#[test]
fn traffic_never_notices_that_control_is_killed_and_restarted() {
    let mut bench = LoopBench::of(Manner::Duplex, json!({}));
    bench.register_b();
    until("b is published", LONG, || {
        published(&bench.folder, bench.b.addr)
    });
    let traffic = Traffic::start(bench.listen, 2);
    let path = bench.folder.root.proxy_config();
    for _ in 0..3 {
        traffic.await_sessions(10);
        bench.kill_control();
        let before = fs::read(&path).expect("it stands");
        traffic.await_sessions(10);
        assert!(fs::read(&path).expect("it stands") == before);
        bench.restart_control();
        traffic.await_sessions(10);
        for backend in [&bench.a, &bench.b] {
            let entry = published(&bench.folder, backend.addr).expect("still published");
            assert_eq!(entry["enabled"], json!(true), "{entry}");
        }
    }
    let (status, answer) = bench.control.api.set_weight(bench.b.addr, 500);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    traffic.stop_without_failure();
    bench.proxy.await_no_sessions();
}

#[test]
fn generations_only_grow_over_restarts_of_control() {
    let mut bench = LoopBench::start(json!({}));
    let generation = |bench: &LoopBench| {
        let config = bench.folder.proxy_config().expect("published");
        config["generation"].as_u64().expect("a number")
    };
    let mut last = generation(&bench);
    for weight in [11, 12, 13] {
        bench.control.api.set_weight(bench.a.addr, weight);
        assert!(generation(&bench) > last, "after a change");
        last = generation(&bench);
        bench.kill_control();
        bench.restart_control();
        assert!(generation(&bench) >= last, "after a restart");
    }
    bench.await_weight(&bench.a, 13);
}

#[test]
fn telemetry_alone_makes_no_new_generation_and_reaches_the_proxy() {
    let bench = LoopBench::start(json!({}));
    bench.register_b();
    until("b is published", LONG, || {
        published(&bench.folder, bench.b.addr)
    });
    bench.control.api.post_nothing("/api/sync");
    let before = bench.proxy.status();
    for step in 1..=20 {
        let body = json!({
            "ip": bench.b.addr.ip(), "port": bench.b.addr.port(), "weight": 10,
            "gpu_usage": f64::from(step) / 100.0,
        });
        let (status, answer) = bench.control.api.post("/api/register", &body);
        assert_eq!(status, 200, "{answer}");
    }
    until("the last figure reaches the proxy", LONG, || {
        (bench.proxy.backend(bench.b.addr).gpu_usage == Some(0.2)).then_some(())
    });
    let after = bench.proxy.status();
    assert_eq!(after.running.generation, before.running.generation);
}

#[test]
fn dummy_proxy_is_told_of_every_change() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    folder.write_k8s(&[(a.addr, 10)]);
    let control = Control::start(&folder, free_address(), &json!({}));
    let mut dummy = Program::start("dummy_proxy", ["--root", folder.root_argument()]);
    let pid_file = folder.root.proxy_pid();
    until("dummy_proxy is ready", LONG, || {
        (announced(&pid_file) == Some(dummy.pid())).then_some(())
    });
    let (_, answer) = control.api.set_weight(a.addr, 91);
    assert_eq!(answer["sync"]["reload"]["ok"], json!(true), "{answer}");
    dummy.wait_for_line("weight=91");
    // No beat, no change: no signal.
    dummy.skip_lines();
    assert_eq!(
        within(Duration::from_millis(300), || dummy
            .line_within("SIGHUP", Duration::ZERO)),
        None
    );
}
