//! Whom to probe when: each target, a member of a pool, once an interval, shorter or longer at random, at most one probe
//! of it at a time.
//!
//! Bound: no more than one probe a millisecond over all targets ([`SPACING_MS`]), so that ten
//! thousand backends cost a fraction of one core; their interval is stretched where it must be.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::ids::MemberId;

/// Between two first probes, and on average between any two.
const SPACING_MS: u64 = 1;

/// When each backend is probed. Never two probes of one backend at the same time.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeSet<(u64, MemberId)>,
    targets: HashMap<MemberId, Turn>,
    tickets: u64,
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    DueAt(u64),
    InFlight(Ticket),
}

/// Names one probe, so that the end of one from before a change is not taken for that of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// A probe to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The backend to probe.
    pub member: MemberId,
    /// To be given back with the outcome.
    pub ticket: Ticket,
}

/// How often a target has its turn.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the end of one probe to the begin of the next, on average.
    pub interval_ms: u64,
    /// How far each interval may differ from that, up or down, in percent of it.
    pub jitter_percent: u64,
}

impl Schedule {
    /// Probes these from now on. New ones have their first turn at once, one after the other; so have
    /// those that `restarts` names, and the others keep theirs.
    pub fn set_targets(
        &mut self,
        wanted: impl IntoIterator<Item = MemberId>,
        restarts: impl Fn(MemberId) -> bool,
        now_ms: u64,
    ) {
        self.targets.retain(|member, _| !restarts(*member));
        self.due.retain(|(_, member)| !restarts(*member));
        let mut gone: HashSet<MemberId> = self.targets.keys().copied().collect();
        let mut first_ms = now_ms;
        for member in wanted {
            if !gone.remove(&member) && !self.targets.contains_key(&member) {
                self.set_due(member, first_ms);
                first_ms += SPACING_MS;
            }
        }
        for member in gone {
            if let Some(Turn::DueAt(at_ms)) = self.targets.remove(&member) {
                self.due.remove(&(at_ms, member));
            }
        }
    }

    fn set_due(&mut self, member: MemberId, at_ms: u64) {
        self.targets.insert(member, Turn::DueAt(at_ms));
        self.due.insert((at_ms, member));
    }

    /// The next probe, if one is due.
    pub fn take_due(&mut self, now_ms: u64) -> Option<Job> {
        let (_, member) = *self.due.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        self.due.pop_first();
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.targets.insert(member, Turn::InFlight(ticket));
        Some(Job { member, ticket })
    }

    /// A probe has ended, and the next one of its target is due an interval later. Returns whether
    /// it still counts: not where the target was dropped or restarted meanwhile.
    pub fn ended(&mut self, job: Job, pace: Pace, now_ms: u64, random: &mut fastrand::Rng) -> bool {
        let counts = self.targets.get(&job.member) == Some(&Turn::InFlight(job.ticket));
        if counts {
            let interval_ms = pace.interval_ms.max(self.targets.len() as u64 * SPACING_MS);
            let jitter_ms = interval_ms * pace.jitter_percent / 100;
            let wait_ms = random.u64(interval_ms - jitter_ms..=interval_ms + jitter_ms);
            self.set_due(job.member, now_ms + wait_ms);
        }
        counts
    }

    /// When the next probe is due; `None` if there are no targets, or all their probes are in flight.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PoolId;

    fn member(number: u16) -> MemberId {
        MemberId {
            pool: PoolId::NONE,
            addr: contract::BackendAddr::new([10, 0, 0, 1].into(), number),
        }
    }

    const PACE: Pace = Pace {
        interval_ms: 1_000,
        jitter_percent: 10,
    };

    #[test]
    fn the_first_probes_go_out_at_once_and_one_after_the_other() {
        let mut schedule = Schedule::default();
        schedule.set_targets((0..3).map(member), |_| false, 50);
        assert_eq!(schedule.next_due_ms(), Some(50));
        assert_eq!(schedule.take_due(50).map(|job| job.member), Some(member(0)));
        assert_eq!(schedule.take_due(50), None);
        assert_eq!(schedule.take_due(52).map(|job| job.member), Some(member(1)));
        assert_eq!(schedule.take_due(52).map(|job| job.member), Some(member(2)));
        assert_eq!(schedule.take_due(u64::MAX), None, "all are in flight");
    }

    #[test]
    fn an_interval_passes_between_two_probes_and_a_reload_keeps_the_turn() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut schedule = Schedule::default();
        schedule.set_targets([member(1)], |_| false, 0);
        for round in 0..100 {
            let begun_ms = round * 10_000;
            let job = schedule.take_due(begun_ms).expect("it is due");
            assert!(schedule.ended(job, PACE, begun_ms, &mut random));
            schedule.set_targets([member(1)], |_| false, begun_ms + 100);
            let wait_ms = schedule.next_due_ms().expect("it stays") - begun_ms;
            assert!((900..=1_100).contains(&wait_ms), "{wait_ms}");
        }
    }

    #[test]
    fn a_probe_from_before_a_change_does_not_count() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut schedule = Schedule::default();
        schedule.set_targets([member(1)], |_| false, 0);
        let dropped = schedule.take_due(0).expect("due");
        schedule.set_targets([], |_| false, 0);
        assert!(!schedule.ended(dropped, PACE, 1, &mut random));
        schedule.set_targets([member(1)], |_| false, 2);
        let old = schedule.take_due(2).expect("due");
        schedule.set_targets([member(1)], |_| true, 3);
        let new = schedule.take_due(3).expect("due again");
        assert!(!schedule.ended(old, PACE, 4, &mut random));
        assert!(schedule.ended(new, PACE, 5, &mut random));
    }

    #[test]
    fn ten_thousand_targets_are_probed_at_most_once_a_millisecond() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut schedule = Schedule::default();
        schedule.set_targets((0..10_000).map(member), |_| false, 0);
        let mut probes = 0;
        for now_ms in 0..40_000 {
            while let Some(job) = schedule.take_due(now_ms) {
                probes += 1;
                schedule.ended(job, PACE, now_ms, &mut random);
            }
        }
        assert!((36_000..=44_000).contains(&probes), "{probes}");
    }
}
