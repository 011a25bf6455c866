//! Scripted backends on loopback, for TCP and UDP on one port, each in threads of its own.
//!
//! A TCP backend speaks first: it greets with its name and the address that it sees the session
//! come from, so that a test learns from any session which backend it has reached. Then it behaves
//! in one [`Manner`]. Over UDP it echoes, and answers [`WHO`] with the same greeting.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::net::RecvFlags;
use rustix::net::sockopt::set_socket_linger;

use crate::pattern::Pattern;
use crate::protocol::{Plan, RIGHT, UP_SEED, WHO, WRONG, send_pattern};
use crate::wait::{LONG, until};
use crate::{ports, storm};

const BUFFER: usize = 64 << 10;

/// What a backend does with a session after the greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Echoes until the client closes, then closes.
    Echo,
    /// Reads until the client closes, then sends `length` bytes of the pattern of `seed`.
    AnswerAtEnd { seed: u64, length: usize },
    /// Closes its own direction after the greeting, and reads until the client closes.
    CloseFirst,
    /// Sends `length` bytes of the pattern of `seed` and resets the session.
    Reset { seed: u64, length: usize },
    /// Reads nothing before [`Backend::release`], then until the client closes.
    Stalled,
    /// Reads a [`Plan`] and exchanges both streams at the same time; at the end it sends [`RIGHT`]
    /// if all that it received was right.
    Duplex,
    /// Does not even greet; reads until the client closes, then closes.
    Mute,
    /// Does not greet, and echoes.
    MuteEcho,
    /// Does not greet, and plays its end of the sessions of [`crate::storm`]; a session that went
    /// otherwise than it should is not `intact`.
    Storm,
}

/// How one session ended, as this backend saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Received from the client.
    pub bytes: u64,
    /// What was received is the pattern of [`UP_SEED`] so far, or of the plan.
    pub intact: bool,
    /// The client's end was a reset, not a close.
    pub reset: bool,
}

/// A running backend. Dropped, it closes its port and every session, and then the port refuses.
#[derive(Debug)]
pub struct Backend {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    udp: UdpSocket,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    manner: Manner,
    stopping: AtomicBool,
    released: (Mutex<bool>, Condvar),
    accepted: AtomicU64,
    datagrams: AtomicU64,
    is_silent: AtomicBool,
    open: Mutex<HashMap<u64, TcpStream>>,
    ended: Mutex<Vec<Ended>>,
}

impl Backend {
    /// Starts one on a free port.
    pub fn start(name: &str, manner: Manner) -> Backend {
        let (listener, udp) = ports::bind_both();
        Backend::on(listener, udp, name, manner)
    }

    /// Starts one on an address that is known to be free, such as that of one that was dropped; for a
    /// moment it may be taken by somebody who looks for a free one.
    pub fn start_at(addr: SocketAddr, name: &str, manner: Manner) -> Backend {
        let (listener, udp) = until("the port is free", LONG, || {
            let listener = TcpListener::bind(addr).ok()?;
            Some((listener, UdpSocket::bind(addr).ok()?))
        });
        Backend::on(listener, udp, name, manner)
    }

    fn on(listener: TcpListener, udp: UdpSocket, name: &str, manner: Manner) -> Backend {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            manner,
            stopping: AtomicBool::new(false),
            released: (Mutex::new(false), Condvar::new()),
            accepted: AtomicU64::new(0),
            datagrams: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
            open: Mutex::default(),
            ended: Mutex::default(),
        });
        let tcp_thread = {
            let listener = listener.try_clone().expect("a descriptor is free");
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept_all(&listener, &shared))
        };
        let udp_thread = {
            let udp = udp.try_clone().expect("a descriptor is free");
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || answer_all(&udp, &shared))
        };
        Backend {
            addr: listener.local_addr().expect("it is bound"),
            shared,
            listener,
            udp,
            threads: vec![tcp_thread, udp_thread],
        }
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Sessions so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Relaxed)
    }

    /// Sessions that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().expect("no holder panics").len()
    }

    /// Datagrams so far.
    pub fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Relaxed)
    }

    /// Takes datagrams from now on and answers none, or answers again.
    pub fn silence_udp(&self, is_silent: bool) {
        self.shared.is_silent.store(is_silent, Relaxed);
    }

    /// How the sessions that ended did so, in the order of their ends.
    pub fn ended(&self) -> Vec<Ended> {
        self.shared.ended.lock().expect("no holder panics").clone()
    }

    /// Lets the sessions of [`Manner::Stalled`] read.
    pub fn release(&self) {
        let (released, condition) = &self.shared.released;
        *released.lock().expect("no holder panics") = true;
        condition.notify_all();
    }

    /// Sends a datagram from this backend's own address, asked for or not.
    pub fn send_datagram(&self, bytes: &[u8], to: SocketAddr) {
        self.udp.send_to(bytes, to).expect("loopback takes it");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        self.release();
        // On Linux this wakes a thread that waits in accept(2) or recv(2), even where it fails for
        // want of a peer; a connection that is gone already is no fault either.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = rustix::net::shutdown(&self.udp, rustix::net::Shutdown::Both);
        for stream in self.shared.open.lock().expect("no holder panics").values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            // A panic in there has been printed, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, peer)) = listener.accept() {
        if shared.stopping.load(Relaxed) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Relaxed);
        let kept = stream.try_clone().expect("a descriptor is free");
        shared
            .open
            .lock()
            .expect("no holder panics")
            .insert(number, kept);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let ended = serve(stream, peer, &shared);
            shared.ended.lock().expect("no holder panics").push(ended);
            shared
                .open
                .lock()
                .expect("no holder panics")
                .remove(&number);
        });
    }
}

fn answer_all(udp: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    while !shared.stopping.load(Relaxed) {
        // An ICMP error of an answer before, or the wake-up of the end, which comes from nobody: the
        // standard library panics at that.
        let received = rustix::net::recvfrom(udp, &mut buffer[..], RecvFlags::empty());
        let Ok((length, _, Some(peer))) = received else {
            continue;
        };
        let Ok(peer) = SocketAddr::try_from(peer) else {
            continue;
        };
        shared.datagrams.fetch_add(1, Relaxed);
        if shared.is_silent.load(Relaxed) {
            continue;
        }
        let datagram = &buffer[..length];
        // A client may be gone by now.
        let _ = if datagram == WHO {
            udp.send_to(greeting(shared, peer).as_bytes(), peer)
        } else {
            udp.send_to(datagram, peer)
        };
    }
}

fn greeting(shared: &Shared, peer: SocketAddr) -> String {
    format!("{} {peer}\n", shared.name)
}

/// One session to its end. What the client does can fail every call here, which is no fault of the
/// test: it is told by the result.
fn serve(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) -> Ended {
    if !matches!(
        shared.manner,
        Manner::Mute | Manner::MuteEcho | Manner::Storm
    ) {
        let _ = stream.write_all(greeting(shared, peer).as_bytes());
    }
    match shared.manner {
        Manner::Echo | Manner::MuteEcho => {
            receive(&mut stream, |mut stream, bytes| stream.write_all(bytes))
        }
        Manner::Mute => drain(&mut stream),
        Manner::AnswerAtEnd { seed, length } => {
            let ended = drain(&mut stream);
            let _ = stream.write_all(&Pattern::bytes(seed, length));
            ended
        }
        Manner::CloseFirst => {
            let _ = stream.shutdown(Shutdown::Write);
            drain(&mut stream)
        }
        Manner::Reset { seed, length } => {
            let _ = stream.write_all(&Pattern::bytes(seed, length));
            set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("a TCP socket");
            // The clone that is kept must not hold the socket open.
            let mut open = shared.open.lock().expect("no holder panics");
            open.retain(|_, kept| kept.peer_addr().ok() != Some(peer));
            Ended {
                bytes: 0,
                intact: true,
                reset: false,
            }
        }
        Manner::Stalled => {
            let (released, condition) = &shared.released;
            let guard = released.lock().expect("no holder panics");
            let waited = condition.wait_while(guard, |released| !*released);
            drop(waited.expect("no holder panics"));
            drain(&mut stream)
        }
        Manner::Duplex => duplex(&mut stream),
        Manner::Storm => storm_end(stream),
    }
}

fn storm_end(stream: TcpStream) -> Ended {
    let played = storm::play_backend(stream);
    if let Err(failure) = &played {
        eprintln!("{failure}");
    }
    Ended {
        bytes: 0,
        intact: played.is_ok(),
        reset: false,
    }
}

fn drain(stream: &mut TcpStream) -> Ended {
    receive(stream, |_, _| Ok(()))
}

/// Reads to the end and hands each piece on.
fn receive(
    stream: &mut TcpStream,
    mut each: impl FnMut(&TcpStream, &[u8]) -> io::Result<()>,
) -> Ended {
    let mut pattern = Pattern::new(UP_SEED);
    let mut ended = Ended {
        bytes: 0,
        intact: true,
        reset: false,
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => return ended,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                ended.reset = true;
                return ended;
            }
        };
        ended.bytes += length as u64;
        ended.intact &= pattern.expect(&buffer[..length]).is_ok();
        if each(stream, &buffer[..length]).is_err() {
            ended.reset = true;
            return ended;
        }
    }
}

fn duplex(stream: &mut TcpStream) -> Ended {
    let mut header = [0; Plan::BYTES];
    if stream.read_exact(&mut header).is_err() {
        return Ended {
            bytes: 0,
            intact: false,
            reset: true,
        };
    }
    let plan = Plan::from_bytes(header);
    let mut writer = stream.try_clone().expect("a descriptor is free");
    let sender = std::thread::spawn(move || {
        send_pattern(&mut writer, plan.seed_down, plan.length_down, BUFFER)
    });
    let mut pattern = Pattern::new(plan.seed_up);
    let mut right = true;
    let mut ended = receive(stream, |_, bytes| {
        right &= pattern.expect(bytes).is_ok();
        Ok(())
    });
    let sent = sender.join().expect("the sender does not panic");
    ended.intact = right && pattern.position() == plan.length_up && sent.is_ok() && !ended.reset;
    let _ = stream.write_all(&[if ended.intact { RIGHT } else { WRONG }]);
    ended
}
