//! What the admin socket tells: what passes, while it passes, in the status and in the metrics.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use contract::status::{AdminState, OperationalState, Timings};
use e2e::proxy_bench::ProxyBench;
use e2e::sessions::open_sessions;
use e2e::spread::{self, Transport, spread};
use rustix::process::Signal;
use serde_json::json;
use testkit::deaf::Refuser;
use testkit::http::Request;
use testkit::pattern::Pattern;
use testkit::{Backend, LONG, Manner, UdpClient, proxy_config, until};

#[test]
fn bytes_and_latency_are_counted_while_a_session_lives() {
    const LENGTH: usize = 100_000;
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let mut session = bench.open();
    let greeting = format!("echo {}\n", session.upstream).len();
    session.echo(&Pattern::bytes(1, LENGTH)).expect("echoed");
    until("the living session's bytes are counted", LONG, || {
        let counters = bench.proxy.backend(echo.addr).counters;
        let right = (LENGTH as u64, (LENGTH + greeting) as u64);
        ((counters.bytes_up, counters.bytes_down) == right).then_some(())
    });
    let row = bench.proxy.backend(echo.addr);
    assert_eq!(
        (row.counters.sessions_active, row.counters.sessions_total),
        (1, 1)
    );
    assert!(row.connect_latency_us.is_some(), "{row:?}");
    assert_eq!(
        (row.admin, row.operational),
        (AdminState::Ready, OperationalState::Up)
    );

    let flow = UdpClient::new(bench.listen);
    flow.exchange(&Pattern::bytes(2, 1000)).expect("echoed");
    let totals = bench.proxy.status().totals.counters;
    assert_eq!((totals.flows_active, totals.flows_total), (1, 1));
    assert_eq!(totals.bytes_up, (LENGTH + 1000) as u64);
    drop(session);
    bench.proxy.await_no_sessions();
}

#[test]
fn a_first_byte_is_timed_from_the_clients_to_the_backends() {
    let late = Backend::start("late", Manner::MuteEcho);
    let bench = ProxyBench::start(&[late.addr], json!({}));
    let mut stream = testkit::client::connect(bench.listen).expect("it listens");
    stream.write_all(b"request").expect("sent");
    let mut answer = [0; 7];
    std::io::Read::read_exact(&mut stream, &mut answer).expect("echoed");
    until("the first byte is timed", LONG, || {
        let totals = bench.proxy.status().totals;
        let mean = bench.proxy.backend(late.addr).first_byte_latency_us;
        (mean.is_some() && totals.first_byte_p99_us >= totals.first_byte_p50_us).then_some(())
    });
    let totals = bench.proxy.status().totals;
    let [(most, 1)] = totals.first_byte.buckets[..] else {
        panic!("one took some time: {:?}", totals.first_byte)
    };
    assert_eq!(totals.first_byte_p50_us, Some(most));
    let sum_us = totals.first_byte.sum_us;
    assert!(
        sum_us <= most && most <= sum_us + sum_us / 4,
        "{sum_us} of at most {most}"
    );
}

#[test]
fn each_backend_shows_both_axes_of_its_state() {
    let [up, drained, disabled, warming] =
        ["up", "drained", "disabled", "warming"].map(|name| Backend::start(name, Manner::Echo));
    let down = Refuser::new();
    let addresses = [
        up.addr,
        drained.addr,
        disabled.addr,
        warming.addr,
        down.addr,
    ];
    let bench = ProxyBench::start(&addresses, json!({ "algorithm": "round_robin" }));
    let mut proxy = bench.proxy;
    let mut config = proxy_config(bench.listen, &addresses.map(|addr| (addr, 10)));
    config["algorithm"] = json!("round_robin");
    config["backends"][1]["weight"] = json!(0);
    config["backends"][2]["enabled"] = json!(false);
    config["backends"][3]["is_warming_up"] = json!(true);
    config["backends"][3]["reported_at_ms"] = json!(1_730_000_000_123_u64);
    proxy.reload(&config);
    open_sessions(bench.listen, 60);
    let state = |addr| {
        let row = proxy.backend(addr);
        assert!(
            !row.reason.is_empty() || row.operational == OperationalState::Up,
            "{row:?}"
        );
        (row.admin, row.operational)
    };
    assert_eq!(state(up.addr), (AdminState::Ready, OperationalState::Up));
    assert_eq!(state(drained.addr).0, AdminState::Drain);
    assert_eq!(state(disabled.addr).0, AdminState::Disabled);
    assert_eq!(
        state(warming.addr),
        (AdminState::Ready, OperationalState::Warming)
    );
    // A third of the sessions came to it first, more than ejection takes.
    until("the failing one is ejected", LONG, || {
        (state(down.addr) == (AdminState::Ready, OperationalState::Ejected)).then_some(())
    });
    let row = proxy.backend(warming.addr);
    assert_eq!(row.gpu_usage, Some(0.2));
    assert_eq!(row.reported_at_ms, Some(1_730_000_000_123));
}

#[test]
fn a_backend_that_dies_fails_no_new_session_and_is_used_again_when_it_is_back() {
    let a = Backend::start("a", Manner::Echo);
    let b = Backend::start("b", Manner::Echo);
    let bench = ProxyBench::start(&[a.addr, b.addr], json!({}));
    let addr = a.addr;
    assert_eq!(spread::in_turn(Transport::Tcp, bench.listen, 2).len(), 2);
    drop(a);
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 40);
    assert_eq!(reached, spread([("b", 40)]));
    until("it is ejected", LONG, || {
        let state = bench.proxy.backend(addr).operational;
        (state == OperationalState::Ejected).then_some(())
    });
    let back = Backend::start_at(addr, "back", Manner::Echo);
    until("it is reached again", LONG, || {
        (Transport::Tcp.ask(bench.listen) == "back").then_some(())
    });
    assert_eq!(
        bench.proxy.backend(back.addr).operational,
        OperationalState::Up
    );
}

#[test]
fn the_mark_of_the_states_is_another_one_where_a_state_is() {
    let [one, other] = ["one", "other"].map(|name| Backend::start(name, Manner::Echo));
    let other_addr = other.addr;
    let health = json!({ "health": { "interval_ms": 50, "fall": 1, "rise": 1 } });
    let mut bench = ProxyBench::start(&[one.addr, other_addr], health.clone());
    let states_once = |bench: &ProxyBench, wanted: OperationalState| {
        let available = 1 + u64::from(wanted == OperationalState::Up);
        until(&format!("{wanted:?}"), LONG, || {
            let is_up = bench.proxy.backend(one.addr).operational == OperationalState::Up;
            let state = bench.proxy.backend(other_addr).operational;
            // What sessions go by follows the probes a moment later.
            let follows = bench.proxy.status().health.tcp.available == available;
            (is_up && state == wanted && follows).then_some(())
        });
        bench.proxy.admin.states().mark
    };
    let up = states_once(&bench, OperationalState::Up);
    spread::in_turn(Transport::Tcp, bench.listen, 5);
    assert_eq!(
        bench.proxy.admin.states().mark,
        up,
        "sessions change no state"
    );
    drop(other);
    let down = states_once(&bench, OperationalState::Down);
    assert_ne!(down, up);
    let _other = Backend::start_at(other_addr, "other", Manner::Echo);
    assert_eq!(states_once(&bench, OperationalState::Up), up, "as before");
    let mut config = proxy_config(bench.listen, &[(one.addr, 10)]);
    config["health"] = health["health"].clone();
    bench.proxy.reload(&config);
    assert_ne!(bench.proxy.admin.states().mark, up, "one has gone");
}

#[test]
fn the_metrics_are_whole_and_agree_with_the_status() {
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    spread::in_turn(Transport::Tcp, bench.listen, 5);
    spread::in_turn(Transport::Udp, bench.listen, 5);
    bench.proxy.await_sessions_ended("client_closed", 5);
    let count_of = |timed: &Timings| -> u64 { timed.buckets.iter().map(|(_, count)| count).sum() };
    // Backends greet the sessions, so only flows have a first byte of the client's to count from.
    let timed = until("all flows are timed", LONG, || {
        let timed = bench.proxy.status().totals.first_byte;
        (count_of(&timed) == 5).then_some(timed)
    });
    let count = count_of(&timed);
    let text = bench.proxy.admin.metrics();
    let mut samples = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.starts_with("wicketgate_proxy_"), "{line}");
        assert!(samples.insert(name.to_owned()), "twice: {line}");
    }
    let value = |words: &[&str]| {
        let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
        let found = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find(has_all);
        let found = found.unwrap_or_else(|| panic!("{words:?} is missing:\n{text}"));
        found.rsplit_once(' ').expect("a value").1.to_owned()
    };
    assert_eq!(value(&["proxy_sessions_total"]), "5");
    assert_eq!(value(&["proxy_flows_total"]), "5");
    assert_eq!(value(&["sessions_ended", "client_closed"]), "5");
    assert_eq!(
        value(&["backend_sessions_total", &echo.addr.to_string()]),
        "5"
    );
    assert_eq!(value(&["first_byte_seconds_count"]), count.to_string());
    let bucket = |bound| value(&["first_byte_seconds_bucket", bound]).parse::<u64>();
    assert_eq!(bucket("+Inf"), Ok(count));
    let below = timed.buckets.iter().filter(|(most, _)| *most < 1024);
    let below: u64 = below.map(|(_, count)| count).sum();
    assert_eq!(bucket("0.001024"), Ok(below));
    assert!(text.ends_with('\n'), "whole");
}

#[test]
fn a_wait_for_a_generation_is_held_back_and_bounded() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({}));
    let running = bench.proxy.admin.generation(5, Duration::from_millis(50));
    assert_eq!(running.generation, 1, "told what runs after the time");
    std::thread::scope(|scope| {
        let admin = bench.proxy.admin.clone();
        let waiting = scope.spawn(move || admin.generation(2, Duration::from_secs(10)));
        bench
            .proxy
            .reload(&proxy_config(bench.listen, &[(echo.addr, 11)]));
        assert_eq!(waiting.join().expect("answered").generation, 2);
    });
}

#[test]
fn nothing_that_the_admin_socket_is_told_harms_the_proxy() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({}));
    let socket = contract::paths::proxy_socket(&bench.folder.root.proxy_pid());
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(UnixStream::connect(&socket).expect("it listens"));
        let mut garbage = UnixStream::connect(&socket).expect("it listens");
        // It may be closed on us at any byte.
        let _ = garbage.write_all(&Pattern::bytes(3, 4096));
    }
    let cases = [
        (Request::new("GET", "/nothing"), 404),
        (Request::new("POST", "/status"), 405),
        (Request::new("GET", "/generation?at_least=x"), 400),
        (Request::new("POST", "/reports").body("{"), 400),
        (
            Request::new("POST", "/reports").body(vec![b' '; 10 << 20]),
            413,
        ),
    ];
    for (request, right) in cases {
        let told = format!("{} {}", request.method, request.path);
        let request = request.header("Content-Type", "application/json");
        let answer = bench.proxy.admin.exchange(request);
        let answer = answer.unwrap_or_else(|error| panic!("{told}: {error}"));
        assert_eq!(answer.status, right, "{told}: {}", answer.text());
    }
    assert_eq!(Transport::Tcp.ask(bench.listen), "echo");
    assert!(bench.proxy.program.is_running());
    bench.proxy.program.signal(Signal::USR1);
    assert_eq!(
        bench.proxy.status().running.generation,
        1,
        "USR1 ends nothing"
    );
}
