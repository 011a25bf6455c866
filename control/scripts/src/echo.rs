//! A server over TCP and UDP on one port that answers with its own name, so that whoever asks
//! through the proxy sees which backend was chosen.
//!
//! TCP: the line `NAME` on accept, so that a client that says nothing learns it too; then each line
//! received, back as `NAME: LINE`. UDP: each datagram, back as `NAME: DATAGRAM`.
//! A thread a session, their number bounded; it is a thing to look at, not to measure.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Sessions at once; whoever comes beyond is told the name and let go.
const MAX_SESSIONS: usize = 512;
/// A line longer than this is answered in parts.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The largest UDP payload over IPv4.
const MAX_DATAGRAM_BYTES: usize = 65_507;
/// A peer that takes nothing for this long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Both sockets, bound to one address.
pub struct EchoServer {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl EchoServer {
    /// Binds both. With port 0 the kernel chooses one that is free for both.
    pub fn bind(addr: SocketAddr) -> io::Result<EchoServer> {
        // A port that is free for TCP may be taken for UDP, seldom twice in a row.
        const ATTEMPTS: usize = 16;
        let mut attempt = 1;
        loop {
            let tcp = TcpListener::bind(addr)?;
            match UdpSocket::bind(tcp.local_addr()?) {
                Ok(udp) => return Ok(EchoServer { tcp, udp }),
                Err(error) if addr.port() != 0 || attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves on threads of its own for as long as the process lives.
    pub fn serve(self, name: &str) -> io::Result<()> {
        let EchoServer { tcp, udp } = self;
        let tcp_name: Arc<str> = name.into();
        let udp_name = name.to_owned();
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || accept(&tcp, &tcp_name))?;
        thread::Builder::new()
            .name("datagrams".into())
            .spawn(move || answer_datagrams(&udp, &udp_name))?;
        Ok(())
    }
}

fn accept(listener: &TcpListener, name: &Arc<str>) {
    // What is alive holds a clone of this; its count is the number of sessions plus one.
    let sessions = Arc::new(());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, mostly: one that ends soon makes room, and a spin helps nobody.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (name, session) = (Arc::clone(name), Arc::clone(&sessions));
        let is_full = Arc::strong_count(&sessions) > MAX_SESSIONS + 1;
        if is_full {
            let _ = (&stream).write_all(format!("{name}\n").as_bytes());
            continue;
        }
        // A thread that cannot be had closes the stream by dropping it.
        let _ = thread::Builder::new()
            .name("session".into())
            .spawn(move || {
                let _ = answer_lines(stream, &name);
                drop(session);
            });
    }
}

/// Ends at the peer's end of stream, after everything was answered, or at the first error.
fn answer_lines(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut answer = Vec::new();
    loop {
        answer.clear();
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(b": ");
        let length = (&mut lines)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut answer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&answer)?;
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES + 1];
    let mut answer = Vec::with_capacity(MAX_DATAGRAM_BYTES);
    loop {
        // An error is an earlier answer that nobody took (ICMP); the socket works on.
        let Ok((length, from)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        answer.clear();
        answer.extend_from_slice(name.as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(&datagram[..length]);
        // The name makes the largest datagrams too large to answer whole.
        answer.truncate(MAX_DATAGRAM_BYTES);
        let _ = socket.send_to(&answer, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;

    const DEADLINE: Option<Duration> = Some(Duration::from_secs(10));

    fn start() -> SocketAddr {
        let server = EchoServer::bind("127.0.0.1:0".parse().expect("a literal")).expect("bound");
        let addr = server.addr().expect("bound");
        server.serve("gpu-7").expect("threads");
        addr
    }

    fn connect(addr: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(addr).expect("connected");
        stream.set_read_timeout(DEADLINE).expect("set");
        stream
    }

    #[test]
    fn tcp_names_itself_at_once_and_then_before_each_line() {
        let mut stream = connect(start());
        stream.write_all(b"one\ntwo\nrest").expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("to the end");
        assert_eq!(all, "gpu-7\ngpu-7: one\ngpu-7: two\ngpu-7: rest");
    }

    #[test]
    fn a_silent_client_learns_the_name() {
        let mut line = String::new();
        BufReader::new(connect(start()))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "gpu-7\n");
    }

    #[test]
    fn a_line_without_end_is_answered_in_bounded_parts() {
        let mut stream = connect(start());
        let sent = vec![b'x'; 3 * MAX_LINE_BYTES as usize];
        let mut writer = stream.try_clone().expect("cloned");
        let sending = thread::spawn(move || {
            writer.write_all(&sent).expect("sent");
            writer.shutdown(Shutdown::Write).expect("half closed");
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("to the end");
        sending.join().expect("sent");
        let echoed = all.iter().filter(|byte| **byte == b'x').count();
        assert_eq!(echoed, 3 * MAX_LINE_BYTES as usize);
    }

    #[test]
    fn udp_names_itself_before_each_datagram() {
        let addr = start();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.set_read_timeout(DEADLINE).expect("set");
        let check = |sent: &[u8], expected: &[u8]| {
            socket.send_to(sent, addr).expect("sent");
            let mut answer = vec![0; MAX_DATAGRAM_BYTES + 1];
            let length = socket.recv(&mut answer).expect("an answer");
            assert!(answer[..length] == *expected, "{} bytes", sent.len());
        };
        check(b"", b"gpu-7: ");
        check(b"hello", b"gpu-7: hello");
        let largest = [b'x'; MAX_DATAGRAM_BYTES];
        let whole = [b"gpu-7: ".as_slice(), &largest].concat();
        check(&largest, &whole[..MAX_DATAGRAM_BYTES]);
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let addr = start();
        assert!(EchoServer::bind(addr).is_err());
    }
}
