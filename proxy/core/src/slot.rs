//! A session or flow in flight at a backend: what counts it there and what meters it, for as long as it lives.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::backend::BackendState;
use crate::meter::{Meter, Moment};

/// One session in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct SessionSlot(Slot);

/// One flow in flight at a backend; dropping it is what ends the count (invariant 4).
#[derive(Debug)]
pub struct FlowSlot(Slot);

/// What both are: a backend, and what is metered of this session or flow.
#[derive(Debug)]
pub struct Slot {
    backend: Arc<BackendState>,
    meter: Meter,
}

impl Slot {
    fn of(backend: &Arc<BackendState>) -> Slot {
        Slot {
            backend: Arc::clone(backend),
            meter: Meter::default(),
        }
    }

    /// The backend that it counts at.
    pub fn backend(&self) -> &BackendState {
        &self.backend
    }

    /// See [`crate::meter`] for this and what follows.
    pub fn mark_active(&mut self, moment: Moment<'_>) -> bool {
        self.meter.mark_active(&self.backend, moment)
    }

    /// Its first request shares a batch that was begun for another.
    pub fn join_batch(&mut self) {
        self.meter.join_batch();
    }

    /// The client sent something.
    pub fn sent(&mut self, moment: Moment<'_>) {
        self.meter.sent(&self.backend, moment);
    }

    /// The backend answered something.
    pub fn answered(&mut self, moment: Moment<'_>) {
        self.meter.answered(&self.backend, moment);
    }

    /// The backend ended the session without a byte, by its own fault.
    pub fn aborted(&mut self, moment: Moment<'_>) {
        self.meter.aborted(&self.backend, moment);
    }

    /// The flow ended in silence.
    pub fn unanswered_flow(&mut self, moment: Moment<'_>) {
        self.meter.unanswered_flow(&self.backend, moment);
    }

    /// Counts it as idle if it has been silent for [`QUIET_MS`](crate::meter::QUIET_MS). Returns when to ask again,
    /// in milliseconds; `None`: not before [`Slot::mark_active`].
    pub fn mark_idle(&mut self, moment: Moment<'_>, awaits_answer: bool) -> Option<u64> {
        self.meter.mark_idle(&self.backend, moment, awaits_answer)
    }

    /// Whether a request has no answer yet.
    pub fn is_owed(&self) -> bool {
        self.meter.is_owed()
    }

    /// Counts it for nothing: what was told holds no longer.
    pub fn forget(&mut self) {
        self.meter.forget(&self.backend);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.meter.release(&self.backend);
    }
}

impl SessionSlot {
    /// Counts a session at `backend`, until it is dropped.
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.load().sessions.fetch_add(1, Relaxed);
        SessionSlot(Slot::of(backend))
    }
}

impl FlowSlot {
    /// Counts a flow at `backend`, until it is dropped.
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.load().flows.fetch_add(1, Relaxed);
        FlowSlot(Slot::of(backend))
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.backend().load().sessions.fetch_sub(1, Relaxed);
    }
}

impl Drop for FlowSlot {
    fn drop(&mut self) {
        self.backend().load().flows.fetch_sub(1, Relaxed);
    }
}

impl Deref for SessionSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl DerefMut for SessionSlot {
    fn deref_mut(&mut self) -> &mut Slot {
        &mut self.0
    }
}

impl Deref for FlowSlot {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.0
    }
}

impl DerefMut for FlowSlot {
    fn deref_mut(&mut self) -> &mut Slot {
        &mut self.0
    }
}
