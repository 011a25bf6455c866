//! A backend for very many short sessions: it serves them one after the other on a few threads,
//! since a thread for each would cost more than the proxy. It echoes what comes first, and closes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use testkit::client::connect;

/// Longer than a session of this kind may take.
const PATIENCE: Duration = Duration::from_secs(10);
const THREADS: usize = 4;
const MESSAGE: &[u8] = b"sixteen bytes...";

/// Starts one; it ends with the process.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    for _ in 0..THREADS {
        let listener = listener.try_clone().expect("a descriptor is free");
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                // Whatever goes wrong is told at the client's end.
                let _ = serve(&mut client);
            }
        });
    }
    addr
}

fn serve(client: &mut TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut message = [0; MESSAGE.len()];
    client.read_exact(&mut message)?;
    client.write_all(&message)
}

/// One session through `listen`: a message there and back, and the end.
pub fn ask(listen: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(listen)?;
    stream.write_all(MESSAGE)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    match back == MESSAGE {
        true => Ok(()),
        false => Err(std::io::Error::other(format!(
            "{} bytes came back",
            back.len()
        ))),
    }
}
