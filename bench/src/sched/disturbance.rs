//! What happens to one of the servers in the middle of a run, and when.

use std::ops::Range;

use super::server::Server;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disturbance {
    None,
    /// The first server works at a quarter of its speed from 20 to 80 % of the run.
    Slow,
    /// The last server joins at 30 % of the run, and warms up. Only `gpu_aware` is told so; the
    /// others go by what they see, as balancers do that know no warm-up.
    Cold,
    /// The same, and all are told.
    ColdTold,
    /// Something else holds most of the first server's VRAM from 30 to 50 % of the run.
    BlackHole,
}

/// The part of a run that is left out at its start, until loads are what they tend to be.
const SETTLING: f64 = 0.1;

impl Disturbance {
    /// Seconds that a joining server says it warms up, and then takes to its full speed.
    pub const WARMING: f64 = 15.0;
    const RISING: f64 = 20.0;

    fn span(self) -> (f64, f64) {
        match self {
            Disturbance::None => (SETTLING, 1.0),
            Disturbance::Slow => (0.2, 0.8),
            Disturbance::Cold | Disturbance::ColdTold => (0.3, 1.0),
            Disturbance::BlackHole => (0.3, 0.5),
        }
    }

    pub fn is_on(self, passed: f64) -> bool {
        let (from, to) = self.span();
        // Events stand exactly at the ends.
        (from - 1e-9..to - 1e-9).contains(&passed)
    }

    /// The arrivals that are looked at, in a run of `duration` seconds.
    pub fn window(self, duration: f64) -> Range<f64> {
        let (from, to) = self.span();
        let from = from * duration;
        match self {
            Disturbance::None => from..f64::INFINITY,
            Disturbance::Slow | Disturbance::BlackHole => from..to * duration,
            Disturbance::Cold | Disturbance::ColdTold => {
                from..from + Disturbance::WARMING + Disturbance::RISING
            }
        }
    }

    /// When something changes; gradual changes in steps.
    pub fn changes_at(self, duration: f64, step: f64) -> Vec<f64> {
        let (from, to) = self.span();
        match self {
            Disturbance::None => Vec::new(),
            Disturbance::Slow | Disturbance::BlackHole => vec![from * duration, to * duration],
            Disturbance::Cold | Disturbance::ColdTold => {
                let steps = ((Disturbance::WARMING + Disturbance::RISING) / step) as usize;
                let at = |count: usize| from * duration + count as f64 * step;
                (0..=steps).map(at).collect()
            }
        }
    }

    /// Brings the first server to what is so after `passed` of the run; a joining one is no change
    /// of it.
    pub fn apply(self, first: &mut Server, passed: f64) {
        match self {
            Disturbance::None | Disturbance::Cold | Disturbance::ColdTold => {}
            Disturbance::Slow => first.pace = if self.is_on(passed) { 0.25 } else { 1.0 },
            Disturbance::BlackHole => first.held_vram = if self.is_on(passed) { 0.7 } else { 0.0 },
        }
    }

    /// Whether the last server is not there from the start.
    pub fn is_joining(self) -> bool {
        matches!(self, Disturbance::Cold | Disturbance::ColdTold)
    }

    /// Speed of the joining server, `age` seconds after its joining.
    pub fn pace_of_cold(age: f64) -> f64 {
        if age < Disturbance::WARMING {
            return 0.1;
        }
        let risen = (age - Disturbance::WARMING) / Disturbance::RISING;
        (0.4 + 0.6 * risen).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_server_rises_from_a_tenth_to_full_speed() {
        let pace = [0.0, 14.9, 15.0, 25.0, 35.0, 99.0].map(Disturbance::pace_of_cold);
        assert_eq!(pace, [0.1, 0.1, 0.4, 0.7, 1.0, 1.0]);
    }
}
