//! Special-purpose addresses that no backend can have.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190; as of
//! 2025). Refused are networks that the registries name as no destination or not forwardable, and those
//! reserved for protocols. Allowed are private networks (RFC 1918, `fc00::/7`), shared address space
//! (`100.64.0.0/10`), the benchmarking networks (`198.18.0.0/15`, `2001:2::/48`: laboratories use them,
//! and they are routed as private ones are), anycast services that are globally reachable, and loopback,
//! which is allowed to clients of this machine. An IPv6 address that carries an IPv4 address is judged by
//! that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks and their purpose. Of networks within others, the longest prefix counts; `None` allows.
const V4: [(Ipv4Net, Option<&str>); 12] = [
    (v4([0, 0, 0, 0], 8), Some("\"this network\" (0.0.0.0/8)")),
    (v4([169, 254, 0, 0], 16), Some("link-local")),
    (v4([192, 0, 0, 0], 24), Some("IETF protocol (192.0.0.0/24)")),
    // The anycast addresses of PCP and TURN.
    (v4([192, 0, 0, 9], 32), None),
    (v4([192, 0, 0, 10], 32), None),
    (v4([192, 0, 2, 0], 24), Some(DOCUMENTATION)),
    (v4([198, 51, 100, 0], 24), Some(DOCUMENTATION)),
    (v4([203, 0, 113, 0], 24), Some(DOCUMENTATION)),
    (v4([192, 88, 99, 0], 24), Some("6to4 relay")),
    (v4([224, 0, 0, 0], 4), Some("multicast")),
    (v4([240, 0, 0, 0], 4), Some("reserved (240.0.0.0/4)")),
    (v4([255, 255, 255, 255], 32), Some("broadcast")),
];

const V6: [(Ipv6Net, Option<&str>); 18] = [
    (v6([0; 8], 128), Some("unspecified")),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Some("discard-only")),
    (
        v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64),
        Some("dummy (100:0:0:1::/64)"),
    ),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        Some("IETF protocol (2001::/23)"),
    ),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Some("Teredo")),
    // The anycast addresses of PCP, TURN and DNS-SD; benchmarking; AMT; AS112.
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), None),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), None),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), None),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), None),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), None),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), None),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), Some("ORCHID")),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), Some("ORCHID")),
    (
        v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        Some(DOCUMENTATION),
    ),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Some(DOCUMENTATION)),
    (
        v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
        Some("segment routing"),
    ),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Some("link-local")),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Some("multicast")),
];

const DOCUMENTATION: &str = "documentation";

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// What an address is set aside for; `None` where a backend may have it.
pub fn purpose(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => purpose_v4(ip),
        IpAddr::V6(ip) => {
            let own = longest(
                V6.iter().map(|(net, why)| (IpNet::V6(*net), *why)),
                ip.into(),
            );
            own.or_else(|| {
                embedded(ip)
                    .into_iter()
                    .flatten()
                    .find_map(purpose_embedded)
            })
        }
    }
}

fn purpose_v4(ip: Ipv4Addr) -> Option<&'static str> {
    longest(
        V4.iter().map(|(net, why)| (IpNet::V4(*net), *why)),
        ip.into(),
    )
}

/// A translator is on another machine, so that loopback leads nowhere.
fn purpose_embedded(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.is_loopback() {
        true => Some("translated loopback"),
        false => purpose_v4(ip),
    }
}

fn longest(
    networks: impl Iterator<Item = (IpNet, Option<&'static str>)>,
    ip: IpAddr,
) -> Option<&'static str> {
    let of_ip = networks.filter(|(network, _)| network.contains(&ip));
    of_ip.max_by_key(|(network, _)| network.prefix_len())?.1
}

/// The IPv4 addresses that an IPv6 address may carry.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    const LOOPBACK: Ipv6Addr = Ipv6Addr::LOCALHOST;
    let octets = ip.octets();
    let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| octets[place])));
    let is_empty_from = |place: usize| octets[place..].iter().all(|octet| *octet == 0);
    let last = at([12, 13, 14, 15]);
    match ip.segments() {
        _ if ip == LOOPBACK => [None; 4],
        // RFC 6052, the well-known prefix; IPv4-compatible and IPv4-translated addresses (RFC 4291,
        // RFC 2765), which are obsolete and still understood here and there.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _] => [last, None, None, None],
        // RFC 8215: a prefix of any length that RFC 6052 allows; what follows the IPv4 address is 0.
        [0x64, 0xff9b, 1, ..] => [
            last,
            at([9, 10, 11, 12]).filter(|_| octets[8] == 0 && is_empty_from(13)),
            at([7, 9, 10, 11]).filter(|_| octets[8] == 0 && is_empty_from(12)),
            at([6, 7, 9, 10]).filter(|_| octets[8] == 0 && is_empty_from(11)),
        ],
        // RFC 3056, 6to4.
        [0x2002, ..] => [at([2, 3, 4, 5]), None, None, None],
        _ => [None; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_backend_can_have_is_named_and_all_else_is_allowed() {
        let allowed = [
            "8.8.8.8",
            "1.1.1.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "127.0.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.0.9",
            "192.0.0.10",
            "192.31.196.1",
            "192.0.1.1",
            "1.0.0.0",
            "223.255.255.255",
            "169.253.255.255",
            "169.255.0.0",
            "192.88.98.1",
            "::1",
            "fd00::1",
            "fc00::1",
            "2a00:1450::1",
            "2606:4700::1111",
            "2001:2::1",
            "2001:1::1",
            "2001:200::1",
            "2001:4:112::1",
            "2620:4f:8000::1",
            "2002:808:808::1",
            "fec0::1",
            "64:ff9b::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::192.168.0.1",
            "64:ff9b:1:abcd::100.64.0.1",
            "::ffff:10.0.0.1",
        ];
        for ip in allowed {
            assert_eq!(purpose(ip.parse().expect(ip)), None, "{ip}");
        }
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.1",
            "169.254.169.254",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "198.51.100.255",
            "203.0.113.0",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "::169.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "::ffff:240.0.0.1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:0:1::1",
            "2001:1::4",
            "2001:5::1",
            "2001:10::1",
            "2001:2f:ffff::1",
            "2001:30::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2001:db8:ffff::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::127.0.0.1",
            "64:ff9b::240.0.0.1",
            "64:ff9b::",
            "64:ff9b::192.0.2.1",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:abcd:ef::169.254.169.254",
            // The longer address lies at bit 48, 56 and 64.
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00::",
            "64:ff9b:1:0:a9:fe01:100::",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::1",
            "2002:f000:1::1",
        ];
        for ip in refused {
            assert!(purpose(ip.parse().expect(ip)).is_some(), "{ip}");
        }
    }
}
