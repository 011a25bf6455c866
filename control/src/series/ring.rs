//! Figures at fixed intervals: a ring of the newest ones.

use std::collections::VecDeque;

/// `WIDTH` figures for each moment. An unknown figure is `NAN`.
#[derive(Debug)]
pub struct Ring<const WIDTH: usize> {
    pub step_ms: u64,
    /// Moments that are kept.
    most: usize,
    /// The step, counted from the Unix epoch, that the newest moment lies in.
    newest: u64,
    moments: VecDeque<[f32; WIDTH]>,
}

impl<const WIDTH: usize> Ring<WIDTH> {
    /// # Panics
    /// If the span is not a whole number of steps, at least one.
    pub fn new(step_ms: u64, span_ms: u64) -> Ring<WIDTH> {
        assert!(span_ms >= step_ms && span_ms.is_multiple_of(step_ms));
        Ring {
            step_ms,
            most: (span_ms / step_ms) as usize,
            newest: 0,
            moments: VecDeque::new(),
        }
    }

    /// The most bytes that it takes.
    pub const fn bytes(step_ms: u64, span_ms: u64) -> u64 {
        // A deque grows by doubling.
        (span_ms / step_ms).next_power_of_two() * (WIDTH * size_of::<f32>()) as u64
    }

    /// Keeps the figures of `at_ms`, in Unix milliseconds. Skipped steps are gaps. A second moment in one step
    /// replaces the first. A clock that was set back empties the ring, since the times of later moments are
    /// unknown.
    pub fn push(&mut self, at_ms: u64, moment: [f32; WIDTH]) {
        let step = at_ms / self.step_ms;
        if step < self.newest || self.moments.is_empty() {
            self.moments.clear();
            self.newest = step;
            self.moments.push_back(moment);
            return;
        }
        let missed = (step - self.newest).min(self.most as u64 + 1);
        if missed == 0 {
            self.moments.pop_back();
        }
        for _ in 1..missed {
            self.moments.push_back([f32::NAN; WIDTH]);
        }
        self.moments.push_back(moment);
        self.newest = step;
        while self.moments.len() > self.most {
            self.moments.pop_front();
        }
    }

    /// When the oldest moment that is kept began, in Unix milliseconds; `None` if there is none.
    pub fn oldest_ms(&self) -> Option<u64> {
        let kept = self.moments.len() as u64;
        (kept > 0).then(|| (self.newest + 1 - kept) * self.step_ms)
    }

    /// The moments whose steps begin within the time, the oldest first, and when the first one began.
    pub fn between(&self, from_ms: u64, to_ms: u64) -> (u64, Vec<[f32; WIDTH]>) {
        let Some(oldest_ms) = self.oldest_ms() else {
            return (from_ms, Vec::new());
        };
        let skipped = from_ms.saturating_sub(oldest_ms).div_ceil(self.step_ms);
        let first_ms = oldest_ms + skipped * self.step_ms;
        let wanted = match to_ms.checked_sub(first_ms) {
            Some(rest_ms) => rest_ms / self.step_ms + 1,
            None => 0,
        };
        let moments = self.moments.iter().skip(skipped as usize);
        (first_ms, moments.take(wanted as usize).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of a ring of one second's steps and ten seconds, with -1 for a gap.
    fn kept(ring: &Ring<1>, from_ms: u64, to_ms: u64) -> (u64, Vec<i32>) {
        let (first_ms, moments) = ring.between(from_ms, to_ms);
        let known = |[figure]: [f32; 1]| if figure.is_nan() { -1 } else { figure as i32 };
        (first_ms, moments.into_iter().map(known).collect())
    }

    #[test]
    fn the_newest_moments_are_kept_and_what_was_left_out_is_a_gap() {
        let mut ring = Ring::new(1_000, 10_000);
        assert_eq!(kept(&ring, 5_000, 9_000), (5_000, vec![]));
        for at_ms in [100_250, 101_900, 104_000, 104_999] {
            ring.push(at_ms, [(at_ms % 100_000) as f32]);
        }
        let all = vec![250, 1_900, -1, -1, 4_999];
        assert_eq!(kept(&ring, 0, u64::MAX), (100_000, all));
        assert_eq!(
            kept(&ring, 100_001, 103_999),
            (101_000, vec![1_900, -1, -1])
        );
        assert_eq!(kept(&ring, 104_000, 104_000), (104_000, vec![4_999]));
        assert_eq!(kept(&ring, 104_001, 200_000), (105_000, vec![]));
        for second in 105..=120 {
            ring.push(second * 1_000, [second as f32]);
        }
        assert_eq!(kept(&ring, 0, u64::MAX), (111_000, (111..=120).collect()));
    }

    #[test]
    fn a_long_silence_leaves_gaps_and_a_clock_set_back_begins_again() {
        let mut ring = Ring::new(1_000, 10_000);
        ring.push(1_000, [1.0]);
        ring.push(u64::MAX - 999, [2.0]);
        let (_, kept_now) = kept(&ring, 0, u64::MAX);
        assert_eq!(kept_now.len(), 10);
        assert_eq!((kept_now[9], kept_now[8]), (2, -1));
        ring.push(7_000, [3.0]);
        assert_eq!(kept(&ring, 0, u64::MAX), (7_000, vec![3]));
    }
}
