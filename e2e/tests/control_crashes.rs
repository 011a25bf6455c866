//! A mutation is stored and published by system calls; control is killed at each of them, and each
//! is made to fail. Whatever then stands is the old state or the new one, never a mixture, and leaves
//! no litter; traffic notices nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::loop_bench::LoopBench;
use e2e::sessions::{assert_alive, open_sessions};
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::http::{Answer, Request};
use testkit::skipped;
use testkit::strace::{self, Strace, Tampering};
use testkit::wait::within;
use testkit::{LONG, until};

/// What a file is replaced by, in strace's regular expressions.
const CALLS: [&str; 7] = [
    "openat", "write", "fchmod", "fsync", "rename", "close", "mkdir",
];
/// No file sees more of one kind.
const MOST_OF_A_KIND: u32 = 3;

struct Crashes {
    bench: LoopBench,
    /// The weight that stands; the next one is one more.
    weight: u64,
}

impl Crashes {
    fn start() -> Crashes {
        let bench = LoopBench::start(json!({}));
        let (status, answer) = bench.control.api.set_weight(bench.a.addr, 1);
        assert_eq!(status, 200, "{answer}");
        Crashes { bench, weight: 1 }
    }

    /// The files that a mutation replaces.
    fn files(&self) -> [PathBuf; 2] {
        let root = &self.bench.folder.root;
        [root.backends_runtime(), root.proxy_config()]
    }

    /// Sets the next weight while one of the calls that touch `file` is tampered with. The answer,
    /// where there was one, and whether anything was tampered with.
    fn set_next(
        &self,
        file: &Path,
        call: &str,
        tampering: Tampering,
        when: u32,
    ) -> (Option<Answer>, bool) {
        let control = &self.bench.control;
        let pid = control.program.pid();
        let name = file.file_name().expect("a file").to_string_lossy();
        let temporary = file.with_file_name(format!(".{name}.{pid}.tmp"));
        let folder = file.parent().expect("a folder").to_owned();
        let paths = [file.to_owned(), temporary, folder];
        let strace = Strace::attach(pid, &paths, call, tampering, when);
        let backend = self.bench.a.addr;
        let path = format!("/api/backends/{}/{}/weight", backend.ip(), backend.port());
        let body = json!({ "weight": self.weight + 1 }).to_string();
        let answer = control.api.exchange(Request::new("POST", &path).body(body));
        let was_tampered = strace.detach();
        (answer.ok(), was_tampered)
    }

    /// Control runs, and does not say that the next weight stands in `file` for good where it does not.
    #[track_caller]
    fn assert_told(&mut self, what: &str, file: &Path, call: &str, answer: Option<Answer>) {
        assert!(self.bench.control.program.is_running(), "{what}");
        let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
        assert!(
            matches!(answer.status, 200 | 503 | 507),
            "{what}: {answer:?}"
        );
        let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let is_published = file != self.files()[0];
        if answer.status == 200 && (!is_published || said["sync"]["ok"] == json!(true)) {
            assert!(self.stands_in(file) && call != "fsync", "{what}: {said}");
        }
        if answer.status != 200 && !is_published {
            let error = said["error"].as_str().expect("it says why");
            let says_done = !error.contains("nothing was changed");
            assert_eq!(self.stands_in(file), says_done, "{what}: {said}");
        }
    }

    /// Whether the next weight stands in this file.
    fn stands_in(&self, file: &Path) -> bool {
        let entry = &read(file).expect("it stands")["backends"][0];
        let word = entry.get("override").unwrap_or(entry);
        word["weight"] == json!(self.weight + 1)
    }

    /// Whether control was killed. A connection may break a moment before the process is gone.
    fn has_died(&mut self, status: Option<u16>) -> bool {
        const DYING: Duration = Duration::from_millis(100);
        let program = &mut self.bench.control.program;
        let patience = if status.is_none() { LONG } else { DYING };
        within(patience, || (!program.is_running()).then_some(())).is_some()
    }

    fn table_weight(&self) -> u64 {
        let (_, table) = self.bench.control.api.get("/api/backends");
        table["backends"][0]["weight"].as_u64().expect("a number")
    }

    /// The old weight or the new one stands, everywhere; from here on it is the old one.
    #[track_caller]
    fn assert_old_or_new(&mut self, what: &str) {
        for file in self.files() {
            read(&file).unwrap_or_else(|| panic!("{what}: {} is gone", file.display()));
        }
        self.bench.control.api.post_nothing("/api/sync");
        let stands = self.table_weight();
        let is_one = stands == self.weight || stands == self.weight + 1;
        assert!(is_one, "{what}: {stands} after {}", self.weight);
        self.weight = stands;
        let weight = u16::try_from(stands).expect("a weight");
        self.bench.await_weight(&self.bench.a, weight);
    }

    /// Nothing is left over. A file that is just being written goes sooner than the next attempt to
    /// write it, which would take away what had been left.
    #[track_caller]
    fn assert_no_litter(&self, what: &str) {
        const SOON: Duration = Duration::from_secs(1);
        let gone = within(SOON, || self.litter().is_empty().then_some(()));
        assert!(gone.is_some(), "{what}: {:?}", self.litter());
    }

    fn litter(&self) -> Vec<OsString> {
        let folders = self.files().map(|file| {
            let folder = file.parent().expect("a folder");
            fs::read_dir(folder).expect("it stands")
        });
        let names = folders.into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().ends_with(".tmp"))
            .collect()
    }
}

#[test]
fn killed_at_any_call_of_a_mutation_the_old_or_the_new_state_stands() {
    if !strace::is_at_hand() {
        return skipped("strace cannot attach to a process here");
    }
    let mut crashes = Crashes::start();
    let mut open = open_sessions(crashes.bench.listen, 3);
    let mut kills = 0;
    for file in crashes.files() {
        for call in CALLS {
            for when in 1..=MOST_OF_A_KIND {
                let what = format!("killed at {call} {when} of {}", file.display());
                let (answer, _) = crashes.set_next(&file, call, Tampering::Kill, when);
                let status = answer.map(|answer| answer.status);
                if !crashes.has_died(status) {
                    assert_eq!(status, Some(200), "{what}");
                    crashes.assert_old_or_new(&what);
                    break;
                }
                kills += 1;
                crashes.bench.restart_control();
                let stands = crashes.table_weight();
                // What was answered is never lost.
                assert!(
                    status != Some(200) || stands == crashes.weight + 1,
                    "{what}"
                );
                crashes.assert_old_or_new(&what);
                crashes.assert_no_litter(&what);
            }
        }
    }
    assert!(kills >= 10, "only {kills} calls were found to kill at");
    assert_alive(&mut open);
}

#[test]
fn when_any_call_of_a_mutation_fails_the_answer_says_so_and_the_next_one_works() {
    if !strace::is_at_hand() {
        return skipped("strace cannot attach to a process here");
    }
    let mut crashes = Crashes::start();
    let mut open = open_sessions(crashes.bench.listen, 3);
    let mut failures = 0;
    for error in ["ENOSPC", "EIO"] {
        for file in crashes.files() {
            for call in CALLS {
                for when in 1..=MOST_OF_A_KIND {
                    let what = format!("{error} at {call} {when} of {}", file.display());
                    let tampering = Tampering::Error(error);
                    let (answer, was_tampered) = crashes.set_next(&file, call, tampering, when);
                    if !was_tampered {
                        crashes.assert_old_or_new(&what);
                        break;
                    }
                    failures += 1;
                    crashes.assert_told(&what, &file, call, answer);
                    // The data plane notices nothing, and nothing has to be restarted.
                    assert_alive(&mut open);
                    crashes.assert_old_or_new(&what);
                    crashes.assert_no_litter(&what);
                }
            }
        }
    }
    assert!(failures >= 30, "only {failures} calls were found to fail");
    let (status, answer) = crashes
        .bench
        .control
        .api
        .set_weight(crashes.bench.a.addr, 500);
    assert_eq!(status, 200, "{answer}");
    crashes.bench.await_weight(&crashes.bench.a, 500);
    until("no session is lost", LONG, || {
        (crashes.bench.a.open() >= 3).then_some(())
    });
}
