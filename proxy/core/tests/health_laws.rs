//! What probes, ejections and slow start keep to, over random inputs.

use contract::health::{Ejection, Probe};
use contract::state_reason::ProbeFailure;
use contract::{Algorithm, Backend, BackendAddr, Name, Pool, Report};
use proptest::prelude::*;
use proxy_core::health::{Outcome, Standing, Verdict};
use proxy_core::pick::{BackendIndex, Entry, PickTable, Picker, Request};
use proxy_core::plan::Protocol;

const REQUEST: Request = Request {
    client_ip: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    tried: &[],
};

fn outcome(passes: bool) -> Outcome {
    match passes {
        true => Outcome::Passed { latency_us: 1 },
        false => Outcome::Failed(ProbeFailure::Refused),
    }
}

/// Whether the last `count` of `history` are all `passed`.
fn ends_with(history: &[bool], passed: bool, count: u64) -> bool {
    let count = count as usize;
    let last = history.iter().rev().take(count);
    history.len() >= count && last.into_iter().all(|one| *one == passed)
}

fn pool(algorithm: Algorithm, weights: &[u16]) -> Pool {
    let backends = (1..).zip(weights).map(|(port, &weight)| Backend {
        addr: BackendAddr::new([10, 0, 0, 1].into(), port),
        weight,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    });
    Pool::new(Name::default(), algorithm, backends.collect())
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    (0..Algorithm::ALL.len()).prop_map(|at| Algorithm::ALL[at].1)
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let ramp = prop_oneof![2 => Just(1.0), 1 => Just(0.0), 1 => 0.1..1.0];
    (ramp, 0..100_u64).prop_map(|(ramp, load)| Entry { ramp, load })
}

proptest! {
    #[test]
    fn the_verdict_follows_the_last_results(
        history in prop::collection::vec(any::<bool>(), 1..60), rise in 1..5_u64, fall in 1..5_u64,
    ) {
        let rules = Probe { rise, fall, ..Probe::default() };
        let mut standing = Standing::default();
        for ended in 1..=history.len() {
            let before = standing.verdict();
            standing.probed(outcome(history[ended - 1]), &rules, 0);
            let after = standing.verdict();
            let history = &history[..ended];
            if ends_with(history, false, fall) {
                prop_assert_eq!(after, Verdict::Down);
            } else if ends_with(history, true, rise) {
                prop_assert_eq!(after, Verdict::Up);
            } else if before != Verdict::Unknown {
                prop_assert_eq!(after, before);
            } else {
                prop_assert_ne!(after, Verdict::Down);
            }
        }
    }

    #[test]
    fn ejections_grow_and_are_bounded(
        base_ms in 1..1_000_u64, more_ms in 0..10_000_u64,
        pauses_ms in prop::collection::vec(0..20_000_u64, 1..40),
    ) {
        let rules = Ejection { base_ms, max_ms: base_ms + more_ms, ..Ejection::default() };
        let mut standing = Standing::default();
        let (mut now_ms, mut last_ms) = (0, 0);
        for pause_ms in pauses_ms {
            standing.eject(Protocol::Tcp, 5, &rules, now_ms);
            let until_ms = standing.next_release_ms(1).expect("no probes to wait for");
            let length_ms = until_ms - now_ms;
            prop_assert!((rules.base_ms..=rules.max_ms).contains(&length_ms));
            prop_assert!(length_ms >= last_ms, "{} after {}", length_ms, last_ms);
            standing.release(1, until_ms);
            prop_assert!(standing.is_available(Protocol::Tcp));
            now_ms = until_ms + pause_ms;
            // Well for long enough, it begins anew.
            last_ms = if pause_ms >= rules.max_ms { 0 } else { length_ms };
        }
    }

    #[test]
    fn who_is_out_is_never_picked_and_somebody_is_while_anybody_is_in(
        algorithm in any_algorithm(), entries in prop::collection::vec(any_entry(), 0..12),
        seed in any::<u64>(),
    ) {
        let pool = pool(algorithm, &vec![3; entries.len()]);
        let table = PickTable::build_for(&pool, &entries);
        let picker = Picker::new(&table);
        let mut random = fastrand::Rng::with_seed(seed);
        // All of those that have a cap are at it now and then.
        for load in [0, 1, 1_000] {
            let picked = picker.pick_within_caps(&table, &REQUEST, |_| load, &mut random);
            let is_any_in = entries.iter().any(|entry| entry.ramp > 0.0);
            prop_assert_eq!(picked.is_some(), is_any_in);
            if let Some(BackendIndex(index)) = picked {
                prop_assert!(entries[index as usize].ramp > 0.0);
                prop_assert!(table.share(BackendIndex(index)) > 0);
            }
        }
    }

    #[test]
    fn a_ramp_neither_starves_nor_surges(
        algorithm in prop_oneof![Just(Algorithm::RoundRobin), Just(Algorithm::WeightedRoundRobin)],
        weight in 1..20_u16, others in 1..6_usize,
    ) {
        const PICKS: u32 = 400;
        let weights = vec![weight; others + 1];
        let pool = pool(algorithm, &weights);
        let table_at = |ramp| {
            let mut entries = vec![Entry::WELL; others + 1];
            entries[0].ramp = ramp;
            PickTable::build_for(&pool, &entries)
        };
        let mut random = fastrand::Rng::with_seed(1);
        let mut table = table_at(0.0);
        let mut picker = Picker::new(&table);
        // It comes back in the steps of a ramp, each of which is a new table.
        for step in 2..=20 {
            let ramp = f64::from(step) / 20.0;
            let next = table_at(ramp);
            picker = picker.followed(&table, &next);
            table = next;
            let is_back = |_: &u32| {
                picker.pick(&table, &REQUEST, |_| 0, &mut random) == Some(BackendIndex(0))
            };
            let count = (0..PICKS).filter(is_back).count() as f64;
            let fair = f64::from(PICKS) * ramp / (others as f64 + ramp);
            prop_assert!((count - fair).abs() <= 2.0, "{} for {} at {}", count, fair, ramp);
        }
    }
}

#[test]
fn a_slow_backend_gathers_no_more_than_its_cap() {
    // It answers nothing, so all that it is given stays in flight.
    let entries = [100, 100, 0].map(|load| Entry { ramp: 1.0, load });
    let mut entries = entries.to_vec();
    entries[2].ramp = 0.2;
    // Under gpu_aware it is a matter of what a session costs there, see `score_laws`.
    let is_capped = |(_, algorithm): &(&str, Algorithm)| *algorithm != Algorithm::GpuAware;
    for (_, algorithm) in Algorithm::ALL.into_iter().filter(is_capped) {
        let pool = pool(algorithm, &[10, 10, 10]);
        let table = PickTable::build_for(&pool, &entries);
        let picker = Picker::new(&table);
        let mut random = fastrand::Rng::with_seed(1);
        let mut in_flight = 0;
        for client in 0..10_000_u32 {
            let request = Request {
                client_ip: client.to_be_bytes().into(),
                ..REQUEST
            };
            let load = |BackendIndex(index)| if index == 2 { in_flight } else { 100 };
            let picked = picker.pick_within_caps(&table, &request, load, &mut random);
            in_flight += u64::from(picked == Some(BackendIndex(2)));
        }
        // A fifth of what each of the others has.
        assert_eq!(in_flight, 20, "{algorithm:?}");
    }
}

#[test]
fn a_quiet_pool_does_not_leave_a_new_backend_cold() {
    let mut entries = [Entry::WELL; 3];
    entries[2].ramp = 0.1;
    for (_, algorithm) in Algorithm::ALL {
        let pool = pool(algorithm, &[10, 10, 10]);
        let table = PickTable::build_for(&pool, &entries);
        let picker = Picker::new(&table);
        let mut random = fastrand::Rng::with_seed(1);
        // One session at a time, so nothing is ever in flight.
        let reached = (0..300_u32).any(|client| {
            let request = Request {
                client_ip: client.to_be_bytes().into(),
                ..REQUEST
            };
            picker.pick_within_caps(&table, &request, |_| 0, &mut random) == Some(BackendIndex(2))
        });
        assert!(reached, "{algorithm:?}");
    }
}
