//! Time as an argument: TTLs and warm-ups count on a clock that tests can control.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::listening::{Listening, TURN, Turn};

/// One reading of all clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since this process started. Warm-up counts on it.
    pub monotonic_ms: u64,
    /// The part of them in which control could listen. TTLs count on it.
    pub listened_ms: u64,
    /// Milliseconds since the Unix epoch; only shown and stored, never counted on.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1000
    }
}

/// The source of [`Now`].
#[derive(Clone)]
pub struct Clock {
    /// Monotonic and Unix milliseconds.
    hands: Arc<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Absent: control always listens.
    listening: Option<Arc<Mutex<Listening>>>,
}

impl Clock {
    pub fn system() -> Clock {
        let start = Instant::now();
        Clock {
            hands: Arc::new(move || {
                let unix_ms = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, |since| since.as_millis() as u64);
                (start.elapsed().as_millis() as u64, unix_ms)
            }),
            listening: Some(Arc::default()),
        }
    }

    pub fn now(&self) -> Now {
        let (monotonic_ms, unix_ms) = (self.hands)();
        let listened_ms = match &self.listening {
            Some(listening) => lock(listening).read(monotonic_ms),
            None => monotonic_ms,
        };
        Now {
            monotonic_ms,
            listened_ms,
            unix_ms,
        }
    }

    /// Advances the clock of listening while it is polled. A separate task, since the keeper may wait for a
    /// slow disk while all clients are heard.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(TURN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.with_listening(Listening::advance);
        }
    }

    /// A turn of the task that lets registrations expire.
    pub fn turn(&self) -> Turn {
        self.with_listening(Listening::turn).unwrap_or(Turn::HEARD)
    }

    /// From now on a listening socket cannot accept connections.
    pub fn deafen(&self) {
        self.with_listening(Listening::deafen);
    }

    /// It can accept connections again.
    pub fn hear(&self) {
        self.with_listening(Listening::hear);
    }

    fn with_listening<T>(&self, change: impl FnOnce(&mut Listening, u64) -> T) -> Option<T> {
        let mut listening = lock(self.listening.as_ref()?);
        // Read under the lock, so that no reading overtakes another.
        let (monotonic_ms, _) = (self.hands)();
        Some(change(&mut listening, monotonic_ms))
    }

    /// A clock that stands still until its milliseconds are changed, and always listens.
    #[cfg(test)]
    pub fn by_hand() -> (Clock, Arc<std::sync::atomic::AtomicU64>) {
        const EPOCH_MS: u64 = 1_730_000_000_000;
        let elapsed = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let read = elapsed.clone();
        let clock = Clock {
            hands: Arc::new(move || {
                let monotonic_ms = read.load(std::sync::atomic::Ordering::Relaxed);
                (monotonic_ms, EPOCH_MS + monotonic_ms)
            }),
            listening: None,
        };
        (clock, elapsed)
    }

    /// A clock with external monotonic and Unix milliseconds, which listens as the server's own does.
    #[cfg(test)]
    pub fn reading(hands: impl Fn() -> (u64, u64) + Send + Sync + 'static) -> Clock {
        Clock {
            hands: Arc::new(hands),
            listening: Some(Arc::default()),
        }
    }
}

/// A time in UTC as RFC 3339 writes it.
pub fn rfc3339(unix_s: u64) -> String {
    let time = jiff::Timestamp::from_second(unix_s as i64).unwrap_or_default();
    time.to_string()
}

fn lock(listening: &Mutex<Listening>) -> MutexGuard<'_, Listening> {
    listening
        .lock()
        .expect("no holder of this lock panics: it only counts")
}
