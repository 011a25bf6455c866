//! What one more session at a backend costs, for `gpu_aware`: computed off the data path, on each
//! report and about every 100 ms, and written as a [line](crate::load::Line) over the load in
//! flight, so that a pick costs one multiplication and addition a backend.
//!
//! Reports are seconds old, and sending everybody where the last report saw least is worse than not
//! looking (M. Mitzenmacher, "How Useful Is Old Information?", IEEE TPDS 11(1), 2000; M. Dahlin,
//! "Interpreting Stale Load Information", ICDCS 1999). So what is live and ours ranks first, reports
//! are corrected by what was sent since, fade with age, and cost a bounded amount. What each part
//! means stands in [`cost`]; how it is learned in [`learned`].
//!
//! A backend that is left aside gets one session now and then, as a trial: see [`trial`].
//!
//! Invariants: every cost is finite, whatever was reported; no backend is excluded by its cost; what
//! is learned belongs to the backend and outlives reloads.

pub mod cost;
pub mod failures;
pub mod learned;
pub mod log2;
mod now;
pub mod peak;
pub mod trial;
pub mod witnessed;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use contract::{GpuAware, Pool};

use crate::backend::BackendState;
use crate::pick::BackendIndex;
use cost::{Inputs, Warmth};
use learned::{Observed, Traffic};
pub use now::Now;
use trial::PoolUse;

/// How often to score while somebody is busy.
pub const TICK_US: u64 = 100_000;
/// How often while nobody is, and only time changes costs.
const IDLE_TICK_US: u64 = 1_000_000;

/// Scores the candidates of one pool, in one snapshot.
#[derive(Debug)]
pub struct Scorer {
    parameters: GpuAware,
    scored: Box<[Scored]>,
    /// By backend index, the position in `scored`.
    positions: Box<[Option<u32>]>,
    /// Whether all candidates warm up: they are then all that there is, and nothing is held back.
    all_warm: bool,
    /// The latency of the pool's middle as of the last whole scoring, an `f32`; NaN: unknown.
    middle: AtomicU32,
    /// How far those have come in slow start that are furthest, likewise.
    furthest: AtomicU32,
    pool_use: Mutex<PoolUse>,
}

#[derive(Debug)]
struct Scored {
    index: BackendIndex,
    backend: Arc<BackendState>,
    /// In proportion to the mean of the pool.
    weight: f32,
    is_warming: bool,
}

impl Scorer {
    /// `is_candidate` says which of the pool's backends take new sessions. What `previous` knows of the
    /// pool's use goes on.
    pub fn new(
        previous: Option<&Scorer>,
        pool: &Pool,
        states: &[Arc<BackendState>],
        is_candidate: impl Fn(BackendIndex) -> bool,
    ) -> Scorer {
        let mut positions = vec![None; states.len()].into_boxed_slice();
        let mut scored = Vec::new();
        let indices = (0..).map(BackendIndex);
        for (index, (described, state)) in indices.zip(pool.backends.iter().zip(states)) {
            if is_candidate(index) {
                positions[index.0 as usize] = Some(scored.len() as u32);
                scored.push(Scored {
                    index,
                    backend: Arc::clone(state),
                    weight: f32::from(described.weight),
                    is_warming: described.is_warming_up,
                });
            }
        }
        let sum: f32 = scored.iter().map(|one| one.weight).sum();
        let mean = sum / scored.len().max(1) as f32;
        scored.iter_mut().for_each(|one| one.weight /= mean);
        let pool_use = previous.map(|previous| previous.use_among(&scored));
        Scorer {
            parameters: pool.gpu_aware,
            all_warm: scored.iter().all(|one| one.is_warming),
            scored: scored.into(),
            positions,
            middle: AtomicU32::new(f32::NAN.to_bits()),
            furthest: AtomicU32::new(1_f32.to_bits()),
            pool_use: Mutex::new(pool_use.unwrap_or_default()),
        }
    }

    /// The use of this pool, to go on among the backends of `scored`.
    fn use_among(&self, scored: &[Scored]) -> PoolUse {
        let places = (0..).zip(&self.scored);
        let places: HashMap<_, usize> = places.map(|(at, one)| (one.backend.addr, at)).collect();
        let place_before = scored
            .iter()
            .map(|one| places.get(&one.backend.addr).copied());
        let pool_use = self.pool_use.lock().unwrap_or_else(PoisonError::into_inner);
        pool_use.followed(place_before)
    }

    /// Scores all. `share` is told of each candidate what part of the sessions suits it.
    /// Returns in how many microseconds it is worth doing again; `None`: not before something
    /// happens.
    pub fn score_all(&self, now: Now, mut share: impl FnMut(BackendIndex, f32)) -> Option<u64> {
        let observed: Vec<Observed> = self
            .scored
            .iter()
            .map(|one| self.observe(one, now))
            .collect();
        self.count_use(&observed, now);
        let middle = middle(observed.iter().filter_map(|one| one.latency_log2));
        self.middle.store(middle.to_bits(), Relaxed);
        let ramps = self.scored.iter().map(|one| one.ramp(now));
        self.furthest
            .store(ramps.fold(0.0, f32::max).to_bits(), Relaxed);
        let mut next_us: Option<u64> = None;
        for (one, observed) in self.scored.iter().zip(&observed) {
            let cost = self.draw(one, observed, middle, now);
            let least = if observed.is_due { 1.0 } else { 0.0 };
            share(one.index, cost.share().max(least));
            let due_us = if one.backend.load().is_busy() {
                Some(TICK_US)
            } else if one.ramp(now) < 1.0 {
                Some(IDLE_TICK_US)
            } else {
                one.backend
                    .learned()
                    .changes_in_us(now, &self.parameters, IDLE_TICK_US)
            };
            next_us = next_us.into_iter().chain(due_us).min();
        }
        next_us
    }

    /// Tells the backends that are left aside how long the pool was used.
    fn count_use(&self, observed: &[Observed], now: Now) {
        let begun = observed.iter().map(|one| one.begun);
        let interval_us = self.parameters.trial_interval_ms * 1_000;
        let mut pool_use = self.pool_use.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_us = pool_use.passed(begun, interval_us, now.us);
        for (one, observed) in self.scored.iter().zip(observed) {
            if !observed.is_used {
                one.backend.learned().left_aside(passed_us);
            }
        }
    }

    /// Scores one backend, of which a report has just come, say. The rest of the pool stays as it is.
    /// `None` where it is no candidate.
    pub fn score_one(&self, backend: BackendIndex, now: Now) -> Option<cost::Cost> {
        let position = self.positions.get(backend.0 as usize).copied().flatten()?;
        let one = &self.scored[position as usize];
        let observed = self.observe(one, now);
        let middle = f32::from_bits(self.middle.load(Relaxed));
        Some(self.draw(one, &observed, middle, now))
    }

    fn observe(&self, one: &Scored, now: Now) -> Observed {
        let mut observed = one.backend.learned().observe(
            &traffic_of(&one.backend),
            one.is_warming,
            now,
            &self.parameters,
        );
        // With weights tuned to the true speeds, the middle is where all are.
        observed.latency_log2 = observed.latency_log2.map(|log2| log2 + one.weight.log2());
        observed
    }

    /// What slow start leaves of its share. It counts in relation to the others: where all are at the
    /// same place of it, there is nothing to protect one from by sending it to another.
    fn slow_start(&self, one: &Scored, now: Now) -> f32 {
        let furthest = f32::from_bits(self.furthest.load(Relaxed));
        (one.ramp(now) / furthest).min(1.0)
    }

    fn draw(&self, one: &Scored, observed: &Observed, middle: f32, now: Now) -> cost::Cost {
        let parameters = &self.parameters;
        let mut cost = cost::Cost::default();
        one.backend.load().draw(|| {
            let inputs = Inputs {
                weight: one.weight,
                warmth: if self.all_warm {
                    Warmth::Warm
                } else {
                    observed.warmth
                },
                slow_start: self.slow_start(one, now),
                slowness: observed.slowness(middle, parameters),
                samples: observed.samples,
                failures: one
                    .backend
                    .load()
                    .failures
                    .level(now.us / 1_000, parameters),
                in_flight: observed.in_flight,
                report: observed.report,
            };
            cost = cost::Cost::of(&inputs, parameters);
            if observed.is_due && inputs.warmth != Warmth::Warming {
                cost.invite();
            }
            cost.line
        });
        one.backend.learned().explained = Some(cost);
        cost
    }
}

impl Scored {
    fn ramp(&self, now: Now) -> f32 {
        self.backend.ramp(now.us / 1_000) as f32
    }
}

fn traffic_of(backend: &BackendState) -> Traffic {
    let (mut begun, mut latency_samples, mut latency_log2_sum) = (0_u64, 0_u64, 0_u64);
    for counters in backend.workers() {
        let sessions = counters.sessions_total.load(Relaxed);
        let flows = counters.flows_total.load(Relaxed);
        begun = begun.wrapping_add(sessions).wrapping_add(flows);
        // In this order, since workers write them in the other: no sample is without its part of the sum.
        latency_samples = latency_samples.wrapping_add(counters.latency_samples.load(Relaxed));
        latency_log2_sum = latency_log2_sum.wrapping_add(counters.latency_log2_sum.load(Relaxed));
    }
    let (load, telemetry) = (backend.load(), backend.telemetry());
    Traffic {
        in_flight: load.in_flight(),
        is_busy: load.is_busy(),
        begun,
        failures_in_a_row: load.failures.in_a_row(),
        latency_samples,
        latency_log2_sum,
        // The number first: a report that comes in between is then taken at the next scoring, too.
        reports: telemetry.count(),
        report: telemetry.get(),
    }
}

/// The median; NaN of fewer than two, since nobody is slow or fast alone.
fn middle(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    if values.len() < 2 {
        return f32::NAN;
    }
    let (half, is_even) = (values.len() / 2, values.len().is_multiple_of(2));
    let (below, &mut upper, _) = values.select_nth_unstable_by(half, f32::total_cmp);
    if !is_even {
        return upper;
    }
    let lower = below.iter().copied().fold(f32::MIN, f32::max);
    (lower + upper) / 2.0
}
