//! A disk that is full or read-only under control: the call says so, traffic notices nothing, and
//! control recovers by itself.

use e2e::loop_bench::LoopBench;
use e2e::sessions::{assert_alive, open_sessions};
use serde_json::{Value, json};
use testkit::skipped;
use testkit::tmpfs::Tmpfs;

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
