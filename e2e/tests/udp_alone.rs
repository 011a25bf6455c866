//! A service of one protocol is told of in its own words: what no listener takes raises no alarm, and no
//! connect is claimed that was not made.

use std::net::{SocketAddr, UdpSocket};

use contract::status::OperationalState::{Down, Up};
use e2e::health::await_state;
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
        let line = format!("all_down{{protocol=\"{protocol}\"}} {value}");
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
