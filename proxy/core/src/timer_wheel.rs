//! One deadline for each key, armed, moved and disarmed in O(1): hierarchical timing wheels,
//! G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7.
//!
//! Time comes as an argument, in milliseconds from any origin; the wheel has no clock and no
//! thread. Keys are indexes into a slab: a key takes 16 bytes up to the largest one seen, and
//! nothing allocates after that.
//!
//! A deadline is rounded up to a tick of [`TICK_MS`]. Read as digits to the base 64, it stands in
//! the level of the highest digit in which it differs from the present tick, in the slot of that
//! digit. So on every level all slots in use lie ahead, the first of the lowest level in use is
//! what comes next, and when time enters a slot its keys move to lower levels, at most once for
//! each digit. The levels span all of `u64`, so no deadline is too far away.
//!
//! Invariants: a key expires never before its deadline, and in any [`TimerWheel::expire`] from one
//! tick after it; a slot's bit is set exactly while a key is in it.

use crate::rings::Rings;

/// What deadlines are rounded up to: sessions and flows live for seconds, and coarser ticks let
/// deadlines that are close together share a wake-up.
pub const TICK_MS: u64 = 8;

const DIGIT_BITS: u32 = 6;
const SLOTS: u32 = 1 << DIGIT_BITS;
const TICK_BITS: u32 = u64::BITS - TICK_MS.ilog2();
const LEVELS: u32 = TICK_BITS.div_ceil(DIGIT_BITS);
/// The node of the list of keys that are due.
const DUE: u32 = LEVELS * SLOTS;
/// The node of key 0; those before are the ends of lists, one a slot.
const FIRST_KEY: u32 = DUE + 1;

/// See the [module](self).
#[derive(Debug)]
pub struct TimerWheel {
    rings: Rings,
    /// In ticks, by key; without meaning while the key is not armed.
    deadlines: Vec<u64>,
    /// By level, a bit for each slot.
    used: [u64; LEVELS as usize],
    /// Time as it was last told.
    present: u64,
}

/// A slot that time has not entered yet.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    level: u32,
    slot: u32,
    /// The tick in which it begins.
    begin: u64,
}

impl TimerWheel {
    /// The largest key; the nodes before are the wheel's own.
    pub const MAX_KEY: u32 = u32::MAX - FIRST_KEY;

    /// A wheel without timers, whose time begins at `now_ms`.
    pub fn new(now_ms: u64) -> TimerWheel {
        TimerWheel {
            rings: Rings::with_lone_nodes(FIRST_KEY),
            deadlines: Vec::new(),
            used: [0; LEVELS as usize],
            present: now_ms / TICK_MS,
        }
    }

    /// Sets the deadline of `key`, in place of the one it may have had. One that has passed is due
    /// at once.
    ///
    /// # Panics
    /// Where the key is above [`MAX_KEY`](Self::MAX_KEY).
    pub fn arm(&mut self, key: u32, deadline_ms: u64) {
        assert!(key <= Self::MAX_KEY, "key {key} is no index of a slab");
        self.disarm(key);
        self.rings.grow_to_hold(FIRST_KEY + key);
        let at = key as usize;
        if at >= self.deadlines.len() {
            self.deadlines.resize(at + 1, 0);
        }
        self.deadlines[at] = deadline_ms.div_ceil(TICK_MS);
        self.place(FIRST_KEY + key);
    }

    /// Fine for a key that is not armed.
    pub fn disarm(&mut self, key: u32) {
        if (key as usize) < self.deadlines.len() {
            self.take_out(FIRST_KEY + key);
        }
    }

    /// When to call [`expire`](Self::expire) next; `None` while nothing is armed. It may be early,
    /// where keys have to move to a lower level first: at most once for each level.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let begin = if self.rings.is_lone(DUE) {
            self.next_ahead()?.begin
        } else {
            self.present
        };
        Some(begin.saturating_mul(TICK_MS))
    }

    /// Takes out one key whose deadline has come, disarmed; `None` when none is left for now.
    /// Time that goes back counts as standing still.
    pub fn expire(&mut self, now_ms: u64) -> Option<u32> {
        let now = now_ms / TICK_MS;
        loop {
            let due = self.rings.next(DUE);
            if due != DUE {
                self.take_out(due);
                return Some(due - FIRST_KEY);
            }
            // Each round empties a slot, and its keys go to lower levels.
            match self.next_ahead().filter(|ahead| ahead.begin <= now) {
                Some(ahead) => self.enter(ahead),
                None => {
                    self.present = self.present.max(now);
                    return None;
                }
            }
        }
    }

    /// The earliest slot in use: any slot of a lower level begins before all of a higher one.
    fn next_ahead(&self) -> Option<Ahead> {
        let level = (0..LEVELS).find(|&level| self.used[level as usize] != 0)?;
        let slot = self.used[level as usize].trailing_zeros();
        let shift = level * DIGIT_BITS;
        // The digits above are those of the present, the ones below are zero.
        let above = self.present >> shift >> DIGIT_BITS << DIGIT_BITS;
        let begin = (above | u64::from(slot)) << shift;
        Some(Ahead { level, slot, begin })
    }

    fn enter(&mut self, ahead: Ahead) {
        self.present = ahead.begin;
        let list = ahead.level * SLOTS + ahead.slot;
        loop {
            let node = self.rings.next(list);
            if node == list {
                return;
            }
            self.take_out(node);
            self.place(node);
        }
    }

    /// Puts a lone key where its deadline belongs, seen from the present.
    fn place(&mut self, node: u32) {
        let deadline = self.deadlines[(node - FIRST_KEY) as usize];
        if deadline <= self.present {
            self.rings.link_after(DUE, node);
            return;
        }
        let level = (deadline ^ self.present).ilog2() / DIGIT_BITS;
        let slot = (deadline >> (level * DIGIT_BITS)) as u32 % SLOTS;
        self.rings.link_after(level * SLOTS + slot, node);
        self.used[level as usize] |= 1 << slot;
    }

    fn take_out(&mut self, node: u32) {
        let next = self.rings.next(node);
        self.rings.unlink(node);
        // Only the end of a list can be left alone by a key.
        if next < DUE && self.rings.is_lone(next) {
            self.used[(next / SLOTS) as usize] &= !(1 << (next % SLOTS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wakes_up_while_nothing_is_armed() {
        let mut wheel = TimerWheel::new(1_000_000);
        assert_eq!(wheel.next_wakeup_ms(), None);
        wheel.arm(3, 2_000_000);
        wheel.disarm(3);
        wheel.disarm(3);
        wheel.disarm(99);
        assert_eq!(wheel.next_wakeup_ms(), None);
        assert_eq!(wheel.expire(u64::MAX), None);
    }

    #[test]
    fn an_hour_of_silence_costs_a_handful_of_wakeups() {
        const START_MS: u64 = 123_456_789;
        const DEADLINE_MS: u64 = START_MS + 3_600_000;
        let mut wheel = TimerWheel::new(START_MS);
        wheel.arm(0, DEADLINE_MS);
        let mut wakeups = 0;
        let expired_at = loop {
            let now_ms = wheel.next_wakeup_ms().expect("key 0 is armed");
            wakeups += 1;
            if wheel.expire(now_ms).is_some() {
                break now_ms;
            }
        };
        assert!((DEADLINE_MS..DEADLINE_MS + TICK_MS).contains(&expired_at));
        assert!(wakeups <= 4, "{wakeups}");
    }

    #[test]
    fn the_end_of_time_is_a_deadline_too() {
        let mut wheel = TimerWheel::new(0);
        wheel.arm(0, u64::MAX);
        assert_eq!(wheel.expire(u64::MAX - TICK_MS), None);
        assert_eq!(wheel.next_wakeup_ms(), Some(u64::MAX));
    }

    #[test]
    fn a_deadline_that_has_passed_is_due_at_once() {
        let mut wheel = TimerWheel::new(1_000);
        wheel.arm(5, 10);
        assert_eq!(wheel.next_wakeup_ms(), Some(1_000));
        assert_eq!(wheel.expire(1_000), Some(5));
        assert_eq!(wheel.expire(1_000), None);
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let mut wheel = TimerWheel::new(10_000);
        wheel.arm(0, 10_104);
        assert_eq!(wheel.expire(5_000), None);
        wheel.arm(1, 9_000);
        assert_eq!(wheel.expire(5_000), Some(1));
        assert_eq!(wheel.expire(10_103), None);
        assert_eq!(wheel.expire(10_104), Some(0));
    }
}
