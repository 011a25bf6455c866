//! What choosing a backend costs, by algorithm and size of the pool, without sockets around it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::Barrier;
use std::time::Instant;

use contract::{Algorithm, Backend, BackendAddr, Config, Name, Pool, ProcessSettings, Report};
use proxy_core::backend::BackendState;
use proxy_core::meter::Moment;
use proxy_core::pick::{BackendIndex, PickTable, Picker, Request};
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::score::Now;
use proxy_core::slot::SessionSlot;
use proxy_core::snapshot::{PoolSnapshot, Snapshot};

use crate::results::PickResult;
use crate::statistics::median;

pub const POOLS: [usize; 4] = [10, 64, 1_000, 10_000];
const PICKS: u32 = 200_000;
const WARM_UP_PICKS: u32 = 20_000;
const ROUNDS: usize = 5;
/// Sessions in flight while picks are timed, so that loads differ.
const SESSIONS_A_BACKEND: usize = 4;
/// Workers that pick and count at the same time.
const WORKERS: usize = 2;
const SEED: u64 = 3;

/// Every algorithm with every size of [`POOLS`].
pub fn measure() -> Vec<PickResult> {
    let algorithms = Algorithm::ALL.into_iter();
    let each = algorithms.flat_map(|(_, algorithm)| POOLS.map(|size| (algorithm, size)));
    each.map(|(algorithm, size)| measure_one(algorithm, size))
        .collect()
}

/// The same as text.
pub fn table() -> String {
    let mut text = format!(
        "{:<28} {:>8} {:>10} {:>12} {:>10}\n",
        "algorithm", "backends", "ns a pick", "two workers", "flat out"
    );
    for result in measure() {
        let PickResult {
            algorithm,
            backends,
            ns_a_pick,
            ns_among_two,
            ns_among_two_flat_out,
            ..
        } = result;
        let [among_two, flat_out] =
            [ns_among_two, ns_among_two_flat_out].map(|ns| ns.unwrap_or(f64::NAN));
        text += &format!(
            "{algorithm:<28} {backends:>8} {ns_a_pick:>10.1} {among_two:>12.1} {flat_out:>10.1}\n"
        );
    }
    text
}

fn measure_one(algorithm: Algorithm, size: usize) -> PickResult {
    let mut random = fastrand::Rng::with_seed(SEED);
    let pool = pool(algorithm, size, &mut random);
    let builds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        black_box(PickTable::build(black_box(&pool)));
        begun.elapsed().as_secs_f64() * 1e6
    });
    let build_us = median(builds).expect("there are rounds");

    let adopt_us = time_to_follow(&pool, &PickTable::build(&pool), &mut random);
    let snapshot = snapshot(&pool);
    let pool = &snapshot.pools[0];
    let states: Vec<_> = indices(size)
        .map(|index| Arc::clone(pool.backend(index)))
        .collect();
    let _in_flight = sessions(&states, &mut random);
    pool.score(NOW);
    let rounds = || (0..ROUNDS).map(|_| time_alone(pool, &mut random.clone()));
    let ns_a_pick = median(rounds()).expect("there are rounds");
    let among_two =
        |picks_a_session| median((0..ROUNDS).map(|_| time_among_workers(pool, picks_a_session)));
    PickResult {
        algorithm: algorithm.name().to_owned(),
        backends: size,
        ns_a_pick,
        ns_among_two: among_two(PICKS_A_SESSION),
        ns_among_two_flat_out: among_two(1),
        build_us,
        adopt_us,
    }
}

fn indices(size: usize) -> impl Iterator<Item = BackendIndex> {
    (0..size as u32).map(BackendIndex)
}

/// Nanoseconds a pick while nobody else is at work.
fn time_alone(pool: &PoolSnapshot, random: &mut fastrand::Rng) -> f64 {
    (0..WARM_UP_PICKS).for_each(|_| pick(pool, random));
    let begun = Instant::now();
    (0..PICKS).for_each(|_| pick(pool, random));
    begun.elapsed().as_nanos() as f64 / f64::from(PICKS)
}

fn pick(pool: &PoolSnapshot, random: &mut fastrand::Rng) {
    black_box(picked(pool, random));
}

fn picked(pool: &PoolSnapshot, random: &mut fastrand::Rng) -> Option<BackendIndex> {
    let request = Request {
        client_ip: IpAddr::V4(Ipv4Addr::from_bits(random.u32(..))),
        tried: &[],
    };
    let picked = pool.pick(Protocol::Tcp, &request, NOW.us, random)?;
    Some(picked.backend)
}

/// Nanoseconds a pick while each of [`WORKERS`] picks and, after so many picks, begins a session there
/// and, some sessions later, ends it, so that each writes what the other reads. What the same
/// sessions take without the picks is taken off.
fn time_among_workers(pool: &PoolSnapshot, picks_a_session: u32) -> f64 {
    let start = Barrier::new(WORKERS);
    let work = |worker: usize| {
        let mut random = fastrand::Rng::with_seed(SEED + worker as u64);
        let sessions = (PICKS / picks_a_session) as usize;
        let mut order = vec![BackendIndex(0); sessions];
        start.wait();
        let with_picks = time_sessions(pool, &mut order, |_| {
            (1..picks_a_session).for_each(|_| pick(pool, &mut random));
            picked(pool, &mut random).expect("there are candidates")
        });
        start.wait();
        let without = time_sessions(pool, &mut order, |known| known);
        (with_picks - without) / f64::from(picks_a_session)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| scope.spawn(move || work(worker)))
            .collect();
        let times = workers
            .into_iter()
            .map(|worker| worker.join().expect("no pick panics"));
        times.sum::<f64>() / WORKERS as f64
    })
}

/// Begins a session at what `place` makes of each of `order`, which it replaces.
fn time_sessions(
    pool: &PoolSnapshot,
    order: &mut [BackendIndex],
    mut place: impl FnMut(BackendIndex) -> BackendIndex,
) -> f64 {
    let mut open: [Option<SessionSlot>; OPEN] = [const { None }; OPEN];
    let begun = Instant::now();
    for (count, index) in order.iter_mut().enumerate() {
        *index = place(*index);
        let mut slot = SessionSlot::take(pool.backend(*index));
        if let Some(metering) = &pool.metering {
            slot.mark_active(Moment {
                metering,
                worker: 0,
                now_us: NOW.us,
            });
        }
        open[count % OPEN] = Some(slot);
    }
    begun.elapsed().as_nanos() as f64 / order.len() as f64
}

/// With picks of some 100 ns, that makes 150,000 sessions a second in each worker: ten times what
/// one can serve.
const PICKS_A_SESSION: u32 = 64;
/// Sessions that a worker has open at once in [`time_sessions`].
const OPEN: usize = 32;
const NOW: Now = Now {
    us: 1_000_000_000,
    unix_ms: 1_700_000_000_000,
};

fn snapshot(pool: &Pool) -> Snapshot {
    let config = Config {
        generation: None,
        updated_at: None,
        listeners: Vec::new(),
        pools: vec![pool.clone()],
        process: ProcessSettings::default(),
    };
    let mut registry = BackendRegistry::new(WORKERS);
    Snapshot::build(None, &config, &mut registry, 1, 1, NOW.us / 1_000)
}

/// What a reload in which every weight changes pays, off the data path, for the rotations of TCP and of
/// UDP to go on where they stand.
fn time_to_follow(pool: &Pool, old: &PickTable, random: &mut fastrand::Rng) -> f64 {
    let mut changed = pool.clone();
    for backend in &mut changed.backends {
        backend.weight = random.u16(1..=100);
    }
    let new = PickTable::build(&changed);
    let rounds = (0..ROUNDS).map(|_| {
        let pickers = [(); 2].map(|()| Picker::new(old));
        let begun = Instant::now();
        for picker in &pickers {
            black_box(picker.followed(old, black_box(&new)));
        }
        begun.elapsed().as_secs_f64() * 1e6
    });
    median(rounds).expect("there are rounds")
}

fn pool(algorithm: Algorithm, size: usize, random: &mut fastrand::Rng) -> Pool {
    let backend = |index: u32| Backend {
        addr: BackendAddr::new(IpAddr::V4(Ipv4Addr::from_bits(FIRST_IP + index)), 80),
        weight: random.u16(1..=100),
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    Pool::new(
        Name::default(),
        algorithm,
        (0..size as u32).map(backend).collect(),
    )
}

/// 10.0.0.0
const FIRST_IP: u32 = 0x0a00_0000;

fn sessions(states: &[Arc<BackendState>], random: &mut fastrand::Rng) -> Vec<SessionSlot> {
    let count = states.len() * SESSIONS_A_BACKEND;
    let slots = (0..count).map(|_| SessionSlot::take(&states[random.usize(..states.len())]));
    slots.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_picks_from_the_smallest_pool() {
        for (name, algorithm) in Algorithm::ALL {
            let result = measure_one(algorithm, POOLS[0]);
            assert_eq!(result.algorithm, name);
            assert!(result.ns_a_pick > 0.0 && result.build_us > 0.0, "{name}");
            assert!(result.ns_among_two.is_some_and(f64::is_finite), "{name}");
        }
    }
}
