//! "Ready" is one thing: the list of backends, control's metrics and the proxy's metrics agree on it,
//! with TCP and UDP apart.

use std::net::SocketAddr;

use e2e::health::quick_probes;
use e2e::loop_bench::LoopBench;
use serde_json::{Value, json};
use testkit::deaf::Refuser;
use testkit::http::Request;
use testkit::{LONG, until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    in_use: u64,
    /// `None`: no listener takes the protocol.
    tcp: Option<u64>,
    udp: Option<u64>,
}

fn rows(bench: &LoopBench) -> Vec<Value> {
    let (_, answer) = bench.control.api.get("/api/backends");
    answer["backends"].as_array().expect("a list").clone()
}

fn row(bench: &LoopBench, addr: SocketAddr) -> Value {
    let mut rows = rows(bench).into_iter();
    let row = rows.find(|row| row["port"] == json!(addr.port()));
    row.expect("it is listed")
}

/// As the list of backends has it.
fn listed(bench: &LoopBench) -> Counts {
    let rows = rows(bench);
    let ready = |key: &str| {
        let values: Option<Vec<bool>> = rows.iter().map(|row| row[key].as_bool()).collect();
        values.map(|values| values.into_iter().filter(|is_ready| *is_ready).count() as u64)
    };
    let in_use = rows.iter().filter(|row| row["state"] == json!("ready"));
    Counts {
        in_use: in_use.count() as u64,
        tcp: ready("ready_tcp"),
        udp: ready("ready_udp"),
    }
}

/// As the metrics of a plane have it.
fn counted(text: &str, plane: &str) -> Counts {
    let ready = |protocol| format!("backends_ready{{pool=\"default\",protocol=\"{protocol}\"}}");
    let value = |name: &str| {
        let start = format!("wicketgate_{plane}_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(value.parse().expect("a number"))
    };
    Counts {
        in_use: value("backends_in_use{pool=\"default\"}").expect("always told"),
        tcp: value(&ready("tcp")),
        udp: value(&ready("udp")),
    }
}

fn metrics(bench: &LoopBench) -> String {
    let answer = bench.control.api.exchange(Request::new("GET", "/metrics"));
    let body = answer.expect("control serves").body;
    String::from_utf8(body).expect("text")
}

/// Awaits that all three agree, as they follow each other within a moment.
#[track_caller]
fn await_counts(bench: &LoopBench, what: &str, in_use: u64, tcp: Option<u64>, udp: Option<u64>) {
    let expected = Counts { in_use, tcp, udp };
    until(&format!("{what}: {expected:?}"), LONG, || {
        let found = [
            listed(bench),
            counted(&metrics(bench), "control"),
            counted(&bench.proxy.admin.metrics(), "proxy"),
        ];
        let is_so = found.iter().all(|one| *one == expected);
        if !is_so {
            println!("{found:?}");
        }
        is_so.then_some(())
    });
}

#[test]
fn ready_is_the_same_in_the_list_and_in_both_planes_metrics() {
    let refuser = Refuser::new();
    let settings = json!({ "proxy": quick_probes(json!({})), "runtime_ttl_sec": 600 });
    let bench = LoopBench::start(settings);
    bench.register_b();
    await_counts(&bench, "both are ready", 2, Some(2), Some(2));

    let body = json!({ "ip": refuser.addr.ip(), "port": refuser.addr.port() });
    let (status, answer) = bench.control.api.post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
    // TCP probes say nothing of flows while others pass them.
    await_counts(&bench, "one is down", 3, Some(2), Some(3));
    let row = row(&bench, refuser.addr);
    assert_eq!(
        (&row["ready_tcp"], &row["operational"], &row["state"]),
        (&json!(false), &json!("down"), &json!("ready")),
        "{row}"
    );

    let path = format!(
        "/api/backends/{}/{}/drain",
        bench.a.addr.ip(),
        bench.a.addr.port()
    );
    let (status, answer) = bench.control.api.post(&path, &json!({ "drain": true }));
    assert_eq!(status, 200, "{answer}");
    await_counts(&bench, "another is drained", 2, Some(1), Some(2));

    let body = json!({ "listen": { "udp": false } });
    let (status, answer) = bench.control.api.post("/api/settings", &body);
    assert_eq!(status, 200, "{answer}");
    await_counts(&bench, "nobody listens for UDP", 2, Some(1), None);
}

#[test]
fn a_backend_that_gets_nothing_while_it_warms_up_is_not_ready() {
    let settings = json!({ "proxy": { "warming_share": "none" }, "runtime_ttl_sec": 600 });
    let bench = LoopBench::start(settings);
    for (is_warming_up, ready) in [(true, 1), (false, 2)] {
        let addr = bench.b.addr;
        let body = json!({ "ip": addr.ip(), "port": addr.port(), "is_warming_up": is_warming_up });
        let (status, answer) = bench.control.api.post("/api/register", &body);
        assert_eq!(status, 200, "{answer}");
        until(&format!("{ready} are ready everywhere"), LONG, || {
            let row = row(&bench, addr);
            let is_ready = json!(!is_warming_up);
            let is_so = row["ready_tcp"] == is_ready && row["ready_udp"] == is_ready;
            let counts = [
                counted(&metrics(&bench), "control"),
                counted(&bench.proxy.admin.metrics(), "proxy"),
            ];
            let found = counts.map(|one| (one.tcp, one.udp));
            (is_so && found == [(Some(ready), Some(ready)); 2]).then_some(())
        });
    }
}
