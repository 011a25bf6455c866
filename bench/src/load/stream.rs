//! Streams: bytes in one direction as fast as they go.
//!
//! They consist of whole blocks, and every block that was begun is finished, so that what the
//! program under test has moved is known to the byte.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use super::{Clock, LoadError, Tally, failed_to};
use crate::message::message;
use crate::poll::{Interest, Poll, Ready};

/// One message up, or one answer down.
pub const BLOCK_BYTES: u64 = 16 << 20;
/// Blocks that a download has asked for at any time, so that the backend never runs dry.
const BLOCKS_AHEAD: u64 = 2;
/// Written or dropped with one system call.
const CHUNK_BYTES: usize = 256 << 10;
/// System calls that one stream may take before the others have their turn.
const TURN: usize = 4;
/// A request for a block, or for the acknowledgement of an upload.
const REQUEST_BYTES: u32 = 64;
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct StreamLoad {
    poll: Poll,
    streams: Vec<Stream>,
    messages: Messages,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Stream {
    socket: TcpStream,
    /// The message that is partly out.
    sending: Option<Sending>,
    /// Answer bytes that were asked for and have not come.
    missing: u64,
    asked_last: bool,
    interest: Interest,
}

#[derive(Debug, Clone, Copy)]
struct Sending {
    what: Message,
    sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Asks for a block.
    Ask,
    /// Is a block, and asks for nothing.
    Block,
    /// Asks for a few bytes, to know that all blocks before have arrived.
    Last,
}

#[derive(Debug)]
struct Messages {
    direction: Direction,
    ask: Vec<u8>,
    last: Vec<u8>,
    /// The beginning of a block; what follows is filler.
    block: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

impl StreamLoad {
    pub fn down(target: SocketAddr, count: usize) -> Result<StreamLoad, LoadError> {
        StreamLoad::open(target, count, Direction::Down)
    }

    pub fn up(target: SocketAddr, count: usize) -> Result<StreamLoad, LoadError> {
        StreamLoad::open(target, count, Direction::Up)
    }

    fn open(target: SocketAddr, count: usize, direction: Direction) -> Result<Self, LoadError> {
        let poll = Poll::new().map_err(failed_to("epoll"))?;
        let mut streams = Vec::with_capacity(count);
        for token in 0..count {
            let socket = TcpStream::connect(target).map_err(failed_to("connect"))?;
            socket.set_nodelay(true).map_err(failed_to("TCP_NODELAY"))?;
            socket
                .set_nonblocking(true)
                .map_err(failed_to("O_NONBLOCK"))?;
            poll.add(&socket, token, Interest::Read)
                .map_err(failed_to("epoll"))?;
            streams.push(Stream {
                socket,
                sending: None,
                missing: 0,
                asked_last: false,
                interest: Interest::Read,
            });
        }
        let mut block = message(BLOCK_BYTES as u32, 0);
        block.truncate(CHUNK_BYTES);
        Ok(StreamLoad {
            poll,
            streams,
            messages: Messages {
                direction,
                ask: message(REQUEST_BYTES, BLOCK_BYTES as u32),
                last: message(REQUEST_BYTES, REQUEST_BYTES),
                block,
            },
            buffer: vec![0; CHUNK_BYTES].into_boxed_slice(),
        })
    }

    pub(super) fn run(&mut self, clock: &mut Clock) -> Result<Tally, LoadError> {
        let mut tally = Tally::default();
        for token in 0..self.streams.len() {
            self.streams[token].asked_last = false;
            let ready = Ready {
                token,
                readable: false,
                writable: true,
            };
            // Each is asked for something, however late it comes to its turn.
            self.advance(ready, false, &mut tally)?;
        }
        let mut open = self.streams.len();
        while open > 0 {
            clock.check(open)?;
            let count = self.poll.wait(Some(PATIENCE)).map_err(failed_to("epoll"))?;
            for index in 0..count {
                let ready = self.poll.ready(index);
                let ending = Instant::now() >= clock.end;
                open -= usize::from(self.advance(ready, ending, &mut tally)?);
            }
        }
        Ok(tally)
    }

    /// True when the stream has nothing more to send or to wait for.
    fn advance(
        &mut self,
        ready: Ready,
        ending: bool,
        tally: &mut Tally,
    ) -> Result<bool, LoadError> {
        let stream = &mut self.streams[ready.token];
        if ready.readable {
            let received = stream
                .receive(&mut self.buffer)
                .map_err(failed_to("receive"))?;
            if self.messages.direction == Direction::Down {
                tally.units += received;
            }
        }
        let next = stream
            .send(&self.messages, ending, tally)
            .map_err(failed_to("send"))?;
        let wanted = match next {
            Next::Write => Interest::ReadAndWrite,
            Next::Read | Next::Nothing => Interest::Read,
        };
        if wanted != stream.interest {
            stream.interest = wanted;
            self.poll
                .change(&stream.socket, ready.token, wanted)
                .map_err(failed_to("epoll"))?;
        }
        Ok(next == Next::Nothing)
    }
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Write,
    Read,
    Nothing,
}

impl Stream {
    /// Drops what has come, without copying it: a client's cost is not what is measured.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let mut total = 0;
        for _ in 0..TURN {
            let wanted = self.missing.min(buffer.len() as u64) as usize;
            // With nothing due there is nothing to read but the end, which is an error below.
            let received = match wanted {
                0 if total > 0 => break,
                0 => self.socket.read(&mut buffer[..1]),
                _ => rustix::net::recv(&self.socket, &mut buffer[..wanted], RecvFlags::TRUNC)
                    .map(|(_, count)| count)
                    .map_err(io::Error::from),
            };
            match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if wanted == 0 => return Err(io::ErrorKind::InvalidData.into()),
                Ok(count) => {
                    self.missing -= count as u64;
                    total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    /// Sends on, and begins the next message where one is due.
    fn send(&mut self, messages: &Messages, ending: bool, tally: &mut Tally) -> io::Result<Next> {
        for _ in 0..TURN {
            let Some(mut sending) = self.sending.or_else(|| self.next(messages, ending)) else {
                return Ok(match ending && self.missing == 0 {
                    true => Next::Nothing,
                    false => Next::Read,
                });
            };
            match self.socket.write(messages.ahead(sending)) {
                Ok(count) => sending.sent += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sending = Some(sending);
                    return Ok(Next::Write);
                }
                Err(error) => return Err(error),
            }
            self.sending = Some(sending);
            if sending.sent == messages.length(sending.what) {
                self.sending = None;
                self.sent(sending.what, tally);
            }
        }
        Ok(Next::Write)
    }

    fn next(&self, messages: &Messages, ending: bool) -> Option<Sending> {
        let what = match (messages.direction, ending) {
            (Direction::Down, false) if self.missing < BLOCKS_AHEAD * BLOCK_BYTES => Message::Ask,
            (Direction::Down, _) => return None,
            (Direction::Up, false) => Message::Block,
            (Direction::Up, true) if !self.asked_last => Message::Last,
            (Direction::Up, true) => return None,
        };
        Some(Sending { what, sent: 0 })
    }

    fn sent(&mut self, what: Message, tally: &mut Tally) {
        match what {
            Message::Ask => self.missing += BLOCK_BYTES,
            Message::Last => {
                self.missing += u64::from(REQUEST_BYTES);
                self.asked_last = true;
            }
            Message::Block => tally.units += BLOCK_BYTES,
        }
    }
}

impl Messages {
    fn length(&self, what: Message) -> u64 {
        match what {
            Message::Ask => self.ask.len() as u64,
            Message::Last => self.last.len() as u64,
            Message::Block => BLOCK_BYTES,
        }
    }

    /// The next bytes of a message.
    fn ahead(&self, sending: Sending) -> &[u8] {
        let sent = sending.sent as usize;
        match sending.what {
            Message::Ask => &self.ask[sent..],
            Message::Last => &self.last[sent..],
            // Filler is the same everywhere but in the header.
            Message::Block if sent < self.block.len() => &self.block[sent..],
            Message::Block => {
                let left = (BLOCK_BYTES - sending.sent).min(self.block.len() as u64) as usize;
                let from = self.block.len() - left;
                &self.block[from.max(crate::message::HEADER_BYTES)..]
            }
        }
    }
}
