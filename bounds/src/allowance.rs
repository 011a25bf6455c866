//! A bound on the time that strangers can take from others: a fixed part of any window, however they
//! divide it.

use std::collections::VecDeque;

/// The number of parts in which a window is counted, so that memory is bounded; the window is longer
/// by less than one part.
const PARTS: u64 = 180;

/// Counts the time taken by any number of takers at once, and how much of the latest window it was.
///
/// ```
/// use bounds::Allowance;
///
/// let mut allowance = Allowance::new(1_000, 18_000);
/// allowance.begin(0);
/// assert!(!allowance.is_spent(999));
/// assert!(allowance.is_spent(1_000));
/// allowance.end(1_000);
/// // A pause gives nothing back before the window has passed.
/// assert!(allowance.is_spent(17_000));
/// assert!(!allowance.is_spent(19_200));
/// ```
#[derive(Debug, Clone)]
pub struct Allowance {
    most_ms: u64,
    part_ms: u64,
    takers: usize,
    /// Up to when it is counted.
    at_ms: u64,
    /// The parts of the window by number, and how much of each was taken, oldest first.
    parts: VecDeque<(u64, u64)>,
    taken_ms: u64,
}

impl Allowance {
    /// At most `most_ms` in any `window_ms`, which is at least [`PARTS`] milliseconds.
    pub fn new(most_ms: u64, window_ms: u64) -> Allowance {
        Allowance {
            most_ms,
            part_ms: window_ms.div_ceil(PARTS).max(1),
            takers: 0,
            at_ms: 0,
            parts: VecDeque::new(),
            taken_ms: 0,
        }
    }

    /// A taker begins at this time of a monotonic clock. Takers at the same time take the same time.
    pub fn begin(&mut self, now_ms: u64) {
        self.count(now_ms);
        self.takers += 1;
    }

    /// One taker ends.
    pub fn end(&mut self, now_ms: u64) {
        self.count(now_ms);
        self.takers = self.takers.saturating_sub(1);
    }

    pub fn is_spent(&mut self, now_ms: u64) -> bool {
        self.count(now_ms);
        self.taken_ms >= self.most_ms
    }

    fn count(&mut self, now_ms: u64) {
        let now_ms = now_ms.max(self.at_ms);
        // A part outside the window does not count, however long ago the last call was.
        let first = (now_ms / self.part_ms).saturating_sub(PARTS);
        while self.parts.front().is_some_and(|(part, _)| *part < first) {
            let (_, taken_ms) = self.parts.pop_front().expect("there is one just above");
            self.taken_ms -= taken_ms;
        }
        let mut from_ms = self.at_ms.max(first * self.part_ms);
        while self.takers > 0 && from_ms < now_ms {
            let part = from_ms / self.part_ms;
            let until_ms = now_ms.min((part + 1) * self.part_ms);
            self.add(part, until_ms - from_ms);
            from_ms = until_ms;
        }
        self.at_ms = now_ms;
    }

    fn add(&mut self, part: u64, taken_ms: u64) {
        match self.parts.back_mut() {
            Some((last, taken)) if *last == part => *taken += taken_ms,
            Some(_) | None => self.parts.push_back((part, taken_ms)),
        }
        self.taken_ms += taken_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_MS: u64 = 150_000;
    const WINDOW_MS: u64 = 1_800_000;

    /// Whoever takes time for `on_ms`, where there is some left, and then pauses for `off_ms`, again
    /// and again: the most that was taken of any window.
    fn most_of_any_window(on_ms: u64, off_ms: u64) -> u64 {
        const STEP_MS: u64 = 500;
        let mut allowance = Allowance::new(MOST_MS, WINDOW_MS);
        let (mut is_taking, mut since_ms) = (false, 0);
        let mut taken = Vec::new();
        for now_ms in (0..3 * WINDOW_MS).step_by(STEP_MS as usize) {
            let wants = (now_ms - since_ms) < on_ms;
            let may = wants && !allowance.is_spent(now_ms);
            match (is_taking, may) {
                (false, true) => allowance.begin(now_ms),
                (true, false) => allowance.end(now_ms),
                (true, true) | (false, false) => {}
            }
            is_taking = may;
            if now_ms - since_ms >= on_ms + off_ms {
                since_ms = now_ms;
            }
            taken.push(u64::from(is_taking) * STEP_MS);
        }
        let length = (WINDOW_MS / STEP_MS) as usize;
        let sums = taken.windows(length).map(|window| window.iter().sum());
        sums.max().expect("three windows")
    }

    #[test]
    fn no_window_loses_more_than_its_share_however_the_time_is_divided() {
        let patterns = [
            (u64::MAX / 2, 0),
            (149_000, 1_000),
            (4_000, 11_000),
            (1_000, 500),
            (150_000, WINDOW_MS - 150_000),
            (75_000, 700_000),
        ];
        for (on_ms, off_ms) in patterns {
            let most = most_of_any_window(on_ms, off_ms);
            assert!(most <= MOST_MS, "{most} ms of {on_ms} and {off_ms}");
            let rarely = on_ms.saturating_mul(10) < on_ms.saturating_add(off_ms);
            assert!(
                most == MOST_MS || rarely,
                "{most} ms of {on_ms} and {off_ms}"
            );
        }
    }

    #[test]
    fn those_who_take_at_the_same_time_take_it_once() {
        let mut allowance = Allowance::new(MOST_MS, WINDOW_MS);
        allowance.begin(0);
        allowance.begin(10_000);
        allowance.end(100_000);
        assert!(!allowance.is_spent(149_999));
        assert!(allowance.is_spent(150_000));
        allowance.end(150_000);
        allowance.end(150_000);
        assert!(!allowance.is_spent(WINDOW_MS * 2), "nobody takes any more");
    }

    #[test]
    fn a_clock_that_jumps_or_goes_back_costs_no_time_and_no_memory() {
        let mut allowance = Allowance::new(MOST_MS, WINDOW_MS);
        allowance.begin(u64::MAX / 2);
        assert!(!allowance.is_spent(0));
        assert!(allowance.is_spent(u64::MAX - WINDOW_MS));
        assert!(allowance.parts.len() as u64 <= PARTS + 1);
        assert!(allowance.taken_ms <= WINDOW_MS + allowance.part_ms);
    }
}
