//! UDP flows in virtual time: clients, backends that come, go, fall silent and refuse, reloads, and the very
//! [`Seek`], table and flows that a worker carries out. Every seed is one history; a failing seed is
//! printed and replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events: the table never holds more flows than its bound, and
//! evicts the one that is missed least; a flow keeps its backend for as long as that is allowed; a
//! backend that was removed or disabled by the snapshot in force keeps the flows that it answers, for no
//! longer than the settings say, and no others; nothing goes to one that has refused while there is another,
//! and no more are tried than the settings allow; where descriptors are short, one flow makes room; silence
//! ends a flow neither early nor late; every end has its one reason; and what backends count in flight is
//! what the table holds, at the end nothing (invariants 1, 3, 4).
//!
//! Floods of new sources are played apart, with the figures of a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use contract::{
    Algorithm, Backend, BackendAddr, Config, Listener, ListenerSettings, Name, Pool,
    ProcessSettings, Report,
};
use proxy_core::backend::BackendState;
use proxy_core::flow::life::Present;
use proxy_core::flow::listening::{Listening, Sockets};
use proxy_core::flow::seek::{Seek, Step, Unconnected};
use proxy_core::flow::{ANSWER_PATIENCE_MS, Flow};
use proxy_core::flow_table::{FlowIndex, FlowKey, FlowTable, Rank};
use proxy_core::held_listeners::HeldListeners;
use proxy_core::placement::Draw;
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_core::registry::BackendRegistry;
use proxy_core::route::Routers;
use proxy_core::snapshot::Snapshot;

const CLIENTS: u16 = 18;
const BACKENDS: u16 = 4;
const MOST_FLOWS: usize = 12;
const IDLE_MS: u64 = 5_000;
const ATTEMPTS: u64 = 3;
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

/// The one socket that clients send to.
struct Socket(Listening);

impl Sockets for Socket {
    fn all(&self) -> impl Iterator<Item = (usize, &Listening)> {
        std::iter::once((0, &self.0))
    }

    fn at(&self, _: usize) -> &Listening {
        &self.0
    }

    fn is_of_this_host(&self, _: SocketAddr) -> bool {
        false
    }
}

/// What the worker has of all this, and how it carries out what flows ask for.
struct World {
    random: fastrand::Rng,
    routers: Routers,
    now_ms: u64,
    most_flows: usize,
    config: Config,
    registry: BackendRegistry,
    snapshot: Snapshot,
    listeners: HeldListeners,
    socket: Socket,
    table: FlowTable<Flow<()>>,
    /// Of a hundred connects, so many are refused, and so many lack descriptors.
    refused_of_100: u8,
    short_of_100: u8,
}

/// What came of a datagram.
struct Sought {
    outcome: Result<FlowIndex, DropReason>,
    ended: Vec<(FlowKey, FlowEnd)>,
    /// What each connect came to.
    connects: Vec<(BackendAddr, Option<Unconnected>)>,
}

impl World {
    fn new(seed: u64, pool: Pool, settings: ListenerSettings, most_flows: usize) -> World {
        let config = Config {
            generation: None,
            updated_at: None,
            listeners: vec![Listener {
                name: Name::default(),
                hosts: vec![[192, 0, 2, 1].into()],
                port: 53,
                enabled: true,
                tcp: false,
                udp: true,
                routes: contract::Routes::to(0),
                settings,
            }],
            pools: vec![pool],
            process: ProcessSettings::default(),
        };
        let mut registry = BackendRegistry::new(1);
        let snapshot = Snapshot::build(None, &config, &mut registry, 1, most_flows, 1_000);
        let endpoint = Endpoint {
            addr: config.listeners[0].addrs().next().expect("one"),
            protocol: Protocol::Udp,
        };
        let listener = snapshot.listener_at(endpoint, None);
        let listener = listener.expect("it is configured");
        let mut listeners = HeldListeners::default();
        listeners.update(&snapshot, 0, std::iter::empty());
        let mut routers = Routers::default();
        routers.update(&snapshot, &listeners);
        World {
            routers,
            random: fastrand::Rng::with_seed(seed),
            now_ms: 1_000,
            most_flows,
            config,
            registry,
            snapshot,
            listeners,
            socket: Socket(Listening::new(endpoint, listener)),
            table: FlowTable::default(),
            refused_of_100: 0,
            short_of_100: 0,
        }
    }

    fn reload(&mut self, backends: Vec<Backend>) {
        self.config.pools[0].backends = backends;
        let (previous, now_ms) = (Some(&self.snapshot), self.now_ms);
        let (config, registry) = (&self.config, &mut self.registry);
        self.snapshot = Snapshot::build(previous, config, registry, 1, self.most_flows, now_ms);
        let open = std::iter::once(self.socket.0.listener);
        self.listeners.update(&self.snapshot, 0, open);
        self.routers.update(&self.snapshot, &self.listeners);
    }

    fn present(&self) -> Present<'_> {
        Present {
            snapshot: &self.snapshot,
            listeners: &self.listeners,
            now_us: self.now_ms * 1_000,
        }
    }

    /// A datagram of the client of `key`: its flow, found or begun, has sent it.
    fn datagram(&mut self, key: FlowKey) -> Sought {
        let mut seek = Seek::new(key, 0);
        let mut sought = Sought {
            outcome: Err(DropReason::NoBackend),
            ended: Vec::new(),
            connects: Vec::new(),
        };
        loop {
            let present = Present {
                snapshot: &self.snapshot,
                listeners: &self.listeners,
                now_us: self.now_ms * 1_000,
            };
            let mut draw = Draw {
                random: &mut self.random,
                routers: &mut self.routers,
            };
            match seek.next_step(&mut self.table, &self.socket, present, &mut draw) {
                Step::Send(index) => sought.outcome = Ok(index),
                Step::Drop(reason) => sought.outcome = Err(reason),
                Step::End(index, end) => {
                    let (key, _) = self.table.remove(index).expect("it is in the table");
                    sought.ended.push((key, end));
                    continue;
                }
                Step::Connect { placement, place } => {
                    let failed = match self.random.u8(0..100) {
                        one if one < self.refused_of_100 => Some(Unconnected::Refused),
                        one if one >= 100 - self.short_of_100 => Some(Unconnected::Shortage),
                        _ => None,
                    };
                    sought.connects.push((placement.backend.addr, failed));
                    if let Some(failed) = failed {
                        seek.could_not_connect(failed);
                        continue;
                    }
                    seek.connected();
                    let listener = self.socket.0.listener;
                    let flow = Flow::new((), &placement.backend, place, listener, self.present());
                    let now_ms = self.now_ms;
                    sought.outcome = Ok(self.table.insert(key, flow, listener, now_ms));
                }
            }
            if let Ok(index) = sought.outcome {
                let (_, flow) = self.table.get_mut(index).expect("found or made just now");
                flow.sent(1, 1, self.now_ms);
            }
            return sought;
        }
    }

    /// Answers to the client of `key`, if it has a flow. Returns the end that they are.
    fn answer(&mut self, key: &FlowKey, count: usize) -> Option<FlowEnd> {
        let index = self.table.find(key)?;
        let present = Present {
            snapshot: &self.snapshot,
            listeners: &self.listeners,
            now_us: self.now_ms * 1_000,
        };
        let (_, flow) = self.table.get_mut(index).expect("found just now");
        flow.state.backend().set_answers_datagrams();
        let end = flow.answered(count, 1, present);
        match end {
            Some(_) => drop(self.table.remove(index)),
            None => self.table.touch_answered(index, self.now_ms),
        }
        end
    }
}

struct Simulation {
    seed: u64,
    world: World,
    responses: u64,
    backend_gone_timeout_ms: Option<u64>,
    /// Of the snapshot in force: each backend, and whether it is enabled.
    installed: Vec<(Arc<BackendState>, bool)>,
    /// Since when a backend takes no flows.
    gone_since_ms: BTreeMap<BackendAddr, u64>,
    /// Some backend has answered at some time.
    has_any_answered: bool,
    /// Backends that say nothing.
    silent: BTreeSet<BackendAddr>,
    known: BTreeMap<u16, Known>,
    begun: u64,
    ended: Vec<FlowEnd>,
    dropped: Vec<DropReason>,
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
        let backend_gone_timeout_ms = backend_gone_timeout_ms.expect("three of them");
        let mut pool = Pool::new(Name::default(), Algorithm::Random, Vec::new());
        pool.settings.connect.attempts = ATTEMPTS;
        pool.settings.connect.backend_gone_timeout_ms = backend_gone_timeout_ms;
        let settings = ListenerSettings {
            udp_idle_ms: IDLE_MS,
            udp_responses: responses,
            ..ListenerSettings::default()
        };
        let mut world = World::new(seed, pool, settings, MOST_FLOWS);
        if random.bool() {
            (world.refused_of_100, world.short_of_100) = (10, 5);
        }
        let mut simulation = Simulation {
            seed,
            world,
            responses,
            backend_gone_timeout_ms,
            installed: Vec::new(),
            gone_since_ms: BTreeMap::new(),
            has_any_answered: false,
            silent: BTreeSet::new(),
            known: BTreeMap::new(),
            begun: 0,
            ended: Vec::new(),
            dropped: Vec::new(),
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
            match self.world.random.u8(..4) {
                0 => {}
                1 => backends.push(described(port, false)),
                _ => backends.push(described(port, true)),
            }
        }
        self.world.reload(backends.clone());
        let states = self.world.snapshot.pools[0].backends().iter();
        let enabled = backends.iter().map(|backend| backend.enabled);
        self.installed = states.cloned().zip(enabled).collect();
        for port in 1..=BACKENDS {
            let addr = addr(port);
            match self.takes_flows(addr) {
                true => self.gone_since_ms.remove(&addr),
                false => Some(*self.gone_since_ms.entry(addr).or_insert(self.world.now_ms)),
            };
            match self.world.random.u8(..3) {
                0 => self.silent.insert(addr),
                _ => self.silent.remove(&addr),
            };
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
            .is_some_and(|(since_ms, timeout_ms)| since_ms + timeout_ms <= self.world.now_ms)
    }

    /// Why the next datagram of this flow goes elsewhere, if it does, as docs/traffic.md says it.
    fn moves(&self, known: &Known) -> Option<FlowEnd> {
        if known.is_refused {
            return Some(FlowEnd::Refused);
        }
        let waits = known.unanswered_ms;
        let moves = known.answers == 0
            || waits.is_some_and(|since_ms| self.world.now_ms - since_ms >= ANSWER_PATIENCE_MS)
            || self.has_outstayed(known.backend);
        (!self.takes_flows(known.backend) && moves).then_some(FlowEnd::BackendGone)
    }

    fn takes_flows(&self, backend: BackendAddr) -> bool {
        let mut installed = self.installed.iter();
        installed.any(|(state, enabled)| *enabled && state.addr == backend)
    }

    /// A client's datagram: found, checked, moved where it must, begun where there is room.
    fn datagram(&mut self, client: u16) {
        let before = self.known.get(&client).copied();
        let must_move = before.and_then(|known| self.moves(&known));
        let sought = self.world.datagram(key(client));
        let mut ended = sought.ended.iter();
        let moved = ended.clone().find(|(of, _)| *of == key(client));
        assert_eq!(moved.map(|(_, end)| *end), must_move, "{before:?}");
        if let Some(end) = must_move {
            assert_eq!(ended.next(), Some(&(key(client), end)), "first of all");
            self.note_end(client, end);
        }
        let is_new = before.is_none() || must_move.is_some();
        assert!(is_new || sought.connects.is_empty(), "it has one");
        self.assert_connects(before.filter(|known| known.is_refused), &sought.connects);
        let was_short = |(_, failed): &(_, Option<_>)| *failed == Some(Unconnected::Shortage);
        for (of, end) in ended {
            assert_eq!(*end, FlowEnd::Evicted);
            let is_full = self.known.len() >= MOST_FLOWS;
            assert!(is_full || sought.connects.iter().any(was_short));
            self.assert_is_least_missed(of.client.port());
            self.note_end(of.client.port(), *end);
        }
        match sought.outcome {
            Ok(_) => self.sent(client, sought.connects.last().map(|(addr, _)| *addr)),
            Err(reason) => self.dropped.push(reason),
        }
    }

    /// Each goes to a backend that takes flows and has not refused, while there is one, and not to too
    /// many.
    fn assert_connects(
        &self,
        refused_by: Option<Known>,
        connects: &[(BackendAddr, Option<Unconnected>)],
    ) {
        let mut tried: BTreeSet<BackendAddr> = refused_by.iter().map(|one| one.backend).collect();
        let enabled = || self.installed.iter().filter(|(_, enabled)| *enabled);
        let mut chosen = 0;
        let mut last = None;
        for (addr, failed) in connects {
            assert!(self.takes_flows(*addr), "{addr} takes none");
            let is_same_again = last == Some((*addr, Some(Unconnected::Shortage)));
            let has_other = enabled().any(|(state, _)| !tried.contains(&state.addr));
            assert!(!tried.contains(addr) || !has_other, "{addr} has refused");
            chosen += u64::from(!is_same_again);
            last = Some((*addr, *failed)).filter(|_| !is_same_again);
            if *failed == Some(Unconnected::Refused) {
                tried.insert(*addr);
            }
        }
        assert!(chosen <= ATTEMPTS, "{connects:?}");
    }

    /// A datagram of `client` went out, by a flow that began with it if there is a backend for one.
    fn sent(&mut self, client: u16, begun: Option<BackendAddr>) {
        if let Some(backend) = begun {
            self.begun += 1;
            let known = Known {
                backend,
                last_seen_ms: self.world.now_ms,
                rank: Rank::Unanswered,
                unanswered_ms: None,
                requests: 0,
                answers: 0,
                is_refused: false,
            };
            self.known.insert(client, known);
        }
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
        let now_ms = self.world.now_ms;
        note(self.known.get_mut(&client).expect("it has a flow"), now_ms);
    }

    /// Answers of the backend, or ICMP's word that it is not there, for a flow that exists.
    fn backend_speaks(&mut self, client: u16) {
        let Some(index) = self.world.table.find(&key(client)) else {
            return;
        };
        if self.world.random.u8(..12) == 0 {
            let (_, flow) = self.world.table.get_mut(index).expect("found just now");
            flow.state.refuse();
            return self.note(client, |known, _| known.is_refused = true);
        }
        if self.silent.contains(&self.known[&client].backend) {
            return;
        }
        let count = self.world.random.usize(1..4);
        self.has_any_answered = true;
        let end = self.world.answer(&key(client), count);
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
            self.note_end(client, end);
        }
    }

    fn expire(&mut self) {
        let now_ms = self.world.now_ms;
        for index in 0..self.world.table.places() as FlowIndex {
            let end_ms = self.world.table.must_end_at_ms(index, self.world.present());
            if end_ms.is_some_and(|end_ms| end_ms <= now_ms) {
                self.end(index, FlowEnd::BackendGone);
            }
        }
        let outstayed = self
            .known
            .values()
            .filter(|k| self.has_outstayed(k.backend));
        assert_eq!(outstayed.count(), 0, "seed {}: too long", self.seed);
        while let Some((index, end)) = self.world.table.next_idle(self.world.present()) {
            let known = &self.known[&self.client_of(index)];
            let right = match known.answers {
                _ if known.is_refused => FlowEnd::Refused,
                0 if self.has_any_answered => FlowEnd::Unanswered,
                0 => FlowEnd::OneWay,
                _ => FlowEnd::Idle,
            };
            assert_eq!(end, right, "seed {}", self.seed);
            self.end(index, end);
        }
        let idle_ms = |known: &Known| known.last_seen_ms + IDLE_MS;
        let overdue = self.known.values().filter(|known| idle_ms(known) <= now_ms);
        assert_eq!(overdue.count(), 0, "seed {}: idle flows left", self.seed);
        let next_ms = self.known.values().map(idle_ms).min();
        let next = self.world.table.next_idle_ms(&self.world.listeners);
        assert_eq!(next, next_ms, "it is woken for the next one");
    }

    fn client_of(&self, index: FlowIndex) -> u16 {
        let flow = self.world.table.get(index);
        let (key, _) = flow.expect("it is in the table");
        key.client.port()
    }

    fn end(&mut self, index: FlowIndex, end: FlowEnd) {
        let client = self.client_of(index);
        self.world.table.remove(index).expect("found just now");
        self.note_end(client, end);
    }

    fn note_end(&mut self, client: u16, end: FlowEnd) {
        let known = self.known.remove(&client).expect("it has a flow");
        let silence_ms = self.world.now_ms - known.last_seen_ms;
        let is_idle = matches!(end, FlowEnd::Idle | FlowEnd::Unanswered | FlowEnd::OneWay);
        assert!(!is_idle || silence_ms >= IDLE_MS, "too early");
        self.ended.push(end);
    }

    /// The table, the backends' counts and what the simulation knows agree.
    fn compare(&self) {
        assert!(self.world.table.len() <= MOST_FLOWS, "seed {}", self.seed);
        assert_eq!(
            self.world.table.len(),
            self.known.len(),
            "seed {}",
            self.seed
        );
        assert_eq!(
            self.begun,
            (self.ended.len() + self.world.table.len()) as u64
        );
        for state in self.world.registry.all() {
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
        self.world.now_ms += self.world.random.u64(0..120);
        let client = self.world.random.u16(1..=CLIENTS);
        match self.world.random.u8(..20) {
            0 => self.reload(),
            1..=6 => self.backend_speaks(client),
            // Silence, now and then, of everyone.
            7 if self.world.random.u8(..10) == 0 => self.world.now_ms += IDLE_MS,
            _ => self.datagram(client),
        }
        self.expire();
        self.compare();
    }
}

/// Plays one history; returns the ends that it met, and why datagrams were dropped.
#[track_caller]
fn check(seed: u64) -> (Vec<FlowEnd>, Vec<DropReason>) {
    let mut simulation = Simulation::new(seed);
    (0..STEPS).for_each(|_| simulation.step());
    simulation.world.now_ms += IDLE_MS;
    simulation.expire();
    simulation.compare();
    assert!(
        simulation.world.table.is_empty(),
        "seed {seed}: flows were left"
    );
    let in_flight: u64 = simulation
        .world
        .registry
        .all()
        .map(|state| state.flows())
        .sum();
    assert_eq!(in_flight, 0, "seed {seed}");
    (simulation.ended, simulation.dropped)
}

#[test]
fn flows_stay_move_and_end_as_promised_in_every_history() {
    let (mut met, mut dropped) = (BTreeSet::new(), BTreeSet::new());
    for (ended, drops) in (0..1_500).map(check) {
        met.extend(ended.into_iter().map(FlowEnd::word));
        dropped.extend(drops.into_iter().map(DropReason::word));
    }
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
    assert!(dropped.into_iter().eq(["no_backend", "no_room"]));
}

/// A table of 2,440 flows, a backend that takes `answer_ms`, and 6,000 datagrams a second from sources
/// that nobody has seen before, in the milliseconds of virtual time.
struct Flood {
    world: World,
    answer_ms: u64,
    is_flood_answered: bool,
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
        let settings = ListenerSettings::default();
        Flood {
            world: World::new(1, pool, settings, Self::MOST_FLOWS),
            answer_ms,
            is_flood_answered,
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
        let sought = self.world.datagram(key);
        assert!(sought.outcome.is_ok(), "there is a backend");
        if is_answered {
            self.asked.push_back((self.world.now_ms, key));
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
        self.world.now_ms += 1;
        while let Some((at_ms, key)) = self.asked.front().copied() {
            if at_ms + self.answer_ms > self.world.now_ms {
                break;
            }
            self.asked.pop_front();
            if self.world.table.find(&key).is_some() {
                assert_eq!(self.world.answer(&key, 1), None);
                self.answered.insert(key.client);
            }
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
