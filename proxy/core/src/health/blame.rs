//! Whether sessions that a backend closed without an answer are its fault.
//!
//! Such a close may be the right answer to what a client sent, and some protocols end every session
//! so. What tells is how the other backends of the pool fare with the same clients. A refused
//! connect is no such question: no client can cause it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::latency::add;

/// How sessions with a backend ended that waited for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Ended after at least one byte of answer.
    pub answered: u64,
    /// Ended by the backend without a byte of answer.
    pub unanswered: u64,
}

/// The [`Answers`] of one backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record {
    /// Over the last few sessions.
    pub recent: Answers,
    /// Over a time in which a protocol shows its habit.
    pub long: Answers,
}

/// The [`Record`] of one backend as one worker counts it. Only that worker writes.
#[derive(Debug, Default)]
pub struct Tally {
    recent: [AtomicU64; 2],
    long: [AtomicU64; 2],
}

/// So many sources cannot all be strangers.
pub const ENOUGH_SOURCES: usize = 3;
/// Of fewer sources, at least this part of the sessions must fail.
const LEAST_SHARE: f64 = 0.5;
/// And always this many times the part that fails elsewhere.
const TIMES_WORSE: f64 = 2.0;
/// So many sessions are recent: with more, each counts half.
const MOST_RECENT: u64 = 16;
/// So many are remembered for long, likewise: what a pool did in other times says nothing of it.
const MOST_LONG: u64 = 1_024;
/// A share that nothing is known of is that of so many sessions.
const PRIOR_SESSIONS: f64 = 2.0;

impl Tally {
    /// Counts a session that was answered.
    pub fn answered(&self) {
        self.count(0);
    }

    /// Counts a session that the backend ended without an answer.
    pub fn unanswered(&self) {
        self.count(1);
    }

    fn count(&self, kind: usize) {
        for (counts, most) in [(&self.recent, MOST_RECENT), (&self.long, MOST_LONG)] {
            let now = counts.each_ref().map(|count| count.load(Relaxed));
            if now.iter().sum::<u64>() >= most {
                for (count, now) in counts.iter().zip(now) {
                    count.store(now / 2, Relaxed);
                }
            }
            add(&counts[kind], 1);
        }
    }

    fn record(&self) -> Record {
        let answers = |[answered, unanswered]: &[AtomicU64; 2]| Answers {
            answered: answered.load(Relaxed),
            unanswered: unanswered.load(Relaxed),
        };
        Record {
            recent: answers(&self.recent),
            long: answers(&self.long),
        }
    }
}

impl Record {
    /// Over all workers.
    pub fn of<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Record {
        tallies.fold(Record::default(), |sum, tally| {
            let record = tally.record();
            Record {
                recent: sum.recent.and(record.recent),
                long: sum.long.and(record.long),
            }
        })
    }
}

impl Answers {
    fn and(self, other: Answers) -> Answers {
        Answers {
            answered: self.answered + other.answered,
            unanswered: self.unanswered + other.unanswered,
        }
    }

    /// The part that was not answered, where [`PRIOR_SESSIONS`] more count with a share of `prior`.
    fn share(self, prior: f64) -> f64 {
        let unanswered = self.unanswered as f64 + PRIOR_SESSIONS * prior;
        unanswered / ((self.answered + self.unanswered) as f64 + PRIOR_SESSIONS)
    }
}

/// Whether a backend is to blame that leaves sessions unanswered, of which `sources` clients have
/// complained. `others` are the other backends of its pool.
///
/// The best of the others is what it is measured by: two black holes excuse each other else. Where
/// little is known of them, the history of the pool stands in: of a pool that is new, or that never
/// answers, nobody is to blame.
pub fn is_to_blame(own: &Record, others: &[Record], sources: usize) -> bool {
    let pool = others.iter().fold(own.long, |sum, one| sum.and(one.long));
    let habit = pool.share(0.5);
    let best = others.iter().map(|other| other.recent.share(habit));
    let best = best.reduce(f64::min).unwrap_or(habit);
    let share = own.recent.share(0.0);
    share >= TIMES_WORSE * best && (sources >= ENOUGH_SOURCES || share >= LEAST_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `answered` sessions and then `unanswered` ones, with one worker.
    fn record(answered: u64, unanswered: u64) -> Record {
        let tally = Tally::default();
        (0..answered).for_each(|_| tally.answered());
        (0..unanswered).for_each(|_| tally.unanswered());
        Record::of([&tally].into_iter())
    }

    #[test]
    fn a_backend_is_to_blame_where_others_fare_better_with_the_same_clients() {
        type Sessions = (u64, u64);
        let cases: [(&str, Sessions, &[Sessions], usize, bool); 13] = [
            ("a black hole", (0, 5), &[(5, 0), (5, 0)], 1, true),
            ("and a pool hardly known", (0, 5), &[(2, 0)], 1, true),
            (
                "a black hole among others",
                (0, 5),
                &[(0, 50), (5, 0)],
                1,
                true,
            ),
            (
                "after it has served for long",
                (9_000, 16),
                &[(9_000, 0)],
                1,
                true,
            ),
            ("the others idle by now", (9_000, 16), &[(0, 0)], 1, true),
            ("now and then, one client", (12, 5), &[(16, 0)], 1, false),
            ("now and then, three clients", (12, 5), &[(16, 0)], 3, true),
            ("garbage for all", (3, 13), &[(3, 13), (5, 11)], 3, false),
            (
                "garbage for all, after years",
                (9_000, 16),
                &[(9_000, 14), (9_000, 20)],
                3,
                false,
            ),
            ("a new pool", (0, 5), &[(0, 0), (0, 0)], 3, false),
            ("garbage and nothing else", (0, 16), &[(0, 14)], 1, false),
            (
                "no answers in this protocol",
                (0, 900),
                &[(0, 900)],
                3,
                false,
            ),
            ("hardly any", (9, 900), &[(9, 900), (0, 900)], 3, false),
        ];
        for (name, own, others, sources, expected) in cases {
            let record = |&(answered, unanswered): &Sessions| record(answered, unanswered);
            let others: Vec<Record> = others.iter().map(record).collect();
            let found = is_to_blame(&record(&own), &others, sources);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_recent_is_bounded_and_what_is_remembered_for_long_fades() {
        let bounded = record(1_000, 20);
        let recent = bounded.recent.answered + bounded.recent.unanswered;
        assert!(recent <= MOST_RECENT && bounded.recent.unanswered > bounded.recent.answered);
        assert_eq!(
            (bounded.long.answered, bounded.long.unanswered),
            (1_000, 20)
        );
        // A pool that answered nothing for years, and does now.
        let changed = record(0, 1_000_000);
        let tally = Tally::default();
        (0..1_000_000).for_each(|_| tally.unanswered());
        (0..3_000).for_each(|_| tally.answered());
        let (before, now) = (changed.long.share(0.0), Record::of([&tally].into_iter()));
        assert!(before > 0.9 && now.long.share(0.0) < 0.2, "{now:?}");
    }
}
