//! What control keeps over restarts, what it takes from files that others edit, and that many callers
//! at once each get what they asked for.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use e2e::api_bench::ApiBench;
use e2e::loop_bench::{LoopBench, published};
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::ports::free_address;
use testkit::process::run;
use testkit::{Control, LONG, until};

fn register(control: &Control, addr: SocketAddr) {
    let body = json!({ "ip": addr.ip(), "port": addr.port() });
    let (status, answer) = control.api.post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn an_algorithm_set_by_api_survives_a_restart() {
    let mut bench = LoopBench::start(json!({ "default_algorithm": "round_robin" }));
    assert_eq!(bench.proxy.status().algorithm, "round_robin");
    let body = json!({ "algorithm": "source_hash" });
    let (status, answer) = bench.control.api.post("/api/settings", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    assert_eq!(bench.proxy.status().algorithm, "source_hash");
    let kept = read(&bench.folder.root.settings_runtime()).expect("kept");
    assert_eq!(kept["algorithm"], json!("source_hash"));

    bench.kill_control();
    bench.restart_control();
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(sync["ok"], json!(true), "{sync}");
    assert_eq!(bench.proxy.status().algorithm, "source_hash");
    let body = json!({ "algorithm": "fastest" });
    let (status, answer) = bench.control.api.post("/api/settings", &body);
    assert!((400..500).contains(&status), "{answer}");
    assert!(answer.to_string().contains("/algorithm"), "{answer}");
    assert_eq!(bench.proxy.status().algorithm, "source_hash");
}

#[test]
fn an_edit_of_the_runtime_file_by_somebody_else_is_published() {
    let bench = LoopBench::start(json!({}));
    bench.register_b();
    bench.await_weight(&bench.b, 10);
    let path = bench.folder.root.backends_runtime();
    let mut file = until("b is stored", LONG, || {
        let file = read(&path)?;
        (file["backends"].as_array()?.len() == 1).then_some(file)
    });
    file["backends"][0]["weight"] = json!(321);
    let beside = path.with_extension("edited");
    fs::write(&beside, file.to_string()).expect("a temporary folder");
    fs::rename(&beside, &path).expect("a temporary folder");
    bench.await_weight(&bench.b, 321);
}

#[test]
fn a_sync_puts_back_what_somebody_has_broken() {
    let bench = LoopBench::start(json!({}));
    let path = bench.folder.root.proxy_config();
    fs::remove_file(&path).expect("it stands");
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(sync["ok"], json!(true), "{sync}");
    assert!(published(&bench.folder, bench.a.addr).is_some());
    fs::write(&path, "{").expect("a temporary folder");
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(sync["ok"], json!(true), "{sync}");
    assert!(published(&bench.folder, bench.a.addr).is_some());
    assert_eq!(sync["reload"]["applied"], json!(true), "{sync}");
    assert_eq!(Transport::Tcp.ask(bench.listen), "a");
}

#[test]
fn a_new_registration_warms_for_as_long_as_the_server_says() {
    let bench = LoopBench::start(json!({ "warmup_sec": 1 }));
    bench.register_b();
    let warming = |bench: &LoopBench| {
        let entry = published(&bench.folder, bench.b.addr)?;
        entry["is_warming_up"].as_bool()
    };
    until("b warms", LONG, || {
        warming(&bench).filter(|warming| *warming)
    });
    until("b is warm", LONG, || {
        bench.register_b();
        warming(&bench).filter(|warming| !*warming)
    });
    until("b gets its whole weight", LONG, || {
        let effective = bench.proxy.backend(bench.b.addr).weight_effective;
        (effective == 10).then_some(())
    });
}

#[test]
fn many_callers_at_once_each_get_what_they_asked_for() {
    const CALLERS: u64 = 8;
    const CALLS: u64 = 10;
    let bench = ApiBench::start(json!({}));
    let backends: Vec<_> = (0..CALLERS).map(|_| free_address()).collect();
    for addr in &backends {
        register(&bench.control, *addr);
    }
    let done = AtomicBool::new(false);
    let versions = std::thread::scope(|scope| {
        // A file that is not whole panics in there.
        let reader = scope.spawn(|| {
            let mut versions = BTreeSet::new();
            let mut last = 0;
            while !done.load(Relaxed) {
                let config = bench.folder.proxy_config().expect("it always stands");
                let generation = config["generation"].as_u64().expect("a number");
                assert!(generation >= last, "{generation} after {last}");
                last = generation;
                versions.insert(generation);
                std::thread::sleep(Duration::from_millis(1));
            }
            versions
        });
        let callers: Vec<_> = backends
            .iter()
            .map(|addr| {
                scope.spawn(|| {
                    for weight in 1..=CALLS {
                        let (status, answer) = bench.control.api.set_weight(*addr, weight);
                        assert_eq!(status, 200, "{answer}");
                        assert_eq!(answer["sync"]["ok"], json!(true), "{answer}");
                        let entry = published(&bench.folder, *addr).expect("registered");
                        assert_eq!(entry["weight"], json!(weight), "published when answered");
                    }
                })
            })
            .collect();
        let called: Vec<_> = { callers.into_iter() }
            .map(|caller| caller.join())
            .collect();
        done.store(true, Relaxed);
        for called in called {
            called.expect("every call is answered");
        }
        reader.join().expect("every version is whole")
    });
    assert!(versions.len() > 1);
    for addr in backends {
        let entry = published(&bench.folder, addr).expect("registered");
        assert_eq!(entry["weight"], json!(CALLS));
    }
    let litter: Vec<_> = fs::read_dir(bench.folder.root.0.join("config"))
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert_eq!(litter, Vec::<String>::new());
}

#[test]
fn a_second_control_on_the_same_folder_is_refused() {
    let bench = ApiBench::start(json!({}));
    let mut config = read(&bench.folder.root.control_config()).expect("written");
    config["port"] = Value::from(free_address().port());
    bench.folder.write_control_config(&config);
    let second = run("control_server", ["--root", bench.folder.root_argument()]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let log = String::from_utf8_lossy(&second.stderr);
    assert!(
        log.contains(&bench.control.program.pid().to_string()),
        "{log}"
    );
    assert_eq!(bench.control.api.get("/api/backends").0, 200);
}

#[test]
fn control_ends_in_order_and_leaves_what_is_published() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut bench = LoopBench::start(json!({}));
        let before = fs::read(bench.folder.root.proxy_config()).expect("it stands");
        bench.control.program.signal(signal);
        let ended = bench.control.program.wait_exit(LONG);
        assert_eq!(ended.code(), Some(0), "{signal:?}");
        let after = fs::read(bench.folder.root.proxy_config()).expect("it stands");
        assert!(before == after, "{signal:?}");
        assert_eq!(Transport::Tcp.ask(bench.listen), "a");
    }
}
