//! What holds of the words that workers share, whatever they do at the same time.
//!
//! A law and not a model checker: every one of these words stands for itself and is changed by one
//! atomic operation at a time, relaxed, and nothing is handed over through it (snapshots go to a worker
//! through its queue; a ticket of a rotation is a number and no more). So there is no order between two words for loom to search, and a loom build
//! would replace the very types whose size and place in a cache line are fixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use contract::{Algorithm, Backend, BackendAddr, Batch, GpuAware, Name, Pool, Report};
use fastrand::Rng;
use proxy_core::backend::BackendState;
use proxy_core::batch::Batches;
use proxy_core::meter::{Metering, Moment};
use proxy_core::pick::{BackendIndex, PickTable, Picker, Request};
use proxy_core::registry::BackendRegistry;
use proxy_core::slot::{FlowSlot, SessionSlot};

const THREADS: usize = 4;

fn backend(batch: Option<Batch>) -> Backend {
    Backend {
        addr: BackendAddr::new([10, 0, 0, 1].into(), 9001),
        weight: 10,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch,
    }
}

/// What one worker may do to a backend, in random order, until it has ended all that it began.
fn work(state: &Arc<BackendState>, metering: &Metering, worker: usize, seed: u64) {
    const STEPS: u64 = 20_000;
    const MOST_OPEN: usize = 16;
    let mut random = Rng::with_seed(seed);
    let (mut sessions, mut flows) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let moment = Moment {
            metering,
            worker,
            now_us: step * 1_000,
        };
        match random.u8(0..8) {
            0 if sessions.len() < MOST_OPEN => sessions.push(SessionSlot::take(state)),
            1 if flows.len() < MOST_OPEN => flows.push(FlowSlot::take(state)),
            2 if !sessions.is_empty() => {
                drop(sessions.swap_remove(random.usize(0..sessions.len())))
            }
            3 if !flows.is_empty() => drop(flows.swap_remove(random.usize(0..flows.len()))),
            _ => {
                let Some(slot) = random.choice(&mut sessions) else {
                    continue;
                };
                match random.u8(0..5) {
                    0 => drop(slot.mark_active(moment)),
                    1 => slot.sent(moment),
                    2 => slot.answered(moment),
                    3 => slot.aborted(moment),
                    _ => drop(slot.mark_idle(moment, false)),
                }
            }
        }
    }
}

#[test]
fn what_workers_count_at_once_comes_back_to_nothing() {
    for seed in 0..20 {
        let mut registry = BackendRegistry::new(THREADS);
        let pool = Pool::new(Name::default(), Algorithm::GpuAware, vec![backend(None)]);
        let state = registry.adopt(&[pool]).remove(0).states.remove(0);
        let parameters = GpuAware::default();
        let metering = Metering::of(Algorithm::GpuAware, parameters).expect("it is metered");
        std::thread::scope(|scope| {
            for worker in 0..THREADS {
                let (state, metering) = (&state, &metering);
                let seed = seed * THREADS as u64 + worker as u64;
                scope.spawn(move || work(state, metering, worker, seed));
            }
        });
        assert_eq!((state.sessions(), state.flows()), (0, 0), "seed {seed}");
        let load = state.load();
        assert_eq!(
            (load.in_flight(), load.is_busy()),
            (0.0, false),
            "seed {seed}"
        );
        assert!(load.cost().is_finite(), "seed {seed}");
    }
}

#[test]
fn workers_together_deal_every_cycle_of_a_rotation_exactly() {
    for (algorithm, weights) in [
        (Algorithm::RoundRobin, [1, 1, 1, 1]),
        (Algorithm::WeightedRoundRobin, [10, 30, 7, 3]),
    ] {
        const CYCLES_A_THREAD: u32 = 20_000;
        let backends = (0_u16..).zip(weights).map(|(at, weight)| Backend {
            addr: BackendAddr::new([10, 0, 0, 1].into(), 9001 + at),
            weight,
            ..backend(None)
        });
        let pool = Pool::new(Name::default(), algorithm, backends.collect());
        let cycle: u16 = weights.iter().sum();
        let table = PickTable::build(&pool);
        let picker = Picker::new(&table);
        let counts = [const { AtomicU32::new(0) }; 4];
        std::thread::scope(|scope| {
            for worker in 0..THREADS as u64 {
                let (table, picker, counts) = (&table, &picker, &counts);
                scope.spawn(move || {
                    let mut random = Rng::with_seed(worker);
                    let request = Request {
                        client_ip: [192, 0, 2, 1].into(),
                        tried: &[],
                    };
                    for _ in 0..CYCLES_A_THREAD * u32::from(cycle) {
                        let picked = picker.pick(table, &request, |_| 0, &mut random);
                        let index = picked.expect("there are candidates").0;
                        counts[index as usize].fetch_add(1, Relaxed);
                    }
                });
            }
        });
        let counts = counts.map(AtomicU32::into_inner);
        let cycles = THREADS as u32 * CYCLES_A_THREAD;
        assert_eq!(counts, weights.map(|weight| u32::from(weight) * cycles));
    }
}

#[test]
fn a_batch_takes_no_more_than_its_size_however_many_join_at_once() {
    // So large that the threads are at it at the same time, and not one after the other.
    const MAX: u32 = 4_000;
    let batch = Batch {
        max: MAX as u16,
        window_ms: 1_000,
    };
    let pool = Pool::new(
        Name::default(),
        Algorithm::GpuAware,
        vec![backend(Some(batch))],
    );
    let batches = Batches::of(&pool).expect("one has limits");
    for round in 0..50 {
        batches.begin(BackendIndex(0), 0);
        let joined = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    // Who loses a race picks by cost; all tries together fill the batch.
                    for _ in 0..MAX {
                        let is_in = batches.join(1, |_| true).is_some();
                        joined.fetch_add(u32::from(is_in), Relaxed);
                    }
                });
            }
        });
        let joined = joined.into_inner();
        assert!(
            (1..MAX).contains(&joined),
            "round {round}: {joined} joined the first"
        );
    }
}
