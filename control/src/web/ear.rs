//! Whether connections can be taken on a listening socket; while not, no TTL runs.

use std::io;

use bounds::{LineLimit, Verdict};

use crate::clock::Clock;

/// How long there may always be one more that waits.
const BEHIND_MS: u64 = 1_000;
/// How long a crowd keeps TTLs from running at a stretch, ten TTLs as they are by default: strangers
/// could go on for ever, and the silent must go some day.
const CROWD_MS: u64 = 150_000;

pub struct Ear {
    clock: Clock,
    /// Since when none can be taken, on the monotonic clock.
    deaf_since_ms: Option<u64>,
    /// Since when it was not seen that all were taken, though none failed, on the same clock.
    behind_since_ms: Option<u64>,
    lines: LineLimit,
}

impl Ear {
    pub fn new(clock: Clock) -> Ear {
        Ear {
            clock,
            deaf_since_ms: None,
            behind_since_ms: None,
            lines: LineLimit::default(),
        }
    }

    /// A connection could not be taken. That one client has gone again is no such case.
    pub fn fail(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {
                tracing::debug!("accept: {error}");
            }
            _ => {
                self.behind_since_ms = None;
                self.deafen(&error.to_string());
            }
        }
    }

    /// One was taken, and more may wait. Whoever waits for long is not silent, either.
    pub fn took(&mut self) {
        self.crowd(BEHIND_MS, "more come than can be taken at once");
    }

    /// None can be taken before one of those that were ends.
    pub fn is_full(&mut self) {
        self.crowd(0, "all of them are being answered");
    }

    /// All that have come are taken.
    pub fn took_all(&mut self) {
        self.behind_since_ms = None;
        self.hear("all connections are taken again");
    }

    fn crowd(&mut self, after_ms: u64, why: &str) {
        let now_ms = self.clock.now().monotonic_ms;
        let since_ms = *self.behind_since_ms.get_or_insert(now_ms);
        match now_ms.saturating_sub(since_ms) {
            CROWD_MS.. => self.hear("connections still wait, but TTLs run again"),
            behind_ms if behind_ms >= after_ms => self.deafen(why),
            _ => {}
        }
    }

    /// From now on none can be taken, told once.
    fn deafen(&mut self, why: &str) {
        if self.deaf_since_ms.is_some() {
            return;
        }
        self.clock.deafen();
        let now_ms = self.clock.now().monotonic_ms;
        self.deaf_since_ms = Some(now_ms);
        let verdict = self.lines.line(now_ms);
        if let Verdict::WriteAfter(left_out) = verdict {
            tell_of_left_out(left_out);
        }
        if verdict != Verdict::LeaveOut {
            tracing::warn!(
                "not all connections are taken: {why}; no registration expires meanwhile"
            );
        }
    }

    fn hear(&mut self, what: &str) {
        let Some(since_ms) = self.deaf_since_ms.take() else {
            return;
        };
        self.clock.hear();
        let now_ms = self.clock.now().monotonic_ms;
        if let Some(left_out) = self.lines.sum_up(now_ms) {
            tell_of_left_out(left_out);
        }
        let lasted_ms = now_ms.saturating_sub(since_ms);
        // A short while is not worth a line: as many could be caused as there are such whiles.
        match lasted_ms {
            0..1_000 => tracing::debug!("{what} after {lasted_ms} ms"),
            _ => tracing::info!("{what} after {lasted_ms} ms"),
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hear("nothing is waited for any more");
    }
}

fn tell_of_left_out(left_out: u64) {
    tracing::warn!(
        "not all connections are taken: {left_out} more lines of this kind were left out"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    /// An ear, and a way to move its clock to a millisecond and turn it; what was listened comes back.
    fn ear() -> (Ear, impl Fn(u64) -> u64) {
        let now_ms = Arc::new(AtomicU64::new(0));
        let read = now_ms.clone();
        let clock = Clock::reading(move || (read.load(Relaxed), 0));
        clock.turn();
        let ear = Ear::new(clock.clone());
        let turn = move |until_ms| {
            while now_ms.load(Relaxed) < until_ms {
                now_ms.fetch_add(100, Relaxed);
                clock.turn();
            }
            clock.now().listened_ms
        };
        (ear, turn)
    }

    #[test]
    fn a_crowd_keeps_ttls_from_running_for_a_while_and_not_for_ever() {
        let (mut ear, turn) = ear();
        ear.took();
        turn(900);
        ear.took();
        assert_eq!(turn(1_000), 1_000, "not yet behind");
        ear.took();
        assert_eq!(turn(100_000), 1_000, "behind");
        ear.is_full();
        assert_eq!(turn(150_000), 1_000, "still");
        ear.took();
        assert_eq!(turn(200_000), 51_000, "for long enough");
        ear.is_full();
        assert_eq!(turn(201_000), 52_000, "and not again");
        ear.took_all();
        ear.is_full();
        assert_eq!(turn(300_000), 52_000, "another crowd");
        ear.took_all();
        assert_eq!(turn(301_000), 53_000, "over");
    }

    #[test]
    fn while_none_can_be_taken_no_ttl_runs_however_long_that_lasts() {
        let (mut ear, turn) = ear();
        ear.fail(&io::Error::from_raw_os_error(24));
        assert_eq!(turn(200_000), 0);
        ear.fail(&io::Error::from_raw_os_error(24));
        assert_eq!(turn(400_000), 0);
        ear.took();
        assert_eq!(turn(400_500), 0, "others may still wait");
        ear.took_all();
        assert_eq!(turn(401_000), 500);
        ear.fail(&io::ErrorKind::ConnectionAborted.into());
        assert_eq!(turn(402_000), 1_500, "one client's end");
    }
}
