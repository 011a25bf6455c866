//! How many bytes a socket has to hold before it counts as readable.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// From now on poll(2) and epoll(7) call `socket` readable only when `bytes` or more can be read, or when no more come
/// (`SO_RCVLOWAT`, socket(7); for TCP since Linux 4.17). The kernel makes room for them, up to half of the most that
/// it allows. A read that may block waits for as many.
pub fn set(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option value is one c_int that lives over the call; the descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(socket: &TcpStream, wait: Duration) -> bool {
        let mut polled = [PollFd::new(socket, PollFlags::IN)];
        let wait = Timespec::try_from(wait).expect("a short time");
        poll(&mut polled, Some(&wait)).expect("polled") > 0
    }

    #[test]
    fn a_socket_is_readable_when_it_holds_so_much_or_no_more_comes() {
        const AT_ONCE: Duration = Duration::ZERO;
        const LONG: Duration = Duration::from_secs(20);
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let addr = listener.local_addr().expect("bound above");
        let mut peer = TcpStream::connect(addr).expect("connected");
        let (socket, _) = listener.accept().expect("connected above");
        // A read that may block waits for as many bytes, too.
        socket.set_nonblocking(true).expect("an open socket");
        set(socket.as_fd(), 3).expect("an open socket");
        peer.write_all(b"ab").expect("sent");
        let held = |count: usize| {
            let mut bytes = [0; 8];
            let begun = Instant::now();
            while socket.peek(&mut bytes).unwrap_or(0) < count {
                assert!(begun.elapsed() < LONG, "it never arrived");
            }
        };
        held(2);
        assert!(!is_readable(&socket, AT_ONCE));
        peer.write_all(b"c").expect("sent");
        assert!(is_readable(&socket, LONG));
        set(socket.as_fd(), 5).expect("an open socket");
        assert!(!is_readable(&socket, AT_ONCE));
        set(socket.as_fd(), 1).expect("an open socket");
        assert!(is_readable(&socket, AT_ONCE));
        set(socket.as_fd(), 5).expect("an open socket");
        peer.shutdown(Shutdown::Write).expect("connected");
        assert!(is_readable(&socket, LONG));
    }
}
