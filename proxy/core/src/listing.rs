//! The open sessions and flows that somebody asks for: which of them, which first, and which clients have the most.
//!
//! A worker shows a [`Listing`] all that it has, a part of them a turn. Memory is bounded by the number of rows that
//! are asked for, and by [`MOST_CLIENTS`].
//!
//! Clients are counted by the Space-Saving algorithm (A. Metwally, D. Agrawal and A. El Abbadi, "Efficient Computation of
//! Frequent and Top-k Elements in Data Streams", ICDT 2005): a client beyond those that are counted takes the place of
//! the one with the lowest count, and that count with it. So a count may be too large, by no more than the sum of all divided
//! by [`MOST_CLIENTS`], and no client with more than that is missing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};

use contract::sessions::{SessionOrder, SessionPhase};
use contract::{BackendAddr, Networks};

use crate::ids::{ListenerId, PoolId};
use crate::plan::Protocol;

/// Clients that are counted at once.
pub const MOST_CLIENTS: usize = 1_024;

/// Which sessions and flows are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this listener.
    pub listener: Option<ListenerId>,
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// Of this backend.
    pub backend: Option<BackendAddr>,
    /// Of clients in one of these networks.
    pub client: Option<Networks>,
    /// Of this protocol.
    pub protocol: Option<Protocol>,
    /// Which come first.
    pub order: SessionOrder,
    /// Rows at most.
    pub limit: usize,
}

/// What identifies a session or flow of a worker for as long as the process runs: its place is used again, but not at
/// the same microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenId {
    /// Of which it is one.
    pub protocol: Protocol,
    /// Which worker has it.
    pub worker: usize,
    /// Its place among those of the worker.
    pub place: u32,
    /// When it began, on the clock of the workers.
    pub started_us: u64,
}

/// One session or flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Which one.
    pub id: OpenId,
    /// Where it comes from.
    pub client: SocketAddr,
    /// The listener that it came by.
    pub listener: ListenerId,
    /// The pool of its backend; [`PoolId::NONE`] before one is chosen.
    pub pool: PoolId,
    /// The backend that it has, or is being connected to.
    pub backend: Option<BackendAddr>,
    /// How far it is.
    pub phase: SessionPhase,
    /// Since it began.
    pub age_ms: u64,
    /// Since bytes passed.
    pub idle_ms: u64,
    /// Client to backend.
    pub bytes_up: u64,
    /// Backend to client.
    pub bytes_down: u64,
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Listing {
    wanted: Wanted,
    total: u64,
    /// The last of the first ones on top.
    first: BinaryHeap<Reverse<Ranked>>,
    clients: Clients,
}

/// Larger is earlier.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    rank: u64,
    open: Open,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.rank, Reverse(self.open.id)).cmp(&(other.rank, Reverse(other.open.id)))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What is counted of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCount {
    /// Its address.
    pub client: IpAddr,
    /// Sessions and flows; see the [module](self) for how exact.
    pub sessions: u64,
    /// Their bytes both ways.
    pub bytes: u64,
}

/// A bounded count of clients.
#[derive(Debug, Default)]
struct Clients {
    counts: HashMap<IpAddr, (u64, u64)>,
    /// By sessions.
    ranked: BTreeSet<(u64, IpAddr)>,
}

impl Listing {
    /// Nothing has been found.
    pub fn new(wanted: Wanted) -> Listing {
        Listing {
            wanted,
            ..Listing::default()
        }
    }

    /// Whether sessions, or flows, are asked for at all.
    pub fn wants(&self, protocol: Protocol) -> bool {
        self.wanted.protocol.is_none_or(|wanted| wanted == protocol)
    }

    /// One that is there.
    pub fn note(&mut self, open: Open) {
        if !self.wanted.includes(&open) {
            return;
        }
        self.total += 1;
        self.clients
            .add(open.client.ip(), 1, open.bytes_up + open.bytes_down);
        let rank = match self.wanted.order {
            SessionOrder::Age => open.age_ms,
            SessionOrder::Idle => open.idle_ms,
            SessionOrder::Bytes => open.bytes_up + open.bytes_down,
        };
        let is_full = self.first.len() >= self.wanted.limit;
        let ranked = Ranked { rank, open };
        if is_full && self.first.peek().is_none_or(|last| ranked < last.0) {
            return;
        }
        self.first.push(Reverse(ranked));
        if is_full {
            self.first.pop();
        }
    }

    /// Takes over what another worker found of the same.
    pub fn merge(&mut self, other: Listing) {
        self.total += other.total;
        self.first.extend(other.first);
        while self.first.len() > self.wanted.limit {
            self.first.pop();
        }
        for (client, (sessions, bytes)) in other.clients.counts {
            self.clients.add(client, sessions, bytes);
        }
    }

    /// How many there are, the first of them in order, and the clients with the most, at most `most_clients`.
    pub fn finish(self, most_clients: usize) -> (u64, Vec<Open>, Vec<ClientCount>) {
        let first = self.first.into_sorted_vec();
        let first = first.into_iter().map(|ranked| ranked.0.open).collect();
        (self.total, first, self.clients.top(most_clients))
    }
}

impl Wanted {
    fn includes(&self, open: &Open) -> bool {
        self.listener
            .is_none_or(|listener| listener == open.listener)
            && self.pool.is_none_or(|pool| pool == open.pool)
            && self
                .backend
                .is_none_or(|backend| Some(backend) == open.backend)
            && self
                .protocol
                .is_none_or(|protocol| protocol == open.id.protocol)
            && self
                .client
                .as_ref()
                .is_none_or(|client| client.contain(open.client.ip()))
    }
}

impl Clients {
    fn add(&mut self, client: IpAddr, sessions: u64, bytes: u64) {
        let (had, had_bytes) = match self.counts.get(&client) {
            Some(counted) => *counted,
            None if self.counts.len() < MOST_CLIENTS => (0, 0),
            None => {
                let (least, other) = self.ranked.pop_first().unwrap_or((0, client));
                self.counts.remove(&other);
                (least, 0)
            }
        };
        self.ranked.remove(&(had, client));
        self.ranked.insert((had + sessions, client));
        self.counts
            .insert(client, (had + sessions, had_bytes + bytes));
    }

    fn top(&self, most: usize) -> Vec<ClientCount> {
        let ranked = self.ranked.iter().rev().take(most);
        let counted = ranked.map(|(sessions, client)| ClientCount {
            client: *client,
            sessions: *sessions,
            bytes: self.counts.get(client).map_or(0, |(_, bytes)| *bytes),
        });
        counted.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn open(place: u32, client: u32, age_ms: u64, bytes: u64) -> Open {
        Open {
            id: OpenId {
                protocol: if place.is_multiple_of(2) {
                    Protocol::Tcp
                } else {
                    Protocol::Udp
                },
                worker: 0,
                place,
                started_us: 1_000,
            },
            client: SocketAddr::from((Ipv4Addr::from(client), 9)),
            listener: ListenerId::FIRST,
            pool: PoolId::NONE,
            backend: Some(BackendAddr::new(
                [10, 0, 0, 1].into(),
                (place % 3 + 1) as u16,
            )),
            phase: SessionPhase::Open,
            age_ms,
            idle_ms: 1_000 - age_ms,
            bytes_up: bytes,
            bytes_down: 1,
        }
    }

    fn places(wanted: Wanted) -> (u64, Vec<u32>) {
        // Two workers, of which each has a part.
        let mut parts = [(); 2].map(|()| Listing::new(wanted.clone()));
        for place in 0..100 {
            let age_ms = u64::from(place * 37 % 100);
            parts[usize::from(place < 30)].note(open(place, place / 10, age_ms, u64::from(place)));
        }
        let [mut listing, other] = parts;
        listing.merge(other);
        let (total, first, _) = listing.finish(0);
        (total, first.into_iter().map(|open| open.id.place).collect())
    }

    #[test]
    fn the_first_of_those_that_are_asked_for_come_in_order() {
        let all = Wanted {
            limit: 3,
            ..Wanted::default()
        };
        // 37 times these is 99, 98 and 97, modulo 100.
        assert_eq!(places(all.clone()), (100, vec![27, 54, 81]));
        let idle = Wanted {
            order: SessionOrder::Idle,
            ..all.clone()
        };
        assert_eq!(places(idle), (100, vec![0, 73, 46]));
        let bytes = Wanted {
            order: SessionOrder::Bytes,
            protocol: Some(Protocol::Udp),
            ..all.clone()
        };
        assert_eq!(places(bytes), (50, vec![99, 97, 95]));
        let of_backend = Wanted {
            backend: Some(BackendAddr::new([10, 0, 0, 1].into(), 1)),
            client: Some(Networks::from_iter(["0.0.0.2/32"
                .parse()
                .expect("a network")])),
            ..all.clone()
        };
        let (total, mut found) = places(of_backend);
        found.sort_unstable();
        assert_eq!((total, found), (3, vec![21, 24, 27]));
        assert_eq!(places(Wanted { limit: 0, ..all }), (100, vec![]));
    }

    #[test]
    fn the_clients_with_the_most_are_known_although_not_all_can_be_counted() {
        let mut listing = Listing::new(Wanted::default());
        for place in 0..50_000 {
            // Every fourth is of one of two, the rest of some that come once.
            let client = match place % 8 {
                0 => 1,
                4 => 2 - u32::from(place % 3 == 0),
                _ => 1_000 + place,
            };
            listing.note(open(place, client, 0, 10));
        }
        let (total, _, clients) = listing.finish(2);
        let addresses = [1, 2].map(|client| IpAddr::from(Ipv4Addr::from(client)));
        assert_eq!(
            clients.iter().map(|one| one.client).collect::<Vec<_>>(),
            addresses
        );
        let most_wrong = total / MOST_CLIENTS as u64;
        let right = [6_250 + 2_083, 6_250 - 2_083];
        for (found, right) in clients.iter().zip(right) {
            assert!(
                (right..=right + most_wrong).contains(&found.sessions),
                "{found:?} {right}"
            );
        }
    }
}
