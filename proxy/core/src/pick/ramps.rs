//! Slow start in a table: a part of the share, and a cap on what may be in flight, together. The
//! share bounds how fast sessions come, the cap how many a backend that is still slow gathers.
//!
//! A ramp counts in relation to the others: where all are at the same place of it, as right after
//! the start of the process, there is nothing to protect one from by sending it to another.

use super::candidate::{Candidate, Entry};
use super::{BackendIndex, Live, PickTable, Picker, Request};

/// Shares are counted in such parts of a weight while some are in slow start and others are not.
const FINE: u32 = 20;
/// How many backends at their cap a pick passes over before it takes one all the same.
const MOST_PASSED: usize = 4;
/// Room for those and for all that a session may have tried (`connect_attempts`).
const MOST_AVOIDED: usize = 8 + MOST_PASSED;

/// What slow start adds to the shares.
#[derive(Debug)]
pub(super) struct Ramps {
    /// Units of a share in one of the weight.
    scale: u32,
    /// The most in flight, by backend index up to the last one that has a cap; 0: no cap.
    caps: Box<[u64]>,
}

impl Default for Ramps {
    fn default() -> Self {
        Ramps {
            scale: 1,
            caps: Box::default(),
        }
    }
}

impl Ramps {
    /// Takes full shares down to what slow start leaves of them, at least one unit.
    pub(super) fn apply(candidates: &mut [(Candidate, Entry)]) -> Ramps {
        let top = candidates
            .iter()
            .fold(0.0, |top: f64, (_, entry)| top.max(entry.ramp));
        if candidates.iter().all(|(_, entry)| entry.ramp >= top) {
            return Ramps::default();
        }
        let load_a_share = mean_load(candidates, top);
        let mut caps = Vec::new();
        for (candidate, entry) in candidates {
            let part = entry.ramp / top;
            let full = candidate.share;
            candidate.idle_share = full * FINE;
            candidate.share = ((f64::from(full * FINE) * part) as u32).max(1);
            if part < 1.0 {
                let cap = (part * f64::from(full) * load_a_share).ceil() as u64;
                let index = candidate.backend.0 as usize;
                caps.resize(caps.len().max(index + 1), 0);
                caps[index] = cap.max(1);
            }
        }
        Ramps {
            scale: FINE,
            caps: caps.into(),
        }
    }

    /// A share in units of weight, rounded up.
    pub(super) fn in_weights(&self, share: u32) -> u32 {
        share.div_ceil(self.scale)
    }

    fn is_at_cap(&self, backend: BackendIndex, load: impl Fn(BackendIndex) -> u64) -> bool {
        match self.caps.get(backend.0 as usize) {
            None | Some(0) => false,
            Some(&cap) => load(backend) >= cap,
        }
    }
}

/// What is in flight for each unit of full share, over those that are furthest.
fn mean_load(candidates: &[(Candidate, Entry)], top: f64) -> f64 {
    let furthest = candidates.iter().filter(|(_, entry)| entry.ramp >= top);
    let sums = furthest.fold((0, 0), |(loads, shares), (candidate, entry)| {
        (loads + entry.load, shares + u64::from(candidate.share))
    });
    sums.0 as f64 / sums.1 as f64
}

impl Picker {
    /// Like [`pick`](Self::pick), but passes over backends in slow start that have as much in flight
    /// as they may; where none other is found, takes one all the same.
    pub fn pick_within_caps(
        &self,
        table: &PickTable,
        request: &Request<'_>,
        live: impl Live + Copy,
        random: &mut fastrand::Rng,
    ) -> Option<BackendIndex> {
        let first = self.pick(table, request, live, random)?;
        let load = |backend| live.in_flight(backend);
        let tried = request.tried.len();
        if !table.ramps.is_at_cap(first, load) || tried + MOST_PASSED > MOST_AVOIDED {
            return Some(first);
        }
        let mut avoided = [first; MOST_AVOIDED];
        avoided[..tried].copy_from_slice(request.tried);
        for passed in 1..=MOST_PASSED {
            let request = Request {
                tried: &avoided[..tried + passed],
                ..*request
            };
            match self.pick(table, &request, live, random) {
                None => break,
                Some(next) if !table.ramps.is_at_cap(next, load) => return Some(next),
                Some(next) if passed < MOST_PASSED => avoided[tried + passed] = next,
                Some(_) => {}
            }
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    fn applied(shares: &[u32], entries: &[Entry]) -> (Vec<u32>, Ramps) {
        let candidates = candidates_with_shares(shares);
        let mut both: Vec<_> = candidates
            .into_iter()
            .zip(entries.iter().copied())
            .collect();
        let ramps = Ramps::apply(&mut both);
        (
            both.iter().map(|(candidate, _)| candidate.share).collect(),
            ramps,
        )
    }

    fn entry(ramp: f64, load: u64) -> Entry {
        Entry { ramp, load }
    }

    #[test]
    fn a_part_of_a_small_share_is_one_too() {
        let entries = [entry(1.0, 0), entry(0.1, 0), entry(0.5, 0)];
        let (shares, ramps) = applied(&[1, 1, 10], &entries);
        assert_eq!(shares, [20, 2, 100]);
        assert_eq!([1, 20, 100].map(|share| ramps.in_weights(share)), [1, 1, 5]);
    }

    #[test]
    fn where_all_are_equally_far_nothing_changes() {
        let (shares, ramps) = applied(&[3, 7], &[entry(0.1, 5), entry(0.1, 0)]);
        assert_eq!(shares, [3, 7]);
        assert_eq!(ramps.in_weights(7), 7);
        assert!(!ramps.is_at_cap(BackendIndex(0), |_| u64::MAX));
    }

    #[test]
    fn the_cap_is_the_ramps_part_of_what_the_others_have_in_flight() {
        // 20 in flight for each unit of share.
        let entries = [
            entry(1.0, 200),
            entry(0.5, 0),
            entry(1.0, 400),
            entry(0.1, 0),
        ];
        let (_, ramps) = applied(&[10, 10, 20, 1], &entries);
        let cap = |index| (0..).find(|&load| ramps.is_at_cap(BackendIndex(index), |_| load));
        assert_eq!((cap(1), cap(3)), (Some(100), Some(2)));
        assert!(!ramps.is_at_cap(BackendIndex(0), |_| u64::MAX));
        // With nothing in flight anywhere, at least one.
        let (_, ramps) = applied(&[10, 10], &[entry(1.0, 0), entry(0.1, 0)]);
        assert!(!ramps.is_at_cap(BackendIndex(1), |_| 0));
        assert!(ramps.is_at_cap(BackendIndex(1), |_| 1));
    }
}
