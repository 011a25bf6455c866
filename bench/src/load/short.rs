//! Short connections: connect, ask with 64 B, read 64 B, close.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Clock, LoadError, Tally, failed_to};
use crate::message::message;
use crate::poll::{Interest, Poll, Ready};

const BYTES: u32 = 64;
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct ShortLoad {
    target: SocketAddr,
    poll: Poll,
    /// One connection each; `None` when it has ended.
    slots: Vec<Option<Attempt>>,
    request: Vec<u8>,
}

#[derive(Debug)]
struct Attempt {
    stream: TcpStream,
    begun: Instant,
    asked: bool,
    missing: usize,
}

impl ShortLoad {
    pub fn new(target: SocketAddr, parallel: usize) -> Result<ShortLoad, LoadError> {
        Ok(ShortLoad {
            target,
            poll: Poll::new().map_err(failed_to("epoll"))?,
            slots: (0..parallel).map(|_| None).collect(),
            request: message(BYTES, BYTES),
        })
    }

    pub(super) fn run(&mut self, clock: &mut Clock) -> Result<Tally, LoadError> {
        let mut tally = Tally::default();
        let mut open = 0;
        for token in 0..self.slots.len() {
            open += usize::from(self.begin(token, &mut tally)?);
        }
        while open > 0 {
            clock.check(open)?;
            let count = self.poll.wait(Some(PATIENCE)).map_err(failed_to("epoll"))?;
            for index in 0..count {
                let ready = self.poll.ready(index);
                if !self.advance(ready, &mut tally)? {
                    continue;
                }
                // Dropped first, so that its descriptor is closed before the next one opens.
                self.slots[ready.token] = None;
                open -= 1;
                if Instant::now() < clock.end {
                    open += usize::from(self.begin(ready.token, &mut tally)?);
                }
            }
        }
        Ok(tally)
    }

    /// Opens the next connection of a slot; false where not even that was possible.
    fn begin(&mut self, token: usize, tally: &mut Tally) -> Result<bool, LoadError> {
        let mut attempt = match Attempt::begin(self.target, self.request.len()) {
            Ok(attempt) => attempt,
            Err(error) => {
                tally.session_failed(error)?;
                return Ok(false);
            }
        };
        // On loopback the connection stands when connect returns, so the request goes at once.
        let asked = attempt.ask(&self.request);
        let interest = match asked {
            Ok(true) => Interest::Read,
            Ok(false) | Err(_) => Interest::ReadAndWrite,
        };
        self.poll
            .add(&attempt.stream, token, interest)
            .map_err(failed_to("epoll"))?;
        self.slots[token] = Some(attempt);
        Ok(true)
    }

    /// True when the connection of the slot has ended.
    fn advance(&mut self, ready: Ready, tally: &mut Tally) -> Result<bool, LoadError> {
        let Some(attempt) = &mut self.slots[ready.token] else {
            return Ok(false);
        };
        match attempt.advance(ready, &self.request) {
            Ok(false) => return Ok(false),
            Ok(true) => tally.answered(attempt.begun.elapsed()),
            Err(error) => tally.session_failed(error)?,
        }
        Ok(true)
    }
}

impl Attempt {
    fn begin(target: SocketAddr, answer_bytes: usize) -> io::Result<Attempt> {
        let begun = Instant::now();
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Attempt {
            stream: socket.into(),
            begun,
            asked: false,
            missing: answer_bytes,
        })
    }

    /// True when the request is out.
    fn ask(&mut self, request: &[u8]) -> io::Result<bool> {
        match self.stream.write(request) {
            Ok(count) if count == request.len() => self.asked = true,
            // A new connection takes 64 B whole.
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(self.asked)
    }

    /// True when the answer is whole.
    fn advance(&mut self, ready: Ready, request: &[u8]) -> io::Result<bool> {
        if !self.asked && ready.writable {
            self.ask(request)?;
        }
        if !ready.readable {
            return Ok(false);
        }
        let mut buffer = [0; 2 * BYTES as usize];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if count > self.missing => Err(io::ErrorKind::InvalidData.into()),
            Ok(count) => {
                self.missing -= count;
                Ok(self.missing == 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
