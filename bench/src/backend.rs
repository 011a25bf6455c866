//! The server behind the proxy: answers messages over TCP, returns datagrams over UDP.
//!
//! One thread, and as few system calls as the protocol allows: it shares a core with the load, and
//! what it costs limits how hard the proxy can be driven.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use rustix::net::RecvFlags;
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::message::Reader;
use crate::poll::{self, Interest, Poll, Ready};

/// As the kernel's own upper limit (`net.core.somaxconn`) by default.
const BACKLOG: i32 = 4096;
/// Read at once, and what filler is answered from.
const BUFFER_BYTES: usize = 256 << 10;
/// Filler from here on is dropped in the kernel instead of being copied.
const DROPPED_FROM: u64 = 64 << 10;
/// Bytes that one connection may be sent before the others have their turn.
const TURN_BYTES: u64 = 1 << 20;
/// Datagrams that are returned before connections have their turn.
const TURN_DATAGRAMS: usize = 64;
/// Kernel buffer of the UDP socket, cut by `net.core.rmem_max`.
const DATAGRAM_BUFFER_BYTES: usize = 8 << 20;
/// How often a port is looked for that is free for TCP and UDP.
const MAX_PORT_TRIES: usize = 16;

const LISTENER: usize = usize::MAX;
const DATAGRAMS: usize = usize::MAX - 1;

#[derive(Debug)]
pub struct Backend {
    poll: Poll,
    listener: TcpListener,
    datagrams: UdpSocket,
    connections: Slab<Connection>,
    buffer: Box<[u8]>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    reader: Reader,
    /// Answer bytes that are still to be sent.
    due: u64,
    interest: Interest,
}

impl Backend {
    /// Listens on `addr`; port 0 takes one that is free for both protocols.
    pub fn bind(addr: SocketAddr) -> io::Result<Backend> {
        let (listener, datagrams) = bind_both(addr)?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, Interest::Read)?;
        poll.add(&datagrams, DATAGRAMS, Interest::Read)?;
        Ok(Backend {
            poll,
            listener,
            datagrams,
            connections: Slab::new(),
            buffer: vec![0x5a; BUFFER_BYTES].into_boxed_slice(),
        })
    }

    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process ends.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            let count = self.poll.wait(None)?;
            for index in 0..count {
                let ready = self.poll.ready(index);
                match ready.token {
                    LISTENER => self.accept()?,
                    DATAGRAMS => self.return_datagrams()?,
                    _ => self.connection_ready(ready),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(stream) = poll::accept(&self.listener)? {
            let entry = self.connections.vacant_entry();
            self.poll.add(&stream, entry.key(), Interest::Read)?;
            entry.insert(Connection {
                stream,
                reader: Reader::default(),
                due: 0,
                interest: Interest::Read,
            });
        }
        Ok(())
    }

    fn return_datagrams(&mut self) -> io::Result<()> {
        for _ in 0..TURN_DATAGRAMS {
            let (length, from) = match self.datagrams.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // An ICMP error about an earlier answer: its asker is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            // A full socket loses the datagram, which the load counts.
            let _ = self.datagrams.send_to(&self.buffer[..length], from);
        }
        Ok(())
    }

    fn connection_ready(&mut self, ready: Ready) {
        let Some(connection) = self.connections.get_mut(ready.token) else {
            return;
        };
        let served = connection
            .serve(ready, &mut self.buffer)
            .and_then(|()| connection.wait_for_more(&self.poll, ready.token));
        if served.is_err() {
            self.connections.remove(ready.token);
        }
    }
}

impl Connection {
    /// # Errors
    /// Where the connection is over, in whatever way.
    fn serve(&mut self, ready: Ready, buffer: &mut [u8]) -> io::Result<()> {
        if ready.readable {
            self.due += self.receive(buffer)?;
        }
        let mut turn = TURN_BYTES;
        while self.due > 0 && turn > 0 {
            let length = self.due.min(buffer.len() as u64) as usize;
            match self.stream.write(&buffer[..length]) {
                Ok(written) => {
                    self.due -= written as u64;
                    turn = turn.saturating_sub(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once; returns the answer bytes that became due.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        let filler = self.reader.filler_ahead();
        let received = if filler >= DROPPED_FROM {
            let length = filler.min(buffer.len() as u64) as usize;
            let dropped = rustix::net::recv(&self.stream, &mut buffer[..length], RecvFlags::TRUNC);
            dropped.map(|(_, length)| length).map_err(io::Error::from)
        } else {
            self.stream.read(buffer)
        };
        let count = match received {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        if filler >= DROPPED_FROM {
            return Ok(self.reader.skip(count as u64));
        }
        self.reader.feed(&buffer[..count]).map_err(|error| {
            eprintln!("bench backend: {error}");
            io::Error::from(io::ErrorKind::InvalidData)
        })
    }

    fn wait_for_more(&mut self, poll: &Poll, token: usize) -> io::Result<()> {
        let wanted = match self.due {
            0 => Interest::Read,
            _ => Interest::ReadAndWrite,
        };
        if wanted != self.interest {
            poll.change(&self.stream, token, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }
}

fn bind_both(addr: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let tcp = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        tcp.set_reuse_address(true)?;
        tcp.set_nonblocking(true)?;
        tcp.bind(&addr.into())?;
        tcp.listen(BACKLOG)?;
        let listener = TcpListener::from(tcp);
        let udp = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        udp.set_nonblocking(true)?;
        udp.set_recv_buffer_size(DATAGRAM_BUFFER_BYTES)?;
        udp.set_send_buffer_size(DATAGRAM_BUFFER_BYTES)?;
        match udp.bind(&listener.local_addr()?.into()) {
            Ok(()) => return Ok((listener, udp.into())),
            Err(_) if addr.port() == 0 && tries < MAX_PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}
