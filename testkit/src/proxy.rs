//! A running `proxy_server`, with the generations of its configuration counted.

use std::fs;
use std::path::PathBuf;

use contract::status::{BackendStatus, Reload, Status};
use contract::{Refusal, RefusalCode, Root};
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

use crate::admin::Admin;
use crate::folder::Folder;
use crate::process::Program;
use crate::wait::{LONG, until};

/// The longest wait that the proxy's `GET /generation` allows.
const LONGEST_HELD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Proxy {
    pub program: Program,
    pub admin: Admin,
    root: Root,
    generation: u64,
}

impl Proxy {
    /// Writes `config` as generation 1, starts the proxy on it and awaits that it is ready.
    #[track_caller]
    pub fn start(folder: &Folder, config: &Value, arguments: &[&str]) -> Proxy {
        folder.write_proxy_config(&numbered(config, 1));
        Proxy::start_on(folder, arguments)
    }

    /// Starts the proxy on the file that stands and awaits that it is ready.
    #[track_caller]
    pub fn start_on(folder: &Folder, arguments: &[&str]) -> Proxy {
        let root = ["--root", folder.root_argument()];
        let program = Program::start("proxy_server", root.iter().chain(arguments));
        Proxy::ready(folder, program)
    }

    /// Awaits that a proxy which was started otherwise is ready.
    #[track_caller]
    pub fn ready(folder: &Folder, mut program: Program) -> Proxy {
        let pid_file = folder.root.proxy_pid();
        until("the proxy is ready", LONG, || {
            assert!(program.is_running(), "the proxy has ended");
            (announced(&pid_file) == Some(program.pid())).then_some(())
        });
        Proxy {
            program,
            admin: Admin::beside(&pid_file),
            root: folder.root.clone(),
            generation: 1,
        }
    }

    pub fn status(&self) -> Status {
        self.admin.status()
    }

    /// The row of one backend.
    #[track_caller]
    pub fn backend(&self, addr: SocketAddr) -> BackendStatus {
        let rows = self.status().backends;
        let found = rows
            .into_iter()
            .find(|row| row.ip == addr.ip() && row.port == addr.port());
        found.unwrap_or_else(|| panic!("{addr} is not in the status"))
    }

    /// Publishes `config` as the next generation, signals, and awaits that it runs. Returns its
    /// number.
    #[track_caller]
    pub fn reload(&mut self, config: &Value) -> u64 {
        self.generation += 1;
        let generation = self.generation;
        let before = self.status().running.last_reload;
        let bytes = numbered(config, generation).to_string();
        self.publish(bytes.as_bytes());
        self.program.signal(Signal::HUP);
        let ran = until("an answer about the new generation", LONG, || {
            let running = self.admin.generation(generation, LONGEST_HELD);
            let is_new = running.last_reload != before;
            let last = running.last_reload.filter(|_| is_new)?;
            let is_ours = last.generation == Some(generation);
            is_ours.then_some((running.generation, last.reason))
        });
        assert_eq!(ran, (generation, None), "the generation that runs");
        generation
    }

    /// Publishes bytes that the proxy must not take, signals, and awaits the refusal.
    #[track_caller]
    pub fn reload_refused(&mut self, bytes: &[u8]) -> Reload {
        let before = self.status();
        self.publish(bytes);
        self.program.signal(Signal::HUP);
        let after = until("the refusal is counted", LONG, || {
            let status = self.status();
            (status.reloads_refused > before.reloads_refused).then_some(status)
        });
        assert_eq!(after.running.generation, before.running.generation);
        assert_eq!(after.running.digest, before.running.digest);
        after.running.last_reload.expect("a refusal is a reload")
    }

    /// Awaits that exactly this is refused: code, place and value of each.
    #[track_caller]
    pub fn await_refusals(&self, right: &[(RefusalCode, &str, &str)]) -> Vec<Refusal> {
        until(&format!("{right:?} is refused"), LONG, || {
            let refusals = self.status().running.refusals;
            let parts = |one: &Refusal| (one.code, one.place.clone(), one.value.clone());
            let found: Vec<_> = refusals.iter().map(parts).collect();
            let right = right
                .iter()
                .map(|(code, place, value)| (*code, (*place).to_owned(), (*value).to_owned()));
            (found == right.collect::<Vec<_>>()).then_some(refusals)
        })
    }

    /// Awaits that no session is in flight, in total and at any backend.
    #[track_caller]
    pub fn await_no_sessions(&self) {
        until("no session is in flight", LONG, || {
            let status = self.status();
            let rows = status.backends.iter().map(|row| &row.counters);
            let mut counters = rows.chain([&status.totals.counters]);
            counters
                .all(|counters| counters.sessions_active == 0)
                .then_some(())
        });
    }

    /// Awaits that `count` sessions have ended for `reason`.
    #[track_caller]
    pub fn await_sessions_ended(&self, reason: &str, count: u64) {
        until(&format!("{count} sessions end as {reason}"), LONG, || {
            let ended = self.status().totals.sessions_ended;
            (ended.get(reason).copied() >= Some(count)).then_some(())
        });
    }

    /// Replaces `proxy_config.json` without a word to the proxy.
    pub fn publish(&self, bytes: &[u8]) {
        let path = self.root.proxy_config();
        contract::publish(&path, bytes).expect("a temporary folder can be written");
    }
}

/// The pid that a pid file names, if it is whole.
pub fn announced(pid_file: &PathBuf) -> Option<u32> {
    fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

/// `config` with its generation.
pub fn numbered(config: &Value, generation: u64) -> Value {
    let mut config = config.clone();
    config["generation"] = generation.into();
    config
}
