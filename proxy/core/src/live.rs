//! A pool at work: what a pick reads of its backends as they are now, and how their costs are kept.

use std::sync::Arc;

use crate::backend::BackendState;
use crate::pick::{BackendIndex, Live, Request};
use crate::plan::Protocol;
use crate::score::Now;
use crate::score::cost::Cost;
use crate::snapshot::PoolSnapshot;

/// The outcome of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The chosen one.
    pub backend: BackendIndex,
    /// Whether it was taken for the sake of a batch that is open there.
    pub joins_batch: bool,
}

/// What one session more costs at a backend, now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Explained {
    /// The cost with its parts, as it was last computed.
    pub cost: Cost,
    /// The load that the total is for, as [`Load::in_flight`](crate::load::Load::in_flight).
    pub in_flight: f32,
    /// What a pick compares: the cost at that load.
    pub total: f32,
}

impl PoolSnapshot {
    /// The backend for a new session or flow; `None` where no untried candidate is left.
    pub fn pick(
        &self,
        protocol: Protocol,
        request: &Request<'_>,
        now_us: u64,
        random: &mut fastrand::Rng,
    ) -> Option<Picked> {
        let live = self.live(protocol, now_us);
        let may_join = |backend| !request.has_tried(backend) && live.has_room(backend);
        let batches = self.batches.as_ref();
        if let Some(backend) = batches.and_then(|batches| batches.join(now_us, may_join)) {
            return Some(Picked {
                backend,
                joins_batch: true,
            });
        }
        let backend =
            self.picker(protocol)
                .pick_within_caps(self.table(protocol), request, live, random)?;
        if let Some(batches) = batches {
            batches.begin(backend, now_us);
        }
        Some(Picked {
            backend,
            joins_batch: false,
        })
    }

    /// The backends as a pick sees them now.
    fn live(&self, protocol: Protocol, now_us: u64) -> LiveBackends<'_> {
        LiveBackends {
            backends: &self.backends,
            protocol,
            now_ms: now_us / 1_000,
        }
    }

    /// Computes all costs anew, off the data path. Returns in how many microseconds it is worth
    /// doing again; `None`: not before something happens.
    pub fn score(&self, now: Now) -> Option<u64> {
        let scorer = self.scorer.as_ref()?;
        let mut shares = vec![0.0; self.backends.len()];
        let next_us = scorer.score_all(now, |backend, share| shares[backend.0 as usize] = share);
        for table in &self.tables {
            table.draw_by(&shares);
        }
        next_us
    }

    /// Takes a report of `backend` into account at once.
    pub fn score_report(&self, backend: BackendIndex, now: Now) {
        if let Some(scorer) = &self.scorer {
            scorer.score_one(backend, now);
        }
    }

    /// Why a candidate gets what it gets; `None` where nothing is scored. It is scored for that, since
    /// the last time may be long ago.
    pub fn explain(&self, backend: BackendIndex, now: Now) -> Option<Explained> {
        let cost = self.scorer.as_ref()?.score_one(backend, now)?;
        let state = self.backend(backend);
        Some(Explained {
            cost,
            in_flight: state.load().in_flight(),
            total: state.load().cost(),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct LiveBackends<'a> {
    backends: &'a [Arc<BackendState>],
    protocol: Protocol,
    now_ms: u64,
}

impl LiveBackends<'_> {
    /// Whether its VRAM takes one more, by all that is known, and it has not just failed.
    fn has_room(&self, backend: BackendIndex) -> bool {
        let load = self.backends[backend.0 as usize].load();
        load.in_flight() <= load.line().limit && load.failures.in_a_row() == 0
    }
}

impl Live for LiveBackends<'_> {
    fn in_flight(&self, backend: BackendIndex) -> u64 {
        let backend = &self.backends[backend.0 as usize];
        match self.protocol {
            Protocol::Tcp => backend.sessions(),
            Protocol::Udp => backend.flows(),
        }
    }

    fn cost(&self, backend: BackendIndex) -> f32 {
        self.backends[backend.0 as usize].load().cost()
    }

    fn peak_cost(&self, backend: BackendIndex) -> f32 {
        let peak = &self.backends[backend.0 as usize].load().peak;
        peak.cost(self.in_flight(backend), self.now_ms)
    }
}
