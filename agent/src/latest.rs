//! The current figures of one engine, shared by the thread that reads them and the thread that reports
//! them. Neither waits for the other: a source that hangs costs no heartbeat.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::figures::Figures;

#[derive(Debug)]
pub struct Latest {
    state: Mutex<State>,
    changed: Condvar,
    counts: Counts,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// Grows with everything that is worth a heartbeat at once.
    news: u64,
    reading: Option<Reading>,
    is_warming_up: bool,
    is_stopping: bool,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Its number, from 1 on.
    number: u64,
    figures: Figures,
    at: Instant,
}

/// What can be reported about an engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    pub news: u64,
    /// All unknown if the last reading is too old.
    pub figures: Figures,
    /// The number of the reading and its age, if there is one.
    pub reading: Option<(u64, Duration)>,
    pub is_warming_up: bool,
}

impl Default for Latest {
    /// Nothing read yet, and warming up until the first check.
    fn default() -> Latest {
        let state = State {
            news: 0,
            reading: None,
            is_warming_up: true,
            is_stopping: false,
        };
        Latest {
            state: Mutex::new(state),
            changed: Condvar::new(),
            counts: Counts::default(),
        }
    }
}

impl Latest {
    /// Stores a reading, if there is one, and whether the engine is warming up.
    pub fn put(&self, figures: Option<Figures>, is_warming_up: bool, now: Instant) {
        let mut state = self.lock();
        if figures.is_some() || state.is_warming_up != is_warming_up {
            state.news += 1;
            self.changed.notify_all();
        }
        if let Some(figures) = figures {
            let number = state.reading.map_or(0, |reading| reading.number) + 1;
            state.reading = Some(Reading {
                number,
                figures,
                at: now,
            });
        }
        state.is_warming_up = is_warming_up;
    }

    pub fn word(&self, now: Instant, stale_after: Duration) -> Word {
        let state = *self.lock();
        let fresh = state.reading.filter(|reading| {
            let age = now.saturating_duration_since(reading.at);
            age <= stale_after
        });
        let age = |reading: Reading| now.saturating_duration_since(reading.at);
        Word {
            news: state.news,
            figures: fresh.map(|reading| reading.figures).unwrap_or_default(),
            reading: fresh.map(|reading| (reading.number, age(reading))),
            is_warming_up: state.is_warming_up,
        }
    }

    /// Waits until there is something newer than `news`, `at_most` has passed or the end has come.
    pub fn wait_newer(&self, news: u64, at_most: Duration) {
        let is_old = |state: &mut State| state.news <= news && !state.is_stopping;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), at_most, is_old);
        drop(waited.expect(NO_PANIC));
    }

    /// Rests for `pause`, or until the end; true at the end.
    pub fn rest(&self, pause: Duration) -> bool {
        let goes_on = |state: &mut State| !state.is_stopping;
        let waited = self.changed.wait_timeout_while(self.lock(), pause, goes_on);
        waited.expect(NO_PANIC).0.is_stopping
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Lets both threads end.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

/// Why the lock is never poisoned.
const NO_PANIC: &str = "nothing panics that holds the lock";

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(5);

    fn figures(queue: u64) -> Figures {
        Figures {
            queue: Some(queue),
            ..Figures::default()
        }
    }

    #[test]
    fn a_reading_is_said_with_its_age_and_no_longer_than_it_may() {
        let latest = Latest::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let nothing = latest.word(begin, STALE);
        assert_eq!(
            (nothing.figures, nothing.reading),
            (Figures::default(), None)
        );
        assert!(nothing.is_warming_up, "nobody has looked yet");

        latest.put(Some(figures(3)), false, begin);
        latest.put(None, false, at(2));
        let word = latest.word(at(4), STALE);
        assert_eq!(word.figures, figures(3));
        assert_eq!(word.reading, Some((1, Duration::from_secs(4))));
        let word = latest.word(at(6), STALE);
        assert_eq!((word.figures, word.reading), (Figures::default(), None));

        latest.put(Some(figures(4)), false, at(7));
        let word = latest.word(at(7), STALE);
        assert_eq!(
            (word.figures, word.reading),
            (figures(4), Some((2, Duration::ZERO)))
        );
    }

    #[test]
    fn readings_and_changes_of_warmth_are_news_and_failures_are_not() {
        let latest = Latest::default();
        let now = Instant::now();
        let put = |figures, is_warming_up| {
            latest.put(figures, is_warming_up, now);
            latest.word(now, STALE).news
        };
        assert_eq!(put(None, true), 0);
        assert_eq!(put(Some(figures(1)), true), 1);
        assert_eq!(put(None, false), 2);
        assert_eq!(put(None, false), 2);
    }

    #[test]
    fn the_end_ends_every_wait() {
        let latest = Latest::default();
        assert!(!latest.rest(Duration::ZERO));
        latest.stop();
        let long = Duration::from_secs(600);
        let begun = Instant::now();
        assert!(latest.rest(long) && latest.is_stopping());
        latest.wait_newer(0, long);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
