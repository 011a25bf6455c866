//! Which pool of a split a new session or flow goes to.
//!
//! **By turn.** After any number `n` of turns each pool has had its share of `n`, give or take less than one. This is
//! the chairman assignment problem; the rule is that of R. Tijdeman, "The chairman assignment problem", Discrete
//! Mathematics 32 (1980), 323-330: of the pools that have had few enough turns to take one more now, the one that
//! must have it first. A turn costs one pass over the pools.
//!
//! **By source.** Each pool draws a number from the client's address and the pool, weighted by its share, and the
//! largest wins: rendezvous hashing (D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates",
//! IEEE/ACM Transactions on Networking 6 (1998)), where `u` of 0 to 1 with a share counts as `share / -ln(u)`: the least
//! of exponential variables is that of a rate in proportion to the rate. A changed share moves only the clients that
//! the pool gains or loses by it. The numbers depend on the names of the pools alone, so all proxies agree.

use std::net::IpAddr;

use contract::{Split, SplitBy};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Target;
use crate::ids::PoolId;

/// The turns that each pool of one split has had.
#[derive(Debug, Default)]
pub(super) struct SplitTurns {
    /// In the order of the shares. They start over when all have had their shares exactly.
    had: Box<[u64]>,
}

impl SplitTurns {
    pub(super) fn new(split: &Split<Target>) -> SplitTurns {
        SplitTurns {
            had: split.shares.iter().map(|_| 0).collect(),
        }
    }

    /// The pool of the next session or flow of a client at `ip`.
    #[inline]
    pub(super) fn next(&mut self, split: &Split<Target>, ip: IpAddr) -> PoolId {
        match (&*split.shares, split.by) {
            ([(only, _)], _) => only.pool,
            (_, SplitBy::Turn) => self.next_in_turn(split),
            (_, SplitBy::Source) => of_source(split, ip),
        }
    }

    fn next_in_turn(&mut self, split: &Split<Target>) -> PoolId {
        let share = |at: usize| u64::from(split.shares[at].1);
        let taking = || (0..split.shares.len()).filter(|at| share(*at) > 0);
        let sum: u64 = taking().map(share).sum();
        let turn: u64 = self.had.iter().sum::<u64>() + 1;
        // A turn is divided into so many parts that the numbers of the paper are whole: `2k - 2` for `k` pools.
        let parts = (2 * taking().count() as u64).saturating_sub(2).max(1);
        let due = |at: usize| share(at) * turn * parts;
        let had = |at: usize| self.had[at] * sum * parts;
        // Numbers stay below 2^59: 64 pools, shares of 10,000, and `had` never exceeds a share.
        let deadline = |at: usize| had(at) + sum * (parts - 1);
        let is_earlier =
            |at: usize, than: usize| deadline(at) * share(than) < deadline(than) * share(at);
        let may = taking().filter(|at| due(*at) >= had(*at) + sum);
        let next = may.reduce(|best, at| if is_earlier(at, best) { at } else { best });
        let next = next.expect("one pool may have its turn, by the theorem");
        self.had[next] += 1;
        if turn == sum {
            self.had.fill(0);
        }
        split.shares[next].0.pool
    }
}

fn of_source(split: &Split<Target>, ip: IpAddr) -> PoolId {
    let octets = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let drawn = |(target, share): &(Target, u16)| -> f64 {
        // Above 0 and below 1.
        let drawn = (xxh3_64_with_seed(&octets, target.seed) >> 11) as f64 + 0.5;
        f64::from(*share) / -(drawn / (1_u64 << 53) as f64).ln()
    };
    let mut best = (PoolId::NONE, 0.0);
    for one in &split.shares {
        let drawn = drawn(one);
        if drawn > best.1 {
            best = (one.0.pool, drawn);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use contract::Name;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Names;

    fn split(shares: &[u16], by: SplitBy) -> Split<Target> {
        let mut names: Names<PoolId, ()> = Names::default();
        let shares = shares.iter().enumerate().map(|(at, share)| {
            let name = Name::new(&format!("pool-{at}")).expect("a name");
            (Target::new(names.intern(&name, |_| ()), &name), *share)
        });
        Split {
            shares: shares.collect(),
            by,
        }
    }

    fn place(split: &Split<Target>, pool: PoolId) -> usize {
        let place = split
            .shares
            .iter()
            .position(|(target, _)| target.pool == pool);
        place.expect("a pool of the split")
    }

    proptest! {
        #[test]
        fn after_any_number_of_turns_each_pool_has_had_its_share_give_or_take_less_than_one(
            shares in proptest::collection::vec(prop_oneof![0_u16..4, 0_u16..100, 9_990_u16..=10_000], 1..12),
            turns in 1_u64..2_000,
        ) {
            prop_assume!(shares.iter().any(|share| *share > 0));
            let split = split(&shares, SplitBy::Turn);
            let sum: u64 = shares.iter().map(|share| u64::from(*share)).sum();
            let mut state = SplitTurns::new(&split);
            let mut had = vec![0_u64; shares.len()];
            for turn in 1..=turns {
                had[place(&split, state.next(&split, Ipv4Addr::LOCALHOST.into()))] += 1;
                for (had, share) in had.iter().zip(&shares) {
                    let off = (had * sum).abs_diff(u64::from(*share) * turn);
                    prop_assert!(off < sum, "turn {turn}: had {had} of share {share} in {sum}");
                }
            }
        }
    }

    #[test]
    fn a_source_keeps_its_pool_and_a_changed_share_moves_only_what_it_must() {
        const CLIENTS: u32 = 20_000;
        let of = |shares: &[u16]| -> Vec<usize> {
            let split = split(shares, SplitBy::Source);
            let clients = (0..CLIENTS).map(|at| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + at)));
            let mut turns = SplitTurns::new(&split);
            clients
                .map(|ip| place(&split, turns.next(&split, ip)))
                .collect()
        };
        let before = of(&[90, 10, 0]);
        assert_eq!(before, of(&[90, 10, 0]));
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        before
            .iter()
            .for_each(|at| *counts.entry(*at).or_default() += 1);
        let share = |at: usize| f64::from(*counts.get(&at).unwrap_or(&0)) / f64::from(CLIENTS);
        assert!(
            (share(0) - 0.9).abs() < 0.01 && share(2) == 0.0,
            "{counts:?}"
        );
        let after = of(&[90, 30, 0]);
        let moved: Vec<(usize, usize)> = before
            .iter()
            .copied()
            .zip(after)
            .filter(|(a, b)| a != b)
            .collect();
        assert!(
            moved.iter().all(|pair| *pair == (0, 1)),
            "only to the pool that gained"
        );
        // From 10 % to 25 %.
        let moved = moved.len() as f64 / f64::from(CLIENTS);
        assert!((moved - 0.15).abs() < 0.01, "{moved}");
    }
}
