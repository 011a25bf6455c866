//! UDP flows in virtual time: clients, backends that come, go, fall silent and refuse, reloads, and the
//! table and the flows' states driven exactly as the worker drives them. Every seed is one history; a
//! failing seed is printed and replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events: the table never holds more flows than its bound, and
//! evicts the one that is missed least; a flow keeps its backend for as long as that is allowed; a
//! backend that was removed or disabled by the snapshot in force keeps the flows that it answers, for no
//! longer than the settings say, and no others; nothing goes to one that has refused; silence ends a
//! flow neither early nor late; every end has its one reason; and what backends count in flight is what
//! the table holds, at the end nothing (invariants 1, 3, 4).
//!
//! Floods of new sources are played apart, with the figures of a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use contract::{Algorithm, Backend, BackendAddr, Name, Pool, Report};
use proxy_core::backend::{BackendRegistry, BackendState};
use proxy_core::flow::{ANSWER_PATIENCE_MS, FlowState, Judging};
use proxy_core::flow_table::{FlowIndex, FlowKey, FlowTable, Rank};
use proxy_core::ids::ListenerId;
use proxy_core::reason::FlowEnd;

const CLIENTS: u16 = 18;
const BACKENDS: u16 = 4;
const MOST_FLOWS: usize = 12;
const IDLE_MS: u64 = 5_000;
const STEPS: usize = 400;

/// What the simulation itself knows of a flow, to hold the table against.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    backend: BackendAddr,
    last_seen_ms: u64,
    rank: Rank,
    /// When each datagram was sent that no answer has followed.
    unanswered_ms: Option<u64>,
    requests: u64,
    answers: u64,
    is_refused: bool,
}

struct Simulation {
    seed: u64,
    random: fastrand::Rng,
    now_ms: u64,
    epoch: u64,
    responses: u64,
    backend_gone_timeout_ms: Option<u64>,
    registry: BackendRegistry,
    /// Of the snapshot in force: each backend, and whether it is enabled.
    installed: Vec<(Arc<BackendState>, bool)>,
    /// Since when a backend takes no flows.
    gone_since_ms: BTreeMap<BackendAddr, u64>,
    /// Some backend has answered at some time.
    has_any_answered: bool,
    /// Backends that say nothing.
    silent: BTreeSet<BackendAddr>,
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
        let responses = random.choice([0, 0, 1, 2]).expect("four of them");
        let backend_gone_timeout_ms = random.choice([None, Some(0), Some(9_000)]);
        let mut simulation = Simulation {
            seed,
            random,
            now_ms: 1_000,
            epoch: 0,
            responses,
            backend_gone_timeout_ms: backend_gone_timeout_ms.expect("three of them"),
            registry: BackendRegistry::new(1),
            installed: Vec::new(),
            gone_since_ms: BTreeMap::new(),
            has_any_answered: false,
            silent: BTreeSet::new(),
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
        let pool = Pool::new(Name::default(), Algorithm::Random, backends.clone());
        let states = self.registry.adopt(&[pool]).remove(0).states;
        let enabled = backends.iter().map(|backend| backend.enabled);
        self.installed = states.into_iter().zip(enabled).collect();
        self.epoch += 1;
        for port in 1..=BACKENDS {
            let addr = addr(port);
            match self.takes_flows(addr) {
                true => self.gone_since_ms.remove(&addr),
                false => Some(*self.gone_since_ms.entry(addr).or_insert(self.now_ms)),
            };
            match self.random.u8(..3) {
                0 => self.silent.insert(addr),
                _ => self.silent.remove(&addr),
            };
        }
    }

    fn judging(&self) -> Judging {
        Judging {
            epoch: self.epoch,
            now_ms: self.now_ms,
            backend_gone_timeout_ms: self.backend_gone_timeout_ms,
        }
    }

    /// Whether `backend` is gone, and has been for as long as the settings allow.
    fn has_outstayed(&self, backend: BackendAddr) -> bool {
        let (since, timeout) = (
            self.gone_since_ms.get(&backend),
            self.backend_gone_timeout_ms,
        );
        since
            .zip(timeout)
            .is_some_and(|(since_ms, timeout_ms)| since_ms + timeout_ms <= self.now_ms)
    }

    /// Why the next datagram of this flow goes elsewhere, if it does, as docs/traffic.md says it.
    fn moves(&self, known: &Known) -> Option<FlowEnd> {
        if known.is_refused {
            return Some(FlowEnd::Refused);
        }
        let waits = known.unanswered_ms;
        let moves = known.answers == 0
            || waits.is_some_and(|since_ms| self.now_ms - since_ms >= ANSWER_PATIENCE_MS)
            || self.has_outstayed(known.backend);
        (!self.takes_flows(known.backend) && moves).then_some(FlowEnd::BackendGone)
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
            let judging = Judging {
                epoch: self.epoch,
                now_ms: self.now_ms,
                backend_gone_timeout_ms: self.backend_gone_timeout_ms,
            };
            let end = flow.check(judging);
            let rank = flow.rank_when_asked();
            assert_eq!(end, self.moves(&known), "seed {}: {known:?}", self.seed);
            let Some(end) = end else {
                self.table.touch(index, rank, self.now_ms);
                return self.sent(client, index);
            };
            refused_by = known.is_refused.then_some(known.backend);
            self.end(client, end);
        }
        self.begin(client, refused_by);
    }

    fn begin(&mut self, client: u16, refused_by: Option<BackendAddr>) {
        while self.table.len() >= MOST_FLOWS {
            let index = self.table.least_missed().expect("it is full");
            let (key, _) = self.table.get(index).expect("it is listed");
            let evicted = key.client.port();
            self.assert_is_least_missed(evicted);
            self.end(evicted, FlowEnd::Evicted);
        }
        let Some(backend) = self.pick(refused_by) else {
            return;
        };
        let flow = FlowState::begin(&backend, self.epoch);
        let index = self
            .table
            .insert(key(client), flow, ListenerId::FIRST, self.now_ms);
        self.begun += 1;
        let known = Known {
            backend: backend.addr,
            last_seen_ms: self.now_ms,
            rank: Rank::Unanswered,
            unanswered_ms: None,
            requests: 0,
            answers: 0,
            is_refused: false,
        };
        self.known.insert(client, known);
        self.sent(client, index);
    }

    /// A datagram of `client` went out.
    fn sent(&mut self, client: u16, index: FlowIndex) {
        let (_, flow) = self.table.get_mut(index).expect("found just now");
        flow.sent(1, self.now_ms);
        self.note(client, |known, now_ms| {
            known.last_seen_ms = now_ms;
            known.requests += 1;
            known.unanswered_ms = known.unanswered_ms.or(Some(now_ms));
            if known.answers > 0 {
                known.rank = Rank::Conversing;
            }
        });
    }

    /// Who was never answered goes first, then those who have not come back since, the longest silent
    /// of them, where they are more than an eighth.
    fn assert_is_least_missed(&self, evicted: u16) {
        let of = |rank| self.known.values().filter(move |known| known.rank == rank);
        let is_many = |rank: &Rank| of(*rank).count() > self.known.len() / 8;
        let lower = [Rank::Unanswered, Rank::Answered];
        let right = lower.into_iter().find(is_many).unwrap_or(Rank::Conversing);
        let silent_for_longest = of(right).map(|known| known.last_seen_ms).min();
        let known = &self.known[&evicted];
        assert_eq!(
            (known.rank, Some(known.last_seen_ms)),
            (right, silent_for_longest),
            "seed {}",
            self.seed
        );
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
        if self.random.u8(..12) == 0 {
            flow.refuse();
            return self.note(client, |known, _| known.is_refused = true);
        }
        if self.silent.contains(&self.known[&client].backend) {
            return;
        }
        let count = self.random.usize(1..4);
        flow.backend().set_answers_datagrams();
        self.has_any_answered = true;
        let end = flow.answered(count, self.responses);
        self.table.touch(index, Rank::Answered, self.now_ms);
        self.note(client, |known, now_ms| {
            known.answers += count as u64;
            known.last_seen_ms = now_ms;
            known.unanswered_ms = None;
            known.rank = known.rank.max(Rank::Answered);
        });
        let known = &self.known[&client];
        let is_enough = self.responses > 0 && known.answers >= self.responses * known.requests;
        assert_eq!(end.is_some(), is_enough, "seed {}", self.seed);
        if let Some(end) = end {
            self.end(client, end);
        }
    }

    fn expire(&mut self) {
        let judging = self.judging();
        for index in 0..self.table.places() as FlowIndex {
            let Some((key, flow)) = self.table.get(index) else {
                continue;
            };
            let end_ms = flow.must_end_at_ms(judging);
            if end_ms.is_some_and(|end_ms| end_ms <= self.now_ms) {
                self.end(key.client.port(), FlowEnd::BackendGone);
            }
        }
        let outstayed = self
            .known
            .values()
            .filter(|k| self.has_outstayed(k.backend));
        assert_eq!(outstayed.count(), 0, "seed {}: too long", self.seed);
        while let Some((index, last_seen_ms)) = self.table.oldest(ListenerId::FIRST) {
            if self.now_ms < last_seen_ms + IDLE_MS {
                break;
            }
            let (key, flow) = self.table.get(index).expect("it is listed");
            let (client, end) = (key.client.port(), flow.end_when_idle());
            let known = &self.known[&client];
            let right = match known.answers {
                _ if known.is_refused => FlowEnd::Refused,
                0 if self.has_any_answered => FlowEnd::Unanswered,
                0 => FlowEnd::OneWay,
                _ => FlowEnd::Idle,
            };
            assert_eq!(end, right, "seed {}", self.seed);
            self.end(client, end);
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
        let is_idle = matches!(end, FlowEnd::Idle | FlowEnd::Unanswered | FlowEnd::OneWay);
        assert!(!is_idle || silence_ms >= IDLE_MS, "too early");
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
        self.now_ms += self.random.u64(0..120);
        let client = self.random.u16(1..=CLIENTS);
        match self.random.u8(..20) {
            0 => self.reload(),
            1..=6 => self.backend_speaks(client),
            // Silence, now and then, of everyone.
            7 if self.random.u8(..10) == 0 => self.now_ms += IDLE_MS,
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
    let met: BTreeSet<&str> = (0..1_500).flat_map(check).map(FlowEnd::word).collect();
    let expected = [
        "answered",
        "backend_gone",
        "evicted",
        "idle",
        "one_way",
        "refused",
        "unanswered",
    ];
    assert!(met.into_iter().eq(expected), "every kind of end is played");
}

/// A table of 2,440 flows, a backend that takes `answer_ms`, and 6,000 datagrams a second from sources
/// that nobody has seen before, in the milliseconds of virtual time.
struct Flood {
    table: FlowTable<FlowState>,
    backend: Arc<BackendState>,
    answer_ms: u64,
    is_flood_answered: bool,
    now_ms: u64,
    next_source: u32,
    /// Who asked when.
    asked: std::collections::VecDeque<(u64, FlowKey)>,
    answered: BTreeSet<SocketAddr>,
}

impl Flood {
    const MOST_FLOWS: usize = 2_440;
    const A_MS: u32 = 6;

    fn new(answer_ms: u64, is_flood_answered: bool) -> Flood {
        let described = Backend {
            addr: addr(1),
            weight: 1,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        };
        let pool = Pool::new(Name::default(), Algorithm::Random, vec![described]);
        Flood {
            table: FlowTable::default(),
            backend: BackendRegistry::new(1)
                .adopt(&[pool])
                .remove(0)
                .states
                .remove(0),
            answer_ms,
            is_flood_answered,
            now_ms: 0,
            next_source: 0,
            asked: Default::default(),
            answered: BTreeSet::new(),
        }
    }

    fn ask(&mut self, client: SocketAddr, is_answered: bool) {
        let key = FlowKey {
            client,
            local_ip: None,
            port: 53,
        };
        let index = match self.table.find(&key) {
            Some(index) => {
                let (_, flow) = self.table.get(index).expect("found just now");
                let rank = flow.rank_when_asked();
                self.table.touch(index, rank, self.now_ms);
                index
            }
            None => {
                while self.table.len() >= Self::MOST_FLOWS {
                    let index = self.table.least_missed().expect("it is full");
                    self.table.remove(index);
                }
                let flow = FlowState::begin(&self.backend, 1);
                self.table.insert(key, flow, ListenerId::FIRST, self.now_ms)
            }
        };
        let (_, flow) = self.table.get_mut(index).expect("found or made just now");
        flow.sent(1, self.now_ms);
        if is_answered {
            self.asked.push_back((self.now_ms, key));
        }
    }

    /// A millisecond of it.
    fn step(&mut self) {
        for _ in 0..Self::A_MS {
            self.next_source += 1;
            let [_, b, c, d] = self.next_source.to_be_bytes();
            let source = SocketAddr::from(([172, b, c, d], 4_000));
            self.ask(source, self.is_flood_answered);
        }
        self.answer();
    }

    /// A millisecond without a flood. An answer arrives where its flow is still there.
    fn answer(&mut self) {
        self.now_ms += 1;
        while let Some((at_ms, key)) = self.asked.front().copied() {
            if at_ms + self.answer_ms > self.now_ms {
                break;
            }
            self.asked.pop_front();
            let Some(index) = self.table.find(&key) else {
                continue;
            };
            let (_, flow) = self.table.get_mut(index).expect("found just now");
            flow.answered(1, 0);
            self.table.touch(index, Rank::Answered, self.now_ms);
            self.answered.insert(key.client);
        }
    }

    /// Asks for `count` clients; they are answered, as many as are, while `step` is played.
    fn ask_for_honest(&mut self, count: u16, step: fn(&mut Flood)) -> usize {
        let client = |number| SocketAddr::from(([10, 0, 0, 9], number));
        let clients: Vec<_> = (0..count).map(client).collect();
        self.answered.clear();
        clients.iter().for_each(|client| self.ask(*client, true));
        (0..=self.answer_ms).for_each(|_| step(self));
        clients.iter().filter(|c| self.answered.contains(c)).count()
    }
}

/// Flows that were answered before a flood are answered in it. In one that is answered itself, as forged
/// sources are where the backend answers everybody, those of clients who come back are.
#[test]
fn a_flood_of_new_sources_takes_no_answer_from_those_who_were_answered_before() {
    for (answer_ms, is_flood_answered) in [(400, true), (400, false), (2, true), (2, false)] {
        let mut flood = Flood::new(answer_ms, is_flood_answered);
        assert_eq!(flood.ask_for_honest(300, Flood::answer), 300);
        for round in 0..10 {
            let answered = flood.ask_for_honest(300, Flood::step);
            let case = format!("{answer_ms} ms, flood answered: {is_flood_answered}");
            assert!(answered >= 295, "{case}, round {round}: {answered}");
            // Silent for longer than the flood takes to fill the table.
            (0..1_000).for_each(|_| flood.step());
        }
    }
}

/// A new client has the time in which the flood fills what answered flows leave, at least an eighth of
/// the table.
#[test]
fn a_new_client_is_served_amid_a_flood() {
    for (answer_ms, is_flood_answered) in [(40, true), (300, false)] {
        let mut flood = Flood::new(answer_ms, is_flood_answered);
        (0..2_000).for_each(|_| flood.step());
        let answered = flood.ask_for_honest(30, Flood::step);
        assert_eq!(answered, 30, "{answer_ms} ms");
    }
}
