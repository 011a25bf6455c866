//! One log line for each session and flow that ended, as workers hand them over. A thread of its own writes
//! them into the process log.
//!
//! The lines of each kind that strangers can cause are limited, and a summary counts the rest.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use bounds::{LineLimit, Verdict};
use contract::Name;
use proxy_core::plan::Protocol;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::session_log::{Entry, Record, Service};

/// Entries gather for this long, so that a worker seldom has to wake the thread.
const GATHER: Duration = Duration::from_millis(20);

/// Writes the lines of `entries`, until these end, on a thread of its own.
pub fn start(entries: Receiver<Entry>) -> std::io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("session-log".to_owned());
    builder.spawn(move || write_lines(&entries))
}

fn write_lines(entries: &Receiver<Entry>) {
    let mut limits = Limits::default();
    loop {
        let first = match limits.due_in_ms(monotonic_ms()) {
            Some(due_in_ms) => entries.recv_timeout(Duration::from_millis(due_in_ms)),
            None => entries.recv().map_err(RecvTimeoutError::from),
        };
        match first {
            Ok(first) => {
                limits.write(&first, monotonic_ms());
                entries
                    .try_iter()
                    .for_each(|entry| limits.write(&entry, monotonic_ms()));
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

impl Kind {
    fn of(record: &Record, service: &Service) -> Kind {
        Kind {
            protocol: record.protocol,
            listener: service.listener().cloned(),
            reason: record.end,
            is_exchange: record.is_exchange(),
        }
    }
}

/// The limits of all kinds that have come up.
#[derive(Default)]
struct Limits(HashMap<Kind, LineLimit>);

impl Limits {
    fn write(&mut self, entry: &Entry, now_ms: u64) {
        if !entry.is_limited {
            return write_line(entry);
        }
        let kind = Kind::of(&entry.record, &entry.service);
        match self.0.entry(kind.clone()).or_default().line(now_ms) {
            Verdict::Write => write_line(entry),
            Verdict::WriteAfter(left_out) => {
                write_summary(&kind, left_out);
                write_line(entry);
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

fn write_line(entry: &Entry) {
    let Entry {
        record, service, ..
    } = entry;
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
        listener = service.listener().map(Name::as_str),
        pool = service.pool().map(Name::as_str),
        "{kind}",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes_up: u64, bytes_down: u64) -> Record {
        Record {
            protocol: Protocol::Udp,
            client: ([192, 0, 2, 1], 1).into(),
            backend: None,
            end: "client_closed",
            is_failure: false,
            bytes_up,
            bytes_down,
            duration_us: 0,
            attempts: 1,
        }
    }

    #[test]
    fn a_flood_takes_no_line_from_exchanges_with_the_same_reason() {
        let chat = Name::new("chat").expect("a name");
        let [base, chat] = [Name::default(), chat].map(|name| Service::of(Some(&name), None));
        let flood = Kind::of(&record(1, 0), &base);
        assert_ne!(flood, Kind::of(&record(1, 1), &base));
        assert_eq!(flood, Kind::of(&record(7, 0), &base));
        // Nor from those of another listener.
        assert_ne!(flood, Kind::of(&record(1, 0), &chat));
    }
}
