//! A reader that takes nothing costs nothing: what arrives for it wakes no worker.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use serde_json::json;
use testkit::client::connect;
use testkit::pattern::Pattern;
use testkit::{LONG, until, without_probes};

/// Sent at once, until the client's side is full.
const BLOCK: usize = 16 << 10;
/// Single bytes that arrive while it is.
const TRICKLE: usize = 300;

/// Sends until the proxy can pass on no more; returns what was sent.
fn fill(bench: &ProxyBench, backend: &mut TcpStream, pattern: &mut Pattern) {
    let mut block = vec![0; BLOCK];
    until("the client's side is full", LONG, || {
        pattern.fill(&mut block);
        backend
            .write_all(&block)
            .expect("the proxy's queue has room");
        let passed_on = || bench.proxy.status().totals.counters.bytes_down;
        let all_passed_on = || (passed_on() == pattern.position()).then_some(());
        let is_full = testkit::wait::within(Duration::from_millis(200), all_passed_on).is_none();
        is_full.then_some(())
    });
}

#[test]
fn what_arrives_for_a_stalled_reader_wakes_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend_addr = listener.local_addr().expect("it is bound");
    let bench = ProxyBench::start(&[backend_addr], without_probes(json!({})));
    let mut client = connect(bench.listen).expect("it listens");
    client.write_all(b"?").expect("sent");
    let (mut backend, _) = listener.accept().expect("the proxy connects");
    backend.set_nodelay(true).expect("a TCP socket");
    backend.set_write_timeout(Some(LONG)).expect("above zero");
    let mut pattern = Pattern::new(3);
    fill(&bench, &mut backend, &mut pattern);

    let before = bench.proxy.program.wake_ups("worker-");
    for _ in 0..TRICKLE {
        let mut byte = [0];
        pattern.fill(&mut byte);
        backend
            .write_all(&byte)
            .expect("the proxy's queue has room");
        // Apart, so that each is an arrival of its own.
        std::thread::sleep(Duration::from_micros(300));
    }
    let woken = bench.proxy.program.wake_ups("worker-") - before;
    assert!(
        woken < TRICKLE as u64 / 20,
        "{woken} for {TRICKLE} arrivals"
    );

    // Nothing of it is lost, and what comes later is passed on as ever.
    let mut got = vec![0; pattern.position() as usize];
    client.read_exact(&mut got).expect("all of it");
    assert!(got == Pattern::bytes(3, got.len()), "{} bytes", got.len());
    backend.write_all(b"later").expect("sent");
    let mut later = [0; 5];
    client.read_exact(&mut later).expect("passed on");
    assert_eq!(&later, b"later");
    drop(backend);
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert!(
        matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{end:?}"
    );
}
