//! Whether our side of a TCP connection has finished its handshake.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Whether a connected socket has answered the SYN-ACK of its peer. Until it has, the peer's program
/// knows nothing of the connection, and a reset takes it back.
///
/// `TCP_INFO` (tcp(7)) tells the segments sent, of which the first and its repetitions are SYNs.
pub fn has_answered(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes through the pointer, which points to as many
    // that live over the call; the descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field is an integer, for which the zeros written above are right as well.
    let info = unsafe { info.assume_init() };
    Ok(info.tcpi_segs_out > 1 + info.tcpi_total_retrans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::set_tcp_quickack;
    use rustix::net::{AddressFamily, SocketType, connect, socket};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    #[test]
    fn a_handshake_is_unanswered_until_its_last_segment_is_sent() {
        for (host, family) in [
            ("127.0.0.1:0", AddressFamily::INET),
            ("[::1]:0", AddressFamily::INET6),
        ] {
            let listener = TcpListener::bind(host).expect("bound");
            let addr: SocketAddr = listener.local_addr().expect("bound above");
            let answered = TcpStream::connect(addr).expect("connected");
            assert!(has_answered(answered.as_fd()).expect("an open socket"));

            let waiting = socket(family, SocketType::STREAM, None).expect("a descriptor is free");
            set_tcp_quickack(&waiting, false).expect("a new socket takes it");
            connect(&waiting, &addr).expect("connected");
            let begun = Instant::now();
            // The kernel waits for something to send along, but not for ever.
            while !has_answered(waiting.as_fd()).expect("an open socket") {
                assert!(begun.elapsed() < Duration::from_secs(20), "never sent");
            }
        }
    }
}
