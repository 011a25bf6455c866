//! The ramp of a backend that is new, back, or done warming up: from a tenth of its share to all of
//! it, in a straight line.
//!
//! Read by whoever computes shares or costs, at any time; begun by the main thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the ramp begins. Less would leave a backend of a small pool without any session for most
/// of the ramp, and with all of its ramp still to come.
const FIRST_SHARE: f64 = 0.1;
/// A ramp has so many steps: a new one is worth new snapshots.
const STEPS: u64 = 20;

/// The ramp on which a backend that has just become available gets its share.
#[derive(Debug, Default)]
pub struct SlowStart {
    begun_ms: AtomicU64,
    /// 0: there is none.
    length_ms: AtomicU64,
}

impl SlowStart {
    /// Begins at the bottom of the ramp.
    pub fn begin(&self, now_ms: u64) {
        self.begun_ms.store(now_ms, Relaxed);
    }

    /// How long a ramp takes; 0: there is none.
    pub fn set_length(&self, length_ms: u64) {
        self.length_ms.store(length_ms, Relaxed);
    }

    /// When the present ramp ends.
    pub fn end_ms(&self) -> u64 {
        self.begun_ms.load(Relaxed) + self.length_ms.load(Relaxed)
    }

    /// What this backend gets of its share, above 0 and up to 1.
    pub fn ramp(&self, now_ms: u64) -> f64 {
        let length_ms = self.length_ms.load(Relaxed);
        let elapsed_ms = now_ms.saturating_sub(self.begun_ms.load(Relaxed));
        if elapsed_ms >= length_ms {
            return 1.0;
        }
        (elapsed_ms as f64 / length_ms as f64).max(FIRST_SHARE)
    }
}

/// How long one step of a ramp takes.
pub(super) fn step_ms(slow_start_ms: u64) -> u64 {
    slow_start_ms / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_rises_from_a_tenth_to_all() {
        let slow_start = SlowStart::default();
        assert_eq!(slow_start.ramp(0), 1.0);
        slow_start.set_length(10_000);
        slow_start.begin(5_000);
        for (now_ms, expected) in [
            (4_000, 0.1),
            (5_000, 0.1),
            (6_000, 0.1),
            (10_000, 0.5),
            (14_999, 0.9999),
            (15_000, 1.0),
            (u64::MAX, 1.0),
        ] {
            assert_eq!(slow_start.ramp(now_ms), expected, "at {now_ms}");
        }
        slow_start.set_length(0);
        assert_eq!(slow_start.ramp(5_000), 1.0);
    }
}
