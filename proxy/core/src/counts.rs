//! What is counted of sessions and flows: by each worker in all, and of each listener.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::latency::{Histogram, add};
use crate::reason::{DropReason, FlowEnd, SessionEnd};

/// Written by one worker; status and metrics read at any time and sum over the workers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counts {
    pub sessions_active: AtomicU64,
    pub sessions_total: AtomicU64,
    pub flows_active: AtomicU64,
    pub flows_total: AtomicU64,
    /// Payload from clients to backends, TCP and UDP.
    pub bytes_up: AtomicU64,
    /// Payload from backends to clients.
    pub bytes_down: AtomicU64,
    pub connect_failures: AtomicU64,
    pub connect_timeouts: AtomicU64,
    pub connect_retries: AtomicU64,
    pub accept_pauses: AtomicU64,
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

    pub fn session_started(&self) {
        add(&self.sessions_active, 1);
        add(&self.sessions_total, 1);
    }

    pub fn session_ended(&self, end: SessionEnd) {
        add(&self.sessions_active, 1u64.wrapping_neg());
        add(&self.sessions_ended[end as usize], 1);
    }

    pub fn flow_started(&self) {
        add(&self.flows_active, 1);
        add(&self.flows_total, 1);
    }

    pub fn flow_ended(&self, end: FlowEnd) {
        add(&self.flows_active, 1u64.wrapping_neg());
        add(&self.flows_ended[end as usize], 1);
    }

    pub fn bytes(&self, up: u64, down: u64) {
        add(&self.bytes_up, up);
        add(&self.bytes_down, down);
    }

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
