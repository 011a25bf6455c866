//! The latency of a backend as `peak_ewma` counts it: it rises at once with a slow answer and falls
//! with time.
//!
//! After Finagle's `PeakEwma` (M. Keller; `com.twitter.finagle.loadbalancer.p2c.P2CPeakEwma`) and
//! linkerd's `linkerd2-proxy/linkerd/balance` over `tower::load::PeakEwma`: a sample above the mean
//! replaces it; one below moves it by `1 - exp(-age / decay)`; a mean without samples decays the
//! same way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Microseconds as an `f32` above, milliseconds of the last sample, modulo 2^32, below; 0: none yet.
#[derive(Debug, Default)]
pub struct PeakLatency(AtomicU64);

/// Both have 10 s.
const DECAY_MS: f32 = 10_000.0;
/// A backend of which nothing is known costs this for each session in flight, as in Finagle: it gets
/// a first session at once, and no second one before the first has been answered.
const PENALTY_US: f32 = 1e12;

impl PeakLatency {
    /// Takes in one latency. One above the mean becomes the mean at once; one below draws it down, as Finagle's
    /// peak EWMA does.
    pub fn record(&self, latency_us: u64, now_ms: u64) {
        let next = |packed| Some(pack(after(packed, latency_us as f32, now_ms), now_ms));
        // `next` never declines.
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// What one more session costs beside `in_flight` others.
    pub fn cost(&self, in_flight: u64, now_ms: u64) -> f32 {
        let packed = self.0.load(Relaxed);
        match (packed, in_flight) {
            (0, 0) => 0.0,
            (0, in_flight) => PENALTY_US + in_flight as f32,
            (packed, in_flight) => decayed(packed, now_ms) * (in_flight + 1) as f32,
        }
    }

    /// Microseconds; `None` before the first answer.
    pub fn latency_us(&self, now_ms: u64) -> Option<f32> {
        let packed = self.0.load(Relaxed);
        (packed != 0).then(|| decayed(packed, now_ms))
    }
}

fn after(packed: u64, sample: f32, now_ms: u64) -> f32 {
    if packed == 0 {
        return sample;
    }
    let mean = mean_of(packed);
    if sample > mean {
        return sample;
    }
    let remaining = remaining_share(packed, now_ms);
    mean * remaining + sample * (1.0 - remaining)
}

fn decayed(packed: u64, now_ms: u64) -> f32 {
    mean_of(packed) * remaining_share(packed, now_ms)
}

fn remaining_share(packed: u64, now_ms: u64) -> f32 {
    let age_ms = (now_ms as u32).wrapping_sub(packed as u32);
    // Two workers' clocks differ by the length of a turn, so a sample may be of the future.
    if age_ms > u32::MAX / 2 {
        return 1.0;
    }
    (-(age_ms as f32) / DECAY_MS).exp()
}

fn mean_of(packed: u64) -> f32 {
    f32::from_bits((packed >> 32) as u32)
}

/// At least a nanosecond, so that it is never taken for none.
fn pack(mean_us: f32, now_ms: u64) -> u64 {
    u64::from(mean_us.max(1e-3).to_bits()) << 32 | u64::from(now_ms as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_with_time() {
        let latency = PeakLatency::default();
        latency.record(1_000, 0);
        latency.record(9_000, 0);
        assert_eq!(latency.latency_us(0), Some(9_000.0));
        latency.record(1_000, 0);
        assert_eq!(latency.latency_us(0), Some(9_000.0), "no time has passed");
        latency.record(1_000, 10_000);
        let after = latency.latency_us(10_000).expect("samples");
        let expected = 9_000.0 * (-1.0_f32).exp() + 1_000.0 * (1.0 - (-1.0_f32).exp());
        assert!((after - expected).abs() < 1.0, "{after}");
        let later = latency.latency_us(200_000).expect("samples");
        assert!(later < 0.001, "{later}");
    }

    #[test]
    fn an_unknown_backend_gets_one_session_and_then_waits() {
        let latency = PeakLatency::default();
        assert_eq!(latency.cost(0, 0), 0.0);
        assert!(latency.cost(1, 0) > 1e9);
        latency.record(0, 0);
        assert!(latency.cost(1, 0) < 1.0);
        assert_eq!(latency.cost(3, 0), latency.cost(0, 0) * 4.0);
    }

    #[test]
    fn the_clock_may_wrap_and_workers_may_disagree() {
        let latency = PeakLatency::default();
        let before = u64::from(u32::MAX) - 10;
        latency.record(1_000, before);
        assert_eq!(latency.latency_us(before - 5), Some(1_000.0));
        let after = latency.latency_us(before + 10_000).expect("a sample");
        assert!((after - 368.0).abs() < 1.0, "{after}");
    }
}
