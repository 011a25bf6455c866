//! Weighted draws in constant time whose weights change while workers draw: an alias table in which
//! each column is one word, written in place.
//!
//! A draw during a rewrite may meet columns of both tables. Every column names candidates of this
//! snapshot in both, so such a draw is only drawn by slightly other weights.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::alias::AliasTable;
use super::candidate::Candidate;
use super::{BackendIndex, Request, cheapest};

#[derive(Debug)]
pub(super) struct Sampler {
    /// The part of the column's own candidate, of 2^32, above; the position of its alias below.
    columns: Box<[AtomicU64]>,
    samples: usize,
}

/// The largest share that a draw is built from, so that the sum of 20,000 fits into 64 bits with room.
const MOST_UNITS: f32 = 1e6;

impl Sampler {
    pub(super) fn new(candidates: &[Candidate], samples: usize) -> Sampler {
        let sampler = Sampler {
            columns: candidates.iter().map(|_| AtomicU64::new(0)).collect(),
            samples,
        };
        sampler.install(&AliasTable::build(candidates));
        sampler
    }

    /// Draws by these shares, by backend index, from now on.
    pub(super) fn rebuild(&self, candidates: &[Candidate], shares: &[f32]) {
        let largest = shares.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        let weighed = candidates.iter().map(|candidate| Candidate {
            // At least 1, so that every candidate can be drawn.
            share: (shares[candidate.backend.0 as usize] / largest * MOST_UNITS).max(1.0) as u32,
            ..*candidate
        });
        self.install(&AliasTable::build(&weighed.collect::<Vec<_>>()));
    }

    fn install(&self, table: &AliasTable) {
        for (column, packed) in self.columns.iter().zip(table.packed_columns()) {
            column.store(packed, Relaxed);
        }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let at = random.usize(..self.columns.len());
        let packed = self.columns[at].load(Relaxed);
        let is_own = u64::from(random.u32(..)) < packed >> 32;
        Some(if is_own { at } else { packed as u32 as usize })
    }

    /// The cheapest of a few drawn; of all where every drawn one has been tried.
    pub(super) fn cheapest(
        &self,
        candidates: &[Candidate],
        request: &Request<'_>,
        cost: impl Fn(BackendIndex) -> f32,
        random: &mut fastrand::Rng,
    ) -> Option<BackendIndex> {
        let mut positions = [0; MOST_SAMPLES];
        let positions = &mut positions[..self.samples.min(MOST_SAMPLES)];
        for position in &mut *positions {
            *position = self.draw(random)?;
        }
        let drawn = positions.iter().map(|&at| &candidates[at]);
        cheapest::cheapest_of_few(drawn, request, &cost, random)
            .or_else(|| cheapest::cheapest_of(candidates, request, &cost, random))
    }
}

/// What the configuration allows.
const MOST_SAMPLES: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    fn counts(sampler: &Sampler, columns: usize, draws: u32) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(9);
        let mut counts = vec![0; columns];
        for _ in 0..draws {
            counts[sampler.draw(&mut random).expect("candidates")] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_shares_and_their_changes() {
        let candidates = candidates_with_shares(&[10, 30, 60]);
        let sampler = Sampler::new(&candidates, 4);
        for (count, expected) in counts(&sampler, 3, 100_000).iter().zip([10, 30, 60]) {
            assert!(count.abs_diff(expected * 1_000) < 800, "{count}");
        }
        sampler.rebuild(&candidates, &[0.5, 0.4, 0.1]);
        for (count, expected) in counts(&sampler, 3, 100_000).iter().zip([50, 40, 10]) {
            assert!(count.abs_diff(expected * 1_000) < 800, "{count}");
        }
        // Nothing to go by: all alike, and all can be drawn.
        sampler.rebuild(&candidates, &[0.0; 3]);
        assert!(counts(&sampler, 3, 1_000).iter().all(|&count| count > 250));
    }

    #[test]
    fn every_untried_candidate_is_found() {
        let candidates = candidates_with_shares(&[1000; 80]);
        let sampler = Sampler::new(&candidates, 4);
        let mut random = fastrand::Rng::with_seed(1);
        let tried: Vec<BackendIndex> = (0..79).map(BackendIndex).collect();
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &tried,
        };
        let found = sampler.cheapest(&candidates, &request, |_| 1.0, &mut random);
        assert_eq!(found, Some(BackendIndex(79)));
    }
}
