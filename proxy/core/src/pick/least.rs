//! The candidate with the least load for its share: `(load + 1) / share`, compared by
//! cross-multiplication, so exactly. The one more is the session that is being placed: without it
//! every idle backend would look alike, whatever its share.
//!
//! Up to [`MAX_SCANNED`] candidates all are looked at. Above, reading every counter for each
//! session would cost more than it gains, and the best of [`SAMPLES`] drawn by share is taken: the
//! more choices, the closer to the true least (Mitzenmacher 2001, see [`super`]).

use super::alias::AliasTable;
use super::candidate::Candidate;
use super::{BackendIndex, Request};

/// The most candidates of which every one is looked at for each pick.
pub(super) const MAX_SCANNED: usize = 256;
/// How many are drawn where there are more.
const SAMPLES: usize = 8;

/// The least loaded untried one of `drawn`; a tie falls at random.
pub(super) fn least_of<'a>(
    drawn: impl IntoIterator<Item = &'a Candidate>,
    request: &Request<'_>,
    load: impl Fn(BackendIndex) -> u64,
    random: &mut fastrand::Rng,
) -> Option<BackendIndex> {
    let mut best: Option<Placed> = None;
    let mut ties = 1;
    for candidate in drawn {
        if request.has_tried(candidate.backend) {
            continue;
        }
        let load = load(candidate.backend);
        let share = match load {
            0 => candidate.idle_share,
            _ => candidate.share,
        };
        let placed = Placed {
            backend: candidate.backend,
            load: u128::from(load) + 1,
            share: u128::from(share),
        };
        let Some(least) = &best else {
            best = Some(placed);
            continue;
        };
        let ours = placed.load * least.share;
        let theirs = least.load * placed.share;
        if ours < theirs {
            best = Some(placed);
            ties = 1;
        } else if ours == theirs {
            // Reservoir sampling: the n-th of n equals replaces with probability 1/n.
            ties += 1;
            if random.u32(..ties) == 0 {
                best = Some(placed);
            }
        }
    }
    best.map(|placed| placed.backend)
}

struct Placed {
    backend: BackendIndex,
    /// With the session that is being placed.
    load: u128,
    share: u128,
}

/// The least loaded of a few drawn by share; of all where every drawn one has been tried.
pub(super) fn least_of_samples(
    candidates: &[Candidate],
    draws: &AliasTable,
    request: &Request<'_>,
    load: impl Fn(BackendIndex) -> u64,
    random: &mut fastrand::Rng,
) -> Option<BackendIndex> {
    let mut positions = [0; SAMPLES];
    for position in &mut positions {
        *position = draws.draw(random)?;
    }
    let drawn = positions.iter().map(|&at| &candidates[at]);
    least_of(drawn, request, &load, random).or_else(|| least_of(candidates, request, &load, random))
}
