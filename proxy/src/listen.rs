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

/// Why an endpoint could not be opened; reads as the fault of a configuration.
#[derive(Debug, thiserror::Error)]
#[error(
    "/listen: found {addr} ({protocol:?}), which cannot be bound: {error}, \
         allowed: an address of this host with a free port"
)]
pub struct BindError {
    addr: SocketAddr,
    protocol: Protocol,
    error: std::io::Error,
}

impl BindError {
    /// Whether it is for want of a right.
    pub fn is_forbidden(&self) -> bool {
        self.error.kind() == std::io::ErrorKind::PermissionDenied
    }
}

/// Binds `count` sockets for `endpoint`. `is_ours` says that this process already holds sockets on
/// the port.
pub fn bind(endpoint: Endpoint, count: usize, is_ours: bool) -> Result<Vec<OwnedFd>, BindError> {
    let Endpoint { addr, protocol, .. } = endpoint;
    let error = |error| BindError {
        addr,
        protocol,
        error,
    };
    if !is_ours {
        // SO_REUSEPORT hides that another process of ours has the port, so it is tried without.
        new_socket(endpoint, false).map_err(error)?;
    }
    let sockets = (0..count).map(|_| new_socket(endpoint, true));
    let sockets: Vec<OwnedFd> = sockets.collect::<Result<_, _>>().map_err(error)?;
    if let (Protocol::Udp, [first, _, ..]) = (protocol, &sockets[..]) {
        steer(first.as_fd(), count as u32, addr).map_err(error)?;
    }
    Ok(sockets)
}

/// Where the kernel cannot be told whom to give a datagram, as under gVisor or qemu, it chooses itself,
/// by addresses and ports: a client keeps its worker until a listener moves.
fn steer(socket: BorrowedFd<'_>, count: u32, addr: SocketAddr) -> std::io::Result<()> {
    match proxy_sys::steering::by_client(socket, count) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => {
            tracing::warn!(
                "{addr}: where a listener moves, UDP flows may begin anew: this kernel has no \
                 SO_ATTACH_REUSEPORT_CBPF"
            );
            Ok(())
        }
        steered => steered,
    }
}

fn new_socket(endpoint: Endpoint, shares_port: bool) -> std::io::Result<OwnedFd> {
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
            socket.bind(&endpoint.addr.into())?;
            if shares_port {
                socket.listen(BACKLOG)?;
            }
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
            socket.bind(&endpoint.addr.into())?;
        }
    }
    Ok(socket.into())
}
