//! The UDP side of a worker: datagrams of a client go through a flow, which has a backend and a
//! connected socket of its own, so that answers find their way back and nobody else's are taken.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use contract::Networks;
use contract::sessions::SessionPhase;
use proxy_core::flow::listening::{Sockets, refuses};
use proxy_core::flow::seek::{Seek, Step, Unconnected};
use proxy_core::flow_table::{FlowIndex, FlowKey, FlowTable};
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::latency::add;
use proxy_core::listing::{Listing, Open, OpenId};
use proxy_core::placement::Placement;
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_core::retirement::EndpointUse;
use proxy_core::score::witnessed::Failure;
use proxy_sys::datagrams::{self, MOST_SEGMENTS, Receiver};

use super::flow::{
    Flow, answer, connected_socket, count_down, count_refusal, count_up, is_refusal, receive,
};
use super::listen::Listeners;
use crate::connect::is_shortage;
use crate::worker::backend_gone::GoneBackends;
use crate::worker::context::Context;
use crate::worker::meters::Meters;
use crate::worker::poller::{Interest, Token};
use crate::worker::session_log::Record;
use crate::worker::sweep::Sweep;

/// Batches taken from one socket before others get their turn.
const MOST_BATCHES: usize = 8;

pub struct Flows {
    pub listeners: Listeners,
    flows: FlowTable<Flow>,
    meters: Meters,
    gone: GoneBackends,
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

impl Flows {
    pub fn new(context: &Context) -> Flows {
        Flows {
            listeners: Listeners::default(),
            flows: FlowTable::default(),
            meters: Meters::new(context.now_ms()),
            gone: GoneBackends::default(),
            peers: peers(context),
            refused_sources: Sweep::default(),
        }
    }

    pub fn open(
        &mut self,
        context: &mut Context,
        endpoint: Endpoint,
        listener: ListenerId,
        socket: OwnedFd,
        in_use: Arc<EndpointUse>,
    ) -> rustix::io::Result<()> {
        self.listeners
            .open(context, endpoint, listener, socket, in_use)?;
        self.refused_sources.begin();
        Ok(())
    }

    /// Closes a retired endpoint. Its flows, should it have any, end.
    pub fn close(&mut self, context: &mut Context, endpoint: Endpoint) {
        let now_ms = context.now_ms();
        self.listeners
            .lives_at(endpoint)
            .for_each(|life| life.close(now_ms));
        let of_closed = |index: &FlowIndex| {
            let flow = self.flows.get(*index);
            let came_by = flow.map(|(_, flow)| self.listeners.at(flow.came_by as usize));
            came_by.is_some_and(|listening| listening.life.is_closed())
        };
        let orphans: Vec<FlowIndex> = self.flows.indices().filter(of_closed).collect();
        orphans
            .into_iter()
            .for_each(|index| self.end(context, index, FlowEnd::Shutdown));
        self.listeners.remove_closed();
    }

    /// Whether listeners, or flows that are looked at, wait for their next turn.
    pub fn has_unfinished(&self) -> bool {
        self.listeners.is_any_ready()
            || self.gone.is_looking()
            || self.refused_sources.is_under_way()
    }

    /// Reads from every ready listener, in bounded steps.
    pub fn run_ready(&mut self, context: &mut Context, receiver: &mut Receiver) {
        for index in 0..self.listeners.places() {
            if self.listeners.is_ready(index) {
                self.read_listener(context, receiver, index);
            }
        }
    }

    fn read_listener(&mut self, context: &mut Context, receiver: &mut Receiver, index: usize) {
        for _ in 0..MOST_BATCHES {
            let socket = self.listeners.get(index).socket.as_fd();
            let may_have_more = receiver.receive(socket).unwrap_or(false);
            self.count_lost(context, receiver, index);
            self.forward_batch(context, index, receiver);
            // Less than a whole batch means that the queue is empty: a new datagram is a new event.
            if !may_have_more {
                self.listeners.get_mut(index).is_ready = false;
                break;
            }
        }
    }

    /// Counts what the kernel dropped because we were too slow.
    fn count_lost(&mut self, context: &Context, receiver: &Receiver, index: usize) {
        if let Some(lost) = receiver.lost() {
            let more = self.listeners.get_mut(index).lost_since(lost);
            self.count_dropped(context, index, DropReason::ReceiveQueueFull, more);
        }
    }

    fn count_dropped(&self, context: &Context, index: usize, reason: DropReason, count: usize) {
        let listener = self.listeners.at(index).listener;
        context.count(listener, |counts| counts.datagrams_dropped(reason, count));
    }

    fn forward_batch(&mut self, context: &mut Context, listener: usize, receiver: &Receiver) {
        let mut run: Option<Run> = None;
        for position in 0..receiver.count() {
            let key = self.listeners.key_of(listener, receiver.datagram(position));
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
                        self.forward_run(context, listener, receiver, &run);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.forward_run(context, listener, receiver, &run);
        }
    }

    fn forward_run(
        &mut self,
        context: &mut Context,
        listener: usize,
        receiver: &Receiver,
        run: &Run,
    ) {
        let mut payloads: [&[u8]; MOST_SEGMENTS] = [&[]; MOST_SEGMENTS];
        let mut rest = receiver.payloads(run.first, &mut payloads[..run.count]);
        let mut seek = Seek::new(run.key, listener);
        while !rest.is_empty() {
            let index = match self.flow_for(context, &mut seek, run.key) {
                Ok(index) => index,
                Err(reason) => return self.count_dropped(context, listener, reason, rest.len()),
            };
            let (_, flow) = self.flows.get_mut(index).expect("found or made just now");
            match datagrams::send(flow.socket.as_fd(), rest, None) {
                Ok(sent) => {
                    let bytes = rest[..sent].iter().map(|payload| payload.len()).sum();
                    count_up(context, flow, sent, bytes);
                    let pool = flow.pool;
                    self.meters
                        .moved(context, index, pool, flow.state.slot(), true, false);
                    rest = &rest[sent..];
                }
                // The error of an earlier datagram: this one was not sent and goes elsewhere.
                Err(error) if is_refusal(&error) => {
                    count_refusal(context, flow);
                    if let Some(reason) = seek.refused(flow, &context.snapshot) {
                        return self.count_dropped(context, listener, reason, rest.len());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let reason = DropReason::QueueFull;
                    return self.count_dropped(context, listener, reason, rest.len());
                }
                Err(_) => {
                    self.count_dropped(context, listener, DropReason::SendFailed, 1);
                    rest = &rest[1..];
                }
            }
        }
    }

    /// The flow that datagrams of `key` go by, made if there is none.
    fn flow_for(
        &mut self,
        context: &mut Context,
        seek: &mut Seek,
        key: FlowKey,
    ) -> Result<FlowIndex, DropReason> {
        loop {
            match context.seek(seek, &mut self.flows, &self.listeners) {
                Step::Send(index) => return Ok(index),
                Step::End(index, end) => self.end(context, index, end),
                Step::Drop(reason) => return Err(reason),
                Step::Connect { placement, place } => {
                    let backend = &placement.backend;
                    match connected_socket(backend.addr.0) {
                        Ok(socket) => {
                            seek.connected();
                            return self.insert(context, place, key, socket, &placement);
                        }
                        Err(error) if is_shortage(error) => {
                            seek.could_not_connect(Unconnected::Shortage);
                        }
                        Err(_) => {
                            let listener = self.listeners.at(place).listener;
                            context.count_refusal(listener, Protocol::Udp, backend);
                            context.meter_failure(backend.pool, backend, Failure::FlowRefused);
                            seek.could_not_connect(Unconnected::Refused);
                        }
                    }
                }
            }
        }
    }

    /// Ends flows of sources that none would be begun for any more: one that goes round would never end
    /// by itself.
    fn end_refused_sources(&mut self, context: &mut Context) {
        for index in self.refused_sources.part(self.flows.places()) {
            let index = index as FlowIndex;
            let refused = self.flows.get(index).and_then(|(key, flow)| {
                refuses(&self.listeners, context.rules(flow.listener), key.client)
            });
            if refused.is_some() {
                self.end(context, index, FlowEnd::SourceRefused);
            }
        }
    }

    fn insert(
        &mut self,
        context: &mut Context,
        place: usize,
        key: FlowKey,
        socket: OwnedFd,
        placement: &Placement,
    ) -> Result<FlowIndex, DropReason> {
        let Placement {
            backend,
            joins_batch,
        } = placement;
        let listener = self.listeners.at(place).listener;
        let flow = Flow::new(socket, backend, place, listener, context.present());
        let index = self.flows.insert(key, flow, listener, context.now_ms());
        context.count(listener, |counts| counts.flow_started());
        add(&backend.worker(context.worker).flows_total, 1);
        self.listeners.get(place).in_use.flow_began();
        let (_, flow) = self.flows.get_mut(index).expect("inserted just now");
        let slot = flow.state.slot();
        self.meters
            .began(context, index, backend.pool, slot, *joins_batch);
        let watched = context
            .poller
            .watch(&flow.socket, Token::Flow(index), Interest::Unread);
        if watched.is_err() {
            self.end(context, index, FlowEnd::InternalError);
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

    /// Passes a backend's answers on to the client.
    pub fn flow_event(&mut self, context: &mut Context, receiver: &mut Receiver, index: FlowIndex) {
        for _ in 0..MOST_BATCHES {
            let Some((key, flow)) = self.flows.get_mut(index) else {
                return;
            };
            let may_have_more = match receive(flow, context.turn, receiver) {
                Ok(may_have_more) => may_have_more,
                Err(error) if is_refusal(&error) => {
                    flow.state.refuse();
                    count_refusal(context, flow);
                    // Answers from before may still wait behind the error.
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let listener = self.listeners.get(flow.came_by as usize);
            let (socket, route) = (listener.socket.as_fd(), listener.route_to(key));
            let bytes = answer(context, flow.listener, socket, receiver, route);
            if flow.state.is_unanswered() {
                context.note_answered_source(flow.state.backend(), key.client.ip());
            }
            let end = count_down(context, flow, receiver.count(), bytes);
            let pool = flow.pool;
            self.meters
                .moved(context, index, pool, flow.state.slot(), false, true);
            if let Some(end) = end {
                return self.end(context, index, end);
            }
            self.flows.touch_answered(index, context.now_ms());
            if !may_have_more {
                return;
            }
        }
    }

    pub fn next_wakeup_ms(&self, context: &Context) -> Option<u64> {
        let idle = self.flows.next_idle_ms(&context.listeners);
        let gone = self.gone.next_wakeup_ms();
        let wakeups = [idle, gone, self.meters.next_wakeup_ms()];
        wakeups.into_iter().flatten().min()
    }

    /// A new snapshot is installed.
    pub fn backends_changed(&mut self, context: &Context) {
        let peers = peers(context);
        if self.peers != peers {
            self.peers = peers;
            self.refused_sources.begin();
        }
        self.gone = GoneBackends::default();
        if context.snapshot.ends_those_of_gone_backends() {
            self.gone.restart();
        }
    }

    /// Ends the flows of removed and disabled backends that have had their time, also where only the
    /// backend still sends.
    fn end_those_of_gone_backends(&mut self, context: &mut Context) {
        let now_ms = context.now_ms();
        for index in self.gone.part(now_ms, self.flows.places()) {
            let index = index as FlowIndex;
            match self.flows.must_end_at_ms(index, context.present()) {
                Some(end_ms) if end_ms <= now_ms => {
                    self.end(context, index, FlowEnd::BackendGone);
                }
                Some(end_ms) => self.gone.note(end_ms),
                None => {}
            }
        }
        self.gone.part_is_done();
    }

    /// Ends the flows that have been silent for the idle time, those of gone backends and of refused
    /// sources.
    pub fn run_timers(&mut self, context: &mut Context) {
        self.end_those_of_gone_backends(context);
        self.end_refused_sources(context);
        let flows = &mut self.flows;
        while self.meters.look(context, |index| {
            let (_, flow) = flows.get_mut(index)?;
            // Many datagrams are never answered; from such a backend nothing is awaited.
            let awaits_answer = flow.state.backend().answers_datagrams();
            Some((flow.pool, flow.state.slot(), awaits_answer))
        }) {}
        while let Some((index, end)) = self.flows.next_idle(context.present()) {
            self.end(context, index, end);
        }
    }

    /// Places of flows, also of none.
    pub fn places(&self) -> usize {
        self.flows.places()
    }

    /// Notes the flows at these places.
    pub fn list(&self, context: &Context, places: Range<usize>, listing: &mut Listing) {
        for place in places {
            let index = place as FlowIndex;
            let found = self.flows.get(index).zip(self.flows.last_seen_ms(index));
            let Some(((key, flow), last_seen_ms)) = found else {
                continue;
            };
            let age_ms = context.now_us.saturating_sub(flow.started_us) / 1_000;
            let idle_ms = context.now_ms().saturating_sub(last_seen_ms);
            listing.note(Open {
                id: OpenId {
                    protocol: Protocol::Udp,
                    worker: context.worker,
                    place: index,
                    started_us: flow.started_us,
                },
                client: key.client,
                listener: flow.listener,
                pool: flow.pool,
                backend: Some(flow.state.backend().addr),
                phase: match flow.state.is_unanswered() {
                    true => SessionPhase::Unanswered,
                    false => SessionPhase::Open,
                },
                age_ms,
                // The two are rounded differently.
                idle_ms: idle_ms.min(age_ms),
                bytes_up: flow.bytes_up,
                bytes_down: flow.bytes_down,
            });
        }
    }

    /// Ends this flow; false where it has ended before.
    pub fn end_one(&mut self, context: &mut Context, id: OpenId) -> bool {
        let flow = self.flows.get(id.place);
        let is_open = flow.is_some_and(|(_, flow)| flow.started_us == id.started_us);
        if is_open {
            self.end(context, id.place, FlowEnd::Ended);
        }
        is_open
    }

    /// Ends every flow now.
    pub fn stop(&mut self, context: &mut Context) {
        let all: Vec<FlowIndex> = self.flows.indices().collect();
        all.into_iter()
            .for_each(|index| self.end(context, index, FlowEnd::Shutdown));
    }

    fn end(&mut self, context: &mut Context, index: FlowIndex, end: FlowEnd) {
        let Some((key, mut flow)) = self.flows.remove(index) else {
            return;
        };
        self.meters.flow_ended(
            context,
            index,
            flow.pool,
            flow.state.slot(),
            key.client.ip(),
            end,
        );
        let came_by = self.listeners.get(flow.came_by as usize);
        came_by.in_use.flow_ended();
        context.count(flow.listener, |counts| counts.flow_ended(end));
        let backend = flow.state.backend();
        backend.worker(context.worker).failed_ends.flow(end);
        let record = Record {
            protocol: Protocol::Udp,
            client: key.client,
            backend: Some(flow.state.backend().addr),
            end: end.word(),
            is_failure: end.is_failure(),
            bytes_up: flow.bytes_up,
            bytes_down: flow.bytes_down,
            duration_us: context.now_us - flow.started_us,
            attempts: 1,
        };
        context.log_end(flow.listener, flow.pool, record);
    }
}

/// `udp_peers` of each listener that has some.
fn peers(context: &Context) -> Vec<(ListenerId, Networks)> {
    let all = context.listeners.udp_peers();
    let some = all.filter(|(_, networks)| !networks.is_empty());
    some.map(|(listener, networks)| (listener, networks.clone()))
        .collect()
}
