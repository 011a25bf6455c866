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
/// Room for the control messages that we send and ask for, an `in6_pktinfo` and a segment size,
/// aligned as the kernel wants them.
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
    /// The same without names and control messages, which a connected socket has no use for.
    bare: [libc::mmsghdr; BATCH],
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
            bare: [message; BATCH],
        });
        let Parts {
            names,
            controls,
            vectors,
            messages,
            bare,
        } = &mut *parts;
        for (index, buffer) in buffers.chunks_exact_mut(BUFFER_BYTES).enumerate() {
            vectors[index].iov_base = buffer.as_mut_ptr().cast();
            let header = &mut messages[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = controls[index].0.as_mut_ptr().cast();
            bare[index].msg_hdr.msg_iov = &raw mut vectors[index];
            bare[index].msg_hdr.msg_iovlen = 1;
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
    /// `WouldBlock` where nothing waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.make_ready();
        self.received = receive_into(socket, &mut self.parts.messages)?;
        Ok(self.received)
    }

    /// The same for a connected socket, whose peer is known: returns the payloads alone.
    ///
    /// # Errors
    /// `WouldBlock` where nothing waits; also what ICMP reported.
    pub fn receive_payloads(&mut self, socket: BorrowedFd<'_>) -> io::Result<Payloads<'_>> {
        let count = receive_into(socket, &mut self.parts.bare)?;
        let mut payloads: [&[u8]; BATCH] = [&[]; BATCH];
        let buffers = self.buffers.chunks_exact(BUFFER_BYTES);
        let received = buffers.zip(&self.parts.bare[..count]);
        for (payload, (buffer, message)) in payloads.iter_mut().zip(received) {
            *payload = &buffer[..message.msg_len as usize];
        }
        Ok(Payloads { payloads, count })
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

/// The payloads of one batch.
pub struct Payloads<'a> {
    payloads: [&'a [u8]; BATCH],
    count: usize,
}

impl<'a> std::ops::Deref for Payloads<'a> {
    type Target = [&'a [u8]];

    fn deref(&self) -> &Self::Target {
        &self.payloads[..self.count]
    }
}

/// Calls `recvmmsg` on messages of a [`Receiver`].
fn receive_into(
    socket: BorrowedFd<'_>,
    messages: &mut [libc::mmsghdr; BATCH],
) -> io::Result<usize> {
    // SAFETY: each message points to parts in allocations that the Receiver owns, of the lengths
    // told, and the Receiver is borrowed mutably over the call.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    if count < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(count as usize)
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

/// The most bytes of one segmented send: what the headers leave of 65,535.
const MOST_SEGMENTED_BYTES: usize = 65_000;

/// Sends up to [`BATCH`] payloads in one system call, without blocking. On a connected socket the
/// route is `None`. Returns how many were sent, at least one.
///
/// Payloads of equal size travel through the kernel as one and are cut apart at its end
/// (`UDP_SEGMENT`, udp(7)), where the path allows it.
///
/// # Errors
/// That of the first payload; those after it were not tried.
pub fn send(socket: BorrowedFd<'_>, payloads: &[&[u8]], route: Option<Route>) -> io::Result<usize> {
    let payloads = &payloads[..payloads.len().min(BATCH)];
    let mut message = Message::new(route);
    let segments = equal_run(payloads);
    if segments > 1 {
        let sent = message.send(
            socket,
            &payloads[..segments],
            Some(payloads[0].len() as u16),
        );
        match sent {
            Ok(()) => return Ok(segments),
            // Larger than the path's MTU, or a path that cannot segment: one by one, then.
            Err(error) if is_about_segmenting(&error) => {}
            Err(error) => return Err(error),
        }
    }
    match payloads {
        [payload] => message.send(socket, &[payload], None).map(|()| 1),
        _ => message.send_each(socket, payloads),
    }
}

/// How many payloads from the first on are of its size and fit one segmented send.
fn equal_run(payloads: &[&[u8]]) -> usize {
    let size = payloads.first().map_or(0, |payload| payload.len());
    if size == 0 {
        return 0;
    }
    let most = MOST_SEGMENTED_BYTES / size;
    payloads
        .iter()
        .take(most)
        .take_while(|payload| payload.len() == size)
        .count()
}

fn is_about_segmenting(error: &io::Error) -> bool {
    let codes = [libc::EINVAL, libc::EMSGSIZE, libc::EIO, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// What all messages of one send have in common.
struct Message {
    name: Option<SockAddr>,
    control: Control,
    control_length: usize,
}

impl Message {
    fn new(route: Option<Route>) -> Message {
        let mut control = Control([0; CONTROL_BYTES]);
        let control_length = route.map_or(0, |route| match route.from {
            Some(from) => write_local_ip(&mut control.0, from, route.to.is_ipv6()),
            None => 0,
        });
        Message {
            name: route.map(|route| SockAddr::from(route.to)),
            control,
            control_length,
        }
    }

    /// Sends `payloads` as one message, cut into segments of `segment` bytes where that is given.
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        payloads: &[&[u8]],
        segment: Option<u16>,
    ) -> io::Result<()> {
        let mut vectors = [EMPTY_VECTOR; BATCH];
        for (vector, payload) in vectors.iter_mut().zip(payloads) {
            *vector = vector_of(payload);
        }
        let mut control = self.control;
        let mut control_length = self.control_length;
        if let Some(segment) = segment {
            let rest = &mut control.0[control_length..];
            let bytes = segment.to_ne_bytes();
            control_length += write_control(rest, libc::SOL_UDP, libc::UDP_SEGMENT, &bytes);
        }
        let mut header = self.header();
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = payloads.len() as _;
        if control_length > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control_length as _;
        }
        // SAFETY: the header points to vectors, payloads, a name and a control area that live over
        // the call and have the lengths told; the kernel only reads through them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, SEND_FLAGS) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Sends each of `payloads` as a message of its own. Returns how many were sent.
    fn send_each(&mut self, socket: BorrowedFd<'_>, payloads: &[&[u8]]) -> io::Result<usize> {
        let mut header = self.header();
        if self.control_length > 0 {
            header.msg_control = self.control.0.as_mut_ptr().cast();
            header.msg_controllen = self.control_length as _;
        }
        let mut vectors = [EMPTY_VECTOR; BATCH];
        let mut messages = [libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        }; BATCH];
        for (index, payload) in payloads.iter().enumerate() {
            vectors[index] = vector_of(payload);
            messages[index].msg_hdr.msg_iov = &raw mut vectors[index];
            messages[index].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each header points to a payload, a vector, a name and a control area that live
        // over the call and have the lengths told; the kernel only reads through them.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                payloads.len() as libc::c_uint,
                SEND_FLAGS as _,
            )
        };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count as usize)
        }
    }

    fn header(&self) -> libc::msghdr {
        // SAFETY: msghdr holds integers and pointers, for which all zeroes (null) is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        if let Some(name) = &self.name {
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        header
    }
}

const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

fn vector_of(payload: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    }
}

/// Writes the control message that makes a datagram leave from `from`; returns its length.
fn write_local_ip(control: &mut [u8], from: IpAddr, to_ipv6: bool) -> usize {
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
fn write_control(control: &mut [u8], level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
    let length = CONTROL_HEADER + data.len();
    control[..8].copy_from_slice(&length.to_ne_bytes());
    control[8..12].copy_from_slice(&level.to_ne_bytes());
    control[12..16].copy_from_slice(&kind.to_ne_bytes());
    control[CONTROL_HEADER..length].copy_from_slice(data);
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
    fn runs_of_equal_size_keep_boundaries_and_order() {
        let (server, addr) = bound("127.0.0.1:0");
        let (client, _) = bound("127.0.0.1:0");
        client.connect(addr).expect("loopback");
        // Sizes with runs in them, one too large to be sent as a segment, and empty datagrams.
        let sizes = [7, 7, 7, 9, 9, 1, 0, 0, 40_000, 40_000, 5];
        let payloads: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| vec![index as u8; *size])
            .collect();
        let mut rest: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        while !rest.is_empty() {
            let sent = send(client.as_fd(), &rest, None).expect("sent");
            rest.drain(..sent);
        }
        let mut receiver = Receiver::new();
        let got = receiver
            .receive_payloads(server.as_fd())
            .expect("arrived on loopback");
        let got: Vec<&[u8]> = got.to_vec();
        assert!(
            got == payloads,
            "{:?}",
            got.iter().map(|p| p.len()).collect::<Vec<_>>()
        );
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
