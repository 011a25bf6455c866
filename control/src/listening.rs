//! The clock that the TTLs of registrations count on: it runs only while control could listen.
//!
//! A backend that sends heartbeats while control is stopped, blocked, or has no descriptor for its connection
//! is not silent. Therefore this clock advances by turns: a turn in time counts in full; of a late one (the
//! process was stopped, its thread was blocked, a clock jumped) only the usual length counts; and nothing
//! counts while connections could not be accepted. After such a gap nothing expires before a turn in time, so
//! that heartbeats waiting in the kernel's queues are read first.
//!
//! Pure: the monotonic clock comes as an argument.

use std::time::Duration;

/// How often a turn is due.
pub const TURN: Duration = Duration::from_millis(200);
const TURN_MS: u64 = TURN.as_millis() as u64;
/// A turn that took longer was not all listening.
const LATE_MS: u64 = 2 * TURN_MS;

#[derive(Debug, Clone, Default)]
pub struct Listening {
    listened_ms: u64,
    /// When it last advanced, on the monotonic clock.
    at_ms: Option<u64>,
    /// Listening sockets that cannot accept connections at the moment.
    deaf: usize,
    /// Time without listening since the last complete turn.
    unheard_ms: u64,
    /// Since the last turn there was time that does not count.
    missed: bool,
    /// There was before that turn, too, though connections could be taken.
    missed_before: bool,
}

/// The result of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How long control did not listen, once it listens again.
    pub unheard_ms: u64,
    pub may_expire: bool,
}

impl Turn {
    /// The whole turn was listening.
    pub const HEARD: Turn = Turn {
        unheard_ms: 0,
        may_expire: true,
    };
}

impl Listening {
    /// How long control has listened at `now_ms`. Never goes back.
    pub fn read(&self, now_ms: u64) -> u64 {
        let gap_ms = match (self.deaf, self.at_ms) {
            (0, Some(at_ms)) => now_ms.saturating_sub(at_ms),
            (_, _) => 0,
        };
        // More than one turn counts only once the next turn has come in time.
        self.listened_ms + gap_ms.min(TURN_MS)
    }

    /// Advances the clock; call it at least once a turn. It starts with the first call.
    pub fn advance(&mut self, now_ms: u64) {
        let at_ms = self.at_ms.unwrap_or(now_ms);
        let gap_ms = now_ms.saturating_sub(at_ms);
        let counted_ms = match (self.deaf, gap_ms) {
            (0, ..=LATE_MS) => gap_ms,
            (0, _) => TURN_MS,
            (_, _) => 0,
        };
        self.at_ms = Some(at_ms.max(now_ms));
        self.listened_ms += counted_ms;
        self.unheard_ms += gap_ms - counted_ms;
        self.missed |= counted_ms < gap_ms;
    }

    /// A turn of the task that lets registrations expire. Even if every turn is late, silent registrations
    /// expire, only later.
    pub fn turn(&mut self, now_ms: u64) -> Turn {
        self.advance(now_ms);
        let missed = std::mem::take(&mut self.missed);
        let missed_before = std::mem::replace(&mut self.missed_before, missed);
        if self.deaf > 0 {
            self.missed_before = false;
            return Turn {
                unheard_ms: 0,
                may_expire: false,
            };
        }
        if !missed {
            self.unheard_ms = 0;
        }
        Turn {
            unheard_ms: self.unheard_ms,
            may_expire: !missed || missed_before,
        }
    }

    /// From now on a listening socket cannot accept connections.
    pub fn deafen(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.deaf += 1;
    }

    /// It can accept connections again.
    pub fn hear(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.deaf = self.deaf.saturating_sub(1);
        self.missed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        /// A turn after so many milliseconds.
        Turn(u64),
        Deafen(u64),
        Hear(u64),
    }
    use Step::{Deafen, Hear, Turn as After};

    /// How long was listened after these steps, and what the last turn came to.
    fn play(steps: &[Step]) -> (u64, Turn) {
        let (mut listening, mut now_ms, mut last) = (Listening::default(), 0, Turn::HEARD);
        let mut read_ms = 0;
        listening.advance(0);
        for step in steps {
            let (Step::Turn(ms) | Step::Deafen(ms) | Step::Hear(ms)) = step;
            now_ms += ms;
            // Read before and after: whoever is heard in between is never heard in the past.
            for after in [false, true] {
                match (after, step) {
                    (true, After(_)) => last = listening.turn(now_ms),
                    (true, Deafen(_)) => listening.deafen(now_ms),
                    (true, Hear(_)) => listening.hear(now_ms),
                    (false, _) => {}
                }
                let read = listening.read(now_ms);
                assert!(read >= read_ms, "it went back from {read_ms} to {read}");
                read_ms = read;
            }
        }
        (read_ms, last)
    }

    #[test]
    fn only_time_in_which_control_could_listen_counts() {
        let turn = |unheard_ms, may_expire| Turn {
            unheard_ms,
            may_expire,
        };
        const HOUR_MS: u64 = 3_600_000;
        let table: [(&str, &[Step], u64, Turn); 13] = [
            (
                "in time",
                &[After(200), After(200), After(199)],
                599,
                turn(0, true),
            ),
            (
                "a little late",
                &[After(400), After(390)],
                790,
                turn(0, true),
            ),
            (
                "a stall",
                &[After(200), After(22_000)],
                400,
                turn(21_800, false),
            ),
            (
                "and after it",
                &[After(200), After(22_000), After(200)],
                600,
                turn(0, true),
            ),
            (
                "a jump of the clock",
                &[After(HOUR_MS)],
                200,
                turn(HOUR_MS - 200, false),
            ),
            (
                "late for ever",
                &[After(1_000), After(1_000), After(1_000)],
                600,
                turn(2_400, true),
            ),
            (
                "no descriptors",
                &[
                    After(200),
                    Deafen(100),
                    After(100),
                    After(5_000),
                    After(200),
                ],
                300,
                turn(0, false),
            ),
            (
                "and descriptors again",
                &[
                    After(200),
                    Deafen(100),
                    After(200),
                    After(200),
                    Hear(50),
                    After(100),
                ],
                400,
                turn(450, false),
            ),
            (
                "and after it",
                &[
                    Deafen(100),
                    After(200),
                    After(200),
                    Hear(50),
                    After(100),
                    After(200),
                ],
                400,
                turn(0, true),
            ),
            (
                "heard again at the very time of a turn",
                &[Deafen(100), After(200), Hear(0), After(0)],
                100,
                turn(200, false),
            ),
            (
                "one of two sockets takes none",
                &[Deafen(100), Deafen(100), Hear(100), After(200)],
                100,
                turn(0, false),
            ),
            (
                "stopped while it had none",
                &[
                    After(200),
                    Deafen(0),
                    After(22_000),
                    Hear(22_000),
                    After(10),
                ],
                210,
                turn(44_000, false),
            ),
            (
                "it fails to take one right behind a stall",
                &[After(200), Deafen(22_000), Hear(100), After(100)],
                500,
                turn(21_900, false),
            ),
        ];
        for (name, steps, listened_ms, last) in table {
            assert_eq!(play(steps), (listened_ms, last), "{name}");
        }
    }

    #[test]
    fn what_is_heard_behind_a_stall_but_before_its_turn_is_not_heard_too_late() {
        let mut listening = Listening::default();
        listening.turn(0);
        listening.turn(200);
        let heard_ms = listening.read(22_200);
        listening.turn(22_201);
        assert_eq!((heard_ms, listening.read(22_201)), (400, 400));
        // A clock that goes back stands still until it has come again to where it was.
        listening.turn(5);
        assert_eq!(listening.read(22_201), 400);
        listening.turn(22_301);
        assert_eq!(listening.read(22_301), 500);
    }
}
