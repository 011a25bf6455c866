//! Backends that answer one request a connection, as fast or as badly as a test says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Accepts, reads what comes first and does with it as `serve` says; counts.
pub struct Scripted {
    pub addr: SocketAddr,
    served: Arc<AtomicU64>,
}

impl Scripted {
    /// Runs `serve` with each client that has sent something; it may block.
    pub fn start(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let served = Arc::new(AtomicU64::new(0));
        let (count, serve) = (Arc::clone(&served), Arc::new(serve));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                let (count, serve) = (Arc::clone(&count), Arc::clone(&serve));
                std::thread::spawn(move || {
                    let mut request = [0; 64];
                    if client.read(&mut request).is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Relaxed);
                        serve(&mut client);
                    }
                });
            }
        });
        Scripted { addr, served }
    }

    /// Answers after a while, and waits for the client to close.
    pub fn answering_after(delay: Duration) -> Scripted {
        Scripted::start(move |client| {
            std::thread::sleep(delay);
            let _ = client.write_all(b"answer");
            let _ = client.read(&mut [0; 64]);
        })
    }

    /// Requests so far.
    pub fn served(&self) -> u64 {
        self.served.load(Relaxed)
    }
}

/// One request on a connection of its own; whether it was answered.
#[track_caller]
pub fn ask(listen: SocketAddr) -> bool {
    let mut stream = testkit::client::connect(listen).expect("it listens");
    stream.write_all(b"request").expect("sent");
    stream.read(&mut [0; 64]).is_ok_and(|read| read > 0)
}
