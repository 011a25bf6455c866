//! Control messages: what the kernel tells of a datagram beside its bytes, and is told with one.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for the control messages that we send and ask for, aligned as the kernel wants them: an
/// `in6_pktinfo`, a segment size and a count of lost datagrams, 24 to 40 bytes each.
pub const CONTROL_BYTES: usize = 128;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Control(pub [u8; CONTROL_BYTES]);

/// The destination of a datagram, from its control messages.
pub fn local_ip(control: &[u8]) -> Option<IpAddr> {
    ControlMessages(control).find_map(|(level, kind, data)| match (level, kind) {
        // struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }: `spec_dst` is where an
        // answer leaves from, which for a broadcast is not where the datagram went.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let octets: [u8; 4] = data.get(4..8)?.try_into().ok()?;
            Some(IpAddr::from(Ipv4Addr::from(octets)))
        }
        // struct in6_pktinfo { in6_addr addr; unsigned ifindex; }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let octets: [u8; 16] = data.get(..16)?.try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    })
}

/// The size of the datagrams that the kernel handed over as one, from its control messages.
pub fn segment_size(control: &[u8]) -> Option<usize> {
    let size = number(control, libc::SOL_UDP, libc::UDP_GRO)?;
    usize::try_from(size).ok()
}

/// How many datagrams found the queue full since the socket was made, modulo 2^32.
pub fn lost_count(control: &[u8]) -> Option<u32> {
    number(control, libc::SOL_SOCKET, libc::SO_RXQ_OVFL).map(|count| count as u32)
}

fn number(control: &[u8], level: libc::c_int, kind: libc::c_int) -> Option<libc::c_int> {
    ControlMessages(control).find_map(|message| match message {
        (of_level, of_kind, data) if (of_level, of_kind) == (level, kind) => {
            Some(libc::c_int::from_ne_bytes(data.get(..4)?.try_into().ok()?))
        }
        _ => None,
    })
}

/// Walks control messages as cmsg(3) lays them out: length, level, type, data, padded to 8 bytes.
struct ControlMessages<'a>(&'a [u8]);

const CONTROL_HEADER: usize = mem::size_of::<libc::cmsghdr>();

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_at_checked(CONTROL_HEADER)?;
        let length = usize::from_ne_bytes(header[..8].try_into().ok()?);
        let level = libc::c_int::from_ne_bytes(header[8..12].try_into().ok()?);
        let kind = libc::c_int::from_ne_bytes(header[12..16].try_into().ok()?);
        let data = self.0.get(CONTROL_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(8)..).unwrap_or_default();
        Some((level, kind, data))
    }
}

/// Writes the control message that makes a datagram leave from `from`; returns its length.
pub fn write_local_ip(control: &mut [u8], from: IpAddr, to_ipv6: bool) -> usize {
    match (from, to_ipv6) {
        (IpAddr::V4(ip), false) => {
            // struct in_pktinfo { int ifindex; in_addr spec_dst; in_addr addr; }
            let mut data = [0; 12];
            data[4..8].copy_from_slice(&ip.octets());
            write_control(control, libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        }
        (ip, _) => {
            // struct in6_pktinfo { in6_addr addr; unsigned ifindex; }
            let mapped = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let mut data = [0; 20];
            data[..16].copy_from_slice(&mapped.octets());
            write_control(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
        }
    }
}

/// Writes one control message at the start of `control`; returns its length with its padding.
pub fn write_control(
    control: &mut [u8],
    level: libc::c_int,
    kind: libc::c_int,
    data: &[u8],
) -> usize {
    let length = CONTROL_HEADER + data.len();
    control[..8].copy_from_slice(&length.to_ne_bytes());
    control[8..12].copy_from_slice(&level.to_ne_bytes());
    control[12..16].copy_from_slice(&kind.to_ne_bytes());
    control[CONTROL_HEADER..length].copy_from_slice(data);
    length.next_multiple_of(8)
}
