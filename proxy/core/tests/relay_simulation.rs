//! Sessions in virtual time: two scripted peers, sockets with small queues, and the relay between
//! them driven exactly as the worker drives it. Every seed is one history; a failing seed is printed
//! and replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events (invariant 2): bytes arrive whole, in order, once; an
//! orderly close is passed on after the last byte, each way; a reset ends the session, before or after a
//! close and whatever the other end does, and the bytes that were read before it have been written
//! before it.

use std::collections::VecDeque;

use proxy_core::session::half::{Break, End, Mode, Step};
use proxy_core::session::relay::{Relay, Side, Verdict};

/// What a virtual socket of the proxy holds of the connection to one peer.
#[derive(Default)]
struct Socket {
    /// Sent by the peer, not yet read by the proxy.
    inbox: VecDeque<u8>,
    /// The peer closed its side behind what is in the inbox.
    peer_closed: bool,
    peer_reset: bool,
    /// A failed write has used up the socket's error, so that reading ends like a close.
    error_taken: bool,
    /// Written by the proxy, not yet taken by the peer.
    outbox: VecDeque<u8>,
    /// The proxy shut its side.
    shut: bool,
    /// An edge-triggered event not yet delivered: readable, writable, hung up.
    edges: (bool, bool, bool),
    /// One that says that the connection has failed, not yet delivered.
    failure_edge: bool,
    /// A write was cut short, so that room makes an event.
    wants_room: bool,
}

const CAPACITY: usize = 48;

/// One peer: what it sends and what it got.
struct Peer {
    to_send: VecDeque<u8>,
    sent: Vec<u8>,
    got: Vec<u8>,
    got_end: bool,
    closes: bool,
    resets: bool,
    /// It sends all and then keeps its side open for ever.
    lingers: bool,
}

struct Simulation {
    random: fastrand::Rng,
    relay: Relay,
    sockets: [Socket; 2],
    peers: [Peer; 2],
    /// Bytes in the store of each half.
    stores: [VecDeque<u8>; 2],
}

fn at(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Backend => 1,
    }
}

const SIDES: [Side; 2] = [Side::Client, Side::Backend];

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut random = fastrand::Rng::with_seed(seed);
        let resetting_history = random.u8(0..4) == 0;
        let lingering = (random.u8(0..8) == 0).then(|| random.usize(0..2));
        let peers = std::array::from_fn(|side| {
            let length = random.usize(0..400);
            Peer {
                to_send: (0..length).map(|_| random.u8(..)).collect(),
                sent: Vec::new(),
                got: Vec::new(),
                got_end: false,
                closes: lingering != Some(side),
                resets: match lingering {
                    // The other one has to end it.
                    Some(lingerer) => lingerer != side,
                    None => resetting_history && random.bool(),
                },
                lingers: lingering == Some(side),
            }
        });
        Simulation {
            random,
            relay: Relay::default(),
            sockets: Default::default(),
            peers,
            stores: Default::default(),
        }
    }

    /// One random thing that a peer does; the kernel's edges follow from it.
    fn peer_acts(&mut self) {
        let side = at(*self.random.choice(SIDES.iter()).expect("two sides"));
        let (peer, socket) = (&mut self.peers[side], &mut self.sockets[side]);
        if socket.peer_reset {
            return;
        }
        match self.random.u8(0..3) {
            0 => {
                let room = CAPACITY - socket.inbox.len();
                let count = self.random.usize(0..=room).min(peer.to_send.len());
                let bytes: Vec<u8> = peer.to_send.drain(..count).collect();
                peer.sent.extend(&bytes);
                socket.edges.0 |= count > 0;
                socket.inbox.extend(bytes);
            }
            1 => {
                let count = self.random.usize(0..=socket.outbox.len());
                peer.got.extend(socket.outbox.drain(..count));
                if count > 0 && std::mem::take(&mut socket.wants_room) {
                    socket.edges.1 = true;
                }
                peer.got_end |= socket.shut && socket.outbox.is_empty();
            }
            _ if !peer.to_send.is_empty() || peer.lingers => {}
            // Some close before they reset.
            _ if peer.resets && (!peer.closes || self.random.bool()) => {
                socket.peer_reset = true;
                socket.edges.2 = true;
                socket.failure_edge = true;
            }
            _ if peer.closes => {
                peer.closes = false;
                socket.peer_closed = true;
                socket.edges.2 = true;
            }
            _ => {}
        }
    }

    fn deliver_events(&mut self) {
        for side in SIDES {
            // Delivered now or later, but only once: that is what an edge is.
            if self.random.bool() {
                continue;
            }
            let (readable, writable, hung_up) = std::mem::take(&mut self.sockets[at(side)].edges);
            self.relay.ready(side, readable, writable, hung_up);
            if std::mem::take(&mut self.sockets[at(side)].failure_edge) {
                self.relay.failed(side);
            }
        }
    }

    fn drive(&mut self) {
        for _ in 0..4 {
            let ended = SIDES.map(|side| self.run_half(side));
            if ended == [false, false] {
                break;
            }
        }
        for side in SIDES {
            if self.relay.has_failed_unread(side) {
                self.relay.write_failed(side, Break::Reset);
            }
        }
    }

    /// Runs the half that reads from `side`. Returns whether it met an end.
    fn run_half(&mut self, side: Side) -> bool {
        loop {
            let half = self.relay.half_from(side);
            if let Some(mode) = half.wanted_mode() {
                half.set_mode(mode);
            }
            match half.step() {
                Step::Wait | Step::Done => return false,
                Step::ShutSink => {
                    self.sockets[at(side.other())].shut = true;
                    self.relay.half_from(side).sink_shut();
                }
                Step::Read { limit } => {
                    if let Some(end) = self.read(side, limit) {
                        self.relay.read_ended(side, end);
                        return true;
                    }
                }
                Step::Flush => {
                    if !self.write(side) {
                        self.relay.write_failed(side.other(), Break::Reset);
                        return true;
                    }
                }
            }
        }
    }

    fn read(&mut self, side: Side, limit: usize) -> Option<End> {
        let socket = &mut self.sockets[at(side)];
        let half = self.relay.half_from(side);
        let most = socket.inbox.len().min(limit);
        if most == 0 {
            // A close that came before a reset is read before it.
            if socket.peer_closed || socket.error_taken {
                return Some(End::Eof);
            }
            if socket.peer_reset {
                return Some(End::Broken(Break::Reset));
            }
            half.source_blocked();
            return None;
        }
        // A splice may stop short of what waits; a copying read does not.
        let count = match half.mode() {
            Mode::Copy => most,
            Mode::Splice => self.random.usize(1..=most),
        };
        self.stores[at(side)].extend(socket.inbox.drain(..count));
        half.read(count, limit);
        None
    }

    /// Returns false where the sink is gone.
    fn write(&mut self, side: Side) -> bool {
        let sink = &mut self.sockets[at(side.other())];
        if sink.peer_reset {
            sink.error_taken = true;
            return false;
        }
        assert!(!sink.shut, "written after the shut");
        let store = &mut self.stores[at(side)];
        let count = store.len().min(CAPACITY - sink.outbox.len());
        sink.outbox.extend(store.drain(..count));
        let half = self.relay.half_from(side);
        half.wrote(count);
        if half.pending() > 0 {
            sink.wants_room = true;
            half.sink_blocked();
        }
        assert_eq!(half.pending(), store.len());
        true
    }
}

#[track_caller]
fn check(seed: u64) {
    const MOST_TURNS: usize = 20_000;
    let mut simulation = Simulation::new(seed);
    simulation.drive();
    let mut verdict = Verdict::Continue;
    for _ in 0..MOST_TURNS {
        simulation.peer_acts();
        simulation.deliver_events();
        simulation.drive();
        verdict = simulation.relay.verdict();
        if verdict != Verdict::Continue {
            break;
        }
    }
    let Simulation { peers, sockets, .. } = &mut simulation;
    match verdict {
        Verdict::Continue => panic!("seed {seed}: the session never ended"),
        Verdict::Closed { .. } => {
            for (peer, socket) in peers.iter_mut().zip(sockets.iter()) {
                peer.got.extend(&socket.outbox);
                assert!(socket.shut, "seed {seed}: a close was not passed on");
            }
            assert!(peers[0].got == peers[1].sent, "seed {seed}: down");
            assert!(peers[1].got == peers[0].sent, "seed {seed}: up");
        }
        Verdict::Broken { by, .. } => {
            let (from, to) = (at(by), at(by.other()));
            assert!(sockets[from].peer_reset, "seed {seed}: nobody reset");
            let shut_alone = sockets[to].shut && !sockets[from].peer_closed;
            assert!(!shut_alone, "seed {seed}: a reset was passed on as a close");
            let mut got = std::mem::take(&mut peers[to].got);
            got.extend(&sockets[to].outbox);
            // All that it sent before its reset, unless the other end is gone too.
            let is_whole = got == peers[from].sent;
            assert!(
                is_whole || sockets[to].peer_reset,
                "seed {seed}: bytes before the reset"
            );
            assert!(peers[from].sent.starts_with(&got), "seed {seed}: order");
        }
    }
}

#[test]
fn bytes_arrive_whole_in_order_once_in_every_history() {
    (0..20_000).for_each(check);
}
