//! A service of one protocol is told of in its own words: what no listener takes raises no alarm, and no
//! connect is claimed that was not made.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use contract::status::OperationalState::{Down, Up};
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
    let row = bench.proxy.backend(backend.addr);
    assert_eq!(
        (row.operational, row.reason.as_str()),
        (Up, "the last flow was answered")
    );
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
        let addr = testkit::ports::free_address();
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
        let end = UdpSocket::bind("127.0.0.1:0").expect("a socket");
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
