//! What share of new sessions each backend of a pool gets, before any algorithm is run.
//!
//! Unweighted algorithms are the weighted ones with equal shares, so each has one implementation.
//! Invariant: a candidate's share is at least 1; a backend that takes no new sessions (disabled,
//! weight 0, warming where warming gets nothing) or is out for its health is no candidate at all.
//!
//! Where some are in slow start and others are not, all shares are counted in finer units, so that
//! a part of a small weight is one too.

use contract::{Algorithm, Backend, Pool, WarmingShare};

use super::BackendIndex;
use super::candidate::{Candidate, Entry};
use super::ramps::Ramps;

/// A backend gets `weight / WARMING_DIVISOR`, rounded up, while it warms.
const WARMING_DIVISOR: u32 = 10;

/// Whether this backend is to take new sessions and flows, whatever its health.
pub fn takes_sessions(pool: &Pool, backend: &Backend) -> bool {
    share(pool.algorithm, pool.warming_share, backend) > 0
}

/// The backends of `pool` that take new sessions, in the order of the file. `entries` are in that
/// order too.
pub(super) fn candidates(pool: &Pool, entries: &[Entry]) -> (Box<[Candidate]>, Ramps) {
    let full = |backend| share(pool.algorithm, pool.warming_share, backend);
    let indexed = (0..).map(BackendIndex).zip(&pool.backends).zip(entries);
    let full_shares = indexed.filter_map(|((backend, described), &entry)| {
        let addr = described.addr;
        let share = if entry.ramp > 0.0 { full(described) } else { 0 };
        let candidate = Candidate {
            backend,
            addr,
            share,
            idle_share: share,
        };
        (share > 0).then_some((candidate, entry))
    });
    let mut candidates: Vec<(Candidate, Entry)> = full_shares.collect();
    let ramps = if ramps_shares(pool.algorithm) {
        Ramps::apply(&mut candidates)
    } else {
        Ramps::default()
    };
    (candidates.into_iter().map(|(one, _)| one).collect(), ramps)
}

fn share(algorithm: Algorithm, warming: WarmingShare, backend: &Backend) -> u32 {
    if !backend.enabled || backend.weight == 0 {
        return 0;
    }
    let full = if counts_weight(algorithm) {
        u32::from(backend.weight)
    } else {
        // So that a tenth of it is a whole number.
        WARMING_DIVISOR
    };
    match warming {
        _ if !backend.is_warming_up => full,
        // What it costs says how much of that it gets.
        WarmingShare::Tenth if algorithm == Algorithm::GpuAware => full,
        WarmingShare::Tenth => full.div_ceil(WARMING_DIVISOR),
        WarmingShare::None => 0,
    }
}

/// Whether slow start is a matter of shares.
fn ramps_shares(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::RoundRobin
        | Algorithm::LeastConnections
        | Algorithm::WeightedRoundRobin
        | Algorithm::WeightedLeastConnections
        | Algorithm::Random
        | Algorithm::PowerOfTwo
        | Algorithm::SourceHash
        | Algorithm::PeakEwma => true,
        // It is a matter of what they cost.
        Algorithm::GpuAware => false,
    }
}

fn counts_weight(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::LeastConnections => false,
        Algorithm::WeightedRoundRobin
        | Algorithm::WeightedLeastConnections
        | Algorithm::Random
        | Algorithm::PowerOfTwo
        | Algorithm::SourceHash
        | Algorithm::GpuAware
        | Algorithm::PeakEwma => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::BackendAddr;

    fn share_of(algorithm: Algorithm, warming: WarmingShare, weight: u16, warms: bool) -> u32 {
        let backend = Backend {
            addr: BackendAddr::new([10, 0, 0, 1].into(), 80),
            weight,
            enabled: true,
            is_warming_up: warms,
            report: contract::Report::default(),
            batch: None,
        };
        let disabled = Backend {
            enabled: false,
            ..backend.clone()
        };
        assert_eq!(share(algorithm, warming, &disabled), 0);
        share(algorithm, warming, &backend)
    }

    #[test]
    fn a_share_is_the_weight_where_weight_counts() {
        for (name, algorithm) in Algorithm::ALL {
            let tenth = |weight, warms| share_of(algorithm, WarmingShare::Tenth, weight, warms);
            let none = |weight, warms| share_of(algorithm, WarmingShare::None, weight, warms);
            let is_weighted = !matches!(name, "round_robin" | "least_connections");
            let expected: [u32; 3] = if is_weighted { [1, 25, 1000] } else { [10; 3] };
            for (weight, expected) in [1, 25, 1000].into_iter().zip(expected) {
                assert_eq!(tenth(weight, false), expected, "{name}");
                let warming = match algorithm {
                    Algorithm::GpuAware => expected,
                    _ => expected.div_ceil(10),
                };
                assert_eq!(tenth(weight, true), warming, "{name}");
                assert_eq!(none(weight, false), expected, "{name}");
                assert_eq!(none(weight, true), 0, "{name}");
            }
            assert_eq!(tenth(0, false) + tenth(0, true) + none(0, false), 0);
        }
    }
}
