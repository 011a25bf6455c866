//! How a backend's recent failures count: as load that is not there. Each failure in a row adds
//! twice what the one before added, up to a cap, and half of it is forgiven every half-life.
//!
//! A backend that fails fast is always the least loaded, and attracts everything within a
//! millisecond (Google, "Site Reliability Engineering", chapter 20). So a failure counts at once,
//! written by whoever sees it; everything stands in one word, so that it is never half seen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::GpuAware;

/// From the top: the level in 1/512 (16 bits), the failures in a row (8), unix-free milliseconds of
/// the last change (40).
#[derive(Debug, Default)]
pub struct Failures(AtomicU64);

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
    /// One more failure. Returns by how much the level rose.
    pub fn failed(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        self.raise(now_ms, parameters, |record| {
            let in_a_row = (record.in_a_row + 1).min(MAX_IN_A_ROW);
            let doubled = 2_f32.powi(in_a_row as i32 - 1);
            (parameters.failure_cost as f32 * doubled, in_a_row)
        })
    }

    /// Something that may be a failure or not. Returns by how much the level rose.
    pub fn doubted(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        self.raise(now_ms, parameters, |record| (DOUBT, record.in_a_row))
    }

    /// What comes next is no failure in a row any more. Costs a read where there is none.
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
        // Nothing is lost where it stands at 0 already.
        let _ = self.0.fetch_update(Relaxed, Relaxed, drop_row);
    }

    /// None of them was the backend's fault.
    pub fn forgive(&self) {
        self.0.store(0, Relaxed);
    }

    pub fn level(&self, now_ms: u64, parameters: &GpuAware) -> f32 {
        Record::unpack(self.0.load(Relaxed)).level_at(now_ms, parameters)
    }

    pub fn in_a_row(&self) -> u32 {
        Record::unpack(self.0.load(Relaxed)).in_a_row
    }

    /// `rise` gives what is added, and the failures in a row then.
    fn raise(
        &self,
        now_ms: u64,
        parameters: &GpuAware,
        rise: impl Fn(&Record) -> (f32, u32),
    ) -> f32 {
        let mut rose_by = 0.0;
        let next = |packed| {
            let record = Record::unpack(packed);
            let before = record.level_at(now_ms, parameters);
            let (added, in_a_row) = rise(&record);
            let level = (before + added)
                .min(parameters.failure_cap as f32)
                .max(before);
            rose_by = level - before;
            let risen = Record {
                level,
                in_a_row,
                at_ms: now_ms,
            };
            Some(risen.pack())
        };
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
        rose_by
    }
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
    fn doubt_weighs_little_and_does_not_double() {
        let (failures, parameters) = (Failures::default(), GpuAware::default());
        let rises: Vec<f32> = (0..3).map(|_| failures.doubted(0, &parameters)).collect();
        assert_eq!(rises, [0.5; 3]);
    }
}
