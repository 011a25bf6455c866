//! The UDP side of a worker: datagrams of a client go through a flow, which has a backend and a
//! connected socket of its own, so that answers find their way back and nobody else's are taken.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use contract::{BackendAddr, Networks};
use proxy_core::flow::Judging;
use proxy_core::flow_table::{FlowIndex, FlowKey, FlowTable, Rank};
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::latency::add;
use proxy_core::listener::Serving;
use proxy_core::placement::{Placement, Seeking};
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_core::retirement::{EndpointUse, Life};
use proxy_core::score::witnessed::Failure;
use proxy_core::snapshot::Snapshot;
use proxy_sys::datagrams::{self, Datagram, MOST_SEGMENTS, Receiver, Route};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use slab::Slab;

use super::core::{Core, Token};
use super::flow::{Flow, answer, connected_socket, is_refusal};
use super::gone::Gone;
use super::load::Meters;
use super::session_log::Record;
use super::sweep::Sweep;
use crate::connecting::is_shortage;
use crate::own_address::is_of_this_host;

/// Batches taken from one socket before others get their turn.
const MOST_BATCHES: usize = 8;
struct Listener {
    endpoint: Endpoint,
    serving: Serving,
    socket: OwnedFd,
    /// Nothing says that a read would block.
    is_ready: bool,
    life: Life,
    /// Flows of this endpoint over all workers.
    in_use: Arc<EndpointUse>,
    /// Datagrams that the kernel had no room for, as it told last.
    lost: u32,
}

impl Listener {
    /// How answers reach the client of `key`. A socket bound to one address needs not be told which
    /// they leave from.
    fn route_to(&self, key: &FlowKey) -> Route {
        let listen = self.endpoint.addr;
        let to = match key.client {
            SocketAddr::V4(v4) if listen.is_ipv6() => {
                SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
            }
            client => client,
        };
        let from = key.local_ip.filter(|_| listen.ip().is_unspecified());
        Route { to, from }
    }

    /// The local address of a datagram that arrived here.
    fn local_ip(&self, datagram: &Datagram<'_>) -> Option<IpAddr> {
        let bound_to = self.endpoint.addr.ip();
        if bound_to.is_unspecified() {
            datagram.local_ip
        } else {
            Some(bound_to.to_canonical())
        }
    }
}

pub struct Udp {
    listeners: Slab<Listener>,
    flows: FlowTable<Flow>,
    meters: Meters,
    gone: Gone,
    /// `udp_peers` of each listener that has some, by which the flows that there are were let in.
    peers: Vec<(ListenerId, Networks)>,
    /// For flows of sources that none would be begun for any more.
    refused_sources: Sweep,
}

/// Consecutive datagrams of one client are sent on with one system call.
struct Run {
    key: FlowKey,
    first: usize,
    count: usize,
}

impl Udp {
    pub fn new(core: &Core) -> Udp {
        Udp {
            listeners: Slab::new(),
            flows: FlowTable::default(),
            meters: Meters::new(core.now_ms()),
            gone: Gone::default(),
            peers: peers(core),
            refused_sources: Sweep::default(),
        }
    }

    pub fn open(
        &mut self,
        core: &mut Core,
        endpoint: Endpoint,
        serving: Serving,
        socket: OwnedFd,
        in_use: Arc<EndpointUse>,
    ) -> rustix::io::Result<()> {
        let entry = self.listeners.vacant_entry();
        core.watch(
            &socket,
            Token::UdpListener(entry.key() as u32),
            EventFlags::IN,
        )?;
        entry.insert(Listener {
            endpoint,
            serving,
            socket,
            is_ready: true,
            life: Life::new(endpoint.protocol),
            in_use,
            lost: 0,
        });
        self.refused_sources.begin();
        Ok(())
    }

    /// Has what is open take new flows for those whom `snapshot` names.
    pub fn reroute(&mut self, snapshot: &Snapshot) {
        for (_, listener) in &mut self.listeners {
            let serving = snapshot.serving(listener.endpoint, Some(listener.serving));
            listener.serving = serving.unwrap_or(listener.serving);
        }
    }

    /// The listeners that sockets are open for.
    pub fn open_for(&self) -> impl Iterator<Item = ListenerId> {
        self.listeners.iter().map(|(_, one)| one.serving.listener)
    }

    /// Of each socket of `endpoint`.
    pub fn lives_at(&mut self, endpoint: Endpoint) -> impl Iterator<Item = &mut Life> {
        let all = self.listeners.iter_mut().map(|(_, listener)| listener);
        all.filter(move |listener| listener.endpoint == endpoint)
            .map(|listener| &mut listener.life)
    }

    /// Closes a retired endpoint. Its flows, should it have any, end.
    pub fn close(&mut self, core: &mut Core, endpoint: Endpoint) {
        let now_ms = core.now_ms();
        self.lives_at(endpoint).for_each(|life| life.close(now_ms));
        let of_closed = |index: &FlowIndex| {
            let flow = self.flows.get(*index);
            let listener = flow.map(|(_, flow)| &self.listeners[flow.socket_index as usize]);
            listener.is_some_and(|listener| listener.life.is_closed())
        };
        let orphans: Vec<FlowIndex> = self.flows.indices().filter(of_closed).collect();
        orphans
            .into_iter()
            .for_each(|index| self.end(core, index, FlowEnd::Shutdown));
        self.listeners
            .retain(|_, listener| !listener.life.is_closed());
    }

    pub fn listener_event(&mut self, index: u32) {
        if let Some(listener) = self.listeners.get_mut(index as usize) {
            listener.is_ready = true;
        }
    }

    /// Whether listeners, or flows that are looked at, wait for their next turn.
    pub fn has_unfinished(&self) -> bool {
        let is_any_ready = self.listeners.iter().any(|(_, l)| l.is_ready);
        is_any_ready || self.gone.is_looking() || self.refused_sources.is_under_way()
    }

    /// Reads from every ready listener, in bounded steps.
    pub fn run_ready(&mut self, core: &mut Core, receiver: &mut Receiver) {
        for index in 0..self.listeners.capacity() {
            if self
                .listeners
                .get(index)
                .is_some_and(|listener| listener.is_ready)
            {
                self.read_listener(core, receiver, index);
            }
        }
    }

    fn read_listener(&mut self, core: &mut Core, receiver: &mut Receiver, index: usize) {
        for _ in 0..MOST_BATCHES {
            let socket = self.listeners[index].socket.as_fd();
            let may_have_more = receiver.receive(socket).unwrap_or(false);
            self.count_lost(core, receiver, index);
            self.forward_batch(core, index, receiver);
            // Less than a whole batch means that the queue is empty: a new datagram is a new event.
            if !may_have_more {
                self.listeners[index].is_ready = false;
                break;
            }
        }
    }

    /// Counts what the kernel dropped because we were too slow.
    fn count_lost(&mut self, core: &Core, receiver: &Receiver, index: usize) {
        if let Some(lost) = receiver.lost() {
            let before = std::mem::replace(&mut self.listeners[index].lost, lost);
            let more = lost.wrapping_sub(before) as usize;
            self.count_dropped(core, index, DropReason::ReceiveQueueFull, more);
        }
    }

    fn count_dropped(&self, core: &Core, index: usize, reason: DropReason, count: usize) {
        let listener = self.listeners[index].serving.listener;
        core.count(listener, |counts| counts.datagrams_dropped(reason, count));
    }

    fn forward_batch(&mut self, core: &mut Core, listener: usize, receiver: &Receiver) {
        let mut run: Option<Run> = None;
        for position in 0..receiver.count() {
            let key = self.key_of(listener, receiver.datagram(position));
            match (&mut run, key) {
                (Some(run), Some(key)) if run.key == key && run.count < MOST_SEGMENTS => {
                    run.count += 1;
                }
                (_, key) => {
                    let next = key.map(|key| Run {
                        key,
                        first: position,
                        count: 1,
                    });
                    if let Some(run) = std::mem::replace(&mut run, next) {
                        self.forward_run(core, listener, receiver, &run);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.forward_run(core, listener, receiver, &run);
        }
    }

    fn key_of(&self, listener: usize, datagram: Datagram<'_>) -> Option<FlowKey> {
        let source = datagram.source?;
        let listener = &self.listeners[listener];
        Some(FlowKey {
            client: canonical(source),
            local_ip: listener.local_ip(&datagram),
            port: listener.endpoint.addr.port(),
        })
    }

    fn forward_run(&mut self, core: &mut Core, listener: usize, receiver: &Receiver, run: &Run) {
        let mut payloads: [&[u8]; MOST_SEGMENTS] = [&[]; MOST_SEGMENTS];
        let mut rest = receiver.payloads(run.first, &mut payloads[..run.count]);
        let mut tried: Vec<BackendAddr> = Vec::new();
        while !rest.is_empty() {
            let index = match self.flow_for(core, listener, run.key, &mut tried) {
                Ok(index) => index,
                Err(reason) => return self.count_dropped(core, listener, reason, rest.len()),
            };
            let (_, flow) = self.flows.get_mut(index).expect("found or made just now");
            match datagrams::send(flow.socket.as_fd(), rest, None) {
                Ok(sent) => {
                    let bytes = rest[..sent].iter().map(|payload| payload.len()).sum();
                    flow.count_up(core, sent, bytes);
                    let pool = flow.pool;
                    self.meters
                        .moved(core, index, pool, flow.state.slot(), true, false);
                    rest = &rest[sent..];
                }
                // The error of an earlier datagram: this one was not sent and goes elsewhere.
                Err(error) if is_refusal(&error) => {
                    flow.refuse(core);
                    tried.push(flow.state.backend().addr);
                    let pool = flow.pool;
                    if tried.len() as u64 >= connect_attempts(core, pool) {
                        let reason = DropReason::NoBackend;
                        return self.count_dropped(core, listener, reason, rest.len());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let reason = DropReason::QueueFull;
                    return self.count_dropped(core, listener, reason, rest.len());
                }
                Err(_) => {
                    self.count_dropped(core, listener, DropReason::SendFailed, 1);
                    rest = &rest[1..];
                }
            }
        }
    }

    /// The flow of `key`, made if there is none, or made anew where its backend is gone.
    fn flow_for(
        &mut self,
        core: &mut Core,
        arrived_at: usize,
        key: FlowKey,
        tried: &mut Vec<BackendAddr>,
    ) -> Result<FlowIndex, DropReason> {
        let serving = self.serving(arrived_at, &key);
        let Some(index) = self.flows.find(&key) else {
            let listener = serving.ok_or(DropReason::ListenerClosed)?;
            return self.begin(core, listener, key, tried);
        };
        let (_, flow) = self.flows.get_mut(index).expect("found just now");
        let Some(end) = flow.state.check(judging(core, flow.pool)) else {
            let rank = flow.state.rank_when_asked();
            self.flows.touch(index, rank, core.now_ms());
            return Ok(index);
        };
        let addr = flow.state.backend().addr;
        // A client that was served at a retired listener goes on to be.
        let listener = serving.unwrap_or(flow.socket_index as usize);
        self.end(core, index, end);
        let is_refused = matches!(end, FlowEnd::Refused | FlowEnd::NotServed);
        if is_refused && !tried.contains(&addr) {
            tried.push(addr);
        }
        self.begin(core, listener, key, tried)
    }

    /// The listener that takes a new flow of `key`, whose datagrams arrived at `listener`: itself, or,
    /// where it is retired, the open one that they would reach without it. The kernel hands datagrams to
    /// the most specific socket, retired or not.
    fn serving(&self, listener: usize, key: &FlowKey) -> Option<usize> {
        let arrived_at = &self.listeners[listener];
        if arrived_at.life.is_serving() {
            return Some(listener);
        }
        let addr = arrived_at.endpoint.addr;
        let sent_to = SocketAddr::new(key.local_ip.unwrap_or(addr.ip()), addr.port());
        let open = self.listeners.iter().filter(|(_, l)| l.life.is_serving());
        let reached = open.filter_map(|(index, l)| Some((rank(l.endpoint.addr, sent_to)?, index)));
        reached.min().map(|(_, index)| index)
    }

    fn begin(
        &mut self,
        core: &mut Core,
        listener: usize,
        key: FlowKey,
        tried: &mut Vec<BackendAddr>,
    ) -> Result<FlowIndex, DropReason> {
        let Serving { listener: of, pool } = self.listeners[listener].serving;
        if let Some(reason) = self.refuses(core, of, key.client) {
            return Err(reason);
        }
        while self.flows.len_of(of) >= core.rules(of).max_flows_per_worker {
            let index = self.flows.least_missed_of(of).expect("it has flows");
            self.end(core, index, FlowEnd::Evicted);
        }
        while self.flows.len() >= core.snapshot.max_flows_per_worker
            && self.flows_of_configured(core) >= core.snapshot.max_flows_per_worker
        {
            self.evict(core);
        }
        for _ in 0..connect_attempts(core, pool) {
            let placement = pick(core, pool, &key, tried).ok_or(DropReason::NoBackend)?;
            let backend = &placement.backend;
            match self.connect(core, backend.addr) {
                Ok(socket) => return self.insert(core, listener, key, socket, &placement),
                Err(error) if is_shortage(error) => return Err(DropReason::NoRoom),
                Err(_) => {
                    core.count_refusal(of, Protocol::Udp, backend);
                    core.meter_failure(pool, backend, Failure::FlowRefused);
                    tried.push(backend.addr);
                }
            }
        }
        Err(DropReason::NoBackend)
    }

    /// Flows but those of removed listeners, which take no place of the others.
    fn flows_of_configured(&self, core: &Core) -> usize {
        let configured = core.snapshot.rules_of_listeners();
        configured
            .map(|(state, _)| self.flows.len_of(state.id))
            .sum()
    }

    /// Why nothing is begun for a datagram of `client` at `listener`, if its source would take the answer
    /// for a request: answered too, a single forged datagram goes round for ever.
    fn refuses(&self, core: &Core, listener: ListenerId, client: SocketAddr) -> Option<DropReason> {
        if self.listens_on(client) {
            return Some(DropReason::FromListener);
        }
        let is_peer = core.rules(listener).settings.udp_peers.contain(client.ip());
        is_peer.then_some(DropReason::FromPeer)
    }

    /// Whether `addr` leads to one of our listeners, retired ones included. Few clients have a port of
    /// theirs; only then is the kernel asked which addresses are this host's.
    fn listens_on(&self, addr: SocketAddr) -> bool {
        let mut listeners = self.listeners.iter().map(|(_, l)| l.endpoint.addr);
        listeners.any(|listen| {
            let takes_all = listen.ip().is_unspecified();
            listen.port() == addr.port()
                && match takes_all && (listen.is_ipv6() || addr.is_ipv4()) {
                    true => is_of_this_host(addr),
                    false => listen.ip().to_canonical() == addr.ip(),
                }
        })
    }

    /// Ends flows of sources that none would be begun for any more: one that goes round would never end
    /// by itself.
    fn end_refused_sources(&mut self, core: &mut Core) {
        for index in self.refused_sources.part(self.flows.places()) {
            let index = index as FlowIndex;
            let flow = self.flows.get(index);
            let refused =
                flow.and_then(|(key, flow)| self.refuses(core, flow.listener, key.client));
            if refused.is_some() {
                self.end(core, index, FlowEnd::SourceRefused);
            }
        }
    }

    /// A socket to `backend`. Where descriptors or local ports are short, the flow that is missed least
    /// makes room.
    fn connect(&mut self, core: &mut Core, backend: BackendAddr) -> Result<OwnedFd, Errno> {
        match connected_socket(backend.0) {
            Err(error) if is_shortage(error) && self.evict(core) => connected_socket(backend.0),
            outcome => outcome,
        }
    }

    fn insert(
        &mut self,
        core: &mut Core,
        listener: usize,
        key: FlowKey,
        socket: OwnedFd,
        placement: &Placement,
    ) -> Result<FlowIndex, DropReason> {
        let Placement {
            backend,
            joins_batch,
        } = placement;
        let serving = self.listeners[listener].serving;
        let flow = Flow::new(core, socket, backend, listener, serving);
        let index = self
            .flows
            .insert(key, flow, serving.listener, core.now_ms());
        core.count(serving.listener, |counts| counts.flow_started());
        add(&backend.worker(core.worker).flows_total, 1);
        self.listeners[listener].in_use.flow_began();
        let (_, flow) = self.flows.get_mut(index).expect("inserted just now");
        let slot = flow.state.slot();
        self.meters
            .began(core, index, serving.pool, slot, *joins_batch);
        if core
            .watch_level(&flow.socket, Token::Flow(index), EventFlags::IN)
            .is_err()
        {
            self.end(core, index, FlowEnd::InternalError);
            return Err(DropReason::NoRoom);
        }
        Ok(index)
    }

    /// The algorithm of these pools wants to be told otherwise from now on, or not at all.
    pub fn forget_meters(&mut self, pools: &[PoolId]) {
        let indices: Vec<FlowIndex> = self.flows.indices().collect();
        for index in indices {
            let (_, flow) = self.flows.get_mut(index).expect("listed just now");
            if pools.contains(&flow.pool) {
                flow.state.slot().forget();
            }
        }
    }

    fn evict(&mut self, core: &mut Core) -> bool {
        let Some(index) = self.flows.least_missed() else {
            return false;
        };
        self.end(core, index, FlowEnd::Evicted);
        true
    }

    /// Passes a backend's answers on to the client.
    pub fn flow_event(&mut self, core: &mut Core, receiver: &mut Receiver, index: FlowIndex) {
        for _ in 0..MOST_BATCHES {
            let Some((key, flow)) = self.flows.get_mut(index) else {
                return;
            };
            let may_have_more = match flow.receive(core, receiver) {
                Ok(may_have_more) => may_have_more,
                Err(error) if is_refusal(&error) => {
                    flow.refuse(core);
                    // Answers from before may still wait behind the error.
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let listener = &self.listeners[flow.socket_index as usize];
            let (socket, route) = (listener.socket.as_fd(), listener.route_to(key));
            let bytes = answer(core, flow.listener, socket, receiver, route);
            if flow.state.is_unanswered() {
                core.note_answered_source(flow.state.backend(), key.client.ip());
            }
            let end = flow.count_down(core, receiver.count(), bytes);
            let pool = flow.pool;
            self.meters
                .moved(core, index, pool, flow.state.slot(), false, true);
            if let Some(end) = end {
                return self.end(core, index, end);
            }
            self.flows.touch(index, Rank::Answered, core.now_ms());
            if !may_have_more {
                return;
            }
        }
    }

    pub fn next_wakeup_ms(&self, core: &Core) -> Option<u64> {
        let listeners = self.flows.listeners();
        let idle = listeners.filter_map(|listener| {
            let (_, last_seen_ms) = self.flows.oldest(listener)?;
            Some(last_seen_ms + core.rules(listener).settings.udp_idle_ms)
        });
        let (idle, gone) = (idle.min(), self.gone.next_wakeup_ms());
        let wakeups = [idle, gone, self.meters.next_wakeup_ms()];
        wakeups.into_iter().flatten().min()
    }

    /// A new snapshot is installed.
    pub fn backends_changed(&mut self, core: &Core) {
        let peers = peers(core);
        if self.peers != peers {
            self.peers = peers;
            self.refused_sources.begin();
        }
        self.gone = Gone::default();
        if core.snapshot.ends_those_of_gone_backends() {
            self.gone.restart();
        }
    }

    /// Ends the flows of removed and disabled backends that have had their time, also where only the
    /// backend still sends.
    fn end_those_of_gone_backends(&mut self, core: &mut Core) {
        let now_ms = core.now_ms();
        for index in self.gone.part(now_ms, self.flows.places()) {
            let index = index as FlowIndex;
            let flow = self.flows.get(index);
            let end_ms =
                flow.and_then(|(_, flow)| flow.state.must_end_at_ms(judging(core, flow.pool)));
            match end_ms {
                Some(end_ms) if end_ms <= now_ms => {
                    self.end(core, index, FlowEnd::BackendGone);
                }
                Some(end_ms) => self.gone.note(end_ms),
                None => {}
            }
        }
        self.gone.part_is_done();
    }

    /// Ends the flows that have been silent for the idle time, those of gone backends and of refused
    /// sources.
    pub fn run_timers(&mut self, core: &mut Core) {
        self.end_those_of_gone_backends(core);
        self.end_refused_sources(core);
        let flows = &mut self.flows;
        while self.meters.look(core, |index| {
            let (_, flow) = flows.get_mut(index)?;
            // Many datagrams are never answered; from such a backend nothing is awaited.
            let awaits_answer = flow.state.backend().answers_datagrams();
            Some((flow.pool, flow.state.slot(), awaits_answer))
        }) {}
        while let Some(index) = self.idle(core) {
            let (_, flow) = self.flows.get(index).expect("listed just now");
            let end = flow.state.end_when_idle();
            self.end(core, index, end);
        }
    }

    /// A flow that has been silent for the idle time of its listener.
    fn idle(&self, core: &Core) -> Option<FlowIndex> {
        let mut listeners = self.flows.listeners();
        listeners.find_map(|listener| {
            let (index, last_seen_ms) = self.flows.oldest(listener)?;
            let idle_ms = core.rules(listener).settings.udp_idle_ms;
            (core.now_ms() >= last_seen_ms + idle_ms).then_some(index)
        })
    }

    /// Ends every flow now.
    pub fn stop(&mut self, core: &mut Core) {
        let all: Vec<FlowIndex> = self.flows.indices().collect();
        all.into_iter()
            .for_each(|index| self.end(core, index, FlowEnd::Shutdown));
    }

    fn end(&mut self, core: &mut Core, index: FlowIndex, end: FlowEnd) {
        let Some((key, mut flow)) = self.flows.remove(index) else {
            return;
        };
        self.meters.flow_ended(
            core,
            index,
            flow.pool,
            flow.state.slot(),
            key.client.ip(),
            end,
        );
        let socket = &self.listeners[flow.socket_index as usize];
        socket.in_use.flow_ended();
        core.count(flow.listener, |counts| counts.flow_ended(end));
        let backend = flow.state.backend();
        backend.worker(core.worker).failed_ends.flow(end);
        let record = Record {
            protocol: Protocol::Udp,
            client: key.client,
            backend: Some(flow.state.backend().addr),
            end: end.word(),
            is_failure: end.is_failure(),
            bytes_up: flow.bytes_up,
            bytes_down: flow.bytes_down,
            duration_us: core.now_us - flow.started_us,
            attempts: 1,
        };
        core.log_end(flow.listener, record);
    }
}

/// How specific a socket at `listen` is for what is sent `to` an address, the most specific first; `None`:
/// it does not get it. One of all addresses of IPv6 gets those of IPv4 too.
fn rank(listen: SocketAddr, to: SocketAddr) -> Option<u8> {
    let (ip, to_ip) = (listen.ip().to_canonical(), to.ip().to_canonical());
    if listen.port() != to.port() {
        return None;
    }
    match ip.is_unspecified() {
        false => (ip == to_ip).then_some(0),
        true if ip.is_ipv4() == to_ip.is_ipv4() => Some(1),
        true => ip.is_ipv6().then_some(2),
    }
}

/// What a flow of `pool` is judged by.
fn judging(core: &Core, pool: PoolId) -> Judging {
    Judging {
        epoch: core.snapshot.epoch,
        now_ms: core.now_ms(),
        backend_gone_timeout_ms: core.snapshot.gone_timeout_ms(pool),
    }
}

/// How many backends of `pool` a flow tries; none of one that a reload has taken away.
fn connect_attempts(core: &Core, pool: PoolId) -> u64 {
    let pool = core.snapshot.pool(pool);
    pool.map_or(0, |pool| pool.settings.connect.attempts)
}

/// `udp_peers` of each listener that has some.
fn peers(core: &Core) -> Vec<(ListenerId, Networks)> {
    let all = core.listeners.udp_peers();
    let some = all.filter(|(_, networks)| !networks.is_empty());
    some.map(|(listener, networks)| (listener, networks.clone()))
        .collect()
}

/// An IPv4 client of an IPv6 socket is one of IPv4. A link-local one can only be answered where its
/// link is named, and the same address on another link is another client.
fn canonical(source: SocketAddr) -> SocketAddr {
    match source {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        source => SocketAddr::new(source.ip().to_canonical(), source.port()),
    }
}

/// The backend for a new flow. Where all that there are have been tried, the one whose turn it is:
/// it may be back by now.
fn pick(core: &mut Core, pool: PoolId, key: &FlowKey, tried: &[BackendAddr]) -> Option<Placement> {
    let mut place = |tried: &[BackendAddr]| {
        core.place(Seeking {
            protocol: Protocol::Udp,
            pool,
            client_ip: key.client.ip(),
            tried,
        })
    };
    place(tried).or_else(|| place(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_reaches_the_most_specific_socket_of_its_family() {
        let addr = |text: &str| text.parse().expect("an address");
        let rank = |listen: &str, to: &str| rank(addr(listen), addr(to));
        let v4 = ["127.0.0.1:7", "0.0.0.0:7", "[::]:7"];
        let ranks = v4.map(|listen| rank(listen, "127.0.0.1:7"));
        assert_eq!(ranks, [Some(0), Some(1), Some(2)]);
        assert_eq!(rank("[::]:7", "[::1]:7"), Some(1));
        for (listen, to) in [
            ("0.0.0.0:7", "[::1]:7"),
            ("127.0.0.2:7", "127.0.0.1:7"),
            ("[::1]:7", "127.0.0.1:7"),
            ("0.0.0.0:8", "127.0.0.1:7"),
        ] {
            assert_eq!(rank(listen, to), None, "{listen} {to}");
        }
    }
}
