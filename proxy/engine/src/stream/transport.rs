//! How the bytes of a session pass between the worker and one of its peers.
//!
//! An enum and no trait: a call is a match, which one variant makes a plain call, and a session with it takes no
//! more memory than with the socket alone. What encrypts would be another variant. Its reads and writes change its
//! state, so they take `&mut self`, and it says whether the kernel may pass its bytes on unseen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proxy_core::session::half::Break;
use proxy_sys::low_water;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::pipes::Pipe;

/// One end of a session; closed when it is dropped.
#[derive(Debug)]
pub enum Transport {
    /// The bytes of the stream are those of the socket.
    Plain(OwnedFd),
}

impl Transport {
    /// Reads what there is now into `buffer`; 0 at the end of the stream.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Transport::Plain(socket) => {
                let (count, _) = recv(socket, buffer, RecvFlags::DONTWAIT)?;
                Ok(count)
            }
        }
    }

    /// Reads what there is now into `buffer` without taking it from the stream.
    pub fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Transport::Plain(socket) => {
                let (count, _) = recv(socket, buffer, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
                Ok(count)
            }
        }
    }

    /// Has the poller tell of arrivals only when there are so many bytes, or no more come.
    pub fn set_low_water(&mut self, bytes: usize) {
        match self {
            Transport::Plain(socket) => {
                // Refused, fewer bytes are told of too, which costs time and nothing else.
                let _ = low_water::set(socket.as_fd(), bytes);
            }
        }
    }

    /// Writes what the peer takes now of `bytes`.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match self {
            Transport::Plain(socket) => send(socket, bytes, flags),
        }
    }

    /// Tells the peer that nothing more comes.
    pub fn shut(&mut self) {
        match self {
            Transport::Plain(socket) => {
                // One that is already gone has nothing to shut.
                let _ = shutdown(socket, Shutdown::Write);
            }
        }
    }

    /// Whether the kernel may move bytes between the socket and a pipe.
    #[inline]
    pub fn can_splice(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
        }
    }

    /// Moves what there is now, at most `limit` bytes, into `pipe`. 0 at the end of the stream, and at a mark of
    /// urgent data.
    #[inline]
    pub fn splice_to(&mut self, pipe: &Pipe, limit: usize) -> Result<usize, Errno> {
        match self {
            Transport::Plain(socket) => splice(socket, None, &pipe.write, None, limit, AT_ONCE),
        }
    }

    /// Moves what the peer takes now, at most `limit` bytes, out of `pipe`.
    #[inline]
    pub fn splice_from(&mut self, pipe: &Pipe, limit: usize) -> Result<usize, Errno> {
        match self {
            Transport::Plain(socket) => splice(&pipe.read, None, socket, None, limit, AT_ONCE),
        }
    }
}

const AT_ONCE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// The socket beneath, for the poller and for questions about the connection.
impl AsFd for Transport {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Transport::Plain(socket) => socket.as_fd(),
        }
    }
}

/// What an error of a connected socket says of the connection. Its peer reset it: `ECONNRESET`, or
/// `EPIPE` where it had closed before (`tcp_reset` of the kernel). All else, such as `ETIMEDOUT` and
/// `EHOSTUNREACH`, is the kernel's own giving up.
pub fn break_of(error: Errno) -> Break {
    match error {
        Errno::CONNRESET | Errno::PIPE => Break::Reset,
        _ => Break::Lost,
    }
}
