//! Whether connections can be accepted on a listening socket; while they cannot, no TTL runs.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bounds::{Allowance, LineLimit, Verdict};

use crate::clock::Clock;

/// How long there may always be one more that waits.
const BEHIND_MS: u64 = 1_000;
/// How long crowds may stop the TTLs in any half hour: strangers could continue forever, and silent
/// registrations must expire at some time. It is ten default TTLs. A stop of a quarter of a TTL restarts all
/// TTLs; as many such stops as fit into this time leave almost three TTLs between them.
const CROWD_MS: u64 = 150_000;
const CROWD_WINDOW_MS: u64 = 1_800_000;

/// What crowds may take of the time in which TTLs run, at all doors together.
#[derive(Clone)]
pub struct Patience(Arc<Mutex<Allowance>>);

impl Default for Patience {
    fn default() -> Patience {
        let allowance = Allowance::new(CROWD_MS, CROWD_WINDOW_MS);
        Patience(Arc::new(Mutex::new(allowance)))
    }
}

impl Patience {
    fn with<T>(&self, change: impl FnOnce(&mut Allowance) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct Ear {
    clock: Clock,
    patience: Patience,
    deaf: Option<Deaf>,
    /// Since when it was not seen that all were taken, though none failed, on the monotonic clock.
    behind_since_ms: Option<u64>,
    lines: LineLimit,
}

/// No connection can be taken.
struct Deaf {
    /// On the monotonic clock.
    since_ms: u64,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The system, which takes as long as it takes.
    Failure,
    /// More clients than can be taken, which is a stranger's doing.
    Crowd,
}

impl Ear {
    pub fn new(clock: Clock, patience: Patience) -> Ear {
        Ear {
            clock,
            patience,
            deaf: None,
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
                self.deafen(By::Failure, &error.to_string());
            }
        }
    }

    /// One connection was accepted, and more may wait. A client that waits for long is not silent.
    pub fn took(&mut self) {
        self.crowd(
            BEHIND_MS,
            "connections arrive faster than control accepts them",
        );
    }

    /// None can be taken before one of those that were ends.
    pub fn is_full(&mut self) {
        self.crowd(0, "all connections have a request in progress");
    }

    /// All that have come are taken.
    pub fn took_all(&mut self) {
        self.behind_since_ms = None;
        self.hear("all connections are accepted again");
    }

    fn crowd(&mut self, after_ms: u64, why: &str) {
        let now_ms = self.clock.now().monotonic_ms;
        let since_ms = *self.behind_since_ms.get_or_insert(now_ms);
        if self.patience.with(|patience| patience.is_spent(now_ms)) {
            self.hear("connections still wait, but TTLs have resumed");
        } else if now_ms.saturating_sub(since_ms) >= after_ms {
            self.deafen(By::Crowd, why);
        }
    }

    /// From now on no connection can be accepted; logged once.
    fn deafen(&mut self, by: By, why: &str) {
        let now_ms = self.clock.now().monotonic_ms;
        let before = self.deaf.as_ref().map(|deaf| deaf.by);
        self.patience.with(|patience| match (before, by) {
            (None | Some(By::Failure), By::Crowd) => patience.begin(now_ms),
            (Some(By::Crowd), By::Failure) => patience.end(now_ms),
            (None | Some(By::Failure), By::Failure) | (Some(By::Crowd), By::Crowd) => {}
        });
        if let Some(deaf) = &mut self.deaf {
            deaf.by = by;
            return;
        }
        self.clock.deafen();
        self.deaf = Some(Deaf {
            since_ms: now_ms,
            by,
        });
        let verdict = self.lines.line(now_ms);
        if let Verdict::WriteAfter(left_out) = verdict {
            tell_of_left_out(left_out);
        }
        if verdict != Verdict::LeaveOut {
            tracing::warn!("not all connections are accepted: {why}; TTLs are paused");
        }
    }

    fn hear(&mut self, what: &str) {
        let Some(Deaf { since_ms, by }) = self.deaf.take() else {
            return;
        };
        self.clock.hear();
        let now_ms = self.clock.now().monotonic_ms;
        if by == By::Crowd {
            self.patience.with(|patience| patience.end(now_ms));
        }
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
        self.hear("control no longer accepts connections");
    }
}

fn tell_of_left_out(left_out: u64) {
    tracing::warn!("not all connections are accepted: lines left out left_out={left_out}");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// Ears at as many doors, and a way to move their clock to a millisecond and turn it; what was
    /// listened comes back.
    fn ears<const DOORS: usize>() -> ([Ear; DOORS], impl Fn(u64) -> u64) {
        let now_ms = Arc::new(AtomicU64::new(0));
        let read = now_ms.clone();
        let clock = Clock::reading(move || (read.load(Relaxed), 0));
        clock.turn();
        let patience = Patience::default();
        let ears = std::array::from_fn(|_| Ear::new(clock.clone(), patience.clone()));
        let turn = move |until_ms| {
            while now_ms.load(Relaxed) < until_ms {
                now_ms.fetch_add(100, Relaxed);
                clock.turn();
            }
            clock.now().listened_ms
        };
        (ears, turn)
    }

    #[test]
    fn a_crowd_keeps_ttls_from_running_for_a_while_and_not_for_ever() {
        let ([mut ear], turn) = ears();
        ear.took();
        turn(900);
        ear.took();
        assert_eq!(turn(1_000), 1_000, "not yet behind");
        ear.took();
        assert_eq!(turn(100_000), 1_000, "behind");
        ear.is_full();
        assert_eq!(turn(151_000), 1_000, "still");
        ear.took();
        assert_eq!(turn(200_000), 50_000, "for long enough");
        ear.is_full();
        assert_eq!(turn(201_000), 51_000, "and not again");
        ear.took_all();
        ear.is_full();
        assert_eq!(turn(300_000), 150_000, "nor does another crowd get more");
        ear.took_all();
        turn(HOUR_MS);
        ear.is_full();
        assert_eq!(turn(HOUR_MS + 100_000), HOUR_MS - 150_000, "but later");
        ear.took_all();
        turn(HOUR_MS + 101_000);
    }

    #[test]
    fn no_pauses_of_a_crowd_and_no_number_of_doors_keep_ttls_from_running_for_longer() {
        // How long the crowd stays, how long it is away, and at how many of two doors.
        for (on_ms, off_ms, doors) in [
            (149_000, 100, 1),
            (4_000, 1_000, 1),
            (149_000, 100, 2),
            (75_000, 75_000, 2),
        ] {
            let (mut ears, turn) = ears::<2>();
            let mut now_ms = 0;
            while now_ms + on_ms + off_ms <= HOUR_MS / 2 {
                for second in 0..on_ms / 1_000 {
                    let door = (second as usize / 40) % doors;
                    ears[1 - door].took_all();
                    ears[door].is_full();
                    now_ms += 1_000;
                    turn(now_ms);
                }
                ears.iter_mut().for_each(Ear::took_all);
                now_ms += off_ms;
                turn(now_ms);
            }
            let stopped_ms = now_ms - turn(now_ms);
            assert!(
                stopped_ms <= CROWD_MS + 1_000,
                "{stopped_ms} ms of {now_ms}: {on_ms} ms on, {off_ms} ms off, {doors} doors"
            );
        }
    }

    #[test]
    fn while_none_can_be_taken_no_ttl_runs_however_long_that_lasts() {
        let ([mut ear], turn) = ears();
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
        ear.is_full();
        assert_eq!(
            turn(500_000),
            1_500,
            "a failure has taken nothing of a crowd's time"
        );
    }
}
