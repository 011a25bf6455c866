//! A session whose reader takes what was sent to it a little at a time: most of it waits in the kernel
//! of the proxy's host, which tells of it by no event.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use socket2::SockRef;
use testkit::LONG;
use testkit::pattern::Pattern;

/// Which end reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Client,
    Backend,
}

/// What the reader takes slowly: 200 KB a second, for some five seconds.
const SLOWLY: usize = 1 << 20;
/// More than its own kernel holds for it, of which nobody can know whether it is taken.
const TOTAL: usize = SLOWLY + 4 * WINDOW;
const PIECE: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(40);
/// Small: the other end hears of what was taken only in steps of up to half of it or so.
const WINDOW: usize = 32 << 10;

/// A session whose reading end has a small window.
pub struct SlowReader {
    pub reader: TcpStream,
    pub sender: TcpStream,
}

/// A small window, and segments as they are outside of this host: the other end learns of what was taken
/// only by whole ones.
fn narrow(socket: &impl AsFd) {
    const SEGMENT: u32 = 1_400;
    let socket = SockRef::from(socket);
    socket.set_tcp_mss(SEGMENT).expect("it is not connected");
    let narrowed = socket.set_recv_buffer_size(WINDOW);
    narrowed.expect("it is not connected");
}

impl SlowReader {
    /// Opens one through `listen` to `backend`.
    pub fn open(listen: SocketAddr, backend: &TcpListener, reads: Reader) -> SlowReader {
        if reads == Reader::Backend {
            // What it accepts has as little.
            narrow(backend);
        }
        let flags = SocketFlags::CLOEXEC;
        let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let client = client.expect("a descriptor is free");
        if reads == Reader::Client {
            narrow(&client);
        }
        rustix::net::connect(&client, &listen).expect("it listens");
        let client = TcpStream::from(client);
        let (backend, _) = backend.accept().expect("the proxy connects");
        for stream in [&client, &backend] {
            stream.set_read_timeout(Some(LONG)).expect("above zero");
            stream.set_write_timeout(Some(LONG)).expect("above zero");
        }
        let (reader, sender) = match reads {
            Reader::Client => (client, backend),
            Reader::Backend => (backend, client),
        };
        SlowReader { reader, sender }
    }

    /// Sends in pieces of `length` and takes all of it slowly.
    ///
    /// # Errors
    /// What was not as it should be, in words.
    pub fn take_all(&mut self, length: usize) -> Result<(), String> {
        const SEED: u64 = 5;
        let bytes = Pattern::bytes(SEED, TOTAL);
        let told = |got: usize, error: &dyn std::fmt::Display| format!("after {got}: {error}");
        for piece in bytes.chunks(length) {
            let sent = self.sender.write_all(piece);
            sent.map_err(|error| told(0, &error))?;
            // Apart, so that each is a read of its own.
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut got = Vec::with_capacity(TOTAL);
        while got.len() < TOTAL {
            let mut piece = [0; PIECE];
            let read = self.reader.read(&mut piece);
            match read.map_err(|error| told(got.len(), &error))? {
                0 => return Err(told(got.len(), &"closed")),
                read => got.extend_from_slice(&piece[..read]),
            }
            if got.len() < SLOWLY {
                std::thread::sleep(PAUSE);
            }
        }
        if got != bytes {
            return Err("other bytes".to_owned());
        }
        let lives = self.reader.write_all(b"!");
        let lives = lives.and_then(|()| self.sender.read_exact(&mut [0]));
        lives.map_err(|error| told(got.len(), &error))
    }
}
