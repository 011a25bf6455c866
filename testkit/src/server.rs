//! A scripted HTTP server: an inference engine, or anything else that is asked by path.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ports::free_address;
use crate::wait::BETWEEN_LOOKS;

/// How long a client may take to send its request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The largest request body that is read.
const MAX_BODY: u64 = 1 << 20;

/// How a path is answered; one that nobody has set, with 404.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    With {
        status: u16,
        body: String,
    },
    /// Not at all, until the server is dropped.
    Hang,
}

/// One request, as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: String,
}

/// A running server. Dropped, its port refuses.
#[derive(Debug)]
pub struct Server {
    pub addr: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    asked: Mutex<Vec<Asked>>,
    stopping: AtomicBool,
}

impl Server {
    pub fn start() -> Server {
        Server::start_at(free_address())
    }

    /// Starts one on an address that is known to be free, such as that of one that was dropped.
    pub fn start_at(addr: SocketAddr) -> Server {
        let listener = TcpListener::bind(addr).expect("a free port was asked for");
        let shared = Arc::new(Shared::default());
        let thread = {
            let listener = listener.try_clone().expect("a descriptor is free");
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept_all(&listener, &shared))
        };
        Server {
            addr,
            listener,
            shared,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Answers a path so from now on.
    pub fn answer(&self, path: &str, status: u16, body: &str) {
        let body = body.to_owned();
        self.reply(path, Reply::With { status, body });
    }

    pub fn reply(&self, path: &str, reply: Reply) {
        let mut replies = self.shared.replies.lock().expect("no holder panics");
        replies.insert(path.to_owned(), reply);
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no holder panics").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        // On Linux this wakes a thread that waits in accept(2).
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopping.load(Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        // A client that breaks off is its own test's affair.
        std::thread::spawn(move || serve(stream, &shared));
    }
}

/// Serves one request; `None` where the client broke off.
fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    let asked = read_request(&stream)?;
    let replies = shared.replies.lock().expect("no holder panics");
    let reply = replies.get(&asked.path).cloned();
    drop(replies);
    shared.asked.lock().expect("no holder panics").push(asked);
    let (status, body) = match reply {
        Some(Reply::With { status, body }) => (status, body),
        None => (404, String::new()),
        Some(Reply::Hang) => {
            while !shared.stopping.load(Relaxed) {
                std::thread::sleep(BETWEEN_LOOKS);
            }
            return None;
        }
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\nConnection: close");
    stream
        .write_all(format!("{head}\r\n\r\n{body}").as_bytes())
        .ok()
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = String::new();
    lines
        .take(length.min(MAX_BODY))
        .read_to_string(&mut body)
        .ok()?;
    Some(Asked { method, path, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;

    fn ask(addr: SocketAddr, request: Request) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(addr)?;
        let answer = request.exchange(&mut stream)?;
        Ok((answer.status, answer.text()))
    }

    #[test]
    fn it_answers_as_told_and_keeps_what_it_was_asked() {
        let server = Server::start();
        server.answer("/health", 503, "not yet");
        let get = |path| ask(server.addr, Request::new("GET", path)).expect("an answer");
        assert_eq!(get("/health"), (503, "not yet".into()));
        assert_eq!(get("/other").0, 404);
        server.answer("/health", 200, "");
        let post = Request::new("POST", "/health").body("abc");
        assert_eq!(ask(server.addr, post).expect("an answer").0, 200);
        let asked = server.asked();
        assert_eq!((asked.len(), asked[2].method.as_str()), (3, "POST"));
        assert_eq!(
            (asked[2].path.as_str(), asked[2].body.as_str()),
            ("/health", "abc")
        );

        server.reply("/health", Reply::Hang);
        let addr = server.addr;
        let hanging = std::thread::spawn(move || ask(addr, Request::new("GET", "/health")));
        crate::until("the request is there", crate::LONG, || {
            (server.asked().len() == 4).then_some(())
        });
        drop(server);
        assert!(hanging.join().expect("no panic").is_err());
        assert!(TcpStream::connect(addr).is_err(), "its port refuses");
    }
}
