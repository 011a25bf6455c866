//! One UDP flow: its socket to the backend, what ends it, and what is counted of it.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::flow::{FlowState, Reading};
use proxy_core::ids::{ListenerId, PoolId};
use proxy_core::listener::Serving;
use proxy_core::plan::Protocol;
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_core::score::witnessed::Failure;
use proxy_sys::datagrams::{self, MOST_SEGMENTS, Receiver, Route};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::core::Core;
use crate::connecting::{is_connected_to_itself, socket_for};

/// Asked for as the kernel's queue of a flow's socket; the system may grant less.
const FLOW_QUEUE_BYTES: usize = 1 << 20;

pub struct Flow {
    pub socket: OwnedFd,
    pub state: FlowState,
    /// Index of the socket that it came by, from which answers leave.
    pub socket_index: u32,
    /// The listener it came by, and the pool that its backend is a member of.
    pub listener: ListenerId,
    pub pool: PoolId,
    pub started_us: u64,
    pub first_up_us: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

impl Flow {
    pub fn new(
        core: &Core,
        socket: OwnedFd,
        backend: &Arc<BackendState>,
        socket_index: usize,
        serving: Serving,
    ) -> Flow {
        Flow {
            socket,
            state: FlowState::begin(backend, core.snapshot.epoch),
            socket_index: socket_index as u32,
            listener: serving.listener,
            pool: serving.pool,
            started_us: core.now_us,
            first_up_us: core.now_us,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// Receives answers. Returns whether more may wait; the poller tells of those too.
    pub fn receive(&mut self, core: &Core, receiver: &mut Receiver) -> std::io::Result<bool> {
        let socket = self.socket.as_fd();
        match self.state.reading(core.turn) {
            Reading::One => receiver.receive_one(socket).map(|()| false),
            Reading::Batch => {
                let may_have_more = receiver.receive_connected(socket)?;
                if self.state.read_batch(receiver.count()) {
                    // Where the kernel cannot, bursts come as ever.
                    let _ = datagrams::request_coalescing(socket);
                }
                Ok(may_have_more)
            }
        }
    }

    pub fn refuse(&mut self, core: &Core) {
        self.state.refuse();
        core.count_refusal(self.listener, Protocol::Udp, self.state.backend());
        let failure = Failure::FlowRefused;
        core.meter_failure(self.pool, self.state.backend(), failure);
    }

    pub fn count_up(&mut self, core: &Core, datagrams: usize, bytes: usize) {
        self.state.sent(datagrams, core.now_ms());
        self.bytes_up += bytes as u64;
        core.count_bytes(self.listener, self.state.backend(), bytes as u64, 0);
    }

    /// Counts answers; returns why the flow is over, if they end it.
    pub fn count_down(&mut self, core: &Core, answers: usize, bytes: usize) -> Option<FlowEnd> {
        let backend = self.state.backend();
        backend.set_last_connect(Protocol::Udp, LastConnect::FlowAnswered);
        backend.set_answers_datagrams();
        core.note_answer(Protocol::Udp, backend);
        if self.state.is_unanswered() {
            core.count_first_byte(self.listener, backend, self.first_up_us);
        }
        core.count_bytes(self.listener, backend, 0, bytes as u64);
        self.bytes_down += bytes as u64;
        let responses = core.rules(self.listener).settings.udp_responses;
        self.state.answered(answers, responses)
    }
}

/// Sends the datagrams received last to a client of `listener`, by its `socket`; returns their bytes. What
/// its queue does not take is dropped and counted, as the network would.
pub fn answer(
    core: &Core,
    listener: ListenerId,
    socket: BorrowedFd<'_>,
    receiver: &Receiver,
    route: Route,
) -> usize {
    let mut payloads: [&[u8]; MOST_SEGMENTS] = [&[]; MOST_SEGMENTS];
    let mut bytes = 0;
    for first in (0..receiver.count()).step_by(MOST_SEGMENTS) {
        let count = MOST_SEGMENTS.min(receiver.count() - first);
        let part = receiver.payloads(first, &mut payloads[..count]);
        bytes += part.iter().map(|payload| payload.len()).sum::<usize>();
        send_all(core, listener, socket, part, route);
    }
    bytes
}

fn send_all(
    core: &Core,
    listener: ListenerId,
    socket: BorrowedFd<'_>,
    payloads: &[&[u8]],
    route: Route,
) {
    let mut rest = payloads;
    while !rest.is_empty() {
        match datagrams::send(socket, rest, Some(route)) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return core.count(listener, |counts| {
                    counts.datagrams_dropped(DropReason::QueueFull, rest.len());
                });
            }
            Err(_) => {
                core.count(listener, |counts| {
                    counts.datagrams_dropped(DropReason::SendFailed, 1);
                });
                rest = &rest[1..];
            }
        }
    }
}

/// What ICMP tells of a backend that nobody listens at, or that no way leads to.
pub fn is_refusal(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

pub fn connected_socket(addr: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = socket_for(addr, SocketType::DGRAM)?;
    // As much as the system grants; the default serves where it grants no more.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, FLOW_QUEUE_BYTES);
    rustix::net::connect(&socket, &addr)?;
    if is_connected_to_itself(&socket, addr) {
        return Err(Errno::CONNREFUSED);
    }
    Ok(socket)
}
