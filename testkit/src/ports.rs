//! Ports that nobody uses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{LazyLock, Mutex};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often a port that one of TCP and UDP has taken is tried again.
const ATTEMPTS: usize = 100;

/// What this process has handed out, so that two tests in it never get the same port. Another
/// process may still take one before it is bound: the kernel gives ports at random out of 28,000.
static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// An address on loopback that is free for TCP and for UDP, from the kernel.
pub fn free_address() -> SocketAddr {
    free_address_on(LOOPBACK)
}

/// An address on `ip` that is free for TCP and for UDP, from the kernel. Its port is free on every
/// address of this host, so that a program may listen on all of them.
pub fn free_address_on(ip: IpAddr) -> SocketAddr {
    let mut handed_out = HANDED_OUT.lock().expect("no holder panics");
    for _ in 0..ATTEMPTS {
        let (listener, _udp) = bind_both_on(Ipv4Addr::UNSPECIFIED.into());
        let port = listener.local_addr().expect("it is bound").port();
        if handed_out.insert(port) {
            return SocketAddr::new(ip, port);
        }
    }
    panic!("no port that this process has not used in {ATTEMPTS} attempts");
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
