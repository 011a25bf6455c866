//! Endpoints over reloads in virtual time: the main thread's [`Endpoints`], and two workers whose sockets have
//! the very [`Life`] that they have in the proxy. Every seed is one history; a failing seed is printed and
//! replayed by `check(seed)`.
//!
//! What must hold, whatever the order of events: an endpoint serves in every worker exactly while the
//! configuration names it; one that is named again while it is retired keeps its sockets; a TCP socket
//! accepts for a second after it was given up, and closes in bounded time; a UDP socket stays until its last
//! flow has ended; and nothing stays open for ever.

use std::net::SocketAddr;
use std::sync::Arc;

use proxy_core::plan::{Endpoint, Plan, Protocol, plan};
use proxy_core::retirement::{
    CLOSING_MS, CLOSING_WITHOUT_ROOM_MS, EndpointUse, Endpoints, HANDSHAKES_TAKE_MS, Life, Queue,
};

const WORKERS: usize = 2;
const SWEEP_MS: u64 = 1_000;
/// The longest step in time.
const STEP_MS: u64 = 200;

struct Socket {
    endpoint: Endpoint,
    /// Which socket it is.
    number: u64,
    life: Life,
    queue: Queue,
    flows: u64,
    in_use: Arc<EndpointUse>,
    given_up_ms: Option<u64>,
}

struct Simulation {
    random: fastrand::Rng,
    now_ms: u64,
    swept_ms: u64,
    endpoints: Endpoints,
    uses: Vec<(Endpoint, Arc<EndpointUse>)>,
    workers: [Vec<Socket>; WORKERS],
    made: u64,
}

fn endpoints() -> Vec<Endpoint> {
    let ports = [1, 2, 3].into_iter();
    let endpoints = ports.flat_map(|port| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Endpoint {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            protocol,
        })
    });
    endpoints.collect()
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        Simulation {
            random: fastrand::Rng::with_seed(seed),
            now_ms: 0,
            swept_ms: 0,
            endpoints: Endpoints::default(),
            uses: Vec::new(),
            workers: Default::default(),
            made: 0,
        }
    }

    fn sockets(&mut self) -> impl Iterator<Item = &mut Socket> {
        self.workers.iter_mut().flatten()
    }

    /// A reload that names some of the endpoints.
    fn reload(&mut self, wanted: &[Endpoint]) {
        let serving: Vec<Endpoint> = self.endpoints.serving().collect();
        let Plan { open, close, .. } = plan(&serving, wanted);
        let (back, new): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|endpoint| self.endpoints.is_retired(endpoint));
        let before = self.numbers(&back);
        self.endpoints.revive(&back);
        self.endpoints.retire(&close, self.now_ms);
        self.endpoints.open(new.iter().copied());
        for endpoint in new {
            let in_use = Arc::<EndpointUse>::default();
            self.uses.push((endpoint, Arc::clone(&in_use)));
            for worker in 0..WORKERS {
                self.made += 1;
                self.workers[worker].push(Socket {
                    endpoint,
                    number: self.made,
                    life: Life::new(endpoint.protocol),
                    queue: Queue::Waiting,
                    flows: 0,
                    in_use: Arc::clone(&in_use),
                    given_up_ms: None,
                });
            }
        }
        let now_ms = self.now_ms;
        for socket in self.sockets() {
            if back.contains(&socket.endpoint) {
                socket.life.revive();
                if socket.life.is_serving() {
                    socket.given_up_ms = None;
                }
            }
            if close.contains(&socket.endpoint) && socket.life.is_serving() {
                socket.life.retire(now_ms);
                socket.given_up_ms = Some(now_ms);
            }
        }
        assert_eq!(self.numbers(&back), before, "the same sockets serve again");
        assert!(self.endpoints.serving().eq(wanted.iter().copied()));
    }

    /// The sockets of endpoints that are not being closed.
    fn numbers(&mut self, of: &[Endpoint]) -> Vec<u64> {
        let sockets = self.sockets();
        let held = sockets.filter(|one| {
            of.contains(&one.endpoint) && (one.life.is_serving() || one.life.is_retired())
        });
        held.map(|socket| socket.number).collect()
    }

    fn sweep(&mut self) {
        self.swept_ms = self.now_ms;
        let uses = &self.uses;
        let flows = |endpoint: &Endpoint| {
            let mut uses = uses.iter().rev();
            let one = uses.find(|(of, _)| of == endpoint);
            one.map_or(0, |(_, one)| one.flows())
        };
        let unused = self.endpoints.take_unused(flows, self.now_ms);
        let now_ms = self.now_ms;
        for socket in self.sockets() {
            if unused.contains(&socket.endpoint) {
                socket.life.close(now_ms);
            }
        }
    }

    /// What the worker finds at its sockets.
    fn turn(&mut self) {
        let (mut random, now_ms) = (self.random.fork(), self.now_ms);
        for socket in self.sockets() {
            if socket.endpoint.protocol == Protocol::Udp {
                match random.u8(0..8) {
                    0 if socket.life.is_serving() => {
                        socket.flows += 1;
                        socket.in_use.flow_began();
                    }
                    1 | 2 if socket.flows > 0 => {
                        socket.flows -= 1;
                        socket.in_use.flow_ended();
                    }
                    _ => {}
                }
                continue;
            }
            let queues = [Queue::Empty, Queue::Waiting, Queue::WaitingForRoom];
            if random.u8(0..16) == 0 {
                socket.queue = random.choice(queues).expect("three of them");
            }
            socket.life.look(socket.queue, now_ms);
        }
        for worker in &mut self.workers {
            worker.retain(|socket| {
                assert!(!socket.life.is_closed() || socket.may_close(now_ms));
                !socket.life.is_closed()
            });
        }
    }

    fn assert_all_agree(&mut self) {
        let serving: Vec<Endpoint> = self.endpoints.serving().collect();
        for worker in &self.workers {
            let here = worker.iter().filter(|socket| socket.life.is_serving());
            let mut here: Vec<Endpoint> = here.map(|socket| socket.endpoint).collect();
            here.sort_unstable();
            assert_eq!(here, serving, "each once, in each worker");
        }
        let now_ms = self.now_ms;
        for socket in self.sockets() {
            let Some(given_up_ms) = socket.given_up_ms else {
                continue;
            };
            let late_ms = SWEEP_MS + 3 * STEP_MS;
            let most_ms = match (socket.endpoint.protocol, socket.queue) {
                (Protocol::Tcp, Queue::WaitingForRoom) => {
                    HANDSHAKES_TAKE_MS + CLOSING_WITHOUT_ROOM_MS
                }
                (Protocol::Tcp, _) => HANDSHAKES_TAKE_MS + CLOSING_MS,
                (Protocol::Udp, _) => continue,
            };
            assert!(now_ms <= given_up_ms + most_ms + late_ms, "still open");
        }
    }
}

impl Socket {
    fn may_close(&self, now_ms: u64) -> bool {
        let Some(given_up_ms) = self.given_up_ms else {
            return false;
        };
        match self.endpoint.protocol {
            Protocol::Tcp => now_ms >= given_up_ms + HANDSHAKES_TAKE_MS,
            Protocol::Udp => self.flows == 0,
        }
    }
}

fn check(seed: u64) {
    let played = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed);
        let all = endpoints();
        for _ in 0..400 {
            simulation.now_ms += simulation.random.u64(0..STEP_MS);
            if simulation.random.u8(0..12) == 0 {
                let wanted = all.iter().filter(|_| simulation.random.bool());
                let wanted: Vec<Endpoint> = wanted.copied().collect();
                simulation.reload(&wanted);
            }
            if simulation.now_ms >= simulation.swept_ms + SWEEP_MS {
                simulation.sweep();
            }
            simulation.turn();
            simulation.assert_all_agree();
        }
        simulation.reload(&[]);
        for _ in 0..2_000 {
            simulation.now_ms += STEP_MS;
            simulation.sweep();
            simulation.turn();
        }
        assert!(simulation.workers.iter().all(Vec::is_empty), "left open");
    });
    played.unwrap_or_else(|_| panic!("seed {seed}"));
}

#[test]
fn endpoints_live_and_end_as_promised_in_every_history() {
    (0..500).for_each(check);
}
