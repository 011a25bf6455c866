//! A figure of a GPU that drifts: a random walk with bounds.

use fastrand::Rng;

/// A share in use, within [`Gauge::LOWEST`] and [`Gauge::HIGHEST`] for ever.
#[derive(Debug, Clone)]
pub struct Gauge {
    share: f64,
    longest_step: f64,
}

impl Gauge {
    pub const LOWEST: f64 = 0.02;
    pub const HIGHEST: f64 = 0.98;

    /// How far a busy GPU's utilization moves between two reports.
    pub fn gpu(rng: &mut Rng) -> Gauge {
        Gauge::anywhere(0.12, rng)
    }

    /// Memory moves slower than utilization.
    pub fn vram(rng: &mut Rng) -> Gauge {
        Gauge::anywhere(0.05, rng)
    }

    fn anywhere(longest_step: f64, rng: &mut Rng) -> Gauge {
        let share = 0.2 + 0.5 * rng.f64();
        Gauge {
            share,
            longest_step,
        }
    }

    /// Moves by at most the longest step.
    pub fn drift(&mut self, rng: &mut Rng) {
        let step = (2.0 * rng.f64() - 1.0) * self.longest_step;
        self.share = (self.share + step).clamp(Gauge::LOWEST, Gauge::HIGHEST);
    }

    /// The share, to three decimals: more would be noise in a file that people read.
    pub fn share(&self) -> f64 {
        round(self.share)
    }
}

/// To three decimals.
pub fn round(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_moves_in_small_steps_and_stays_a_share() {
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let mut gauge = Gauge::gpu(&mut rng);
            let first = gauge.share();
            let mut farthest: f64 = 0.0;
            for _ in 0..5_000 {
                let before = gauge.share();
                gauge.drift(&mut rng);
                let after = gauge.share();
                assert!((Gauge::LOWEST..=Gauge::HIGHEST).contains(&after), "{after}");
                assert!(
                    (after - before).abs() <= 0.12 + 0.001,
                    "{before} to {after}"
                );
                farthest = farthest.max((after - first).abs());
            }
            assert!(farthest > 0.2, "it hardly moved: {farthest}");
        }
    }
}
