//! Pipes for splicing, pooled: making one takes three system calls and two descriptors.

use std::os::fd::OwnedFd;

use proxy_core::half::MAX_SPLICE;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Pipes of one worker, in use and idle together: each takes two descriptors and, while in use, up
/// to [`MAX_SPLICE`] bytes of kernel memory. Streams beyond it are copied.
pub const MAX_PIPES: usize = 64;

#[derive(Debug)]
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

#[derive(Debug, Default)]
pub struct Pipes {
    idle: Vec<Pipe>,
    made: usize,
}

impl Pipes {
    /// An empty pipe; `None` where all are in use or the system gives none.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made == MAX_PIPES {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Without the privilege for a large pipe the default size serves, only in smaller steps.
        let _ = fcntl_setpipe_size(&write, MAX_SPLICE);
        self.made += 1;
        Some(Pipe { read, write })
    }

    /// Takes a pipe back that its session left empty.
    pub fn put_back(&mut self, pipe: Pipe) {
        self.idle.push(pipe);
    }

    /// A pipe with bytes in it went down with its session.
    pub fn lost(&mut self) {
        self.made -= 1;
    }
}
