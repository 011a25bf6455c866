//! Sessions in virtual time: a client, some backends, sockets with small queues, a clock, and the very
//! [`SessionState`] that a worker carries out. Every seed is one history; a failing seed is printed and
//! replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events (invariants 2 and 4):
//! - every session ends, exactly once, and its backend counts it no more;
//! - bytes arrive whole, in order, once; an orderly close is passed on after the last byte, each way;
//! - a session is closed in order only where both ends have closed; all else is reset, and nobody is told
//!   of a close that the other end has not made;
//! - a reset ends the session, before or after a close and whatever the other end does, once the bytes
//!   before it have been acknowledged or nothing was for the time of patience;
//! - a session tries at most `connect_attempts` backends, none of them twice;
//! - a connect is given up at its deadline, a silent session at its own, none of them earlier;
//! - where the client's first bytes decide, they do so whole, or when no more come or the time is over, and
//!   the backend gets them like all others.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use contract::route::ServerName;
use contract::{
    Algorithm, Backend, BackendAddr, Config, Listener, ListenerSettings, Name, OnNotTls, Pool,
    ProcessSettings, Report, Route, Routes, Split,
};
use proxy_core::held_listeners::HeldListeners;
use proxy_core::ids::ListenerId;
use proxy_core::placement::Draw;
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::reason::SessionEnd;
use proxy_core::registry::BackendRegistry;
use proxy_core::route::Routers;
use proxy_core::route::hello::{Found, Hello, find};
use proxy_core::session::SessionState;
use proxy_core::session::action::{Action, Choice, Connect, ConnectFailure, Ends, Readiness};
use proxy_core::session::half::{Break, End};
use proxy_core::session::relay::Side;
use proxy_core::session::run::{Move, Moved, Run};
use proxy_core::session::turn::RESET_PATIENCE_MS;
use proxy_core::snapshot::Snapshot;

/// What a virtual socket of the proxy holds of the connection to one peer.
#[derive(Default)]
struct Socket {
    /// Sent by the peer, not yet read by the proxy.
    inbox: VecDeque<u8>,
    /// The peer closed its side behind what is in the inbox.
    peer_closed: bool,
    broken: Option<Break>,
    /// A failed write has used up the socket's error, so that reading ends like a close.
    error_taken: bool,
    /// Written by the proxy, not yet acknowledged by the peer.
    outbox: VecDeque<u8>,
    /// The proxy shut its side.
    shut: bool,
    /// An edge-triggered event not yet delivered.
    edge: Readiness,
    /// A write was cut short, so that room makes an event.
    wants_room: bool,
    /// Arrivals are not told.
    is_muted: bool,
    /// Arrivals are told only when there is so much to read.
    low_water: usize,
}

const CAPACITY: usize = 96;
/// A ClientHello that asks for the name `a`; another asks for `b`.
const HELLO_A: &[u8] = &hello(b'a');
const HELLO_B: &[u8] = &hello(b'b');
const PREFACE_MS: u64 = 300;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How late a timer may come.
const LATE_MS: u64 = 30;

/// One peer: what it sends and what it got.
#[derive(Default)]
struct Peer {
    to_send: VecDeque<u8>,
    sent: Vec<u8>,
    got: Vec<u8>,
    closes: bool,
    /// Breaks the connection when it has sent all, in this way.
    breaks: Option<Break>,
    /// Takes nothing from some time on.
    stalls: bool,
}

/// What a connect to a backend comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Accepts,
    AcceptsAndBreaks,
    Refuses,
    RefusesAtOnce,
    NoPort,
    Silent,
}

#[derive(Default)]
struct Sockets([Socket; 2]);

struct Simulation {
    random: fastrand::Rng,
    routers: Routers,
    listeners: HeldListeners,
    /// Since when the client's first bytes are awaited.
    awaits_preface_ms: Option<u64>,
    now_ms: u64,
    /// The longest step in time.
    pace_ms: u64,
    registry: BackendRegistry,
    snapshot: Snapshot,
    config: Config,
    fates: Vec<Fate>,
    state: SessionState,
    sockets: Sockets,
    peers: [Peer; 2],
    /// Bytes in the store of each half.
    stores: [VecDeque<u8>; 2],
    timer_ms: Option<u64>,
    /// The backend that a connect is under way to, and since when.
    connecting: Option<(BackendAddr, u64)>,
    is_relaying: bool,
    tried: Vec<BackendAddr>,
    /// When bytes moved last, or were acknowledged.
    touched_ms: u64,
    /// When the proxy moved bytes last.
    moved_ms: u64,
    acknowledged_ms: [u64; 2],
    end: Option<SessionEnd>,
}

fn at(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Backend => 1,
    }
}

impl Ends for Sockets {
    fn why_broken(&self, side: Side) -> Break {
        self.0[at(side)].broken.unwrap_or(Break::Reset)
    }

    fn unacknowledged(&self, side: Side) -> usize {
        let socket = &self.0[at(side)];
        match socket.broken {
            Some(_) => 0,
            None => socket.outbox.len(),
        }
    }

    fn has_client_gone(&self) -> bool {
        let client = &self.0[0];
        let is_closed = client.peer_closed && client.shut && client.outbox.is_empty();
        client.broken.is_some() || is_closed
    }
}

/// A record with a ClientHello that has nothing but a server name of one letter.
const fn hello(name: u8) -> [u8; 64] {
    let mut bytes = [0; 64];
    let parts: [(usize, &[u8]); 5] = [
        (0, &[22, 3, 1, 0, 59, 1, 0, 0, 55, 3, 3]),
        (44, &[0, 2, 0x13, 1]),
        (48, &[1, 0]),
        (50, &[0, 10, 0, 0, 0, 6, 0, 4, 0, 0]),
        (60, &[1, name, 0, 0]),
    ];
    let mut part = 0;
    while part < parts.len() {
        let (start, content) = parts[part];
        let mut at = 0;
        while at < content.len() {
            bytes[start + at] = content[at];
            at += 1;
        }
        part += 1;
    }
    bytes
}

impl Peer {
    /// One that first says who it wants, or something else.
    fn client(random: &mut fastrand::Rng) -> Peer {
        let mut peer = Peer::new(random);
        let first = match random.u8(0..6) {
            0..=2 => HELLO_A,
            3 => HELLO_B,
            4 => &HELLO_A[..random.usize(1..HELLO_A.len())],
            _ => &[],
        };
        first
            .iter()
            .rev()
            .for_each(|byte| peer.to_send.push_front(*byte));
        peer
    }

    fn new(random: &mut fastrand::Rng) -> Peer {
        let length = random.usize(0..400);
        let lingers = random.u8(0..8) == 0;
        let breaks = match random.u8(0..8) {
            0 | 1 => Some(Break::Reset),
            2 => Some(Break::Lost),
            _ => None,
        };
        Peer {
            to_send: (0..length).map(|_| random.u8(..)).collect(),
            closes: !lingers,
            breaks,
            stalls: random.u8(0..10) == 0,
            ..Peer::default()
        }
    }
}

fn config(random: &mut fastrand::Rng) -> Config {
    let backends = random.u16(0..5);
    let described = |port| Backend {
        addr: BackendAddr::new([10, 0, 0, 1].into(), port),
        weight: 1,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    let backends = (1..=backends).map(described).collect();
    let mut pool = Pool::new(Name::default(), Algorithm::Random, backends);
    pool.settings.connect.attempts = random.u64(1..5);
    pool.settings.connect.timeout_ms = random.u64(50..400);
    pool.settings.connect.backend_gone_timeout_ms = (random.u8(0..3) == 0).then_some(100);
    let settings = ListenerSettings {
        preface_timeout_ms: PREFACE_MS,
        on_not_tls: random
            .choice([OnNotTls::Default, OnNotTls::Refuse])
            .expect("two of them"),
        idle_timeout_ms: random.u64(100..2_000),
        half_close_timeout_ms: random.u64(100..2_000),
        ..ListenerSettings::default()
    };
    Config {
        generation: None,
        updated_at: None,
        listeners: vec![Listener {
            name: Name::default(),
            hosts: vec![[127, 0, 0, 1].into()],
            port: 80,
            enabled: true,
            tcp: true,
            udp: false,
            routes: routes(random),
            settings,
        }],
        pools: vec![pool],
        process: ProcessSettings::default(),
    }
}

/// Mostly one for all. Else those who ask for `a`, and mostly the rest, go to the pool.
fn routes(random: &mut fastrand::Rng) -> Routes<usize> {
    let all = Routes::to(0);
    if random.u8(0..3) > 0 {
        return all;
    }
    let mut routes = vec![Route {
        source: None,
        sni: Some(vec![ServerName::Exact("a".to_owned())]),
        alpn: None,
        split: Split::to(0),
    }];
    if random.u8(0..4) > 0 {
        routes.extend(all.0);
    }
    Routes(routes)
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = fastrand::Rng::with_seed(seed);
        let config = config(&mut random);
        let now_ms = 1_000;
        let mut registry = BackendRegistry::new(1);
        let snapshot = Snapshot::build(None, &config, &mut registry, 10, 10, now_ms);
        let endpoint = Endpoint {
            addr: config.listeners[0].addrs().next().expect("one"),
            protocol: Protocol::Tcp,
        };
        let listener = snapshot.listener_at(endpoint, None);
        let listener = listener.expect("it is configured");
        let mut listeners = HeldListeners::default();
        listeners.update(&snapshot, 0, std::iter::once(listener));
        let mut routers = Routers::default();
        routers.update(&snapshot, &listeners);
        let settings = &config.listeners[0].settings;
        // Mostly some that accept.
        let accepts = random.u8(1..=8);
        let fates = (0..5).map(|_| match random.u8(0..8) {
            one if one < accepts => Fate::Accepts,
            _ => random
                .choice([
                    Fate::AcceptsAndBreaks,
                    Fate::Refuses,
                    Fate::RefusesAtOnce,
                    Fate::NoPort,
                    Fate::Silent,
                ])
                .expect("five of them"),
        });
        let fates = fates.collect();
        Simulation {
            state: SessionState::new(listener, settings, now_ms * 1_000),
            peers: [Peer::client(&mut random), Peer::default()],
            routers,
            listeners,
            awaits_preface_ms: None,
            pace_ms: random.choice([2, 20, 200]).expect("three of them"),
            random,
            now_ms,
            registry,
            snapshot,
            config,
            fates,
            sockets: Sockets::default(),
            stores: Default::default(),
            timer_ms: None,
            connecting: None,
            is_relaying: false,
            tried: Vec::new(),
            touched_ms: now_ms,
            moved_ms: now_ms,
            acknowledged_ms: [now_ms; 2],
            end: None,
        }
    }

    fn now_us(&self) -> u64 {
        self.now_ms * 1_000
    }

    fn carry_out(&mut self, action: Action) {
        assert!(self.end.is_none() || action == Action::Wait, "{action:?}");
        match action {
            Action::Wait => {}
            Action::Arm { at_ms } => self.timer_ms = Some(at_ms),
            Action::Peek { is_last } => self.peek(is_last),
            Action::AwaitBytes { at_least } => self.sockets.0[0].low_water = at_least,
            Action::Choose { has_awaited_bytes } => {
                assert_eq!(has_awaited_bytes, self.sockets.0[0].low_water > 0);
                self.awaits_preface_ms = None;
                self.sockets.0[0].low_water = 0;
                self.connect();
            }
            Action::AskConnect { .. } => self.ask_connect(),
            Action::Connected { at_ms, .. } => {
                self.timer_ms = Some(at_ms);
                self.connecting = None;
                self.is_relaying = true;
                (self.touched_ms, self.moved_ms) = (self.now_ms, self.now_ms);
                self.drive();
            }
            Action::GiveUpConnect(failure) => self.give_up_connect(failure),
            Action::Move => self.drive(),
            Action::Reset(end) => self.reset(end),
            Action::Close(end) => self.close(end),
        }
    }

    fn begin(&mut self) {
        let next = self
            .state
            .begin(&mut self.routers, CLIENT, self.now_ms + PREFACE_MS);
        if matches!(next, Action::Arm { .. }) {
            self.awaits_preface_ms = Some(self.now_ms);
        }
        self.carry_out(next);
    }

    fn peek(&mut self, is_last: bool) {
        let since_ms = self.awaits_preface_ms.expect("nothing else is looked at");
        let is_late = self.now_ms >= since_ms + PREFACE_MS;
        assert!(
            !is_last || is_late || self.sockets.0[0].peer_closed,
            "too early"
        );
        let bytes: Vec<u8> = self.sockets.0[0].inbox.iter().copied().collect();
        let on_not_tls = self.config.listeners[0].settings.on_not_tls;
        let next = self
            .state
            .peeked(&bytes, is_last, &mut self.routers, CLIENT, on_not_tls);
        let listener = &self.config.listeners[0];
        let has_default = listener.routes.0.len() > 1;
        let asks_for = |message: &[u8]| -> Option<Option<Vec<u8>>> {
            Hello::read(message).map(|hello| hello.server_name.map(<[u8]>::to_vec))
        };
        let named = match find(&bytes) {
            Found::Message(message) => asks_for(&message),
            Found::Part { .. } if !is_last => {
                assert!(matches!(next, Action::AwaitBytes { at_least } if at_least > bytes.len()));
                return self.carry_out(next);
            }
            Found::Part { .. } | Found::NotTls => None,
        };
        let refused = match (named, on_not_tls) {
            (Some(Some(name)), _) if name == b"a" => None,
            (None, OnNotTls::Refuse) => Some(SessionEnd::NotTls),
            _ if has_default => None,
            _ => Some(SessionEnd::NoRoute),
        };
        match refused {
            None => assert!(matches!(next, Action::Choose { .. }), "{next:?}"),
            Some(end) => assert_eq!(next, Action::Reset(end)),
        }
        self.carry_out(next);
    }

    fn connect(&mut self) {
        loop {
            let now_us = self.now_us();
            let mut draw = Draw {
                random: &mut self.random,
                routers: &mut self.routers,
            };
            let choice = self.state.choose(&self.snapshot, &mut draw, CLIENT, now_us);
            let (placement, timeout_ms) = match choice {
                Choice::Try {
                    placement,
                    timeout_ms,
                    is_retry,
                } => {
                    assert_eq!(is_retry, !self.tried.is_empty());
                    (placement, timeout_ms)
                }
                Choice::End(end) => return self.carry_out(Action::Reset(end)),
            };
            let addr = placement.backend.addr;
            assert!(!self.tried.contains(&addr), "{addr} was tried before");
            self.tried.push(addr);
            let most = self.config.pools[0].settings.connect.attempts;
            assert!(self.tried.len() as u64 <= most, "too many attempts");
            match self.fate_of(addr) {
                Fate::RefusesAtOnce => self.state.could_not_connect(addr, ConnectFailure::Refused),
                Fate::NoPort => self.state.could_not_connect(addr, ConnectFailure::NoPort),
                fate => {
                    self.connecting = Some((addr, self.now_ms));
                    self.sockets.0[1] = Socket::default();
                    self.peers[1] = Peer::new(&mut self.random);
                    let edge = &mut self.sockets.0[1].edge;
                    edge.is_writable = fate == Fate::Accepts;
                    edge.has_failed = matches!(fate, Fate::Refuses | Fate::AcceptsAndBreaks);
                    if fate == Fate::AcceptsAndBreaks {
                        self.sockets.0[1].broken = Some(Break::Reset);
                    }
                    let next = self.state.connecting(&placement, timeout_ms, now_us);
                    assert_eq!(placement.backend.sessions(), 1);
                    return self.carry_out(next);
                }
            }
        }
    }

    fn fate_of(&self, backend: BackendAddr) -> Fate {
        self.fates[usize::from(backend.0.port()) - 1]
    }

    fn ask_connect(&mut self) {
        let (addr, _) = self.connecting.expect("a connect is under way");
        let connect = match self.fate_of(addr) {
            Fate::Accepts => Connect::Made,
            Fate::AcceptsAndBreaks => {
                self.sockets.0[1].error_taken = true;
                Connect::Broken(Break::Reset)
            }
            fate => {
                assert_eq!(fate, Fate::Refuses);
                Connect::Refused
            }
        };
        let next = self.state.connect_ended(connect, self.now_us());
        self.carry_out(next);
    }

    fn give_up_connect(&mut self, failure: ConnectFailure) {
        let (addr, since_ms) = self.connecting.take().expect("a connect is under way");
        let timeout_ms = self.config.pools[0].settings.connect.timeout_ms;
        match failure {
            ConnectFailure::TimedOut => assert!(self.now_ms >= since_ms + timeout_ms, "too early"),
            ConnectFailure::Refused => assert_eq!(self.fate_of(addr), Fate::Refuses),
            ConnectFailure::NoPort => panic!("that is known at once"),
        }
        let slot = self.state.connect_failed(failure);
        assert_eq!(slot.map(|slot| slot.backend().addr), Some(addr));
        self.connect();
    }

    /// One random thing that a peer does; the kernel's edges follow from it.
    fn peer_acts(&mut self) {
        let side = match self.is_relaying {
            true => self.random.usize(0..2),
            // The backend's kernel answers for it.
            false => 0,
        };
        let (peer, socket) = (&mut self.peers[side], &mut self.sockets.0[side]);
        if socket.broken.is_some() {
            return;
        }
        match self.random.u8(0..3) {
            0 if !socket.peer_closed => {
                let room = CAPACITY - socket.inbox.len();
                let count = self.random.usize(0..=room).min(peer.to_send.len());
                let bytes: Vec<u8> = peer.to_send.drain(..count).collect();
                peer.sent.extend(&bytes);
                socket.inbox.extend(bytes);
                socket.edge.is_readable |= count > 0 && socket.inbox.len() >= socket.low_water;
            }
            1 if !(peer.stalls && peer.got.len() > 20) => {
                let count = self.random.usize(0..=socket.outbox.len());
                peer.got.extend(socket.outbox.drain(..count));
                if count > 0 {
                    self.touched_ms = self.now_ms;
                    self.acknowledged_ms[side] = self.now_ms;
                    socket.edge.is_writable |= std::mem::take(&mut socket.wants_room);
                }
            }
            2 if peer.to_send.is_empty() => match peer.breaks {
                // Some close before they break.
                Some(how) if !peer.closes || self.random.bool() => {
                    self.touched_ms = self.now_ms;
                    socket.broken = Some(how);
                    socket.edge.is_hung_up = true;
                    socket.edge.has_failed = true;
                }
                _ if peer.closes => {
                    self.touched_ms = self.now_ms;
                    peer.closes = false;
                    socket.peer_closed = true;
                    socket.edge.is_read_closed = true;
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn deliver_events(&mut self) {
        for side in Side::BOTH {
            // Delivered now or later, but only once: that is what an edge is.
            if self.random.bool() || self.end.is_some() {
                continue;
            }
            let socket = &mut self.sockets.0[at(side)];
            let mut edge = std::mem::take(&mut socket.edge);
            if socket.is_muted {
                edge.is_readable = false;
            }
            if edge == Readiness::default() {
                continue;
            }
            let next = self.state.event(side, edge);
            self.carry_out(next);
            if edge.is_readable && self.end.is_none() && self.state.is_to_be_muted(side) {
                self.state.set_muted(side, true);
                self.sockets.0[at(side)].is_muted = true;
            }
        }
    }

    fn timer_comes(&mut self) {
        let Some(at_ms) = self.timer_ms.filter(|at_ms| *at_ms <= self.now_ms) else {
            return;
        };
        if self.now_ms < at_ms + LATE_MS && self.random.bool() {
            return;
        }
        self.timer_ms = None;
        let next = self.state.timer(&self.sockets, self.now_ms);
        self.carry_out(next);
    }

    fn drive(&mut self) {
        let mut turn = self.state.turn();
        while turn.goes_on() {
            let up = self.run_half(Side::Client);
            let down = self.run_half(Side::Backend);
            if !(up.is_nothing() && down.is_nothing()) {
                (self.touched_ms, self.moved_ms) = (self.now_ms, self.now_ms);
            }
            let now_us = self.now_us();
            let passed = self.state.passed(&mut turn, up, down, now_us);
            assert!(!passed.is_unfinished, "so few bytes are within its budget");
        }
        for side in Side::BOTH {
            if self.state.is_to_be_unmuted(side) {
                self.state.set_muted(side, false);
                let socket = &mut self.sockets.0[at(side)];
                socket.is_muted = false;
                socket.edge.is_readable |= !socket.inbox.is_empty();
            }
        }
        let next = self.state.settle(&turn, &self.sockets, self.now_ms);
        self.carry_out(next);
    }

    /// Carries out a run of the half that reads from `side`.
    fn run_half(&mut self, side: Side) -> Moved {
        let now_ms = self.now_ms;
        let [client, backend] = &mut self.sockets.0;
        let (source, sink) = match side {
            Side::Client => (client, backend),
            Side::Backend => (backend, client),
        };
        let store = &mut self.stores[at(side)];
        let mut run = self.state.run(side);
        while let Some(next) = run.next_move() {
            match next {
                Move::Copy { limit } => {
                    if read(&mut run, source, store, limit, None) {
                        write(&mut run, sink, store);
                    }
                }
                Move::Splice { limit } => {
                    let most = self.random.usize(1..=CAPACITY);
                    read(&mut run, source, store, limit, Some(most));
                }
                Move::Flush => write(&mut run, sink, store),
                Move::Shut => {
                    sink.shut = true;
                    self.touched_ms = now_ms;
                }
                Move::ReleasePipe => assert!(store.is_empty(), "bytes are in the pipe"),
            }
        }
        // What a sink that is gone did not take is lost.
        assert!(run.pending() == store.len() || sink.broken.is_some());
        run.done()
    }

    fn reset(&mut self, end: SessionEnd) {
        let [client, backend] = &self.sockets.0;
        for (socket, other) in [(client, backend), (backend, client)] {
            let may_be_shut = other.peer_closed || other.error_taken;
            assert!(!socket.shut || may_be_shut, "told of a close that was none");
        }
        let of_break = match end {
            SessionEnd::ClientReset | SessionEnd::ClientResetAfterEnd | SessionEnd::ClientLost => {
                Some((0, 1))
            }
            SessionEnd::BackendReset
            | SessionEnd::BackendResetAfterEnd
            | SessionEnd::BackendLost => Some((1, 0)),
            _ => None,
        };
        if let Some((from, to)) = of_break {
            assert!(self.sockets.0[from].broken.is_some(), "nobody broke it");
            let patience_is_over = self.now_ms >= self.acknowledged_ms[to] + RESET_PATIENCE_MS;
            let is_taken = self.sockets.0[to].outbox.is_empty();
            let is_gone = self.sockets.0[to].broken.is_some();
            assert!(is_taken || is_gone || patience_is_over, "reset too early");
            let is_whole = self.peers[to].got == self.peers[from].sent;
            let may_lack = is_gone || patience_is_over || !self.is_relaying;
            assert!(is_whole || may_lack, "bytes before the reset");
            assert!(self.peers[from].sent.starts_with(&self.peers[to].got));
        }
        let settings = &self.config.listeners[0].settings;
        let silent_ms = self.now_ms - self.moved_ms;
        match end {
            SessionEnd::IdleTimeout => {
                assert!(silent_ms >= settings.idle_timeout_ms, "too early");
                self.assert_nothing_was_left();
            }
            SessionEnd::HalfCloseTimeout => {
                assert!(silent_ms >= settings.half_close_timeout_ms, "too early");
                self.assert_nothing_was_left();
            }
            SessionEnd::ClientStalled => assert!(!self.sockets.0[0].outbox.is_empty()),
            SessionEnd::BackendStalled => assert!(!self.sockets.0[1].outbox.is_empty()),
            _ => {}
        }
        self.ends(end);
    }

    /// A session that is silent has done all that it could: whatever an event told of was passed on.
    fn assert_nothing_was_left(&self) {
        let [client, backend] = &self.sockets.0;
        if [client, backend].map(|socket| socket.edge) != [Readiness::default(); 2] {
            return;
        }
        for (socket, other) in [(client, backend), (backend, client)] {
            assert!(socket.inbox.is_empty(), "bytes were left");
            assert!(other.shut || !socket.peer_closed, "a close was left");
            assert!(socket.broken.is_none(), "a break was left");
        }
    }

    fn close(&mut self, end: SessionEnd) {
        use SessionEnd::{BackendClosed, BackendClosedUnanswered, ClientClosed};
        let in_order = [ClientClosed, BackendClosed, BackendClosedUnanswered];
        assert!(in_order.contains(&end), "{end:?} was closed in order");
        for (peer, socket) in self.peers.iter_mut().zip(&mut self.sockets.0) {
            assert!(socket.peer_closed && socket.inbox.is_empty(), "{end:?}");
            // The kernel still sends what it has.
            peer.got.extend(socket.outbox.drain(..));
        }
        assert!(self.peers[0].got == self.peers[1].sent, "down");
        assert!(self.peers[1].got == self.peers[0].sent, "up");
        self.ends(end);
    }

    fn ends(&mut self, end: SessionEnd) {
        let in_flight = |registry: &BackendRegistry| -> u64 {
            registry.all().map(|state| state.sessions()).sum()
        };
        let ended = self.state.end(end).expect("it has not ended before");
        let is_connected = self.connecting.is_some() || self.is_relaying;
        assert_eq!(ended.slot.is_some(), is_connected);
        assert_eq!(ended.backend, self.tried.last().copied());
        drop(ended);
        assert_eq!(in_flight(&self.registry), 0, "its place is free");
        self.end = Some(end);
        // What comes late finds nothing to do.
        let late = Readiness {
            is_readable: true,
            is_hung_up: true,
            ..Readiness::default()
        };
        for side in Side::BOTH {
            assert_eq!(self.state.event(side, late), Action::Wait);
        }
        assert_eq!(self.state.resume(), Action::Wait);
        assert_eq!(self.state.timer(&self.sockets, u64::MAX), Action::Wait);
        assert!(self.state.end(SessionEnd::Shutdown).is_none());
    }

    /// All backends are removed, and the sessions that they have go on for as long as the settings say.
    fn reload(&mut self) {
        self.config.pools[0].backends.clear();
        let (previous, config) = (&self.snapshot, &self.config);
        let registry = &mut self.registry;
        let next = Snapshot::build(Some(previous), config, registry, 10, 10, self.now_ms);
        self.snapshot = next;
        self.listeners
            .update(&self.snapshot, 0, std::iter::once(ListenerId::FIRST));
        self.routers.update(&self.snapshot, &self.listeners);
    }

    fn look_for_gone_backends(&mut self) {
        let end_ms = self.state.must_end_at_ms(&self.snapshot, self.now_ms);
        if end_ms.is_some_and(|end_ms| end_ms <= self.now_ms) {
            self.carry_out(Action::Reset(SessionEnd::BackendGone));
        }
    }

    /// Nothing is left undone for longer than it may be.
    fn assert_deadlines(&self) {
        if let Some(since_ms) = self.awaits_preface_ms {
            let most_ms = since_ms + PREFACE_MS + LATE_MS + self.pace_ms;
            assert!(
                self.now_ms <= most_ms,
                "its first bytes are awaited for too long"
            );
        }
        if let Some((_, since_ms)) = self.connecting {
            let timeout_ms = self.config.pools[0].settings.connect.timeout_ms;
            let most_ms = since_ms + timeout_ms + LATE_MS + self.pace_ms;
            assert!(self.now_ms <= most_ms, "it connects for too long");
        }
        if self.is_relaying {
            let settings = &self.config.listeners[0].settings;
            let timeout_ms = match self.sockets.0.iter().any(|socket| socket.shut) {
                true => settings.half_close_timeout_ms,
                false => settings.idle_timeout_ms,
            };
            // A send queue is looked at every 160 ms, and events come some steps late.
            let late_ms = 2 * 160 + 20 * (LATE_MS + self.pace_ms);
            let is_broken = self.sockets.0.iter().any(|socket| socket.broken.is_some());
            let patience_ms = if is_broken { RESET_PATIENCE_MS } else { 0 };
            let most_ms = (2 * timeout_ms).max(patience_ms) + late_ms;
            let silent_ms = self.now_ms - self.touched_ms;
            assert!(silent_ms <= most_ms, "silent for {silent_ms} ms");
        }
    }

    fn step(&mut self) {
        self.now_ms += self.random.u64(0..self.pace_ms);
        self.peer_acts();
        self.deliver_events();
        if self.end.is_none() {
            self.timer_comes();
        }
        if self.end.is_none() {
            self.look_for_gone_backends();
        }
        if self.end.is_none() {
            self.assert_deadlines();
        }
    }
}

/// Returns whether there was anything; an end and a block are told to the run.
fn read(
    run: &mut Run<'_>,
    source: &mut Socket,
    store: &mut VecDeque<u8>,
    limit: usize,
    most: Option<usize>,
) -> bool {
    let count = source.inbox.len().min(limit).min(most.unwrap_or(limit));
    if count > 0 {
        store.extend(source.inbox.drain(..count));
        run.read(count, limit);
        return true;
    }
    match source.broken {
        // A close that came before a break is read before it.
        _ if source.peer_closed || source.error_taken => run.source_ended(End::Eof),
        Some(how) => run.source_ended(End::Broken(how)),
        None => run.source_blocked(),
    }
    false
}

fn write(run: &mut Run<'_>, sink: &mut Socket, store: &mut VecDeque<u8>) {
    if let Some(how) = sink.broken {
        sink.error_taken = true;
        return run.sink_failed(how);
    }
    assert!(!sink.shut, "written after the shut");
    let count = store.len().min(CAPACITY - sink.outbox.len());
    sink.outbox.extend(store.drain(..count));
    run.wrote(count);
    if run.pending() > 0 {
        sink.wants_room = true;
        run.sink_blocked();
    }
    assert_eq!(run.pending(), store.len());
}

/// Plays one history; returns its end.
#[track_caller]
fn check(seed: u64) -> SessionEnd {
    const MOST_STEPS: usize = 60_000;
    let played = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed);
        let reload_at = (simulation.random.u8(0..6) == 0).then(|| simulation.random.usize(0..80));
        let stop_at = (simulation.random.u8(0..12) == 0).then(|| simulation.random.usize(0..80));
        simulation.begin();
        for step in 0..MOST_STEPS {
            if let Some(end) = simulation.end {
                return end;
            }
            if reload_at == Some(step) {
                simulation.reload();
            }
            match stop_at == Some(step) {
                true => {
                    let ends = [SessionEnd::Shutdown, SessionEnd::Ended];
                    let end = simulation.random.choice(ends).expect("two of them");
                    simulation.carry_out(Action::Reset(end));
                }
                false => simulation.step(),
            }
        }
        panic!("the session never ended");
    });
    played.unwrap_or_else(|_| panic!("seed {seed}"))
}

#[test]
fn every_session_ends_once_and_as_it_should_in_every_history() {
    let met: BTreeSet<&str> = (0..20_000).map(check).map(SessionEnd::word).collect();
    let all: BTreeSet<&str> = SessionEnd::ALL.iter().map(|end| end.word()).collect();
    assert_eq!(met, all, "every kind of end is played");
}
