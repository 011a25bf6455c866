//! A disk that is full or read-only under control: the call says so, traffic notices nothing, and
//! control recovers by itself.

use std::net::TcpListener;
use std::thread;

use e2e::loop_bench::LoopBench;
use e2e::sessions::{assert_alive, open_sessions};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::ports::free_address;
use testkit::tmpfs::Tmpfs;
use testkit::{LONG, Proxy, skipped, until};

/// Room for the files that are there, and little more.
const KIB: u32 = 64;

/// The API sets a weight; the status and the answer.
fn set(bench: &LoopBench, weight: u64) -> (u16, Value) {
    bench.control.api.set_weight(bench.a.addr, weight)
}

#[test]
fn a_full_or_read_only_disk_under_the_registry_is_told_and_recovers() {
    let bench = LoopBench::start(json!({}));
    assert_eq!(set(&bench, 20).0, 200);
    let Some(disk) = Tmpfs::over(&bench.folder.root.0.join("data"), KIB) else {
        return skipped("a file system cannot be mounted here");
    };
    let mut open = open_sessions(bench.listen, 3);
    assert_eq!(set(&bench, 21).0, 200);

    disk.fill();
    let (status, answer) = set(&bench, 30);
    assert_eq!(status, 507, "{answer}");
    assert_eq!(answer["ok"], json!(false), "{answer}");
    assert_eq!(
        bench.proxy.backend(bench.a.addr).weight,
        21,
        "not half done"
    );
    assert_alive(&mut open);
    disk.empty();
    let (status, answer) = set(&bench, 31);
    assert_eq!(status, 200, "{answer}");
    bench.await_weight(&bench.a, 31);

    disk.set_read_only(true);
    let (status, answer) = set(&bench, 40);
    assert_eq!(status, 503, "{answer}");
    assert_eq!(
        bench.proxy.backend(bench.a.addr).weight,
        31,
        "not half done"
    );
    assert_alive(&mut open);
    disk.set_read_only(false);
    let (status, answer) = set(&bench, 41);
    assert_eq!(status, 200, "{answer}");
    bench.await_weight(&bench.a, 41);
}

#[test]
fn a_full_disk_under_the_published_file_is_told_and_published_later() {
    let bench = LoopBench::start(json!({}));
    let Some(disk) = Tmpfs::over(&bench.folder.root.0.join("config"), KIB) else {
        return skipped("a file system cannot be mounted here");
    };
    let mut open = open_sessions(bench.listen, 3);
    disk.fill();
    let (_, answer) = set(&bench, 30);
    assert_eq!(answer["sync"]["ok"], json!(false), "{answer}");
    assert!(answer.to_string().contains("proxy_config.json"), "{answer}");
    assert_alive(&mut open);
    disk.empty();
    // Nobody has to ask again.
    bench.await_weight(&bench.a, 30);
    assert_alive(&mut open);
}

/// The disk is full from the publish of the call on until control is killed, and the proxy refuses later
/// what it has run meanwhile.
#[test]
fn a_call_that_the_proxy_has_run_is_not_rolled_back_later_though_the_disk_was_full() {
    let mut bench = LoopBench::start(json!({}));
    let data = bench.folder.root.0.join("data");
    let Some(disk) = Tmpfs::over(&data, KIB) else {
        return skipped("a file system cannot be mounted here");
    };
    let other = free_address();
    let is_published = || {
        let port = bench.folder.proxy_config()?["listen"]["port"].clone();
        (port == json!(other.port())).then_some(())
    };
    bench.proxy.program.signal(Signal::STOP);
    let body = json!({ "listen": { "port": other.port() } });
    let (status, answer) = thread::scope(|scope| {
        let call = scope.spawn(|| bench.control.api.post("/api/settings", &body));
        until("it is published", LONG, is_published);
        disk.fill();
        bench.proxy.program.signal(Signal::CONT);
        call.join().expect("it is answered")
    });
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    until("what it runs is stored", LONG, || {
        let stored = read(&bench.folder.root.settings_accepted())?;
        (stored["listen"]["port"] == json!(other.port())).then_some(())
    });

    bench.kill_control();
    bench.proxy.program.signal(Signal::KILL);
    bench.proxy.program.wait_exit(LONG);
    disk.empty();
    let _taken = TcpListener::bind(other).expect("the proxy is gone");
    bench.proxy = Proxy::start_on(&bench.folder, &["-w", "1"]);
    bench.restart_control();
    let settings = bench.folder.root.settings_runtime();
    let settings = until("the call is over", LONG, || {
        let stored = read(&settings)?;
        (stored["pending"] == Value::Null).then_some(stored)
    });
    assert_eq!(
        settings["listen"]["port"],
        json!(other.port()),
        "{settings}"
    );
}
