//! Latencies as the workers count them: a histogram with a bounded error, and a recent mean.
//!
//! Each instance has one writer, so an increment is a load and a store without a locked
//! instruction; readers sum over the workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Adds to a counter that only this thread writes.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// Quarters of an octave, of equal width, so that a bucket is found by shifts alone.
const PER_OCTAVE: u64 = 4;
/// Up to 2^33 us.
const BUCKETS: usize = 128;

/// A log-linear histogram of microseconds: four buckets an octave, so that a quantile is at most
/// 25 % above the true one. What is longer than 2^33 us (143 minutes) counts as that.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Microseconds.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one sample.
    pub fn record(&self, microseconds: u64) {
        add(&self.buckets[bucket_of(microseconds)], 1);
        add(&self.sum, microseconds);
    }

    /// All that was recorded in microseconds, over all `parts`.
    pub fn sum(parts: &[&Histogram]) -> u64 {
        parts.iter().map(|part| part.sum.load(Relaxed)).sum()
    }

    /// The upper bound of each bucket that is not empty, in microseconds and ascending, and its count
    /// over all `parts`.
    pub fn counts(parts: &[&Histogram]) -> Vec<(u64, u64)> {
        let count_of = |bucket: usize| -> u64 {
            let counts = parts.iter().map(|part| part.buckets[bucket].load(Relaxed));
            counts.sum()
        };
        let all = (0..BUCKETS).map(|bucket| (upper_bound_of(bucket), count_of(bucket)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

/// The upper bound of the bucket of `counts` where the quantile `q` (0..=1) lies; `None` where nothing
/// was recorded.
pub fn quantile(counts: &[(u64, u64)], q: f64) -> Option<u64> {
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    counts.iter().find_map(|(bound, count)| {
        seen += count;
        (seen >= rank).then_some(*bound)
    })
}

fn bucket_of(microseconds: u64) -> usize {
    if microseconds < PER_OCTAVE {
        return microseconds as usize;
    }
    let octave = u64::from(microseconds.ilog2());
    // The two bits below the leading one choose the quarter of the octave.
    let quarter = (microseconds >> (octave - 2)) & (PER_OCTAVE - 1);
    let bucket = (octave - 1) * PER_OCTAVE + quarter;
    (bucket as usize).min(BUCKETS - 1)
}

fn upper_bound_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return bucket;
    }
    let octave = bucket / PER_OCTAVE + 1;
    let quarter = bucket % PER_OCTAVE;
    ((PER_OCTAVE + quarter + 1) << (octave - 2)) - 1
}

/// An exponentially weighted mean of microseconds: each sample moves it an eighth of the way, as
/// RFC 6298 does for round-trip times.
#[derive(Debug, Default)]
pub struct RecentMean {
    /// Eighths of microseconds, plus one so that 0 means "no sample yet".
    value: AtomicU32,
}

impl RecentMean {
    /// Takes in one sample; one above 536 seconds counts as that.
    pub fn record(&self, microseconds: u64) {
        const MAX: u64 = (u32::MAX / 8) as u64 - 1;
        let sample = microseconds.min(MAX) as u32;
        let old = self.value.load(Relaxed);
        let new = if old == 0 {
            sample * 8
        } else {
            (old - 1) - (old - 1) / 8 + sample
        };
        self.value.store(new + 1, Relaxed);
    }

    /// Microseconds; `None` before the first sample.
    pub fn get(&self) -> Option<u64> {
        match self.value.load(Relaxed) {
            0 => None,
            value => Some(u64::from(value - 1) / 8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_above_the_truth() {
        for value in [0, 1, 3, 4, 5, 7, 8, 100, 1_000, 123_456, 4_000_000_000] {
            let histogram = Histogram::default();
            histogram.record(value);
            let found = quantile(&Histogram::counts(&[&histogram]), 0.5).expect("one sample");
            assert!(
                found >= value && found <= value + value / 4,
                "{value} as {found}"
            );
        }
    }

    #[test]
    fn quantiles_sum_over_parts() {
        let (a, b) = (Histogram::default(), Histogram::default());
        assert_eq!(quantile(&Histogram::counts(&[&a, &b]), 0.5), None);
        (0..98).for_each(|_| a.record(2));
        b.record(2);
        b.record(1_000_000);
        let counts = Histogram::counts(&[&a, &b]);
        assert_eq!(counts, [(2, 99), (1_048_575, 1)]);
        assert_eq!(quantile(&counts, 0.5), Some(2));
        assert_eq!(quantile(&counts, 0.99), Some(2));
        assert_eq!(quantile(&counts, 1.0), Some(1_048_575));
        assert_eq!(Histogram::sum(&[&a, &b]), 1_000_198);
    }

    #[test]
    fn a_recent_mean_follows_its_samples() {
        let mean = RecentMean::default();
        assert_eq!(mean.get(), None);
        mean.record(0);
        assert_eq!(mean.get(), Some(0));
        (0..100).for_each(|_| mean.record(800));
        assert!((780..=800).contains(&mean.get().expect("samples")));
        mean.record(u64::MAX);
        assert!(mean.get().is_some());
    }
}
