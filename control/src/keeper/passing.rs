//! What the keeper does as time passes: registrations expire, and heartbeats are stored.

use bounds::Verdict;

use super::task::{TRIES, Task};
use crate::clock::Now;
use crate::registry::Passed;
use crate::store::{Part, Store, StoreError, is_overtaken};

/// A stall of control of at least this part of the TTL restarts all TTLs.
const STALL_PART: u64 = 4;
/// How often heartbeats are stored, and how soon a failed write is retried.
const STORE_INTERVAL_MS: u64 = 5_000;
/// Folding the journal may take a fifth of the time, but waits no longer than this.
const FOLD_REST_PER_WORK: u64 = 4;
const MAX_FOLD_REST_MS: u64 = 800;

impl<S: Store> Task<S> {
    /// Lets time pass, and stores what is due.
    pub async fn pass(&mut self) {
        let turn = self.shared.clock.turn();
        let now = self.shared.clock.now();
        let passed = {
            let mut model = self.shared.model();
            let policy = model.policy;
            if turn.unheard_ms > 0 && turn.unheard_ms >= policy.ttl_ms / STALL_PART {
                tracing::warn!(
                    "all TTLs restarted unheard_ms={}: control could not listen",
                    turn.unheard_ms
                );
                model.registry.refresh(now);
            }
            let passed = match turn.may_expire {
                true => model.registry.pass(now, policy),
                false => Vec::new(),
            };
            model.revision += u64::from(!passed.is_empty());
            passed
        };
        self.tell_of_left_out(now);
        for event in &passed {
            self.tell(event, now);
        }
        if !passed.is_empty() {
            self.dirty = true;
            self.shared.state_changed.notify_one();
        }
        let since_ms = now.monotonic_ms.saturating_sub(self.stored_at_ms);
        let is_behind = self.store.is_behind(&self.shared.model().registry);
        let is_due = since_ms >= STORE_INTERVAL_MS && (self.dirty || is_behind);
        let is_folding_due = self.store.is_unmerged() && since_ms >= self.fold_rest_ms;
        if !passed.is_empty() || is_due || is_folding_due {
            self.store_registry().await;
        }
    }

    fn tell(&mut self, event: &Passed, now: Now) {
        use std::sync::atomic::Ordering::Relaxed;
        let shared = self.shared.clone();
        let own = |action, target: &str, result: &str| {
            shared.audit_own("expiry", action, target, result);
        };
        match event {
            Passed::Expired(key) => {
                self.shared.counters.expired.fetch_add(1, Relaxed);
                if self.expiry_lines.line(now.monotonic_ms) != Verdict::LeaveOut {
                    tracing::warn!(
                        "registration expired backend={key}: no heartbeat within its TTL"
                    );
                }
                own("expire", &key.to_string(), "no heartbeat within the TTL");
            }
            Passed::Removed(key) => own("remove", &key.to_string(), "expired for ten TTLs"),
            Passed::Warm(key) => own("warm", &key.to_string(), "warm-up is over"),
            Passed::FreezeBegan { silent } => {
                tracing::error!(
                    "mass expiry held back silent={silent}: more than half of the registrations are silent; none \
                     expires for ten TTLs, or until POST /api/expiry/acknowledge"
                );
                let result = format!("silent registrations: {silent}");
                own("freeze_expiry", "registrations", &result);
            }
            Passed::FreezeEnded => own("unfreeze_expiry", "registrations", "ok"),
        }
    }

    fn tell_of_left_out(&mut self, now: Now) {
        if let Some(left_out) = self.expiry_lines.sum_up(now.monotonic_ms) {
            tracing::warn!("registration expired: lines left out left_out={left_out}");
        }
    }

    /// Stores the registry; a failure leaves it dirty, so that it is retried.
    pub(super) async fn store_registry(&mut self) {
        let now = self.shared.clock.now();
        let mut tries = 1..=TRIES;
        let stored = loop {
            self.store.read(Part::Registry, &self.shared).await;
            let model = self.shared.model().clone();
            let stored = self.store.store_whole_registry(model, now).await;
            if !is_overtaken(&stored) || tries.next().is_none() {
                break stored;
            }
        };
        if let (Err(StoreError { place, error }), false) = (&stored, self.dirty) {
            tracing::error!("{place} cannot be written: {error}; retrying every 5 s");
        }
        self.dirty = stored.is_err();
        self.stored_at_ms = self.shared.clock.now().monotonic_ms;
        let took_ms = self.stored_at_ms.saturating_sub(now.monotonic_ms);
        self.fold_rest_ms = match self.dirty {
            true => STORE_INTERVAL_MS,
            false => (took_ms * FOLD_REST_PER_WORK).min(MAX_FOLD_REST_MS),
        };
    }
}
