//! Time as an argument: what TTL and warm-up count on is handed in, so that tests own it.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since this process started; never jumps. TTL and warm-up count on it.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch; only shown and stored, never counted on.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }
}

/// Where [`Now`] comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    pub fn system() -> Clock {
        let start = Instant::now();
        Clock(Arc::new(move || Now {
            monotonic_ms: start.elapsed().as_millis() as u64,
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
        }))
    }

    pub fn now(&self) -> Now {
        (self.0)()
    }

    /// A clock that stands still until its number of milliseconds is moved.
    #[cfg(test)]
    pub fn by_hand() -> (Clock, Arc<std::sync::atomic::AtomicU64>) {
        const EPOCH_MS: u64 = 1_730_000_000_000;
        let elapsed = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let read = elapsed.clone();
        let clock = Clock::reading(move || {
            let monotonic_ms = read.load(std::sync::atomic::Ordering::Relaxed);
            Now {
                monotonic_ms,
                unix_ms: EPOCH_MS + monotonic_ms,
            }
        });
        (clock, elapsed)
    }

    /// A clock whose both hands are somebody else's.
    #[cfg(test)]
    pub fn reading(now: impl Fn() -> Now + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }
}
