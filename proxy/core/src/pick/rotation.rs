//! Round robin in proportion to shares: the earliest deadline is next, as in weighted fair queueing.
//!
//! In virtual time a candidate of share `s` is due `s` times in each unit of time, its c-th turn at
//! `(phase + c) / s`, with a phase of its own from 0 to below 1. A lone candidate of its share has
//! phase 1/2, which is the order of Webster and Sainte-Lague; candidates of equal share spread
//! their phases, so that ten thousand small ones do not all come due at once between two turns of a
//! large one. A pick costs O(log n).
//!
//! **Exact split.** Every unit of time holds `s` turns of each candidate, whatever the phases, and
//! so does every part of it that the shares' common divisor gives: of any `sum / gcd` picks in a
//! row, each candidate gets exactly `share / gcd`.
//!
//! **Reload.** A rotation goes on where it stood. Time V is what the survivors have been given:
//! `sum(work - phase) / sum(share)`, so it needs no clock of its own and cannot drift from them
//! when others come and go. A survivor keeps the part of a turn that it waits for, `work - V *
//! share`: unchanged, its deadline stays; with a new share it waits no longer than that share asks,
//! however often the share changes. A newcomer waits its phase. At the end of a cycle all wait just
//! their phase, so that a change there leaves the next cycle exact.
//!
//! **Precision.** Work is counted in 2^-32 of a turn and deadlines are compared by
//! cross-multiplication, so between reloads nothing is rounded. A reload rounds each wait down by
//! less than 2^-32 of a turn, exactly nothing at the end of a cycle; after a million reloads that
//! is 0.0003 of a turn. Whole units of time are taken off all work when all have passed them, so
//! numbers stay small for ever.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use super::shares::Candidate;
use super::{BackendIndex, Request};

/// One turn in the fixed-point numbers of work and phase.
const TURN: i64 = 1 << 32;
/// Room for as many as a session may try.
const PASSED_CAPACITY: usize = 8;

#[derive(Debug)]
pub(super) struct Rotation {
    /// One entry a candidate, the earliest deadline first.
    due: BinaryHeap<Reverse<Due>>,
    /// Those that a pick passed over; empty between picks, kept for its memory.
    passed: Vec<Reverse<Due>>,
}

/// The next turn of a candidate, at virtual time `work / share`.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// The phase plus one [`TURN`] for each turn taken.
    work: i64,
    phase: i64,
    share: u32,
    backend: BackendIndex,
}

/// How far into a cycle a rotation begins, as a fraction: `worker` of `workers`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stagger {
    pub worker: usize,
    pub workers: usize,
}

impl Rotation {
    /// Begins `stagger` of a cycle late, so that the first sessions of several workers do not all
    /// go to one backend.
    pub fn new(candidates: &[Candidate], stagger: Stagger) -> Rotation {
        let mut members: HashMap<u32, i64> = HashMap::new();
        for candidate in candidates {
            *members.entry(candidate.share).or_default() += 1;
        }
        let cycles_per_unit = candidates.iter().fold(0, |all, one| gcd(all, one.share));
        let mut seen: HashMap<u32, i64> = HashMap::new();
        let due = candidates.iter().map(|candidate| {
            let nth = seen.entry(candidate.share).or_default();
            let phase = (2 * *nth + 1) * TURN / (2 * members[&candidate.share]);
            *nth += 1;
            let turns_a_cycle = i64::from(candidate.share / cycles_per_unit);
            let start = turns_a_cycle * TURN / stagger.workers as i64 * stagger.worker as i64;
            // The turns that come before the start.
            let turns = ((start - phase).max(0) as u64).div_ceil(TURN as u64) as i64;
            Due::new(candidate, phase + turns * TURN, phase)
        });
        Rotation::of(due.map(Reverse).collect())
    }

    fn of(due: Vec<Reverse<Due>>) -> Rotation {
        Rotation {
            passed: Vec::with_capacity(PASSED_CAPACITY),
            due: BinaryHeap::from(due),
        }
    }

    /// Goes on with new candidates. `successors` gives for each backend of before its position in
    /// `candidates`, where it is still there.
    pub fn adopt(
        &mut self,
        candidates: &[Candidate],
        successors: &[Option<u32>],
        stagger: Stagger,
    ) {
        let mut survivors: Vec<Option<Due>> = vec![None; candidates.len()];
        let mut time = Elapsed::default();
        for Reverse(due) in self.due.drain() {
            if let Some(position) = successors[due.backend.0 as usize] {
                time.count(&due);
                survivors[position as usize] = Some(due);
            }
        }
        if time.shares == 0 {
            *self = Rotation::new(candidates, stagger);
            return;
        }
        let time = time.divided();
        let largest = candidates.iter().map(|one| one.share).max().unwrap_or(0);
        let mut members: Vec<u32> = vec![0; largest as usize + 1];
        for (candidate, survivor) in candidates.iter().zip(&survivors) {
            members[candidate.share as usize] += u32::from(survivor.is_some());
        }
        let due = candidates.iter().zip(survivors).map(|(candidate, old)| {
            if let Some(old) = old {
                // Small: a candidate is never further ahead or behind than all turns of a cycle.
                let wait = old.work - time.given_to(old.share);
                return Due::new(candidate, wait, old.phase);
            }
            let nth = &mut members[candidate.share as usize];
            let phase = spread_phase(*nth);
            *nth += 1;
            Due::new(candidate, phase, phase)
        });
        *self = Rotation::of(due.map(Reverse).collect());
    }

    /// The candidate that is due and has not been tried; those passed over stay due.
    pub fn pick(&mut self, request: &Request<'_>) -> Option<BackendIndex> {
        while let Some(next) = self.due.peek() {
            if !request.has_tried(next.0.backend) {
                break;
            }
            self.passed.extend(self.due.pop());
        }
        let picked = self.due.peek_mut().map(|mut next| {
            next.0.work += TURN;
            next.0.backend
        });
        self.due.extend(self.passed.drain(..));
        self.take_off_whole_unit();
        picked
    }

    /// Once in as many picks as all shares together, so O(1) a pick.
    fn take_off_whole_unit(&mut self) {
        let first_is_past = |Reverse(due): &Reverse<Due>| due.work >= due.unit();
        if !self.due.peek().is_some_and(first_is_past) {
            return;
        }
        let mut all = std::mem::take(&mut self.due).into_vec();
        for Reverse(due) in &mut all {
            due.work -= due.unit();
        }
        // One unit less for each of them, so the order stays.
        self.due = BinaryHeap::from(all);
    }
}

/// The virtual time that survivors have been given, `work / shares`: a sum, and then a quotient.
#[derive(Debug, Default)]
struct Elapsed {
    work: i128,
    shares: i64,
}

/// `whole + rest / shares`. Taken apart once, so that each survivor costs a division of 64 bits: one
/// of 128 bits costs ten times as much, and there may be thousands.
#[derive(Debug)]
struct Divided {
    whole: i64,
    rest: i64,
    shares: i64,
}

impl Elapsed {
    fn count(&mut self, due: &Due) {
        self.work += i128::from(due.work - due.phase);
        self.shares += i64::from(due.share);
    }

    fn divided(&self) -> Divided {
        let shares = i128::from(self.shares);
        Divided {
            // Below two units of time, since whole units are taken off all work.
            whole: self.work.div_euclid(shares) as i64,
            rest: self.work.rem_euclid(shares) as i64,
            shares: self.shares,
        }
    }
}

impl Divided {
    /// `floor(time * share)`, the work that a candidate of `share` should have by now.
    fn given_to(&self, share: u32) -> i64 {
        let share = i64::from(share);
        self.whole * share + (self.rest * share).div_euclid(self.shares)
    }
}

impl Due {
    fn new(candidate: &Candidate, work: i64, phase: i64) -> Due {
        Due {
            work,
            phase,
            share: candidate.share,
            backend: candidate.backend,
        }
    }

    /// The work of one unit of time.
    fn unit(&self) -> i64 {
        i64::from(self.share) * TURN
    }
}

impl Ord for Due {
    /// By deadline; a tie goes to the first in the file.
    fn cmp(&self, other: &Self) -> Ordering {
        let ours = i128::from(self.work) * i128::from(other.share);
        let theirs = i128::from(other.work) * i128::from(self.share);
        ours.cmp(&theirs).then(self.backend.cmp(&other.backend))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

/// 1/2, 1/4, 3/4, 1/8, ...: van der Corput's sequence, which stays evenly spread however many come.
fn spread_phase(nth: u32) -> i64 {
    i64::from((nth + 1).reverse_bits())
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    const ALONE: Stagger = Stagger {
        worker: 0,
        workers: 1,
    };

    fn picks(rotation: &mut Rotation, count: usize) -> Vec<u32> {
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &[],
        };
        let pick = |_| rotation.pick(&request).expect("there are candidates").0;
        (0..count).map(pick).collect()
    }

    #[test]
    fn turns_come_in_the_order_of_webster() {
        let cases: [(&[u32], &[u32]); 4] = [
            (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
            (&[10, 30], &[1, 0, 1, 1, 1, 0, 1, 1]),
            (&[5, 1, 1], &[0, 1, 0, 0, 0, 2, 0]),
            (&[2, 6, 4], &[1, 2, 0, 1, 2, 1]),
        ];
        for (shares, expected) in cases {
            let mut rotation = Rotation::new(&candidates_with_shares(shares), ALONE);
            assert_eq!(picks(&mut rotation, expected.len()), expected, "{shares:?}");
        }
    }

    #[test]
    fn many_small_ones_do_not_crowd_out_a_large_one() {
        let mut shares = vec![1; 1000];
        shares.push(1000);
        let mut rotation = Rotation::new(&candidates_with_shares(&shares), ALONE);
        let order = picks(&mut rotation, 2000);
        let large_turns = order.chunks(2).map(|two| two.contains(&1000));
        assert!(large_turns.into_iter().all(|has_turn| has_turn));
    }

    #[test]
    fn workers_start_at_different_places_of_one_cycle() {
        let candidates = candidates_with_shares(&[1, 1, 1, 1]);
        let first = |worker| {
            let stagger = Stagger { worker, workers: 4 };
            picks(&mut Rotation::new(&candidates, stagger), 1)[0]
        };
        assert_eq!((0..4).map(first).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn work_stays_small_for_ever() {
        let mut rotation = Rotation::new(&candidates_with_shares(&[1, 1000, 7]), ALONE);
        picks(&mut rotation, 100_000);
        let is_small = |Reverse(due): &Reverse<Due>| due.work <= 2 * due.unit();
        assert!(rotation.due.iter().all(is_small));
    }

    #[test]
    fn a_candidate_that_was_passed_over_is_next() {
        let mut rotation = Rotation::new(&candidates_with_shares(&[1, 1, 1]), ALONE);
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &[BackendIndex(0)],
        };
        assert_eq!(rotation.pick(&request), Some(BackendIndex(1)));
        assert_eq!(picks(&mut rotation, 5), [0, 2, 0, 1, 2]);
    }

    #[test]
    fn a_weight_that_changes_all_the_time_is_still_served() {
        let mut rotation = Rotation::new(&candidates_with_shares(&[10, 10, 10, 10]), ALONE);
        let mut counts = [0; 4];
        for round in 0..4_000 {
            // 10 on average.
            let share = 9 + round % 3;
            let changed = candidates_with_shares(&[10, share, 10, 10]);
            rotation.adopt(&changed, &[Some(0), Some(1), Some(2), Some(3)], ALONE);
            counts[picks(&mut rotation, 1)[0] as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (990..=1010).contains(count)),
            "{counts:?}"
        );
    }
}
