//! Sockets towards a backend, as sessions, flows and probes have them: how one is made, and what a
//! connect says.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, sockopt};

/// A socket that can be connected to `addr`, not blocking.
pub fn socket_for(addr: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = match addr {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, kind, flags, None)
}

/// Whether `socket`, connected to `addr`, found itself there: where nobody has a port of this host, the
/// kernel may choose it for us, too (for TCP RFC 9293, 3.5: simultaneous open). Only the kernel knows
/// which addresses are its own, and asking it costs little beside a connect.
pub fn is_connected_to_itself(socket: impl AsFd, addr: SocketAddr) -> bool {
    local_address(socket) == Some(addr)
}

/// The address and port that a socket is bound to.
pub fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

/// Whether what a connect failed for is lacking here and says nothing of the backend: descriptors,
/// memory, watches, or local ports, of which each UDP socket takes one and TCP one towards each
/// backend (`ip_local_port_range`, ip(7); connect(2) says `EADDRNOTAVAIL` for TCP, `EAGAIN` for UDP).
pub fn is_shortage(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::NOSPC
            | Errno::ADDRNOTAVAIL
            | Errno::AGAIN
    )
}

/// Makes the close of `socket` a reset (`SO_LINGER` of 0, socket(7)), which frees its port at once.
pub fn reset_on_close(socket: impl AsFd) {
    // Where the socket is already reset, or its peer has closed, there is nothing to set.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
