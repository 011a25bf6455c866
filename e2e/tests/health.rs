//! Active probes: a backend that does not pass is taken out, one that passes comes back, and what is
//! open is left alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use contract::status::OperationalState::{Checking, Down, Ejected, Up};
use e2e::health::{await_probes, await_state, quick_probes};
use e2e::proxy_bench::ProxyBench;
use e2e::spread::{self, Transport, spread};
use rustix::process::Signal;
use serde_json::json;
use testkit::client::connect;
use testkit::deaf::{Blackhole, Refuser};
use testkit::ports::free_address;
use testkit::server::Reply;
use testkit::{
    Backend, LONG, Manner, Program, Server, UdpClient, proxy_config, until, without_probes,
};

/// One session with a demonstration backend: its name, and a line there and back.
fn serve_one(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"line\n")?;
    let mut lines = BufReader::new(stream).lines();
    let mut next = || {
        let line = lines.next().unwrap_or(Ok(String::new()))?;
        match line.is_empty() {
            true => Err(std::io::Error::other("closed")),
            false => Ok(line),
        }
    };
    next()?;
    next().map(drop)
}

/// Ends the load when dropped: a scope waits for its threads, also where the test fails.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn when_one_of_three_is_killed_under_load_no_new_session_fails() {
    let addresses = [(); 3].map(|()| free_address());
    let mut programs = addresses.map(|addr| {
        let mut program = Program::start("demo_backend", ["--listen", &addr.to_string()]);
        program.wait_for_line("listens on");
        program
    });
    let bench = ProxyBench::start(&addresses, json!({}));
    let (killed, stopping) = (RwLock::new(false), AtomicBool::new(false));
    let (before, after) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = EndOfLoad(&stopping);
        for _ in 0..4 {
            scope.spawn(|| {
                while !stopping.load(Relaxed) {
                    // Only what is begun after the kill is a new session. Nobody begins while it
                    // dies, so that those find it dead and not ejected yet.
                    let (is_new, stream) = {
                        let killed = killed.read().expect("no holder panics");
                        (*killed, connect(bench.listen))
                    };
                    let served = stream.and_then(serve_one);
                    if is_new {
                        served.expect("a new session is served");
                        after.fetch_add(1, Relaxed);
                    } else {
                        before.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let enough = |count: &AtomicU64, least| {
            until("sessions are served", LONG, || {
                (count.load(Relaxed) >= least).then_some(())
            });
        };
        enough(&before, 200);
        {
            let mut killed = killed.write().expect("no holder panics");
            programs[1].signal(Signal::KILL);
            programs[1].wait_exit(LONG);
            *killed = true;
        }
        await_state(&bench.proxy, addresses[1], Ejected);
        await_state(&bench.proxy, addresses[1], Down);
        enough(&after, 500);
    });
    let row = bench.proxy.backend(addresses[1]);
    assert!(row.reason.contains("refused"), "{row:?}");
    bench.proxy.await_no_sessions();
}

#[test]
fn a_backend_that_does_not_answer_is_taken_out_and_comes_back_after_rise_successes() {
    let blackhole = Blackhole::new();
    let addr = blackhole.addr;
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[addr, echo.addr], quick_probes(json!({ "rise": 4 })));
    let row = await_state(&bench.proxy, addr, Down);
    assert!(row.reason.contains("no answer in time"), "{row:?}");
    assert!(!row.health.takes_sessions);
    until("the snapshot follows", LONG, || {
        (bench.proxy.backend(addr).weight_effective == 0).then_some(())
    });
    let before = bench.proxy.backend(addr).counters.connect_timeouts;
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 10);
    assert_eq!(reached, spread([("echo", 10)]));
    let row = bench.proxy.backend(addr);
    assert_eq!(row.counters.connect_timeouts, before, "nobody tried it");

    let failed = row.health.probe_failures_total;
    drop(blackhole);
    let _back = Backend::start_at(addr, "back", Manner::Echo);
    let row = await_state(&bench.proxy, addr, Up);
    assert!(row.reason.contains("passed"), "{row:?}");
    assert!(row.health.probe_latency_us.is_some() && row.health.probed_at_ms.is_some());
    let passed = row.health.probes_total - row.health.probe_failures_total;
    assert!(passed >= 4 && row.health.probe_failures_total >= failed);
    until("a session reaches it", LONG, || {
        (Transport::Tcp.ask(bench.listen) == "back").then_some(())
    });
}

/// An HTTP server that answers the probes with 200, and everything else with its name.
fn http_server(name: &str) -> Server {
    let server = Server::start();
    server.answer("/health", 200, "");
    server.answer("/", 200, name);
    server
}

#[test]
fn http_probes_go_by_the_status() {
    let [a, b] = ["a", "b"].map(http_server);
    let probe = json!({ "probe": "http", "http_path": "/health", "http_status": [200, 299] });
    let bench = ProxyBench::start(&[a.addr, b.addr], quick_probes(probe));
    let ask = || {
        let mut stream = connect(bench.listen).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer.lines().last().map(str::to_owned)
    };
    await_state(&bench.proxy, a.addr, Up);
    a.answer("/health", 503, "");
    let row = await_state(&bench.proxy, a.addr, Down);
    assert!(row.reason.contains("HTTP status 503 (3 of 3)"), "{row:?}");
    until("the snapshot follows", LONG, || {
        (bench.proxy.backend(a.addr).weight_effective == 0).then_some(())
    });
    assert!((0..10).all(|_| ask().as_deref() == Some("b")));
    a.answer("/health", 204, "");
    await_state(&bench.proxy, a.addr, Up);
    until("a session reaches it", LONG, || {
        (ask().as_deref() == Some("a")).then_some(())
    });
    a.reply("/health", Reply::Hang);
    let row = await_state(&bench.proxy, a.addr, Down);
    assert!(row.reason.contains("no answer in time"), "{row:?}");
}

#[test]
fn a_probe_that_fails_now_and_then_takes_nothing_out() {
    const FALL: u64 = 20;
    let flapping = http_server("flapping");
    let probe = json!({ "probe": "http", "http_path": "/health", "fall": FALL });
    let bench = ProxyBench::start(&[flapping.addr], quick_probes(probe));
    let addr = flapping.addr;
    // More failures than take it out, but never so many in a row.
    while bench.proxy.backend(addr).health.probe_failures_total <= FALL {
        flapping.answer("/health", 500, "");
        await_probes(&bench.proxy, addr, 3);
        flapping.answer("/health", 200, "");
        await_probes(&bench.proxy, addr, 2);
    }
    assert!(bench.proxy.backend(addr).health.takes_sessions);
    assert_eq!(bench.proxy.program.count_lines("takes no new"), 0);
}

#[test]
fn send_and_expect_probes_go_by_the_answer() {
    let echo = Backend::start("echo", Manner::MuteEcho);
    let mute = Backend::start("mute", Manner::Mute);
    let other = Backend::start("other", Manner::CloseFirst);
    let probe = json!({ "probe": "send_expect", "send": "PING\r\n", "expect": "PING" });
    let addresses = [echo.addr, mute.addr, other.addr];
    let bench = ProxyBench::start(&addresses, quick_probes(probe));
    await_state(&bench.proxy, echo.addr, Up);
    let row = await_state(&bench.proxy, mute.addr, Down);
    assert!(row.reason.contains("no answer in time"), "{row:?}");
    let row = await_state(&bench.proxy, other.addr, Down);
    assert!(row.reason.contains("not the expected answer"), "{row:?}");
}

#[test]
fn udp_probes_move_flows_that_no_icmp_would() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let settings = quick_probes(json!({ "probe": "udp", "send": "who?", "expect": "127.0.0.1" }));
    let bench = ProxyBench::start(&[a.addr, b.addr], settings);
    await_state(&bench.proxy, a.addr, Up);
    let flow = UdpClient::new(bench.listen);
    let first = flow.who().expect("served").backend;
    let (served, other) = if first == "a" { (&a, &b) } else { (&b, &a) };
    served.silence_udp(true);
    await_state(&bench.proxy, served.addr, Down);
    // The new snapshot follows within its 50 ms.
    until("the flow's next datagram moves it", LONG, || {
        flow.socket.send(testkit::protocol::WHO).expect("sent");
        (bench.flows_ended("backend_down") == 1).then_some(())
    });
    until("the other answers", LONG, || {
        (flow.who().ok()?.backend == other.name()).then_some(())
    });
    let row = bench.proxy.backend(served.addr);
    assert!(row.health.takes_sessions && !row.health.takes_flows);
    assert!(row.reason.contains("does not affect sessions"), "{row:?}");
    assert_eq!(
        (row.health.tcp, row.health.udp),
        (Some(Checking), Some(Down))
    );
    let sessions = spread::in_turn(Transport::Tcp, bench.listen, 4);
    assert_eq!(sessions, spread([("a", 2), ("b", 2)]));
    served.silence_udp(false);
    await_state(&bench.proxy, served.addr, Up);
}

#[test]
fn tcp_probes_take_no_backend_from_udp_that_serves_udp_alone() {
    let echo = Backend::start("echo", Manner::Echo);
    // Its port takes UDP and refuses TCP.
    let refuser = Refuser::new();
    let udp = std::net::UdpSocket::bind(refuser.addr).expect("nobody has it");
    let answers = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            if &buffer[..length] == b"stop" {
                return;
            }
            udp.send_to(format!("udp {peer}\n").as_bytes(), peer)
                .expect("loopback takes it");
        }
    });
    let bench = ProxyBench::start(&[echo.addr, refuser.addr], quick_probes(json!({})));
    let row = await_state(&bench.proxy, refuser.addr, Down);
    assert!(!row.health.takes_sessions && row.health.takes_flows);
    let states = |addr| {
        let health = bench.proxy.backend(addr).health;
        (health.tcp, health.udp)
    };
    assert_eq!(states(refuser.addr), (Some(Down), Some(Checking)));
    // A probe over TCP says nothing of UDP.
    let row = await_state(&bench.proxy, echo.addr, Up);
    assert_eq!((row.health.tcp, row.health.udp), (Some(Up), Some(Checking)));
    let flows = spread::in_turn(Transport::Udp, bench.listen, 10);
    assert_eq!(flows, spread([("echo", 5), ("udp", 5)]));
    assert_eq!(states(refuser.addr), (Some(Down), Some(Up)));
    assert_eq!(states(echo.addr), (Some(Up), Some(Up)));
    let sessions = spread::in_turn(Transport::Tcp, bench.listen, 10);
    assert_eq!(sessions, spread([("echo", 10)]));
    let stop = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    stop.send_to(b"stop", refuser.addr)
        .expect("loopback takes it");
    answers.join().expect("it does not panic");
}

#[test]
fn without_tcp_listeners_no_tcp_probe_runs() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], quick_probes(json!({})));
    await_probes(&bench.proxy, echo.addr, 1);
    let mut config = proxy_config(bench.listen, &[(echo.addr, 10)]);
    config["listen"]["tcp"] = json!(false);
    bench.proxy.reload(&config);
    assert_eq!(bench.proxy.status().health.probe, "off");
}

#[test]
fn with_probes_off_nothing_is_sent_and_nothing_wakes_up() {
    let echo = Backend::start("echo", Manner::Echo);
    let settings = without_probes(json!({}));
    let bench = ProxyBench::start(&[echo.addr], settings);
    spread::in_turn(Transport::Tcp, bench.listen, 3);
    bench.proxy.await_no_sessions();
    // What came before may still be cleaned up for a while.
    const SECOND: Duration = Duration::from_secs(1);
    until("a second without a wake-up", LONG, || {
        let before = bench.proxy.program.wake_ups("");
        std::thread::sleep(SECOND);
        (bench.proxy.program.wake_ups("") == before).then_some(())
    });
    assert_eq!(echo.accepted(), 3);
    assert_eq!(bench.proxy.backend(echo.addr).health.probes_total, 0);
}

#[test]
fn what_is_open_stays_open_while_its_backend_is_down() {
    let echo = Backend::start("echo", Manner::Echo);
    let health = http_server("health");
    let probe = json!({ "probe": "http", "http_path": "/health", "port": health.addr.port() });
    let bench = ProxyBench::start(&[echo.addr], quick_probes(probe));
    await_state(&bench.proxy, echo.addr, Up);
    let mut open = bench.open();
    health.answer("/health", 500, "");
    await_state(&bench.proxy, echo.addr, Down);
    open.echo(b"still here").expect("the session lives");
    open.finish().expect("and ends in order");
}

#[test]
fn a_reload_keeps_what_is_known() {
    let refuser = Refuser::new();
    let echo = Backend::start("echo", Manner::Echo);
    let settings = quick_probes(json!({ "interval_ms": 200 }));
    let mut bench = ProxyBench::start(&[refuser.addr, echo.addr], settings.clone());
    await_state(&bench.proxy, refuser.addr, Down);
    until("no session tries it any more", LONG, || {
        (bench.proxy.backend(refuser.addr).weight_effective == 0).then_some(())
    });
    let before = bench.proxy.backend(refuser.addr);
    let mut config = proxy_config(bench.listen, &[(refuser.addr, 10), (echo.addr, 30)]);
    config["health"] = settings["health"].clone();
    let reloads = bench.proxy.status().reloads_ok;
    bench.proxy.reload(&config);
    let after = bench.proxy.backend(refuser.addr);
    assert_eq!(after.operational, Down);
    assert_eq!(after.weight_effective, 0);
    assert!(after.health.probes_total >= before.health.probes_total);
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 10);
    assert_eq!(reached, spread([("echo", 10)]));
    let after = bench.proxy.backend(refuser.addr).counters;
    assert_eq!(
        after.connect_failures, before.counters.connect_failures,
        "nobody tried it"
    );
    // What health changes is no reload.
    assert_eq!(bench.proxy.status().reloads_ok, reloads + 1);
}

#[test]
fn metrics_tell_states_and_probes() {
    let refuser = Refuser::new();
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[refuser.addr, echo.addr], quick_probes(json!({})));
    await_state(&bench.proxy, refuser.addr, Down);
    await_state(&bench.proxy, echo.addr, Up);
    let metrics = until("the snapshot follows", LONG, || {
        let metrics = bench.proxy.admin.metrics();
        let follows = metrics
            .contains("wicketgate_proxy_backends_ready{pool=\"default\",protocol=\"tcp\"} 1");
        follows.then_some(metrics)
    });
    let down = format!(
        "wicketgate_proxy_backend_state{{pool=\"default\",backend=\"{}\",state=\"down\",probe=\"refused\"}} 1",
        refuser.addr
    );
    let up = format!(
        "wicketgate_proxy_backend_state{{pool=\"default\",backend=\"{}\",state=\"up\",probe=\"passed\"}} 1",
        echo.addr
    );
    for line in [down, up] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }
    let failures = format!(
        "wicketgate_proxy_backend_probe_failures_total{{pool=\"default\",backend=\"{}\"}}",
        refuser.addr
    );
    let counted = metrics.lines().find_map(|one| one.strip_prefix(&failures));
    let counted: u64 = counted.expect("a line").trim().parse().expect("a number");
    assert!(counted >= 3);
}

#[test]
fn a_port_that_connects_to_itself_is_no_backend() {
    // Found free by the kernel, so it is one that the kernel would also choose for a client.
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = port.local_addr().expect("it is bound");
    drop(port);
    let bench = ProxyBench::start(&[addr], quick_probes(json!({ "interval_ms": 10 })));
    await_probes(&bench.proxy, addr, 100);
    assert_eq!(bench.proxy.backend(addr).operational, Down);
}
