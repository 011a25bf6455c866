//! Sessions that are open while something else changes.

use std::net::SocketAddr;

use testkit::pattern::Pattern;
use testkit::{Backend, Session};

/// Backends as entries of a configuration, all of one weight.
pub fn weights(backends: &[&Backend], weight: u64) -> Vec<(SocketAddr, u64)> {
    backends
        .iter()
        .map(|backend| (backend.addr, weight))
        .collect()
}

/// Opens `count` sessions, one after the other.
#[track_caller]
pub fn open_sessions(listen: SocketAddr, count: usize) -> Vec<Session> {
    let open = |_| Session::open(listen).expect("a session is served");
    (0..count).map(open).collect()
}

/// Bytes pass both ways on every one; their backends echo.
#[track_caller]
pub fn assert_alive(sessions: &mut [Session]) {
    for (index, session) in sessions.iter_mut().enumerate() {
        let bytes = Pattern::bytes(index as u64, 5000);
        let echoed = session.echo(&bytes);
        echoed.unwrap_or_else(|error| panic!("session {index} does not live: {error}"));
    }
}
