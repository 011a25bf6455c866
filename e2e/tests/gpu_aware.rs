//! `gpu_aware` and `peak_ewma` on real sockets: what backends report, how fast they answer and how
//! they fail moves new sessions and flows, at once and without a reload, and is explained.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::status::BackendCost;
use e2e::loop_bench::LoopBench;
use e2e::proxy_bench::ProxyBench;
use e2e::scripted::{Scripted, ask};
use e2e::sessions::open_sessions;
use e2e::spread::{Spread, Transport, in_turn, spread};
use serde_json::{Value, json};
use testkit::http::Request;
use testkit::{Backend, LONG, Manner, Session, proxy_config, until};

/// A session that moves nothing for so long is found idle.
const QUIET: Duration = Duration::from_secs(1);
const GPU_AWARE: &str = r#"{"algorithm": "gpu_aware", "session_log": "off"}"#;

fn settings() -> Value {
    serde_json::from_str(GPU_AWARE).expect("a literal")
}

fn two() -> [Backend; 2] {
    ["a", "b"].map(|name| Backend::start(name, Manner::Echo))
}

fn bench(pool: &[Backend]) -> ProxyBench {
    let addrs: Vec<SocketAddr> = pool.iter().map(|backend| backend.addr).collect();
    ProxyBench::start(&addrs, settings())
}

/// Tells the proxy the usage of each backend, as control does.
#[track_caller]
fn report(bench: &ProxyBench, usages: &[(SocketAddr, f64)]) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let reports: Vec<Value> = usages
        .iter()
        .map(|(addr, usage)| {
            json!({
                "ip": addr.ip(), "port": addr.port(), "gpu_usage": 0.0, "vram_usage": usage,
                "reported_at_ms": now.as_millis() as u64,
            })
        })
        .collect();
    let request = Request::new("POST", "/reports")
        .header("Content-Type", "application/json")
        .body(json!({ "reports": reports }).to_string());
    let answer = bench.proxy.admin.exchange(request).expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let taken: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(taken["taken"], json!(usages.len()), "{taken}");
}

fn cost(bench: &ProxyBench, addr: SocketAddr) -> BackendCost {
    bench.proxy.backend(addr).cost.expect("gpu_aware explains")
}

fn reached(sessions: &[Session]) -> Spread {
    let mut reached = Spread::new();
    for session in sessions {
        *reached.entry(session.backend.clone()).or_default() += 1;
    }
    reached
}

#[test]
fn a_report_moves_the_very_next_sessions_and_flows_without_a_reload() {
    for (full, empty, name) in [(0, 1, "b"), (1, 0, "a")] {
        let pool = two();
        let bench = bench(&pool);
        // Its answer says that it counts.
        report(&bench, &[(pool[full].addr, 0.99), (pool[empty].addr, 0.1)]);
        let sessions = open_sessions(bench.listen, 6);
        assert_eq!(reached(&sessions), spread([(name, 6)]));
        assert_eq!(
            in_turn(Transport::Udp, bench.listen, 4),
            spread([(name, 4)])
        );
        assert_eq!(bench.proxy.status().reloads_ok, 0);
    }
}

/// An engine without work may never renew its figures.
#[test]
fn an_idle_backend_that_repeats_a_full_cache_serves_beside_the_other() {
    let pool = two();
    let [stuck, other] = [pool[0].addr, pool[1].addr];
    let addrs = [stuck, other];
    let mut settings = settings();
    settings["gpu_aware"] = json!({"trial_interval_ms": 1_000});
    let bench = ProxyBench::start(&addrs, settings);
    assert_both_serve_in_the_end(&bench, [stuck, other], || {
        let mut session = bench.open();
        session.echo(b"prompt").expect("it echoes");
        session.backend.clone()
    });
}

/// The same of flows: no session is opened.
#[test]
fn an_idle_backend_that_repeats_a_full_cache_serves_flows_beside_the_other() {
    let pool = two();
    let [stuck, other] = [pool[0].addr, pool[1].addr];
    let mut settings = settings();
    settings["gpu_aware"] = json!({"trial_interval_ms": 1_000});
    // Flows that stay open would make the other backend cost more than the full one.
    settings["udp_idle_ms"] = json!(100);
    let bench = ProxyBench::start(&[stuck, other], settings);
    assert_both_serve_in_the_end(&bench, [stuck, other], || {
        let name = Transport::Udp.ask(bench.listen);
        until("the flow has ended", LONG, || {
            let rows = [stuck, other].map(|addr| bench.proxy.backend(addr));
            rows.iter()
                .all(|row| row.counters.flows_active == 0)
                .then_some(())
        });
        name
    });
}

/// The first backend, "a", goes on reporting a full cache while `ask` has one session or flow after
/// the other served and says by whom: by the other one alone, then by both.
fn assert_both_serve_in_the_end(
    bench: &ProxyBench,
    [stuck, other]: [SocketAddr; 2],
    ask: impl Fn() -> String,
) {
    let beat_and_ask = || {
        report(bench, &[(stuck, 0.99), (other, 0.1)]);
        (0..8).fold(Spread::new(), |mut reached, _| {
            *reached.entry(ask()).or_default() += 1;
            reached
        })
    };
    assert_eq!(beat_and_ask(), spread([("b", 8)]), "it may be full");
    until("both serve", LONG, || {
        let reached = beat_and_ask();
        (reached.len() == 2 && reached["a"] >= 2 && reached["b"] >= 2).then_some(())
    });
    let cost = cost(bench, stuck);
    assert_eq!((cost.vram_expected, cost.vram), (None, 0.0), "{cost:?}");
}

#[test]
fn the_cost_of_each_backend_is_explained() {
    let pool = two();
    let bench = bench(&pool);
    let [a, b] = [pool[0].addr, pool[1].addr];
    report(&bench, &[(a, 0.90)]);
    let (of_a, of_b) = (cost(&bench, a), cost(&bench, b));
    assert!(of_a.total > of_b.total, "{of_a:?} {of_b:?}");
    let near = |found: f64, right: f64| (found - right).abs() < 0.01;
    assert!(
        near(of_a.vram_expected.expect("it reported"), 0.92),
        "{of_a:?}"
    );
    assert!(
        near(of_a.vram, 2.0) && near(of_a.report_weight, 1.0),
        "{of_a:?}"
    );
    assert!(of_a.report_age_ms < Some(60_000), "{of_a:?}");
    assert_eq!((of_b.vram_expected, of_b.vram), (None, 0.0));
    for cost in [of_a, of_b] {
        let load = (cost.in_flight + 1.0 + cost.failures) * cost.slowness;
        let load = load / (cost.weight * cost.warm_up);
        let parts = load + cost.report_weight * (cost.vram + cost.gpu);
        assert!(near(cost.total, parts), "{cost:?}");
    }
    let metrics = bench.proxy.admin.metrics();
    let part = format!("backend_cost{{pool=\"default\",backend=\"{a}\",part=\"vram\"}}");
    assert!(metrics.contains(&part), "{metrics}");
}

#[test]
fn an_open_session_is_seen_again_after_another_algorithm_was_in_force() {
    let pool = [Backend::start("a", Manner::Echo)];
    let addr = pool[0].addr;
    let mut bench = bench(&pool);
    let [gpu_aware, random] = ["gpu_aware", "random"].map(|algorithm| {
        let mut config = proxy_config(bench.listen, &[(addr, 10)]);
        config["algorithm"] = json!(algorithm);
        config
    });
    for pause in [Duration::ZERO, 2 * QUIET] {
        let mut session = bench.open();
        session.echo(b"hello").expect("it echoes");
        until("it is busy", LONG, || {
            (cost(&bench, addr).in_flight > 0.9).then_some(())
        });
        bench.proxy.reload(&random);
        // Long enough to be found quiet, or too short for it.
        std::thread::sleep(pause);
        bench.proxy.reload(&gpu_aware);
        session.echo(b"hello").expect("it echoes");
        until("it is idle again", LONG, || {
            let in_flight = cost(&bench, addr).in_flight;
            (in_flight > 0.05 && in_flight < 0.15).then_some(())
        });
        drop(session);
        bench.proxy.await_no_sessions();
    }
}

#[test]
fn a_backend_that_fails_fast_does_not_attract_everybody() {
    let hole = Scripted::start(|_| {});
    let good = Scripted::answering_after(Duration::from_millis(5));
    let bench = ProxyBench::start(&[hole.addr, good.addr], settings());
    let answered = (0..100).filter(|_| ask(bench.listen)).count();
    assert!(answered >= 92, "{answered} of 100, {} lost", hole.served());
    let cost = cost(&bench, hole.addr);
    assert!(cost.failures > 1.0, "{cost:?}");
    let [failed] = &cost.failed[..] else {
        panic!("one kind of failure: {cost:?}")
    };
    assert_eq!(failed.what, "session_unanswered");
    // Those before the other backend had answered anything may have been forgiven.
    assert!(
        (1..=hole.served()).contains(&failed.count) && failed.age_ms < 60_000,
        "{failed:?} of {}",
        hole.served()
    );
}

#[test]
fn the_cost_says_what_failed_how_often_and_when() {
    let refusing = testkit::ports::free_address();
    let good = Scripted::answering_after(Duration::from_millis(5));
    let bench = ProxyBench::start(&[refusing, good.addr], settings());
    let answered = (0..20).filter(|_| ask(bench.listen)).count();
    assert_eq!(answered, 20, "a refused connect goes to another backend");
    let row = bench.proxy.backend(refusing);
    let cost = row.cost.expect("under gpu_aware");
    let [failed] = &cost.failed[..] else {
        panic!("one kind of failure: {cost:?}")
    };
    let found = (failed.what.as_str(), failed.count);
    assert_eq!(found, ("connect_refused", row.counters.connect_failures));
    assert!(cost.failures > 0.0 && failed.age_ms < 60_000, "{cost:?}");
    assert_eq!(
        bench.proxy.backend(good.addr).cost.expect("a cost").failed,
        []
    );
}

#[test]
fn a_port_scan_is_no_failure_of_a_backend() {
    let pool = two();
    let bench = bench(&pool);
    for _ in 0..20 {
        drop(testkit::client::connect(bench.listen).expect("it listens"));
    }
    bench.proxy.await_no_sessions();
    for backend in &pool {
        assert_eq!(cost(&bench, backend.addr).failures, 0.0);
    }
}

#[test]
fn slow_answers_are_learned_and_outlive_a_reload() {
    let slow = Scripted::answering_after(Duration::from_millis(60));
    let fast = Scripted::answering_after(Duration::from_millis(2));
    let mut bench = ProxyBench::start(&[slow.addr, fast.addr], settings());
    for _ in 0..80 {
        assert!(ask(bench.listen));
    }
    until("the slow one is known to be slow", LONG, || {
        let costs = [slow.addr, fast.addr].map(|addr| cost(&bench, addr));
        (costs[0].slowness > 2.0 * costs[1].slowness).then_some(())
    });
    let before = cost(&bench, slow.addr);
    assert!(before.latency_samples >= 4, "{before:?}");
    let backends = [(fast.addr, 20), (slow.addr, 20)];
    let mut config = proxy_config(bench.listen, &backends);
    config["algorithm"] = json!("gpu_aware");
    bench.proxy.reload(&config);
    let after = cost(&bench, slow.addr);
    assert!(after.latency_samples >= before.latency_samples, "{after:?}");
    assert!(after.slowness > 1.2, "{after:?}");
    let slow_before = slow.served();
    (0..40).for_each(|_| assert!(ask(bench.listen)));
    assert!(
        slow.served() - slow_before < 10,
        "{}",
        slow.served() - slow_before
    );
}

#[test]
fn a_silent_session_ceases_to_count_as_a_whole_one() {
    let pool = two();
    let bench = bench(&pool);
    let mut sessions = open_sessions(bench.listen, 4);
    let in_flight = || {
        let of = |backend: &Backend| cost(&bench, backend.addr).in_flight;
        pool.iter().map(of).sum::<f64>()
    };
    until("all have gone quiet", LONG, || {
        ((in_flight() - 0.4).abs() < 0.01).then_some(())
    });
    sessions[0].echo(b"here again").expect("echoed");
    until("one is busy again", LONG, || {
        (in_flight() > 1.2).then_some(())
    });
    drop(sessions);
    bench.proxy.await_no_sessions();
    until("nothing is in flight", LONG, || {
        (in_flight() == 0.0).then_some(())
    });
}

#[test]
fn small_requests_that_come_together_stay_together() {
    let pool = two();
    let mut config = settings();
    let entry = |backend: &Backend| {
        json!({
            "ip": backend.addr.ip(), "port": backend.addr.port(), "weight": 10,
            "max_batch": 4, "batch_window_ms": 10_000,
        })
    };
    config["backends"] = pool.iter().map(entry).collect();
    let addrs: Vec<SocketAddr> = pool.iter().map(|backend| backend.addr).collect();
    let bench = ProxyBench::start(&addrs, config);
    let sessions = open_sessions(bench.listen, 8);
    assert_eq!(reached(&sessions), spread([("a", 4), ("b", 4)]));
    for batch in sessions.chunks(4) {
        assert_eq!(reached(batch).len(), 1, "a batch of four has one backend");
    }
}

#[test]
fn peak_ewma_leaves_a_slow_backend_alone() {
    // So slow that the fast one is not taken for it when it has to wait for a core: peaks last.
    let slow = Scripted::answering_after(Duration::from_millis(400));
    let fast = Scripted::answering_after(Duration::from_millis(2));
    let bench = ProxyBench::start(&[slow.addr, fast.addr], json!({"algorithm": "peak_ewma"}));
    (0..100).for_each(|_| assert!(ask(bench.listen)));
    assert!(slow.served() <= 20, "{} of 100", slow.served());
    assert!(bench.proxy.backend(slow.addr).cost.is_none());
}

#[test]
fn scoring_wakes_nobody_while_nothing_happens() {
    let pool = two();
    let addrs: Vec<SocketAddr> = pool.iter().map(|backend| backend.addr).collect();
    let mut settings = settings();
    settings["health"] = json!({"probe": "off"});
    let bench = ProxyBench::start(&addrs, settings);
    let sessions = open_sessions(bench.listen, 3);
    until("a second passes in which nobody wakes up", LONG, || {
        let wake_ups = || bench.proxy.program.wake_ups("proxy_server");
        let before = wake_ups();
        std::thread::sleep(Duration::from_secs(1));
        (wake_ups() == before).then_some(())
    });
    drop(sessions);
}

#[test]
fn control_lists_what_each_backend_costs() {
    let bench = LoopBench::start(json!({"default_algorithm": "gpu_aware"}));
    bench.register_b();
    until("both are listed with their cost", LONG, || {
        let (status, listed) = bench.control.api.get("/api/v1/backends");
        assert_eq!(status, 200);
        let rows = listed["backends"].as_array()?;
        let is_explained = |row: &Value| row["cost"]["total"].is_number();
        (rows.len() == 2 && rows.iter().all(is_explained)).then_some(())
    });
}
