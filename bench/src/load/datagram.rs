//! Datagrams and their answers, a fixed number under way in each flow.
//!
//! A datagram that is not answered in time is counted as lost and another one takes its place, so
//! that losses cost rate instead of ending the run.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Clock, LoadError, Tally, failed_to};
use crate::poll::{Interest, Poll};

/// An answer that takes longer is lost.
const LOST_AFTER: Duration = Duration::from_millis(250);
/// How often losses are looked for.
const PATIENCE: Duration = Duration::from_millis(50);
const BUFFER_BYTES: usize = 4 << 20;
/// Each datagram begins with its number in the flow.
const NUMBER_BYTES: usize = 8;
const MAX_DATAGRAM_BYTES: usize = 65_507;

#[derive(Debug)]
pub struct DatagramLoad {
    poll: Poll,
    flows: Vec<Flow>,
    datagram: Vec<u8>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    /// What is under way: one place for each datagram of the window.
    window: Vec<Option<Asked>>,
    under_way: usize,
    next_number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    at: Instant,
}

impl DatagramLoad {
    pub fn open(
        target: SocketAddr,
        flows: usize,
        window: usize,
        bytes: usize,
    ) -> Result<DatagramLoad, LoadError> {
        let bytes = bytes.clamp(NUMBER_BYTES, MAX_DATAGRAM_BYTES);
        let poll = Poll::new().map_err(failed_to("epoll"))?;
        let mut opened = Vec::with_capacity(flows);
        for token in 0..flows {
            let socket = connected(target).map_err(failed_to("a UDP socket"))?;
            poll.add(&socket, token, Interest::Read)
                .map_err(failed_to("epoll"))?;
            opened.push(Flow {
                socket,
                window: vec![None; window],
                under_way: 0,
                next_number: 0,
            });
        }
        Ok(DatagramLoad {
            poll,
            flows: opened,
            datagram: vec![0x5a; bytes],
            buffer: vec![0; MAX_DATAGRAM_BYTES].into_boxed_slice(),
        })
    }

    pub(super) fn run(&mut self, clock: &mut Clock) -> Result<Tally, LoadError> {
        let mut tally = Tally::default();
        for flow in &mut self.flows {
            flow.fill(&mut self.datagram);
        }
        let mut swept_at = Instant::now();
        loop {
            let under_way: usize = self.flows.iter().map(|flow| flow.under_way).sum();
            let ended = Instant::now() >= clock.end;
            if ended && under_way == 0 {
                return Ok(tally);
            }
            clock.check(under_way)?;
            self.turn(clock, &mut tally)?;
            if swept_at.elapsed() >= PATIENCE {
                swept_at = Instant::now();
                self.sweep(clock, &mut tally);
            }
        }
    }

    /// Waits once and exchanges with every flow that has answers.
    fn turn(&mut self, clock: &Clock, tally: &mut Tally) -> Result<(), LoadError> {
        let count = self.poll.wait(Some(PATIENCE)).map_err(failed_to("epoll"))?;
        for index in 0..count {
            let flow = &mut self.flows[self.poll.ready(index).token];
            flow.receive(&mut self.buffer, self.datagram.len(), tally)
                .map_err(failed_to("receive"))?;
            if Instant::now() < clock.end {
                flow.fill(&mut self.datagram);
            }
        }
        Ok(())
    }

    fn sweep(&mut self, clock: &Clock, tally: &mut Tally) {
        let now = Instant::now();
        for flow in &mut self.flows {
            flow.give_up_before(now - LOST_AFTER, tally);
            if now < clock.end {
                flow.fill(&mut self.datagram);
            }
        }
    }
}

impl Flow {
    /// Sends until the window is full.
    fn fill(&mut self, datagram: &mut [u8]) {
        let now = Instant::now();
        for place in &mut self.window {
            if place.is_some() {
                continue;
            }
            datagram[..NUMBER_BYTES].copy_from_slice(&self.next_number.to_le_bytes());
            *place = Some(Asked {
                number: self.next_number,
                at: now,
            });
            self.next_number += 1;
            self.under_way += 1;
            // One that cannot be sent is found to be lost like any other.
            let _ = self.socket.send(datagram);
        }
    }

    /// Takes the answers that are there, at most one for each datagram under way.
    fn receive(&mut self, buffer: &mut [u8], length: usize, tally: &mut Tally) -> io::Result<()> {
        for _ in 0..self.under_way.max(1) {
            let received = match self.socket.recv(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // An ICMP error: the datagram that met it is found to be lost.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            if received != length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let number = buffer[..NUMBER_BYTES].try_into();
            self.answered(u64::from_le_bytes(number.expect("eight bytes")), tally);
        }
        Ok(())
    }

    /// An answer that was given up before finds no place, and stays lost.
    fn answered(&mut self, number: u64, tally: &mut Tally) {
        let place = self
            .window
            .iter_mut()
            .find(|place| place.is_some_and(|asked| asked.number == number));
        if let Some(asked) = place.and_then(Option::take) {
            self.under_way -= 1;
            tally.answered(asked.at.elapsed());
        }
    }

    fn give_up_before(&mut self, oldest: Instant, tally: &mut Tally) {
        for place in &mut self.window {
            if place.is_some_and(|asked| asked.at < oldest) {
                *place = None;
                self.under_way -= 1;
                tally.lost += 1;
            }
        }
    }
}

fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = Socket::new(
        Domain::for_address(target),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.bind(&any.into())?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unanswered_datagrams_are_lost_and_replaced() {
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let target = silent.local_addr().expect("bound");
        let mut load = DatagramLoad::open(target, 2, 3, 64).expect("opened");
        let mut clock = Clock::start(LOST_AFTER * 2);
        let tally = load.run(&mut clock).expect("run");
        assert_eq!((tally.units, tally.latency.quantile(0.5)), (0, None));
        assert!(tally.lost >= 6 && tally.lost <= 6 * 4, "{}", tally.lost);
    }
}
