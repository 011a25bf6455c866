//! The system calls and counts of one UDP flow; what becomes of it is decided in `proxy_core::flow`.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use proxy_core::backend::LastConnect;
use proxy_core::flow::Reading;
use proxy_core::ids::ListenerId;
use proxy_core::plan::Protocol;
use proxy_core::reason::{DropReason, FlowEnd};
use proxy_core::score::witnessed::Failure;
use proxy_sys::datagrams::{self, MOST_SEGMENTS, Receiver, Route};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use crate::connect::{is_connected_to_itself, socket_for};
use crate::worker::context::Context;

/// Asked for as the kernel's queue of a flow's socket; the system may grant less.
const FLOW_QUEUE_BYTES: usize = 1 << 20;

pub type Flow = proxy_core::flow::Flow<OwnedFd>;

/// Receives answers in this turn of the worker. Returns whether more may wait; the poller tells of those too.
pub fn receive(flow: &mut Flow, turn: u64, receiver: &mut Receiver) -> std::io::Result<bool> {
    let socket = flow.socket.as_fd();
    match flow.state.reading(turn) {
        Reading::One => receiver.receive_one(socket).map(|()| false),
        Reading::Batch => {
            let may_have_more = receiver.receive_connected(socket)?;
            if flow.state.read_batch(receiver.count()) {
                // Where the kernel cannot, bursts come as ever.
                let _ = datagrams::request_coalescing(socket);
            }
            Ok(may_have_more)
        }
    }
}

/// Nobody listens at the backend of the flow.
pub fn count_refusal(context: &Context, flow: &Flow) {
    let backend = flow.state.backend();
    context.count_refusal(flow.listener, Protocol::Udp, backend);
    context.meter_failure(flow.pool, backend, Failure::FlowRefused);
}

pub fn count_up(context: &Context, flow: &mut Flow, datagrams: usize, bytes: usize) {
    flow.sent(datagrams, bytes, context.now_ms());
    context.count_bytes(flow.listener, flow.state.backend(), bytes as u64, 0);
}

/// Counts answers; returns why the flow is over, if they end it.
pub fn count_down(
    context: &Context,
    flow: &mut Flow,
    answers: usize,
    bytes: usize,
) -> Option<FlowEnd> {
    let backend = flow.state.backend();
    backend.set_last_connect(Protocol::Udp, LastConnect::FlowAnswered);
    backend.set_answers_datagrams();
    context.note_answer(Protocol::Udp, backend);
    if flow.state.is_unanswered() {
        context.count_first_byte(flow.listener, backend, flow.started_us);
    }
    context.count_bytes(flow.listener, backend, 0, bytes as u64);
    flow.answered(answers, bytes, context.present())
}

/// Sends the datagrams received last to a client of `listener`, by its `socket`; returns their bytes. What
/// its queue does not take is dropped and counted, as the network would.
pub fn answer(
    context: &Context,
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
        send_all(context, listener, socket, part, route);
    }
    bytes
}

fn send_all(
    context: &Context,
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
                return context.count(listener, |counts| {
                    counts.datagrams_dropped(DropReason::QueueFull, rest.len());
                });
            }
            Err(_) => {
                context.count(listener, |counts| {
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
