//! SIGHUP to control: `control_config.json` is read again. What can take effect does, what needs a restart
//! is named, and a file with a fault changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use e2e::loop_bench::LoopBench;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::{LONG, until};

fn config(bench: &LoopBench) -> Value {
    testkit::folder::read(&bench.folder.root.control_config()).expect("it stands")
}

/// Puts `config` in place of the file and has control read it; awaits the log line with `told`.
#[track_caller]
fn reload(bench: &mut LoopBench, config: &Value, told: &str) {
    bench.folder.write_control_config(config);
    bench.control.program.signal(Signal::HUP);
    bench.control.program.wait_for_line(told);
}

/// What is left of b's time to live.
#[track_caller]
fn ttl_ms(bench: &LoopBench) -> u64 {
    let (_, answer) = bench.control.api.get("/api/backends");
    let mut rows = answer["backends"].as_array().expect("a list").iter();
    let b = rows.find(|row| row["port"] == json!(bench.b.addr.port()));
    let left = &b.expect("it is registered")["ttl_remaining_ms"];
    left.as_u64().expect("a number")
}

/// What answers warn of.
fn warnings(bench: &LoopBench) -> String {
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    sync["warnings"].to_string()
}

#[test]
fn what_can_take_effect_does_and_the_rest_is_named_until_the_file_says_again_what_runs() {
    let mut bench = LoopBench::start(json!({}));
    let before = config(&bench);
    bench.register_b();
    assert!(ttl_ms(&bench) <= 15_000);

    let mut new = before.clone();
    new["runtime_ttl_sec"] = json!(60);
    new["default_algorithm"] = json!("source_hash");
    new["registration"] = json!({ "allowed_ports": [1] });
    new["allowed_hosts"] = json!(["console.example"]);
    new["port"] = json!(free_address().port());
    let told = "default_algorithm, runtime_ttl_sec, allowed_hosts, registration in effect now";
    reload(&mut bench, &new, told);
    assert!(ttl_ms(&bench) > 15_000, "{}", ttl_ms(&bench));
    until("the proxy runs the algorithm", LONG, || {
        (bench.proxy.status().algorithm == "source_hash").then_some(())
    });
    let body = json!({ "ip": "127.0.0.1", "port": 2 });
    let (status, answer) = bench.control.api.post("/api/register", &body);
    assert!((400..500).contains(&status), "{answer}");
    let as_host = |name: &str| {
        let request = Request::new("GET", "/api/backends").header("Host", name);
        bench.control.api.exchange(request).expect("served").status
    };
    assert_eq!(as_host("console.example"), 200);
    let named = warnings(&bench);
    assert!(named.contains(": port changed"), "{named}");
    let (status, ready) = bench.control.api.get("/readyz");
    assert_eq!(status, 200, "{ready}");
    assert!(ready.to_string().contains(": port changed"), "{ready}");

    let told = "default_algorithm, runtime_ttl_sec, allowed_hosts, registration in effect now";
    reload(&mut bench, &before, told);
    let named = warnings(&bench);
    assert!(!named.contains("port"), "{named}");
    bench.register_b();
    assert!(ttl_ms(&bench) <= 15_000);
    until("the proxy runs the algorithm again", LONG, || {
        (bench.proxy.status().algorithm == "weighted_round_robin").then_some(())
    });
}

/// Tokens of the file count before the log says so, also where the file of the other tokens cannot be
/// read.
#[test]
fn tokens_are_in_effect_when_the_log_says_so() {
    let mut bench = LoopBench::start(json!({}));
    let before = config(&bench);
    let status = |bench: &LoopBench, token: &str| {
        let bearer = format!("Bearer {token}");
        let request = Request::new("GET", "/api/backends").header("Authorization", &bearer);
        bench.control.api.call(request).0
    };
    // Nobody may be let in by a file that others could have written.
    let tokens = bench.folder.root.tokens();
    fs::write(&tokens, "{}").expect("a temporary folder");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o666)).expect("set");
    bench.control.program.wait_for_line("found mode 666");
    let mut new = before.clone();
    for token in ["first-token", "second-token"] {
        new["tokens"] = json!({ "write": token });
        reload(&mut bench, &new, "tokens in effect now");
        assert_eq!(status(&bench, token), 200, "{token}");
        assert_eq!(bench.control.api.get("/api/backends").0, 401);
    }
    assert_eq!(status(&bench, "first-token"), 401, "it is gone");
    // Without any the door stays shut until a restart.
    reload(&mut bench, &before, "tokens in effect now");
    assert_eq!(status(&bench, "second-token"), 401);
    assert_eq!(bench.control.api.get("/api/backends").0, 401);
}

#[test]
fn another_interval_counts_at_once() {
    let mut bench = LoopBench::start(json!({ "auto_sync_interval_sec": 3_600 }));
    let mut new = config(&bench);
    new["auto_sync_interval_sec"] = json!(1);
    reload(&mut bench, &new, "auto_sync_interval_sec in effect now");
    // The first look comes with the change, and the next ones by the interval.
    for round in 0..3 {
        fs::write(bench.folder.root.proxy_config(), "{}").expect("a temporary folder");
        until("it is written again", LONG, || {
            let config = bench.folder.proxy_config()?;
            config["backends"].is_array().then_some(())
        });
        assert!(bench.control.program.is_running(), "round {round}");
    }
}

#[test]
fn each_key_that_needs_a_restart_is_named() {
    let mut bench = LoopBench::start(json!({}));
    let before = config(&bench);
    let mut new = before.clone();
    new["k8s_endpoints_path"] = json!("data/others.json");
    new["audit_max_bytes"] = json!(1_000_000);
    new["audit_files"] = json!(3);
    new["tls"] = json!({ "certificate": "c.pem", "key": "k.pem" });
    let named = "k8s_endpoints_path, audit_max_bytes, audit_files, tls changed: restart control";
    reload(&mut bench, &new, named);
    assert!(warnings(&bench).contains(named), "{}", warnings(&bench));
    // They are named until they are as they were.
    new["audit_files"] = before["audit_files"].clone();
    let named = "k8s_endpoints_path, audit_max_bytes, tls changed: restart control";
    reload(&mut bench, &new, named);
    reload(&mut bench, &before, "nothing has changed");
    assert!(!warnings(&bench).contains("restart control"));
}

#[test]
fn a_file_with_faults_changes_nothing_and_an_absent_one_means_the_defaults() {
    let mut bench = LoopBench::start(json!({ "runtime_ttl_sec": 60 }));
    // So that the proxy stays there without the file.
    let listen = json!({ "listen": { "host": bench.listen.ip(), "port": bench.listen.port() } });
    let (status, answer) = bench.control.api.post("/api/settings", &listen);
    assert_eq!(status, 200, "{answer}");
    bench.register_b();
    let mut bad = config(&bench);
    bad["runtime_ttl_sec"] = json!(0);
    bad["default_algorithm"] = json!("fastest");
    bad["runtime_tl_sec"] = json!(30);
    reload(&mut bench, &bad, "the previous settings stay in effect");
    let told = warnings(&bench);
    for fault in ["/runtime_ttl_sec", "/default_algorithm", "/runtime_tl_sec"] {
        assert!(told.contains(fault), "{fault}: {told}");
    }
    assert!(ttl_ms(&bench) > 15_000);

    let path = bench.folder.root.control_config();
    fs::remove_file(&path).expect("it stood");
    fs::create_dir(&path).expect("a temporary folder");
    bench.control.program.signal(Signal::HUP);
    let told = "the previous settings stay in effect";
    bench.control.program.wait_for_line(told);
    assert!(ttl_ms(&bench) > 15_000);

    fs::remove_dir(&path).expect("it stood");
    bench.control.program.signal(Signal::HUP);
    bench
        .control
        .program
        .wait_for_line("runtime_ttl_sec in effect now");
    bench.register_b();
    assert!(ttl_ms(&bench) <= 15_000);
    let named = warnings(&bench);
    assert!(named.contains(": host, port changed"), "{named}");
}
