//! The whole of health in virtual time, by seed: backends die, hang and come back, sessions are
//! placed by the snapshots that follow from it, and a configuration is loaded now and then.
//!
//! What is checked is what was promised, from the outside: the simulation keeps its own account of
//! what each backend was asked and how it answered.

use std::collections::HashMap;

use contract::health::{AllDown, Health as Rules, ProbeKind};
use contract::state_reason::ProbeFailure;
use contract::{Backend, BackendAddr, Config, LocalAddresses, check};
use proxy_core::health::schedule::Job;
use proxy_core::health::sources::{AnsweredSources, Source};
use proxy_core::health::watch::{Failing, MIN_REFRESH_MS, Watch};
use proxy_core::health::{Outcome, PROTOCOLS, Unanswered};
use proxy_core::pick::Request;
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::snapshot::Snapshot;
use serde_json::json;

const SEEDS: u64 = 100;
const RUN_MS: u64 = 60_000;
/// Nothing breaks from here on, so that everything must be well at the end.
const CALM_FROM_MS: u64 = 40_000;
const MOST_IN_FLIGHT: usize = 8;

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Serves,
    Refuses,
    Hangs,
    /// Takes connects and fails every session: no plain probe finds out.
    FailsSessions,
}

/// What the simulation knows of one backend.
#[derive(Debug)]
struct Truth {
    manner: Manner,
    /// Of probes that counted, the newest last.
    probes: Vec<bool>,
    /// Of those, how many had ended when it was ejected.
    ejected_at: Option<(u64, usize)>,
    probed_ms: Option<u64>,
    is_in_flight: bool,
    has_served_all_along: bool,
}

struct Simulation {
    now_ms: u64,
    random: fastrand::Rng,
    config: Config,
    registry: BackendRegistry,
    snapshot: Snapshot,
    watch: Watch,
    truths: HashMap<BackendAddr, Truth>,
    answered: AnsweredSources,
    /// Ends of probes, by time.
    in_flight: Vec<(u64, Job, Outcome)>,
    refreshed_ms: Option<u64>,
}

fn config(random: &mut fastrand::Rng) -> Config {
    let backends: Vec<_> = (1..=random.u16(1..=12))
        .map(|port| json!({"ip": "10.0.0.1", "port": port, "weight": random.u16(0..=10)}))
        .collect();
    let interval_ms = random.u64(100..=2_000);
    let algorithms = ["weighted_round_robin", "least_connections", "random"];
    let algorithm = algorithms[random.usize(..algorithms.len())];
    let probe = ["tcp", "tcp", "off"][random.usize(..3)];
    let all_down = ["reject", "fail_open"][random.usize(..2)];
    let slow_start_ms = [0, 100, 5_000][random.usize(..3)];
    let document = json!({
        "listen": {"host": "127.0.0.1", "port": 10080},
        "algorithm": algorithm,
        "backends": backends,
        "health": {
            "probe": probe,
            "interval_ms": interval_ms,
            "timeout_ms": random.u64(50..=1_000),
            "jitter_percent": random.u64(0..=50),
            "rise": random.u64(1..=4),
            "fall": random.u64(1..=4),
        },
        "ejection": {
            "failures": random.u64(0..=6),
            "base_ms": random.u64(100..=1_000),
            "max_ms": random.u64(1_000..=4_000),
            "max_percent": random.u64(0..=100),
        },
        "all_down": all_down,
        "slow_start_ms": slow_start_ms,
    });
    let bytes = document.to_string();
    let checked = check(bytes.as_bytes(), &LocalAddresses::default());
    checked.expect("the document above is right").config
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = config(&mut random);
        let mut registry = BackendRegistry::new(1);
        let snapshot = Snapshot::build(None, &config, &mut registry, 1, 1, 0);
        let mut watch = Watch::new();
        watch.configure(&config, &snapshot, &registry, 0);
        let truth = |backend: &Backend| {
            let truth = Truth {
                manner: Manner::Serves,
                probes: Vec::new(),
                ejected_at: None,
                probed_ms: None,
                is_in_flight: false,
                has_served_all_along: true,
            };
            (backend.addr, truth)
        };
        Simulation {
            now_ms: 0,
            random,
            truths: config.pools[0].backends.iter().map(truth).collect(),
            config,
            registry,
            snapshot,
            watch,
            answered: AnsweredSources::default(),
            in_flight: Vec::new(),
            refreshed_ms: None,
        }
    }

    fn rules(&self) -> &Rules {
        &self.config.pools[0].settings.health
    }

    fn is_available(&self, addr: BackendAddr) -> bool {
        let backend = &self.registry.at(addr)[0];
        backend.health().standing().is_available(Protocol::Tcp)
    }

    fn run(&mut self) {
        while self.now_ms < RUN_MS {
            self.watch.run_timers(&self.registry, self.now_ms);
            self.check_changes();
            self.end_probes();
            self.check_changes();
            self.start_probes();
            self.place_sessions();
            self.check_changes();
            if self.watch.take_refresh(self.now_ms) {
                self.refresh();
            }
            self.check_freshness();
            self.disturb();
            // Far finer than anything that is configured here.
            self.now_ms += 5;
        }
        self.check_end();
    }

    fn start_probes(&mut self) {
        while self.in_flight.len() < MOST_IN_FLIGHT {
            let Some(job) = self.watch.take_due(self.now_ms) else {
                return;
            };
            let probe = self.rules().probe.clone();
            let truth = self
                .truths
                .get_mut(&job.member.addr)
                .expect("a known target");
            assert!(
                !truth.is_in_flight,
                "two probes of {} at once",
                job.member.addr
            );
            let least_ms = probe.interval_ms * (100 - probe.jitter_percent) / 100;
            let waited_ms = truth.probed_ms.map(|probed_ms| self.now_ms - probed_ms);
            assert!(waited_ms.is_none_or(|waited_ms| waited_ms >= least_ms));
            truth.is_in_flight = true;
            let passed = Outcome::Passed { latency_us: 1 };
            let (takes_ms, outcome) = match truth.manner {
                Manner::Serves | Manner::FailsSessions => (self.random.u64(0..20), passed),
                Manner::Refuses => (0, Outcome::Failed(ProbeFailure::Refused)),
                Manner::Hangs => (probe.timeout_ms, Outcome::Failed(ProbeFailure::TimedOut)),
            };
            let outcome = match self.random.u32(..50) {
                0 => Outcome::Inconclusive,
                _ => outcome,
            };
            self.in_flight.push((self.now_ms + takes_ms, job, outcome));
        }
    }

    fn end_probes(&mut self) {
        let now_ms = self.now_ms;
        let ended: Vec<_> = self
            .in_flight
            .extract_if(.., |(at_ms, _, _)| *at_ms <= now_ms)
            .collect();
        for (_, job, outcome) in ended {
            let truth = self
                .truths
                .get_mut(&job.member.addr)
                .expect("a known target");
            truth.is_in_flight = false;
            truth.probed_ms = Some(now_ms);
            match outcome {
                Outcome::Passed { .. } => truth.probes.push(true),
                Outcome::Failed(_) => truth.probes.push(false),
                Outcome::Inconclusive | Outcome::OwnListener(_) => {}
            }
            let random = &mut self.random;
            self.watch
                .probed(&self.registry, job, outcome, now_ms, random);
            self.check_changes();
        }
    }

    /// A few sessions, each retried elsewhere until it is served, as a worker does. Some are of a
    /// stranger, whom every backend closes on without a byte.
    fn place_sessions(&mut self) {
        let failures = self.rules().ejection.failures;
        for _ in 0..self.random.usize(..4) {
            let is_stranger = self.now_ms < CALM_FROM_MS && self.random.bool();
            let client_ip = match is_stranger {
                true => [10, 2, 0, 1].into(),
                false => [10, 1, 0, self.random.u8(..)].into(),
            };
            let source = Source::of(client_ip);
            let mut tried = Vec::new();
            while tried.len() < 4 {
                let pool = &self.snapshot.pools[0];
                let request = Request {
                    client_ip,
                    tried: &tried,
                };
                let (now_us, random) = (self.now_ms * 1_000, &mut self.random);
                let Some(picked) = pool.pick(Protocol::Tcp, &request, now_us, random) else {
                    break;
                };
                let index = picked.backend;
                let backend = pool.backend(index);
                let (addr, health) = (backend.addr, backend.health());
                let is_failing = match self.truths[&addr].manner {
                    Manner::Serves if !is_stranger => {
                        backend.worker(0).tally.answered();
                        backend.answered(&self.answered, source, self.now_ms);
                        health.answered(Protocol::Tcp);
                        break;
                    }
                    Manner::Serves | Manner::FailsSessions => {
                        let (known, now_ms) = (&self.answered, self.now_ms);
                        backend.left_unanswered(0, known, source, failures, now_ms)
                            == Unanswered::OneTooMany
                    }
                    Manner::Refuses | Manner::Hangs => health.failed(Protocol::Tcp, failures),
                };
                tried.push(index);
                if is_failing {
                    self.failing(addr);
                }
            }
        }
    }

    fn failing(&mut self, addr: BackendAddr) {
        let was_available = self.is_available(addr);
        let members = self.config.pools[0].backends.iter();
        let members: Vec<_> = members.filter(|backend| backend.weight > 0).collect();
        let is_out = |backend: &&&Backend| !self.is_available(backend.addr);
        let out_before = members.iter().filter(is_out).count();
        let failing = Failing {
            member: self.registry.at(addr)[0].id(),
            protocol: Protocol::Tcp,
        };
        self.watch.failing(&self.registry, failing, self.now_ms);
        if was_available && !self.is_available(addr) {
            let most = members.len() * self.rules().ejection.max_percent as usize / 100;
            assert!(out_before < most, "{out_before} were out, {most} may be");
            let truth = self.truths.get_mut(&addr).expect("a known target");
            assert!(!truth.has_served_all_along, "by a stranger: {truth:?}");
            truth.ejected_at = Some((self.now_ms, truth.probes.len()));
        }
        self.check_changes();
    }

    /// Each change has its reason in what the backend was seen to do.
    fn check_changes(&mut self) {
        let (rise, fall) = (
            self.rules().probe.rise as usize,
            self.rules().probe.fall as usize,
        );
        let base_ms = self.rules().ejection.base_ms;
        for change in self.watch.take_changes() {
            if change.protocol == Protocol::Udp {
                continue;
            }
            let now_ms = self.now_ms;
            let truth = self
                .truths
                .get_mut(&change.member.addr)
                .expect("a known target");
            let last = |count: usize| &truth.probes[truth.probes.len().saturating_sub(count)..];
            let have_failed = last(fall).len() == fall && last(fall).iter().all(|passed| !passed);
            let have_passed = last(rise).len() == rise && last(rise).iter().all(|passed| *passed);
            if !change.is_available {
                let was_ejected = truth.ejected_at.is_some_and(|(at_ms, _)| at_ms == now_ms);
                assert!(have_failed || was_ejected, "out for nothing: {truth:?}");
                continue;
            }
            let is_probed = self.config.pools[0].settings.health.probe.kind != ProbeKind::Off;
            assert!(
                have_passed || !is_probed,
                "back without {rise} successes: {truth:?}"
            );
            if let Some((at_ms, probes)) = truth.ejected_at.take() {
                assert!(now_ms >= at_ms + base_ms, "back before its time");
                let new_probes = truth.probes.len() - probes;
                assert!(new_probes >= rise || !is_probed, "old probes counted");
            }
        }
    }

    fn refresh(&mut self) {
        let since_ms = self.refreshed_ms.map(|at_ms| self.now_ms - at_ms);
        assert!(since_ms.is_none_or(|since_ms| since_ms >= MIN_REFRESH_MS));
        self.refreshed_ms = Some(self.now_ms);
        self.install();
    }

    /// What both a refresh and a reload do.
    fn install(&mut self) {
        let registry = &mut self.registry;
        let old = Some(&self.snapshot);
        let new = Snapshot::build(old, &self.config, registry, 1, 1, self.now_ms);
        let table = |snapshot: &Snapshot| snapshot.pools[0].table(Protocol::Tcp) as *const _;
        assert_ne!(table(&self.snapshot), table(&new));
        self.snapshot = new;
        self.check_snapshot();
    }

    /// What the snapshot does not show yet, the next one will, and soon.
    fn check_freshness(&self) {
        let pool = &self.snapshot.pools[0];
        let shown = pool.health(Protocol::Tcp).available;
        let members = self.config.pools[0].backends.iter();
        let is_in = |backend: &&Backend| backend.weight > 0 && self.is_available(backend.addr);
        let next_ms = self.watch.next_refresh_ms();
        let is_soon = next_ms.is_some_and(|at_ms| at_ms <= self.now_ms + MIN_REFRESH_MS);
        assert!(members.filter(is_in).count() == shown || is_soon);
    }

    fn check_snapshot(&self) {
        let pool = &self.snapshot.pools[0];
        for protocol in PROTOCOLS {
            let health = pool.health(protocol);
            let table = pool.table(protocol);
            let indexed = self.config.pools[0].backends.iter().map(|backend| {
                let index = pool.index_of(backend.addr).expect("built from it");
                let state = pool.backend(index).health().standing();
                (backend, table.share(index), state.is_available(protocol))
            });
            for (backend, share, is_available) in indexed {
                let is_open = health.all_down == Some(AllDown::FailOpen);
                let is_in = backend.weight > 0 && (is_available || is_open);
                assert_eq!(share > 0, is_in, "{health:?}");
            }
        }
    }

    /// Backends change their manner, and files are loaded: with the same content, or other weights.
    fn disturb(&mut self) {
        let is_calm = self.now_ms >= CALM_FROM_MS;
        if is_calm || self.random.u32(..100) == 0 {
            let addrs: Vec<_> = self.truths.keys().copied().collect();
            for addr in addrs {
                let manner = match self.random.u32(..8) {
                    _ if is_calm => Manner::Serves,
                    0 => Manner::Refuses,
                    1 => Manner::Hangs,
                    2 => Manner::FailsSessions,
                    _ => Manner::Serves,
                };
                let truth = self.truths.get_mut(&addr).expect("a key of it");
                truth.manner = manner;
                truth.has_served_all_along &= manner == Manner::Serves;
            }
        }
        if !is_calm && self.random.u32(..200) == 0 {
            let before: Vec<bool> = self.availability();
            for backend in &mut self.config.pools[0].backends {
                backend.weight = backend.weight.max(1);
            }
            self.install();
            let (config, snapshot) = (&self.config, &self.snapshot);
            self.watch
                .configure(config, snapshot, &self.registry, self.now_ms);
            assert_eq!(self.availability(), before, "a reload keeps health");
        }
    }

    fn availability(&self) -> Vec<bool> {
        let backends = self.config.pools[0].backends.iter();
        backends
            .map(|backend| self.is_available(backend.addr))
            .collect()
    }

    /// After a long calm everybody is in with all of its share, and nothing is left to do but
    /// probes.
    fn check_end(&self) {
        assert!(
            self.availability().iter().all(|is_available| *is_available),
            "{:?}",
            self.truths
        );
        for backend in &self.config.pools[0].backends {
            let index = self.snapshot.pools[0].index_of(backend.addr);
            let share = self.snapshot.pools[0]
                .table(Protocol::Tcp)
                .share(index.expect("built from it"));
            let full = match self.config.pools[0].algorithm.name() {
                "least_connections" if backend.weight > 0 => 10,
                _ => u32::from(backend.weight),
            };
            assert_eq!(share, full);
        }
        assert_eq!(
            self.watch.next_wakeup_ms(),
            None,
            "nothing but probes is left"
        );
    }
}

#[test]
fn every_change_has_its_reason_and_all_is_well_in_the_end() {
    for seed in 0..SEEDS {
        println!("seed {seed}");
        Simulation::new(seed).run();
    }
}
