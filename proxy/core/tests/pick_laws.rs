//! What every algorithm keeps to, over random pools, and how sessions split.

use contract::{
    Algorithm, Backend, BackendAddr, GpuAware, Name, Pool, PoolSettings, Report, WarmingShare,
};
use proptest::prelude::*;
use proxy_core::pick::{BackendIndex, PickTable, Picker, Request};

const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn addr(number: u32) -> BackendAddr {
    BackendAddr::new(
        (0x0a00_0000 + number / 4).to_be_bytes().into(),
        9000 + (number % 4) as u16,
    )
}

fn backend(number: u32, weight: u16) -> Backend {
    Backend {
        addr: addr(number),
        weight,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    }
}

fn pool(algorithm: Algorithm, weights: &[u16]) -> Pool {
    let backends = (0..)
        .zip(weights)
        .map(|(number, &weight)| backend(number, weight));
    Pool::new(Name::default(), algorithm, backends.collect())
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    (0..Algorithm::ALL.len()).prop_map(|at| Algorithm::ALL[at].1)
}

fn any_backend() -> impl Strategy<Value = (u16, bool, bool)> {
    let weight = prop_oneof![2 => Just(0_u16), 4 => 1..=20_u16, 1 => 1..=1000_u16];
    (weight, prop::bool::weighted(0.8), prop::bool::weighted(0.2))
}

/// Backends in random order of address, as a file may have them.
fn any_pool() -> impl Strategy<Value = Pool> {
    let warming = prop_oneof![Just(WarmingShare::Tenth), Just(WarmingShare::None)];
    // Above 256 the least-loaded algorithms sample.
    let backends = prop_oneof![
        5 => prop::collection::vec(any_backend(), 0..12),
        1 => prop::collection::vec(any_backend(), 250..400),
    ];
    (any_algorithm(), warming, backends, any::<u64>()).prop_map(
        |(algorithm, warming_share, backends, seed)| {
            let mut backends: Vec<Backend> = (0..)
                .zip(backends)
                .map(|(number, (weight, enabled, is_warming_up))| Backend {
                    enabled,
                    is_warming_up,
                    ..backend(number, weight)
                })
                .collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut backends);
            Pool {
                name: Name::default(),
                algorithm,
                warming_share,
                gpu_aware: GpuAware::default(),
                settings: PoolSettings::default(),
                backends,
            }
        },
    )
}

fn is_candidate(pool: &Pool, backend: &Backend) -> bool {
    let is_held_back = backend.is_warming_up && pool.warming_share == WarmingShare::None;
    backend.enabled && backend.weight > 0 && !is_held_back
}

/// How often each backend is picked for clients of different addresses.
fn split(picker: &Picker, table: &PickTable, backends: usize, picks: u32) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; backends];
    for client in 0..picks {
        let request = Request {
            client_ip: client.to_be_bytes().into(),
            tried: &[],
        };
        let picked = picker.pick(table, &request, |_| 0, &mut random);
        counts[picked.expect("the pool has candidates").0 as usize] += 1;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Never a backend of share 0, never one twice, and every candidate is found before `None`.
    #[test]
    fn a_session_can_try_every_candidate_once_and_no_other(pool in any_pool(), seed: u64) {
        let table = PickTable::build(&pool);
        let picker = Picker::new(&table);
        let mut random = fastrand::Rng::with_seed(seed);
        let loads: Vec<u64> = pool.backends.iter().map(|_| random.u64(..50)).collect();
        let mut tried = Vec::new();
        loop {
            let request = Request { client_ip: (seed as u32).to_be_bytes().into(), tried: &tried };
            let load = |backend: BackendIndex| loads[backend.0 as usize];
            let Some(picked) = picker.pick(&table, &request, load, &mut random) else {
                break;
            };
            prop_assert!(!tried.contains(&picked));
            prop_assert!(is_candidate(&pool, &pool.backends[picked.0 as usize]));
            prop_assert!(table.share(picked) > 0);
            tried.push(picked);
        }
        let candidates = pool.backends.iter().filter(|backend| is_candidate(&pool, backend));
        prop_assert_eq!(tried.len(), candidates.count());
    }

    /// Any row of picks as long as a cycle splits exactly, wherever it begins.
    #[test]
    fn every_cycle_of_a_rotation_splits_exactly(
        weights in prop::collection::vec(0..30_u16, 1..10),
        scale in 1..20_u16,
        skipped in 0..100_u32,
    ) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let scaled: Vec<u16> = weights.iter().map(|weight| weight * scale).collect();
        let table = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &scaled));
        let picker = Picker::new(&table);
        split(&picker, &table, weights.len(), skipped);
        let weights: Vec<u32> = weights.into_iter().map(u32::from).collect();
        let counts = split(&picker, &table, weights.len(), weights.iter().sum());
        prop_assert_eq!(counts, weights);
    }

    /// A change of weights and members at the end of a cycle leaves the next cycle exact.
    #[test]
    fn a_change_between_two_cycles_leaves_both_exact(
        before in prop::collection::vec(0..30_u16, 8),
        after in prop::collection::vec(0..30_u16, 8),
    ) {
        prop_assume!(before.iter().any(|&weight| weight > 0));
        prop_assume!(after.iter().any(|&weight| weight > 0));
        let old = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &before));
        let new = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &after));
        let mut picker = Picker::new(&old);
        split(&picker, &old, 8, before.iter().map(|&weight| u32::from(weight)).sum());
        picker = picker.followed(&old, &new);
        let after: Vec<u32> = after.into_iter().map(u32::from).collect();
        let counts = split(&picker, &new, 8, after.iter().sum());
        prop_assert_eq!(counts, after);
    }

    /// However often the file is rewritten, in whatever order, nobody is favoured.
    #[test]
    fn reloads_between_picks_keep_equal_weights_even(seed: u64, backends in 2..9_usize) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pool = pool(Algorithm::RoundRobin, &vec![10; backends]);
        let mut table = PickTable::build(&pool);
        let mut picker = Picker::new(&table);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..backends * 50 {
            random.shuffle(&mut pool.backends);
            let new = PickTable::build(&pool);
            picker = picker.followed(&table, &new);
            table = new;
            let request = Request { client_ip: CLIENT, tried: &[] };
            let picked = picker.pick(&table, &request, |_| 0, &mut random).expect("candidates");
            *counts.entry(pool.backends[picked.0 as usize].addr).or_insert(0) += 1;
        }
        prop_assert!(counts.values().all(|&count| count == 50), "{:?}", counts);
    }

    /// A reload reaches the workers one after the other, and each picks by what it has.
    #[test]
    fn workers_that_learn_late_of_a_reload_stay_even(seed: u64, workers in 2..5_usize) {
        let mut random = fastrand::Rng::with_seed(seed);
        let with_last = |is_there: bool| {
            let table = PickTable::build(&pool(Algorithm::RoundRobin, &[10; 5][..4 + usize::from(is_there)]));
            std::rc::Rc::new(table)
        };
        let table = with_last(true);
        let picker = std::rc::Rc::new(Picker::new(&table));
        let mut newest = (table, picker);
        let mut installed = vec![newest.clone(); workers];
        let mut counts = [0_i32; 5];
        for _ in 0..5_000 {
            if random.u8(..20) == 0 {
                let table = with_last(random.bool());
                let picker = newest.1.followed(&newest.0, &table);
                newest = (table, std::rc::Rc::new(picker));
            }
            let worker = &mut installed[random.usize(..workers)];
            let (table, picker) = &*worker;
            let request = Request { client_ip: CLIENT, tried: &[] };
            let picked = picker.pick(table, &request, |_| 0, &mut random).expect("candidates");
            counts[picked.0 as usize] += 1;
            if random.u8(..4) == 0 {
                *worker = newest.clone();
            }
        }
        let (least, most) = (counts[..4].iter().min(), counts[..4].iter().max());
        // 1,100 each, and more than half of them by an old table, where a real reload has a few.
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least < 110), "{:?}", counts);
    }

    /// Others may come, go and change weight with every reload: who stays gets its share.
    #[test]
    fn churn_around_a_backend_does_not_cost_it_its_share(seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut table = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &[10]));
        let mut picker = Picker::new(&table);
        let (mut fair, mut given) = (0.0_f64, 0.0_f64);
        for _ in 0..500 {
            let mut weights = vec![10_u16];
            weights.extend((0..5).map(|_| random.u16(..4) * 5));
            let new = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &weights));
            picker = picker.followed(&table, &new);
            table = new;
            let picks = random.u32(1..6);
            let sum: u16 = weights.iter().sum();
            fair += f64::from(picks) * 10.0 / f64::from(sum);
            given += f64::from(split(&picker, &table, 6, picks)[0]);
        }
        prop_assert!((given / fair - 1.0).abs() < 0.1, "{} of {}", given, fair);
    }

    /// The order of the file does not matter to a client of source_hash.
    #[test]
    fn proxies_with_the_same_backends_agree_on_a_client(
        weights in prop::collection::vec(1..40_u16, 1..12),
        seed: u64,
    ) {
        let pool = pool(Algorithm::SourceHash, &weights);
        let mut shuffled = pool.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled.backends);
        let tables = [PickTable::build(&pool), PickTable::build(&shuffled)];
        let mut random = fastrand::Rng::with_seed(seed);
        for client in 0..200_u32 {
            let client_ip = (client + seed as u32 / 2).to_be_bytes().into();
            let mut tried = [Vec::new(), Vec::new()];
            for _ in 0..weights.len() {
                let mut addrs = Vec::new();
                for ((table, pool), tried) in tables.iter().zip([&pool, &shuffled]).zip(&mut tried) {
                    let request = Request { client_ip, tried };
                    let picker = Picker::new(table);
                    let picked = picker.pick(table, &request, |_| 0, &mut random);
                    let picked = picked.expect("an untried one is left");
                    tried.push(picked);
                    addrs.push(pool.backends[picked.0 as usize].addr);
                }
                prop_assert_eq!(addrs[0], addrs[1]);
            }
        }
    }
}

#[test]
fn ten_thirty_zero_splits_forty_sessions_exactly() {
    let table = PickTable::build(&pool(Algorithm::WeightedRoundRobin, &[10, 30, 0]));
    let picker = Picker::new(&table);
    for _ in 0..3 {
        assert_eq!(split(&picker, &table, 3, 40), [10, 30, 0]);
    }
}

/// Over 200,000 clients with nothing in flight; least-loaded ones have their own test.
#[test]
fn sessions_split_by_share_within_a_hundredth_of_all() {
    let weights = [10, 30, 0, 5, 55];
    let algorithms = [
        (Algorithm::RoundRobin, [25.0, 25.0, 0.0, 25.0, 25.0]),
        (Algorithm::WeightedRoundRobin, [10.0, 30.0, 0.0, 5.0, 55.0]),
        (Algorithm::Random, [10.0, 30.0, 0.0, 5.0, 55.0]),
        (Algorithm::SourceHash, [10.0, 30.0, 0.0, 5.0, 55.0]),
    ];
    for (algorithm, percent) in algorithms {
        let table = PickTable::build(&pool(algorithm, &weights));
        let picker = Picker::new(&table);
        let counts = split(&picker, &table, weights.len(), 200_000);
        for (count, percent) in counts.iter().zip(percent) {
            let got = f64::from(*count) / 2_000.0;
            assert!((got - percent).abs() < 1.0, "{algorithm:?}: {counts:?}");
        }
    }
}

/// Sessions that all stay open: loads end in proportion to the shares.
#[test]
fn loads_of_long_sessions_follow_the_shares() {
    let weights = [10, 30, 0, 5, 55];
    let algorithms = [
        (Algorithm::LeastConnections, [25.0, 25.0, 0.0, 25.0, 25.0]),
        (
            Algorithm::WeightedLeastConnections,
            [10.0, 30.0, 0.0, 5.0, 55.0],
        ),
        (Algorithm::PowerOfTwo, [10.0, 30.0, 0.0, 5.0, 55.0]),
    ];
    for (algorithm, percent) in algorithms {
        let table = PickTable::build(&pool(algorithm, &weights));
        let loads = fill_up(&table, weights.len(), 100_000);
        for (load, percent) in loads.iter().zip(percent) {
            let got = *load as f64 / 1_000.0;
            assert!((got - percent).abs() < 1.0, "{algorithm:?}: {loads:?}");
        }
    }
}

/// Above the scan limit least_connections samples: no load is far from the mean.
#[test]
fn a_large_pool_is_filled_evenly_by_samples() {
    let table = PickTable::build(&pool(Algorithm::LeastConnections, &[10; 1000]));
    let loads = fill_up(&table, 1000, 100_000);
    assert!(
        loads.iter().all(|load| (97..=103).contains(load)),
        "{loads:?}"
    );
}

fn fill_up(table: &PickTable, backends: usize, sessions: u32) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(3);
    let picker = Picker::new(table);
    let mut loads = vec![0; backends];
    for _ in 0..sessions {
        let request = Request {
            client_ip: CLIENT,
            tried: &[],
        };
        let load = |backend: BackendIndex| loads[backend.0 as usize];
        let picked = picker.pick(table, &request, load, &mut random);
        loads[picked.expect("the pool has candidates").0 as usize] += 1;
    }
    loads
}

/// Without counting the session that is being placed, all idle backends would look alike.
#[test]
fn the_first_session_goes_to_the_largest_share() {
    for algorithm in [Algorithm::WeightedLeastConnections, Algorithm::PowerOfTwo] {
        for weights in [[10, 30], [1000, 1]] {
            let table = PickTable::build(&pool(algorithm, &weights));
            let counts = split(&Picker::new(&table), &table, 2, 100);
            assert_eq!(counts.into_iter().max(), Some(100), "{algorithm:?}");
        }
    }
}

/// Two choices are two backends: the busy one of two is never taken.
#[test]
fn power_of_two_compares_two_different_backends() {
    let table = PickTable::build(&pool(Algorithm::PowerOfTwo, &[10, 10]));
    let picker = Picker::new(&table);
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let request = Request {
            client_ip: CLIENT,
            tried: &[],
        };
        let busy_first = |backend: BackendIndex| 5 - 5 * u64::from(backend.0);
        let picked = picker.pick(&table, &request, busy_first, &mut random);
        assert_eq!(picked, Some(BackendIndex(1)));
    }
}

#[test]
fn idle_backends_tie_at_random() {
    let table = PickTable::build(&pool(Algorithm::LeastConnections, &[1; 4]));
    let counts = split(&Picker::new(&table), &table, 4, 40_000);
    assert!(
        counts.iter().all(|count| (9_600..=10_400).contains(count)),
        "{counts:?}"
    );
}

/// The clients of the removed backend move, and few others: here 0.2 to 0.4 % of all, which is the
/// price of an even split (Eisenbud et al. 2016 find the same trade).
#[test]
fn removing_a_backend_moves_few_other_clients() {
    for (backends, weights) in [(5, [10, 10]), (20, [10, 30]), (1000, [10, 10])] {
        let weights: Vec<u16> = (0..backends).map(|at| weights[at % 2]).collect();
        let full = pool(Algorithm::SourceHash, &weights);
        let mut fewer = full.clone();
        let removed = fewer.backends.remove(backends / 2).addr;
        let clients = 0..50_000;
        let (before, after) = (places(&full, clients.clone()), places(&fewer, clients));
        let pairs = before.iter().zip(&after);
        let moved = pairs
            .filter(|(old, new)| old != new && **old != removed)
            .count();
        assert!(
            moved * 100 <= before.len() * MOST_OTHERS_MOVED_PERCENT,
            "{moved} at {backends}"
        );
    }
}

const MOST_OTHERS_MOVED_PERCENT: usize = 1;

fn places(pool: &Pool, clients: std::ops::Range<u32>) -> Vec<BackendAddr> {
    let table = PickTable::build(pool);
    let picker = Picker::new(&table);
    let mut random = fastrand::Rng::with_seed(5);
    let place = |client: u32| {
        let client_ip = client.to_be_bytes().into();
        let request = Request {
            client_ip,
            tried: &[],
        };
        let picked = picker.pick(&table, &request, |_| 0, &mut random);
        pool.backends[picked.expect("the pool has candidates").0 as usize].addr
    };
    clients.map(place).collect()
}
