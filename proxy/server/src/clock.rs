//! The clock of those who report, beside the workers' one ([`proxy_engine::clock`]).

use std::time::{SystemTime, UNIX_EPOCH};

use proxy_core::score::Now;
use proxy_engine::clock::monotonic_us;

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
