//! Backends that take no session: one refuses, one does not answer at all.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};

use crate::ports::free_address;

/// A port that is taken, so that nobody else listens there, and refuses every connect.
#[derive(Debug)]
pub struct Refuser {
    pub addr: SocketAddr,
    _socket: OwnedFd,
}

impl Refuser {
    pub fn new() -> Refuser {
        let addr = free_address();
        let socket = tcp_socket();
        bind(&socket, &addr).expect("the port was free just now");
        Refuser {
            addr,
            _socket: socket,
        }
    }
}

impl Default for Refuser {
    fn default() -> Self {
        Refuser::new()
    }
}

/// A port where a connect gets no answer: its accept queue is full, and Linux drops the SYN then.
#[derive(Debug)]
pub struct Blackhole {
    pub addr: SocketAddr,
    _listener: OwnedFd,
    _queue: Vec<OwnedFd>,
}

/// More than the shortest accept queue takes.
const MOST_QUEUED: usize = 8;
/// A connect on loopback that takes longer is not answered.
const UNANSWERED: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 300_000_000,
};

impl Blackhole {
    pub fn new() -> Blackhole {
        let addr = free_address();
        let listener = tcp_socket();
        bind(&listener, &addr).expect("the port was free just now");
        listen(&listener, 0).expect("a bound socket can listen");
        let mut queue = Vec::new();
        while queue.len() < MOST_QUEUED {
            let socket = tcp_socket();
            let answered = connects(&socket, addr);
            queue.push(socket);
            if !answered {
                return Blackhole {
                    addr,
                    _listener: listener,
                    _queue: queue,
                };
            }
        }
        panic!("an accept queue of length 0 took {MOST_QUEUED} connections");
    }
}

impl Default for Blackhole {
    fn default() -> Self {
        Blackhole::new()
    }
}

fn tcp_socket() -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a descriptor is free")
}

fn connects(socket: &OwnedFd, addr: SocketAddr) -> bool {
    match connect(socket, &addr) {
        Ok(()) => true,
        Err(Errno::INPROGRESS) => {
            let mut polled = [PollFd::new(socket, PollFlags::OUT)];
            poll(&mut polled, Some(&UNANSWERED)).expect("one descriptor can be polled") > 0
        }
        Err(error) => panic!("a connect on loopback: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn a_refuser_refuses() {
        let refuser = Refuser::new();
        let refused = TcpStream::connect(refuser.addr).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_blackhole_does_not_answer() {
        let blackhole = Blackhole::new();
        let patience = Duration::from_millis(300);
        let connected = TcpStream::connect_timeout(&blackhole.addr, patience);
        let unanswered = connected.expect_err("its queue is full");
        assert_eq!(unanswered.kind(), ErrorKind::TimedOut);
    }
}
