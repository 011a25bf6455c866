//! Sending: one by one, several with one `sendmmsg(2)`, or several as one that the kernel cuts apart.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use super::BATCH;
use super::control::{CONTROL_BYTES, Control, write_control, write_local_ip};

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
