//! The figures of one engine.

use serde_json::{Value, json};

/// The figures of one engine. An unknown one is `None`, never a guess.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Figures {
    /// Share of time that the GPU was busy, 0..=1.
    pub gpu_usage: Option<f64>,
    /// Share of memory in use, 0..=1: of the engine's own cache where it has one.
    pub vram_usage: Option<f64>,
    /// Requests that wait.
    pub queue: Option<u64>,
    /// Requests in progress.
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

/// One reading of a source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    pub figures: Figures,
    /// Why figures are `None` or incomplete although the source should have them.
    pub faults: Vec<String>,
    /// Oddities that affect no figure.
    pub warnings: Vec<String>,
}

/// The largest plausible count.
const MAX_COUNT: f64 = 1e9;

/// How far a value may lie outside its range and still count as the end of the range: programs divide,
/// subtract and round. A value beyond that means something else, such as a percentage, and is a fault.
pub const ROUNDING: f64 = 0.02;

/// A value that has to be a share; else the fault. `what` names it.
pub fn share(what: &str, value: f64) -> Result<f64, String> {
    match (-ROUNDING..=1.0 + ROUNDING).contains(&value) {
        true => Ok(value.clamp(0.0, 1.0)),
        false => Err(format!("{what}: found {value}, allowed: 0 to 1")),
    }
}

/// A value that has to be a count of requests; else the fault. `what` names it.
pub fn count(what: &str, value: f64) -> Result<u64, String> {
    match (-ROUNDING..=MAX_COUNT).contains(&value) {
        true => Ok(value.max(0.0).round() as u64),
        false => Err(format!("{what}: found {value}, allowed: 0 to {MAX_COUNT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_forgiven_and_everything_else_out_of_range_is_told() {
        for (value, expected) in [
            (0.5, 0.5),
            (-0.0, 0.0),
            (-0.01, 0.0),
            (-0.02, 0.0),
            (1.000_000_000_000_000_2, 1.0),
            (1.01, 1.0),
            (1.02, 1.0),
        ] {
            assert_eq!(share("a", value), Ok(expected), "{value}");
        }
        for (value, expected) in [(3.0, 3), (2.999_999, 3), (-0.01, 0), (1e9, 1_000_000_000)] {
            assert_eq!(count("a", value), Ok(expected), "{value}");
        }
        for bad in [f64::NAN, f64::INFINITY, -0.021, 1.021, -1.0, 98.0] {
            assert!(share("a", bad).is_err(), "{bad}");
        }
        for bad in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            -0.021,
            1e19,
        ] {
            assert!(count("a", bad).is_err(), "{bad}");
        }
    }
}
