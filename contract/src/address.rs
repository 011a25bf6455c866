//! The identity of a backend: its address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Allowed lengths, in bytes, of the secret with which a client owns the address that it registers.
pub const OWNER_BYTES: RangeInclusive<usize> = 16..=256;

/// A backend's `ip:port`, and with it the backend's identity: all that is learned of a backend
/// (sessions in flight, counters, flows) is kept by this key over every reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendAddr(pub SocketAddr);

impl BackendAddr {
    /// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) becomes the IPv4 address that it is.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        BackendAddr(SocketAddr::new(ip.to_canonical(), port))
    }

    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is allowed as the `ip` of a backend, in words for a message.
pub const ALLOWED_BACKEND_IP: &str =
    "a unicast IPv4 or IPv6 address (no host name, no brackets, no port)";

/// Reads a backend's `ip`; `None` where it is no unicast address literal.
pub fn parse_backend_ip(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok()?.to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    (!ip.is_unspecified() && !ip.is_multicast() && !broadcast).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unicast_literals_are_backend_ips() {
        for good in [
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "2001:db8::7",
            "::ffff:10.0.0.1",
        ] {
            assert!(parse_backend_ip(good).is_some(), "{good}");
        }
        let bad = [
            "",
            "localhost",
            "10.0.0",
            "10.0.0.1:80",
            "[::1]",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ];
        for bad in bad
            .into_iter()
            .chain(["ff02::1", "255.255.255.255", "10.0.0.01", " 10.0.0.1"])
        {
            assert!(parse_backend_ip(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_same_backend() {
        let mapped = BackendAddr::new("::ffff:10.0.0.1".parse().expect("a literal"), 80);
        let plain = BackendAddr::new("10.0.0.1".parse().expect("a literal"), 80);
        assert_eq!(mapped, plain);
    }
}
