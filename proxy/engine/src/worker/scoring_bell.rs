//! Wakes the one that scores backends, when sessions become busy.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};

use tokio::sync::Notify;

/// The one that scores sleeps while no session is busy and nothing changes.
#[derive(Debug, Default)]
pub struct ScoringBell {
    is_asleep: AtomicBool,
    notify: Notify,
}

impl ScoringBell {
    /// Somebody became busy. Costs a read unless somebody sleeps.
    pub(crate) fn ring_if_asleep(&self) {
        // Who became busy was counted before this; see `fall_asleep`.
        fence(SeqCst);
        if self.is_asleep.load(SeqCst) && self.is_asleep.swap(false, SeqCst) {
            self.notify.notify_one();
        }
    }

    /// There is something new to score.
    pub fn ring(&self) {
        self.notify.notify_one();
    }

    /// From now on, who becomes busy rings. To be followed by a look at who is: whoever that does not
    /// see, rings.
    pub fn fall_asleep(&self) {
        self.is_asleep.store(true, SeqCst);
        fence(SeqCst);
    }

    /// Nobody has to ring: the next score is near.
    pub fn stay_awake(&self) {
        self.is_asleep.store(false, SeqCst);
    }

    /// Returns once somebody has rung since the last call.
    pub async fn rung(&self) {
        self.notify.notified().await;
    }
}
