//! What a run has shown.

use crate::statistics::quantile;

/// What became of the requests that arrived in the time that is looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Seconds from arrival to answer, of those that were answered; sorted.
    pub latencies: Vec<f64>,
    pub lost: usize,
    /// What their jobs took of VRAM, in parts of what each would have taken alone; where requests
    /// can be merged.
    pub vram_shares: Option<f64>,
}

impl Outcome {
    pub fn requests(&self) -> usize {
        self.latencies.len() + self.lost
    }

    pub fn lost_share(&self) -> f64 {
        self.lost as f64 / self.requests().max(1) as f64
    }

    /// Of the answered ones.
    pub fn quantile(&self, q: f64) -> f64 {
        quantile(&self.latencies, q).unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let outcome = Outcome {
            latencies: (1..=200).map(f64::from).collect(),
            lost: 50,
            vram_shares: None,
        };
        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|q| outcome.quantile(q));
        assert_eq!(quantiles, [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(outcome.lost_share(), 0.2);
        assert!(Outcome::default().quantile(0.5).is_nan());
    }
}
