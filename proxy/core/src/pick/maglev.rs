//! Consistent hashing of clients onto backends: D. E. Eisenbud et al., "Maglev: A Fast and Reliable
//! Software Network Load Balancer", NSDI 2016, section 3.4.
//!
//! Every backend walks its own pseudo-random permutation of the table's slots and takes the next
//! free one whenever it is its turn; with shares, a backend has `share / largest share` of a turn
//! each round. Every candidate gets a slot in the first round, so none is left without clients.
//! Invariant: the table depends on nothing but the set of (address, share), so proxies with the
//! same backends send a client to the same one, whatever the order in their files.

use std::net::IpAddr;

use contract::BackendAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::candidate::Candidate;
use super::{BackendIndex, Request};

/// Slots for up to [`SMALL_POOL`] candidates, a prime, as every walk must meet every slot.
const SMALL_SLOTS: u32 = 65_537;
/// Slots above that, a prime.
const LARGE_SLOTS: u32 = 655_373;
/// The most candidates of a small table: a hundred slots each, as the paper advises for an even
/// split.
const SMALL_POOL: usize = 655;
/// How often a client whose backend has been tried is hashed anew before the candidates are walked.
const MAX_REHASHES: u64 = 8;

// Fixed for ever: a change would move nearly every client of every user.
const OFFSET_SEED: u64 = 0x5749_434b_4554_0001;
const SKIP_SEED: u64 = 0x5749_434b_4554_0002;
const CLIENT_SEED: u64 = 0x5749_434b_4554_1000;

#[derive(Debug)]
pub(super) struct MaglevTable {
    slots: Box<[BackendIndex]>,
    /// All candidates by address.
    ring: Box<[BackendIndex]>,
}

/// The walk of one backend through the slots.
struct Walk {
    backend: BackendIndex,
    next: u32,
    skip: u32,
}

impl MaglevTable {
    pub(super) fn build(candidates: &[Candidate]) -> MaglevTable {
        let mut sorted = candidates.to_vec();
        sorted.sort_unstable_by_key(|candidate| candidate.addr);
        let ring: Box<[BackendIndex]> = sorted.iter().map(|one| one.backend).collect();
        // Backends of one share have their turns in the same rounds, so a round looks at shares, of
        // which there are few, and not at backends.
        sorted.sort_by_key(|candidate| std::cmp::Reverse(candidate.share));
        let size = if candidates.len() <= SMALL_POOL {
            SMALL_SLOTS
        } else {
            LARGE_SLOTS
        };
        let groups = sorted
            .chunk_by(|left, right| left.share == right.share)
            .map(|group| {
                let walks = group.iter().map(|one| Walk::new(one, size)).collect();
                (u64::from(group[0].share), walks)
            });
        MaglevTable {
            slots: fill(groups.collect(), size),
            ring,
        }
    }

    /// The backend of this client; where that has been tried, the same next one on every proxy.
    /// `None` where every candidate has been tried.
    pub(super) fn pick(&self, request: &Request<'_>) -> Option<BackendIndex> {
        if self.ring.is_empty() {
            return None;
        }
        let is_untried = |backend: &BackendIndex| !request.has_tried(*backend);
        let place = |attempt: u64, places: usize| {
            (client_hash(request.client_ip, attempt) % places as u64) as usize
        };
        let hashed = (0..=MAX_REHASHES).map(|attempt| self.slots[place(attempt, self.slots.len())]);
        hashed.into_iter().find(is_untried).or_else(|| {
            let (before, after) = self.ring.split_at(place(0, self.ring.len()));
            after.iter().chain(before).copied().find(is_untried)
        })
    }
}

impl Walk {
    fn new(candidate: &Candidate, size: u32) -> Walk {
        let identity = identity(candidate.addr);
        let hash = |seed| xxh3_64_with_seed(&identity, seed);
        Walk {
            backend: candidate.backend,
            next: (hash(OFFSET_SEED) % u64::from(size)) as u32,
            skip: (hash(SKIP_SEED) % u64::from(size - 1)) as u32 + 1,
        }
    }
}

/// `groups` holds the walks by share, the largest share first.
fn fill(mut groups: Vec<(u64, Vec<Walk>)>, size: u32) -> Box<[BackendIndex]> {
    let Some(&(largest, _)) = groups.first() else {
        return Box::default();
    };
    let mut slots = vec![BackendIndex(u32::MAX); size as usize];
    // A dozen slots are met for each one taken; their bits stay in the cache, the slots do not.
    let mut taken = Bits::clear(size);
    let mut free = size;
    // The largest share has a turn in every round, so the rounds are at most as many as the slots.
    for round in 0..u64::from(size) {
        for (share, walks) in &mut groups {
            if !has_turn(round, *share, largest) {
                continue;
            }
            for walk in walks {
                // Ends: the size is prime, so the walk meets every slot, and one is still free.
                while taken.contain(walk.next) {
                    walk.next = step(walk, size);
                }
                taken.set(walk.next);
                slots[walk.next as usize] = walk.backend;
                free -= 1;
                if free == 0 {
                    return slots.into();
                }
            }
        }
    }
    unreachable!("every round takes at least one of the {size} slots")
}

struct Bits(Vec<u64>);

impl Bits {
    fn clear(count: u32) -> Bits {
        Bits(vec![0; count.div_ceil(u64::BITS) as usize])
    }

    fn contain(&self, at: u32) -> bool {
        self.0[(at / u64::BITS) as usize] & (1 << (at % u64::BITS)) != 0
    }

    fn set(&mut self, at: u32) {
        self.0[(at / u64::BITS) as usize] |= 1 << (at % u64::BITS);
    }
}

/// Everyone in the first round, then `share` of every `largest` rounds, evenly spaced.
fn has_turn(round: u64, share: u64, largest: u64) -> bool {
    round == 0 || round * share / largest > (round - 1) * share / largest
}

fn step(walk: &Walk, size: u32) -> u32 {
    let next = walk.next + walk.skip;
    if next >= size { next - size } else { next }
}

fn identity(addr: BackendAddr) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip_bytes(addr.ip()));
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    bytes
}

fn client_hash(client_ip: IpAddr, attempt: u64) -> u64 {
    xxh3_64_with_seed(&ip_bytes(client_ip), CLIENT_SEED + attempt)
}

/// An IPv4 address and the same one mapped into IPv6 are one client.
fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    fn slots_of(table: &MaglevTable, candidates: usize) -> Vec<u32> {
        let mut counts = vec![0; candidates];
        for slot in &table.slots {
            counts[slot.0 as usize] += 1;
        }
        counts
    }

    #[test]
    fn slots_split_by_share_within_one_turn() {
        for shares in [vec![1; 7], vec![10, 30], vec![1, 5, 1000], vec![10; 1000]] {
            let candidates = candidates_with_shares(&shares);
            let counts = slots_of(&MaglevTable::build(&candidates), shares.len());
            let size: u32 = counts.iter().sum();
            let sum: u32 = shares.iter().sum();
            for (count, share) in counts.into_iter().zip(&shares) {
                let fair = f64::from(size) * f64::from(*share) / f64::from(sum);
                // One for the first round, one for the last, which may be incomplete.
                assert!((f64::from(count) - fair).abs() <= 2.0, "{count} for {fair}");
            }
        }
    }

    #[test]
    fn no_candidate_is_left_without_clients() {
        let mut shares = vec![1; 5_000];
        shares.extend([1000; 5_000]);
        let table = MaglevTable::build(&candidates_with_shares(&shares));
        assert!(
            slots_of(&table, shares.len())
                .iter()
                .all(|&slots| slots > 0)
        );
    }

    #[test]
    fn a_client_stays_where_it_was_in_every_release() {
        let table = MaglevTable::build(&candidates_with_shares(&[10, 30, 20]));
        let picked = (1..=8).map(|last| {
            let request = Request {
                client_ip: [192, 0, 2, last].into(),
                tried: &[],
            };
            table.pick(&request).expect("there are three").0
        });
        assert_eq!(picked.collect::<Vec<_>>(), [2, 0, 1, 1, 0, 1, 1, 1]);
    }
}
