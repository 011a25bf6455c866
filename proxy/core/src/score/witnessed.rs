//! What has failed at a backend, how often, and when it last did: to explain the failures in its cost.
//!
//! Only written where something fails, and read by the status; no pick reads it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::plan::Protocol;

/// What can fail at a backend, by its own fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made: refused, unreachable or reset.
    ConnectRefused,
    /// A connect took longer than `connect_timeout_ms`.
    ConnectTimedOut,
    /// A session ended without a byte of answer.
    SessionUnanswered,
    /// ICMP came back for a datagram.
    FlowRefused,
    /// A flow ended with its last datagrams unanswered.
    FlowUnanswered,
}

/// How often something failed since the proxy knows the backend, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// What failed.
    pub failure: Failure,
    /// Since the proxy knows the backend.
    pub count: u64,
    /// When it failed last, in milliseconds on the clock of the workers.
    pub last_ms: u64,
}

/// One count and time for each [`Failure`]; every worker may write.
#[derive(Debug, Default)]
pub struct Witnessed([Seen; Failure::ALL.len()]);

#[derive(Debug, Default)]
struct Seen {
    count: AtomicU64,
    last_ms: AtomicU64,
}

impl Failure {
    /// In the order of their counts.
    pub const ALL: [Failure; 5] = [
        Failure::ConnectRefused,
        Failure::ConnectTimedOut,
        Failure::SessionUnanswered,
        Failure::FlowRefused,
        Failure::FlowUnanswered,
    ];

    /// Of what failed.
    pub fn protocol(self) -> Protocol {
        match self {
            Failure::ConnectRefused | Failure::ConnectTimedOut | Failure::SessionUnanswered => {
                Protocol::Tcp
            }
            Failure::FlowRefused | Failure::FlowUnanswered => Protocol::Udp,
        }
    }

    /// Its word in the status.
    pub fn word(self) -> &'static str {
        match self {
            Failure::ConnectRefused => "connect_refused",
            Failure::ConnectTimedOut => "connect_timed_out",
            Failure::SessionUnanswered => "session_unanswered",
            Failure::FlowRefused => "flow_refused",
            Failure::FlowUnanswered => "flow_unanswered",
        }
    }
}

impl Witnessed {
    /// Counts one.
    pub fn note(&self, failure: Failure, now_ms: u64) {
        let seen = &self.0[failure as usize];
        seen.last_ms.fetch_max(now_ms, Relaxed);
        seen.count.fetch_add(1, Relaxed);
    }

    /// Sessions without an answer were no fault of the backend.
    pub fn forgive_unanswered(&self) {
        self.0[Failure::SessionUnanswered as usize]
            .count
            .store(0, Relaxed);
    }

    /// What has failed at all.
    pub fn all(&self) -> impl Iterator<Item = Witness> {
        let of = |failure: Failure| {
            let seen = &self.0[failure as usize];
            Witness {
                failure,
                count: seen.count.load(Relaxed),
                last_ms: seen.last_ms.load(Relaxed),
            }
        };
        Failure::ALL.into_iter().map(of).filter(|one| one.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_by_itself_and_what_is_forgiven_is_not_told() {
        let witnessed = Witnessed::default();
        assert_eq!(witnessed.all().count(), 0);
        for (failure, now_ms) in [
            (Failure::ConnectRefused, 5),
            (Failure::ConnectRefused, 9),
            (Failure::ConnectRefused, 7),
            (Failure::SessionUnanswered, 8),
        ] {
            witnessed.note(failure, now_ms);
        }
        let refused = Witness {
            failure: Failure::ConnectRefused,
            count: 3,
            last_ms: 9,
        };
        assert_eq!(witnessed.all().next(), Some(refused));
        assert_eq!(witnessed.all().count(), 2);
        witnessed.forgive_unanswered();
        assert_eq!(witnessed.all().collect::<Vec<_>>(), [refused]);
    }
}
