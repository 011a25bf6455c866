//! The TCP listeners of a worker: accepts, in bounded steps, and pauses where there is no room.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use proxy_core::ids::ListenerId;
use proxy_core::latency::add;
use proxy_core::plan::Endpoint;
use proxy_core::retirement::{EndpointUse, Life, Queue};
use proxy_core::snapshot::Snapshot;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use slab::Slab;

use super::sessions::Sessions;
use crate::worker::context::Context;
use crate::worker::poller::{Interest, Token};

/// Clients accepted from one listener before others get their turn.
const MOST_AT_ONCE: usize = 64;
/// While accepting is paused, room is looked for this often: the session that makes it may end in
/// another worker.
const PAUSE_MS: u64 = 20;

struct Listener {
    endpoint: Endpoint,
    /// The one of the configuration that it accepts for.
    accepts_for: ListenerId,
    socket: OwnedFd,
    /// Nothing says that an accept would block.
    is_ready: bool,
    life: Life,
    /// There was no room at the last attempt, and there is none to be made before this.
    paused_until_ms: Option<u64>,
    /// Held for as long as the socket is open: the supervisor asks whether anybody does.
    _in_use: Arc<EndpointUse>,
}

#[derive(Default)]
pub struct Listeners {
    all: Slab<Listener>,
}

/// What came of one attempt to accept.
enum Accepted {
    Client(OwnedFd, SocketAddr),
    /// The client gave up while it waited, or is of no family that we serve.
    Nobody,
    QueueEmpty,
    /// No descriptor or memory for one more.
    NoRoom,
}

impl Listeners {
    pub fn open(
        &mut self,
        context: &Context,
        endpoint: Endpoint,
        accepts_for: ListenerId,
        socket: OwnedFd,
        in_use: Arc<EndpointUse>,
    ) -> rustix::io::Result<()> {
        let entry = self.all.vacant_entry();
        let token = Token::TcpListener(entry.key() as u32);
        context.poller.watch(&socket, token, Interest::Arrivals)?;
        // Clients may have queued up since the socket was bound.
        entry.insert(Listener {
            endpoint,
            accepts_for,
            socket,
            is_ready: true,
            life: Life::new(endpoint.protocol),
            paused_until_ms: None,
            _in_use: in_use,
        });
        Ok(())
    }

    /// Has what is open accept for those whom `snapshot` names.
    pub fn reroute(&mut self, snapshot: &Snapshot) {
        for (_, listener) in &mut self.all {
            let before = listener.accepts_for;
            let now = snapshot.listener_at(listener.endpoint, Some(before));
            listener.accepts_for = now.unwrap_or(before);
        }
    }

    /// The listeners that sockets are open for.
    pub fn open_for(&self) -> impl Iterator<Item = ListenerId> {
        self.all.iter().map(|(_, one)| one.accepts_for)
    }

    /// Of each socket of `endpoint`.
    pub fn lives_at(&mut self, endpoint: Endpoint) -> impl Iterator<Item = &mut Life> {
        let all = self.all.iter_mut().map(|(_, listener)| listener);
        all.filter(move |listener| listener.endpoint == endpoint)
            .map(|listener| &mut listener.life)
    }

    pub fn close(&mut self, context: &Context, endpoint: Endpoint) {
        for (_, listener) in self.all.iter_mut().filter(|(_, l)| l.endpoint == endpoint) {
            listener.life.close(context.now_ms());
            listener.is_ready = true;
        }
    }

    pub fn event(&mut self, index: u32) {
        if let Some(listener) = self.all.get_mut(index as usize) {
            listener.is_ready = true;
        }
    }

    /// When accepting is to be tried again; 0 for at once.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let ready = self.all.iter().filter(|(_, listener)| listener.is_ready);
        ready
            .map(|(_, listener)| listener.paused_until_ms.unwrap_or(0))
            .min()
    }

    /// Accepts a bounded number of clients from each ready listener. One that has no room pauses, and the
    /// others do not wait for it.
    pub fn accept(&mut self, context: &mut Context, sessions: &mut Sessions, room_was_made: bool) {
        let now_ms = context.now_ms();
        for (_, listener) in &mut self.all {
            let is_paused = listener
                .paused_until_ms
                .is_some_and(|until_ms| now_ms < until_ms);
            if !listener.is_ready || (is_paused && !room_was_made) {
                continue;
            }
            let was_paused = listener.paused_until_ms.take().is_some();
            if !listener.accept_some(context, sessions) {
                if !was_paused {
                    let of = listener.accepts_for;
                    context.count(of, |counts| add(&counts.accept_pauses, 1));
                }
                listener.paused_until_ms = Some(now_ms + PAUSE_MS);
            }
        }
        self.all.retain(|_, listener| {
            listener.life.look(listener.queue(), now_ms);
            !listener.life.is_closed()
        });
    }
}

impl Listener {
    /// Returns false where there was no room.
    fn accept_some(&mut self, context: &mut Context, sessions: &mut Sessions) -> bool {
        let of = self.accepts_for;
        for _ in 0..MOST_AT_ONCE {
            if !context.take_place(of) {
                return false;
            }
            let accepted = match context.has_reserve() {
                true => self.accept_one(),
                false => Accepted::NoRoom,
            };
            if let Accepted::Client(client, client_addr) = accepted {
                sessions.begin(context, client, client_addr, of);
                continue;
            }
            context.give_place_back(of);
            match accepted {
                Accepted::QueueEmpty => {
                    self.is_ready = false;
                    return true;
                }
                Accepted::NoRoom => return false,
                Accepted::Nobody | Accepted::Client(..) => {}
            }
        }
        true
    }

    fn accept_one(&self) -> Accepted {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match acceptfrom_with(&self.socket, flags) {
            Ok((client, addr)) => match addr.and_then(|addr| SocketAddr::try_from(addr).ok()) {
                Some(addr) => {
                    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
                    Accepted::Client(client, addr)
                }
                None => Accepted::Nobody,
            },
            Err(Errno::AGAIN) => Accepted::QueueEmpty,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Accepted::NoRoom,
            // Errors of the one connection that was taken off the queue, see accept(2).
            Err(_) => Accepted::Nobody,
        }
    }

    fn queue(&self) -> Queue {
        match self.paused_until_ms {
            _ if !self.is_ready => Queue::Empty,
            Some(_) => Queue::WaitingForRoom,
            None => Queue::Waiting,
        }
    }
}
