//! From what is known of a backend to what one session more costs there, with its parts, so that an
//! operator sees why a backend gets what it gets. Pure.

use contract::GpuAware;

use crate::load::Line;

/// Whether a backend is warm, as far as the cost goes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Warmth {
    /// It takes its whole share.
    #[default]
    Warm,
    /// It says that it warms up.
    Warming,
    /// It has ceased to; the part of the ramp that has passed, from 0 to 1.
    Ramp(f32),
}

/// A report, as it is worth now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reported {
    /// 1 while it is fresh, falling to 0.
    pub weight: f32,
    /// Since it was true.
    pub age_us: u64,
    /// Share of the VRAM in use, 0 to 1, if it says and that is believed.
    pub vram: Option<f32>,
    /// The part of the GPU that is busy with what is not ours, 0 to 1.
    pub foreign_gpu: f32,
    /// Our load there when it came.
    pub in_flight: f32,
    /// The share of VRAM that one session more takes, as learned.
    pub vram_per_load: f32,
}

/// All that decides a cost.
pub struct Inputs {
    /// In proportion to the mean of the pool.
    pub weight: f32,
    /// Whether it is warm.
    pub warmth: Warmth,
    /// What slow start leaves of its share, above 0 and up to 1.
    pub slow_start: f32,
    /// How many times longer it takes than the middle of the pool.
    pub slowness: f32,
    /// Answered requests behind `slowness`.
    pub samples: u64,
    /// [`Failures::level`](super::failures::Failures::level), in sessions.
    pub failures: f32,
    /// Our load there now.
    pub in_flight: f32,
    /// Its last report, if that is worth anything.
    pub report: Option<Reported>,
}

/// See [`Cost::of`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// What a pick reads.
    pub line: Line,
    /// The load that the parts were computed at.
    pub in_flight: f32,
    /// In proportion to the mean of the pool.
    pub weight: f32,
    /// How many times longer it takes than the middle of the pool.
    pub slowness: f32,
    /// Answered requests behind `slowness`.
    pub samples: u64,
    /// 1 when warm.
    pub warm_up: f32,
    /// In sessions.
    pub failures: f32,
    /// The share of VRAM in use with one session more, reckoned on from the report.
    pub vram_expected: Option<f32>,
    /// What full VRAM adds.
    pub vram: f32,
    /// What foreign work on the GPU adds.
    pub gpu: f32,
    /// What the report is worth, 0 to 1; 0 without one.
    pub report_weight: f32,
    /// Since the report was true.
    pub report_age_us: Option<u64>,
}

/// What a warming backend counts for, and how far its ramp begins.
const WARMING: f32 = 0.05;
const RAMP_BEGIN: f32 = 0.1;
/// Makes any other backend the better choice. Not infinite: among such, the load still decides.
const HELD_BACK: f32 = 1e6;

impl Cost {
    /// `(load + 1 + failures) / weight factor + report weight * (vram + gpu)`, the load being that
    /// at the time of the pick.
    pub fn of(inputs: &Inputs, parameters: &GpuAware) -> Cost {
        let warm_up = match inputs.warmth {
            Warmth::Warm => 1.0,
            Warmth::Warming => WARMING,
            Warmth::Ramp(passed) => passed.max(RAMP_BEGIN),
        };
        // A server that has just warmed up may be in slow start for it too; once is enough.
        let warm_up = f32::min(warm_up, inputs.slow_start);
        let slope = inputs.slowness / (inputs.weight * warm_up);
        let mut cost = Cost {
            line: Line {
                slope,
                base: slope * (1.0 + inputs.failures),
                ..Line::default()
            },
            in_flight: inputs.in_flight,
            weight: inputs.weight,
            slowness: inputs.slowness,
            samples: inputs.samples,
            warm_up,
            failures: inputs.failures,
            ..Cost::default()
        };
        if let Some(report) = &inputs.report {
            cost.add_report(report, parameters);
        }
        if inputs.warmth == Warmth::Warming {
            // At most one session, idle or busy.
            cost.line.limit = 0.0;
            cost.line.penalty = HELD_BACK;
        }
        cost
    }

    /// One session more costs less than at any other backend, and each further one what it would cost
    /// without this. The first failure makes it as expensive as an idle backend again.
    pub fn invite(&mut self) {
        let usual = self.line;
        let cost = usual.cost_at(self.in_flight);
        self.line = Line {
            slope: usual.slope,
            base: -usual.slope * (self.in_flight + 1.0),
            limit: self.in_flight,
            penalty: cost + usual.slope + usual.penalty,
        };
    }

    /// The part of new sessions that suits it, where they are drawn at random.
    pub fn share(&self) -> f32 {
        self.weight * self.warm_up / self.slowness
    }

    fn add_report(&mut self, report: &Reported, parameters: &GpuAware) {
        self.report_weight = report.weight;
        self.report_age_us = Some(report.age_us);
        self.gpu = parameters.gpu_cost as f32 * report.foreign_gpu;
        self.line.base += report.weight * self.gpu;
        let Some(vram) = report.vram else { return };
        let per_load = report.vram_per_load;
        let expected = vram + per_load * (self.in_flight - report.in_flight) + per_load;
        self.vram_expected = Some(expected);

        let (soft, full) = (parameters.vram_soft as f32, parameters.vram_full as f32);
        let (cost, hard_cost) = (
            parameters.vram_cost as f32,
            parameters.vram_hard_cost as f32,
        );
        let filled = (expected - soft) / (full - soft);
        self.vram = cost * filled.clamp(0.0, 1.0);
        // On the way from soft to full, a session more counts at once, not only at the next line.
        let rise = if 0.0 < filled && filled < 1.0 {
            cost * per_load / (full - soft)
        } else {
            0.0
        };
        self.line.slope += report.weight * rise;
        self.line.base += report.weight * (self.vram - rise * self.in_flight);

        let room = parameters.vram_hard as f32 - expected;
        self.line.penalty = report.weight * (hard_cost - cost).max(0.0);
        // Where a session takes nothing, there is room for all or for none.
        let loads = (room / per_load.max(1e-6)).clamp(-1e6, 1e6);
        self.line.limit = self.in_flight + loads;
        if room <= 0.0 {
            self.vram += (hard_cost - cost).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Inputs = Inputs {
        weight: 1.0,
        warmth: Warmth::Warm,
        slow_start: 1.0,
        slowness: 1.0,
        samples: 0,
        failures: 0.0,
        in_flight: 0.0,
        report: None,
    };
    const FRESH: Reported = Reported {
        weight: 1.0,
        age_us: 0,
        vram: None,
        foreign_gpu: 0.0,
        in_flight: 0.0,
        vram_per_load: 0.02,
    };

    #[track_caller]
    fn check(inputs: &Inputs, load: f32, expected: f32) {
        let cost = Cost::of(inputs, &GpuAware::default());
        let found = cost.line.cost_at(load);
        assert!(
            (found - expected).abs() < 1e-3,
            "{found} for {expected}: {cost:?}"
        );
    }

    #[test]
    fn an_invited_backend_is_the_cheapest_for_one_session() {
        let full = Reported {
            vram: Some(0.99),
            ..FRESH
        };
        for (in_flight, report) in [(0.0, None), (0.1, Some(full)), (3.0, Some(full))] {
            let inputs = Inputs {
                in_flight,
                report,
                ..IDLE
            };
            let mut cost = Cost::of(&inputs, &GpuAware::default());
            let usual = cost.line;
            cost.invite();
            let [now, then] = [in_flight, in_flight + 1.0].map(|load| cost.line.cost_at(load));
            assert!(now < 0.0, "{cost:?}");
            assert!(then >= usual.cost_at(in_flight + 1.0), "{cost:?}");
        }
    }

    #[test]
    fn without_reports_it_is_load_by_weight_and_speed() {
        check(&IDLE, 3.0, 4.0);
        check(
            &Inputs {
                weight: 2.0,
                ..IDLE
            },
            3.0,
            2.0,
        );
        check(
            &Inputs {
                slowness: 3.0,
                ..IDLE
            },
            3.0,
            12.0,
        );
        check(
            &Inputs {
                failures: 6.0,
                ..IDLE
            },
            3.0,
            10.0,
        );
    }

    #[test]
    fn vram_costs_from_soft_to_full_and_much_more_when_hard() {
        for (vram, in_flight, weight, expected) in [
            // One session more makes 0.80, where it begins to cost.
            (0.78, 0.0, 1.0, 1.0),
            (0.84, 0.0, 1.0, 2.0),
            (0.90, 0.0, 1.0, 3.0),
            (0.94, 0.0, 1.0, 3.0),
            (0.96, 0.0, 1.0, 19.0),
            (1.0, 0.0, 1.0, 19.0),
            // Reckoned on from the report.
            (0.78, 3.0, 1.0, 5.0),
            (0.78, 10.0, 1.0, 29.0),
            // What is stale counts for less.
            (0.96, 0.0, 0.5, 10.0),
        ] {
            let report = Reported {
                vram: Some(vram),
                weight,
                ..FRESH
            };
            check(
                &Inputs {
                    in_flight,
                    report: Some(report),
                    ..IDLE
                },
                in_flight,
                expected,
            );
        }
    }

    #[test]
    fn load_that_comes_before_the_next_line_counts_at_once() {
        let report = Reported {
            vram: Some(0.84),
            ..FRESH
        };
        let inputs = Inputs {
            report: Some(report),
            ..IDLE
        };
        // Two sessions later there are 0.90 expected, six later 0.98.
        check(&inputs, 2.0, 3.0 + 5.0 / 3.0);
        assert!(Cost::of(&inputs, &GpuAware::default()).line.cost_at(6.0) > 18.0);
    }

    #[test]
    fn foreign_work_on_the_gpu_costs_half() {
        let report = Reported {
            foreign_gpu: 0.8,
            ..FRESH
        };
        check(
            &Inputs {
                report: Some(report),
                ..IDLE
            },
            0.0,
            1.4,
        );
    }

    #[test]
    fn a_warming_backend_has_one_session_and_then_ramps_up() {
        let warming = Inputs {
            warmth: Warmth::Warming,
            ..IDLE
        };
        check(&warming, 0.0, 20.0);
        let line = Cost::of(&warming, &GpuAware::default()).line;
        assert!(line.cost_at(0.1) > 1e5, "an idle session is one, too");
        check(
            &Inputs {
                warmth: Warmth::Ramp(0.01),
                ..IDLE
            },
            0.0,
            10.0,
        );
        check(
            &Inputs {
                slow_start: 0.5,
                ..IDLE
            },
            0.0,
            2.0,
        );
        check(
            &Inputs {
                warmth: Warmth::Ramp(0.5),
                ..IDLE
            },
            0.0,
            2.0,
        );
    }
}
