//! What is accepted on, for the status and for the log.

use contract::Name;
use contract::status::ListenerStatus;
use proxy_core::plan::{Endpoint, Protocol};

/// Of what `serving` has, each endpoint with its listener: an address of a listener once.
pub fn of<'a>(serving: impl Iterator<Item = (Endpoint, &'a Name)>) -> Vec<ListenerStatus> {
    let mut listeners: Vec<ListenerStatus> = Vec::new();
    for (Endpoint { addr, protocol }, name) in serving {
        let name = name.as_str();
        let (tcp, udp) = match protocol {
            Protocol::Tcp => (true, false),
            Protocol::Udp => (false, true),
        };
        let mut known = listeners.iter_mut();
        match known.find(|one| (one.addr, &*one.name) == (addr, name)) {
            Some(listener) => {
                listener.tcp |= tcp;
                listener.udp |= udp;
            }
            None => listeners.push(ListenerStatus {
                name: name.to_owned(),
                addr,
                tcp,
                udp,
            }),
        }
    }
    listeners
}

/// The listeners in a log line, as `127.0.0.1:80/tcp+udp`; `none` where nothing is accepted on.
pub fn words(listeners: &[ListenerStatus]) -> String {
    let word = |listener: &ListenerStatus| {
        let protocols = match (listener.tcp, listener.udp) {
            (true, true) => "tcp+udp",
            (false, true) => "udp",
            (true, false) | (false, false) => "tcp",
        };
        format!("{}/{protocols}", listener.addr)
    };
    match listeners {
        [] => "none".to_owned(),
        some => some.iter().map(word).collect::<Vec<_>>().join(","),
    }
}
