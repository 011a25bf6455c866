//! Sessions and flows that a backend has failed after it had taken them, by how they ended. Failed connects
//! are counted beside them, since a session that is refused by one backend may be served by the next.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::latency::add;
use crate::reason::{FlowEnd, SessionEnd};

const SESSIONS: [SessionEnd; 4] = [
    SessionEnd::BackendClosedUnanswered,
    SessionEnd::BackendReset,
    SessionEnd::BackendLost,
    SessionEnd::BackendStalled,
];
const FLOWS: [FlowEnd; 2] = [FlowEnd::Refused, FlowEnd::Unanswered];

/// What one worker counts. Only that worker writes.
#[derive(Debug, Default)]
pub struct FailedEnds {
    sessions: [AtomicU64; SESSIONS.len()],
    flows: [AtomicU64; FLOWS.len()],
}

impl FailedEnds {
    /// Counts the end of a session, unless it ended by no fault of the backend.
    pub fn session(&self, end: SessionEnd) {
        if let Some(place) = SESSIONS.iter().position(|one| *one == end) {
            add(&self.sessions[place], 1);
        }
    }

    /// The same of a flow.
    pub fn flow(&self, end: FlowEnd) {
        if let Some(place) = FLOWS.iter().position(|one| *one == end) {
            add(&self.flows[place], 1);
        }
    }

    /// Failed sessions by [`SessionEnd::word`].
    pub fn sessions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.sessions.iter().map(|count| count.load(Relaxed));
        SESSIONS.iter().map(|end| end.word()).zip(counts)
    }

    /// Failed flows by [`FlowEnd::word`].
    pub fn flows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.flows.iter().map(|count| count.load(Relaxed));
        FLOWS.iter().map(|end| end.word()).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ends_by_the_fault_of_the_backend_count() {
        let failed = FailedEnds::default();
        SessionEnd::ALL
            .into_iter()
            .for_each(|end| failed.session(end));
        FlowEnd::ALL.into_iter().for_each(|end| failed.flow(end));
        failed.session(SessionEnd::BackendReset);
        let sessions: Vec<_> = failed.sessions().collect();
        let expected = [
            ("backend_closed_unanswered", 1),
            ("backend_reset", 2),
            ("backend_lost", 1),
            ("backend_stalled", 1),
        ];
        assert_eq!(sessions, expected);
        let flows: Vec<_> = failed.flows().collect();
        assert_eq!(flows, [("refused", 1), ("unanswered", 1)]);
    }
}
