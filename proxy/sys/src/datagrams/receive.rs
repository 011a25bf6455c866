//! Receiving: up to [`BATCH`] datagrams with one `recvmmsg(2)`.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use rustix::net::RecvFlags;

use super::control::{CONTROL_BYTES, Control, local_ip, lost_count, segment_size};
use super::{BATCH, BUFFER_BYTES};

/// Buffers for receiving up to [`BATCH`] messages at once; untouched pages cost no memory.
pub struct Receiver {
    buffers: Box<[u8]>,
    parts: Box<Parts>,
    /// The datagrams received last: one a message, or, where the kernel put several into one
    /// message, several.
    datagrams: Vec<Place>,
    lost: Option<u32>,
}

/// What `recvmmsg` works on. The messages point to the other parts and to the buffers, so that a call
/// has nothing to set up.
struct Parts {
    names: [libc::sockaddr_storage; BATCH],
    controls: [Control; BATCH],
    vectors: [libc::iovec; BATCH],
    messages: Messages,
    /// The same without names, which a connected socket has no use for.
    nameless: Messages,
}

struct Messages {
    headers: [libc::mmsghdr; BATCH],
    name_length: libc::socklen_t,
    /// Those whose lengths the kernel overwrote.
    used: usize,
}

/// Where a datagram stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    message: u32,
    /// In the buffers.
    start: u32,
    length: u32,
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
    /// The local address that it was sent to, where
    /// [`request_local_address`](super::request_local_address) asked for it.
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
        let messages = |name_length: usize| Messages {
            headers: [message; BATCH],
            name_length: name_length as libc::socklen_t,
            used: BATCH,
        };
        let mut buffers = vec![0; BATCH * BUFFER_BYTES].into_boxed_slice();
        let mut parts = Box::new(Parts {
            names: [name; BATCH],
            controls: [Control([0; CONTROL_BYTES]); BATCH],
            vectors: [vector; BATCH],
            messages: messages(mem::size_of::<libc::sockaddr_storage>()),
            nameless: messages(0),
        });
        let Parts {
            names,
            controls,
            vectors,
            messages,
            nameless,
        } = &mut *parts;
        for (index, buffer) in buffers.chunks_exact_mut(BUFFER_BYTES).enumerate() {
            vectors[index].iov_base = buffer.as_mut_ptr().cast();
            messages.headers[index].msg_hdr.msg_name = (&raw mut names[index]).cast();
            let headers = [&mut messages.headers[index], &mut nameless.headers[index]];
            for header in headers.map(|message| &mut message.msg_hdr) {
                header.msg_iov = &raw mut vectors[index];
                header.msg_iovlen = 1;
                header.msg_control = controls[index].0.as_mut_ptr().cast();
            }
        }
        Receiver {
            buffers,
            parts,
            datagrams: Vec::with_capacity(BATCH),
            lost: None,
        }
    }

    /// Receives what waits, without blocking. Returns whether more may wait.
    ///
    /// # Errors
    /// `WouldBlock` where nothing waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        self.receive_batch(socket, |parts| (&mut parts.messages, &parts.controls))
    }

    /// The same for a connected socket, whose peer is known.
    ///
    /// # Errors
    /// `WouldBlock` where nothing waits; also what ICMP reported.
    pub fn receive_connected(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        self.receive_batch(socket, |parts| (&mut parts.nameless, &parts.controls))
    }

    fn receive_batch(
        &mut self,
        socket: BorrowedFd<'_>,
        which: impl FnOnce(&mut Parts) -> (&mut Messages, &[Control; BATCH]),
    ) -> io::Result<bool> {
        self.datagrams.clear();
        self.lost = None;
        let (messages, controls) = which(&mut self.parts);
        let count = messages.receive(socket)?;
        for (index, message) in messages.headers[..count].iter().enumerate() {
            let control = control_messages(message, &controls[index]);
            take_apart(&mut self.datagrams, index, message, control);
            self.lost = lost_count(control).or(self.lost);
        }
        Ok(count == BATCH)
    }

    /// Receives a single datagram from a connected socket that does not coalesce: less work for one
    /// than a batch is.
    ///
    /// # Errors
    /// As those of [`Receiver::receive_connected`].
    pub fn receive_one(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.datagrams.clear();
        let buffer = &mut self.buffers[..BUFFER_BYTES];
        let (length, _) = rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT)?;
        self.datagrams.push(Place {
            message: 0,
            start: 0,
            length: length as u32,
        });
        Ok(())
    }

    /// How many datagrams were received last.
    pub fn count(&self) -> usize {
        self.datagrams.len()
    }

    /// The payload of the datagram at `index`, below [`Receiver::count`].
    pub fn payload(&self, index: usize) -> &[u8] {
        let Place { start, length, .. } = self.datagrams[index];
        &self.buffers[start as usize..][..length as usize]
    }

    /// Fills `payloads` from the datagram at `first` on, and returns them.
    pub fn payloads<'a, 'b>(
        &'a self,
        first: usize,
        payloads: &'b mut [&'a [u8]],
    ) -> &'b [&'a [u8]] {
        for (index, payload) in (first..).zip(&mut *payloads) {
            *payload = self.payload(index);
        }
        payloads
    }

    /// The datagram at `index`, below [`Receiver::count`], after [`Receiver::receive`].
    pub fn datagram(&self, index: usize) -> Datagram<'_> {
        let message = self.datagrams[index].message as usize;
        let Parts {
            messages,
            names,
            controls,
            ..
        } = &*self.parts;
        Datagram {
            payload: self.payload(index),
            source: socket_addr(&names[message]),
            local_ip: local_ip(control_messages(
                &messages.headers[message],
                &controls[message],
            )),
        }
    }

    /// How many datagrams the socket that was read last by [`Receiver::receive`] had no room for
    /// since it was made, modulo 2^32; `None` where it has not said anything new.
    pub fn lost(&self) -> Option<u32> {
        self.lost
    }
}

/// The control messages that came with `message`.
fn control_messages<'a>(message: &libc::mmsghdr, control: &'a Control) -> &'a [u8] {
    &control.0[..message.msg_hdr.msg_controllen.min(CONTROL_BYTES)]
}

/// Notes where the datagrams of one message stand: all but the last have the size that it came with.
fn take_apart(datagrams: &mut Vec<Place>, index: usize, message: &libc::mmsghdr, control: &[u8]) {
    let total = message.msg_len as usize;
    let size = segment_size(control).filter(|size| *size > 0);
    let size = size.unwrap_or(total).min(total);
    let place = |offset: usize| Place {
        message: index as u32,
        start: (index * BUFFER_BYTES + offset) as u32,
        length: size.min(total - offset) as u32,
    };
    if size == total {
        datagrams.push(place(0));
    } else {
        datagrams.extend((0..total).step_by(size).map(place));
    }
}

impl Messages {
    fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for message in &mut self.headers[..self.used] {
            message.msg_hdr.msg_namelen = self.name_length;
            message.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        self.used = 0;
        self.used = receive_into(socket, &mut self.headers)?;
        Ok(self.used)
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
