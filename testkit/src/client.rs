//! Clients: sessions and flows that know which backend they have reached.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::pattern::{Pattern, Random};
use crate::protocol::{Plan, RIGHT, WHO, send_pattern};
use crate::wait::LONG;

/// How long an answer to a datagram is awaited. Loopback loses none, so that a missing one is told.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest greeting of a backend.
const MAX_GREETING: usize = 200;

/// An open session to a backend that greets.
#[derive(Debug)]
pub struct Session {
    pub stream: TcpStream,
    /// The name of the backend that it has reached.
    pub backend: String,
    /// The address that the backend sees the session come from.
    pub upstream: SocketAddr,
}

/// A connection with time-outs, so that no test waits for ever. Nothing has been read from it.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same from an address of the client's choice: on Linux all of 127.0.0.0/8 is this host.
pub fn connect_from(ip: impl Into<IpAddr>, addr: SocketAddr) -> io::Result<TcpStream> {
    let ip = ip.into();
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Or its port, while it waits out TIME_WAIT, could not be listened on.
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddr::from((ip, 0)))?;
    rustix::net::connect(&socket, &addr)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    Ok(stream)
}

/// Ends a connection by a reset instead of a close, whatever still waits to be sent.
pub fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a TCP socket");
}

impl Session {
    /// Opens a session and reads the greeting.
    pub fn open(addr: SocketAddr) -> io::Result<Session> {
        Session::over(connect(addr)?)
    }

    /// Reads the greeting on a connection that is open.
    pub fn over(mut stream: TcpStream) -> io::Result<Session> {
        let mut line = Vec::new();
        // Byte by byte, since what follows the greeting belongs to the test.
        while line.last() != Some(&b'\n') && line.len() < MAX_GREETING {
            let mut byte = [0];
            match stream.read(&mut byte)? {
                0 => return Err(io::Error::other(format!("closed after {line:?}"))),
                _ => line.push(byte[0]),
            }
        }
        let (backend, upstream) = parse_greeting(&line)?;
        Ok(Session {
            stream,
            backend,
            upstream,
        })
    }

    /// Sends bytes to a backend that echoes, and checks that they come back.
    pub fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(bytes));
            let mut back = vec![0; bytes.len()];
            self.stream.read_exact(&mut back)?;
            sent.join().expect("the writer does not panic")?;
            match back == bytes {
                true => Ok(()),
                false => Err(io::Error::other("other bytes came back")),
            }
        })
    }

    /// Closes this end's direction and reads until the backend closes. Returns what came.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.stream.shutdown(Shutdown::Write)?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// Runs one checksummed session on a fresh connection, both ways at the same time, in pieces of
/// random size, against a backend of [`crate::Manner::Duplex`]; every choice comes from `seed`.
///
/// # Errors
/// What was not as it should be, in words.
pub fn exchange_streams(stream: TcpStream, seed: u64, longest: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let plan = Plan {
        seed_up: random.below(u64::MAX),
        length_up: random.below(longest + 1),
        seed_down: random.below(u64::MAX),
        length_down: random.below(longest + 1),
    };
    let piece = 1 + random.below(100_000) as usize;
    let told = |what: &str, error: &dyn std::fmt::Display| {
        format!("seed {seed}, {plan:?}, pieces of {piece}: {what}: {error}")
    };
    let session = Session::over(stream).map_err(|error| told("open", &error))?;
    let mut stream = session.stream;
    let mut writer = stream.try_clone().map_err(|error| told("clone", &error))?;
    std::thread::scope(|scope| {
        let sent = scope.spawn(move || {
            writer.write_all(&plan.to_bytes())?;
            send_pattern(&mut writer, plan.seed_up, plan.length_up, piece)?;
            writer.shutdown(Shutdown::Write)
        });
        let mut down = Vec::with_capacity(plan.length_down as usize + 1);
        let read = stream.read_to_end(&mut down);
        let sent = sent.join().expect("the writer does not panic");
        sent.map_err(|error| told("send", &error))?;
        read.map_err(|error| told("receive", &error))?;
        let verdict = down.pop();
        if down.len() as u64 != plan.length_down {
            return Err(told("length of what came", &down.len()));
        }
        let right = Pattern::new(plan.seed_down).expect(&down);
        right.map_err(|mismatch| told("first wrong byte", &mismatch.at))?;
        match verdict {
            Some(RIGHT) => Ok(()),
            _ => Err(told("the backend's verdict", &"not what was sent")),
        }
    })
}

/// A client of a flow: a socket of its own, connected to the address that it asks, so that the
/// kernel hands it nothing from any other. No two in a process have the same address: with the port
/// of one that is gone, a client would go on with its flow.
#[derive(Debug)]
pub struct UdpClient {
    pub socket: UdpSocket,
}

/// Who has answered a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub backend: String,
    /// The address that the backend sees the flow come from.
    pub upstream: SocketAddr,
}

/// Where the addresses of clients begin.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 16, 0, 1);
static NEXT_CLIENT: AtomicU32 = AtomicU32::new(0);

impl UdpClient {
    pub fn new(addr: SocketAddr) -> UdpClient {
        let number = NEXT_CLIENT.fetch_add(1, Relaxed);
        let ip: IpAddr = match addr {
            SocketAddr::V4(_) => Ipv4Addr::from_bits(FIRST_CLIENT.to_bits() + number).into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let socket = UdpSocket::bind((ip, 0)).expect("all of 127.0.0.0/8 is this host");
        socket.connect(addr).expect("loopback can be connected to");
        socket
            .set_read_timeout(Some(DATAGRAM_TIMEOUT))
            .expect("a time-out above zero");
        UdpClient { socket }
    }

    /// Asks the backend of this flow for its name.
    pub fn who(&self) -> io::Result<Who> {
        let (backend, upstream) = parse_greeting(&self.exchange(WHO)?)?;
        Ok(Who { backend, upstream })
    }

    /// Sends a datagram and awaits one.
    pub fn exchange(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.socket.send(bytes)?;
        self.receive()
    }

    /// Awaits a datagram.
    pub fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 64 << 10];
        let length = self.socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

fn parse_greeting(line: &[u8]) -> io::Result<(String, SocketAddr)> {
    let text = String::from_utf8_lossy(line);
    let parsed = text.trim_end().split_once(' ');
    let parsed = parsed.and_then(|(name, addr)| Some((name.to_owned(), addr.parse().ok()?)));
    parsed.ok_or_else(|| io::Error::other(format!("no greeting: {text:?}")))
}
