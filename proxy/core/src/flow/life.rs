//! A flow in its table: what is noted of it, and when it ends.

use std::sync::Arc;

use super::state::{FlowState, Judging};
use crate::backend::BackendState;
use crate::flow_table::{FlowIndex, FlowTable, Rank};
use crate::held_listeners::HeldListeners;
use crate::ids::{ListenerId, PoolId};
use crate::reason::FlowEnd;
use crate::snapshot::Snapshot;

/// One flow, and the socket to its backend.
#[derive(Debug)]
pub struct Flow<S> {
    /// Connected to the backend, so that it receives from no other.
    pub socket: S,
    /// What decides when it ends.
    pub state: FlowState,
    /// The place of the socket that it came by, from which answers leave.
    pub came_by: u32,
    /// The listener it came by, and the pool that its backend is a member of.
    pub listener: ListenerId,
    /// See `listener`.
    pub pool: PoolId,
    /// Microseconds on the clock of the workers.
    pub started_us: u64,
    /// Payload to the backend.
    pub bytes_up: u64,
    /// Payload to the client.
    pub bytes_down: u64,
}

/// What flows go by now.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// The snapshot in force.
    pub snapshot: &'a Snapshot,
    /// Where the rules of each listener are, also of removed ones.
    pub listeners: &'a HeldListeners,
    /// Microseconds on the clock of the workers.
    pub now_us: u64,
}

impl Present<'_> {
    /// `now_us` in whole milliseconds.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    /// What a flow of `pool` is judged by.
    #[inline]
    pub fn judging(&self, pool: PoolId) -> Judging {
        Judging {
            epoch: self.snapshot.epoch,
            now_ms: self.now_ms(),
            backend_gone_timeout_ms: self.snapshot.gone_timeout_ms(pool),
        }
    }

    fn idle_ms(&self, listener: ListenerId) -> u64 {
        self.listeners.rules(listener).settings.udp_idle_ms
    }
}

impl<S> Flow<S> {
    /// A flow to `backend` whose first datagram came by the socket at this place.
    pub fn new(
        socket: S,
        backend: &Arc<BackendState>,
        came_by: usize,
        listener: ListenerId,
        present: Present<'_>,
    ) -> Flow<S> {
        Flow {
            socket,
            state: FlowState::begin(backend, present.snapshot.epoch),
            came_by: came_by as u32,
            listener,
            pool: backend.pool,
            started_us: present.now_us,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// Datagrams of the client were sent to the backend.
    #[inline]
    pub fn sent(&mut self, datagrams: usize, bytes: usize, now_ms: u64) {
        self.state.sent(datagrams, now_ms);
        self.bytes_up += bytes as u64;
    }

    /// Answers came from the backend. Returns why the flow is over, if they end it.
    #[inline]
    pub fn answered(
        &mut self,
        answers: usize,
        bytes: usize,
        present: Present<'_>,
    ) -> Option<FlowEnd> {
        self.bytes_down += bytes as u64;
        let responses = present
            .listeners
            .rules(self.listener)
            .settings
            .udp_responses;
        self.state.answered(answers, responses)
    }
}

impl<S> FlowTable<Flow<S>> {
    /// The backend of the flow has answered, and that is not its end.
    #[inline]
    pub fn touch_answered(&mut self, index: FlowIndex, now_ms: u64) {
        self.touch(index, Rank::Answered, now_ms);
    }

    /// When the next flow has been silent for as long as it may.
    pub fn next_idle_ms(&self, listeners: &HeldListeners) -> Option<u64> {
        let idle = self.listeners().filter_map(|listener| {
            let (_, last_seen_ms) = self.oldest(listener)?;
            Some(last_seen_ms + listeners.rules(listener).settings.udp_idle_ms)
        });
        idle.min()
    }

    /// A flow that has been silent for the idle time of its listener, and why it ends.
    pub fn next_idle(&self, present: Present<'_>) -> Option<(FlowIndex, FlowEnd)> {
        let index = self.listeners().find_map(|listener| {
            let (index, last_seen_ms) = self.oldest(listener)?;
            let idle_at_ms = last_seen_ms + present.idle_ms(listener);
            (present.now_ms() >= idle_at_ms).then_some(index)
        })?;
        let (_, flow) = self.get(index)?;
        Some((index, flow.state.end_when_idle()))
    }

    /// When the flow at this place is to end because its backend is gone, if the settings say so.
    pub fn must_end_at_ms(&self, index: FlowIndex, present: Present<'_>) -> Option<u64> {
        let (_, flow) = self.get(index)?;
        flow.state.must_end_at_ms(present.judging(flow.pool))
    }
}
