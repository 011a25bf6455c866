//! One log line for each session and flow that ended: who, with whom, how, how much, how long.
//!
//! Workers only hand over a small record; a thread of its own makes it a line of the process log.
//! What it cannot keep up with is dropped and counted, never waited for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use contract::{BackendAddr, SessionLog};
use proxy_core::latency::add;
use proxy_core::plan::Protocol;

use super::counters::WorkerCounters;

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

#[derive(Debug, Clone)]
pub struct SessionLogger {
    records: SyncSender<Record>,
    counters: Arc<WorkerCounters>,
}

impl SessionLogger {
    pub fn log(&self, wanted: SessionLog, record: Record) {
        let is_wanted = match wanted {
            SessionLog::All => true,
            SessionLog::Failures => record.is_failure,
            SessionLog::Off => false,
        };
        if is_wanted && self.records.try_send(record).is_err() {
            add(&self.counters.log_lines_dropped, 1);
        }
    }
}

/// The log thread's end of the queue, and a sender for the workers' loggers.
pub struct LogThread {
    records: SyncSender<Record>,
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

fn write_records(records: &Receiver<Record>) {
    while let Ok(first) = records.recv() {
        write_record(&first);
        records.try_iter().for_each(|record| write_record(&record));
        std::thread::sleep(GATHER);
    }
}

fn write_record(record: &Record) {
    let kind = match record.protocol {
        Protocol::Tcp => "session ended",
        Protocol::Udp => "flow ended",
    };
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
