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

    pub fn backend(&self) -> &BackendState {
        &self.backend
    }

    /// See [`crate::meter`] for this and what follows.
    pub fn mark_active(&mut self, moment: Moment<'_>) -> bool {
        self.meter.mark_active(&self.backend, moment)
    }

    pub fn join_batch(&mut self) {
        self.meter.join_batch();
    }

    pub fn sent(&mut self, moment: Moment<'_>) {
        self.meter.sent(&self.backend, moment);
    }

    pub fn answered(&mut self, moment: Moment<'_>) {
        self.meter.answered(&self.backend, moment);
    }

    pub fn aborted(&mut self, moment: Moment<'_>) {
        self.meter.aborted(&self.backend, moment);
    }

    pub fn unanswered_flow(&mut self, moment: Moment<'_>) {
        self.meter.unanswered_flow(&self.backend, moment);
    }

    pub fn mark_idle(&mut self, moment: Moment<'_>, awaits_answer: bool) -> Option<u64> {
        self.meter.mark_idle(&self.backend, moment, awaits_answer)
    }

    pub fn is_owed(&self) -> bool {
        self.meter.is_owed()
    }

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
    pub fn take(backend: &Arc<BackendState>) -> Self {
        backend.load().sessions.fetch_add(1, Relaxed);
        SessionSlot(Slot::of(backend))
    }
}

impl FlowSlot {
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
