//! The random variables of the model, from a generator that is given.

/// Log-normal, by its mean and its coefficient of variation.
#[derive(Debug, Clone, Copy)]
pub struct LogNormal {
    mu: f64,
    sigma: f64,
}

impl LogNormal {
    pub fn new(mean: f64, variation: f64) -> LogNormal {
        let variance = (1.0 + variation * variation).ln();
        LogNormal {
            mu: mean.ln() - variance / 2.0,
            sigma: variance.sqrt(),
        }
    }

    pub fn draw(&self, random: &mut fastrand::Rng) -> f64 {
        (self.mu + self.sigma * normal(random)).exp()
    }
}

/// Exponential, the time between arrivals of a Poisson process.
pub fn exponential(mean: f64, random: &mut fastrand::Rng) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// Standard normal, by Box and Muller (1958).
fn normal(random: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_variation_asked_for() {
        let mut random = fastrand::Rng::with_seed(4);
        for (mean, variation) in [(1.0, 1.5), (2.0, 0.5), (0.13, 0.6)] {
            let distribution = LogNormal::new(mean, variation);
            let draws: Vec<f64> = (0..400_000)
                .map(|_| distribution.draw(&mut random))
                .collect();
            let count = draws.len() as f64;
            let found = draws.iter().sum::<f64>() / count;
            let spread = draws.iter().map(|x| (x - found).powi(2)).sum::<f64>() / count;
            assert!((found / mean - 1.0).abs() < 0.02, "{found} for {mean}");
            let found = spread.sqrt() / found;
            assert!(
                (found / variation - 1.0).abs() < 0.05,
                "{found} for {variation}"
            );
        }
        let gaps: f64 = (0..100_000).map(|_| exponential(0.5, &mut random)).sum();
        assert!((gaps / 50_000.0 - 1.0).abs() < 0.02);
    }
}
