//! The life of an endpoint that is accepted on (`docs/adr/0004`):
//!
//! ```text
//! Serving --> Retired --> Closing --> Closed
//!    ^-----------'
//! ```
//!
//! A reload that gives an endpoint up retires it, and one that names it again meanwhile revives it. TCP still
//! accepts while it is retired, for clients whose handshake is under way, and then until its queue is
//! empty. UDP serves the flows that it has and takes no new ones; it closes after the last of them.
//!
//! The main thread keeps the life of each endpoint ([`Endpoints`]), and each worker that of each of its
//! sockets, by the same [`Life`]. Only the main thread decides when an endpoint is closed; only a worker
//! sees when the queue of its socket is empty.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::plan::{Endpoint, Protocol};

/// A retired TCP endpoint accepts for so long: the kernel resets those whose handshake is under way when it
/// closes, though to some of them they are connected.
pub const HANDSHAKES_TAKE_MS: u64 = 1_000;
/// One that closes serves what waits in its queue, but not for ever, should clients keep coming; longer
/// where they wait for room.
pub const CLOSING_MS: u64 = 1_000;
/// As [`CLOSING_MS`], where there is no room for another session.
pub const CLOSING_WITHOUT_ROOM_MS: u64 = 30_000;

/// Where an endpoint, or a socket of it, stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    protocol: Protocol,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Retired { since_ms: u64 },
    Closing { since_ms: u64 },
    Closed,
}

/// The accept queue of a TCP socket, as its worker has last found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Nobody waits.
    Empty,
    /// Somebody may wait in it.
    Waiting,
    /// The same, and there is no room for another session.
    WaitingForRoom,
}

impl Life {
    /// A life that begins: it serves.
    pub fn new(protocol: Protocol) -> Life {
        Life {
            protocol,
            stage: Stage::Serving,
        }
    }

    /// The configuration does not name it any more.
    pub fn retire(&mut self, now_ms: u64) {
        if self.stage == Stage::Serving {
            self.stage = Stage::Retired { since_ms: now_ms };
        }
    }

    /// The configuration names it again. One that is being closed stays so: another takes its place.
    pub fn revive(&mut self) {
        if self.is_retired() {
            self.stage = Stage::Serving;
        }
    }

    /// Whether a configuration names it.
    pub fn is_serving(&self) -> bool {
        self.stage == Stage::Serving
    }

    /// Whether no configuration names it and it is not yet being closed.
    pub fn is_retired(&self) -> bool {
        matches!(self.stage, Stage::Retired { .. })
    }

    /// Whether a retired endpoint with so many flows is to be closed.
    pub fn is_unused(&self, flows: u64, now_ms: u64) -> bool {
        match (self.stage, self.protocol) {
            (Stage::Retired { since_ms }, Protocol::Tcp) => now_ms >= since_ms + HANDSHAKES_TAKE_MS,
            (Stage::Retired { .. }, Protocol::Udp) => flows == 0,
            (Stage::Serving | Stage::Closing { .. } | Stage::Closed, _) => false,
        }
    }

    /// It is to be closed: TCP when its queue is empty, UDP at once if it is retired.
    pub fn close(&mut self, now_ms: u64) {
        match (self.stage, self.protocol) {
            (Stage::Serving | Stage::Retired { .. }, Protocol::Tcp) => {
                self.stage = Stage::Closing { since_ms: now_ms };
            }
            (Stage::Retired { .. }, Protocol::Udp) => self.stage = Stage::Closed,
            // A socket that serves is of a later configuration.
            (Stage::Serving, Protocol::Udp) | (Stage::Closing { .. } | Stage::Closed, _) => {}
        }
    }

    /// Its socket was found so: closed when nobody waits any more, or has for too long.
    pub fn look(&mut self, queue: Queue, now_ms: u64) {
        let Stage::Closing { since_ms } = self.stage else {
            return;
        };
        let patience_ms = match queue {
            Queue::Empty => 0,
            Queue::Waiting => CLOSING_MS,
            Queue::WaitingForRoom => CLOSING_WITHOUT_ROOM_MS,
        };
        if now_ms >= since_ms + patience_ms {
            self.stage = Stage::Closed;
        }
    }

    /// Whether its socket may be closed now.
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }
}

/// What the workers say of an endpoint: that sockets of it are open, for as long as they hold this, and how
/// many flows came by them.
#[derive(Debug, Default)]
pub struct EndpointUse {
    flows: AtomicU64,
}

impl EndpointUse {
    /// Counts a flow, until [`EndpointUse::flow_ended`].
    pub fn flow_began(&self) {
        self.flows.fetch_add(1, Relaxed);
    }

    /// Counts the end of a flow.
    pub fn flow_ended(&self) {
        self.flows.fetch_sub(1, Relaxed);
    }

    /// Flows over all workers.
    pub fn flows(&self) -> u64 {
        self.flows.load(Relaxed)
    }
}

/// The endpoints of the process: those that serve, and those that are retired. One that is to be closed is
/// forgotten here, since another may be bound in its place.
#[derive(Debug, Default)]
pub struct Endpoints {
    all: BTreeMap<Endpoint, Life>,
}

impl Endpoints {
    /// These have been bound.
    pub fn open(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) {
        let opened = endpoints.into_iter();
        self.all
            .extend(opened.map(|endpoint| (endpoint, Life::new(endpoint.protocol))));
    }

    /// Those that serve, in order.
    pub fn serving(&self) -> impl Iterator<Item = Endpoint> {
        let all = self.all.iter();
        all.filter(|(_, life)| life.is_serving())
            .map(|(endpoint, _)| *endpoint)
    }

    /// Those that no configuration names, in order.
    pub fn retired(&self) -> impl Iterator<Item = Endpoint> {
        let all = self.all.iter();
        all.filter(|(_, life)| life.is_retired())
            .map(|(endpoint, _)| *endpoint)
    }

    /// Whether it serves or is retired.
    pub fn is_held(&self, endpoint: &Endpoint) -> bool {
        self.all.contains_key(endpoint)
    }

    /// Whether no configuration names it and it is not yet being closed.
    pub fn is_retired(&self, endpoint: &Endpoint) -> bool {
        self.all.get(endpoint).is_some_and(Life::is_retired)
    }

    /// A reload gives these up.
    pub fn retire(&mut self, endpoints: &[Endpoint], now_ms: u64) {
        for endpoint in endpoints {
            if let Some(life) = self.all.get_mut(endpoint) {
                life.retire(now_ms);
            }
        }
    }

    /// A reload names these again.
    pub fn revive(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Some(life) = self.all.get_mut(endpoint) {
                life.revive();
            }
        }
    }

    /// Takes out those that nobody needs any more, of which each has so many `flows`: to be closed.
    pub fn take_unused(&mut self, flows: impl Fn(&Endpoint) -> u64, now_ms: u64) -> Vec<Endpoint> {
        self.take(|endpoint, life| life.is_unused(flows(endpoint), now_ms))
    }

    /// Takes out the retired TCP endpoints at `addrs`, to be closed before anything connects there: a backend
    /// is to listen there, and its sessions would come back to us.
    pub fn give_up(&mut self, addrs: &[SocketAddr]) -> Vec<Endpoint> {
        self.take(|endpoint, life| {
            life.is_retired()
                && endpoint.protocol == Protocol::Tcp
                && addrs.contains(&endpoint.addr)
        })
    }

    /// Takes all out, for an end.
    pub fn take_all(&mut self) -> Vec<Endpoint> {
        self.take(|_, _| true)
    }

    fn take(&mut self, is_taken: impl Fn(&Endpoint, &Life) -> bool) -> Vec<Endpoint> {
        let mut taken = Vec::new();
        self.all.retain(|endpoint, life| {
            let stays = !is_taken(endpoint, life);
            if !stays {
                taken.push(*endpoint);
            }
            stays
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Protocol = Protocol::Tcp;
    const UDP: Protocol = Protocol::Udp;

    fn retired(protocol: Protocol, now_ms: u64) -> Life {
        let mut life = Life::new(protocol);
        life.retire(now_ms);
        assert!(life.is_retired());
        life
    }

    #[test]
    fn tcp_is_kept_for_the_handshakes_and_udp_for_its_flows() {
        let over_ms = 10 + HANDSHAKES_TAKE_MS;
        for (protocol, flows, now_ms, right) in [
            (TCP, 0, over_ms - 1, false),
            (TCP, 0, over_ms, true),
            (TCP, 3, over_ms, true),
            (UDP, 0, 10, true),
            (UDP, 1, over_ms * 1_000, false),
        ] {
            let life = retired(protocol, 10);
            assert_eq!(life.is_unused(flows, now_ms), right, "{protocol:?} {flows}");
            assert!(!Life::new(protocol).is_unused(flows, now_ms), "it serves");
        }
    }

    #[test]
    fn one_that_closes_serves_who_waits_but_not_for_ever() {
        for (queue, patience_ms) in [
            (Queue::Empty, 0),
            (Queue::Waiting, CLOSING_MS),
            (Queue::WaitingForRoom, CLOSING_WITHOUT_ROOM_MS),
        ] {
            let mut life = retired(TCP, 0);
            life.look(queue, 5);
            assert!(!life.is_closed(), "nobody has closed it");
            life.close(10);
            life.close(20);
            if patience_ms > 0 {
                life.look(queue, 10 + patience_ms - 1);
                assert!(!life.is_closed(), "{queue:?}");
            }
            life.look(queue, 10 + patience_ms);
            assert!(life.is_closed(), "{queue:?}");
        }
    }

    #[test]
    fn udp_closes_at_once_and_only_where_it_is_retired() {
        let mut life = Life::new(UDP);
        life.close(0);
        assert!(life.is_serving());
        life.retire(0);
        life.close(0);
        assert!(life.is_closed());
    }

    #[test]
    fn what_is_retired_comes_back_and_what_closes_does_not() {
        for protocol in [TCP, UDP] {
            let mut life = retired(protocol, 0);
            life.revive();
            assert!(life.is_serving());
            life.retire(500);
            assert!(!life.is_unused(1, 500 + HANDSHAKES_TAKE_MS - 1), "anew");
            life.close(600);
            life.revive();
            life.retire(700);
            assert!(!life.is_serving() && !life.is_retired(), "{protocol:?}");
        }
    }

    fn endpoint(port: u16, protocol: Protocol) -> Endpoint {
        Endpoint {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            protocol,
        }
    }

    #[test]
    fn an_address_of_a_backend_is_given_up_by_tcp_alone_and_only_when_retired() {
        let all = [endpoint(1, TCP), endpoint(1, UDP), endpoint(2, TCP)];
        let mut endpoints = Endpoints::default();
        endpoints.open(all);
        endpoints.retire(&all[..2], 0);
        let addrs = all.map(|endpoint| endpoint.addr);
        assert_eq!(endpoints.give_up(&addrs), [all[0]]);
        assert!(!endpoints.is_held(&all[0]) && endpoints.is_retired(&all[1]));
        assert_eq!(endpoints.serving().collect::<Vec<_>>(), [all[2]]);
        assert_eq!(endpoints.take_all(), [all[1], all[2]]);
    }
}
