//! The clients: an open loop that sends each job at its time on a connection of its own, whatever
//! became of those before.
//!
//! Latency runs from when a job was due, not from when it was sent, so that a generator that falls
//! behind cannot hide it; how far it fell behind is measured too.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bench::poll::{Interest, Poll};
use bench::sched::workload::Arrival;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::clock::Clock;
use crate::wire::{END, Request};

/// What became of a job; times in seconds of the model since it was due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fate {
    Answered {
        latency: f64,
    },
    Lost,
    /// Still unanswered when the run was ended, at this age.
    Unanswered {
        age: f64,
    },
}

#[derive(Debug)]
pub struct Seen {
    /// By arrival.
    pub fates: Vec<Fate>,
    /// How much later than due each was sent.
    pub lateness: Vec<f64>,
}

/// So often a wait is cut short to look at the time.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Sends all of `arrivals` to `target`. Once the last is sent, the rest is waited for `patience`
/// seconds of the model.
///
/// # Errors
/// Where sockets cannot be had, and once `interrupted` is set.
pub fn run(
    target: SocketAddr,
    arrivals: &[Arrival],
    clock: Clock,
    patience: f64,
    interrupted: &AtomicBool,
) -> io::Result<Seen> {
    let mut load = Load {
        target,
        arrivals,
        clock,
        poll: Poll::new()?,
        open: arrivals.iter().map(|_| None).collect(),
        count: 0,
        fates: vec![Fate::Lost; arrivals.len()],
        lateness: Vec::with_capacity(arrivals.len()),
    };
    let ends_at = arrivals.last().map_or(0.0, |last| last.at) + patience;
    while clock.now() < ends_at && (load.next().is_some() || load.count > 0) {
        if interrupted.load(Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        load.send_what_is_due()?;
        let wait = load
            .next()
            .map_or(LONGEST_WAIT, |next| clock.until(next.at));
        for index in 0..load.poll.wait(Some(wait.min(LONGEST_WAIT)))? {
            let ready = load.poll.ready(index);
            load.serve(ready.token, ready.writable)?;
        }
    }
    Ok(load.give_up())
}

struct Load<'a> {
    target: SocketAddr,
    arrivals: &'a [Arrival],
    clock: Clock,
    poll: Poll,
    /// By arrival.
    open: Vec<Option<Open>>,
    count: usize,
    fates: Vec<Fate>,
    lateness: Vec<f64>,
}

struct Open {
    stream: TcpStream,
    is_sent: bool,
}

impl Load<'_> {
    fn next(&self) -> Option<&Arrival> {
        self.arrivals.get(self.lateness.len())
    }

    fn send_what_is_due(&mut self) -> io::Result<()> {
        while let Some(&Arrival { at, .. }) = self.next() {
            let late = self.clock.now() - at;
            if late < 0.0 {
                return Ok(());
            }
            let index = self.lateness.len();
            self.lateness.push(late);
            let stream = connect(self.target)?;
            self.poll.add(&stream, index, Interest::ReadAndWrite)?;
            let is_sent = false;
            self.open[index] = Some(Open { stream, is_sent });
            self.count += 1;
        }
        Ok(())
    }

    fn serve(&mut self, index: usize, is_writable: bool) -> io::Result<()> {
        let Some(open) = &mut self.open[index] else {
            return Ok(());
        };
        if is_writable && !open.is_sent {
            open.is_sent = true;
            self.poll.change(&open.stream, index, Interest::Read)?;
            let Arrival { work, memory, .. } = self.arrivals[index];
            // So few bytes fit into a new connection at once; where it has failed, the read says so.
            let _ = open.stream.write(&Request { work, memory }.to_bytes());
        }
        let mut buffer = [0; 64];
        let fate = match open.stream.read(&mut buffer) {
            Ok(length @ 1..) if buffer[length - 1] == END => {
                let latency = self.clock.now() - self.arrivals[index].at;
                Fate::Answered { latency }
            }
            Ok(1..) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok(0) | Err(_) => Fate::Lost,
        };
        self.fates[index] = fate;
        self.open[index] = None;
        self.count -= 1;
        Ok(())
    }

    /// What is still open or was never sent stays unanswered.
    fn give_up(mut self) -> Seen {
        let now = self.clock.now();
        for (index, arrival) in self.arrivals.iter().enumerate() {
            if self.open[index].is_some() || index >= self.lateness.len() {
                let age = (now - arrival.at).max(0.0);
                self.fates[index] = Fate::Unanswered { age };
            }
        }
        Seen {
            fates: self.fates,
            lateness: self.lateness,
        }
    }
}

/// Begins a connection; it can be written to when it stands.
fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        done => done?,
    }
    Ok(socket.into())
}
