//! One probe of one backend, on the main thread's runtime.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use contract::BackendAddr;
use contract::health::{HttpProbe, Probe, ProbeKind};
use proxy_core::health::{Outcome, ProbeFailure};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::connecting::{is_connected_to_itself, is_shortage, reset_on_close};

/// The most bytes of an answer that are looked at, of a datagram too.
const MOST_ANSWER: usize = 16 << 10;
/// A status line is complete within so many bytes.
const MOST_STATUS_LINE: usize = 1024;

/// Makes one probe. Ends within its time-out, whatever the backend does.
pub async fn probe(addr: BackendAddr, probe: &Probe) -> Outcome {
    let target = SocketAddr::new(addr.ip(), probe.port.unwrap_or(addr.port()));
    let begun = Instant::now();
    let timeout = Duration::from_millis(probe.timeout_ms);
    match tokio::time::timeout(timeout, attempt(target, probe)).await {
        Err(_) => Outcome::Failed(ProbeFailure::TimedOut),
        Ok(Err(outcome)) => outcome,
        Ok(Ok(())) => Outcome::Passed {
            latency_us: begun.elapsed().as_micros() as u64,
        },
    }
}

async fn attempt(target: SocketAddr, probe: &Probe) -> Result<(), Outcome> {
    let send = probe.send.as_deref().unwrap_or_default();
    let expect = probe.expect.as_deref().unwrap_or_default();
    match probe.kind {
        ProbeKind::Off => Err(Outcome::Inconclusive),
        ProbeKind::Tcp => connect_only(target).await,
        ProbeKind::SendExpect => send_and_expect(target, send, expect).await,
        ProbeKind::Http => get(target, &probe.http).await,
        ProbeKind::Udp => ask(target, send, expect).await,
    }
}

async fn connect(target: SocketAddr) -> Result<TcpStream, Outcome> {
    let stream = TcpStream::connect(target).await.map_err(outcome_of)?;
    if is_connected_to_itself(&stream, target) {
        reset_on_close(&stream);
        return Err(Outcome::Failed(ProbeFailure::Refused));
    }
    Ok(stream)
}

/// Closed by a reset: a probe a second of each backend would fill the table of those that wait out
/// their close (TIME_WAIT).
async fn connect_only(target: SocketAddr) -> Result<(), Outcome> {
    let stream = connect(target).await?;
    reset_on_close(&stream);
    Ok(())
}

async fn send_and_expect(target: SocketAddr, send: &[u8], expect: &[u8]) -> Result<(), Outcome> {
    let mut stream = connect(target).await?;
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

async fn get(target: SocketAddr, http: &HttpProbe) -> Result<(), Outcome> {
    let mut stream = connect(target).await?;
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
        Some(status) => Err(Outcome::Failed(ProbeFailure::Status(status))),
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
