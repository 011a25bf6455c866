//! The sockets that a worker receives datagrams at: which of them takes a new flow, and which sources none is
//! begun for.

use std::net::{IpAddr, SocketAddr};

use crate::flow_table::FlowKey;
use crate::ids::ListenerId;
use crate::listener::ListenerRules;
use crate::plan::Endpoint;
use crate::reason::DropReason;
use crate::retirement::Life;

/// One socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// What it is bound to.
    pub endpoint: Endpoint,
    /// The listener that it receives for.
    pub listener: ListenerId,
    /// Whether it serves, or is retired.
    pub life: Life,
}

/// All of a worker, each at its place.
pub trait Sockets {
    /// Every socket, with its place.
    fn all(&self) -> impl Iterator<Item = (usize, &Listening)>;
    /// The socket at a place that `all` gave.
    fn at(&self, place: usize) -> &Listening;
    /// Whether the kernel calls this address its own.
    fn is_of_this_host(&self, addr: SocketAddr) -> bool;
}

impl Listening {
    /// A socket that serves.
    pub fn new(endpoint: Endpoint, listener: ListenerId) -> Listening {
        Listening {
            endpoint,
            listener,
            life: Life::new(endpoint.protocol),
        }
    }

    /// The local address of a datagram that arrived here, which the kernel says `came_to` this one.
    #[inline]
    pub fn local_ip(&self, came_to: Option<IpAddr>) -> Option<IpAddr> {
        let bound_to = self.endpoint.addr.ip();
        if bound_to.is_unspecified() {
            came_to
        } else {
            Some(bound_to.to_canonical())
        }
    }

    /// Whether what is sent to `addr` may arrive here. Few clients have a port of ours; only then is the
    /// kernel asked which addresses are this host's.
    fn receives(&self, addr: SocketAddr, sockets: &impl Sockets) -> bool {
        let listen = self.endpoint.addr;
        let takes_all = listen.ip().is_unspecified();
        listen.port() == addr.port()
            && match takes_all && (listen.is_ipv6() || addr.is_ipv4()) {
                true => sockets.is_of_this_host(addr),
                false => listen.ip().to_canonical() == addr.ip(),
            }
    }
}

/// The socket that takes a new flow of `key`, whose datagrams arrived at that at `place`: itself, or, where it
/// is retired, the open one that they would reach without it. The kernel hands datagrams to the most
/// specific socket, retired or not.
#[inline]
pub fn taker(sockets: &impl Sockets, place: usize, key: &FlowKey) -> Option<usize> {
    let arrived_at = sockets.at(place);
    if arrived_at.life.is_serving() {
        return Some(place);
    }
    let addr = arrived_at.endpoint.addr;
    let sent_to = SocketAddr::new(key.local_ip.unwrap_or(addr.ip()), addr.port());
    let serving = sockets.all().filter(|(_, one)| one.life.is_serving());
    let reached =
        serving.filter_map(|(place, one)| Some((rank(one.endpoint.addr, sent_to)?, place)));
    reached.min().map(|(_, place)| place)
}

/// Why nothing is begun for a datagram of `client` at a listener of these rules, if its source would take
/// the answer for a request: answered too, a single forged datagram goes round for ever. Retired
/// listeners are among those asked about.
pub fn refuses(
    sockets: &impl Sockets,
    rules: &ListenerRules,
    client: SocketAddr,
) -> Option<DropReason> {
    if sockets.all().any(|(_, one)| one.receives(client, sockets)) {
        return Some(DropReason::FromListener);
    }
    let is_peer = rules.settings.udp_peers.contain(client.ip());
    is_peer.then_some(DropReason::FromPeer)
}

/// How specific a socket at `listen` is for what is sent `to` an address, the most specific first; `None`:
/// it does not get it. One of all addresses of IPv6 gets those of IPv4 too.
fn rank(listen: SocketAddr, to: SocketAddr) -> Option<u8> {
    let (ip, to_ip) = (listen.ip().to_canonical(), to.ip().to_canonical());
    if listen.port() != to.port() {
        return None;
    }
    match ip.is_unspecified() {
        false => (ip == to_ip).then_some(0),
        true if ip.is_ipv4() == to_ip.is_ipv4() => Some(1),
        true => ip.is_ipv6().then_some(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_reaches_the_most_specific_socket_of_its_family() {
        let addr = |text: &str| text.parse().expect("an address");
        let rank = |listen: &str, to: &str| rank(addr(listen), addr(to));
        let v4 = ["127.0.0.1:7", "0.0.0.0:7", "[::]:7"];
        let ranks = v4.map(|listen| rank(listen, "127.0.0.1:7"));
        assert_eq!(ranks, [Some(0), Some(1), Some(2)]);
        assert_eq!(rank("[::]:7", "[::1]:7"), Some(1));
        for (listen, to) in [
            ("0.0.0.0:7", "[::1]:7"),
            ("127.0.0.2:7", "127.0.0.1:7"),
            ("[::1]:7", "127.0.0.1:7"),
            ("0.0.0.0:8", "127.0.0.1:7"),
        ] {
            assert_eq!(rank(listen, to), None, "{listen} {to}");
        }
    }
}
