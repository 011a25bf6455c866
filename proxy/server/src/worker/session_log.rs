//! One log line for each session and flow that ended: who, with whom, how, how much, how long.
//!
//! Workers only hand over a small record; a thread of its own makes it a line of the process log.
//! What it cannot keep up with is dropped and counted, never waited for.
//!
//! Strangers can make sessions and flows as fast as they like, so the lines of each kind are limited,
//! and a summary counts the rest. Not limited is what costs a stranger more than it costs us: a session
//! over TCP that has carried bytes both ways. The source of a datagram may be forged, so no flow is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bounds::{LineLimit, Verdict};
use contract::{BackendAddr, DEFAULT_NAME, Name, SessionLog};
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

/// The listener and the pool of a session or flow, each where it is not the one of the base format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Service {
    listener: Option<Name>,
    pool: Option<Name>,
}

impl Service {
    pub fn of(listener: Option<&Name>, pool: Option<&Name>) -> Service {
        let [listener, pool] =
            [listener, pool].map(|name| name.filter(|name| name.as_str() != DEFAULT_NAME).cloned());
        Service { listener, pool }
    }

    fn fields(&self) -> [Option<&str>; 2] {
        [&self.listener, &self.pool].map(|name| name.as_ref().map(Name::as_str))
    }
}

/// A record that is to become a line.
#[derive(Debug)]
struct Wanted {
    record: Record,
    service: Service,
    is_limited: bool,
}

#[derive(Debug, Clone)]
pub struct SessionLogger {
    records: SyncSender<Wanted>,
    counters: Arc<WorkerCounters>,
}

impl Record {
    /// Bytes went both ways.
    fn is_exchange(&self) -> bool {
        self.bytes_up > 0 && self.bytes_down > 0
    }

    /// Whether its line is limited; `None` where there is to be none.
    fn is_limited(&self, wanted: SessionLog) -> Option<bool> {
        match wanted {
            SessionLog::All => Some(self.protocol == Protocol::Udp || !self.is_exchange()),
            SessionLog::Failures => self.is_failure.then_some(true),
            SessionLog::Off => None,
            SessionLog::Unlimited => Some(false),
        }
    }

    fn kind(&self, service: &Service) -> Kind {
        Kind {
            protocol: self.protocol,
            listener: service.listener.clone(),
            reason: self.end,
            is_exchange: self.is_exchange(),
        }
    }
}

impl SessionLogger {
    /// `service` is asked for only where there is to be a line.
    pub fn log(&self, wanted: SessionLog, record: Record, service: impl FnOnce() -> Service) {
        let Some(is_limited) = record.is_limited(wanted) else {
            return;
        };
        let wanted = Wanted {
            record,
            service: service(),
            is_limited,
        };
        if self.records.try_send(wanted).is_err() {
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

/// What there is one limit for. Exchanges have their own, so that a flood of empty sessions and
/// unanswered datagrams takes no line from them, and so has each listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    protocol: Protocol,
    listener: Option<Name>,
    reason: &'static str,
    is_exchange: bool,
}

/// The limits of all kinds that have come up.
#[derive(Default)]
struct Limits(HashMap<Kind, LineLimit>);

impl Limits {
    fn write(&mut self, wanted: &Wanted, now_ms: u64) {
        if !wanted.is_limited {
            return write_record(wanted);
        }
        let kind = wanted.record.kind(&wanted.service);
        match self.0.entry(kind.clone()).or_default().line(now_ms) {
            Verdict::Write => write_record(wanted),
            Verdict::WriteAfter(left_out) => {
                write_summary(&kind, left_out);
                write_record(wanted);
            }
            Verdict::LeaveOut => {}
        }
    }

    /// Writes the summaries that are due, and forgets the kinds that are over: names come and go.
    fn sum_up(&mut self, now_ms: u64) {
        self.0.retain(|kind, limit| {
            if let Some(left_out) = limit.sum_up(now_ms) {
                write_summary(kind, left_out);
            }
            *limit != LineLimit::default()
        });
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

fn write_summary(kind: &Kind, left_out: u64) {
    let Kind {
        protocol,
        listener,
        reason,
        is_exchange,
    } = kind;
    let ended = ended(*protocol);
    tracing::info!(
        target: "session",
        reason,
        exchange = is_exchange,
        left_out,
        listener = listener.as_ref().map(Name::as_str),
        "{ended}: lines left out",
    );
}

fn write_record(
    Wanted {
        record, service, ..
    }: &Wanted,
) {
    let [listener, pool] = service.fields();
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
        listener,
        pool,
        "{kind}",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(protocol: Protocol, is_failure: bool, bytes_up: u64, bytes_down: u64) -> Record {
        Record {
            protocol,
            client: ([192, 0, 2, 1], 1).into(),
            backend: None,
            end: "client_closed",
            is_failure,
            bytes_up,
            bytes_down,
            duration_us: 0,
            attempts: 1,
        }
    }

    #[test]
    fn only_a_tcp_session_that_carried_bytes_both_ways_has_a_line_for_sure() {
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        let (all, failures) = (SessionLog::All, SessionLog::Failures);
        let (off, unlimited) = (SessionLog::Off, SessionLog::Unlimited);
        let (none, some, limited) = (None, Some(false), Some(true));
        let table = [
            (all, record(tcp, false, 1, 1), some),
            (all, record(tcp, true, 1, 1), some),
            (all, record(tcp, false, 0, 0), limited),
            // Whatever a server says at once, and whatever nobody answers.
            (all, record(tcp, false, 0, 9), limited),
            (all, record(tcp, true, 9, 0), limited),
            (all, record(udp, false, 9, 9), limited),
            (failures, record(tcp, false, 1, 1), none),
            (failures, record(tcp, true, 1, 1), limited),
            (failures, record(udp, true, 1, 0), limited),
            (off, record(tcp, true, 1, 1), none),
            (unlimited, record(udp, true, 0, 0), some),
        ];
        for (wanted, record, expected) in table {
            assert_eq!(record.is_limited(wanted), expected, "{wanted:?} {record:?}");
        }
    }

    #[test]
    fn a_flood_takes_no_line_from_exchanges_with_the_same_reason() {
        let chat = Name::new("chat").expect("a name");
        let [base, chat] = [Name::default(), chat].map(|name| Service::of(Some(&name), None));
        let flood = record(Protocol::Udp, false, 1, 0).kind(&base);
        assert_ne!(flood, record(Protocol::Udp, false, 1, 1).kind(&base));
        assert_eq!(flood, record(Protocol::Udp, false, 7, 0).kind(&base));
        // Nor from those of another listener.
        assert_ne!(flood, record(Protocol::Udp, false, 1, 0).kind(&chat));
    }
}
