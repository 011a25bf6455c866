//! How a session finds a backend: refused and unanswered connects are retried elsewhere, bounded, and
//! who cannot be served is told at once.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::time::Instant;

use e2e::proxy_bench::ProxyBench;
use e2e::spread::{self, Transport, spread};
use serde_json::json;
use testkit::client::connect;
use testkit::deaf::{Blackhole, Refuser};
use testkit::{Backend, LONG, Manner, Session, proxy_config, until};

/// A client asks and sees that it is not served. Its connect may already show the reset.
#[track_caller]
fn assert_not_served(listen: SocketAddr) {
    let read = connect(listen).and_then(|mut stream| stream.read(&mut [0]));
    match read {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

#[test]
fn one_backend_of_two_refuses_and_no_session_fails() {
    let refuser = Refuser::new();
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[refuser.addr, echo.addr], json!({}));
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 40);
    assert_eq!(reached, spread([("echo", 40)]));
    let status = bench.proxy.status();
    assert!(status.totals.connect_retries > 0);
    let refused = bench.proxy.backend(refuser.addr).counters;
    assert!(refused.connect_failures > 0);
    assert_eq!(status.totals.sessions_ended.get("connect_refused"), None);
    bench.proxy.await_no_sessions();
}

#[test]
fn one_backend_of_two_does_not_answer_and_no_session_fails() {
    let blackhole = Blackhole::new();
    let echo = Backend::start("echo", Manner::Echo);
    let settings = json!({ "connect_timeout_ms": 200 });
    let bench = ProxyBench::start(&[blackhole.addr, echo.addr], settings);
    let reached = spread::in_turn(Transport::Tcp, bench.listen, 10);
    assert_eq!(reached, spread([("echo", 10)]));
    let unanswered = bench.proxy.backend(blackhole.addr).counters;
    assert!(unanswered.connect_timeouts > 0);
    assert!(bench.proxy.status().totals.connect_retries > 0);
    bench.proxy.await_no_sessions();
}

#[test]
fn where_every_backend_fails_the_session_is_closed_and_says_why() {
    let refusers = [Refuser::new(), Refuser::new()];
    let addresses = refusers.each_ref().map(|refuser| refuser.addr);
    let mut bench = ProxyBench::start(&addresses, json!({}));
    assert_not_served(bench.listen);
    bench.assert_sessions_ended("connect_refused", 1);

    let blackhole = Blackhole::new();
    let settings = json!({ "connect_timeout_ms": 100 });
    let mut bench = ProxyBench::start(&[blackhole.addr], settings);
    assert_not_served(bench.listen);
    bench.assert_sessions_ended("connect_timeout", 1);
}

#[test]
fn without_backends_a_session_is_closed_at_once() {
    let mut bench = ProxyBench::start(&[], json!({}));
    let begun = Instant::now();
    for _ in 0..5 {
        assert_not_served(bench.listen);
    }
    assert!(begun.elapsed() < LONG / 2, "not at once");
    bench.assert_sessions_ended("no_backend", 5);
}

#[test]
fn a_reload_that_allows_more_sessions_lets_the_waiting_in() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({ "max_sessions": 2 }));
    let open = [bench.open(), bench.open()];
    let waiting = connect(bench.listen).expect("the kernel answers");
    until("accepting pauses", LONG, || {
        (bench.proxy.status().limits.accept_pauses > 0).then_some(())
    });
    let mut config = proxy_config(bench.listen, &[(echo.addr, 10)]);
    config["max_sessions"] = json!(10);
    bench.proxy.reload(&config);
    let mut session = Session::over(waiting).expect("served at last");
    session.echo(b"served").expect("served to the end");
    drop((open, session));
    bench.proxy.await_no_sessions();
}
