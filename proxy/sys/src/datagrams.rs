//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, with the local address that a datagram
//! came to, and that its answer must leave from (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

/// The most datagrams of one system call.
pub const BATCH: usize = 32;
/// The largest UDP payload over IPv4 is 65,507 bytes, over IPv6 without jumbograms 65,527.
const BUFFER_BYTES: usize = 65_536;
/// Room for the largest control message that we ask for, an `in6_pktinfo`, aligned as the kernel
/// wants it.
const CONTROL_BYTES: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Asks the kernel to tell the local address of each datagram received on `socket`.
pub fn request_local_address(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    set_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO).or_else(|error| {
        // An IPv6-only socket has no IPv4 option; a dual one takes both.
        if ipv6 { Ok(()) } else { Err(error) }
    })?;
    if ipv6 {
        set_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
    }
    Ok(())
}

fn set_on(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option value is one int that lives over the call, and its length is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Buffers for receiving up to [`BATCH`] datagrams at once; untouched pages cost no memory.
pub struct Receiver {
    buffers: Box<[u8]>,
    parts: Box<Parts>,
    received: usize,
}

/// What `recvmmsg` works on. The messages point to the other parts and to the buffers, so that a call
/// has nothing to set up.
struct Parts {
    names: [libc::sockaddr_storage; BATCH],
    controls: [Control; BATCH],
    vectors: [libc::iovec; BATCH],
    messages: [libc::mmsghdr; BATCH],
}

// SAFETY: the pointers in `Parts` point only into allocations that the Receiver itself owns and that
// move with it; they are followed only by the kernel, during `receive`, which borrows it mutably.
unsafe impl Send for Receiver {}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    pub payload: &'a [u8],
    /// The sender; `None` on a socket of another family than IP, which we never have.
    pub source: Option<SocketAddr>,
    /// The local address that it was sent to, where [`request_local_address`] asked for it.
    pub local_ip: Option<IpAddr>,
}

impl Receiver {
    /// Reserves 2 MiB of address space, so one is made once and kept.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: sockaddr_storage is plain bytes, for which all zeroes is a value.
        let name: libc::sockaddr_storage = unsafe { mem::zeroed() };
        // SAFETY: mmsghdr holds integers and pointers, for which all zeroes (null) is a value.
        let message: libc::mmsghdr = unsafe { mem::zeroed() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: BUFFER_BYTES,
        };
        let mut buffers = vec![0; BATCH * BUFFER_BYTES].into_boxed_slice();
        let mut parts = Box::new(Parts {
            names: [name; BATCH],
            controls: [Control([0; CONTROL_BYTES]); BATCH],
            vectors: [vector; BATCH],
            messages: [message; BATCH],
        });
        let Parts {
            names,
            controls,
            vectors,
            messages,
        } = &mut *parts;
        for (index, buffer) in buffers.chunks_exact_mut(BUFFER_BYTES).enumerate() {
            vectors[index].iov_base = buffer.as_mut_ptr().cast();
            let header = &mut messages[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = controls[index].0.as_mut_ptr().cast();
        }
        let mut receiver = Receiver {
            buffers,
            parts,
            received: BATCH,
        };
        receiver.make_ready();
        receiver
    }

    /// Restores the lengths that the kernel overwrote in the messages it used.
    fn make_ready(&mut self) {
        for message in &mut self.parts.messages[..self.received] {
            let header = &mut message.msg_hdr;
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_controllen = CONTROL_BYTES as _;
        }
        self.received = 0;
    }

    /// Receives what waits, without blocking. Returns how many datagrams there are now.
    ///
    /// # Errors
    /// `WouldBlock` where nothing waits; on a connected socket also what ICMP reported.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.make_ready();
        // SAFETY: each of the BATCH messages points to a name, a vector, a buffer and a control area
        // in allocations that `self` owns, of the lengths told; `self` is borrowed over the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.parts.messages.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.received = count as usize;
        Ok(self.received)
    }

    /// The datagram at `index`, below what [`Receiver::receive`] returned.
    pub fn datagram(&self, index: usize) -> Datagram<'_> {
        assert!(
            index < self.received,
            "datagram {index} of {}",
            self.received
        );
        let message = &self.parts.messages[index];
        let start = index * BUFFER_BYTES;
        let control_length = message.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        Datagram {
            payload: &self.buffers[start..start + message.msg_len as usize],
            source: socket_addr(&self.parts.names[index]),
            local_ip: local_ip(&self.parts.controls[index].0[..control_length]),
        }
    }
}

/// The destination of a datagram, from its control messages.
fn local_ip(control: &[u8]) -> Option<IpAddr> {
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

fn socket_addr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is as large and as aligned as any sockaddr, and the family
            // says that the kernel wrote a sockaddr_in.
            let v4 = unsafe { *(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with a sockaddr_in6.
            let v6 = unsafe { *(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            let addr = SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id);
            Some(SocketAddr::V6(addr))
        }
        _ => None,
    }
}

/// Where datagrams go that are sent on an unconnected socket.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub to: SocketAddr,
    /// The local address that they leave from; `None`: the kernel's choice.
    pub from: Option<IpAddr>,
}

/// Sends up to [`BATCH`] payloads in one system call, without blocking. On a connected socket the
/// route is `None`. Returns how many were sent, at least one.
///
/// # Errors
/// That of the first payload; those after it were not tried.
pub fn send(socket: BorrowedFd<'_>, payloads: &[&[u8]], route: Option<Route>) -> io::Result<usize> {
    let payloads = &payloads[..payloads.len().min(BATCH)];
    let name = route.map(|route| SockAddr::from(route.to));
    let mut control = Control([0; CONTROL_BYTES]);
    let control_length = route
        .and_then(|route| route.from)
        .map_or(0, |from| write_local_ip(&mut control, from, route));
    // SAFETY: mmsghdr holds integers and pointers, for which all zeroes (null) is a value.
    let empty: libc::mmsghdr = unsafe { mem::zeroed() };
    let mut messages = [empty; BATCH];
    let mut vectors = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; BATCH];
    for (index, payload) in payloads.iter().enumerate() {
        vectors[index] = libc::iovec {
            iov_base: payload.as_ptr().cast_mut().cast(),
            iov_len: payload.len(),
        };
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        if let Some(name) = &name {
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        if control_length > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control_length as _;
        }
    }
    // SAFETY: each header points to a payload, a vector, a name and a control area that live over
    // the call and have the lengths told; the kernel only reads through them.
    let count = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            payloads.len() as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    if count < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(count as usize)
    }
}

/// Writes the control message that makes a datagram leave from `from`; returns its length.
fn write_local_ip(control: &mut Control, from: IpAddr, route: Option<Route>) -> usize {
    let to_ipv6 = route.is_some_and(|route| route.to.is_ipv6());
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

fn write_control(
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    data: &[u8],
) -> usize {
    let length = CONTROL_HEADER + data.len();
    control.0[..8].copy_from_slice(&length.to_ne_bytes());
    control.0[8..12].copy_from_slice(&level.to_ne_bytes());
    control.0[12..16].copy_from_slice(&kind.to_ne_bytes());
    control.0[CONTROL_HEADER..length].copy_from_slice(data);
    length.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    fn bound(addr: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(addr).expect("bound");
        let addr = socket.local_addr().expect("bound above");
        (socket, addr)
    }

    #[test]
    fn every_size_arrives_with_its_source_and_local_address() {
        let (server, _) = bound("0.0.0.0:0");
        let port = server.local_addr().expect("bound").port();
        request_local_address(server.as_fd(), false).expect("IPv4");
        let (client, client_addr) = bound("127.0.0.1:0");
        client
            .connect(("127.0.0.5", port))
            .expect("a loopback address");
        let mut receiver = Receiver::new();
        for size in [0, 1, 1472, 8192, 65_507] {
            let payload = vec![0xa5; size];
            assert_eq!(send(client.as_fd(), &[&payload], None).expect("sent"), 1);
            assert_eq!(
                receiver
                    .receive(server.as_fd())
                    .expect("arrived on loopback"),
                1
            );
            let datagram = receiver.datagram(0);
            assert_eq!(datagram.payload, payload);
            assert_eq!(datagram.source, Some(client_addr));
            assert_eq!(
                datagram.local_ip,
                Some("127.0.0.5".parse().expect("a literal"))
            );
        }
        let nothing = receiver.receive(server.as_fd()).expect_err("nothing waits");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        for (listen, asked, from) in [
            ("0.0.0.0:0", "127.0.0.6", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("[::]:0", "127.0.0.7", "127.0.0.1:0"),
        ] {
            let (server, addr) = bound(listen);
            request_local_address(server.as_fd(), addr.is_ipv6()).expect("supported");
            let (client, _) = bound(from);
            let asked: IpAddr = asked.parse().expect("a literal");
            // Connected: the answer is only received if it comes from the very address asked.
            client
                .connect((asked, addr.port()))
                .expect("a loopback address");
            client.send(b"question").expect("sent");
            let mut receiver = Receiver::new();
            receiver
                .receive(server.as_fd())
                .expect("arrived on loopback");
            let question = receiver.datagram(0);
            assert_eq!(question.local_ip, Some(asked), "{listen}");
            let to = question.source.expect("an IP socket");
            let route = Route {
                to,
                from: question.local_ip,
            };
            send(server.as_fd(), &[b"answer"], Some(route)).expect("sent");
            let mut buffer = [0; 16];
            let timeout = Some(std::time::Duration::from_secs(5));
            client.set_read_timeout(timeout).expect("a time-out");
            let length = client.recv(&mut buffer).expect("the answer");
            assert_eq!(&buffer[..length], b"answer");
        }
    }

    #[test]
    fn a_batch_is_sent_and_received_in_order() {
        let (server, addr) = bound("127.0.0.1:0");
        let (client, _) = bound("127.0.0.1:0");
        let payloads: Vec<[u8; 1]> = (0..BATCH as u8).map(|number| [number]).collect();
        let slices: Vec<&[u8]> = payloads.iter().map(|payload| &payload[..]).collect();
        let route = Route {
            to: addr,
            from: None,
        };
        assert_eq!(
            send(client.as_fd(), &slices, Some(route)).expect("sent"),
            BATCH
        );
        let mut receiver = Receiver::new();
        assert_eq!(receiver.receive(server.as_fd()).expect("arrived"), BATCH);
        for (index, payload) in payloads.iter().enumerate() {
            assert_eq!(receiver.datagram(index).payload, payload);
        }
    }

    #[test]
    fn an_unreachable_port_is_told_on_a_connected_socket() {
        let (gone, addr) = bound("127.0.0.1:0");
        drop(gone);
        let (client, _) = bound("127.0.0.1:0");
        client.connect(addr).expect("no packet yet");
        send(client.as_fd(), &[b"x"], None).expect("sent");
        let refused = Receiver::new()
            .receive(client.as_fd())
            .expect_err("ICMP came back");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
