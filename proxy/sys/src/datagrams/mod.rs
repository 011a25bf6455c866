//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, with the local address that a datagram
//! came to, and that its answer must leave from (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542).

mod control;
mod receive;
mod send;

pub use receive::{Datagram, Receiver};
pub use send::{Route, send};

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The most messages of one system call.
pub const BATCH: usize = 32;
/// The most datagrams that the kernel cuts one message into (`UDP_MAX_SEGMENTS` before Linux 6.9).
pub const MOST_SEGMENTS: usize = 64;
/// The largest UDP payload over IPv4 is 65,507 bytes, over IPv6 without jumbograms 65,527.
const BUFFER_BYTES: usize = 65_536;
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

/// Lets the kernel hand over datagrams of one sender and size as one (`UDP_GRO`, udp(7)), which
/// [`Receiver`] takes apart again. Where it cannot, datagrams come one by one as ever.
pub fn request_coalescing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_on(socket, libc::SOL_UDP, libc::UDP_GRO)
}

/// Asks the kernel to tell how many datagrams found the queue of `socket` full
/// (`SO_RXQ_OVFL`, socket(7)); see [`Receiver::lost`].
pub fn request_lost_count(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_on(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr, UdpSocket};
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
            receiver
                .receive(server.as_fd())
                .expect("arrived on loopback");
            assert_eq!(receiver.count(), 1);
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
        let may_have_more = receiver.receive(server.as_fd()).expect("arrived");
        assert!(may_have_more && receiver.count() == BATCH);
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
        // One by one, and as the kernel hands them over together.
        for coalesces in [false, true] {
            if coalesces {
                request_coalescing(server.as_fd()).expect("Linux 5.0 or later");
            }
            let mut rest: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            while !rest.is_empty() {
                let sent = send(client.as_fd(), &rest, None).expect("sent");
                rest.drain(..sent);
            }
            let mut receiver = Receiver::new();
            receiver
                .receive_connected(server.as_fd())
                .expect("arrived on loopback");
            let lengths: Vec<_> = (0..receiver.count())
                .map(|index| receiver.payload(index).len())
                .collect();
            let got = (0..receiver.count()).map(|index| receiver.payload(index));
            assert!(got.eq(payloads.iter().map(Vec::as_slice)), "{lengths:?}");
        }
    }

    #[test]
    fn many_datagrams_come_as_one_message_and_go_on_as_one() {
        let (first, first_addr) = bound("127.0.0.1:0");
        let (second, second_addr) = bound("127.0.0.1:0");
        let (sender, _) = bound("127.0.0.1:0");
        for socket in [&first, &second] {
            request_coalescing(socket.as_fd()).expect("Linux 5.0 or later");
        }
        let payloads: Vec<Vec<u8>> = (0..40).map(|number| vec![number; 1_200]).collect();
        let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let to = |to| Some(Route { to, from: None });
        assert_eq!(
            send(sender.as_fd(), &slices, to(first_addr)).expect("sent"),
            40
        );
        let mut receiver = Receiver::new();
        for (socket, next) in [(&first, Some(second_addr)), (&second, None)] {
            receiver.receive(socket.as_fd()).expect("arrived");
            let got: Vec<&[u8]> = (0..receiver.count())
                .map(|at| receiver.payload(at))
                .collect();
            assert!(got == slices);
            assert!(
                got.iter()
                    .all(|payload| payload.as_ptr() >= got[0].as_ptr())
            );
            if let Some(next) = next {
                assert_eq!(send(first.as_fd(), &got, to(next)).expect("sent"), 40);
            }
        }
    }

    #[test]
    fn datagrams_that_found_the_queue_full_are_told() {
        let (server, addr) = bound("127.0.0.1:0");
        request_lost_count(server.as_fd()).expect("Linux");
        rustix::net::sockopt::set_socket_recv_buffer_size(&server, 4096).expect("the least");
        let (client, _) = bound("127.0.0.1:0");
        const SENT: u32 = 200;
        for _ in 0..SENT {
            client.send_to(&[7; 512], addr).expect("loopback takes it");
        }
        let mut receiver = Receiver::new();
        let mut arrived = 0;
        while receiver.receive(server.as_fd()).is_ok() {
            arrived += receiver.count() as u32;
        }
        // It is told with the next datagram that finds room.
        client.send_to(b"last", addr).expect("loopback takes it");
        receiver
            .receive(server.as_fd())
            .expect("there is room again");
        assert!(arrived < SENT);
        assert_eq!(receiver.lost(), Some(SENT - arrived));
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
