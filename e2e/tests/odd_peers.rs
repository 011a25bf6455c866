//! Peers that do what few do: send urgent data, or leave while they are being connected.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::proxy_bench::ProxyBench;
use rustix::net::SendFlags;
use serde_json::json;
use testkit::client::{connect, reset};
use testkit::deaf::Blackhole;
use testkit::{Backend, LONG, Manner};

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
