//! The last report of a backend, as threads share it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::Report;

/// The last report of a backend, readable and replaceable at any time. A reader may see the parts of
/// two reports mixed, which is as good as either: both are recent.
#[derive(Debug)]
pub struct Telemetry {
    gpu_usage: AtomicU64,
    vram_usage: AtomicU64,
    reported_at_ms: AtomicU64,
    heartbeat_ms: AtomicU64,
    /// How many reports there have been, so that a new one is known from the one before.
    count: AtomicU64,
}

/// Shares are kept as the bits of an `f64`, absent ones as a NaN.
const ABSENT_SHARE: u64 = f64::NAN.to_bits();

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            gpu_usage: AtomicU64::new(ABSENT_SHARE),
            vram_usage: AtomicU64::new(ABSENT_SHARE),
            reported_at_ms: AtomicU64::new(0),
            heartbeat_ms: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

impl Telemetry {
    /// Replaces the last report.
    pub fn set(&self, report: &Report) {
        // Said again with its time, it is the same report; without one, it may be a new one.
        let is_new = report.reported_at_ms.is_none() || *report != self.get();
        let share = |share: Option<f64>| share.map_or(ABSENT_SHARE, f64::to_bits);
        self.gpu_usage.store(share(report.gpu_usage), Relaxed);
        self.vram_usage.store(share(report.vram_usage), Relaxed);
        self.reported_at_ms
            .store(report.reported_at_ms.unwrap_or(0), Relaxed);
        self.heartbeat_ms
            .store(report.heartbeat_ms.unwrap_or(0), Relaxed);
        if is_new {
            self.count.fetch_add(1, Relaxed);
        }
    }

    /// How many reports have come; one that is repeated with its time counts once.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The last report; all absent before the first.
    pub fn get(&self) -> Report {
        let share = |share: &AtomicU64| {
            let share = f64::from_bits(share.load(Relaxed));
            (!share.is_nan()).then_some(share)
        };
        let present = |number: &AtomicU64| match number.load(Relaxed) {
            0 => None,
            number => Some(number),
        };
        Report {
            gpu_usage: share(&self.gpu_usage),
            vram_usage: share(&self.vram_usage),
            reported_at_ms: present(&self.reported_at_ms),
            heartbeat_ms: present(&self.heartbeat_ms),
        }
    }
}
