//! Peers that deal in datagrams: a slow backend, sources that nobody has seen before, forged ones.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, sockopt};

/// Answers each datagram with the address that it came from, after `delay`.
pub struct SlowEcho {
    pub addr: SocketAddr,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SlowEcho {
    pub fn start(delay: Duration) -> SlowEcho {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port is free"));
        let addr = socket.local_addr().expect("it is bound");
        let timeout = Some(Duration::from_millis(50));
        socket.set_read_timeout(timeout).expect("above zero");
        let stopping = Arc::new(AtomicBool::new(false));
        let (to_answer, due) = mpsc::channel::<(Instant, SocketAddr)>();
        let (answers, stopped) = (Arc::clone(&socket), Arc::clone(&stopping));
        let takes = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stopped.load(Relaxed) {
                if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = to_answer.send((Instant::now() + delay, peer));
                }
            }
        });
        let answers = std::thread::spawn(move || {
            while let Ok((at, peer)) = due.recv() {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                // The flow may be gone by now.
                let _ = answers.send_to(peer.to_string().as_bytes(), peer);
            }
        });
        SlowEcho {
            addr,
            stopping,
            threads: vec![takes, answers],
        }
    }
}

impl Drop for SlowEcho {
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has been printed, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

/// One datagram from each of `a_second` new sources a second, until `is_over`.
pub fn flood(to: SocketAddr, a_second: u32, is_over: &AtomicBool) {
    let begun = Instant::now();
    for number in 0.. {
        if is_over.load(Relaxed) {
            return;
        }
        let at = begun + Duration::from_secs(1) * number / a_second;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        send_from(number, to);
    }
}

/// All of 127.0.0.0/8 is this host, so that no right is needed for addresses of others.
pub fn send_from(number: u32, to: SocketAddr) {
    const FIRST: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);
    let ip = Ipv4Addr::from_bits(FIRST.to_bits() + number);
    let socket = UdpSocket::bind((ip, 0)).expect("all of 127.0.0.0/8 is this host");
    let sent = socket.send_to(b"one datagram", to);
    sent.expect("loopback takes it");
}

/// A datagram as anybody can send it who forges sources: a socket of our user may share the port with the listener.
pub fn send_as(source: SocketAddr, to: SocketAddr) {
    let family = match source {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None).expect("a socket");
    sockopt::set_socket_reuseport(&socket, true).expect("a UDP socket");
    bind(&socket, &source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let sent = UdpSocket::from(socket).send_to(b"round and round", to);
    sent.expect("loopback takes it");
}
