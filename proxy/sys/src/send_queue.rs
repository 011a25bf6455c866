//! How much of what we wrote to a TCP socket its peer has not acknowledged yet, and still may.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `TCP_CLOSE` of `enum tcp_state` in the kernel's `<net/tcp_states.h>`: reset, timed out, or closed by
/// both and all acknowledged.
const TCP_CLOSE: u8 = 7;

/// Bytes in the send queue, sent or not, that the peer has not acknowledged and still may. Resetting a
/// connection while this is above 0 may destroy bytes under way. A close that was sent counts as one.
pub fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let count = queued_bytes(socket)?;
    // What was under way when a connection broke is counted for ever.
    Ok(if count > 0 && is_closed(socket)? {
        0
    } else {
        count
    })
}

/// `SIOCOUTQ`, tcp(7).
fn queued_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the same number as SIOCOUTQ) writes one int through the pointer, which
    // points to one that lives over the call; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(count as usize)
}

/// Whether the kernel has given the connection up, so that nothing of it is under way any more.
pub fn is_closed(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // The state is the first byte of `struct tcp_info` (tcp(7)), and the kernel fills as much as asked for.
    let mut state: u8 = 0;
    let mut length: libc::socklen_t = 1;
    // SAFETY: TCP_INFO writes at most `length` bytes, which is 1, through the first pointer and the
    // number of them through the second; both point to variables that live over the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state == TCP_CLOSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    #[test]
    fn bytes_that_a_peer_does_not_read_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("bound above");
        let mut stream = TcpStream::connect(addr).expect("connected");
        let _peer = listener.accept().expect("accepted");
        assert_eq!(
            unacknowledged_bytes(stream.as_fd()).expect("an open socket"),
            0
        );
        stream.set_nonblocking(true).expect("an open socket");
        let chunk = [0u8; 1 << 16];
        while stream.write(&chunk).is_ok() {}
        assert!(unacknowledged_bytes(stream.as_fd()).expect("an open socket") > 0);
    }

    #[test]
    fn a_connection_that_is_gone_has_nothing_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("bound above");
        let mut stream = TcpStream::connect(addr).expect("connected");
        let (peer, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("an open socket");
        let chunk = [0u8; 1 << 16];
        while stream.write(&chunk).is_ok() {}
        // With bytes that it has not read, this is a reset; over loopback it is here before the return.
        drop(peer);
        assert!(queued_bytes(stream.as_fd()).expect("an open socket") > 0);
        assert_eq!(
            unacknowledged_bytes(stream.as_fd()).expect("an open socket"),
            0
        );
    }
}
