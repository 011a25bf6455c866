//! What holds of costs whatever backends report, sessions do and time passes: every part is finite
//! and within its bounds, and there is always a pick.

use std::sync::Arc;

use contract::health::Health;
use contract::{
    Algorithm, Backend, BackendAddr, Config, Name, Pool, PoolSettings, ProcessSettings, Report,
};
use proptest::prelude::*;
use proxy_core::latency::add;
use proxy_core::meter::Moment;
use proxy_core::pick::{BackendIndex, Request};
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::score::Now;
use proxy_core::slot::SessionSlot;
use proxy_core::snapshot::{PoolSnapshot, Snapshot};

/// A pool as the proxy holds it, and what a worker does with it.
struct World {
    pool: Pool,
    registry: BackendRegistry,
    snapshot: Arc<Snapshot>,
    random: fastrand::Rng,
    in_flight: Vec<SessionSlot>,
    now: Now,
}

impl World {
    fn new(backends: &[(u16, bool)], seed: u64) -> World {
        let described = (0..)
            .zip(backends)
            .map(|(at, &(weight, is_warming_up))| Backend {
                addr: BackendAddr::new([10, 0, 0, 1].into(), 1000 + at),
                weight,
                enabled: true,
                is_warming_up,
                report: Report::default(),
                batch: None,
            });
        let pool = Pool::new(Name::default(), Algorithm::GpuAware, described.collect());
        let mut registry = BackendRegistry::new(1);
        let snapshot = Arc::new(build(&pool, &mut registry, None, 1_000_000));
        let world = World {
            pool,
            registry,
            snapshot,
            random: fastrand::Rng::with_seed(seed),
            in_flight: Vec::new(),
            now: Now {
                us: 1_000_000_000,
                unix_ms: 1_700_000_000_000,
            },
        };
        world.tick();
        world
    }

    fn snapshot(&self) -> &PoolSnapshot {
        &self.snapshot.pools[0]
    }

    fn reload(&mut self) {
        let now_ms = self.now.us / 1_000;
        let new = build(&self.pool, &mut self.registry, Some(&self.snapshot), now_ms);
        self.snapshot = Arc::new(new);
        self.tick();
    }

    fn tick(&self) {
        self.snapshot().score(self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now.us += ms * 1_000;
        self.now.unix_ms += ms;
    }

    fn report(&self, at: usize, report: &Report) {
        let index = BackendIndex((at % self.pool.backends.len()) as u32);
        self.snapshot().backend(index).telemetry().set(report);
        self.snapshot().score_report(index, self.now);
    }

    fn says(&self, at: usize, vram: f64) {
        self.report(
            at,
            &Report {
                vram_usage: Some(vram),
                gpu_usage: Some(vram),
                reported_at_ms: Some(self.now.unix_ms),
                heartbeat_ms: Some(1_000),
            },
        );
    }

    fn pick(&mut self) -> Option<usize> {
        let request = Request {
            client_ip: [192, 0, 2, 1].into(),
            tried: &[],
        };
        let pool = &self.snapshot.pools[0];
        let picked = pool.pick(Protocol::Tcp, &request, self.now.us, &mut self.random)?;
        Some(picked.backend.0 as usize)
    }

    /// Begins a session with a request at `at`.
    fn begin(&mut self, at: usize) {
        let backend = self.snapshot().backend(BackendIndex(at as u32));
        let mut slot = SessionSlot::take(backend);
        add(&backend.worker(0).sessions_total, 1);
        slot.mark_active(self.moment());
        slot.sent(self.moment());
        self.in_flight.push(slot);
    }

    fn dispatch(&mut self) -> Option<usize> {
        let picked = self.pick()?;
        self.begin(picked);
        Some(picked)
    }

    fn moment(&self) -> Moment<'_> {
        Moment {
            metering: self.snapshot.pools[0]
                .metering
                .as_ref()
                .expect("gpu_aware is metered"),
            worker: 0,
            now_us: self.now.us,
        }
    }

    fn end_one(&mut self, is_answered: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = self.random.usize(..self.in_flight.len());
        let mut slot = self.in_flight.swap_remove(at);
        if is_answered {
            slot.answered(self.moment());
        } else {
            slot.aborted(self.moment());
        }
    }

    /// # Panics
    /// Where a part of a cost is out of its bounds.
    fn check(&self) {
        let parameters = &self.pool.gpu_aware;
        for backend in 0..self.pool.backends.len() {
            let state = self.snapshot().backend(BackendIndex(backend as u32));
            let cost = state.learned().explained.expect("all are candidates");
            for (part, most) in [
                (cost.vram, parameters.vram_hard_cost),
                (cost.gpu, parameters.gpu_cost),
                (cost.failures, parameters.failure_cap),
                (cost.report_weight, 1.0),
                (cost.warm_up, 1.0),
                (cost.slowness, parameters.slowness_max),
            ] {
                assert!((0.0..=most as f32 + 1e-3).contains(&part), "{cost:?}");
            }
            assert!(cost.warm_up >= 0.05 && cost.slowness >= parameters.slowness_min as f32 - 1e-3);
            assert!(cost.vram_expected.is_none_or(f32::is_finite), "{cost:?}");
            for load in [0.0, 1.0, 100.0, 1e5] {
                assert!(state.load().line().cost_at(load).is_finite(), "{cost:?}");
            }
        }
    }
}

const SLOW_START_MS: u64 = 10_000;

fn build(
    pool: &Pool,
    registry: &mut BackendRegistry,
    previous: Option<&Snapshot>,
    now_ms: u64,
) -> Snapshot {
    let settings = PoolSettings {
        health: Health {
            slow_start_ms: SLOW_START_MS,
            ..Health::default()
        },
        ..PoolSettings::default()
    };
    let config = Config {
        generation: None,
        updated_at: None,
        listeners: Vec::new(),
        pools: vec![Pool {
            settings,
            ..pool.clone()
        }],
        process: ProcessSettings::default(),
    };
    Snapshot::build(previous, &config, registry, 1_000, 1_000, now_ms)
}

#[derive(Debug, Clone)]
enum Step {
    Report(usize, Report),
    Dispatch,
    End(bool),
    Tick,
    Pass(u64),
    ClockBack(u64),
    Reload,
}

fn any_usage() -> impl Strategy<Value = Option<f64>> {
    let odd = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(1e300),
        Just(5.0),
        Just(0.0),
        Just(0.98),
    ];
    prop::option::of(prop_oneof![odd, 0.0..1.0])
}

fn any_report() -> impl Strategy<Value = Report> {
    let time = prop::option::of(prop_oneof![
        Just(0),
        Just(u64::MAX),
        1_699_999_000_000_u64..1_700_001_000_000,
    ]);
    let heartbeat = prop::option::of(prop_oneof![Just(1), Just(1_000), Just(3_600_000)]);
    (any_usage(), any_usage(), time, heartbeat).prop_map(
        |(gpu_usage, vram_usage, reported_at_ms, heartbeat_ms)| Report {
            gpu_usage,
            vram_usage,
            reported_at_ms,
            heartbeat_ms,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..100_usize, any_report()).prop_map(|(at, report)| Step::Report(at, report)),
        6 => Just(Step::Dispatch),
        4 => any::<bool>().prop_map(Step::End),
        3 => Just(Step::Tick),
        3 => prop_oneof![0..200_u64, 0..100_000_u64].prop_map(Step::Pass),
        1 => (0..5_000_u64).prop_map(Step::ClockBack),
        1 => Just(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn costs_stay_within_bounds_and_there_is_always_a_pick(
        backends in prop_oneof![
            8 => prop::collection::vec((1..1000_u16, prop::bool::weighted(0.2)), 1..10),
            1 => prop::collection::vec((1..1000_u16, prop::bool::weighted(0.2)), 65..80),
        ],
        steps in prop::collection::vec(any_step(), 0..120),
        seed: u64,
    ) {
        let mut world = World::new(&backends, seed);
        for step in steps {
            match step {
                Step::Report(at, report) => world.report(at, &report),
                Step::Dispatch => prop_assert!(world.dispatch().is_some()),
                Step::End(is_answered) => world.end_one(is_answered),
                Step::Tick => world.tick(),
                Step::Pass(ms) => world.pass(ms),
                Step::ClockBack(ms) => world.now.us -= ms * 1_000,
                Step::Reload => world.reload(),
            }
            world.check();
        }
        world.tick();
        world.check();
        prop_assert!(world.pick().is_some());
        // What began has an end, and then nothing is in flight.
        world.in_flight.clear();
        for backend in 0..backends.len() {
            let state = world.snapshot().backend(BackendIndex(backend as u32));
            prop_assert_eq!(state.load().in_flight(), 0.0);
        }
    }
}

/// A lie of being full costs as much as 18 sessions, whoever tells it and for how long.
#[test]
fn whoever_lies_of_being_full_is_used_when_the_others_are_busy() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    for _ in 0..100 {
        world.pass(1_000);
        world.says(0, 0.98);
        world.says(1, 0.1);
    }
    assert_eq!(world.dispatch(), Some(1));
    let mut before_the_liar = 1;
    while world.dispatch() == Some(1) {
        before_the_liar += 1;
    }
    assert!((15..=20).contains(&before_the_liar), "{before_the_liar}");
}

#[test]
fn whoever_lies_of_being_idle_gains_nothing_by_it() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    world.says(0, 0.0);
    world.says(1, 0.5);
    (0..100).for_each(|_| assert!(world.dispatch().is_some()));
    let load = |at| world.snapshot().backend(BackendIndex(at)).sessions();
    assert!(load(0).abs_diff(load(1)) <= 1, "{} {}", load(0), load(1));
}

#[test]
fn reports_that_flap_each_second_do_not_teach_nonsense() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    for second in 0..200 {
        world.pass(1_000);
        world.dispatch();
        if second % 3 == 0 {
            world.end_one(true);
        }
        world.says(0, f64::from(second % 2));
        world.says(1, 0.3);
        world.tick();
        world.check();
    }
    // Quiet again, it is a backend like the other within a heartbeat.
    world.in_flight.clear();
    world.pass(1_000);
    world.says(0, 0.3);
    world.tick();
    let cost = |at| world.snapshot().backend(BackendIndex(at)).load().cost();
    assert!((cost(0) - cost(1)).abs() < 1.5, "{} {}", cost(0), cost(1));
}

#[test]
fn a_failure_moves_the_very_next_pick() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    world.begin(0);
    world.end_one(false);
    (0..20).for_each(|_| assert_eq!(world.pick(), Some(1), "no tick has passed"));
    world.tick();
    assert_eq!(world.pick(), Some(1));
    world.pass(60_000);
    world.tick();
    let mut picks: Vec<_> = (0..50).map(|_| world.pick()).collect();
    picks.sort_unstable();
    picks.dedup();
    assert_eq!(picks.len(), 2, "it is forgiven");
}

/// Learned slowness, failures and what a session takes of VRAM, by address.
#[test]
fn what_is_learned_outlives_reloads() {
    let mut world = World::new(&[(10, false), (10, false), (10, false)], 1);
    for _ in 0..40 {
        for (at, latency_ms) in [(0, 900), (1, 100), (2, 100)] {
            world.begin(at);
            world.pass(latency_ms);
            world.end_one(true);
            world.pass(10);
        }
        world.tick();
    }
    let slowness = |world: &World, at| {
        let explained = world
            .snapshot()
            .backend(BackendIndex(at))
            .learned()
            .explained;
        explained.expect("scored").slowness
    };
    let before = slowness(&world, 0);
    assert!(before > 4.0, "{before}");
    world.pool.backends.remove(1);
    world.reload();
    world.pool.backends.reverse();
    world.reload();
    let after = slowness(&world, 1);
    assert!(after > 2.0, "{after}");
    assert_eq!(world.pick(), Some(0));
}

/// All of them are new at the start, so none is held back; who comes later is.
#[test]
fn a_newcomer_gathers_only_its_part_of_what_the_others_have() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    (0..200).for_each(|_| assert!(world.dispatch().is_some()));
    let load = |world: &World, at| world.snapshot().backend(BackendIndex(at)).sessions();
    assert_eq!((load(&world, 0), load(&world, 1)), (100, 100));
    world.pass(2 * SLOW_START_MS);
    let newcomer = Backend {
        addr: BackendAddr::new([10, 0, 0, 2].into(), 80),
        ..world.pool.backends[0].clone()
    };
    world.pool.backends.push(newcomer);
    world.reload();
    world.pass(SLOW_START_MS / 5);
    world.tick();
    (0..40).for_each(|_| assert!(world.dispatch().is_some()));
    let newcomers = load(&world, 2);
    assert!(
        (19..=22).contains(&newcomers),
        "{newcomers} in flight at a fifth"
    );
}

#[test]
fn only_warming_backends_left_are_used_without_a_cap() {
    let mut world = World::new(&[(10, true), (10, true)], 1);
    (0..20).for_each(|_| assert!(world.dispatch().is_some()));
    let load = |at| world.snapshot().backend(BackendIndex(at)).sessions();
    assert_eq!((load(0), load(1)), (10, 10));

    let mut world = World::new(&[(10, true), (10, false)], 1);
    (0..100).for_each(|_| assert!(world.dispatch().is_some()));
    let warming = world.snapshot().backend(BackendIndex(0)).sessions();
    assert_eq!(warming, 1, "one session to warm up by");
}

/// One session at a time for so long, with a report a second of the first backend. Returns what each was
/// given.
fn serve_beside(vram: f64, gpu: f64, seconds: u32, fails: bool) -> [u32; 2] {
    let mut world = World::new(&[(10, false), (10, false)], 6);
    let mut counts = [0; 2];
    for step in 0..seconds * 10 {
        if step % 10 == 0 {
            let report = Report {
                vram_usage: Some(vram),
                gpu_usage: Some(gpu),
                reported_at_ms: Some(world.now.unix_ms),
                heartbeat_ms: Some(1_000),
            };
            world.report(0, &report);
        }
        let picked = world.dispatch().expect("both are candidates");
        counts[picked] += 1;
        world.pass(30);
        world.end_one(picked == 1 || !fails);
        world.pass(70);
        world.tick();
    }
    counts
}

#[test]
fn an_idle_backend_whose_full_cache_is_an_old_figure_serves_too() {
    let [doubtful, other] = serve_beside(0.99, 0.0, 120, false);
    assert!(doubtful > other / 2, "{doubtful} beside {other}");
}

#[test]
fn a_full_backend_loses_one_session_in_five_minutes() {
    let [full, other] = serve_beside(0.99, 0.0, 290, true);
    assert_eq!((full, other), (1, 2_899));
}

#[test]
fn a_full_backend_where_somebody_else_is_at_work_is_left_alone() {
    assert_eq!(serve_beside(0.99, 0.9, 290, false)[0], 0);
}

#[test]
fn every_backend_gets_a_session_in_thirty_seconds_and_no_flood() {
    // With 70 backends they are drawn, not all compared.
    for backends in [3, 70] {
        let weights = (0..backends).map(|at| (if at == 0 { 1 } else { 1_000 }, false));
        let mut world = World::new(&weights.collect::<Vec<_>>(), 7);
        world.pass(2 * SLOW_START_MS);
        let mut given = Vec::new();
        for step in 0..3_000 {
            let picked = world.dispatch().expect("all are candidates");
            if picked == 0 {
                given.push(step);
            }
            world.pass(30);
            world.end_one(true);
            world.pass(70);
            world.tick();
        }
        let gaps = given.windows(2).map(|two| two[1] - two[0]);
        assert!((6..=10).contains(&given.len()), "{given:?}");
        assert!(gaps.into_iter().all(|gap| gap <= 450), "{given:?}");
    }
}

/// Rare sessions, of which each counts for a while, in a pool whose health changes all the time.
#[test]
fn trials_come_in_time_where_snapshots_change_often() {
    let mut world = World::new(&[(1, false), (1_000, false), (1_000, false)], 7);
    world.pass(2 * SLOW_START_MS);
    let mut given_s = Vec::new();
    for second in 0..300 {
        if second % 2 == 0 && world.dispatch().expect("all are candidates") == 0 {
            given_s.push(second);
        }
        for _ in 0..10 {
            world.pass(100);
            world.reload();
        }
        world.end_one(true);
        let flapping = &mut world.pool.backends[2];
        flapping.enabled = !flapping.enabled;
    }
    let gaps = given_s.windows(2).map(|two| two[1] - two[0]);
    assert!((7..=10).contains(&given_s.len()), "{given_s:?}");
    assert!(gaps.into_iter().all(|gap| gap <= 45), "{given_s:?}");
}

/// Whoever comes back has begun sessions long ago.
#[test]
fn an_unused_pool_makes_nobody_due_whoever_comes_and_goes() {
    let mut world = World::new(&[(1, false), (1_000, false), (1_000, false)], 8);
    for _ in 0..1_000 {
        world.begin(2);
        world.end_one(true);
    }
    world.pass(2 * SLOW_START_MS);
    world.tick();
    for _ in 0..600 {
        let flapping = &mut world.pool.backends[2];
        flapping.enabled = !flapping.enabled;
        world.pass(1_000);
        world.reload();
    }
    assert_ne!(world.dispatch(), Some(0));
}

/// Else rare sessions would go to each in turn, and no longer where they cost least.
#[test]
fn at_most_a_quarter_of_rare_sessions_are_trials() {
    let mut world = World::new(&[(1, false), (1, false), (1, false), (1_000, false)], 8);
    world.pass(2 * SLOW_START_MS);
    let mut counts = [0; 4];
    for _ in 0..400 {
        counts[world.dispatch().expect("all are candidates")] += 1;
        world.pass(1_000);
        world.tick();
        world.end_one(true);
        world.pass(59_000);
        world.tick();
    }
    assert!(counts[3] >= 300, "{counts:?}");
    assert!(counts.iter().all(|&count| count > 10), "{counts:?}");
}

#[test]
fn an_unused_pool_makes_nobody_due() {
    let mut world = World::new(&[(1, false), (1_000, false)], 8);
    for _ in 0..600 {
        world.pass(1_000);
        world.tick();
    }
    assert_eq!(world.dispatch(), Some(1));
}

#[test]
fn scoring_ceases_when_nothing_changes_by_time_any_more() {
    let mut world = World::new(&[(10, false), (10, false)], 1);
    world.pass(2 * SLOW_START_MS);
    assert_eq!(
        world.snapshot().score(world.now),
        None,
        "nothing has happened"
    );
    world.begin(0);
    assert_eq!(world.snapshot().score(world.now), Some(100_000));
    world.end_one(false);
    assert!(
        world.snapshot().score(world.now).is_some(),
        "a failure fades"
    );
    world.pass(3_600_000);
    assert_eq!(world.snapshot().score(world.now), None);
    world.says(1, 0.5);
    assert_eq!(
        world.snapshot().score(world.now),
        Some(1_200_000),
        "until it is stale"
    );
    world.pass(60_000);
    assert_eq!(world.snapshot().score(world.now), None);
}
