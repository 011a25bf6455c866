//! Receiving: up to [`BATCH`] datagrams with one `recvmmsg(2)`.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use super::control::{CONTROL_BYTES, Control, local_ip};
use super::{BATCH, BUFFER_BYTES};

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
