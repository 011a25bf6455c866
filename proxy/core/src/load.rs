//! What the pickers read of a backend at each pick, in one cache line: what is in flight there, and
//! what one session more costs, as a line over the load that is in flight.
//!
//! Workers write what is in flight, at transitions alone; the line is written off the data path
//! ([`crate::score`]), and by a worker that has just seen the backend fail.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use contract::GpuAware;

use crate::score::failures::Failures;
use crate::score::peak::PeakLatency;

/// See the [module](self).
#[derive(Debug)]
#[repr(align(64))]
pub struct Load {
    /// In flight, connecting ones included, over all workers: what least-connections ranks.
    pub(crate) sessions: AtomicU64,
    pub(crate) flows: AtomicU64,
    /// The sum of the [`Count`]s of both, kept only while a pool is metered ([`crate::meter`]): one
    /// word, so that a transition is one addition and a pick one read.
    counts: AtomicU64,
    /// The parts of a [`Line`] as bits. A pick may see some of one line and some of the next.
    slope: AtomicU32,
    base: AtomicU32,
    limit: AtomicU32,
    penalty: AtomicU32,
    /// Recent failures, from which the line is raised.
    pub failures: Failures,
    /// What `peak_ewma` compares.
    pub peak: PeakLatency,
}

/// What one session or flow counts for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Count {
    is_busy: bool,
    /// Of a busy one.
    thousandths: u16,
}

impl Count {
    pub(crate) const NONE: Count = Count {
        is_busy: false,
        thousandths: 0,
    };
    pub(crate) const BUSY: Count = Count {
        is_busy: true,
        thousandths: 1_000,
    };

    pub(crate) fn idle(parameters: &GpuAware) -> Count {
        Count {
            is_busy: false,
            thousandths: (parameters.idle_weight * 1_000.0) as u16,
        }
    }

    /// Busy ones above, thousandths below.
    fn packed(self) -> u64 {
        u64::from(self.is_busy) << 32 | u64::from(self.thousandths)
    }
}

/// The cost of one more session at load `n`: `slope * n + base`, and `penalty` more where `n` is
/// above `limit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// The cost of each unit of load.
    pub slope: f32,
    /// The cost of a session at a backend without load.
    pub base: f32,
    /// The load from which one session more is expected not to fit.
    pub limit: f32,
    /// What is added above `limit`.
    pub penalty: f32,
}

impl Default for Line {
    /// Nothing is known of the backend, and the least loaded is the best.
    fn default() -> Self {
        Line {
            slope: 1.0,
            base: 1.0,
            limit: f32::MAX,
            penalty: 0.0,
        }
    }
}

impl Line {
    /// The cost of one more session beside `load`.
    pub fn cost_at(&self, load: f32) -> f32 {
        let penalty = if load > self.limit { self.penalty } else { 0.0 };
        self.slope * load + self.base + penalty
    }
}

impl Default for Load {
    fn default() -> Self {
        let line = Line::default();
        Load {
            sessions: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            counts: AtomicU64::new(0),
            slope: bits(line.slope),
            base: bits(line.base),
            limit: bits(line.limit),
            penalty: bits(line.penalty),
            failures: Failures::default(),
            peak: PeakLatency::default(),
        }
    }
}

impl Load {
    /// The load in flight: a busy session or flow counts 1, an idle one less.
    pub fn in_flight(&self) -> f32 {
        // Signed, since processors convert no unsigned number in one go. Two million fit.
        self.counts.load(Relaxed) as i32 as f32 * 1e-3
    }

    /// Whether a session or flow is busy there.
    pub fn is_busy(&self) -> bool {
        self.counts.load(Relaxed) >> 32 > 0
    }

    /// One session or flow that counted `from` counts `to` from now on.
    pub(crate) fn recount(&self, from: Count, to: Count) {
        let change = to.packed().wrapping_sub(from.packed());
        self.counts.fetch_add(change, Relaxed);
    }

    /// The line as it was last written; a concurrent writer may have changed a part of it.
    pub fn line(&self) -> Line {
        Line {
            slope: get(&self.slope),
            base: get(&self.base),
            limit: get(&self.limit),
            penalty: get(&self.penalty),
        }
    }

    /// The cost of one more session.
    pub fn cost(&self) -> f32 {
        self.line().cost_at(self.in_flight())
    }

    /// A failure seen just now: it costs at once, not only when the line is drawn anew.
    pub fn failed(&self, now_ms: u64, parameters: &GpuAware) {
        self.add_to_base(self.failures.failed(now_ms, parameters));
    }

    /// Likewise, a session without an answer, which may be forgiven.
    pub fn left_unanswered(&self, now_ms: u64, parameters: &GpuAware) {
        self.add_to_base(self.failures.left_unanswered(now_ms, parameters));
    }

    /// A silence that may be a failure or not.
    pub fn doubted(&self, now_ms: u64, parameters: &GpuAware) {
        self.add_to_base(self.failures.doubted(now_ms, parameters));
    }

    fn add_to_base(&self, load: f32) {
        let rise = get(&self.slope) * load;
        let raised = |base| Some((f32::from_bits(base) + rise).to_bits());
        // `raised` never declines.
        let _ = self.base.fetch_update(Relaxed, Relaxed, raised);
    }

    /// Draws the line anew. `compute` is called again where a failure was seen meanwhile, so that
    /// the failure is not lost. Between this and a worker's own raise a failure may count twice,
    /// until the next line.
    pub(crate) fn draw(&self, mut compute: impl FnMut() -> Line) -> Line {
        let mut drawn = Line::default();
        let redraw = |_| {
            drawn = compute();
            Some(drawn.base.to_bits())
        };
        // `redraw` never declines.
        let _ = self.base.fetch_update(Relaxed, Relaxed, redraw);
        self.slope.store(drawn.slope.to_bits(), Relaxed);
        self.limit.store(drawn.limit.to_bits(), Relaxed);
        self.penalty.store(drawn.penalty.to_bits(), Relaxed);
        drawn
    }
}

fn bits(number: f32) -> AtomicU32 {
    AtomicU32::new(number.to_bits())
}

fn get(bits: &AtomicU32) -> f32 {
    f32::from_bits(bits.load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cache_line() {
        assert_eq!(size_of::<Load>(), 64);
    }

    #[test]
    fn a_failure_costs_before_the_next_line_and_survives_it() {
        let (load, parameters) = (Load::default(), GpuAware::default());
        assert_eq!(load.cost(), 1.0);
        load.failed(0, &parameters);
        assert_eq!(load.cost(), 3.0);
        let mut computed = 0;
        load.draw(|| {
            computed += 1;
            // A worker sees a failure while the first line is computed.
            if computed == 1 {
                load.failed(0, &parameters);
            }
            Line {
                base: 1.0 + load.failures.level(0, &parameters),
                ..Line::default()
            }
        });
        assert_eq!((computed, load.cost()), (2, 7.0));
    }

    #[test]
    fn counts_add_up_and_come_back_to_nothing() {
        let load = Load::default();
        let idle = Count::idle(&GpuAware::default());
        load.recount(Count::NONE, Count::BUSY);
        load.recount(Count::NONE, Count::BUSY);
        assert_eq!((load.in_flight(), load.is_busy()), (2.0, true));
        load.recount(Count::BUSY, idle);
        load.recount(Count::BUSY, Count::NONE);
        assert_eq!((load.in_flight(), load.is_busy()), (0.1, false));
        load.recount(idle, Count::NONE);
        assert_eq!((load.in_flight(), load.is_busy()), (0.0, false));
    }

    #[test]
    fn the_penalty_begins_above_the_limit() {
        let line = Line {
            slope: 2.0,
            base: 1.0,
            limit: 3.0,
            penalty: 10.0,
        };
        assert_eq!((line.cost_at(3.0), line.cost_at(4.0)), (7.0, 19.0));
    }
}
