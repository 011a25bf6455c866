//! The clocks: the monotonic one (clock_gettime(2)), the same for workers and the main thread, and the one of
//! those who report.

use std::time::{SystemTime, UNIX_EPOCH};

use proxy_core::score::Now;
use rustix::time::{ClockId, clock_gettime};

pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1_000
}

/// Unix milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

/// This moment, by the workers' clock and by that of reports.
pub fn now() -> Now {
    Now {
        us: monotonic_us(),
        unix_ms: unix_ms(),
    }
}
