//! Pipes for splicing, pooled: making one takes three system calls and two descriptors.

use std::os::fd::OwnedFd;

use proxy_core::session::half::MAX_SPLICE;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// A pipe that holds less costs more calls than it saves. The system gives small ones to a user who
/// has many (`pipe-user-pages-soft`, pipe(7)).
const SMALLEST: usize = 64 << 10;

#[derive(Debug)]
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

/// In use and idle together at most `most`: each takes two descriptors and, while in use, up to
/// [`MAX_SPLICE`] bytes of kernel memory. Streams beyond that are copied.
#[derive(Debug)]
pub struct Pipes {
    idle: Vec<Pipe>,
    made: usize,
    most: usize,
}

impl Pipes {
    pub fn new(most: usize) -> Pipes {
        Pipes {
            idle: Vec::new(),
            made: 0,
            most,
        }
    }

    /// An empty pipe; `None` where all are in use or the system gives none.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.made >= self.most {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Without the privilege for a large pipe the default size serves, only in smaller steps.
        let _ = fcntl_setpipe_size(&write, MAX_SPLICE);
        if fcntl_getpipe_size(&write).ok()? < SMALLEST {
            self.most = self.made;
            return None;
        }
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
