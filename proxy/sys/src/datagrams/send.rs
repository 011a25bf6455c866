//! Sending: one by one, several with one `sendmmsg(2)`, or several as one that the kernel cuts apart.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use rustix::net::SendFlags;
use socket2::SockAddr;

use super::control::{CONTROL_BYTES, Control, write_control, write_local_ip};
use super::{BATCH, MOST_SEGMENTS};

/// Where datagrams go that are sent on an unconnected socket.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub to: SocketAddr,
    /// The local address that they leave from; `None`: the kernel's choice.
    pub from: Option<IpAddr>,
}

/// The most bytes of one segmented send: what the headers leave of 65,535.
const MOST_SEGMENTED_BYTES: usize = 65_000;

/// Sends payloads, without blocking. On a connected socket the route is `None`. Returns how many were
/// sent with one system call, at least one; the caller goes on with the rest.
///
/// Payloads of equal size travel through the kernel as one and are cut apart at its end
/// (`UDP_SEGMENT`, udp(7)), where the path allows it.
///
/// # Errors
/// That of the first payload; those after it were not tried.
pub fn send(socket: BorrowedFd<'_>, payloads: &[&[u8]], route: Option<Route>) -> io::Result<usize> {
    let [first, _, ..] = payloads else {
        return send_one(socket, payloads[0], route).map(|()| 1);
    };
    let mut message = Message::new(route);
    let segments = segments_of(payloads);
    if segments > 1 {
        let sent = message.send(socket, &payloads[..segments], Some(first.len() as u16));
        match sent {
            Ok(()) => return Ok(segments),
            // Larger than the path's MTU, or a path that cannot segment: one by one, then.
            Err(error) if is_about_segmenting(&error) => {}
            Err(error) => return Err(error),
        }
    }
    message.send_each(socket, &payloads[..payloads.len().min(BATCH)])
}

/// A payload alone takes a system call that asks for less than `sendmsg(2)` does.
fn send_one(socket: BorrowedFd<'_>, payload: &[u8], route: Option<Route>) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match route {
        None => rustix::net::send(socket, payload, flags)?,
        Some(Route { to, from: None }) => rustix::net::sendto(socket, payload, flags, &to)?,
        Some(Route { from: Some(_), .. }) => {
            return Message::new(route).send(socket, &[payload], None);
        }
    };
    Ok(())
}

/// How many payloads from the first on fit one segmented send: those of its size, and one that is
/// smaller after them.
fn segments_of(payloads: &[&[u8]]) -> usize {
    let size = payloads[0].len();
    if size == 0 {
        return 0;
    }
    let most = (MOST_SEGMENTED_BYTES / size).min(MOST_SEGMENTS);
    let candidates = &payloads[..payloads.len().min(most)];
    let equal = candidates
        .iter()
        .take_while(|payload| payload.len() == size);
    let equal = equal.count();
    let ends_it = |payload: &&[u8]| (1..size).contains(&payload.len());
    equal + usize::from(candidates.get(equal).is_some_and(ends_it))
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
        let mut vectors = [EMPTY_VECTOR; MOST_SEGMENTS];
        let vector_count = gather(&mut vectors, payloads);
        let mut control = self.control;
        let mut control_length = self.control_length;
        if let Some(segment) = segment {
            let rest = &mut control.0[control_length..];
            let bytes = segment.to_ne_bytes();
            control_length += write_control(rest, libc::SOL_UDP, libc::UDP_SEGMENT, &bytes);
        }
        let mut header = self.header();
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vector_count as _;
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

/// Describes `payloads`, in order; those that stand one behind the other in memory, as the kernel
/// hands them over, as one. Returns how many vectors that took.
fn gather(vectors: &mut [libc::iovec; MOST_SEGMENTS], payloads: &[&[u8]]) -> usize {
    let mut count = 0;
    let mut end = ptr::null();
    for payload in payloads {
        let range = payload.as_ptr_range();
        if count > 0 && range.start == end {
            vectors[count - 1].iov_len += payload.len();
        } else {
            vectors[count] = vector_of(payload);
            count += 1;
        }
        end = range.end;
    }
    count
}

fn vector_of(payload: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    }
}
