//! Checksummed traffic that goes on while a test changes things, and counts what fails.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use testkit::client::{connect, exchange_streams};
use testkit::{LONG, until};

/// The longest stream of one session, each way.
const LONGEST: u64 = 60_000;

/// Sessions one after the other from several threads, against backends of
/// [`testkit::Manner::Duplex`].
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Read while a client connects, so that a change of address waits for those connects.
    addr: RwLock<SocketAddr>,
    stopping: AtomicBool,
    sessions: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Traffic {
    pub fn start(addr: SocketAddr, clients: u64) -> Traffic {
        let shared = Arc::new(Shared {
            addr: RwLock::new(addr),
            stopping: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let clients = (0..clients).map(|client| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run(client))
        });
        let clients = clients.collect();
        Traffic { shared, clients }
    }

    /// Sessions that have ended so far.
    pub fn sessions(&self) -> u64 {
        self.shared.sessions.load(Relaxed)
    }

    /// Awaits that `more` sessions have ended from now on.
    #[track_caller]
    pub fn await_sessions(&self, more: u64) {
        let enough = self.sessions() + more;
        until("traffic goes on", LONG, || {
            (self.sessions() >= enough).then_some(())
        });
    }

    /// Lets nobody connect while `change` runs; from then on clients ask `addr`. Those that have
    /// connected may still wait to be accepted.
    pub fn move_to(&self, addr: SocketAddr, change: impl FnOnce()) {
        let mut current = self.shared.addr.write().expect("no holder panics");
        change();
        *current = addr;
    }

    /// Ends the traffic; every session that was begun is finished.
    ///
    /// # Panics
    /// Where any session failed, or where there was none.
    #[track_caller]
    pub fn stop_without_failure(self) -> u64 {
        self.shared.stopping.store(true, Relaxed);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let failures = self.shared.failures.lock().expect("no holder panics");
        let sessions = self.shared.sessions.load(Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {sessions} sessions failed, the first: {}",
            failures.len(),
            failures[0]
        );
        assert!(sessions > 0, "there was no traffic");
        sessions
    }
}

impl Shared {
    fn run(&self, client: u64) {
        let mut seed = client << 32;
        while !self.stopping.load(Relaxed) {
            seed += 1;
            let exchanged = self
                .connect()
                .and_then(|stream| exchange_streams(stream, seed, LONGEST));
            if let Err(failure) = exchanged {
                self.failures
                    .lock()
                    .expect("no holder panics")
                    .push(failure);
            }
            self.sessions.fetch_add(1, Relaxed);
        }
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let addr = self.addr.read().expect("no holder panics");
        connect(*addr).map_err(|error| format!("connect to {addr}: {error}"))
    }
}
