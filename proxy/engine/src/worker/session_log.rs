//! What is told of each session and flow that ended: who, with whom, how, how much, how long.
//!
//! Workers only hand over a small record, whose listener wants a line. What the reader cannot keep up with is
//! dropped and counted, never waited for.
//!
//! Strangers can make sessions and flows as fast as they like, so most lines are to be limited. Not limited is
//! what costs a stranger more than it costs us: a session over TCP that has carried bytes both ways. The source
//! of a datagram may be forged, so no flow is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use contract::{BackendAddr, DEFAULT_NAME, Name, SessionLog};
use proxy_core::latency::add;
use proxy_core::plan::Protocol;

use super::counters::WorkerCounters;

/// Entries under way from all workers to their reader.
const QUEUE: usize = 16_384;

/// How one session or flow ended.
#[derive(Debug)]
pub struct Record {
    /// Of a session TCP, of a flow UDP.
    pub protocol: Protocol,
    /// Who it came from.
    pub client: SocketAddr,
    /// The last backend that was tried; `None` where there was none.
    pub backend: Option<BackendAddr>,
    /// The word of its reason, see [`proxy_core::reason`].
    pub end: &'static str,
    /// Whether that reason is a failure.
    pub is_failure: bool,
    /// Payload from the client to the backend.
    pub bytes_up: u64,
    /// Payload from the backend to the client.
    pub bytes_down: u64,
    /// From its beginning to its end.
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
    /// Of these names; those of the base format are left out.
    pub fn of(listener: Option<&Name>, pool: Option<&Name>) -> Service {
        let [listener, pool] =
            [listener, pool].map(|name| name.filter(|name| name.as_str() != DEFAULT_NAME).cloned());
        Service { listener, pool }
    }

    /// The name of the listener, where it is not the default one.
    pub fn listener(&self) -> Option<&Name> {
        self.listener.as_ref()
    }

    /// The name of the pool, where it is not the default one.
    pub fn pool(&self) -> Option<&Name> {
        self.pool.as_ref()
    }
}

/// A record that is to become a line.
#[derive(Debug)]
pub struct Entry {
    /// How the session or flow ended.
    pub record: Record,
    /// What it was of.
    pub service: Service,
    /// Whether strangers could have many such lines written.
    pub is_limited: bool,
}

/// Where workers hand entries over.
pub type Entries = SyncSender<Entry>;

/// A queue of entries. It ends when all workers have.
pub fn entries() -> (Entries, Receiver<Entry>) {
    sync_channel(QUEUE)
}

/// A worker's end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct SessionLogger {
    entries: Entries,
    counters: Arc<WorkerCounters>,
}

impl Record {
    /// Bytes went both ways.
    pub fn is_exchange(&self) -> bool {
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
}

impl SessionLogger {
    pub(crate) fn new(entries: Entries, counters: Arc<WorkerCounters>) -> SessionLogger {
        SessionLogger { entries, counters }
    }

    /// `service` is asked for only where there is to be a line.
    pub(crate) fn log(
        &self,
        wanted: SessionLog,
        record: Record,
        service: impl FnOnce() -> Service,
    ) {
        let Some(is_limited) = record.is_limited(wanted) else {
            return;
        };
        let entry = Entry {
            record,
            service: service(),
            is_limited,
        };
        if self.entries.try_send(entry).is_err() {
            add(&self.counters.log_lines_dropped, 1);
        }
    }
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
}
