//! Peers that do what few do: send urgent data, or leave while they are being connected.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use rustix::net::SendFlags;
use serde_json::json;
use testkit::client::{connect, reset};
use testkit::deaf::Blackhole;
use testkit::pattern::Pattern;
use testkit::wait::within;
use testkit::{Backend, LONG, Manner, without_probes};

#[track_caller]
fn expect_echo(stream: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).expect("the echo, whole");
    assert!(got == expected, "the echo of {} bytes", expected.len());
}

/// RFC 6093: urgent data is part of the stream.
#[test]
fn urgent_data_stalls_nothing_and_is_not_lost() {
    let backend = Backend::start("a", Manner::Echo);
    let bench = ProxyBench::start(&[backend.addr], json!({}));
    let mut stream = bench.open().stream;
    stream.set_read_timeout(Some(LONG)).expect("above zero");
    let urgent = |stream: &TcpStream, bytes: &[u8]| {
        let sent = rustix::net::send(stream, bytes, SendFlags::OOB).expect("sent");
        assert_eq!(sent, bytes.len());
    };
    for _ in 0..20 {
        stream.write_all(b"before").expect("sent");
        urgent(&stream, b"!");
        stream.write_all(b"after").expect("sent");
        expect_echo(&mut stream, b"before!after");
    }
    // The same in the middle of a stream, which is spliced by then.
    let big = vec![b'x'; 8 << 20];
    let mut writer = stream.try_clone().expect("a descriptor");
    let sender = std::thread::spawn({
        let big = big.clone();
        move || {
            writer.write_all(&big).expect("sent");
            urgent(&writer, b"!");
            writer.write_all(&big).expect("sent");
        }
    });
    expect_echo(&mut stream, &big);
    expect_echo(&mut stream, b"!");
    expect_echo(&mut stream, &big);
    sender.join().expect("all is sent");
}

/// The mark and the end arrive while nothing is read from the client, since the backend takes nothing:
/// whatever stands behind the mark has only the end to announce it.
#[test]
fn urgent_data_with_the_end_behind_it_reaches_a_slow_reader() {
    const QUICK: usize = 4 << 20;
    const PIECE: usize = 64 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let (go_on, told) = channel();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        // By then the stream is spliced.
        let mut received = vec![0; QUICK];
        stream.read_exact(&mut received).expect("so much comes");
        told.recv().expect("the test goes on");
        stream.read_to_end(&mut received).expect("its end");
        received
    });
    let bench = ProxyBench::start(&[addr], without_probes(json!({})));
    let mut stream = connect(bench.listen).expect("it listens");
    let mut sent = Vec::new();
    let mut pattern = Pattern::new(7);
    let mut next = |length| {
        let mut piece = vec![0; length];
        pattern.fill(&mut piece);
        piece
    };
    let has_read = |sent: &[u8]| {
        let status = bench.proxy.status();
        (status.totals.counters.bytes_up == sent.len() as u64).then_some(())
    };
    let mut length = QUICK;
    while sent.is_empty() || within(Duration::from_millis(300), || has_read(&sent)).is_some() {
        let piece = next(length);
        stream.write_all(&piece).expect("sent");
        sent.extend_from_slice(&piece);
        length = PIECE;
    }
    let [urgent, after] = [next(1), next(1_000)];
    let count = rustix::net::send(&stream, &urgent, SendFlags::OOB).expect("sent");
    assert_eq!(count, 1);
    stream.write_all(&after).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    sent.extend([urgent, after].concat());
    // Over loopback all of it has arrived by now.
    go_on.send(()).expect("it waits");
    let received = backend.join().expect("no panic");
    assert!(received == sent, "{} of {}", received.len(), sent.len());
}

#[test]
fn a_client_that_resets_while_it_is_connected_is_gone_at_once() {
    let blackhole = Blackhole::new();
    let settings = json!({ "connect_timeout_ms": 600_000 });
    let mut bench = ProxyBench::start(&[blackhole.addr], settings);
    reset(connect(bench.listen).expect("it listens"));
    bench.assert_sessions_ended("client_reset", 1);
    assert_eq!(
        bench.proxy.backend(blackhole.addr).counters.sessions_active,
        0
    );
}
