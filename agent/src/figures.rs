//! What is read of one engine.

use serde_json::{Value, json};

/// The figures of one engine. What is not known is `None`, and never a guess.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Share of time that the GPU was busy, 0..=1.
    pub gpu_usage: Option<f64>,
    /// Share of memory in use, 0..=1: of the engine's own cache where it has one.
    pub vram_usage: Option<f64>,
    /// Requests that wait.
    pub queue: Option<u64>,
    /// Requests that are worked on.
    pub running: Option<u64>,
}

impl Figures {
    pub fn to_json(self) -> Value {
        json!({
            "gpu_usage": self.gpu_usage,
            "vram_usage": self.vram_usage,
            "queue": self.queue,
            "running": self.running,
        })
    }
}

/// One reading: the figures, and what is wrong with those that are `None` though the source should
/// have them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    pub figures: Figures,
    pub faults: Vec<String>,
}

/// The largest count that is believed.
const MAX_COUNT: f64 = 1e9;

/// A value that has to be a share; else the fault. `what` names it.
pub fn share(what: &str, value: f64) -> Result<f64, String> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => Err(format!("{what}: found {value}, allowed: 0 to 1")),
    }
}

/// A value that has to be a count of requests; else the fault. `what` names it.
pub fn count(what: &str, value: f64) -> Result<u64, String> {
    match (0.0..=MAX_COUNT).contains(&value) {
        true => Ok(value.round() as u64),
        false => Err(format!("{what}: found {value}, allowed: 0 to {MAX_COUNT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_told_and_not_bent() {
        assert_eq!(share("a", 0.5), Ok(0.5));
        assert_eq!(count("a", 3.0), Ok(3));
        for bad in [f64::NAN, f64::INFINITY, -0.01, 1.01, 98.0] {
            assert!(share("a", bad).is_err(), "{bad}");
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1e19] {
            assert!(count("a", bad).is_err(), "{bad}");
        }
    }
}
