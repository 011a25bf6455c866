//! A backend that holds thousands of idle sessions in one thread each way, and echoes short ones.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use testkit::client::connect;
use testkit::pattern::Pattern;
use testkit::{LONG, until};

/// What a client says first: hold me, or echo this and close.
const HOLD: u8 = b'H';
const ECHO: u8 = b'E';
/// What is echoed of a held session in the end.
const WORD: usize = 8;
const THREADS: usize = 2;

pub struct Holder {
    pub addr: SocketAddr,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Holder {
    /// Starts one; it ends with the process.
    pub fn start() -> Holder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let held = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..THREADS {
            let (listener, held) = (listener.try_clone(), Arc::clone(&held));
            let listener = listener.expect("a descriptor is free");
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    // Whatever goes wrong is told at the client's end.
                    let _ = serve(client, &held);
                }
            });
        }
        Holder { addr, held }
    }

    /// Opens `count` sessions through `listen` that are held; not more at a time than an accept queue
    /// has room for.
    pub fn open(&self, listen: SocketAddr, count: usize) -> Vec<TcpStream> {
        const AT_A_TIME: usize = 64;
        let before = self.held();
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            for _ in 0..AT_A_TIME.min(count - streams.len()) {
                let mut stream = connect(listen).expect("a session is served");
                stream.write_all(&[HOLD]).expect("sent");
                streams.push(stream);
            }
            until("all are held", LONG, || {
                (self.held() >= before + streams.len()).then_some(())
            });
        }
        streams
    }

    fn held(&self) -> usize {
        self.held.lock().expect("no holder panics").len()
    }

    /// How many of the held sessions do not live: a word of each goes there and back.
    pub fn count_cut(&self, clients: &mut [TcpStream]) -> usize {
        for (number, client) in clients.iter_mut().enumerate() {
            // A session that was cut is told by what does not come back.
            let _ = client.write_all(&Pattern::bytes(number as u64, WORD));
        }
        for held in self.held.lock().expect("no holder panics").iter_mut() {
            let mut word = [0; WORD];
            let _ = held
                .read_exact(&mut word)
                .and_then(|()| held.write_all(&word));
        }
        let is_cut = |(number, client): &mut (usize, &mut TcpStream)| {
            let mut word = [0; WORD];
            let read = client.read_exact(&mut word);
            read.is_err() || word[..] != Pattern::bytes(*number as u64, WORD)
        };
        clients
            .iter_mut()
            .enumerate()
            .filter_map(|mut one| is_cut(&mut one).then_some(()))
            .count()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its threads stay, and would keep the sessions.
        self.held.lock().expect("no holder panics").clear();
    }
}

fn serve(mut client: TcpStream, held: &Mutex<Vec<TcpStream>>) -> std::io::Result<()> {
    client.set_read_timeout(Some(LONG))?;
    let mut first = [0];
    client.read_exact(&mut first)?;
    if first[0] == HOLD {
        held.lock().expect("no holder panics").push(client);
        return Ok(());
    }
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    client.write_all(&bytes)
}

/// A short session through `listen`: bytes there, a half-close, and the same bytes back.
pub fn echo(listen: SocketAddr, seed: u64) -> std::io::Result<()> {
    const LENGTH: usize = 3_000;
    let mut stream = connect(listen)?;
    let bytes = Pattern::bytes(seed, LENGTH);
    stream.write_all(&[ECHO])?;
    stream.write_all(&bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    match back == bytes {
        true => Ok(()),
        false => Err(std::io::Error::other(format!(
            "{} bytes came back",
            back.len()
        ))),
    }
}
