//! Clients that are answered and strangers that are not, before the same backends.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::json;
use testkit::client::connect_from;
use testkit::without_probes;

use crate::proxy_bench::ProxyBench;

/// What a backend of [`picky`] answers.
pub const REQUEST: &[u8] = b"request";
/// What it closes on without a byte.
pub const GARBAGE: &[u8] = b"\x16\x03\x01 garbage";

/// Of the stranger.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 1);
/// Of everybody who sends requests, as behind a NAT.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 2);

/// What became of both.
#[derive(Debug)]
pub struct Figures {
    pub requests: usize,
    pub answered: usize,
    pub ejections: u64,
    /// The most that failures cost any backend, as `gpu_aware` reckons.
    pub failures: f64,
}

/// A backend that answers requests and closes on everything else; without `answers`, on everything.
pub fn picky(answers: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    // It ends with the test's process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 64];
            let count = client.read(&mut request).unwrap_or(0);
            if answers && &request[..count] == REQUEST {
                let _ = client.write_all(b"answer");
            }
        }
    });
    addr
}

/// Sends `bytes` from `client`; whether there was an answer.
pub fn say(client: Ipv4Addr, listen: SocketAddr, bytes: &[u8]) -> bool {
    let Ok(mut stream) = connect_from(client, listen) else {
        return false;
    };
    let sent = stream.write_all(bytes);
    sent.is_ok() && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

/// Four backends: a stranger alone at first, and then beside a client, which sends one request in
/// every `garbage` + 1 sessions.
pub fn play(algorithm: &str, requests: usize, garbage: usize) -> Figures {
    const ALONE: usize = 30;
    let backends = [(); 4].map(|()| picky(true));
    let settings = without_probes(json!({ "algorithm": algorithm }));
    let bench = ProxyBench::start(&backends, settings);
    let throw = |count: usize| {
        for _ in 0..count {
            say(STRANGER, bench.listen, GARBAGE);
        }
    };
    throw(ALONE);
    let ask = |_: &usize| {
        throw(garbage);
        say(CLIENT, bench.listen, REQUEST)
    };
    let answered = (0..requests).filter(ask).count();
    bench.proxy.await_no_sessions();
    let rows = backends.map(|addr| bench.proxy.backend(addr));
    let costs = rows.iter().filter_map(|row| row.cost.as_ref());
    Figures {
        requests,
        answered,
        ejections: rows.iter().map(|row| row.health.ejections_total).sum(),
        failures: costs.map(|cost| cost.failures).fold(0.0, f64::max),
    }
}
