//! Backends that serve no session: one refuses, one does not answer at all, one takes each connect
//! and resets it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
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
        // Another process may have taken the port meanwhile.
        let bound = std::iter::repeat_with(|| (free_address(), tcp_socket()));
        let mut bound = bound.filter(|(addr, socket)| bind(socket, addr).is_ok());
        let (addr, socket) = bound.next().expect("this does not end");
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

/// A port where each connect is taken and reset at once, so that no probe by connect finds out.
#[derive(Debug)]
pub struct Resetter {
    pub addr: SocketAddr,
    listener: TcpListener,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resetter {
    pub fn new() -> Resetter {
        let listener = TcpListener::bind(free_address()).expect("the port was free just now");
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let listener = listener.try_clone().expect("a descriptor is free");
            let stopping = Arc::clone(&stopping);
            std::thread::spawn(move || reset_all(&listener, &stopping))
        };
        Resetter {
            addr: listener.local_addr().expect("it is bound"),
            listener,
            stopping,
            thread: Some(thread),
        }
    }
}

impl Default for Resetter {
    fn default() -> Self {
        Resetter::new()
    }
}

impl Drop for Resetter {
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        // On Linux this wakes a thread that waits in accept(2).
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn reset_all(listener: &TcpListener, stopping: &AtomicBool) {
    while let Ok((stream, _)) = listener.accept() {
        if stopping.load(Relaxed) {
            return;
        }
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
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
    use std::io::Read as _;
    use std::net::TcpStream;

    #[test]
    fn a_refuser_refuses() {
        let refuser = Refuser::new();
        let refused = TcpStream::connect(refuser.addr).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_resetter_takes_and_resets() {
        let resetter = Resetter::new();
        let mut stream = TcpStream::connect(resetter.addr).expect("it listens");
        let reset = stream.read(&mut [0]).expect_err("no orderly end");
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
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
