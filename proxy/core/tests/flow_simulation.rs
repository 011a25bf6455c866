//! UDP flows in virtual time: clients, backends that come, go and refuse, reloads, and the table and
//! the flows' states driven exactly as the worker drives them. Every seed is one history; a failing
//! seed is printed and replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events: the table never holds more flows than its bound; a
//! flow keeps its backend for as long as that is allowed; nothing goes to a backend that was removed
//! or disabled by the snapshot in force, or that has refused; silence ends a flow neither early nor
//! late; every end has its one reason; and what backends count in flight is what the table holds, at
//! the end nothing (invariants 1, 3, 4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use contract::{Backend, BackendAddr, Report};
use proxy_core::backend::{BackendRegistry, BackendState};
use proxy_core::flow::FlowState;
use proxy_core::flow_table::{FlowKey, FlowTable};
use proxy_core::reason::FlowEnd;

const CLIENTS: u16 = 12;
const BACKENDS: u16 = 4;
const MOST_FLOWS: usize = 6;
const IDLE_MS: u64 = 500;
const STEPS: usize = 400;

/// What the simulation itself knows of a flow, to hold the table against.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    backend: BackendAddr,
    last_seen_ms: u64,
    answers: u64,
    is_refused: bool,
}

struct Simulation {
    seed: u64,
    random: fastrand::Rng,
    now_ms: u64,
    epoch: u64,
    most_answers: u64,
    registry: BackendRegistry,
    /// Of the snapshot in force: each backend, and whether it is enabled.
    installed: Vec<(Arc<BackendState>, bool)>,
    table: FlowTable<FlowState>,
    known: BTreeMap<u16, Known>,
    begun: u64,
    ended: Vec<FlowEnd>,
}

fn key(client: u16) -> FlowKey {
    FlowKey {
        client: SocketAddr::from(([10, 0, 0, 1], client)),
        local_ip: None,
        port: 53,
    }
}

fn addr(backend: u16) -> BackendAddr {
    BackendAddr::new([10, 0, 1, 1].into(), backend)
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = fastrand::Rng::with_seed(seed);
        let most_answers = random.choice([0, 0, 1, 5]).expect("four of them");
        let mut simulation = Simulation {
            seed,
            random,
            now_ms: 1_000,
            epoch: 0,
            most_answers,
            registry: BackendRegistry::new(1),
            installed: Vec::new(),
            table: FlowTable::default(),
            known: BTreeMap::new(),
            begun: 0,
            ended: Vec::new(),
        };
        simulation.reload();
        simulation
    }

    /// Another set of backends; each may be listed, disabled or missing.
    fn reload(&mut self) {
        let described = |port, enabled| Backend {
            addr: addr(port),
            weight: 1,
            enabled,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        };
        let mut backends = Vec::new();
        for port in 1..=BACKENDS {
            match self.random.u8(..4) {
                0 => {}
                1 => backends.push(described(port, false)),
                _ => backends.push(described(port, true)),
            }
        }
        let states = self.registry.adopt(&backends);
        let enabled = backends.iter().map(|backend| backend.enabled);
        self.installed = states.into_iter().zip(enabled).collect();
        self.epoch += 1;
    }

    fn takes_flows(&self, backend: BackendAddr) -> bool {
        let mut installed = self.installed.iter();
        installed.any(|(state, enabled)| *enabled && state.addr == backend)
    }

    fn pick(&mut self, not: Option<BackendAddr>) -> Option<Arc<BackendState>> {
        let open = self.installed.iter().filter(|(_, enabled)| *enabled);
        let open: Vec<_> = open.map(|(state, _)| state).collect();
        let others = open.iter().copied().filter(|state| Some(state.addr) != not);
        let others: Vec<_> = others.collect();
        let choice = if others.is_empty() { open } else { others };
        self.random.choice(choice).cloned()
    }

    /// A client's datagram: found, checked, moved where it must, begun where there is room.
    fn datagram(&mut self, client: u16) {
        let key = key(client);
        let mut refused_by = None;
        if let Some(index) = self.table.find(&key) {
            let (_, flow) = self.table.get_mut(index).expect("found just now");
            let known = self.known[&client];
            assert_eq!(flow.backend().addr, known.backend, "seed {}", self.seed);
            match flow.check(self.epoch) {
                None => {
                    let may_stay = self.takes_flows(known.backend) && !known.is_refused;
                    assert!(may_stay, "seed {}: sent to {}", self.seed, known.backend);
                    self.table.touch(index, self.now_ms);
                    self.note(client, |known, now_ms| known.last_seen_ms = now_ms);
                    return;
                }
                Some(end) => {
                    let right = if known.is_refused {
                        FlowEnd::Refused
                    } else {
                        FlowEnd::BackendGone
                    };
                    assert_eq!(end, right, "seed {}", self.seed);
                    assert!(known.is_refused || !self.takes_flows(known.backend));
                    refused_by = known.is_refused.then_some(known.backend);
                    self.end(client, end);
                }
            }
        }
        self.begin(client, refused_by);
    }

    fn begin(&mut self, client: u16, refused_by: Option<BackendAddr>) {
        while self.table.len() >= MOST_FLOWS {
            let (oldest, _) = self.table.oldest().expect("it is full");
            let (key, _) = self.table.get(oldest).expect("it is listed");
            let oldest = key.client.port();
            let silent_for_longest = self.known.values().map(|known| known.last_seen_ms).min();
            assert_eq!(
                Some(self.known[&oldest].last_seen_ms),
                silent_for_longest,
                "seed {}: evicted",
                self.seed
            );
            self.end(oldest, FlowEnd::Evicted);
        }
        let Some(backend) = self.pick(refused_by) else {
            return;
        };
        let flow = FlowState::begin(&backend, self.epoch);
        self.table.insert(key(client), flow, self.now_ms);
        self.begun += 1;
        let known = Known {
            backend: backend.addr,
            last_seen_ms: self.now_ms,
            answers: 0,
            is_refused: false,
        };
        self.known.insert(client, known);
    }

    fn note(&mut self, client: u16, note: impl FnOnce(&mut Known, u64)) {
        let now_ms = self.now_ms;
        note(self.known.get_mut(&client).expect("it has a flow"), now_ms);
    }

    /// Answers of the backend, or ICMP's word that it is not there, for a flow that exists.
    fn backend_speaks(&mut self, client: u16) {
        let Some(index) = self.table.find(&key(client)) else {
            return;
        };
        let (_, flow) = self.table.get_mut(index).expect("found just now");
        if self.random.u8(..5) == 0 {
            flow.refuse();
            return self.note(client, |known, _| known.is_refused = true);
        }
        let count = self.random.usize(1..4);
        let end = flow.answered(count, self.most_answers);
        self.table.touch(index, self.now_ms);
        self.note(client, |known, now_ms| {
            known.answers += count as u64;
            known.last_seen_ms = now_ms;
        });
        let is_enough = self.most_answers > 0 && self.known[&client].answers >= self.most_answers;
        assert_eq!(end.is_some(), is_enough, "seed {}", self.seed);
        if let Some(end) = end {
            self.end(client, end);
        }
    }

    fn expire(&mut self) {
        while let Some((index, last_seen_ms)) = self.table.oldest() {
            if self.now_ms < last_seen_ms + IDLE_MS {
                break;
            }
            let (key, _) = self.table.get(index).expect("it is listed");
            self.end(key.client.port(), FlowEnd::Idle);
        }
        let overdue = |known: &&Known| known.last_seen_ms + IDLE_MS <= self.now_ms;
        let left = self.known.values().filter(overdue).count();
        assert_eq!(left, 0, "seed {}: idle flows were left", self.seed);
    }

    fn end(&mut self, client: u16, end: FlowEnd) {
        let index = self.table.find(&key(client)).expect("it has a flow");
        self.table.remove(index).expect("found just now");
        let known = self.known.remove(&client).expect("it has a flow");
        let silence_ms = self.now_ms - known.last_seen_ms;
        assert!(end != FlowEnd::Idle || silence_ms >= IDLE_MS, "too early");
        self.ended.push(end);
    }

    /// The table, the backends' counts and what the simulation knows agree.
    fn compare(&self) {
        assert!(self.table.len() <= MOST_FLOWS, "seed {}", self.seed);
        assert_eq!(self.table.len(), self.known.len(), "seed {}", self.seed);
        assert_eq!(self.begun, (self.ended.len() + self.table.len()) as u64);
        for state in self.registry.all() {
            let here = self.known.values();
            let here = here.filter(|known| known.backend == state.addr).count();
            assert_eq!(
                state.flows(),
                here as u64,
                "seed {}: {}",
                self.seed,
                state.addr
            );
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.u64(0..60);
        let client = self.random.u16(1..=CLIENTS);
        match self.random.u8(..20) {
            0 => self.reload(),
            1..=6 => self.backend_speaks(client),
            // Silence, now and then, of everyone.
            7 if self.random.u8(..4) == 0 => self.now_ms += IDLE_MS,
            _ => self.datagram(client),
        }
        self.expire();
        self.compare();
    }
}

/// Plays one history; returns the ends that it met.
#[track_caller]
fn check(seed: u64) -> Vec<FlowEnd> {
    let mut simulation = Simulation::new(seed);
    (0..STEPS).for_each(|_| simulation.step());
    simulation.now_ms += IDLE_MS;
    simulation.expire();
    simulation.compare();
    assert!(simulation.table.is_empty(), "seed {seed}: flows were left");
    let in_flight: u64 = simulation.registry.all().map(|state| state.flows()).sum();
    assert_eq!(in_flight, 0, "seed {seed}");
    simulation.ended
}

#[test]
fn flows_stay_move_and_end_as_promised_in_every_history() {
    let met: BTreeSet<&str> = (0..5_000).flat_map(check).map(FlowEnd::word).collect();
    let expected = ["answered", "backend_gone", "evicted", "idle", "refused"];
    assert!(met.into_iter().eq(expected), "every kind of end is played");
}
