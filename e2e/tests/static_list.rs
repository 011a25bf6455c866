//! The static list reaches the proxy, whoever edits it, and what no source mentions is left alone.

use e2e::loop_bench::{LoopBench, published};
use serde_json::json;
use testkit::folder::k8s_endpoints;
use testkit::ports::free_address;
use testkit::process::run;
use testkit::{LONG, until};

#[test]
fn a_static_backend_is_served_without_a_heartbeat_and_goes_when_it_is_taken_off() {
    let bench = LoopBench::start(json!({ "runtime_ttl_sec": 1 }));
    let path = format!("/api/v1/static/{}", bench.b.addr);
    let (status, answer) = bench.control.api.put(&path, &json!({ "weight": 20 }));
    assert_eq!(
        (status, &answer["sync"]["reload"]["applied"]),
        (200, &json!(true)),
        "{answer}"
    );
    bench.await_reached("b");
    let entry = published(&bench.folder, bench.b.addr).expect("published");
    assert_eq!(entry["weight"], 20);

    // By hand, as an editor saves it.
    let list = json!({ "backends": [{ "ip": bench.b.addr.ip(), "port": bench.b.addr.port(), "weight": "30" }] });
    std::fs::write(bench.folder.root.static_backends(), list.to_string()).expect("written");
    until("the edit is published", LONG, || {
        (published(&bench.folder, bench.b.addr)?["weight"] == 30).then_some(())
    });
    let (status, _) = bench.control.api.delete(&path, None);
    assert_eq!(status, 200);
    assert_eq!(published(&bench.folder, bench.b.addr), None);
}

#[test]
fn what_the_sources_lose_while_control_is_stopped_goes_and_what_is_discoverys_or_a_hands_stays() {
    let mut bench = LoopBench::start(json!({}));
    let [of_registry, by_hand] = [free_address(), free_address()];
    let path = format!("/api/v1/static/{}", bench.b.addr);
    let (status, answer) = bench.control.api.put(&path, &json!({}));
    assert_eq!(status, 200, "{answer}");
    let body = json!({ "ip": of_registry.ip(), "port": of_registry.port() });
    let (status, answer) = bench.control.api.post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
    until("both are published", LONG, || {
        published(&bench.folder, bench.b.addr)?;
        published(&bench.folder, of_registry)
    });

    bench.kill_control();
    let root = bench.folder.root.clone();
    std::fs::write(root.static_backends(), r#"{"backends": []}"#).expect("written");
    std::fs::remove_file(root.backends_runtime()).expect("stored");
    std::fs::remove_file(root.k8s_endpoints()).expect("written by the bench");
    let mut file = bench.folder.proxy_config().expect("published");
    let backends = file["backends"].as_array_mut().expect("a list");
    backends.push(json!({ "ip": by_hand.ip(), "port": by_hand.port(), "weight": 3 }));
    std::fs::write(root.proxy_config(), file.to_string()).expect("written");

    // The second start reads what the first one has written.
    for start in 1..=2 {
        bench.restart_control();
        until("what is no longer listed is gone", LONG, || {
            let is_there = |addr| published(&bench.folder, addr).is_some();
            (!is_there(bench.b.addr) && !is_there(of_registry)).then_some(())
        });
        for kept in [bench.a.addr, by_hand] {
            assert!(published(&bench.folder, kept).is_some(), "start {start}");
        }
        bench.kill_control();
    }

    // Without the file, nobody could tell: everything is kept.
    let mut file = bench.folder.proxy_config().expect("published");
    let backends = file["backends"].as_array_mut().expect("a list");
    backends.push(json!({ "ip": of_registry.ip(), "port": of_registry.port() }));
    std::fs::write(root.proxy_config(), file.to_string()).expect("written");
    std::fs::remove_file(root.published_sources()).expect("written by control");
    bench.restart_control();
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(sync["merged_count"], 3, "{sync}");
}

#[test]
fn an_agent_that_says_no_weight_leaves_discoverys_in_force() {
    let bench = LoopBench::start(json!({}));
    let found = k8s_endpoints(&[(bench.a.addr, 10), (bench.b.addr, 90)]);
    std::fs::write(bench.folder.root.k8s_endpoints(), found.to_string()).expect("written");
    bench.await_reached("b");
    let body = json!({ "ip": bench.b.addr.ip(), "port": bench.b.addr.port(), "gpu_usage": 0.5 });
    let (status, answer) = bench.control.api.post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
    let entry = published(&bench.folder, bench.b.addr).expect("published");
    assert_eq!(entry["weight"], 90);
}

/// The verdict of the look before it would say that there is none.
#[test]
fn the_first_backend_is_added_without_a_warning_that_there_is_none() {
    let bench = LoopBench::start(json!({}));
    bench.folder.write_k8s(&[]);
    until("no backend is known", LONG, || {
        let (_, verdict) = bench.control.api.get("/api/v1/verdict");
        (verdict["code"] == json!("no_backend_known")).then_some(())
    });
    let path = format!("/api/v1/static/{}", bench.b.addr);
    let (status, answer) = bench.control.api.put(&path, &json!({}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["warnings"], json!([]), "{answer}");
    // The same once more is no reload, and says why.
    let (_, answer) = bench.control.api.put(&path, &json!({}));
    let info = &answer["sync"]["reload"]["info"];
    assert_eq!(
        info, "no reload needed: no backend or setting has changed",
        "{answer}"
    );
}

#[test]
fn a_check_of_a_list_names_every_fault() {
    let bench = LoopBench::start(json!({}));
    let file = bench.folder.beside("list.json");
    let name = file.to_str().expect("a temporary name");
    for flag in ["--check-static", "--check-discovery"] {
        std::fs::write(&file, r#"{"backends": [{"ip": "10.0.0.1", "port": 1}]}"#).expect("written");
        let good = run("control_server", [flag, name]);
        assert!(good.status.success(), "{good:?}");
        let bad = r#"{"backends": [{"ip": "gpu-1", "port": 1}, {"ip": "10.0.0.1", "port": 1, "weight": 2000, "wieght": 1}]}"#;
        std::fs::write(&file, bad).expect("written");
        let found = run("control_server", [flag, name]);
        assert_eq!(found.status.code(), Some(1));
        let told = String::from_utf8_lossy(&found.stderr);
        for place in [
            "/backends/0/ip",
            "/backends/1/weight",
            "/backends/1/wieght",
            "3 faults",
        ] {
            assert!(told.contains(place), "{told}");
        }
    }
    // Of very many, the first thousand.
    let entry = json!({ "ip": "gpu-1", "port": 1 });
    let many = json!({ "backends": vec![entry; 1_200] });
    std::fs::write(&file, many.to_string()).expect("written");
    let found = run("control_server", ["--check-discovery", name]);
    let told = String::from_utf8_lossy(&found.stderr);
    assert_eq!(told.lines().count(), 1_002, "{told}");
    assert!(told.contains("and 200 more") && told.contains("1200 faults"));
    let missing = run("control_server", ["--check-static", "/nowhere/list.json"]);
    assert_eq!(missing.status.code(), Some(1));
    let pipe = bench.folder.beside("pipe");
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a temporary folder");
    let pipe = pipe.to_str().expect("a temporary name");
    for (place, word) in [(pipe, "pipe"), ("/", "folder")] {
        let refused = run("control_server", ["--check-discovery", place]);
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains(word), "{told}");
    }
}
