//! Binding the sockets of an endpoint: one a worker, sharing the port by `SO_REUSEPORT`.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use proxy_core::plan::{Endpoint, Protocol};
use rustix::io::Errno;
use socket2::{Domain, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted, a worker; the system may grant fewer (`somaxconn`).
const BACKLOG: i32 = 4096;
/// Asked for as the kernel's queues of a UDP listener; the system may grant less (`rmem_max`).
const UDP_QUEUE_BYTES: usize = 8 << 20;

/// A client silent for so long is asked whether it still lives; one that vanished is noticed then.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(300);

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}/{}: {error}", endpoint.addr, endpoint.protocol.word())]
pub struct BindError {
    /// The one that was tried.
    pub endpoint: Endpoint,
    /// What the kernel said.
    pub error: std::io::Error,
}

impl BindError {
    /// The kernel's number of the error; `None` where it is not the kernel's.
    pub fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.error)
    }

    /// Whether the process lacks the right to it.
    pub fn is_forbidden(&self) -> bool {
        self.error.kind() == std::io::ErrorKind::PermissionDenied
    }
}

fn error_at(endpoint: Endpoint) -> impl Fn(std::io::Error) -> BindError {
    move |error| BindError { endpoint, error }
}

/// Whether `endpoint` can be bound now. Nobody's sessions and datagrams are taken meanwhile. `is_ours`
/// says that this process already holds sockets on the port.
pub fn try_out(endpoint: Endpoint, is_ours: bool) -> Result<(), BindError> {
    let mut tried = endpoint;
    if is_ours && endpoint.protocol == Protocol::Udp && !endpoint.addr.ip().is_unspecified() {
        // A socket on this address would take the datagrams of ours on all of them; since the port is
        // ours, only the address is in question.
        tried.addr.set_port(0);
    }
    // SO_REUSEPORT hides that another process of ours has the port, so it is tried without.
    let bound = new_socket(tried, is_ours);
    bound.map(drop).map_err(error_at(endpoint))
}

/// Binds `count` sockets for `endpoint`, which [`try_out`] has found free.
pub fn bind(endpoint: Endpoint, count: usize) -> Result<Vec<OwnedFd>, BindError> {
    let error = error_at(endpoint);
    let sockets = (0..count).map(|_| new_listener(endpoint));
    let sockets: Vec<OwnedFd> = sockets.collect::<Result<_, _>>().map_err(&error)?;
    if let (Protocol::Udp, [first, _, ..]) = (endpoint.protocol, &sockets[..]) {
        steer(first.as_fd(), count as u32, endpoint.addr).map_err(&error)?;
    }
    Ok(sockets)
}

/// Where the kernel cannot be told whom to give a datagram, as under gVisor or qemu, it chooses itself,
/// by addresses and ports: a client keeps its worker until a listener moves.
fn steer(socket: BorrowedFd<'_>, count: u32, addr: SocketAddr) -> std::io::Result<()> {
    match proxy_sys::steering::by_client(socket, count) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => {
            tracing::warn!(
                "{addr}: a change of the listen address may start UDP flows again: this kernel has no \
                 SO_ATTACH_REUSEPORT_CBPF"
            );
            Ok(())
        }
        steered => steered,
    }
}

/// One that shares its port with those of other workers; one of TCP listens.
fn new_listener(endpoint: Endpoint) -> std::io::Result<OwnedFd> {
    let socket = new_socket(endpoint, true)?;
    match endpoint.protocol {
        Protocol::Tcp => socket.listen(BACKLOG)?,
        Protocol::Udp => {}
    }
    Ok(socket.into())
}

/// One that is bound and does not listen.
fn new_socket(endpoint: Endpoint, shares_port: bool) -> std::io::Result<Socket> {
    let kind = match endpoint.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let domain = Domain::for_address(endpoint.addr);
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), None)?;
    if endpoint.addr.is_ipv6() {
        // `::` serves IPv4 clients too.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(shares_port)?;
    match endpoint.protocol {
        Protocol::Tcp => {
            // Sessions that linger in TIME_WAIT must not hold up a restart.
            socket.set_reuse_address(true)?;
            // Accepted sockets inherit all three.
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
            socket.set_out_of_band_inline(true)?;
        }
        Protocol::Udp => {
            // As much as the system grants.
            let _ = socket.set_recv_buffer_size(UDP_QUEUE_BYTES);
            let _ = socket.set_send_buffer_size(UDP_QUEUE_BYTES);
            // Where the kernel has neither, datagrams come one by one and losses go uncounted.
            let _ = proxy_sys::datagrams::request_coalescing(socket.as_fd());
            let _ = proxy_sys::datagrams::request_lost_count(socket.as_fd());
            if endpoint.addr.ip().is_unspecified() {
                let is_ipv6 = endpoint.addr.is_ipv6();
                proxy_sys::datagrams::request_local_address(socket.as_fd(), is_ipv6)?;
            }
        }
    }
    socket.bind(&endpoint.addr.into())?;
    Ok(socket)
}
