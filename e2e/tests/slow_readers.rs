//! A reader that takes nothing costs nothing: what arrives for it wakes no worker. One that takes a
//! little at a time is not idle; one that has stopped for good is ended, and the reason says so.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use e2e::slow_reader::{Reader, SlowReader};
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

/// What the proxy took from the sender waits in its kernel's queue for the reader, and no event tells
/// that the reader takes it.
#[test]
fn a_slow_reader_lives_and_gets_every_byte() {
    const IDLE_TIMEOUT_MS: u64 = 1_000;
    /// Less than a big read, and such as make a stream that is spliced.
    const LENGTHS: [usize; 2] = [16 << 10, 256 << 10];
    std::thread::scope(|scope| {
        for (reads, length) in [Reader::Client, Reader::Backend]
            .into_iter()
            .flat_map(|reads| LENGTHS.map(|length| (reads, length)))
        {
            scope.spawn(move || {
                let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                let addr = backend.local_addr().expect("it is bound");
                let settings = json!({ "idle_timeout_ms": IDLE_TIMEOUT_MS });
                let bench = ProxyBench::start(&[addr], without_probes(settings));
                let mut slow = SlowReader::open(bench.listen, &backend, reads);
                let taken = slow.take_all(length);
                taken.unwrap_or_else(|what| panic!("{reads:?}, pieces of {length}: {what}"));
            });
        }
    });
}

#[test]
fn a_reader_that_has_stopped_for_good_is_ended_and_named() {
    let time_outs = json!({ "idle_timeout_ms": 400, "half_close_timeout_ms": 400 });
    for (reads, reason) in [
        (Reader::Client, "client_stalled"),
        (Reader::Backend, "backend_stalled"),
    ] {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = backend.local_addr().expect("it is bound");
        let settings = without_probes(time_outs.clone());
        let mut bench = ProxyBench::start(&[addr], settings);
        for reader_has_closed in [false, true] {
            let slow = SlowReader::open(bench.listen, &backend, reads);
            let mut sender = &slow.sender;
            if reader_has_closed {
                slow.reader.shutdown(Shutdown::Write).expect("it is open");
                assert_eq!(sender.read(&mut [0]).expect("an orderly end"), 0);
            }
            sender.set_nonblocking(true).expect("a socket");
            let piece = vec![7; 64 << 10];
            until("it is ended", LONG, || match sender.write(&piece) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Some(()),
                Ok(_) | Err(_) => None,
            });
        }
        bench.assert_sessions_ended(reason, 2);
    }
}
