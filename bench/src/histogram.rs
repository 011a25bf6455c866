//! Latencies in buckets that grow with the value: constant memory, constant cost, and an error of
//! at most 1/64 of the value. (The layout is that of G. Tene's HdrHistogram.)

/// Each power of two is split into this many buckets.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough for every `u64`.
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all values do not exceed; `None` where there are none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(highest_of(bucket).min(self.max));
            }
        }
        None
    }
}

/// Values below `STEPS` have a bucket each; above, the leading `STEP_BITS` + 1 bits name it.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value that falls into `bucket`.
fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let leading = bucket - shift * STEPS;
    // In 128 bits, since the bucket above the last one begins at 2^64.
    (((u128::from(leading) + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_at_most_a_64th_from_its_buckets_end() {
        let powers = (0..64).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1, power + power / 3]
        });
        for value in powers.chain([u64::MAX]) {
            let bucket = bucket_of(value);
            assert!(bucket < BUCKETS, "{value}");
            let highest = highest_of(bucket);
            assert!(
                highest >= value && highest - value <= value / STEPS,
                "{value}"
            );
            let next = highest.checked_add(1).map(bucket_of);
            assert!(next.is_none_or(|next| next == bucket + 1), "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (share, exact) in [
            (0.0, 1_000),
            (0.5, 500_000),
            (0.99, 990_000),
            (1.0, 1_000_000),
        ] {
            let found = histogram.quantile(share).expect("there are values");
            assert!(found >= exact && found <= exact + exact / STEPS, "{share}");
        }
        assert_eq!(histogram.max(), 1_000_000);
    }
}
