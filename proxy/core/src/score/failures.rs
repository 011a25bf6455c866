//! How a backend's recent failures count: as load that is not there. Each failure in a row adds
//! twice what the one before added, up to a cap, and half of it is forgiven every half-life.
//!
//! A backend that fails fast is always the least loaded, and attracts everything within a
//! millisecond (Google, "Site Reliability Engineering", chapter 20). So a failure counts at once,
//! written by whoever sees it; what is held of either kind stands in one word, so that it is never half
//! seen. The kinds are two, since a session without an answer may turn out to be no fault of the backend
//! (`docs/adr/0012`), while a refused connect is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::GpuAware;

/// See the [module](self). Of each kind, from the top: the level in 1/512 (16 bits), the failures in a
/// row (8), unix-free milliseconds of the last change (40).
#[derive(Debug, Default)]
pub struct Failures {
    certain: AtomicU64,
    /// Of sessions without an answer.
    unanswered: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Record {
    level: f32,
    /// Failures since the last success.
    in_a_row: u32,
    at_ms: u64,
}

const LEVEL_STEPS: f32 = 512.0;
const MAX_IN_A_ROW: u32 = u8::MAX as u32;
const TIME_MASK: u64 = (1 << 40) - 1;
/// A level below this is none, so that it decides no tie.
const FORGIVEN: f32 = 0.01;
/// What a silence costs that may be a failure or not.
const DOUBT: f32 = 0.5;

impl Failures {
    /// One more failure that is the backend's fault. Returns by how much the level rose.
    pub fn failed(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        let others = self.unanswered_record();
        raise(&self.certain, others, now_ms, parameters, |record| {
            // In a row with its like alone: what is forgiven later must not have doubled it.
            one_more(record.in_a_row, 0, parameters)
        })
    }

    /// One more session without an answer, which may be forgiven. Returns by how much the level rose.
    pub fn left_unanswered(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        let others = self.certain_record();
        raise(&self.unanswered, others, now_ms, parameters, |record| {
            one_more(record.in_a_row, others.in_a_row, parameters)
        })
    }

    /// Something that may be a failure or not. Returns by how much the level rose.
    pub fn doubted(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        let others = self.unanswered_record();
        raise(&self.certain, others, now_ms, parameters, |record| {
            (DOUBT, record.in_a_row)
        })
    }

    /// What comes next is no failure in a row any more. Costs two reads where there is none.
    pub fn succeeded(&self) {
        let drop_row = |packed| {
            let record = Record::unpack(packed);
            (record.in_a_row > 0).then(|| {
                Record {
                    in_a_row: 0,
                    ..record
                }
                .pack()
            })
        };
        for kind in [&self.certain, &self.unanswered] {
            // Nothing is lost where it stands at 0 already.
            let _ = kind.fetch_update(Relaxed, Relaxed, drop_row);
        }
    }

    /// No session without an answer was the backend's fault.
    pub fn forgive_unanswered(&self) {
        self.unanswered.store(0, Relaxed);
    }

    /// What failures add to the cost at `now_ms`, in sessions. It halves every `failure_half_life_ms`.
    pub fn level(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        let records = [self.certain_record(), self.unanswered_record()];
        let levels = records.map(|record| record.level_at(now_ms, parameters));
        levels.iter().sum()
    }

    /// Failures since the last answer.
    pub fn in_a_row(&self) -> u32 {
        self.certain_record().in_a_row + self.unanswered_record().in_a_row
    }

    fn certain_record(&self) -> Record {
        Record::unpack(self.certain.load(Relaxed))
    }

    fn unanswered_record(&self) -> Record {
        Record::unpack(self.unanswered.load(Relaxed))
    }
}

/// What one more failure adds after `in_a_row` of its kind and `others`, and those of its kind then.
fn one_more(in_a_row: u32, others: u32, parameters: &GpuAware) -> (f32, u32) {
    let in_a_row = (in_a_row + 1).min(MAX_IN_A_ROW);
    let before = (in_a_row + others).min(MAX_IN_A_ROW) - 1;
    (
        parameters.failure_cost as f32 * 2_f32.powi(before as i32),
        in_a_row,
    )
}

/// `rise` gives what is added, and the failures in a row then. The cap is one for this kind and `others`.
fn raise(
    kind: &AtomicU64,
    others: Record,
    now_ms: u64,
    parameters: &GpuAware,
    rise: impl Fn(&Record) -> (f32, u32),
) -> f32 {
    let cap = parameters.failure_cap as f32 - others.level_at(now_ms, parameters);
    let mut rose_by = 0.0;
    let next = |packed| {
        let record = Record::unpack(packed);
        let before = record.level_at(now_ms, parameters);
        let (added, in_a_row) = rise(&record);
        let level = (before + added).min(cap).max(before);
        rose_by = level - before;
        let risen = Record {
            level,
            in_a_row,
            at_ms: now_ms,
        };
        Some(risen.pack())
    };
    // `next` never declines.
    let _ = kind.fetch_update(Relaxed, Relaxed, next);
    rose_by
}

impl Record {
    fn pack(self) -> u64 {
        let level = (self.level * LEVEL_STEPS) as u16;
        u64::from(level) << 48 | u64::from(self.in_a_row) << 40 | self.at_ms & TIME_MASK
    }

    fn unpack(packed: u64) -> Record {
        Record {
            level: (packed >> 48) as f32 / LEVEL_STEPS,
            in_a_row: (packed >> 40 & 0xff) as u32,
            at_ms: packed & TIME_MASK,
        }
    }

    fn level_at(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        if self.level == 0.0 {
            return 0.0;
        }
        let age_ms = now_ms.saturating_sub(self.at_ms);
        let left = self.level * (-(age_ms as f32) / parameters.failure_half_life_ms as f32).exp2();
        if left < FORGIVEN { 0.0 } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_up_to_the_cap_and_halve_with_time() {
        let (failures, parameters) = (Failures::default(), GpuAware::default());
        let rises: Vec<f32> = (0..7)
            .map(|_| failures.failed(1_000, &parameters))
            .collect();
        assert_eq!(rises, [2.0, 4.0, 8.0, 16.0, 32.0, 2.0, 0.0]);
        assert_eq!(failures.level(1_000, &parameters), 64.0);
        assert_eq!(failures.level(6_000, &parameters), 32.0);
        assert_eq!(failures.level(1_000_000, &parameters), 0.0);
        assert_eq!(failures.level(0, &parameters), 64.0, "time went back");
    }

    #[test]
    fn a_success_ends_the_row_and_forgives_nothing() {
        let (failures, parameters) = (Failures::default(), GpuAware::default());
        failures.failed(0, &parameters);
        failures.failed(0, &parameters);
        failures.succeeded();
        assert_eq!(failures.level(0, &parameters), 6.0);
        assert_eq!(failures.failed(0, &parameters), 2.0);
        assert_eq!(failures.in_a_row(), 1);
    }

    #[test]
    fn only_sessions_without_an_answer_are_forgiven() {
        let (failures, parameters) = (Failures::default(), GpuAware::default());
        let rises = [
            failures.left_unanswered(0, &parameters),
            failures.left_unanswered(0, &parameters),
            failures.failed(0, &parameters),
            failures.left_unanswered(0, &parameters),
            failures.failed(0, &parameters),
        ];
        assert_eq!(rises, [2.0, 4.0, 2.0, 16.0, 4.0]);
        assert_eq!(
            (failures.level(0, &parameters), failures.in_a_row()),
            (28.0, 5)
        );
        failures.doubted(0, &parameters);
        failures.forgive_unanswered();
        assert_eq!(
            (failures.level(0, &parameters), failures.in_a_row()),
            (6.5, 2)
        );
        let rises = [(); 9].map(|()| failures.left_unanswered(0, &parameters));
        let cap = parameters.failure_cap as f32;
        assert_eq!(rises.iter().sum::<f32>() + 6.5, cap, "one cap for both");
        failures.succeeded();
        assert_eq!(failures.in_a_row(), 0);
    }

    #[test]
    fn doubt_weighs_little_and_does_not_double() {
        let (failures, parameters) = (Failures::default(), GpuAware::default());
        let rises: Vec<f32> = (0..3).map(|_| failures.doubted(0, &parameters)).collect();
        assert_eq!(rises, [0.5; 3]);
    }
}
