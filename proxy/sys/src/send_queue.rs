//! How much of what we wrote to a TCP socket its peer has not acknowledged yet.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Bytes in the send queue, sent or not, that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)).
/// Resetting a connection while this is above 0 may destroy bytes under way.
pub fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the same number as SIOCOUTQ) writes one int through the pointer, which
    // points to one that lives over the call; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(count as usize)
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
}
