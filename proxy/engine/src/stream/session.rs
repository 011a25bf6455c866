//! One TCP session of a worker: its sockets, and what they say; what follows is decided by its
//! [`SessionState`].

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use proxy_core::backend::BackendState;
use proxy_core::session::SessionState;
use proxy_core::session::action::{Connect, Ends};
use proxy_core::session::half::Break;
use proxy_core::session::relay::Side;
use proxy_sys::send_queue::{is_closed, unacknowledged_bytes};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::transfer::Store;
use super::transport::{Transport, break_of};
use crate::connect::{is_connected_to_itself, reset_on_close, socket_for};
use crate::worker::context::Context;
use crate::worker::poller::{Interest, Token};

/// One session, from its accept to its end.
pub struct Session {
    pub state: SessionState,
    pub sockets: Sockets,
    pub client_addr: SocketAddr,
    pub up_store: Store,
    pub down_store: Store,
}

/// The two ends of a session.
pub struct Sockets {
    pub client: Transport,
    /// Connected, or connecting.
    pub backend: Option<Transport>,
}

impl Sockets {
    fn of(&self, side: Side) -> Option<&Transport> {
        match side {
            Side::Client => Some(&self.client),
            Side::Backend => self.backend.as_ref(),
        }
    }

    /// Has the poller tell of the client.
    pub fn watch_client(&self, context: &Context, index: u32) -> Result<(), Errno> {
        context
            .poller
            .watch(&self.client, Token::ClientOf(index), Interest::Everything)
    }

    /// Changes whether the poller tells of arrivals from `side`.
    pub fn watch_for(
        &self,
        context: &Context,
        index: u32,
        side: Side,
        is_muted: bool,
    ) -> Result<(), Errno> {
        let token = match side {
            Side::Client => Token::ClientOf(index),
            Side::Backend => Token::BackendOf(index),
        };
        let interest = match is_muted {
            true => Interest::NoArrivals,
            false => Interest::Everything,
        };
        match self.of(side) {
            Some(socket) => context.poller.watch_for(socket, token, interest),
            None => Ok(()),
        }
    }

    /// Has urgent data read in its place among the rest: there is no second stream to forward it on.
    pub fn take_urgent_inline(&self, side: Side) {
        if let Some(socket) = self.of(side) {
            // Refused only by a socket that is closed already.
            let _ = sockopt::set_socket_oobinline(socket, true);
        }
    }

    /// How the connect to `backend` went, of which an event told.
    pub fn connect_outcome(&self, backend: Option<&BackendState>, is_broken: bool) -> Connect {
        let Some(socket) = &self.backend else {
            return Connect::Refused;
        };
        let error = match is_broken {
            true => sockopt::socket_error(socket).unwrap_or_else(Err),
            false => Ok(()),
        };
        match error {
            Ok(()) => match backend.is_some_and(|to| is_connected_to_itself(socket, to.addr.0)) {
                true => Connect::Refused,
                false => Connect::Made,
            },
            // It had closed before it reset, so that reading finds the close.
            Err(Errno::PIPE) => Connect::Made,
            Err(error @ Errno::CONNRESET) => Connect::Broken(break_of(error)),
            Err(_) => Connect::Refused,
        }
    }

    /// Makes the close of what is open a reset.
    pub fn reset_on_close(&self) {
        for side in Side::BOTH {
            self.of(side).into_iter().for_each(reset_on_close);
        }
    }
}

impl Ends for Sockets {
    fn why_broken(&self, side: Side) -> Break {
        match self.of(side).map(sockopt::socket_error) {
            Some(Ok(Err(error)) | Err(error)) => break_of(error),
            // Somebody has taken the error already.
            Some(Ok(Ok(()))) | None => Break::Reset,
        }
    }

    fn unacknowledged(&self, side: Side) -> usize {
        let count = |socket: &Transport| unacknowledged_bytes(socket.as_fd());
        // A socket that cannot tell has nothing to wait for.
        self.of(side).map_or(0, |socket| count(socket).unwrap_or(0))
    }

    fn has_client_gone(&self) -> bool {
        // A socket that cannot tell is none of a client that waits.
        is_closed(self.client.as_fd()).unwrap_or(true)
    }
}

/// A socket of the session at `index` that is on its way to `addr`.
pub fn start_connect(context: &Context, addr: SocketAddr, index: u32) -> Result<OwnedFd, Errno> {
    let socket = socket_for(addr, SocketType::STREAM)?;
    // Small answers of a token stream must not wait for the acknowledgement of the one before.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &addr) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    // Watched only now: a socket that is not connecting yet reports a hang-up.
    context
        .poller
        .watch(&socket, Token::BackendOf(index), Interest::Everything)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle session is this, its timers and its descriptors.
    #[test]
    fn a_session_takes_no_more_memory_than_it_did() {
        assert!(size_of::<Session>() <= 352);
    }
}
