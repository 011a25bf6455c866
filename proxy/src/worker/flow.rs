//! One UDP flow: its socket to the backend, what ends it, and what is counted of it.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use proxy_core::backend::{BackendState, FlowSlot, LastConnect};
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_sys::datagrams::{self, MOST_SEGMENTS, Receiver, Route};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::core::{Core, socket_for};

/// Asked for as the kernel's queue of a flow's socket; the system may grant less.
const FLOW_QUEUE_BYTES: usize = 1 << 20;
/// So many datagrams at once are a burst.
const BURST: usize = 4;

pub struct Flow {
    pub socket: OwnedFd,
    pub slot: FlowSlot,
    /// Index of its listener, whose socket answers leave from.
    pub listener: usize,
    /// The last snapshot for which it was checked that the backend keeps its flows.
    pub epoch: u64,
    /// ICMP said that nobody listens at the backend: the next datagram tries another.
    pub is_refused: bool,
    /// Its backend sends bursts: it is read in batches, and the kernel may put datagrams together.
    is_bulk: bool,
    /// The turn of the worker in which it was read last.
    read_in_turn: u64,
    pub started_us: u64,
    pub first_up_us: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Datagrams from the backend.
    pub answers: u64,
}

impl Flow {
    pub fn new(core: &Core, socket: OwnedFd, backend: &Arc<BackendState>, listener: usize) -> Flow {
        Flow {
            socket,
            slot: FlowSlot::take(backend),
            listener,
            epoch: core.snapshot.epoch,
            is_refused: false,
            is_bulk: false,
            read_in_turn: 0,
            started_us: core.now_us,
            first_up_us: core.now_us,
            bytes_up: 0,
            bytes_down: 0,
            answers: 0,
        }
    }

    /// Why this flow must end before its next datagram, if it must.
    pub fn check(&mut self, epoch: u64) -> Option<FlowEnd> {
        if self.is_refused {
            return Some(FlowEnd::Refused);
        }
        if self.epoch != epoch {
            if !self.slot.backend().keeps_flows() {
                return Some(FlowEnd::BackendGone);
            }
            self.epoch = epoch;
        }
        None
    }

    /// Receives answers. Returns whether more may wait; the poller tells of those too.
    ///
    /// A flow is read one datagram at a time, which is the least work where a backend answers each
    /// datagram with one. One that has more to read right in the next turn is read in batches then,
    /// and once it is seen to send bursts always, with datagrams put together by the kernel where it
    /// can. There is no way back from that: what the kernel has put together could not be told apart.
    pub fn receive(&mut self, core: &Core, receiver: &mut Receiver) -> std::io::Result<bool> {
        let socket = self.socket.as_fd();
        let is_read_again = self.read_in_turn + 1 == core.turn;
        self.read_in_turn = core.turn;
        if !self.is_bulk && !is_read_again {
            return receiver.receive_one(socket).map(|()| false);
        }
        let may_have_more = receiver.receive_connected(socket)?;
        if !self.is_bulk && receiver.count() >= BURST {
            self.is_bulk = true;
            // Without it the bursts come as ever.
            let _ = datagrams::request_coalescing(socket);
        }
        Ok(may_have_more)
    }

    pub fn refuse(&mut self, core: &Core) {
        self.is_refused = true;
        core.count_refusal(self.slot.backend());
    }

    pub fn count_up(&mut self, core: &Core, bytes: usize) {
        self.bytes_up += bytes as u64;
        core.count_bytes(self.slot.backend(), bytes as u64, 0);
    }

    pub fn count_down(&mut self, core: &Core, answers: usize, bytes: usize) {
        let backend = self.slot.backend();
        backend.set_last_connect(LastConnect::Succeeded);
        if self.answers == 0 {
            core.count_first_byte(backend, self.first_up_us);
        }
        core.count_bytes(backend, 0, bytes as u64);
        self.answers += answers as u64;
        self.bytes_down += bytes as u64;
    }
}

/// Sends the datagrams received last to a client; returns their bytes. What its queue does not take
/// is dropped and counted, as the network would.
pub fn answer(core: &Core, listener: BorrowedFd<'_>, receiver: &Receiver, route: Route) -> usize {
    let mut payloads: [&[u8]; MOST_SEGMENTS] = [&[]; MOST_SEGMENTS];
    let mut bytes = 0;
    for first in (0..receiver.count()).step_by(MOST_SEGMENTS) {
        let count = MOST_SEGMENTS.min(receiver.count() - first);
        let part = receiver.payloads(first, &mut payloads[..count]);
        bytes += part.iter().map(|payload| payload.len()).sum::<usize>();
        send_all(core, listener, part, route);
    }
    bytes
}

fn send_all(core: &Core, listener: BorrowedFd<'_>, payloads: &[&[u8]], route: Route) {
    let mut rest = payloads;
    while !rest.is_empty() {
        match datagrams::send(listener, rest, Some(route)) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return core
                    .counters
                    .datagrams_dropped(DropReason::QueueFull, rest.len());
            }
            Err(_) => {
                core.counters.datagrams_dropped(DropReason::SendFailed, 1);
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
    Ok(socket)
}
