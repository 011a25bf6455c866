//! Whether an address is one of this host's, as the kernel knows at this moment: addresses come and go
//! without a reload. A few system calls, for what is asked seldom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{SocketType, bind, connect};

use crate::connect::{local_address, socket_for};

/// Whether the address of `addr` is one of this host's; its port does not matter. True where
/// descriptors are short: nothing can be asked then, and what is taken for another's while it is ours
/// goes round for ever.
pub fn is_of_this_host(addr: SocketAddr) -> bool {
    let is_ours = || -> Option<bool> {
        Some(may_be_bound(addr)? && (!may_be_bound(nobodys(addr))? || is_its_own_source(addr)))
    };
    addr.ip().is_loopback() || is_ours().unwrap_or(true)
}

/// An address of the same family that no host has (RFC 1112, section 4; RFC 6666). Where it can be
/// bound, any can be: `ip_nonlocal_bind`, as balancers with a floating address have it.
fn nobodys(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => (Ipv4Addr::new(240, 0, 0, 1), 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1), 0).into(),
    }
}

/// `None` where there is no descriptor to try it with.
fn may_be_bound(mut addr: SocketAddr) -> Option<bool> {
    addr.set_port(0);
    let socket = socket_for(addr, SocketType::DGRAM).ok()?;
    // Every other error comes after the kernel has found the address: no port was left.
    Some(bind(&socket, &addr) != Err(Errno::ADDRNOTAVAIL))
}

/// What is sent to an address of this host leaves from that address, but for secondary ones.
fn is_its_own_source(addr: SocketAddr) -> bool {
    let source = || -> Option<IpAddr> {
        let socket = socket_for(addr, SocketType::DGRAM).ok()?;
        connect(&socket, &addr).ok()?;
        Some(local_address(&socket)?.ip())
    };
    source() == Some(addr.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_addresses_are_told_from_others() {
        let interfaces = if_addrs::get_if_addrs().expect("this host has interfaces");
        let ours = interfaces.iter().map(if_addrs::Interface::ip);
        // A link-local address is one only with its link.
        let ours = ours.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
        let loopback = IpAddr::from([127, 1, 2, 3]);
        for ip in ours.chain([loopback]) {
            assert!(is_of_this_host((ip, 53).into()), "{ip}");
            assert!(
                ip.is_loopback() || is_its_own_source((ip, 53).into()),
                "{ip}"
            );
        }
        for other in ["198.51.100.7:53", "[2001:db8::7]:53", "8.8.8.8:53"] {
            let other: SocketAddr = other.parse().expect("an address above");
            assert!(!is_of_this_host(other), "{other}");
            assert!(!is_its_own_source(other), "{other}");
        }
    }
}
