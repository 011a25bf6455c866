//! Which flow datagrams of a client go by: the one that there is, or another in its place, or a new one,
//! for which others may have to make room.
//!
//! A [`Seek`] says what to do next until the datagrams can be sent or are dropped. One that is refused by
//! the backend (ICMP told of an earlier datagram) seeks again; it tries as many backends as the pool allows.

use contract::BackendAddr;

use super::life::{Flow, Present};
use super::listening::{Sockets, refuses, taker};
use crate::flow_table::{FlowIndex, FlowKey, FlowTable};
use crate::ids::{ListenerId, PoolId};
use crate::placement::{Draw, Placement, Seeking};
use crate::plan::Protocol;
use crate::reason::{DropReason, FlowEnd};
use crate::route::{Preface, Routed};
use crate::snapshot::Snapshot;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send by this flow.
    Send(FlowIndex),
    /// End this flow, and ask again.
    End(FlowIndex, FlowEnd),
    /// Connect a socket to this backend, insert a flow that came by the socket at `place`, and tell by
    /// [`Seek::connected`]; or tell by [`Seek::could_not_connect`], and ask again.
    Connect {
        /// The chosen backend.
        placement: Placement,
        /// The place of the socket that received the datagram.
        place: usize,
    },
    /// Drop the datagram.
    Drop(DropReason),
}

/// Why no socket could be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconnected {
    /// Descriptors, memory or local ports are short.
    Shortage,
    /// No way leads to the backend.
    Refused,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Seek {
    key: FlowKey,
    /// The socket that the datagrams came by.
    arrived_at: usize,
    /// Backends that have refused them.
    tried: Vec<BackendAddr>,
    /// The pool that they go to, if that is decided.
    pool: Option<PoolId>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Find,
    /// Whether a flow may begin, by the socket at this place.
    Begin {
        place: usize,
    },
    /// It may, once there is room.
    MakeRoom {
        place: usize,
    },
    /// Tries so many backends more.
    Choose {
        place: usize,
        pool: PoolId,
        left: u64,
    },
    Connecting {
        place: usize,
        left: u64,
        placement: Placement,
        /// A flow has made room for it.
        has_room: bool,
        failed: Option<Unconnected>,
    },
}

impl Seek {
    /// For datagrams of one client that came by the socket at `arrived_at`.
    #[inline]
    pub fn new(key: FlowKey, arrived_at: usize) -> Seek {
        Seek {
            key,
            arrived_at,
            tried: Vec::new(),
            pool: None,
            stage: Stage::Find,
        }
    }

    /// What to do next.
    #[inline]
    pub fn next_step<S>(
        &mut self,
        flows: &mut FlowTable<Flow<S>>,
        sockets: &impl Sockets,
        present: Present<'_>,
        draw: &mut Draw<'_>,
    ) -> Step {
        if let Stage::Find = self.stage
            && let Some(index) = flows.find(&self.key)
        {
            return self.go_by(index, flows, sockets, present);
        }
        self.begin(flows, sockets, present, draw)
    }

    /// By the flow that there is, while its backend may have it.
    #[inline]
    fn go_by<S>(
        &mut self,
        index: FlowIndex,
        flows: &mut FlowTable<Flow<S>>,
        sockets: &impl Sockets,
        present: Present<'_>,
    ) -> Step {
        let (_, flow) = flows.get_mut(index).expect("found just now");
        let Some(end) = flow.state.check(present.judging(flow.pool)) else {
            let rank = flow.state.rank_when_asked();
            flows.touch(index, rank, present.now_ms());
            return Step::Send(index);
        };
        if matches!(end, FlowEnd::Refused | FlowEnd::NotServed) {
            let addr = flow.state.backend().addr;
            if !self.tried.contains(&addr) {
                self.tried.push(addr);
            }
        }
        // A client that was served at a retired socket goes on to be.
        let place = taker(sockets, self.arrived_at, &self.key).unwrap_or(flow.came_by as usize);
        self.stage = Stage::Begin { place };
        Step::End(index, end)
    }

    fn begin<S>(
        &mut self,
        flows: &FlowTable<Flow<S>>,
        sockets: &impl Sockets,
        present: Present<'_>,
        draw: &mut Draw<'_>,
    ) -> Step {
        loop {
            match &mut self.stage {
                Stage::Find => match taker(sockets, self.arrived_at, &self.key) {
                    Some(place) => self.stage = Stage::Begin { place },
                    None => return Step::Drop(DropReason::ListenerClosed),
                },
                Stage::Begin { place } => {
                    let place = *place;
                    let rules = present.listeners.rules(sockets.at(place).listener);
                    if let Some(reason) = refuses(sockets, rules, self.key.client) {
                        return Step::Drop(reason);
                    }
                    self.stage = Stage::MakeRoom { place };
                }
                Stage::MakeRoom { place } => {
                    let place = *place;
                    let listener = sockets.at(place).listener;
                    if let Some(index) = in_the_way(flows, listener, present) {
                        return Step::End(index, FlowEnd::Evicted);
                    }
                    let pool = self.pool(listener, draw);
                    let left = connect_attempts(present.snapshot, pool);
                    self.stage = Stage::Choose { place, pool, left };
                }
                Stage::Choose { place, pool, left } => {
                    let (place, pool, left) = (*place, *pool, *left);
                    let placement = match left {
                        0 => None,
                        _ => self.place(pool, present, draw.random),
                    };
                    let Some(placement) = placement else {
                        return Step::Drop(DropReason::NoBackend);
                    };
                    self.stage = Stage::Connecting {
                        place,
                        left: left - 1,
                        placement: placement.clone(),
                        has_room: false,
                        failed: None,
                    };
                    return Step::Connect { placement, place };
                }
                Stage::Connecting {
                    place,
                    left,
                    placement,
                    has_room,
                    failed,
                } => match failed.take() {
                    Some(Unconnected::Shortage) => {
                        // The flow that is missed least makes room, once.
                        let evicted = flows.least_missed().filter(|_| !*has_room);
                        *has_room = true;
                        return match evicted {
                            Some(index) => Step::End(index, FlowEnd::Evicted),
                            None => Step::Drop(DropReason::NoRoom),
                        };
                    }
                    Some(Unconnected::Refused) => {
                        let (place, pool, left) = (*place, placement.backend.pool, *left);
                        self.tried.push(placement.backend.addr);
                        self.stage = Stage::Choose { place, pool, left };
                    }
                    // Room was made.
                    None => {
                        let (placement, place) = (placement.clone(), *place);
                        return Step::Connect { placement, place };
                    }
                },
            }
        }
    }

    /// The pool of a new flow. Datagrams that a backend refused stay in the pool that they had.
    fn pool(&mut self, listener: ListenerId, draw: &mut Draw<'_>) -> PoolId {
        *self.pool.get_or_insert_with(|| {
            let client_ip = self.key.client.ip();
            match draw.routers.route(listener, client_ip, Preface::NotTls) {
                Routed::To { pool, .. } => pool,
                Routed::AskHello | Routed::NoRoute => PoolId::NONE,
            }
        })
    }

    /// The backend for a new flow. Where all that there are have been tried, the one whose turn it is:
    /// it may be back by now.
    fn place(
        &self,
        pool: PoolId,
        present: Present<'_>,
        random: &mut fastrand::Rng,
    ) -> Option<Placement> {
        let mut place = |tried: &[BackendAddr]| {
            let seeking = Seeking {
                protocol: Protocol::Udp,
                pool,
                client_ip: self.key.client.ip(),
                tried,
            };
            Placement::choose(present.snapshot, seeking, present.now_us, random)
        };
        place(&self.tried).or_else(|| place(&[]))
    }

    /// The connect that was asked for has failed.
    pub fn could_not_connect(&mut self, why: Unconnected) {
        if let Stage::Connecting { failed, .. } = &mut self.stage {
            *failed = Some(why);
        }
    }

    /// The backend of `flow`, by which they were to be sent, has refused an earlier datagram. Returns why they
    /// are dropped, where too many have.
    pub fn refused<S>(&mut self, flow: &mut Flow<S>, snapshot: &Snapshot) -> Option<DropReason> {
        flow.state.refuse();
        self.pool = Some(flow.pool);
        self.tried.push(flow.state.backend().addr);
        self.stage = Stage::Find;
        let is_last = self.tried.len() as u64 >= connect_attempts(snapshot, flow.pool);
        is_last.then_some(DropReason::NoBackend)
    }

    /// The connect that was asked for was made, and its flow is in the table.
    pub fn connected(&mut self) {
        self.stage = Stage::Find;
    }
}

/// The flow that is to end before another may begin for `serving`.
fn in_the_way<S>(
    flows: &FlowTable<Flow<S>>,
    listener: ListenerId,
    present: Present<'_>,
) -> Option<FlowIndex> {
    if flows.len_of(listener) >= present.listeners.rules(listener).max_flows_per_worker {
        return flows.least_missed_of(listener);
    }
    let most = present.snapshot.max_flows_per_worker;
    // Flows of removed listeners take no place of the others.
    let of_configured = || -> usize {
        let configured = present.snapshot.rules_of_listeners();
        configured.map(|(state, _)| flows.len_of(state.id)).sum()
    };
    match flows.len() >= most && of_configured() >= most {
        true => flows.least_missed(),
        false => None,
    }
}

/// How many backends of `pool` a flow tries; none of one that a reload has taken away.
fn connect_attempts(snapshot: &Snapshot, pool: PoolId) -> u64 {
    let pool = snapshot.pool(pool);
    pool.map_or(0, |pool| pool.settings.connect.attempts)
}
