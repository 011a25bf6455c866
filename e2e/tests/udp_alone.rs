//! A service of one protocol is told of in its own words: what no listener takes raises no alarm, and no
//! connect is claimed that was not made.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use contract::status::OperationalState::{Checking, Down, Up};
use e2e::health::{await_state, quick_probes};
use e2e::loop_bench::{LoopBench, published};
use e2e::proxy_bench::{ProxyBench, configuration};
use serde_json::{Value, json};
use testkit::{Backend, LONG, Manner, Proxy, UdpClient, until};

/// What listens, and probes that take a second at most.
fn settings(listen: SocketAddr, tcp: bool, udp: bool, probe: &Value) -> Value {
    let (ip, port) = (listen.ip(), listen.port());
    json!({
        "listen": { "host": ip, "port": port, "tcp": tcp, "udp": udp },
        "health": probe,
    })
}

fn tcp_probes() -> Value {
    json!({ "probe": "tcp", "interval_ms": 50, "timeout_ms": 500, "fall": 2 })
}

#[track_caller]
fn assert_alarms(proxy: &Proxy, tcp: u64, udp: u64) {
    let metrics = proxy.admin.metrics();
    for (protocol, value) in [("tcp", tcp), ("udp", udp)] {
        let line = format!("all_down{{pool=\"default\",protocol=\"{protocol}\"}} {value}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let health = proxy.status().health;
    assert_eq!(health.tcp.all_down_in_force.is_some(), tcp == 1);
    assert_eq!(health.udp.all_down_in_force.is_some(), udp == 1);
}

#[test]
fn a_service_of_udp_alone_raises_no_alarm_of_tcp_and_claims_no_connect() {
    let backend = Backend::start("echo", Manner::Echo);
    let addr = testkit::ports::free_address();
    let settings = settings(addr, false, true, &tcp_probes());
    let bench = ProxyBench::on(addr, &[backend.addr], settings);
    let client = UdpClient::new(bench.listen);
    client.who().expect("served");
    // The answer is counted after it has been passed on.
    let row = until("the answer is counted", LONG, || {
        let row = bench.proxy.backend(backend.addr);
        (row.operational == Up).then_some(row)
    });
    assert_eq!(row.reason, "the last flow was answered");
    assert_eq!(row.health.probes_total, 0);
    assert_eq!((row.health.tcp, row.health.udp), (None, Some(Up)));
    assert_alarms(&bench.proxy, 0, 0);
    // Now nobody is there.
    let gone = backend.addr;
    drop(backend);
    until("ICMP tells", LONG, || {
        client.socket.send(b"anybody?").ok();
        (bench
            .proxy
            .backend(gone)
            .reason
            .starts_with("the last flow was refused"))
        .then_some(())
    });
    assert_eq!(bench.proxy.program.count_lines("new sessions"), 0);
    assert_alarms(&bench.proxy, 0, 0);
}

/// Probes that somebody has written down are made, and found to fail, whatever listens.
#[test]
fn what_no_listener_takes_raises_no_alarm_where_probes_fail() {
    // Nobody answers at its port.
    let nobody = testkit::ports::free_address();
    let http = json!({ "probe": "http", "interval_ms": 50, "timeout_ms": 500, "fall": 2 });
    let addr = testkit::ports::free_address();
    let bench = ProxyBench::on(addr, &[nobody], settings(addr, false, true, &http));
    await_state(&bench.proxy, nobody, Down);
    assert_alarms(&bench.proxy, 0, 0);
    let udp =
        json!({ "probe": "udp", "send": "x", "interval_ms": 50, "timeout_ms": 500, "fall": 2 });
    let addr = testkit::ports::free_address();
    let mut bench = ProxyBench::on(addr, &[nobody], settings(addr, true, true, &udp));
    await_state(&bench.proxy, nobody, Down);
    until("the alarm is raised", LONG, || {
        bench.proxy.status().health.udp.all_down_in_force.map(drop)
    });
    bench
        .proxy
        .program
        .wait_for_line("new flows go to all of them");
    // The same without UDP: over.
    let tcp_alone = configuration(addr, &[nobody], settings(addr, true, false, &udp));
    bench.proxy.reload(&tcp_alone);
    assert_alarms(&bench.proxy, 0, 0);
}

#[test]
fn an_alarm_of_tcp_says_that_udp_is_served() {
    // Its port takes UDP and refuses TCP.
    let refuser = testkit::ports::free_address();
    let udp = UdpSocket::bind(refuser).expect("nobody has it");
    let addr = testkit::ports::free_address();
    let settings = settings(addr, true, true, &tcp_probes());
    let mut bench = ProxyBench::on(addr, &[refuser], settings);
    let row = await_state(&bench.proxy, refuser, Down);
    assert!(row.reason.contains("does not affect flows"), "{row:?}");
    let line = bench
        .proxy
        .program
        .wait_for_line("all backends are out: new sessions");
    assert!(line.contains("UDP flows are still served"), "{line}");
    assert_alarms(&bench.proxy, 1, 0);
    drop(udp);
}

/// Answers UDP at a port that refuses TCP.
struct UdpEcho {
    addr: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

const END: &[u8] = b"end";

impl UdpEcho {
    fn start() -> UdpEcho {
        UdpEcho::at(testkit::ports::free_address())
    }

    fn at(addr: SocketAddr) -> UdpEcho {
        let socket = UdpSocket::bind(addr).expect("nobody has it");
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                if &bytes[..count] == END {
                    return;
                }
                socket.send_to(&bytes[..count], from).ok();
            }
        });
        UdpEcho {
            addr,
            thread: Some(thread),
        }
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        let end = UdpSocket::bind((self.addr.ip(), 0)).expect("a socket");
        end.send_to(END, self.addr).expect("loopback takes it");
        let thread = self.thread.take().expect("it was started");
        thread.join().expect("it ends");
    }
}

#[track_caller]
fn await_alarm_of_tcp(proxy: &Proxy) {
    until("TCP raises an alarm", LONG, || {
        proxy.status().health.tcp.all_down_in_force.map(drop)
    });
    assert_alarms(proxy, 1, 0);
}

/// Has a datagram answered through `listen`.
fn answered(listen: SocketAddr) {
    let client = UdpClient::new(listen);
    until("a datagram is answered", LONG, || {
        client.exchange(b"hello").ok().map(drop)
    });
}

#[test]
fn where_udp_is_answered_and_tcp_never_was_tcp_raises_no_alarm() {
    let echo = UdpEcho::start();
    let addr = testkit::ports::free_address();
    let off = json!({ "probe": "off" });
    let mut bench = ProxyBench::on(addr, &[echo.addr], settings(addr, true, true, &off));
    answered(bench.listen);
    let probed = configuration(
        addr,
        &[echo.addr],
        settings(addr, true, true, &tcp_probes()),
    );
    bench.proxy.reload(&probed);
    let program = &mut bench.proxy.program;
    let line = program.wait_for_line("no backend has accepted a TCP connection so far");
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(program.count_lines("all backends are out"), 0);
    let alone = bench.proxy.status().health;
    assert!(alone.udp_alone && alone.tcp.available == 0, "{alone:?}");
    assert_alarms(&bench.proxy, 0, 0);
    let metrics = bench.proxy.admin.metrics();
    assert!(
        metrics.contains("wicketgate_proxy_udp_alone{pool=\"default\"} 1"),
        "{metrics}"
    );
    let row = bench.proxy.backend(echo.addr);
    assert_eq!(
        (row.operational, row.reason.as_str()),
        (Up, "flows were answered; no TCP connection accepted yet")
    );
    assert_eq!(row.weight_effective, 10);

    // Once TCP was accepted, its end is an outage, of whichever backends, and for probes that ask too.
    let tcp = TcpListener::bind(echo.addr).expect("nobody has it");
    until("TCP is probed", LONG, || {
        (bench.proxy.status().health.tcp.available == 1).then_some(())
    });
    assert!(!bench.proxy.status().health.udp_alone);
    drop(tcp);
    let program = &mut bench.proxy.program;
    program.wait_for_line("all backends are out: new sessions");
    let others = UdpEcho::start();
    let replaced = configuration(
        addr,
        &[others.addr],
        settings(addr, true, true, &tcp_probes()),
    );
    bench.proxy.reload(&replaced);
    answered(bench.listen);
    await_state(&bench.proxy, others.addr, Down);
    await_alarm_of_tcp(&bench.proxy);
    assert!(!bench.proxy.status().health.udp_alone);
}

#[test]
fn a_probe_that_asks_over_tcp_says_that_the_service_has_it() {
    let echo = UdpEcho::start();
    let http = json!({ "probe": "http", "interval_ms": 50, "timeout_ms": 500, "fall": 2 });
    let addr = testkit::ports::free_address();
    let bench = ProxyBench::on(addr, &[echo.addr], settings(addr, true, true, &http));
    answered(bench.listen);
    await_alarm_of_tcp(&bench.proxy);
}

/// Sends datagrams of `count` clients through `listen`, two each: the second one ends the flow that met a
/// closed port, if the proxy knows by then.
fn stray(listen: SocketAddr, count: usize) {
    for _ in 0..count {
        let client = UdpClient::new(listen);
        client.socket.send(b"anybody?").expect("the proxy takes it");
        // ICMP reaches the proxy at once over loopback, but the proxy reads it in its own time.
        std::thread::sleep(std::time::Duration::from_millis(2));
        client.socket.send(b"anybody?").expect("the proxy takes it");
    }
}

fn ended(proxy: &Proxy, reason: &str) -> u64 {
    let ended = proxy.status().totals.flows_ended;
    ended.get(reason).copied().unwrap_or(0)
}

/// How many flows have ended for `reason`, once none is open.
fn all_ended(proxy: &Proxy, reason: &str) -> Option<u64> {
    // Of one moment: flows end between two.
    let totals = proxy.status().totals;
    let count = totals.flows_ended.get(reason).copied().unwrap_or(0);
    let is_over = totals.counters.flows_active == 0;
    (count >= 10 && is_over).then_some(count)
}

#[test]
fn datagrams_that_a_service_of_tcp_never_answered_say_nothing_of_it() {
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().expect("an address");
        let service = TcpListener::bind((ip, 0)).expect("loopback");
        let tcp = service.local_addr().expect("bound");
        let addr = SocketAddr::new(ip, testkit::ports::free_address().port());
        let mut rules = settings(addr, true, true, &tcp_probes());
        rules["udp_idle_ms"] = json!(300);
        rules["algorithm"] = json!("gpu_aware");
        let mut bench = ProxyBench::on(addr, &[tcp], rules.clone());
        let is_up = |proxy: &Proxy| {
            let health = proxy.backend(tcp).health;
            (health.tcp == Some(Up)).then_some(health)
        };
        until("TCP is probed", LONG, || is_up(&bench.proxy));
        stray(addr, 10);
        let count = until("they end", LONG, || all_ended(&bench.proxy, "not_served"));
        let row = bench.proxy.backend(tcp);
        let health = &row.health;
        assert_eq!(
            (row.operational, health.udp),
            (Up, Some(Checking)),
            "{row:?}"
        );
        assert!(health.takes_flows && health.takes_sessions, "{row:?}");
        assert_eq!(
            (health.ejections_total, health.flow_failures_in_row),
            (0, 0)
        );
        let cost = row.cost.as_ref().expect("gpu_aware").failures;
        assert_eq!((row.counters.connect_failures, cost), (0, 0.0));
        assert!(row.flows_failed.is_empty(), "{row:?}");
        assert_alarms(&bench.proxy, 0, 0);

        // Once UDP was answered, its end counts, over a reload too.
        let udp = UdpEcho::at(tcp);
        answered(addr);
        drop(udp);
        rules["udp_idle_ms"] = json!(400);
        bench.proxy.reload(&configuration(addr, &[tcp], rules));
        stray(addr, 10);
        until("they count", LONG, || {
            let row = bench.proxy.backend(tcp);
            (row.flows_failed.contains_key("refused") && row.health.udp == Some(Down)).then_some(())
        });
        assert_eq!(ended(&bench.proxy, "not_served"), count);
    }
}

#[test]
fn datagrams_from_before_the_first_session_are_forgiven_with_it() {
    let service = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let tcp = service.local_addr().expect("bound");
    let addr = testkit::ports::free_address();
    let off = json!({ "probe": "off" });
    let bench = ProxyBench::on(addr, &[tcp], settings(addr, true, true, &off));
    stray(addr, 10);
    let row = until("ICMP tells", LONG, || {
        let row = bench.proxy.backend(tcp);
        (row.health.udp == Some(Down)).then_some(row)
    });
    assert!(row.health.takes_flows, "nobody is better: {row:?}");
    let _session = TcpStream::connect(addr).expect("the proxy accepts");
    let row = until("TCP is accepted", LONG, || {
        let row = bench.proxy.backend(tcp);
        (row.health.tcp == Some(Up)).then_some(row)
    });
    assert_eq!(
        (row.operational, row.health.udp),
        (Up, Some(Checking)),
        "{row:?}"
    );
}

/// The same the other way round, where no probe finds out.
#[test]
fn connects_that_a_service_of_udp_never_accepted_say_nothing_of_it() {
    let echoes = [UdpEcho::start(), UdpEcho::start()];
    let addrs = echoes.each_ref().map(|echo| echo.addr);
    let addr = testkit::ports::free_address();
    let off = json!({ "probe": "off" });
    let bench = ProxyBench::on(addr, &addrs, settings(addr, true, true, &off));
    answered(bench.listen);
    assert!(!bench.proxy.status().health.udp_alone, "nobody has tried");
    for _ in 0..20 {
        let mut tried = TcpStream::connect(addr).expect("the proxy accepts");
        tried.read_to_end(&mut Vec::new()).ok();
    }
    for addr in addrs {
        let health = bench.proxy.backend(addr).health;
        assert!(health.takes_sessions && health.takes_flows, "{health:?}");
        assert_eq!(health.tcp, Some(Checking), "{health:?}");
    }
    assert!(bench.proxy.status().health.udp_alone);
    assert_alarms(&bench.proxy, 0, 0);
}

#[test]
fn the_verdict_on_a_service_of_tcp_that_strangers_ask_over_udp_is_serving() {
    let mut rules = quick_probes(json!({}));
    rules["udp_idle_ms"] = json!(300);
    let settings = json!({ "proxy": rules, "runtime_ttl_sec": 600 });
    let mut bench = LoopBench::start(settings);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = tcp.local_addr().expect("bound");
    bench.folder.write_k8s(&[(addr, 10)]);
    until("it is published", LONG, || published(&bench.folder, addr));
    // A proxy that has never seen another backend, twice: what it knows is gone with it.
    for _ in 0..2 {
        bench.proxy.program.signal(rustix::process::Signal::KILL);
        bench.proxy.program.wait_exit(LONG);
        bench.proxy = Proxy::start_on(&bench.folder, &["-w", "1"]);
        await_verdict(&bench, "ok", "serving");
        stray(bench.listen, 10);
        let count = until("they end", LONG, || {
            // At every moment, not only in the end.
            let told = verdict(&bench);
            assert_ne!(told["level"], "down", "{told}");
            assert_ne!(told["code"], "backends_out", "{told}");
            all_ended(&bench.proxy, "not_served")
        });
        until("control has counted them", LONG, || {
            let (_, told) = bench.control.api.get("/api/v1/status");
            let ended = &told["proxy"]["totals"]["flows_ended"]["not_served"];
            (ended == &json!(count)).then_some(())
        });
        let told = await_verdict(&bench, "ok", "serving");
        assert_eq!(told["traffic"]["flows_failed"], json!(0), "{told}");
    }
}

#[test]
fn the_verdict_on_a_service_that_answers_udp_alone_is_not_down() {
    let settings = json!({ "proxy": quick_probes(json!({})), "runtime_ttl_sec": 600 });
    let mut bench = LoopBench::start(settings);
    let echo = UdpEcho::start();
    bench.folder.write_k8s(&[(echo.addr, 10)]);
    until("it is published", LONG, || {
        published(&bench.folder, echo.addr)
    });
    // A proxy that has never seen another backend.
    bench.proxy.program.signal(rustix::process::Signal::KILL);
    bench.proxy.program.wait_exit(LONG);
    bench.proxy = Proxy::start_on(&bench.folder, &["-w", "1"]);
    await_verdict(&bench, "degraded", "fail_open");
    answered(bench.listen);
    let told = await_verdict(&bench, "degraded", "udp_alone");
    assert_eq!(told["pools"]["default"]["code"], "udp_alone");
    assert_eq!(told["others"], json!([]));
    // Who tries TCP fails, which is no outage of a service that has none.
    for _ in 0..10 {
        let mut tried = TcpStream::connect(bench.listen).expect("the proxy accepts");
        tried.read_to_end(&mut Vec::new()).ok();
    }
    let told = until("they are counted", LONG, || {
        let told = verdict(&bench);
        (told["args"]["failed"] == json!(10)).then_some(told)
    });
    assert_eq!(
        (&told["level"], &told["code"]),
        (&json!("degraded"), &json!("udp_alone"))
    );
    let (_, listed) = bench.control.api.get("/api/backends");
    let row = &listed["backends"][0];
    let ready = (&row["ready_tcp"], &row["ready_udp"], &row["operational"]);
    assert_eq!(ready, (&Value::Null, &json!(true), &json!("up")), "{row}");
    // The proxy says so to a new control, too.
    bench.kill_control();
    bench.restart_control();
    await_verdict(&bench, "degraded", "udp_alone");
}

fn verdict(bench: &LoopBench) -> Value {
    let (_, verdict) = bench.control.api.get("/api/v1/verdict");
    verdict
}

#[track_caller]
fn await_verdict(bench: &LoopBench, level: &str, code: &str) -> Value {
    until(&format!("the verdict is {level} {code}"), LONG, || {
        let told = verdict(bench);
        println!("{told}");
        (told["level"] == json!(level) && told["code"] == json!(code)).then_some(told)
    })
}
