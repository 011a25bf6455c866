//! Requests and answers of one length on connections that stay open.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Clock, LoadError, Tally, failed_to};
use crate::message::message;
use crate::poll::{Interest, Poll};

const BUFFER_BYTES: usize = 256 << 10;
/// How often the clock is looked at while nothing comes.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct ExchangeLoad {
    poll: Poll,
    connections: Vec<Connection>,
    /// As long as its answer.
    request: Vec<u8>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    asked_at: Instant,
    /// Of the request under way.
    sent: usize,
    /// Of the answer under way.
    missing: usize,
    interest: Interest,
}

impl ExchangeLoad {
    pub fn open(target: SocketAddr, count: usize, bytes: u32) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(failed_to("epoll"))?;
        let mut connections = Vec::with_capacity(count);
        for token in 0..count {
            let stream = TcpStream::connect(target).map_err(failed_to("connect"))?;
            let connection = Connection::new(stream).map_err(failed_to("a new connection"))?;
            poll.add(&connection.stream, token, Interest::Read)
                .map_err(failed_to("epoll"))?;
            connections.push(connection);
        }
        Ok(ExchangeLoad {
            poll,
            connections,
            request: message(bytes, bytes),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        })
    }

    pub fn set_bytes(&mut self, bytes: u32) {
        self.request = message(bytes, bytes);
    }

    /// At least one exchange on each connection, however short the time is.
    pub(super) fn run(&mut self, clock: &mut Clock) -> Result<Tally, LoadError> {
        let mut tally = Tally::default();
        let mut waiting = 0;
        for token in 0..self.connections.len() {
            self.connections[token].begin(&self.request, Instant::now());
            // An answer may be there at once, and with the time over nothing more is asked then.
            let is_waiting = self.advance(token, true, true, clock, &mut tally)?;
            waiting += usize::from(is_waiting);
        }
        while waiting > 0 {
            clock.check(waiting)?;
            let count = self.poll.wait(Some(PATIENCE)).map_err(failed_to("epoll"))?;
            for index in 0..count {
                let ready = self.poll.ready(index);
                let (readable, writable) = (ready.readable, ready.writable);
                if !self.advance(ready.token, readable, writable, clock, &mut tally)? {
                    waiting -= 1;
                }
            }
        }
        Ok(tally)
    }

    /// Sends and receives what can be; false once the connection has nothing more to ask.
    fn advance(
        &mut self,
        token: usize,
        readable: bool,
        writable: bool,
        clock: &Clock,
        tally: &mut Tally,
    ) -> Result<bool, LoadError> {
        let connection = &mut self.connections[token];
        if writable && connection.sent < self.request.len() {
            connection.send(&self.request).map_err(failed_to("send"))?;
        }
        let begun = connection.asked_at;
        if readable
            && connection
                .receive(&mut self.buffer)
                .map_err(failed_to("receive"))?
        {
            let now = Instant::now();
            tally.answered(now - begun);
            if now >= clock.end {
                return Ok(false);
            }
            connection.begin(&self.request, now);
            connection.send(&self.request).map_err(failed_to("send"))?;
        }
        let wanted = match connection.sent < self.request.len() {
            true => Interest::ReadAndWrite,
            false => Interest::Read,
        };
        if wanted != connection.interest {
            connection.interest = wanted;
            self.poll
                .change(&connection.stream, token, wanted)
                .map_err(failed_to("epoll"))?;
        }
        Ok(true)
    }
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            asked_at: Instant::now(),
            sent: 0,
            missing: 0,
            interest: Interest::Read,
        })
    }

    fn begin(&mut self, request: &[u8], now: Instant) {
        self.asked_at = now;
        self.sent = 0;
        self.missing = request.len();
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match self.stream.write(&request[self.sent..]) {
            Ok(count) => self.sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads once; true when the answer is whole.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.stream.read(buffer) {
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
