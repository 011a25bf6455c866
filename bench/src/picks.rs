//! What choosing a backend costs, by algorithm and size of the pool, without sockets around it.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use contract::{Algorithm, Backend, BackendAddr, Pool, Report, WarmingShare};
use proxy_core::backend::{BackendRegistry, BackendState, SessionSlot};
use proxy_core::pick::{BackendIndex, PickTable, Picker, Request};

use crate::results::PickResult;
use crate::statistics::median;

pub const POOLS: [usize; 3] = [10, 1_000, 10_000];
const PICKS: u32 = 200_000;
const WARM_UP_PICKS: u32 = 20_000;
const ROUNDS: usize = 5;
/// Sessions in flight while picks are timed, so that loads differ.
const SESSIONS_A_BACKEND: usize = 4;
const SEED: u64 = 3;

/// Every algorithm with every size of [`POOLS`].
pub fn measure() -> Vec<PickResult> {
    let algorithms = Algorithm::ALL.into_iter();
    let each = algorithms.flat_map(|(_, algorithm)| POOLS.map(|size| (algorithm, size)));
    each.map(|(algorithm, size)| measure_one(algorithm, size))
        .collect()
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

    let table = PickTable::build(&pool);
    let adopt_us = time_to_adopt(&pool, &table, &mut random);
    let states = BackendRegistry::new(1).adopt(&pool.backends);
    let _in_flight = sessions(&states, &mut random);
    let mut picker = Picker::new(&table, 0, 1);
    let mut pick = |_| {
        let request = Request {
            client_ip: IpAddr::V4(Ipv4Addr::from_bits(random.u32(..))),
            tried: &[],
        };
        let load = |index: BackendIndex| states[index.0 as usize].sessions();
        black_box(picker.pick_within_caps(&table, &request, load, &mut random));
    };
    (0..WARM_UP_PICKS).for_each(&mut pick);
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        (0..PICKS).for_each(&mut pick);
        begun.elapsed().as_nanos() as f64 / f64::from(PICKS)
    });
    PickResult {
        algorithm: algorithm.name().to_owned(),
        backends: size,
        ns_a_pick: median(rounds).expect("there are rounds"),
        build_us,
        adopt_us,
    }
}

/// What a worker pays at a reload in which every weight changes, while its sessions wait: it adopts
/// the new table for TCP and for UDP.
fn time_to_adopt(pool: &Pool, old: &PickTable, random: &mut fastrand::Rng) -> f64 {
    let mut changed = pool.clone();
    for backend in &mut changed.backends {
        backend.weight = random.u16(1..=100);
    }
    let new = PickTable::build(&changed);
    let rounds = (0..ROUNDS).map(|_| {
        let mut pickers = [(); 2].map(|()| Picker::new(old, 0, 1));
        let begun = Instant::now();
        for picker in &mut pickers {
            picker.adopt(old, black_box(&new));
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
    Pool {
        algorithm,
        warming_share: WarmingShare::Tenth,
        gpu_aware: contract::GpuAware::default(),
        backends: (0..size as u32).map(backend).collect(),
    }
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
        }
    }
}
