//! The monotonic clock (clock_gettime(2)), the same for workers and the main thread.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since some time before this process.
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Milliseconds since the same time.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1_000
}
