//! Round robin in proportion to shares, over all workers: a session draws a ticket, and the ticket's
//! number says whose turn it is. The order of turns never changes once it is built, so the workers
//! share one counter and nothing else.
//!
//! **Order.** Candidates of equal share form a class and take turns within it. Classes hang in a
//! binary tree; a fork whose left side has `a` of its `a + b` shares gives its turn `t` to the left
//! where `floor((t * a + offset) / (a + b))` rises from `t` to `t + 1`. That is a Sturmian word, the most
//! even one of two letters: as many turns as you like in a row hold what the left should have,
//! rounded up or down. Huffman's tree (1952) keeps the large shares near the root, so that their
//! turns are spread most evenly. A pick costs O(log n), in a pool of equal shares O(1).
//!
//! **Exact split.** Of any `sum / gcd` tickets in a row, each candidate gets exactly `share / gcd`: a
//! fork splits such a row exactly, whatever its offset, and passes exact rows on to both sides.
//!
//! **Reload.** The books say how far each candidate is behind: what it should have had minus the
//! turns it had. A new order begins at the next ticket with the books of the old one, by address: a
//! class begins with the member that is furthest behind, and a fork's offset is what its left side
//! is behind its right one, plus one half. Where nothing has changed, that is the old order. What
//! an offset cannot hold (a turn and more) stays in the books for the next reload. A newcomer is
//! behind nobody. So no backend gains or loses by reloads, however often they come. Tickets drawn
//! between the building of an order and its arrival at a worker follow the old order and are booked
//! by the new one: at most as many as are drawn in that time, and none where nothing has changed.
//!
//! **Precision.** Turns are integers. The books count in 2^-32 of a turn and are rounded by less than
//! that at a reload, by nothing at the end of a cycle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::candidate::Candidate;
use super::{BackendIndex, Request};

/// One turn in the fixed-point numbers of the books.
const TURN: i64 = 1 << 32;
/// So many tickets a pick draws in vain, each the turn of a backend that it must not take, before it
/// takes whom it finds.
const MOST_DRAWN: usize = 8;

/// The rotation of a pool and protocol, in one snapshot.
#[derive(Debug)]
pub(super) struct Rotation {
    tickets: Arc<Tickets>,
    /// The ticket that is the order's first turn.
    first: u64,
    order: Order,
}

/// The only word of a pick that several workers write: once a session or flow. So it has its cache
/// line, and the one beside it that processors fetch along, for itself.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Tickets(AtomicU64);

impl Rotation {
    pub(super) fn new(candidates: &[Candidate]) -> Rotation {
        Rotation {
            tickets: Arc::default(),
            first: 0,
            order: Order::new(candidates, &vec![0; candidates.len()]),
        }
    }

    /// The rotation of new candidates that goes on where this one stands. `successors` gives for
    /// each backend of before its position in `candidates`, where it is still there.
    pub(super) fn followed(
        &self,
        candidates: &[Candidate],
        successors: &[Option<u32>],
    ) -> Rotation {
        let first = self.tickets.0.load(Relaxed);
        let mut behind = vec![0; candidates.len()];
        let mut survivors = Vec::new();
        for (backend, lag) in self.order.books(first - self.first) {
            if let Some(position) = successors[backend.0 as usize] {
                behind[position as usize] = lag;
                survivors.push(position as usize);
            }
        }
        // Those who left took along what they were behind or ahead; the others share it.
        let sum: i64 = behind.iter().sum();
        let shares = |at: &usize| i64::from(candidates[*at].share);
        let all_shares: i64 = survivors.iter().map(shares).sum();
        for at in &survivors {
            let part = i128::from(sum) * i128::from(shares(at));
            // `survivors` is not empty here, and shares are above 0.
            behind[*at] -= part.div_euclid(i128::from(all_shares)) as i64;
        }
        Rotation {
            tickets: Arc::clone(&self.tickets),
            first,
            order: Order::new(candidates, &behind),
        }
    }

    /// The candidate whose turn it is and that has not been tried.
    pub(super) fn pick(&self, request: &Request<'_>) -> Option<BackendIndex> {
        let members = &self.order.members;
        if members.is_empty() {
            return None;
        }
        let mut turn = 0;
        for _ in 0..MOST_DRAWN {
            turn = self
                .tickets
                .0
                .fetch_add(1, Relaxed)
                .wrapping_sub(self.first);
            let next = self.order.at(turn);
            if !request.has_tried(next) {
                return Some(next);
            }
        }
        // What was tried has nearly all shares. Each session begins to look at another place.
        let (before, from) = members.split_at((turn % members.len() as u64) as usize);
        let mut others = from.iter().chain(before).copied();
        others.find(|&one| !request.has_tried(one))
    }
}

#[derive(Debug)]
struct Order {
    /// After so many turns it begins again.
    cycle: u64,
    root: Branch,
    forks: Box<[Fork]>,
    classes: Box<[Class]>,
    /// Class by class, in the order of their turns.
    members: Box<[BackendIndex]>,
    /// By how many turns each member was behind at the first turn, in units of [`TURN`].
    behind: Box<[i64]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Branch {
    Class(u32),
    Fork(u32),
}

/// Members of equal share.
#[derive(Debug, Clone, Copy)]
struct Class {
    first: u32,
    len: u32,
    share: u32,
}

#[derive(Debug, Clone, Copy)]
struct Fork {
    left: Branch,
    right: Branch,
    left_shares: u32,
    /// Of both sides.
    shares: u32,
    /// Below `shares`.
    offset: u32,
}

/// A side of a fork to be.
#[derive(Debug, Clone, Copy)]
struct Side {
    branch: Branch,
    shares: u32,
    /// The sum of its members'.
    behind: i64,
}

impl Fork {
    fn join(left: Side, right: Side) -> Fork {
        let shares = left.shares + right.shares;
        let ahead_of = |one: Side, other: Side| i128::from(one.behind) * i128::from(other.shares);
        let owed = ahead_of(left, right) - ahead_of(right, left);
        let owed = (owed + i128::from(TURN / 2)).div_euclid(i128::from(TURN));
        let offset = i128::from(shares / 2) + owed;
        Fork {
            left: left.branch,
            right: right.branch,
            left_shares: left.shares,
            shares,
            offset: offset.clamp(0, i128::from(shares - 1)) as u32,
        }
    }

    /// How many of the fork's first `turns` go to the left, and whether the next one does.
    fn left_of(&self, turns: u64) -> (u64, bool) {
        // Turns of a cycle and shares are below 2^32 each.
        let (left, shares) = (u64::from(self.left_shares), u64::from(self.shares));
        let units = turns * left + u64::from(self.offset);
        (units / shares, units % shares + left >= shares)
    }
}

impl Order {
    /// `behind` is by position in `candidates`.
    fn new(candidates: &[Candidate], behind: &[i64]) -> Order {
        let mut positions: Vec<usize> = (0..candidates.len()).collect();
        // Stable, so that equals keep the order of the file.
        positions.sort_by_key(|&at| (candidates[at].share, Reverse(behind[at])));
        let mut order = Order {
            cycle: 0,
            root: Branch::Class(0),
            forks: Box::default(),
            classes: Box::default(),
            members: positions.iter().map(|&at| candidates[at].backend).collect(),
            behind: positions.iter().map(|&at| behind[at]).collect(),
        };
        let of_equal_share =
            |one: &usize, other: &usize| candidates[*one].share == candidates[*other].share;
        let mut first = 0;
        let classes = positions.chunk_by(of_equal_share).map(|members| {
            let len = members.len() as u32;
            let share = candidates[members[0]].share;
            first += len;
            Class {
                first: first - len,
                len,
                share,
            }
        });
        order.classes = classes.collect();
        order.plant();
        order
    }

    /// Builds the tree over the classes.
    fn plant(&mut self) {
        let mut sides: BinaryHeap<Reverse<(u32, Branch, i64)>> = (0..)
            .zip(&self.classes)
            .map(|(at, class)| {
                let shares = class.share * class.len;
                let behind = self.behind[class.range()].iter().sum();
                Reverse((shares, Branch::Class(at), behind))
            })
            .collect();
        let mut forks = Vec::new();
        let next = |sides: &mut BinaryHeap<_>| {
            let Reverse((shares, branch, behind)) = sides.pop()?;
            Some(Side {
                branch,
                shares,
                behind,
            })
        };
        while let Some(left) = next(&mut sides) {
            self.root = left.branch;
            self.cycle = u64::from(left.shares);
            let Some(right) = next(&mut sides) else {
                break;
            };
            let branch = Branch::Fork(forks.len() as u32);
            forks.push(Fork::join(left, right));
            sides.push(Reverse((
                left.shares + right.shares,
                branch,
                left.behind + right.behind,
            )));
        }
        self.forks = forks.into();
    }

    /// Whose turn it is. There are members.
    fn at(&self, turn: u64) -> BackendIndex {
        let mut turn = turn % self.cycle;
        let mut branch = self.root;
        loop {
            match branch {
                Branch::Class(at) => {
                    let class = self.classes[at as usize];
                    let member = u64::from(class.first) + turn % u64::from(class.len);
                    return self.members[member as usize];
                }
                Branch::Fork(at) => {
                    let fork = &self.forks[at as usize];
                    let (left, is_left) = fork.left_of(turn);
                    (branch, turn) = if is_left {
                        (fork.left, left)
                    } else {
                        (fork.right, turn - left)
                    };
                }
            }
        }
    }

    /// By how many turns each member is behind after so many turns.
    fn books(&self, turns: u64) -> impl Iterator<Item = (BackendIndex, i64)> {
        let mut behind = self.behind.clone();
        if self.cycle > 0 {
            // A whole cycle changes nothing.
            self.book(turns % self.cycle, &mut behind);
        }
        self.members.iter().copied().zip(behind)
    }

    fn book(&self, turns: u64, behind: &mut [i64]) {
        let mut branches = vec![(self.root, turns)];
        while let Some((branch, taken)) = branches.pop() {
            match branch {
                Branch::Fork(at) => {
                    let fork = &self.forks[at as usize];
                    let (left, _) = fork.left_of(taken);
                    branches.push((fork.left, left));
                    branches.push((fork.right, taken - left));
                }
                Branch::Class(at) => {
                    let class = self.classes[at as usize];
                    let fair = self.fair(turns, class.share);
                    let len = u64::from(class.len);
                    for (nth, lag) in (0..).zip(&mut behind[class.range()]) {
                        let had = taken / len + u64::from(nth < taken % len);
                        *lag += fair - had as i64 * TURN;
                    }
                }
            }
        }
    }

    /// What one of `share` should have of so many turns, less than a cycle; rounded down.
    fn fair(&self, turns: u64, share: u32) -> i64 {
        let units = turns * u64::from(share);
        let (whole, rest) = (units / self.cycle, units % self.cycle);
        (whole as i64) * TURN + (rest << 32).checked_div(self.cycle).unwrap_or(0) as i64
    }
}

impl Class {
    fn range(self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.len) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    fn rotation(shares: &[u32]) -> Rotation {
        Rotation::new(&candidates_with_shares(shares))
    }

    fn pick_except(rotation: &Rotation, tried: &[BackendIndex]) -> Option<u32> {
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried,
        };
        rotation.pick(&request).map(|picked| picked.0)
    }

    fn picks(rotation: &Rotation, count: usize) -> Vec<u32> {
        let pick = |_| pick_except(rotation, &[]).expect("there are candidates");
        (0..count).map(pick).collect()
    }

    /// The same backends with new shares.
    fn followed(rotation: &Rotation, shares: &[u32]) -> Rotation {
        let same: Vec<_> = (0..shares.len() as u32).map(Some).collect();
        rotation.followed(&candidates_with_shares(shares), &same)
    }

    /// By how many turns the count of a candidate may differ from its part of any row of turns.
    const MOST_OFF: f64 = 3.0;

    #[test]
    fn turns_are_spread_evenly() {
        let cases: [(&[u32], &[u32]); 4] = [
            (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
            (&[10, 30], &[1, 0, 1, 1, 1, 0, 1, 1]),
            (&[5, 1, 1], &[0, 1, 0, 0, 0, 2, 0]),
            (&[2, 6, 4], &[1, 2, 1, 0, 1, 2]),
        ];
        for (shares, expected) in cases {
            assert_eq!(
                picks(&rotation(shares), expected.len()),
                expected,
                "{shares:?}"
            );
        }
    }

    #[test]
    fn no_row_of_turns_is_far_from_the_shares() {
        let mut random = fastrand::Rng::with_seed(4);
        for round in 0..200 {
            let count = random.usize(1..40);
            let most = [2, 20, 1_000, 20_000][round % 4];
            let shares: Vec<u32> = (0..count).map(|_| random.u32(1..=most)).collect();
            let sum: u32 = shares.iter().sum();
            let rotation = rotation(&shares);
            // By how much each is ahead of its share; a row's error is the difference of two.
            let mut ahead = vec![0.0_f64; count];
            let (mut least, mut most) = (ahead.clone(), ahead.clone());
            for picked in picks(&rotation, 5_000) {
                for (at, share) in shares.iter().enumerate() {
                    ahead[at] -= f64::from(*share) / f64::from(sum);
                    ahead[at] += f64::from(u8::from(at == picked as usize));
                    least[at] = least[at].min(ahead[at]);
                    most[at] = most[at].max(ahead[at]);
                }
            }
            let off = most.iter().zip(&least).map(|(most, least)| most - least);
            let off = off.fold(0.0, f64::max);
            assert!(off < MOST_OFF, "{off}: {shares:?}");
        }
    }

    #[test]
    fn many_small_ones_do_not_crowd_out_a_large_one() {
        let mut shares = vec![1; 1000];
        shares.push(1000);
        let order = picks(&rotation(&shares), 2000);
        let mut large_turns = order.chunks(2).map(|two| two.contains(&1000));
        assert!(large_turns.all(|has_turn| has_turn));
    }

    #[test]
    fn a_counter_has_its_cache_lines_for_itself() {
        let tickets = Arc::new(Tickets::default());
        assert_eq!(size_of::<Tickets>(), 128);
        assert_eq!(Arc::as_ptr(&tickets).addr() % 128, 0);
    }

    #[test]
    fn any_backend_is_found_among_tried_ones() {
        let mut shares = vec![1; 100];
        shares[40] = 1_000_000;
        let rotation = rotation(&shares);
        assert_eq!(pick_except(&rotation, &[]), Some(40));
        // Other sessions meanwhile try others.
        let found = (0..2_000).map(|_| pick_except(&rotation, &[BackendIndex(40)]));
        let found: std::collections::HashSet<_> = found.collect();
        assert!(
            found.len() > 50 && !found.contains(&Some(40)),
            "{}",
            found.len()
        );
        let all: Vec<_> = (0..100).map(BackendIndex).collect();
        assert_eq!(pick_except(&rotation, &all[1..]), Some(0));
        assert_eq!(pick_except(&rotation, &all), None);
        assert_eq!(pick_except(&Rotation::new(&[]), &[]), None);
    }

    /// Where one refuses, the others take its sessions in turns.
    #[test]
    fn sessions_that_try_again_go_to_all_others_alike() {
        let rotation = rotation(&[1; 4]);
        let mut counts = [0; 4];
        for _ in 0..300 {
            let mut picked = pick_except(&rotation, &[]);
            if picked == Some(1) {
                picked = pick_except(&rotation, &[BackendIndex(1)]);
            }
            counts[picked.expect("three are left") as usize] += 1;
        }
        assert_eq!(counts, [100, 0, 100, 100]);
    }

    #[test]
    fn where_nothing_changes_the_order_goes_on() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..100 {
            let shares: Vec<u32> = (0..random.usize(1..10))
                .map(|_| random.u32(1..30))
                .collect();
            let (still, mut reloaded) = (rotation(&shares), rotation(&shares));
            for _ in 0..50 {
                let count = random.usize(..30);
                assert_eq!(picks(&still, count), picks(&reloaded, count), "{shares:?}");
                reloaded = followed(&reloaded, &shares);
            }
        }
    }

    #[test]
    fn a_weight_that_changes_all_the_time_is_still_served() {
        let mut rotation = rotation(&[10, 10, 10, 10]);
        let mut counts = [0; 4];
        for round in 0..4_000 {
            // 10 on average.
            rotation = followed(&rotation, &[10, 9 + round % 3, 10, 10]);
            counts[picks(&rotation, 1)[0] as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (998..=1002).contains(count)),
            "{counts:?}"
        );
    }

    /// As where a registration comes and goes, or health does.
    #[test]
    fn whoever_comes_and_goes_takes_nothing_from_the_others() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut rotation = rotation(&[10, 10, 10]);
        let mut counts = [0_u32; 3];
        for _ in 0..3_000 {
            let is_there = random.bool();
            let candidates = candidates_with_shares(&[10, 10, 10][..2 + usize::from(is_there)]);
            let successors = [Some(0), Some(1), is_there.then_some(2)];
            rotation = rotation.followed(&candidates, &successors);
            counts[picks(&rotation, 1)[0] as usize] += 1;
        }
        // A third of half of them at most: who has just come waits for half a turn.
        assert!(counts[0].abs_diff(counts[1]) <= 2, "{counts:?}");
        assert!((300..530).contains(&counts[2]), "{counts:?}");
    }

    /// With any tree over any shares, and a reload after each few turns.
    #[test]
    fn books_stay_small_over_many_reloads() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut rotation = rotation(&[10; 12]);
        for _ in 0..20_000 {
            picks(&rotation, random.usize(..5));
            let shares: Vec<u32> = (0..12).map(|_| random.u32(1..400)).collect();
            rotation = followed(&rotation, &shares);
            let most = rotation.order.behind.iter().map(|lag| lag.abs()).max();
            assert!(
                most.is_some_and(|most| most < 3 * TURN),
                "{most:?} {shares:?}"
            );
            let sum: i64 = rotation.order.behind.iter().sum();
            assert!(sum.abs() < 1 << 10, "{sum}");
        }
    }
}
