//! Agents as small as can be, and crowds before control's door.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use testkit::client::connect_from;
use testkit::http::Request;

/// How long an agent waits for the answer to its beat.
const PATIENCE: Duration = Duration::from_secs(1);
/// As many connections as control takes of one address, and more than it takes of all.
const OF_EACH: usize = 1024;
const ADDRESSES: u8 = 5;

/// Registers `backend`, or lets it beat, on a connection of its own; whether it was answered in time.
pub fn beat(control: SocketAddr, backend: SocketAddr) -> bool {
    let body = json!({ "ip": backend.ip(), "port": backend.port(), "weight": 10 });
    let request = Request::new("POST", "/api/register").body(body.to_string());
    let request = request.header("Content-Type", "application/json");
    let request = request.header("Host", &control.to_string());
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&control, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        request.exchange(&mut stream)
    };
    asked().is_ok_and(|answer| answer.status == 200)
}

/// Connections of a few addresses, more than control takes, each of which sends `begin`.
pub fn crowd(control: SocketAddr, begin: &str) -> Vec<TcpStream> {
    let addresses = (0..ADDRESSES).map(|number| Ipv4Addr::new(127, 0, 1, 1 + number));
    let all = addresses.flat_map(|ip| std::iter::repeat_n(ip, OF_EACH));
    let connect = |ip| {
        let mut stream = connect_from(ip, control).ok()?;
        // It may have been closed for another one by now.
        let _ = stream.write_all(begin.as_bytes());
        Some(stream)
    };
    all.filter_map(connect).collect()
}

/// As many descriptors as the system lets us have: a crowd takes thousands.
pub fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
}
