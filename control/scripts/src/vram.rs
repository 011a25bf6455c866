//! How much GPU memory a stream of small requests holds, each on its own or in one batch.
//!
//! The model is as small as the point that it makes. A request that runs on its own brings a
//! workspace of its own, one share of the memory; requests in one batch use one workspace. What an
//! interval brought is freed over the next ones, half of what is left in each.

/// What arrives within this time is one batch.
pub const BATCH_WINDOW_MS: u16 = 10;

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

    pub fn other(self) -> Mode {
        match self {
            Mode::NoBatch => Mode::Batch,
            Mode::Batch => Mode::NoBatch,
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

/// What a run of intervals has cost so far.
#[derive(Debug, Clone)]
pub struct Bill {
    mode: Mode,
    vram: Vram,
    intervals: u32,
    requests: u32,
    shares: u32,
    usage_sum: f64,
    peak: f64,
}

impl Bill {
    pub fn new(mode: Mode) -> Bill {
        Bill {
            mode,
            vram: Vram::default(),
            intervals: 0,
            requests: 0,
            shares: 0,
            usage_sum: 0.0,
            peak: 0.0,
        }
    }

    /// One interval passes and brings `requests`. False if they do not all fit.
    pub fn take(&mut self, requests: u16) -> bool {
        let shares = self.mode.shares(requests);
        let all_fit = self.vram.take(shares);
        self.intervals += 1;
        self.requests += u32::from(requests);
        self.shares += u32::from(shares);
        self.usage_sum += self.usage();
        self.peak = self.peak.max(self.usage());
        all_fit
    }

    /// The share in use now, 0 to 1.
    pub fn usage(&self) -> f64 {
        self.vram.usage()
    }

    /// In one line; of nothing before the first interval.
    pub fn line(&self) -> String {
        let percent = |sum: f64, count: u32| 100.0 * sum / f64::from(count.max(1));
        format!(
            "{:>7}: {} requests took {} shares, {:.1}% of VRAM each; VRAM in use: {:.0}% on average, {:.0}% at the peak",
            self.mode.name(),
            self.requests,
            self.shares,
            percent(f64::from(self.shares) * SHARE, self.requests),
            percent(self.usage_sum, self.intervals),
            percent(self.peak, 1),
        )
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
    fn a_bill_says_what_each_request_cost_and_how_full_it_got() {
        for (mode, shares, each, peak) in [
            (
                Mode::NoBatch,
                "100 shares",
                "8.0% of VRAM each",
                "90% at the peak",
            ),
            (
                Mode::Batch,
                "20 shares",
                "1.6% of VRAM each",
                "26% at the peak",
            ),
        ] {
            let mut bill = Bill::new(mode);
            for _ in 0..20 {
                assert!(bill.take(5));
            }
            let line = bill.line();
            for part in ["100 requests", shares, each, peak] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        assert!(Bill::new(Mode::Batch).line().contains("0 requests took 0"));
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        for (share, full) in [(0.0, 0), (0.5, 20), (1.0, 40), (7.0, 40), (-1.0, 0)] {
            let bar = bar(share);
            assert_eq!((bar.len(), bar.matches('#').count()), (40, full), "{share}");
        }
    }
}
