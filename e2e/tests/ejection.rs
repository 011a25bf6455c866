//! What follows from failures and from being out: ejection and its bound, the rule for all being
//! down, and the slow start of who comes back.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};

use contract::status::OperationalState::{Down, Ejected, Up, Warming};
use e2e::ALGORITHMS;
use e2e::health::{await_state, quick_probes};
use e2e::proxy_bench::ProxyBench;
use e2e::spread::{self, Transport, spread};
use e2e::strangers::{self, REQUEST, picky};
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::deaf::{Refuser, Resetter};
use testkit::{Backend, LONG, Manner, proxy_config, until, without_probes};

/// Asks once, and does not mind being refused.
fn ask(listen: SocketAddr) -> bool {
    let read = connect(listen).and_then(|mut stream| stream.read(&mut [0]));
    matches!(read, Ok(count) if count > 0)
}

/// Asks until a backend is ejected.
#[track_caller]
fn fail_until_ejected(bench: &ProxyBench, addr: SocketAddr) {
    until("it is ejected", LONG, || {
        ask(bench.listen);
        (bench.proxy.backend(addr).operational == Ejected).then_some(())
    });
}

fn with(mut settings: Value, key: &str, value: Value) -> Value {
    settings[key] = value;
    settings
}

#[test]
fn a_backend_that_fails_sessions_is_ejected_for_longer_each_time() {
    let resetter = Resetter::new();
    let echo = Backend::start("echo", Manner::Echo);
    // Its connects succeed, so that probes pass all the time.
    let ejection = json!({ "failures": 3, "base_ms": 1_000, "max_ms": 60_000 });
    let settings = with(quick_probes(json!({})), "ejection", ejection);
    let bench = ProxyBench::start(&[resetter.addr, echo.addr], settings);
    fail_until_ejected(&bench, resetter.addr);
    let row = bench.proxy.backend(resetter.addr);
    assert!(row.reason.contains("3 sessions failed in a row"), "{row:?}");
    assert!(row.health.takes_flows && !row.health.takes_sessions);
    let first_ms = row.health.ejected_for_ms.expect("ejected");
    assert!(first_ms <= 1_000);
    until("no session reaches it any more", LONG, || {
        (bench.proxy.backend(resetter.addr).weight_effective == 0).then_some(())
    });

    await_state(&bench.proxy, resetter.addr, Up);
    fail_until_ejected(&bench, resetter.addr);
    await_state(&bench.proxy, resetter.addr, Up);
    fail_until_ejected(&bench, resetter.addr);
    let row = bench.proxy.backend(resetter.addr);
    assert_eq!(row.health.ejections_total, 3);
    let third_ms = row.health.ejected_for_ms.expect("ejected");
    assert!((2_000..=4_000).contains(&third_ms), "{third_ms}");
}

#[test]
fn who_was_ejected_returns_only_after_rise_successes() {
    const RISE: u64 = 4;
    let resetter = Resetter::new();
    let addr = resetter.addr;
    let echo = Backend::start("echo", Manner::Echo);
    // Over before the first probe passes again; so few that fail do not take it out themselves.
    let ejection = json!({ "failures": 3, "base_ms": 100 });
    let probes = quick_probes(json!({ "rise": RISE, "fall": 100 }));
    let bench = ProxyBench::start(&[addr, echo.addr], with(probes, "ejection", ejection));
    fail_until_ejected(&bench, addr);
    drop(resetter);
    let probes = || {
        let health = bench.proxy.backend(addr).health;
        let failed = health.probe_failures_total;
        (health.probes_total - failed, failed)
    };
    let (_, failed) = probes();
    until("its time is over", LONG, || {
        (probes().1 > failed + 5).then_some(())
    });
    let (before, _) = probes();
    let _back = Backend::start_at(addr, "back", Manner::Echo);
    await_state(&bench.proxy, addr, Up);
    let (after, _) = probes();
    assert!(after >= before + RISE, "{before} to {after}");
}

#[test]
fn no_more_backends_are_ejected_than_allowed() {
    let resetters = [Resetter::new(), Resetter::new(), Resetter::new()];
    let echo = Backend::start("echo", Manner::Echo);
    let mut addresses: Vec<_> = resetters.iter().map(|resetter| resetter.addr).collect();
    addresses.push(echo.addr);
    let ejection = json!({ "failures": 2, "base_ms": 600_000, "max_percent": 50 });
    let settings = with(without_probes(json!({})), "ejection", ejection);
    let bench = ProxyBench::start(&addresses, settings);
    let status = until("one is spared", LONG, || {
        ask(bench.listen);
        let status = bench.proxy.status();
        (status.health.ejections_spared > 0).then_some(status)
    });
    let ejected = status
        .backends
        .iter()
        .filter(|row| row.operational == Ejected);
    assert_eq!(ejected.count(), 2);
    until("the snapshot follows", LONG, || {
        (bench.proxy.status().health.tcp.available == 2).then_some(())
    });
}

#[test]
fn what_refuses_datagrams_is_left_out_for_flows_alone() {
    let echo = Backend::start("echo", Manner::Echo);
    let tcp_alone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = tcp_alone.local_addr().expect("it is bound");
    let ejection = json!({ "failures": 2, "base_ms": 600_000 });
    let settings = with(without_probes(json!({})), "ejection", ejection);
    let bench = ProxyBench::start(&[addr, echo.addr], settings);
    let row = until("it is ejected", LONG, || {
        let client = testkit::UdpClient::new(bench.listen);
        // Two datagrams, as the first one's refusal is told with the second.
        client.socket.send(b"one").expect("sent");
        client.socket.send(b"two").expect("sent");
        let row = bench.proxy.backend(addr);
        (row.operational == Ejected).then_some(row)
    });
    assert!(row.health.takes_sessions && !row.health.takes_flows);
    assert!(row.reason.contains("flows were refused"), "{row:?}");
    assert!(row.weight_effective > 0, "sessions go there all the same");
}

#[test]
fn where_all_are_down_sessions_are_refused_or_tried_as_configured() {
    let refuser = Refuser::new();
    let settings = with(quick_probes(json!({})), "all_down", json!("reject"));
    let mut bench = ProxyBench::start(&[refuser.addr], settings.clone());
    await_state(&bench.proxy, refuser.addr, Down);
    let health = until("the rule is in force", LONG, || {
        let health = bench.proxy.status().health;
        health.tcp.all_down_in_force.is_some().then_some(health)
    });
    assert_eq!(health.tcp.all_down_in_force.as_deref(), Some("reject"));
    assert_eq!((health.tcp.ready, health.tcp.available), (1, 0));
    let tried = bench.proxy.backend(refuser.addr).counters.connect_failures;
    assert!(!ask(bench.listen));
    bench.assert_sessions_ended("no_backend", 1);
    let row = bench.proxy.backend(refuser.addr);
    assert_eq!(row.counters.connect_failures, tried, "nobody tried it");

    let mut config = proxy_config(bench.listen, &[(refuser.addr, 10)]);
    config["health"] = settings["health"].clone();
    config["all_down"] = json!("fail_open");
    bench.proxy.reload(&config);
    let health = bench.proxy.status().health;
    assert_eq!(health.tcp.all_down_in_force.as_deref(), Some("fail_open"));
    let row = bench.proxy.backend(refuser.addr);
    assert_eq!((row.operational, row.weight_effective), (Down, 10));
    assert!(row.reason.contains("fail_open"), "{row:?}");
    bench.proxy.program.wait_for_line("all_down: fail_open");
    assert!(!ask(bench.listen));
    bench.assert_sessions_ended("connect_refused", 1);
}

#[test]
fn a_wrong_probe_with_fail_open_costs_no_session() {
    let echo = Backend::start("echo", Manner::Echo);
    let probe = json!({ "probe": "http" });
    let bench = ProxyBench::start(&[echo.addr], quick_probes(probe));
    let row = await_state(&bench.proxy, echo.addr, Down);
    assert!(row.reason.contains("not HTTP"), "{row:?}");
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 20);
    assert_eq!(reached, spread([("echo", 20)]));
}

#[test]
fn who_comes_back_starts_slowly_and_a_reload_keeps_the_place() {
    const SLOW_START_MS: u64 = 4_000;
    let echo = Backend::start("echo", Manner::Echo);
    let refuser = Refuser::new();
    let addr = refuser.addr;
    let settings = with(
        quick_probes(json!({})),
        "slow_start_ms",
        json!(SLOW_START_MS),
    );
    let mut bench = ProxyBench::with_one_worker(&[addr, echo.addr], settings.clone());
    await_state(&bench.proxy, addr, Down);
    // At the start of the process it starts slowly itself.
    await_state(&bench.proxy, echo.addr, Up);
    drop(refuser);
    let _back = Backend::start_at(addr, "back", Manner::Echo);
    let row = await_state(&bench.proxy, addr, Warming);
    assert!(row.reason.contains("slow start"), "{row:?}");
    let follows = |bench: &ProxyBench| {
        let row = bench.proxy.backend(addr);
        (row.weight_effective > 0).then_some(row)
    };
    until("the snapshot follows", LONG, || follows(&bench));
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 110);
    let back = reached.get("back").copied().unwrap_or(0);
    // A tenth against a whole and some, as long as that takes.
    assert!((5..=40).contains(&back), "{reached:?}");

    let before = bench.proxy.backend(addr).health.slow_start;
    let mut config = proxy_config(bench.listen, &[(addr, 10), (echo.addr, 10)]);
    for key in ["health", "slow_start_ms"] {
        config[key] = settings[key].clone();
    }
    bench.proxy.reload(&config);
    let after = bench.proxy.backend(addr);
    assert!(after.health.slow_start >= before && after.health.slow_start < 1.0);
    assert_eq!(after.operational, Warming);
    until("it has all of its share", LONG, || {
        let row = bench.proxy.backend(addr);
        (row.operational == Up && row.weight_effective == 10).then_some(())
    });
    // The worker follows, and what was dealt out by the weights before is made up for.
    until("they take turns", LONG, || {
        let reached = spread::in_turn(Transport::Tcp, bench.listen, 20);
        (reached == spread([("back", 10), ("echo", 10)])).then_some(())
    });
}

#[test]
fn a_new_backend_starts_slowly_and_a_warm_one_after_its_warm_up() {
    let [old, cold, new] = ["old", "cold", "new"].map(|name| Backend::start(name, Manner::Echo));
    let settings = with(without_probes(json!({})), "slow_start_ms", json!(600_000));
    let mut bench = ProxyBench::start(&[old.addr], settings.clone());
    let config = |weights: &[(SocketAddr, u64)]| {
        let mut config = proxy_config(bench.listen, weights);
        for key in ["health", "slow_start_ms"] {
            config[key] = settings[key].clone();
        }
        config
    };
    // At the start all begin alike, so that it makes no difference between them.
    assert_eq!(bench.proxy.backend(old.addr).weight_effective, 10);
    let warm = config(&[(old.addr, 10), (new.addr, 10), (cold.addr, 10)]);
    let mut warming = warm.clone();
    warming["backends"][1]["is_warming_up"] = json!(true);
    bench.proxy.reload(&warming);
    let row = bench.proxy.backend(cold.addr);
    assert_eq!(row.operational, Warming);
    assert!(row.reason.contains("slow start"), "{row:?}");
    let row = bench.proxy.backend(new.addr);
    assert_eq!(row.operational, Warming);
    assert!(row.reason.contains("reported by the backend"), "{row:?}");
    bench.proxy.reload(&warm);
    let row = bench.proxy.backend(new.addr);
    assert!(row.reason.contains("slow start"), "{row:?}");
    assert!((0.1..0.2).contains(&row.health.slow_start), "{row:?}");
}

#[test]
fn garbage_of_one_client_ejects_nobody_and_costs_nobody() {
    for algorithm in ALGORITHMS {
        let figures = strangers::play(algorithm, 30, 8);
        assert_eq!(
            figures.answered, figures.requests,
            "{algorithm}: {figures:?}"
        );
        assert_eq!(figures.ejections, 0, "{algorithm}: {figures:?}");
        assert_eq!(figures.failures, 0.0, "{algorithm}: {figures:?}");
    }
}

#[test]
fn a_protocol_without_answers_ejects_nobody() {
    let backends = [(); 3].map(|()| picky(false));
    let bench = ProxyBench::start(&backends, without_probes(json!({})));
    for round in 0..60 {
        let client = Ipv4Addr::new(127, 0, 8, round % 5 + 1);
        strangers::say(client, bench.listen, b"a message");
    }
    bench.proxy.await_no_sessions();
    for addr in backends {
        let row = bench.proxy.backend(addr);
        assert_eq!(row.health.ejections_total, 0, "{row:?}");
        assert!(row.counters.sessions_total > 0, "{row:?}");
    }
}

#[test]
fn a_backend_that_answers_nobody_is_ejected_by_one_client_that_others_answer_and_by_three() {
    for clients in [1, 3] {
        let hole = picky(false);
        let backends = [hole, picky(true), picky(true)];
        // Each from an address of its own: no backend has answered those that the hole gets.
        let bench = ProxyBench::start(&backends, without_probes(json!({})));
        let mut asked = 0_u8;
        until("it is ejected", LONG, || {
            asked = asked.wrapping_add(1);
            let client = match clients {
                1 => 1,
                _ => asked,
            };
            strangers::say(Ipv4Addr::new(127, 0, 9, client), bench.listen, REQUEST);
            (bench.proxy.backend(hole).operational == Ejected).then_some(())
        });
        // The first ones count for nothing, and then five do.
        assert!(asked < 60, "{asked} sessions of {clients} clients");
        let rows = backends.map(|addr| bench.proxy.backend(addr));
        assert!(rows[1..].iter().all(|row| row.health.ejections_total == 0));
    }
}
