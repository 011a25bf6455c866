//! How much GPU memory a stream of small requests holds, each on its own or in one batch.
//!
//! The model is as small as the point that it makes. A request that runs on its own brings a
//! workspace of its own, one share of the memory; requests in one batch use one workspace. What an
//! interval brought is freed over the next ones, half of what is left in each.

/// How small requests are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Each request on its own.
    #[value(name = "nobatch")]
    NoBatch,
    /// All requests of an interval in one batch.
    Batch,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::NoBatch => "nobatch",
            Mode::Batch => "batch",
        }
    }

    /// How many shares `requests` small requests cost.
    pub fn shares(self, requests: u16) -> u16 {
        match self {
            Mode::NoBatch => requests,
            Mode::Batch => requests.min(1),
        }
    }
}

/// What the model's weights hold, whatever is asked of it.
pub const WEIGHTS: f64 = 0.10;
/// One share: the workspace of one request or of one batch.
pub const SHARE: f64 = 0.08;
/// What is left after an interval of what was held before it.
pub const KEPT: f64 = 0.5;

/// The memory of one simulated GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vram {
    /// Held by requests, above [`WEIGHTS`].
    held: f64,
}

impl Vram {
    /// One interval passes and brings `shares`. False if they do not all fit: the memory is full
    /// then, and the rest waits outside of it.
    pub fn take(&mut self, shares: u16) -> bool {
        let wanted = self.held * KEPT + f64::from(shares) * SHARE;
        self.held = wanted.min(1.0 - WEIGHTS);
        wanted <= self.held
    }

    /// The share in use, 0 to 1.
    pub fn usage(&self) -> f64 {
        WEIGHTS + self.held
    }
}

/// The usage that a long run of `shares` an interval comes to.
pub fn settled_usage(shares: u16) -> f64 {
    (WEIGHTS + f64::from(shares) * SHARE / (1.0 - KEPT)).min(1.0)
}

/// The share as a bar of [`BAR_WIDTH`] characters.
pub fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64).round() as usize;
    format!("{}{}", "#".repeat(full), "-".repeat(BAR_WIDTH - full))
}

const BAR_WIDTH: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(intervals: usize, mode: Mode, requests: u16) -> f64 {
        let mut vram = Vram::default();
        for _ in 0..intervals {
            vram.take(mode.shares(requests));
        }
        vram.usage()
    }

    #[test]
    fn five_requests_cost_five_shares_unbatched_and_one_in_a_batch() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(after(1, Mode::NoBatch, 5), WEIGHTS + 5.0 * SHARE));
        assert!(close(after(1, Mode::Batch, 5), WEIGHTS + SHARE));
        assert!(close(after(1, Mode::Batch, 0), WEIGHTS));
    }

    #[test]
    fn the_default_load_shows_the_difference_plainly() {
        let (nobatch, batch) = (after(20, Mode::NoBatch, 5), after(20, Mode::Batch, 5));
        assert!(nobatch > 3.0 * batch, "{nobatch} against {batch}");
        assert!((nobatch - settled_usage(5)).abs() < 0.001, "{nobatch}");
        assert!((batch - settled_usage(1)).abs() < 0.001, "{batch}");
    }

    #[test]
    fn what_is_held_decays_and_never_leaves_0_to_1() {
        let mut vram = Vram::default();
        assert!(!vram.take(1000), "that much does not fit");
        assert_eq!(vram.usage(), 1.0);
        for _ in 0..60 {
            let before = vram.usage();
            assert!(vram.take(0));
            assert!(vram.usage() < before || vram.usage() - WEIGHTS < 1e-9);
        }
        assert!((vram.usage() - WEIGHTS).abs() < 1e-6);
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        for (share, full) in [(0.0, 0), (0.5, 20), (1.0, 40), (7.0, 40), (-1.0, 0)] {
            let bar = bar(share);
            assert_eq!((bar.len(), bar.matches('#').count()), (40, full), "{share}");
        }
    }
}
