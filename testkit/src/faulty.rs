//! A bad network between a client and a server: a relay that does what is wrong alike each way. It
//! stands before the proxy or behind it. The set of faults is that of toxiproxy's toxics.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::client::connect;

/// What is wrong with the network; by default nothing is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Network {
    /// Each piece comes so much later.
    pub latency: Duration,
    /// So many bytes a second pass.
    pub bytes_a_second: Option<u64>,
    /// Pieces are at most so long.
    pub piece: Option<usize>,
    /// An end is passed on so much later than the bytes before it.
    pub slow_close: Duration,
    /// What happens once so many bytes have passed in one direction.
    pub then: Option<(u64, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are reset.
    Reset,
    /// Both ends are closed in order, whatever still comes.
    Close,
    /// This direction ends, the other lives on.
    HalfClose,
    /// Nothing more is taken for so long.
    Stall(Duration),
    /// Nothing more is taken for so long, and then both ends are closed.
    TimeOut(Duration),
}

const BUFFER: usize = 16 << 10;

/// A running one. Dropped, it takes no new connections; those that are open end with their ends.
#[derive(Debug)]
pub struct Faulty {
    pub addr: SocketAddr,
    listener: TcpListener,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Faulty {
    /// Starts one before `target`.
    pub fn before(target: SocketAddr, network: Network) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").expect("this host has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let listener = listener.try_clone().expect("a descriptor is free");
            let stopping = Arc::clone(&stopping);
            std::thread::spawn(move || accept_all(&listener, target, network, &stopping))
        };
        Faulty {
            addr,
            listener,
            stopping,
            thread: Some(thread),
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.stopping.store(true, Relaxed);
        // On Linux this wakes a thread that waits in accept(2).
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept_all(listener: &TcpListener, target: SocketAddr, network: Network, stopping: &AtomicBool) {
    while let Ok((client, _)) = listener.accept() {
        if stopping.load(Relaxed) {
            return;
        }
        // A target that refuses is seen by the client as its own end.
        let Ok(server) = connect(target) else {
            continue;
        };
        let pair = Arc::new(Pair {
            ends: [client, server],
            is_over: AtomicBool::new(false),
        });
        for from in [0, 1] {
            let pair = Arc::clone(&pair);
            // Whatever goes wrong is what this is for.
            std::thread::spawn(move || pair.pass(from, network));
        }
    }
}

/// Both ends of one connection; they close when the last of its two directions lets go of them.
struct Pair {
    ends: [TcpStream; 2],
    /// Neither direction has anything more to do.
    is_over: AtomicBool,
}

impl Pair {
    /// One direction, until its end or until a fault ends it.
    fn pass(&self, from: usize, network: Network) -> io::Result<()> {
        let (mut source, mut sink) = (&self.ends[from], &self.ends[1 - from]);
        let mut buffer = [0; BUFFER];
        let mut passed = 0;
        let mut then = network.then;
        loop {
            if let Some((_, fault)) = then.filter(|(after, _)| *after == passed) {
                then = None;
                match fault {
                    Fault::Reset => return self.reset(),
                    Fault::Close => return self.close(),
                    Fault::HalfClose => break,
                    Fault::Stall(pause) => std::thread::sleep(pause),
                    Fault::TimeOut(pause) => {
                        std::thread::sleep(pause);
                        return self.close();
                    }
                }
            }
            let before_fault = then.map_or(u64::MAX, |(after, _)| after - passed);
            let most = network.piece.unwrap_or(BUFFER).min(BUFFER);
            let most = most.min(usize::try_from(before_fault).unwrap_or(BUFFER));
            let length = match source.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(length) => length,
                Err(_) => return self.reset(),
            };
            std::thread::sleep(network.latency);
            if let Some(a_second) = network.bytes_a_second {
                std::thread::sleep(Duration::from_secs_f64(length as f64 / a_second as f64));
            }
            sink.write_all(&buffer[..length])?;
            passed += length as u64;
        }
        std::thread::sleep(network.slow_close);
        match self.is_over.load(Relaxed) {
            true => Ok(()),
            false => sink.shutdown(Shutdown::Write),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.is_over.store(true, Relaxed);
        self.ends[0].shutdown(Shutdown::Both)?;
        self.ends[1].shutdown(Shutdown::Both)
    }

    /// The last close of a socket that lingers for no time is a reset; the other direction is woken
    /// so that it lets go, too.
    fn reset(&self) -> io::Result<()> {
        self.is_over.store(true, Relaxed);
        for end in &self.ends {
            set_socket_linger(end, Some(Duration::ZERO))?;
            // It may have been reset by its peer, which is as good.
            let _ = end.shutdown(Shutdown::Read);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Manner, Session};
    use std::io::ErrorKind;
    use std::time::Instant;

    fn through(network: Network) -> (Session, Backend, Faulty) {
        let backend = Backend::start("echo", Manner::Echo);
        let faulty = Faulty::before(backend.addr, network);
        let session = Session::open(faulty.addr).expect("it passes the greeting on");
        (session, backend, faulty)
    }

    #[test]
    fn a_network_without_faults_passes_everything_on() {
        let (mut session, _backend, _faulty) = through(Network::default());
        session.echo(&[7; 100_000]).expect("passed on");
        assert_eq!(session.finish().expect("closed in order"), b"");
    }

    #[test]
    fn what_is_slow_is_late_and_whole() {
        let late = Duration::from_millis(50);
        let (mut session, _backend, _faulty) = through(Network {
            latency: late,
            bytes_a_second: Some(1 << 20),
            piece: Some(1000),
            ..Network::default()
        });
        let begun = Instant::now();
        session.echo(&[7; 3000]).expect("passed on");
        assert!(begun.elapsed() >= 2 * late, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_reset_is_one_and_a_close_is_not() {
        for (fault, is_reset) in [(Fault::Reset, true), (Fault::Close, false)] {
            let (mut session, _backend, _faulty) = through(Network {
                then: Some((1000, fault)),
                ..Network::default()
            });
            // The greeting counts, so that the backend's direction gets there first.
            session.stream.write_all(&[7; 999]).expect("sent");
            let mut rest = Vec::new();
            let read = session.stream.read_to_end(&mut rest);
            let kind = read.map_err(|error| error.kind());
            assert_eq!(kind.err(), is_reset.then_some(ErrorKind::ConnectionReset));
        }
    }
}
