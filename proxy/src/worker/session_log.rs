//! One log line for each session and flow that ended: who, with whom, how, how much, how long.
//!
//! Workers only hand over a small record; a thread of its own makes it a line of the process log.
//! What it cannot keep up with is dropped and counted, never waited for.
//!
//! Strangers can make sessions and flows fail as fast as they like, so where failures alone are asked
//! for, the lines of each reason are limited, and a summary counts the rest. Who asks for all gets all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bounds::{LineLimit, Verdict};
use contract::{BackendAddr, SessionLog};
use proxy_core::latency::add;
use proxy_core::plan::Protocol;

use super::counters::WorkerCounters;
use crate::clock::monotonic_ms;

/// Records under way from all workers to the log thread.
const QUEUE: usize = 16_384;
/// The log thread lets records gather for this long, so that a worker seldom has to wake it.
const GATHER: Duration = Duration::from_millis(20);

/// How one session or flow ended.
#[derive(Debug)]
pub struct Record {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// The last backend that was tried; `None` where there was none.
    pub backend: Option<BackendAddr>,
    pub end: &'static str,
    pub is_failure: bool,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub duration_us: u64,
    /// Backends tried.
    pub attempts: u8,
}

/// A record that is to become a line.
#[derive(Debug)]
struct Wanted {
    record: Record,
    is_limited: bool,
}

#[derive(Debug, Clone)]
pub struct SessionLogger {
    records: SyncSender<Wanted>,
    counters: Arc<WorkerCounters>,
}

impl SessionLogger {
    pub fn log(&self, wanted: SessionLog, record: Record) {
        let is_wanted = match wanted {
            SessionLog::All => true,
            SessionLog::Failures => record.is_failure,
            SessionLog::Off => false,
        };
        let is_limited = wanted == SessionLog::Failures;
        let wanted = Wanted { record, is_limited };
        if is_wanted && self.records.try_send(wanted).is_err() {
            add(&self.counters.log_lines_dropped, 1);
        }
    }
}

/// The log thread's end of the queue, and a sender for the workers' loggers.
pub struct LogThread {
    records: SyncSender<Wanted>,
    thread: std::thread::JoinHandle<()>,
}

impl LogThread {
    pub fn start() -> std::io::Result<LogThread> {
        let (records, receiver) = sync_channel(QUEUE);
        let builder = std::thread::Builder::new().name("session-log".to_owned());
        let thread = builder.spawn(move || write_records(&receiver))?;
        Ok(LogThread { records, thread })
    }

    pub fn logger(&self, counters: Arc<WorkerCounters>) -> SessionLogger {
        SessionLogger {
            records: self.records.clone(),
            counters,
        }
    }

    /// Logs what is still queued. All loggers must be gone.
    pub fn finish(self) {
        drop(self.records);
        // A log thread that panicked has nothing more to write.
        let _ = self.thread.join();
    }
}

fn write_records(records: &Receiver<Wanted>) {
    let mut limits = Limits::default();
    loop {
        let first = match limits.due_in_ms(monotonic_ms()) {
            Some(due_in_ms) => records.recv_timeout(Duration::from_millis(due_in_ms)),
            None => records.recv().map_err(RecvTimeoutError::from),
        };
        match first {
            Ok(first) => {
                limits.write(&first, monotonic_ms());
                records
                    .try_iter()
                    .for_each(|wanted| limits.write(&wanted, monotonic_ms()));
                std::thread::sleep(GATHER);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return limits.sum_up(u64::MAX),
        }
        limits.sum_up(monotonic_ms());
    }
}

/// What there is one limit for: the log lines of one reason.
type Kind = (Protocol, &'static str);

/// The limits of all reasons that have come up.
#[derive(Default)]
struct Limits(HashMap<Kind, LineLimit>);

impl Limits {
    fn write(&mut self, wanted: &Wanted, now_ms: u64) {
        let record = &wanted.record;
        if !wanted.is_limited {
            return write_record(record);
        }
        let kind = (record.protocol, record.end);
        match self.0.entry(kind).or_default().line(now_ms) {
            Verdict::Write => write_record(record),
            Verdict::WriteAfter(left_out) => {
                write_summary(kind, left_out);
                write_record(record);
            }
            Verdict::LeaveOut => {}
        }
    }

    /// Writes the summaries that are due.
    fn sum_up(&mut self, now_ms: u64) {
        for (kind, limit) in &mut self.0 {
            if let Some(left_out) = limit.sum_up(now_ms) {
                write_summary(*kind, left_out);
            }
        }
    }

    fn due_in_ms(&self, now_ms: u64) -> Option<u64> {
        let due = self.0.values().filter_map(LineLimit::due_at_ms).min()?;
        Some(due.saturating_sub(now_ms))
    }
}

fn ended(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "session ended",
        Protocol::Udp => "flow ended",
    }
}

fn write_summary((protocol, reason): Kind, left_out: u64) {
    let kind = ended(protocol);
    tracing::info!(target: "session", reason, "{kind}: lines of this reason left out {left_out}");
}

fn write_record(record: &Record) {
    let kind = ended(record.protocol);
    let backend = record.backend.map(|backend| backend.to_string());
    let backend = backend.as_deref().unwrap_or("-");
    tracing::info!(
        target: "session",
        reason = record.end,
        client = %record.client,
        backend,
        bytes_up = record.bytes_up,
        bytes_down = record.bytes_down,
        duration_ms = record.duration_us / 1_000,
        attempts = record.attempts,
        "{kind}",
    );
}
