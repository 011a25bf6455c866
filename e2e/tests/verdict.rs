//! Whether traffic flows is decided by control, told everywhere in the same words, and told soon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::loop_bench::LoopBench;
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::{Backend, LONG, Manner, Proxy, until};

/// How soon an outage is to be told.
const SOON: Duration = Duration::from_secs(2);

fn verdict(bench: &LoopBench) -> Value {
    let (status, verdict) = bench.control.api.get("/api/v1/verdict");
    assert_eq!(status, 200, "{verdict}");
    verdict
}

/// Awaits `level code`, within `deadline`.
#[track_caller]
fn await_verdict(bench: &LoopBench, expected: &str, deadline: Duration) -> Value {
    let mut last = Value::Null;
    let word = |verdict: &Value, key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
    let found = testkit::wait::within(deadline, || {
        last = verdict(bench);
        let now = format!("{} {}", word(&last, "level"), word(&last, "code"));
        (now == expected).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("not {expected} within {deadline:?}: {last}"))
}

fn bench() -> LoopBench {
    let bench = LoopBench::start(json!({}));
    await_verdict(&bench, "ok serving", LONG);
    bench
}

/// The event stream of the page, line by line.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(control: SocketAddr) -> Events {
        let mut stream = TcpStream::connect(control).expect("control serves");
        stream.set_read_timeout(Some(LONG)).expect("a socket");
        let ask = format!("GET /api/v1/events HTTP/1.1\r\nhost: {control}\r\n\r\n");
        stream.write_all(ask.as_bytes()).expect("sent");
        Events(BufReader::new(stream))
    }

    /// Reads on until an event carries this verdict.
    fn await_code(&mut self, code: &str) {
        let (mut text, mut part) = (String::new(), [0; 16 << 10]);
        let wanted = format!("\"code\":\"{code}\"");
        while !text.contains(&wanted) {
            let read = self.0.read(&mut part).expect("an event in time");
            assert!(read > 0, "the stream ended");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
    }

    fn begin(&mut self) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        assert!(line.contains("200"), "{line}");
    }
}

#[test]
fn a_killed_proxy_is_told_within_two_seconds_in_one_way_everywhere() {
    let mut bench = bench();
    let mut events = Events::open(bench.control.addr);
    events.begin();
    events.await_code("serving");
    let pid = bench.proxy.program.pid();
    bench.proxy.program.signal(Signal::KILL);
    let told = await_verdict(&bench, "down proxy_not_running", SOON);
    events.await_code("proxy_not_running");
    assert_eq!(told["args"], json!({ "pid": pid }));
    assert_eq!(told["pools"]["default"]["code"], "proxy_not_running");
    let since = told["since"].as_u64().expect("it was seen to end");
    let api = &bench.control.api;
    let (_, ready) = api.get("/readyz");
    for key in ["level", "code", "args", "since", "text"] {
        assert_eq!(ready["verdict"][key], told[key], "{key}");
    }
    let (_, status) = api.get("/api/v1/status");
    assert_eq!(status["verdict"]["code"], "proxy_not_running");
    let metrics = api.exchange(Request::new("GET", "/metrics"));
    let metrics = metrics.expect("control answers").text();
    for line in [
        "wicketgate_verdict{level=\"down\"} 1",
        "wicketgate_verdict{level=\"ok\"} 0",
        "wicketgate_pool_verdict{pool=\"default\",level=\"down\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let line = format!("process {pid} is gone");
    let line = bench.control.program.wait_for_line(&line);
    let words = "WARN verdict level=down code=proxy_not_running";
    assert!(line.contains(words), "{line}");
    // The same one, however often it is looked at.
    await_verdict(&bench, "down proxy_not_running", LONG);
    assert_eq!(verdict(&bench)["since"], json!(since));

    // A control that starts on an outage does not know since when it lasts.
    bench.kill_control();
    bench.restart_control();
    let told = await_verdict(&bench, "down proxy_not_running", LONG);
    assert_eq!(
        (&told["since"], &told["args"]["pid"]),
        (&Value::Null, &json!(pid))
    );

    bench.proxy = Proxy::start_on(&bench.folder, &["-w", "1"]);
    await_verdict(&bench, "ok serving", LONG);
}

#[test]
fn a_proxy_that_ends_in_order_or_answers_nothing_is_told() {
    let mut bench = bench();
    bench.proxy.program.signal(Signal::STOP);
    let told = await_verdict(&bench, "unknown proxy_stuck", LONG);
    assert_eq!(told["args"]["pid"], json!(bench.proxy.program.pid()));
    bench.proxy.program.signal(Signal::CONT);
    await_verdict(&bench, "ok serving", LONG);
    bench.proxy.program.signal(Signal::TERM);
    bench.proxy.program.wait_exit(LONG);
    let told = await_verdict(&bench, "down proxy_not_running", SOON);
    assert_eq!(told["args"]["pid"], json!(bench.proxy.program.pid()));
}

#[test]
fn no_backend_in_use_is_told_within_two_seconds_and_so_is_the_end_of_it() {
    let bench = bench();
    let api = &bench.control.api;
    let path = format!(
        "/api/backends/{}/{}",
        bench.a.addr.ip(),
        bench.a.addr.port()
    );
    let edits = [
        ("enabled", json!(false), json!(true), "disabled"),
        ("drain", json!(true), json!(false), "drained"),
        ("weight", json!(0), json!(10), "weight_0"),
    ];
    for (key, bad, good, counted) in edits {
        let edit = |value: &Value| {
            let (status, answer) = api.post(&format!("{path}/{key}"), &json!({ key: value }));
            assert_eq!(status, 200, "{answer}");
        };
        edit(&bad);
        let told = await_verdict(&bench, "down no_backend_usable", SOON);
        assert_eq!(told["args"]["backends"][counted], json!(1), "{told}");
        let (_, backends) = api.get("/api/backends");
        assert_eq!(backends["warnings"][0], told["text"], "as a warning too");
        edit(&good);
        await_verdict(&bench, "ok serving", SOON);
    }
    // How many are turned away.
    let (status, answer) = api.post(&format!("{path}/enabled"), &json!({ "enabled": false }));
    assert_eq!(status, 200, "{answer}");
    until("refused sessions are counted", LONG, || {
        let mut turned_away = TcpStream::connect(bench.listen).ok()?;
        let _ = turned_away.read(&mut [0]);
        let told = verdict(&bench);
        (told["args"]["refused_per_s"].as_f64()? > 0.0).then_some(())
    });
    let text = verdict(&bench)["text"].clone();
    let text = text.as_str().expect("a sentence");
    assert!(text.contains("sessions/s are refused"), "{text}");
}

#[test]
fn sessions_that_fail_are_told_with_share_and_reason() {
    let manner = Manner::Reset { seed: 1, length: 0 };
    let settings = json!({ "proxy": {
        "health": { "probe": "off" }, "ejection": { "failures": 0 },
    } });
    let bench = LoopBench::of(manner, settings);
    await_verdict(&bench, "ok serving", LONG);
    until("most sessions fail", LONG, || {
        let mut session = TcpStream::connect(bench.listen).ok()?;
        let _ = session.write_all(b"asked");
        let _ = session.read_to_end(&mut Vec::new());
        (verdict(&bench)["code"] == "sessions_failing").then_some(())
    });
    let told = verdict(&bench);
    assert_eq!(told["level"], "down", "{told}");
    assert_eq!(told["args"]["reason"], "backend_reset", "{told}");
    assert!(told["args"]["share"].as_f64() > Some(0.5), "{told}");
    let traffic = &told["traffic"];
    assert_eq!(
        traffic["failed"],
        traffic["failed_reasons"]["backend_reset"]
    );
}

#[test]
fn a_refused_port_is_told_with_what_traffic_follows() {
    let bench = bench();
    let taken = TcpListener::bind(free_address()).expect("free");
    let port = taken.local_addr().expect("bound").port();
    let body = json!({ "listen": { "port": port }, "on_refusal": "keep_trying" });
    bench.control.api.post("/api/settings", &body);
    let told = await_verdict(&bench, "degraded refused", LONG);
    assert_eq!(told["args"]["refusal"], "address_in_use", "{told}");
    let text = told["text"].as_str().expect("a sentence");
    let generation = bench.proxy.status().running.generation;
    assert!(
        text.contains(&format!("{port}/tcp is in use"))
            && text.contains(&format!("Traffic follows generation {generation}"))
            && text.contains(&bench.listen.to_string()),
        "{text}"
    );
    assert_eq!(told["pools"]["default"]["code"], "serving");
    assert_eq!(Transport::Tcp.ask(bench.listen), "a");
    let back = json!({ "listen": { "port": bench.listen.port() } });
    bench.control.api.post("/api/settings", &back);
    await_verdict(&bench, "ok serving", LONG);
}

#[test]
fn backends_that_are_out_are_told_by_their_number() {
    let probes = json!({ "interval_ms": 50, "timeout_ms": 500, "fall": 1, "rise": 1 });
    let mut bench = LoopBench::start(json!({ "proxy": { "health": probes } }));
    bench.register_b();
    await_verdict(&bench, "ok serving", LONG);
    let gone = bench.a.addr;
    bench.a = Backend::start("elsewhere", Manner::Echo);
    let told = await_verdict(&bench, "degraded backends_out", LONG);
    assert_eq!(told["args"]["backends"]["down"], json!(1), "{told}");
    bench.a = Backend::start_at(gone, "a", Manner::Echo);
    bench.register_b();
    await_verdict(&bench, "ok serving", LONG);
}

#[test]
fn backends_that_are_all_down_and_still_used_are_no_outage() {
    let probes = json!({ "interval_ms": 50, "timeout_ms": 500, "fall": 1, "rise": 1 });
    let mut bench = LoopBench::start(json!({ "proxy": { "health": probes } }));
    await_verdict(&bench, "ok serving", LONG);
    bench.a = Backend::start("elsewhere", Manner::Echo);
    await_verdict(&bench, "degraded fail_open", LONG);
    // It stays so, also where nobody reads the whole status.
    for _ in 0..20 {
        let told = verdict(&bench);
        assert_eq!(told["code"], "fail_open", "{told}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
