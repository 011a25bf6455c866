//! What is counted of sessions and flows: by each worker in all, and of each listener.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::latency::{Histogram, add};
use crate::reason::{DropReason, FlowEnd, SessionEnd};

/// Written by one worker; status and metrics read at any time and sum over the workers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counts {
    /// Open sessions.
    pub sessions_active: AtomicU64,
    /// Sessions that began.
    pub sessions_total: AtomicU64,
    /// Open flows.
    pub flows_active: AtomicU64,
    /// Flows that began.
    pub flows_total: AtomicU64,
    /// Payload from clients to backends, TCP and UDP.
    pub bytes_up: AtomicU64,
    /// Payload from backends to clients.
    pub bytes_down: AtomicU64,
    /// Connects refused, unreachable or reset.
    pub connect_failures: AtomicU64,
    /// Connects that took longer than `connect_timeout_ms`.
    pub connect_timeouts: AtomicU64,
    /// Connects to another backend after one that failed.
    pub connect_retries: AtomicU64,
    /// How often accepting paused because there was no room.
    pub accept_pauses: AtomicU64,
    /// From the client's first byte to the backend's, in microseconds.
    pub first_byte_latency: Histogram,
    sessions_ended: [AtomicU64; SessionEnd::ALL.len()],
    flows_ended: [AtomicU64; FlowEnd::ALL.len()],
    datagrams_dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Counts {
    /// Sessions and flows that are open.
    pub fn in_flight(&self) -> u64 {
        self.sessions_active.load(Relaxed) + self.flows_active.load(Relaxed)
    }

    /// Counts a session as open, until [`Counts::session_ended`].
    pub fn session_started(&self) {
        add(&self.sessions_active, 1);
        add(&self.sessions_total, 1);
    }

    /// Counts the end of an open session, with its reason.
    pub fn session_ended(&self, end: SessionEnd) {
        add(&self.sessions_active, 1u64.wrapping_neg());
        add(&self.sessions_ended[end as usize], 1);
    }

    /// Counts a flow as open, until [`Counts::flow_ended`].
    pub fn flow_started(&self) {
        add(&self.flows_active, 1);
        add(&self.flows_total, 1);
    }

    /// Counts the end of an open flow, with its reason.
    pub fn flow_ended(&self, end: FlowEnd) {
        add(&self.flows_active, 1u64.wrapping_neg());
        add(&self.flows_ended[end as usize], 1);
    }

    /// Adds payload bytes of sessions and flows.
    pub fn bytes(&self, up: u64, down: u64) {
        add(&self.bytes_up, up);
        add(&self.bytes_down, down);
    }

    /// Counts datagrams that no flow carries, with the reason.
    pub fn datagrams_dropped(&self, reason: DropReason, count: usize) {
        add(&self.datagrams_dropped[reason as usize], count as u64);
    }

    /// Ended sessions by reason, in the order of [`SessionEnd::ALL`].
    pub fn sessions_ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.sessions_ended.iter().map(|count| count.load(Relaxed));
        SessionEnd::ALL.iter().map(|end| end.word()).zip(counts)
    }

    /// Ended flows by reason, in the order of [`FlowEnd::ALL`].
    pub fn flows_ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.flows_ended.iter().map(|count| count.load(Relaxed));
        FlowEnd::ALL.iter().map(|end| end.word()).zip(counts)
    }

    /// Dropped datagrams by reason, in the order of [`DropReason::ALL`].
    pub fn dropped_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .datagrams_dropped
            .iter()
            .map(|count| count.load(Relaxed));
        DropReason::ALL
            .iter()
            .map(|reason| reason.word())
            .zip(counts)
    }
}
