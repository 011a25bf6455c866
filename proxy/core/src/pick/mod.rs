//! Which backend a new session or flow goes to.
//!
//! A [`PickTable`] is what the algorithm needs and never changes: it is built off the data path and
//! shared by all workers in the snapshot. A [`Picker`] is what does change, the place of a rotation:
//! one counter, which all workers share. TCP and UDP have one each, so they do not disturb each
//! other's order. Loads and randomness are arguments.
//!
//! Invariant, in every algorithm: a pick is never a backend that takes no new sessions (share 0),
//! never one that the session has tried, and there is a pick as long as there is any other.
//! A pick does not allocate. Health is not looked at here: who is out for it is no candidate, and
//! what slow start leaves of a share is in the table ([`Entry`], `ramps`).
//!
//! Sources: rotation by Sturmian words (see `rotation`); alias method (Vose 1991); two choices:
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE Transactions on
//! Parallel and Distributed Systems 12(10), 2001; Maglev (Eisenbud et al., NSDI 2016).

mod alias;
mod candidate;
mod cheapest;
mod least;
mod maglev;
mod ramps;
mod rotation;
mod sampler;
mod shares;

use std::net::IpAddr;

use contract::Algorithm;

use alias::AliasTable;
use candidate::Candidate;
pub use candidate::Entry;
use maglev::MaglevTable;
use ramps::Ramps;
use rotation::Rotation;
use sampler::Sampler;
pub use shares::takes_sessions;

/// A backend's place in the list of its pool, in one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct BackendIndex(pub u32);

/// What a pick may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What `source_hash` goes by; the others ignore it.
    pub client_ip: IpAddr,
    /// The backends that this session has already tried in vain; a handful, as it is searched.
    pub tried: &'a [BackendIndex],
}

impl Request<'_> {
    pub(crate) fn has_tried(&self, backend: BackendIndex) -> bool {
        self.tried.contains(&backend)
    }
}

/// What a pick reads of the backends as they are at that moment. A function from a backend to its
/// sessions or flows in flight is one, in which that is all that a backend costs.
pub trait Live {
    /// Sessions (for TCP) or flows (for UDP) in flight.
    fn in_flight(&self, backend: BackendIndex) -> u64;

    /// What one session more costs, for `gpu_aware`; finite.
    fn cost(&self, backend: BackendIndex) -> f32 {
        self.in_flight(backend) as f32
    }

    /// The same for `peak_ewma`.
    fn peak_cost(&self, backend: BackendIndex) -> f32 {
        self.in_flight(backend) as f32
    }
}

impl<F: Fn(BackendIndex) -> u64> Live for F {
    fn in_flight(&self, backend: BackendIndex) -> u64 {
        self(backend)
    }
}

/// The immutable part of picking from one pool.
#[derive(Debug)]
pub struct PickTable {
    method: Method,
    /// In the order of the file.
    candidates: Box<[Candidate]>,
    /// Positions in `candidates`, by address.
    by_addr: Box<[u32]>,
    /// By backend index, also of those that are no candidates.
    shares: Box<[u32]>,
    ramps: Ramps,
}

#[derive(Debug)]
enum Method {
    Rotation,
    LeastOfAll,
    LeastOfSamples(AliasTable),
    Random(AliasTable),
    PowerOfTwo(AliasTable),
    SourceHash(MaglevTable),
    CheapestOfAll,
    CheapestOfSamples(Sampler),
    CheapestOfTwo(AliasTable),
}

impl PickTable {
    /// Takes milliseconds for ten thousand backends, so it belongs off the data path.
    pub fn build(pool: &contract::Pool) -> PickTable {
        PickTable::build_for(pool, &vec![Entry::WELL; pool.backends.len()])
    }

    /// The same, of what health leaves of the backends: `entries` are in their order.
    pub fn build_for(pool: &contract::Pool, entries: &[Entry]) -> PickTable {
        let (candidates, ramps) = shares::candidates(pool, entries);
        let mut shares = vec![0; pool.backends.len()].into_boxed_slice();
        for candidate in &candidates {
            shares[candidate.backend.0 as usize] = ramps.in_weights(candidate.share);
        }
        let mut by_addr: Box<[u32]> = (0..candidates.len() as u32).collect();
        by_addr.sort_unstable_by_key(|&position| candidates[position as usize].addr);
        PickTable {
            method: Method::build(pool, &candidates),
            candidates,
            by_addr,
            shares,
            ramps,
        }
    }

    /// How many new sessions this backend gets in proportion to the others: its weight after
    /// warm-up and slow start (rounded up) or, where the algorithm counts no weights, 10 and 1 while
    /// it warms. 0: none.
    pub fn share(&self, backend: BackendIndex) -> u32 {
        let share = self.shares.get(backend.0 as usize);
        share.copied().unwrap_or(0)
    }

    /// Draws candidates by these shares, by backend index, from now on, where it draws by shares that
    /// change.
    pub fn draw_by(&self, shares: &[f32]) {
        if let Method::CheapestOfSamples(sampler) = &self.method {
            sampler.rebuild(&self.candidates, shares);
        }
    }

    /// For each backend of `old`, the position of the same address among the candidates here. Both
    /// are walked in the order of addresses, so it takes a step for each.
    fn successors(&self, old: &PickTable) -> Vec<Option<u32>> {
        let mut successors = vec![None; old.shares.len()];
        let addr_at = |position: u32| self.candidates[position as usize].addr;
        let mut positions = self.by_addr.iter().copied().peekable();
        for &position in &old.by_addr {
            let Candidate { backend, addr, .. } = old.candidates[position as usize];
            while positions.next_if(|&at| addr_at(at) < addr).is_some() {}
            successors[backend.0 as usize] = positions.next_if(|&at| addr_at(at) == addr);
        }
        successors
    }
}

impl Method {
    fn build(pool: &contract::Pool, candidates: &[Candidate]) -> Method {
        match pool.algorithm {
            Algorithm::RoundRobin | Algorithm::WeightedRoundRobin => Method::Rotation,
            Algorithm::LeastConnections | Algorithm::WeightedLeastConnections => {
                if candidates.len() <= least::MAX_SCANNED {
                    Method::LeastOfAll
                } else {
                    Method::LeastOfSamples(AliasTable::build(candidates))
                }
            }
            Algorithm::Random => Method::Random(AliasTable::build(candidates)),
            Algorithm::PowerOfTwo => Method::PowerOfTwo(AliasTable::build(candidates)),
            Algorithm::SourceHash => Method::SourceHash(MaglevTable::build(candidates)),
            Algorithm::GpuAware if candidates.len() as u64 <= pool.gpu_aware.scan_limit => {
                Method::CheapestOfAll
            }
            Algorithm::GpuAware => {
                let samples = pool.gpu_aware.samples as usize;
                Method::CheapestOfSamples(Sampler::new(candidates, samples))
            }
            Algorithm::PeakEwma => Method::CheapestOfTwo(AliasTable::build(candidates)),
        }
    }
}

/// The part of picking that changes: one for each pool and protocol, shared by all workers. It
/// belongs to the table that it was made for.
#[derive(Debug)]
pub struct Picker {
    /// Absent where the algorithm has no memory.
    rotation: Option<Rotation>,
}

impl Picker {
    /// A picker at the begin of its order.
    pub fn new(table: &PickTable) -> Picker {
        let has_rotation = matches!(table.method, Method::Rotation);
        Picker {
            rotation: has_rotation.then(|| Rotation::new(&table.candidates)),
        }
    }

    /// The picker of the table `new` that goes on where this one, of `old`, stands, by backend
    /// address, so that frequent reloads do not favour the first backend of the file. It takes
    /// milliseconds for ten thousand backends, like the table.
    pub fn followed(&self, old: &PickTable, new: &PickTable) -> Picker {
        match (&self.rotation, &new.method) {
            (Some(rotation), Method::Rotation) => {
                let followed = rotation.followed(&new.candidates, &new.successors(old));
                Picker {
                    rotation: Some(followed),
                }
            }
            (None, _) | (Some(_), _) => Picker::new(new),
        }
    }

    /// The backend for a new session or flow; `None` where no untried candidate is left.
    pub fn pick(
        &self,
        table: &PickTable,
        request: &Request<'_>,
        live: impl Live,
        random: &mut fastrand::Rng,
    ) -> Option<BackendIndex> {
        let candidates = &table.candidates;
        let load = |backend| live.in_flight(backend);
        match &table.method {
            Method::Rotation => self.rotation.as_ref()?.pick(request),
            Method::LeastOfAll => least::least_of(candidates, request, load, random),
            Method::LeastOfSamples(draws) => {
                least::least_of_samples(candidates, draws, request, load, random)
            }
            Method::Random(draws) => {
                let drawn = draw_untried(candidates, draws, request, random)?;
                Some(drawn.backend)
            }
            Method::PowerOfTwo(draws) => {
                let two = draw_two(candidates, draws, request, random);
                least::least_of(two.into_iter().flatten(), request, load, random)
            }
            Method::SourceHash(maglev) => maglev.pick(request),
            Method::CheapestOfAll => {
                cheapest::cheapest_of(candidates, request, |one| live.cost(one), random)
            }
            Method::CheapestOfSamples(sampler) => {
                sampler.cheapest(candidates, request, |one| live.cost(one), random)
            }
            Method::CheapestOfTwo(draws) => {
                let two = draw_two(candidates, draws, request, random);
                let cost = |one| live.peak_cost(one);
                cheapest::cheapest_of_few(two.into_iter().flatten(), request, cost, random)
            }
        }
    }
}

/// Two different untried ones, drawn by share, or what there is of them.
fn draw_two<'a>(
    candidates: &'a [Candidate],
    draws: &AliasTable,
    request: &Request<'_>,
    random: &mut fastrand::Rng,
) -> [Option<&'a Candidate>; 2] {
    let Some(first) = draw_untried(candidates, draws, request, random) else {
        return [None; 2];
    };
    let is_other =
        |one: &Candidate| one.backend != first.backend && !request.has_tried(one.backend);
    let second = draws.draw_wanted(candidates, is_other, random);
    [Some(first), second.map(|at| &candidates[at])]
}

fn draw_untried<'a>(
    candidates: &'a [Candidate],
    draws: &AliasTable,
    request: &Request<'_>,
    random: &mut fastrand::Rng,
) -> Option<&'a Candidate> {
    let is_untried = |one: &Candidate| !request.has_tried(one.backend);
    let at = draws.draw_wanted(candidates, is_untried, random)?;
    Some(&candidates[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates of these shares at 10.0.0.0:80 and upwards.
    pub(super) fn candidates_with_shares(shares: &[u32]) -> Vec<Candidate> {
        let candidates = (0..).zip(shares).map(|(index, &share)| Candidate {
            backend: BackendIndex(index),
            addr: contract::BackendAddr::new((0x0a00_0000 + index).to_be_bytes().into(), 80),
            share,
            idle_share: share,
        });
        candidates.collect()
    }
}
