//! A file system that does not answer: whatever file of control's it is, the API goes on.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::api_bench::ApiBench;
use rustix::process::Signal;
use serde_json::json;
use testkit::strace::{self, Strace, Tampering};
use testkit::{LONG, skipped, until};

/// Calls on files by name, and of open ones.
const CALLS: &str =
    "(open|openat|stat|statx|newfstatat|fstat|readlink|write|fsync|fdatasync|rename|renameat2)$";
/// How long each of them takes.
const HANG: Duration = Duration::from_secs(10);
/// How long the file system does not answer.
const LASTING: Duration = Duration::from_secs(4);
/// In which everything else is answered all the same, on a busy machine too.
const SOON: Duration = Duration::from_secs(4);

/// The API answers while none of `paths` does, and goes on with them afterwards.
fn answers_while_these_hang(name: &str, paths: impl FnOnce(&ApiBench) -> Vec<PathBuf>) {
    if !strace::is_at_hand() {
        return skipped("strace cannot attach to a process here");
    }
    let mut bench = ApiBench::start(json!({ "auto_sync_interval_sec": 1 }));
    let backend = json!({ "ip": "127.0.0.77", "port": 9000 });
    assert_eq!(bench.api().post("/api/register", &backend).0, 200);
    let paths = paths(&bench);
    let pid = bench.control.program.pid();
    let strace = Strace::attach(pid, &paths, CALLS, Tampering::Delay(HANG), 1);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut number = 0;
    while began.elapsed() < LASTING {
        number += 1;
        // One that nobody has asked for yet has a line of the audit log.
        let new = format!("/api/backends?number={number}");
        for path in ["/livez", "/api/backends", &new, "/readyz"] {
            let asked = Instant::now();
            assert_eq!(bench.api().get(path).0, 200, "{name}: {path}");
            slowest = slowest.max(asked.elapsed());
        }
        let asked = Instant::now();
        assert_eq!(
            bench.api().post("/api/register", &backend).0,
            200,
            "{name}: a beat"
        );
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < SOON, "{name}: {slowest:?}");
    assert!(strace.detach(), "{name}: no call was held up");
    let other = json!({ "ip": "127.0.0.78", "port": 9000 });
    until("it goes on with them", LONG, || {
        (bench.api().post("/api/register", &other).0 == 200).then_some(())
    });
    bench.control.program.signal(Signal::TERM);
    bench.control.program.wait_exit(LONG);
}

#[test]
fn the_api_goes_on_while_the_disk_of_the_audit_log_does_not_answer() {
    answers_while_these_hang("logs", |bench| {
        let log = bench.folder.root.audit_log();
        vec![log.parent().expect("a folder").to_owned(), log]
    });
}

#[test]
fn the_api_goes_on_while_the_disk_of_tokens_and_settings_does_not_answer() {
    answers_while_these_hang("config", |bench| {
        let tokens = bench.folder.root.tokens();
        let folder = tokens.parent().expect("a folder").to_owned();
        vec![folder, tokens, bench.folder.root.proxy_config()]
    });
}

#[test]
fn the_api_goes_on_while_the_disk_of_the_sources_does_not_answer() {
    answers_while_these_hang("data", |bench| {
        let root = &bench.folder.root;
        let files = [
            root.backends_runtime(),
            root.settings_runtime(),
            root.k8s_endpoints(),
        ];
        let folder = files[0].parent().expect("a folder").to_owned();
        [&[folder][..], &files].concat()
    });
}
