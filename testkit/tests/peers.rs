//! The scripted peers against each other, with no proxy between: a fault that an end-to-end test
//! shows must not be the test's own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use testkit::backend::Ended;
use testkit::client::{connect, exchange_streams};
use testkit::pattern::Pattern;
use testkit::protocol::UP_SEED;
use testkit::{Backend, LONG, Manner, Session, UdpClient, until};

fn one_end(backend: &Backend) -> Ended {
    until("the end of a session", LONG, || {
        backend.ended().first().copied()
    })
}

fn connected(addr: SocketAddr) -> TcpStream {
    connect(addr).expect("it listens")
}

#[test]
fn a_session_learns_whom_it_has_reached() {
    let backend = Backend::start("alpha", Manner::Echo);
    let mut session = Session::open(backend.addr).expect("it listens");
    assert_eq!(session.backend, "alpha");
    assert_eq!(session.upstream, session.stream.local_addr().expect("open"));
    session.echo(&Pattern::bytes(3, 1 << 20)).expect("echoed");
    assert_eq!((backend.accepted(), backend.open()), (1, 1));
    assert!(session.finish().expect("closed").is_empty());
    until("no session", LONG, || (backend.open() == 0).then_some(()));
}

#[test]
fn a_half_close_is_answered_each_way() {
    let manner = Manner::AnswerAtEnd {
        seed: 5,
        length: 1 << 20,
    };
    let backend = Backend::start("late", manner);
    let session = Session::open(backend.addr).expect("it listens");
    assert!(session.finish().expect("answered") == Pattern::bytes(5, 1 << 20));

    let backend = Backend::start("early", Manner::CloseFirst);
    let mut session = Session::open(backend.addr).expect("it listens");
    assert_eq!(session.stream.read(&mut [0]).expect("its end"), 0);
    let bytes = Pattern::bytes(UP_SEED, 1 << 20);
    session.stream.write_all(&bytes).expect("sent");
    session.stream.shutdown(Shutdown::Write).expect("closed");
    let ended = Ended {
        bytes: 1 << 20,
        intact: true,
        reset: false,
    };
    assert_eq!(one_end(&backend), ended);
}

#[test]
fn a_reset_arrives_after_the_bytes_before_it() {
    let backend = Backend::start(
        "rough",
        Manner::Reset {
            seed: 6,
            length: 20_000,
        },
    );
    // The reset may be here before connect(2) returns, which then fails, whatever came before.
    let mut session = until("a connect is in time", LONG, || {
        let stream = connect(backend.addr).ok()?;
        Some(Session::over(stream).expect("a greeting"))
    });
    let mut bytes = vec![0; 20_000];
    session
        .stream
        .read_exact(&mut bytes)
        .expect("before the reset");
    assert!(bytes == Pattern::bytes(6, 20_000));
    let error = session.stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_wrong_byte_is_seen_by_the_backend() {
    let backend = Backend::start("strict", Manner::Mute);
    let mut stream = connect(backend.addr).expect("it listens");
    let mut bytes = Pattern::bytes(UP_SEED, 1000);
    bytes[700] ^= 1;
    stream.write_all(&bytes).expect("sent");
    drop(stream);
    assert!(!one_end(&backend).intact);
}

#[test]
fn streams_are_checked_both_ways() {
    let backend = Backend::start("duplex", Manner::Duplex);
    for seed in 0..20 {
        exchange_streams(connected(backend.addr), seed, 200_000).expect("nothing lies between");
    }
    assert!(backend.ended().iter().all(|ended| ended.intact));
    let other = Backend::start("echo", Manner::Echo);
    exchange_streams(connected(other.addr), 1, 1000).expect_err("an echo is no such stream");
}

#[test]
fn a_stalled_reader_waits_for_its_release() {
    let backend = Backend::start("stalled", Manner::Stalled);
    let mut session = Session::open(backend.addr).expect("it listens");
    session.stream.write_all(b"abc").expect("sent");
    session.stream.shutdown(Shutdown::Write).expect("closed");
    assert!(backend.ended().is_empty());
    backend.release();
    assert_eq!(one_end(&backend).bytes, 3);
}

#[test]
fn a_flow_learns_whom_it_has_reached() {
    let backend = Backend::start("beta", Manner::Echo);
    let client = UdpClient::new(backend.addr);
    let who = client.who().expect("answered");
    assert_eq!(who.backend, "beta");
    assert_eq!(who.upstream, client.socket.local_addr().expect("bound"));
    for length in [0, 1, 1472, 65_507] {
        let bytes = Pattern::bytes(length, length as usize);
        assert!(
            client.exchange(&bytes).expect("echoed") == bytes,
            "{length}"
        );
    }
    assert_eq!(backend.datagrams(), 5);
}

#[test]
fn a_dropped_backend_refuses_and_its_port_can_be_used_again() {
    let backend = Backend::start("gone", Manner::Echo);
    let addr = backend.addr;
    let mut session = Session::open(addr).expect("it listens");
    drop(backend);
    assert!(matches!(session.stream.read(&mut [0]), Ok(0) | Err(_)));
    let refused = Session::open(addr).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let back = Backend::start_at(addr, "back", Manner::Echo);
    assert_eq!(
        Session::open(back.addr).expect("it listens").backend,
        "back"
    );
}
