//! One probe of one backend, on the main thread's runtime.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use contract::config::{LocalAddresses, is_own_listener};
use contract::health::{HttpProbe, Probe, ProbeKind};
use contract::state_reason::ProbeFailure;
use contract::{BackendAddr, Listener};
use proxy_core::health::Outcome;
use proxy_engine::connect::{is_connected_to_itself, is_shortage, reset_on_close, socket_for};
use proxy_engine::own_address::is_of_this_host;
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

/// The most bytes of an answer that are looked at, of a datagram too.
const MOST_ANSWER: usize = 16 << 10;
/// A status line is complete within so many bytes.
const MOST_STATUS_LINE: usize = 1024;
/// The most bytes after an answer that are taken so that the close is no reset.
const MOST_REST: usize = 1 << 20;
/// How long a server that was asked to close may take before our side closes first.
const CLOSE_PATIENCE: Duration = Duration::from_millis(250);

/// Where a probe of `addr` goes.
pub fn target(addr: BackendAddr, probe: &Probe) -> SocketAddr {
    SocketAddr::new(addr.ip(), probe.port.unwrap_or(addr.port()))
}

/// The listener of this proxy that a probe of `target` would reach, which would tell of this proxy and
/// not of the backend. Asks the kernel only where a port is the same.
pub fn own_listener(
    target: SocketAddr,
    kind: ProbeKind,
    listeners: &[Listener],
) -> Option<SocketAddr> {
    let takes = |listener: &&Listener| listener.takes_probe(kind) && listener.port == target.port();
    let mut listeners = listeners.iter().filter(takes).peekable();
    listeners.peek()?;
    let local = LocalAddresses(
        is_of_this_host(target)
            .then_some(target.ip())
            .into_iter()
            .collect(),
    );
    let target = BackendAddr::new(target.ip(), target.port());
    let mut addresses = listeners.flat_map(Listener::addrs);
    addresses.find(|listen| is_own_listener(target, *listen, &local))
}

/// Makes one probe. Ends within its time-out, whatever the backend does, and does not wait for the close
/// of its connection, which changes nothing of the verdict.
pub async fn probe(target: SocketAddr, probe: &Probe) -> (Outcome, Option<Closing>) {
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(probe.timeout_ms);
    match tokio::time::timeout_at(deadline, attempt(target, probe)).await {
        Err(_) => (Outcome::Failed(ProbeFailure::TimedOut), None),
        Ok((verdict, left)) => {
            let latency_us = begun.elapsed().as_micros() as u64;
            let outcome = verdict.map_or_else(|failed| failed, |()| Outcome::Passed { latency_us });
            (outcome, left.map(|left| Closing { left, deadline }))
        }
    }
}

/// What is left to do of a probe.
pub struct Closing {
    left: Left,
    deadline: Instant,
}

impl Closing {
    /// Closes the connection, by the end of the probe's time-out.
    pub async fn run(self) {
        // Who has not let it be closed by then is cut off.
        let _ = tokio::time::timeout_at(self.deadline, self.left.close()).await;
    }
}

/// The connection that a probe has left, and how it ends. No way resets a connection that the
/// server's program has accepted, as long as the server ends what it sends: a reset is an error there,
/// which is logged, counted, or the end of the program.
enum Left {
    /// Its program may know of it.
    Used(TcpStream),
    /// The server has been asked to close behind its answer.
    ClosedByServer(TcpStream),
}

impl Left {
    async fn close(self) {
        match self {
            Left::Used(stream) => close_in_order(stream).await,
            Left::ClosedByServer(mut stream) => {
                // Who closes first keeps the port for a minute (TIME_WAIT).
                let rest = take_rest(&mut stream);
                if tokio::time::timeout(CLOSE_PATIENCE, rest).await.is_err() {
                    close_in_order(stream).await;
                }
            }
        }
    }
}

/// Takes back a connection that the server's program has not been told of: the reset overtakes the
/// last segment of the handshake, see [`connect_quietly`]. Where the kernel has sent that one already
/// (it waits for 200 ms at most, and less where a route says so), an orderly close is left. At once, since
/// the kernel does not wait.
fn take_back(stream: TcpStream) -> Option<Left> {
    match proxy_sys::handshake::has_answered(stream.as_fd()) {
        // A system that cannot tell is not relied on.
        Ok(true) | Err(_) => Some(Left::Used(stream)),
        Ok(false) => {
            reset_on_close(&stream);
            None
        }
    }
}

/// Says that nothing more comes, and takes what the server still sends: unread bytes would make the
/// close a reset (RFC 2525, 2.17).
async fn close_in_order(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        take_rest(&mut stream).await;
    }
}

/// Reads to the end, of as much as a server may reasonably send.
async fn take_rest(stream: &mut TcpStream) {
    let mut rest = stream.take(MOST_REST as u64);
    // An error is an end, too.
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

async fn attempt(target: SocketAddr, probe: &Probe) -> (Result<(), Outcome>, Option<Left>) {
    let send = probe.send.as_deref().unwrap_or_default();
    let expect = probe.expect.as_deref().unwrap_or_default();
    let connected = match probe.kind {
        ProbeKind::Off => return (Err(Outcome::Inconclusive), None),
        ProbeKind::Udp => return (ask(target, send, expect).await, None),
        ProbeKind::Tcp => connect_quietly(target).await,
        ProbeKind::SendExpect | ProbeKind::Http => {
            TcpStream::connect(target).await.map_err(outcome_of)
        }
    };
    let mut stream = match connected.and_then(|stream| refuse_itself(stream, target)) {
        Ok(stream) => stream,
        Err(outcome) => return (Err(outcome), None),
    };
    match probe.kind {
        ProbeKind::Http => {
            let verdict = get(&mut stream, target, &probe.http).await;
            (verdict, Some(Left::ClosedByServer(stream)))
        }
        ProbeKind::SendExpect => {
            let verdict = send_and_expect(&mut stream, send, expect).await;
            (verdict, Some(Left::Used(stream)))
        }
        ProbeKind::Off | ProbeKind::Tcp | ProbeKind::Udp => (Ok(()), take_back(stream)),
    }
}

/// Connects without telling the server's program. With `TCP_QUICKACK` off before the connect, the
/// kernel holds the last ACK of the handshake back for up to 200 ms, so that data may go along
/// (tcp(7); `tcp_rcv_synsent_state_process` of Linux). The SYN-ACK completes our side meanwhile, and the
/// server's side is a request that only the kernel knows of. haproxy's `check` does the same.
async fn connect_quietly(target: SocketAddr) -> Result<TcpStream, Outcome> {
    let socket =
        socket_for(target, SocketType::STREAM).map_err(|error| outcome_of(error.into()))?;
    // Where it is not to be had, the close is an orderly one.
    let _ = sockopt::set_tcp_quickack(&socket, false);
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(target).await.map_err(outcome_of)
}

fn refuse_itself(stream: TcpStream, target: SocketAddr) -> Result<TcpStream, Outcome> {
    if is_connected_to_itself(&stream, target) {
        reset_on_close(&stream);
        return Err(Outcome::Failed(ProbeFailure::Refused));
    }
    Ok(stream)
}

async fn send_and_expect(
    stream: &mut TcpStream,
    send: &[u8],
    expect: &[u8],
) -> Result<(), Outcome> {
    stream.write_all(send).await.map_err(outcome_of)?;
    let mut answer = Vec::new();
    while !holds(&answer, expect) {
        if answer.len() >= MOST_ANSWER {
            return Err(Outcome::Failed(ProbeFailure::Unexpected));
        }
        let count = stream.read_buf(&mut answer).await.map_err(outcome_of)?;
        if count == 0 {
            let failure = match answer.is_empty() {
                true => ProbeFailure::Closed,
                false => ProbeFailure::Unexpected,
            };
            return Err(Outcome::Failed(failure));
        }
    }
    Ok(())
}

async fn get(stream: &mut TcpStream, target: SocketAddr, http: &HttpProbe) -> Result<(), Outcome> {
    let host = match &http.host {
        Some(host) => host.clone(),
        None => target.to_string(),
    };
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: wicketgate-probe/{version}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
        http.path
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(outcome_of)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') {
        let count = stream.read_buf(&mut answer).await.map_err(outcome_of)?;
        if count == 0 && answer.is_empty() {
            return Err(Outcome::Failed(ProbeFailure::Closed));
        }
        if count == 0 || answer.len() > MOST_STATUS_LINE {
            return Err(Outcome::Failed(ProbeFailure::NotHttp));
        }
    }
    let (lowest, highest) = http.status;
    match status_of(&answer) {
        None => Err(Outcome::Failed(ProbeFailure::NotHttp)),
        Some(status) if (lowest..=highest).contains(&status) => Ok(()),
        Some(status) => Err(Outcome::Failed(ProbeFailure::HttpStatus { status })),
    }
}

/// The status of a status line (RFC 9112, 4): `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let [_minor, b' ', digits @ ..] = rest else {
        return None;
    };
    let (digits, after) = digits.split_at_checked(3)?;
    let ends = after.first().is_some_and(|byte| b" \r\n".contains(byte));
    let status = str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && digits.iter().all(u8::is_ascii_digit)).then_some(status)
}

async fn ask(target: SocketAddr, send: &[u8], expect: &[u8]) -> Result<(), Outcome> {
    let any = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await.map_err(outcome_of)?;
    socket.connect(target).await.map_err(outcome_of)?;
    if is_connected_to_itself(&socket, target) {
        return Err(Outcome::Failed(ProbeFailure::Refused));
    }
    socket.send(send).await.map_err(outcome_of)?;
    let mut answer = Vec::with_capacity(MOST_ANSWER);
    // The socket is new and connected, so nothing but the answer can arrive.
    socket.recv_buf(&mut answer).await.map_err(outcome_of)?;
    match holds(&answer, expect) {
        true => Ok(()),
        false => Err(Outcome::Failed(ProbeFailure::Unexpected)),
    }
}

/// Whether `expect` stands anywhere in `answer`; nothing stands everywhere.
fn holds(answer: &[u8], expect: &[u8]) -> bool {
    expect.is_empty() || answer.windows(expect.len()).any(|part| part == expect)
}

/// What an error says of the backend; nothing, where it is about ourselves.
fn outcome_of(error: io::Error) -> Outcome {
    use io::ErrorKind;
    if Errno::from_io_error(&error).is_some_and(is_shortage) {
        return Outcome::Inconclusive;
    }
    Outcome::Failed(match error.kind() {
        ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        ErrorKind::TimedOut => ProbeFailure::TimedOut,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => ProbeFailure::Closed,
        _ => ProbeFailure::Unreachable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_a_status_line_alone() {
        let cases: [(&[u8], Option<u16>); 8] = [
            (b"HTTP/1.1 200 OK\r\n", Some(200)),
            (b"HTTP/1.0 503\n", Some(503)),
            (b"HTTP/1.1 2000 OK\r\n", None),
            (b"HTTP/1.1 20\r\n", None),
            (b"HTTP/1.1 +20 \r\n", None),
            (b"HTTP/2 200\r\n", None),
            (b"220 smtp\r\n", None),
            (b"\n", None),
        ];
        for (answer, status) in cases {
            assert_eq!(status_of(answer), status, "{answer:?}");
        }
    }

    #[test]
    fn what_is_expected_may_stand_anywhere() {
        assert!(holds(b"+PONG\r\n", b"PONG"));
        assert!(holds(b"", b""));
        assert!(!holds(b"PON", b"PONG"));
        assert!(!holds(b"PO NG", b"PONG"));
    }

    #[test]
    fn a_probe_that_would_reach_this_proxy_is_known() {
        let listener = |addr: &str| Listener {
            udp: false,
            ..Listener::new(
                contract::Name::default(),
                addr.parse().expect("an address"),
                0,
            )
        };
        for (listen, target, is_own) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.9:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            // TEST-NET-1: the address of nobody.
            ("0.0.0.0:80", "192.0.2.1:80", false),
        ] {
            let (listeners, target) = ([listener(listen)], target.parse().expect("an address"));
            let found = |kind| own_listener(target, kind, &listeners).is_some();
            assert_eq!(found(ProbeKind::Tcp), is_own, "{listen} {target}");
            assert!(!found(ProbeKind::Udp), "{listen} takes no datagram");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_server_knows_of_is_closed_in_order() {
        use std::io::{Read as _, Write as _};
        let unused = |stream| take_back(stream).expect("its program knows of it");
        for left in [unused, Left::Used, Left::ClosedByServer] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let addr = listener.local_addr().expect("it is bound");
            let stream = TcpStream::connect(addr).await.expect("it listens");
            let (mut server, _) = listener.accept().expect("a client came");
            let server = std::thread::spawn(move || {
                server.write_all(b"220 speaks first\r\n")?;
                server.read(&mut [0])
            });
            stream.readable().await.expect("it has spoken");
            left(stream).close().await;
            let ended = server.join().expect("it does not panic");
            assert_eq!(ended.expect("no reset"), 0);
        }
    }

    #[test]
    fn an_error_of_our_own_is_no_word_on_the_backend() {
        for (errno, expected) in [
            (Errno::MFILE, Outcome::Inconclusive),
            (Errno::ADDRNOTAVAIL, Outcome::Inconclusive),
            (Errno::CONNREFUSED, Outcome::Failed(ProbeFailure::Refused)),
            (
                Errno::HOSTUNREACH,
                Outcome::Failed(ProbeFailure::Unreachable),
            ),
            (Errno::CONNRESET, Outcome::Failed(ProbeFailure::Closed)),
            (Errno::TIMEDOUT, Outcome::Failed(ProbeFailure::TimedOut)),
        ] {
            assert_eq!(outcome_of(errno.into()), expected);
        }
    }
}
