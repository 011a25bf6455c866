//! Which socket of a `SO_REUSEPORT` group gets a datagram: always the same one for the same client.
//!
//! The kernel's own choice hashes the local address too, and for a socket bound to all addresses it
//! hashes none; a listener that moves from all addresses to one would hand half of its clients to
//! other workers, which do not know their flows. So a small classic BPF program (`linux/filter.h`,
//! `SO_ATTACH_REUSEPORT_CBPF`, socket(7)) hashes the client's address and port alone.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JA, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC,
    BPF_MOD, BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, sock_filter, sock_fprog,
};

/// Offsets from here on count from the IP header.
const IP_HEADER: u32 = libc::SKF_NET_OFF as u32;
/// Knuth's multiplicative hashing: 2^32 over the golden ratio.
const MULTIPLIER: u32 = 0x9E37_79B1;

/// Steers each datagram of the group that `socket` belongs to by its client, into one of the group's
/// first `sockets` in the order in which they were bound. Sets the program for the whole group.
///
/// A client behind an IPv4 header with options or an IPv6 one with extensions is steered by other
/// bytes of its headers, which for one client are the same ones each time.
pub fn by_client(socket: BorrowedFd<'_>, sockets: u32) -> io::Result<()> {
    let mut program = program(sockets);
    let attached = sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option value is one sock_fprog, whose filter points to as many instructions as it
    // says; the kernel copies both before the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const attached).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn program(sockets: u32) -> [sock_filter; 25] {
    let load = |size: u32, offset: u32| op(BPF_LD | size | BPF_ABS, IP_HEADER.wrapping_add(offset));
    let multiply = op(BPF_ALU | BPF_MUL | BPF_K, MULTIPLIER);
    let tax = op(BPF_MISC | BPF_TAX, 0);
    let xor_x = op(BPF_ALU | BPF_XOR | BPF_X, 0);
    let mut is_ipv6 = op(BPF_JMP | BPF_JEQ | BPF_K, 6);
    (is_ipv6.jt, is_ipv6.jf) = (4, 0);
    let to_mixing = op(BPF_JMP | BPF_JA, 12);
    [
        load(BPF_B, 0),
        op(BPF_ALU | BPF_RSH | BPF_K, 4),
        is_ipv6,
        // IPv4: the source address; the source port behind a header of 20 bytes.
        load(BPF_W, 12),
        tax,
        load(BPF_H, 20),
        to_mixing,
        // IPv6: the words of the source address folded; the source port behind 40 bytes.
        load(BPF_W, 8),
        tax,
        load(BPF_W, 12),
        xor_x,
        tax,
        load(BPF_W, 16),
        xor_x,
        tax,
        load(BPF_W, 20),
        xor_x,
        tax,
        // Here A is the port and X the address: mix, and choose.
        load(BPF_H, 40),
        multiply,
        xor_x,
        multiply,
        op(BPF_ALU | BPF_RSH | BPF_K, 16),
        op(BPF_ALU | BPF_MOD | BPF_K, sockets),
        op(BPF_RET | BPF_A, 0),
    ]
}

fn op(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd as _;

    const SOCKETS: usize = 3;

    fn group(addr: SocketAddr) -> Vec<UdpSocket> {
        let bind = |addr: SocketAddr| {
            let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None).expect("UDP");
            socket.set_reuse_port(true).expect("supported");
            socket.set_nonblocking(true).expect("supported");
            socket.bind(&addr.into()).expect("free or ours");
            UdpSocket::from(socket)
        };
        let first = bind(addr);
        let addr = first.local_addr().expect("bound");
        let mut sockets = vec![first];
        sockets.extend((1..SOCKETS).map(|_| bind(addr)));
        by_client(sockets[0].as_fd(), SOCKETS as u32).expect("Linux 4.5");
        sockets
    }

    /// Which socket of the group a datagram of `client` to `to` reaches.
    fn reached(sockets: &[UdpSocket], client: &UdpSocket, to: SocketAddr) -> usize {
        client.send_to(b"x", to).expect("sent");
        let holds_it = |socket: &UdpSocket| socket.recv(&mut [0; 8]).is_ok();
        sockets
            .iter()
            .position(holds_it)
            .expect("arrived on loopback")
    }

    #[test]
    fn a_client_reaches_the_same_socket_whatever_the_group_is_bound_to() {
        for (all, one, from) in [
            ("0.0.0.0:0", "127.0.0.1", "127.0.0.1:0"),
            ("[::]:0", "::1", "[::1]:0"),
            ("[::]:0", "127.0.0.1", "127.0.0.1:0"),
        ] {
            let wide = group(all.parse().expect("a literal"));
            let port = wide[0].local_addr().expect("bound").port();
            let to = SocketAddr::new(one.parse().expect("a literal"), port);
            let clients: Vec<UdpSocket> = (0..60)
                .map(|_| UdpSocket::bind(from).expect("bound"))
                .collect();
            let before: Vec<usize> = clients
                .iter()
                .map(|client| reached(&wide, client, to))
                .collect();
            let narrow = group(to);
            let after: Vec<usize> = clients
                .iter()
                .map(|client| reached(&narrow, client, to))
                .collect();
            assert_eq!(before, after, "{all} to {one}");
            for socket in 0..SOCKETS {
                let count = before.iter().filter(|reached| **reached == socket).count();
                assert!(count > 5, "socket {socket} got {count} of 60 at {all}");
            }
        }
    }
}
