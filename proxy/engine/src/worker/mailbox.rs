//! How the supervisor tells a worker something: a queue and an eventfd that wakes the worker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use proxy_core::listing::{Listing, OpenId, Wanted};
use proxy_core::plan::Endpoint;
use proxy_core::retirement::EndpointUse;
use proxy_core::snapshot::Snapshot;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::mpsc;

/// All that a worker can be told. A worker carries out what is sent together in this order, in one turn.
#[derive(Debug)]
pub enum Command {
    /// Route new sessions and flows by this from now on.
    Install(Arc<Snapshot>),
    /// Accept on this bound socket for the listener that the snapshot in force names. `in_use` is held for as
    /// long as the socket is open.
    Open {
        /// Where the socket is bound.
        endpoint: Endpoint,
        /// This worker's, as [`listen::bind`](crate::listen::bind) makes it.
        socket: OwnedFd,
        /// The same for all workers.
        in_use: Arc<EndpointUse>,
    },
    /// This endpoint is wanted no more, see [`proxy_core::retirement`].
    Retire(Endpoint),
    /// A retired endpoint is wanted again.
    Revive(Endpoint),
    /// TCP serves who waits in the accept queue and closes; UDP, which has no flows left, closes.
    Close(Endpoint),
    /// Find open sessions and flows, in this turn and the next ones, and send what was found.
    List {
        /// Which of them.
        wanted: Wanted,
        /// Takes one listing of each worker.
        answer: mpsc::Sender<Listing>,
    },
    /// End one session or flow, if it is still open.
    End {
        /// Which one; of this worker.
        id: OpenId,
        /// Set if it was open.
        has_ended: Arc<AtomicBool>,
    },
    /// End every session and flow and stop.
    Stop,
}

/// Dropped by each worker once it has carried out what came with it; all gone means all done.
pub type Ack = mpsc::Sender<()>;

#[derive(Debug)]
pub struct Mailbox {
    queue: Mutex<Vec<(Vec<Command>, Ack)>>,
    wake: OwnedFd,
}

impl Mailbox {
    pub fn new() -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Mailbox {
            queue: Mutex::new(Vec::new()),
            wake,
        })
    }

    pub fn send(&self, commands: Vec<Command>, ack: Ack) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((commands, ack));
        // Only a counter at 2^64 - 1 refuses, and the worker is then awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// What has been sent since the last call.
    pub fn take(&self) -> Vec<(Vec<Command>, Ack)> {
        let mut count = [0; 8];
        // Nothing to read means nothing new, and the queue then is empty too.
        let _ = rustix::io::read(&self.wake, &mut count);
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
