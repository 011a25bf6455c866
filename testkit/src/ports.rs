//! Ports that nobody uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often a port that one of TCP and UDP has taken is tried again.
const ATTEMPTS: usize = 100;

/// Ports that the kernel hands out by itself begin here at the earliest (`ip_local_port_range`,
/// ip(7)). A test may close a port and want it back, and meanwhile any client or flow could be given
/// one from there; so those for listeners are looked for below.
const FIRST_EPHEMERAL: u16 = 32_768;
const FIRST: u16 = 10_240;

/// How many ports this process has looked at, so that two tests in it never get the same one.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// An address on loopback that is free for TCP and for UDP.
pub fn free_address() -> SocketAddr {
    free_address_on(LOOPBACK)
}

/// An address on `ip` that is free for TCP and for UDP. Its port is free on every address of this
/// host, so that a program may listen on all of them.
pub fn free_address_on(ip: IpAddr) -> SocketAddr {
    const COUNT: u32 = (FIRST_EPHEMERAL - FIRST) as u32;
    // Processes that run at the same time begin far apart: a prime stride spreads their ids.
    const STRIDE: u32 = 7_919;
    let begin = std::process::id().wrapping_mul(STRIDE);
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(LOOKED_AT.fetch_add(1, Relaxed)) % COUNT;
        let port = FIRST + offset as u16;
        let everywhere = (Ipv4Addr::UNSPECIFIED, port);
        if TcpListener::bind(everywhere).is_ok() && UdpSocket::bind(everywhere).is_ok() {
            return SocketAddr::new(ip, port);
        }
    }
    panic!("no port from {FIRST} to {FIRST_EPHEMERAL} is free");
}

/// A listener and a UDP socket on the same free port of loopback.
pub fn bind_both() -> (TcpListener, UdpSocket) {
    bind_both_on(LOOPBACK)
}

fn bind_both_on(ip: IpAddr) -> (TcpListener, UdpSocket) {
    for _ in 0..ATTEMPTS {
        let listener = TcpListener::bind((ip, 0)).expect("this host has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        if let Ok(udp) = UdpSocket::bind((ip, port)) {
            return (listener, udp);
        }
    }
    panic!("no port that is free for TCP and UDP both in {ATTEMPTS} attempts");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_address_is_free_and_handed_out_once() {
        let addresses: HashSet<SocketAddr> = (0..50).map(|_| free_address()).collect();
        assert_eq!(addresses.len(), 50);
        for addr in addresses {
            let _tcp = TcpListener::bind(addr).expect("free for TCP");
            let _udp = UdpSocket::bind(addr).expect("free for UDP");
        }
    }
}
