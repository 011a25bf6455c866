//! When jobs arrive and how large they are.

use super::distributions::{LogNormal, exponential};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Seconds from the start.
    pub at: f64,
    /// Seconds on a GPU of speed 1 by itself.
    pub work: f64,
    /// Share of VRAM, before the server's scale.
    pub memory: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// Heavy-tailed work; memory that goes half with it.
    Llm,
    /// Work and memory that vary less, and much memory.
    Image,
    /// Small requests, five at once.
    Bursts,
    /// Real arrivals, from which each seed begins elsewhere.
    Trace(Vec<Arrival>),
}

pub const BURST: usize = 5;
const LLM_WORK: (f64, f64) = (1.0, 1.5);
const IMAGE_WORK: (f64, f64) = (2.0, 0.5);
const SMALL_WORK: (f64, f64) = (0.5, 0.5);
const SMALL_MEMORY: f64 = 0.025;

impl Workload {
    /// Arrivals at `rho` of `capacity`, in work a second: about `count`, or as many as the trace has.
    pub fn arrivals(&self, rho: f64, capacity: f64, count: usize, seed: u64) -> Vec<Arrival> {
        let mut random = fastrand::Rng::with_seed(seed);
        let gap = |mean_work: f64| mean_work / (rho * capacity);
        match self {
            Workload::Llm => {
                let (work, memory) = (lognormal(LLM_WORK), LogNormal::new(1.0, 1.0));
                let size = |random: &mut fastrand::Rng| {
                    let work = work.draw(random);
                    let memory = 0.5 * work.min(6.0) + 0.5 * memory.draw(random);
                    (work, (0.025 * memory).min(0.45))
                };
                poisson(gap(LLM_WORK.0), count, &mut random, size)
            }
            Workload::Image => {
                let (work, memory) = (lognormal(IMAGE_WORK), LogNormal::new(0.13, 0.6));
                let size =
                    |random: &mut fastrand::Rng| (work.draw(random), memory.draw(random).min(0.5));
                poisson(gap(IMAGE_WORK.0), count, &mut random, size)
            }
            Workload::Bursts => {
                let work = lognormal(SMALL_WORK);
                let size = |random: &mut fastrand::Rng| (work.draw(random), SMALL_MEMORY);
                let mean = gap(SMALL_WORK.0) * BURST as f64;
                let bursts = poisson(mean, count / BURST, &mut random, size);
                // All of a burst are alike, as rows of one form are.
                bursts.into_iter().flat_map(|one| [one; BURST]).collect()
            }
            Workload::Trace(arrivals) => rotated(arrivals, rho, capacity, &mut random),
        }
    }
}

fn lognormal((mean, variation): (f64, f64)) -> LogNormal {
    LogNormal::new(mean, variation)
}

fn poisson(
    mean_gap: f64,
    count: usize,
    random: &mut fastrand::Rng,
    mut size: impl FnMut(&mut fastrand::Rng) -> (f64, f64),
) -> Vec<Arrival> {
    let mut at = 0.0;
    let arrive = |_| {
        at += exponential(mean_gap, random);
        let (work, memory) = size(random);
        Arrival { at, work, memory }
    };
    (0..count).map(arrive).collect()
}

/// The trace from a random place on and around, scaled in time to the load asked for.
fn rotated(
    arrivals: &[Arrival],
    rho: f64,
    capacity: f64,
    random: &mut fastrand::Rng,
) -> Vec<Arrival> {
    let work: f64 = arrivals.iter().map(|arrival| arrival.work).sum();
    let last = arrivals.last().map_or(0.0, |arrival| arrival.at);
    // From the last around to the first, a gap like the others.
    let span = last + last / arrivals.len() as f64;
    let scale = work / (rho * capacity) / span;
    let begin = random.usize(..arrivals.len());
    let (before, after) = arrivals.split_at(begin);
    let start = after[0].at;
    let later = after.iter().map(|one| (one, one.at - start));
    let around = before.iter().map(|one| (one, one.at - start + span));
    let placed = later.chain(around).map(|(one, at)| Arrival {
        at: at * scale,
        ..*one
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arrivals: &[Arrival]) -> f64 {
        let work: f64 = arrivals.iter().map(|arrival| arrival.work).sum();
        work / arrivals.last().expect("arrivals").at
    }

    #[test]
    fn every_workload_offers_the_load_asked_for() {
        let trace = (0..5_000).map(|at| Arrival {
            at: f64::from(at * at % 977 + at),
            work: f64::from(at % 7),
            memory: 0.1,
        });
        let mut trace: Vec<Arrival> = trace.collect();
        trace.sort_by(|a, b| a.at.total_cmp(&b.at));
        for workload in [
            Workload::Llm,
            Workload::Image,
            Workload::Bursts,
            Workload::Trace(trace),
        ] {
            let arrivals = workload.arrivals(0.8, 10.0, 200_000, 3);
            let offered = load(&arrivals);
            assert!((offered / 8.0 - 1.0).abs() < 0.03, "{offered}");
            assert!(arrivals.is_sorted_by(|a, b| a.at <= b.at));
        }
    }

    #[test]
    fn a_seed_gives_the_same_and_another_gives_others() {
        let arrivals = |seed| Workload::Llm.arrivals(0.8, 10.0, 100, seed);
        assert_eq!(arrivals(1), arrivals(1));
        assert_ne!(arrivals(1), arrivals(2));
    }
}
