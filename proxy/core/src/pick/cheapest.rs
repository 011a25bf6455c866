//! The candidate that costs least, where costs are known at the time of the pick; a tie falls at
//! random, so that proxies that know the same do not all do the same.

use super::candidate::Candidate;
use super::{BackendIndex, Request};

/// The cheapest untried one of a few; each may stand there more than once.
pub(super) fn cheapest_of_few<'a>(
    drawn: impl IntoIterator<Item = &'a Candidate>,
    request: &Request<'_>,
    cost: impl Fn(BackendIndex) -> f32,
    random: &mut fastrand::Rng,
) -> Option<BackendIndex> {
    let mut best = Best::default();
    for candidate in drawn {
        if !request.has_tried(candidate.backend) {
            best.compare(cost(candidate.backend), candidate, random);
        }
    }
    best.backend
}

/// The cheapest untried one of all.
///
/// In blocks, of which first all costs are computed and then the least is found: no step of the
/// first waits for one before, so what other cores have just written arrives side by side, and
/// there is no branch in either that could be guessed wrong.
pub(super) fn cheapest_of(
    candidates: &[Candidate],
    request: &Request<'_>,
    cost: impl Fn(BackendIndex) -> f32,
    random: &mut fastrand::Rng,
) -> Option<BackendIndex> {
    let mut best = Best::default();
    for block in candidates.chunks(BLOCK) {
        let mut costs = [f32::INFINITY; BLOCK];
        for (slot, candidate) in costs.iter_mut().zip(block) {
            *slot = cost(candidate.backend);
        }
        if !request.tried.is_empty() {
            for (slot, candidate) in costs.iter_mut().zip(block) {
                if request.has_tried(candidate.backend) {
                    *slot = f32::INFINITY;
                }
            }
        }
        let least = least_of(&costs);
        if least == f32::INFINITY || least > best.cost {
            continue;
        }
        for (lanes, candidates) in costs.chunks(LANES).zip(block.chunks(LANES)) {
            let has_least = lanes.iter().fold(false, |any, cost| any | (*cost == least));
            if !has_least {
                continue;
            }
            for (&cost, candidate) in lanes.iter().zip(candidates) {
                if cost == least {
                    best.compare(cost, candidate, random);
                }
            }
        }
    }
    best.backend
}

/// As many as are looked at in all by default.
const BLOCK: usize = 64;
/// So many costs are compared at once.
const LANES: usize = 8;

fn least_of(costs: &[f32; BLOCK]) -> f32 {
    let least = |one: f32, other: f32| if other < one { other } else { one };
    let mut lanes = [f32::INFINITY; LANES];
    for costs in costs.chunks(LANES) {
        for (lane, &cost) in lanes.iter_mut().zip(costs) {
            *lane = least(*lane, cost);
        }
    }
    lanes.into_iter().fold(f32::INFINITY, least)
}

struct Best {
    backend: Option<BackendIndex>,
    cost: f32,
    ties: u32,
}

impl Default for Best {
    fn default() -> Self {
        Best {
            backend: None,
            cost: f32::INFINITY,
            ties: 0,
        }
    }
}

impl Best {
    fn compare(&mut self, cost: f32, candidate: &Candidate, random: &mut fastrand::Rng) {
        if cost < self.cost {
            *self = Best {
                backend: Some(candidate.backend),
                cost,
                ties: 1,
            };
        } else if cost == self.cost {
            // Reservoir sampling: the n-th of n equals replaces with probability 1/n.
            self.ties += 1;
            if random.u32(..self.ties) == 0 {
                self.backend = Some(candidate.backend);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    #[test]
    fn blocks_and_few_find_the_same_and_ties_fall_at_random() {
        let candidates = candidates_with_shares(&[1; 150]);
        let mut random = fastrand::Rng::with_seed(8);
        let mut found = std::collections::BTreeMap::new();
        let tried = [BackendIndex(7)];
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &tried,
        };
        // The cheapest are tried, or stand in different blocks.
        let cost = |backend: BackendIndex| match backend.0 {
            7 => 1.0,
            20 | 70 | 149 => 2.0,
            other => 3.0 + other as f32,
        };
        for _ in 0..3_000 {
            let of_all = cheapest_of(&candidates, &request, cost, &mut random);
            let of_few = cheapest_of_few(&candidates, &request, cost, &mut random);
            for one in [of_all, of_few] {
                *found.entry(one.expect("149 are left").0).or_insert(0) += 1;
            }
        }
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [20, 70, 149]);
        assert!(
            found.values().all(|&count| (1_800..2_200).contains(&count)),
            "{found:?}"
        );
        let none = cheapest_of(&candidates[7..8], &request, cost, &mut random);
        assert_eq!(none, None);
    }
}
