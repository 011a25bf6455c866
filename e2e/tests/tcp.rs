//! Invariants 2 and 4 over TCP: bytes arrive whole, in order, once; each end is forwarded after the
//! bytes before it; every session ends with its reason, and what was counted returns to zero.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use e2e::proxy_bench::ProxyBench;
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::json;
use testkit::backend::Ended;
use testkit::client::{connect, exchange_streams, reset};
use testkit::pattern::Pattern;
use testkit::protocol::UP_SEED;
use testkit::wait::within;
use testkit::{Backend, LONG, Manner, Session, until, without_probes};

const MIB: usize = 1 << 20;

/// A proxy before one backend.
fn before(backend: &Backend) -> ProxyBench {
    ProxyBench::start(&[backend.addr], without_probes(json!({})))
}

fn first_end(backend: &Backend) -> Ended {
    until("the backend sees an end", LONG, || {
        backend.ended().first().copied()
    })
}

#[test]
fn after_the_clients_half_close_the_answer_arrives_whole() {
    let manner = Manner::AnswerAtEnd {
        seed: 7,
        length: MIB,
    };
    let backend = Backend::start("late", manner);
    let mut bench = before(&backend);
    let mut session = bench.open();
    let request = Pattern::bytes(UP_SEED, MIB);
    session.stream.write_all(&request).expect("sent");
    let answer = session.finish().expect("answered");
    assert!(answer == Pattern::bytes(7, MIB), "{} bytes", answer.len());
    let right = Ended {
        bytes: MIB as u64,
        intact: true,
        reset: false,
    };
    assert_eq!(first_end(&backend), right);
    bench.assert_sessions_ended("client_closed", 1);
}

#[test]
fn after_the_backends_half_close_the_request_arrives_whole() {
    let backend = Backend::start("early", Manner::CloseFirst);
    let mut bench = before(&backend);
    let mut session = bench.open();
    assert_eq!(session.stream.read(&mut [0]).expect("its end"), 0);
    let request = Pattern::bytes(UP_SEED, MIB);
    session.stream.write_all(&request).expect("sent");
    session.stream.shutdown(Shutdown::Write).expect("closed");
    let right = Ended {
        bytes: MIB as u64,
        intact: true,
        reset: false,
    };
    assert_eq!(first_end(&backend), right);
    bench.assert_sessions_ended("backend_closed", 1);
}

#[test]
fn the_backends_reset_arrives_as_a_reset_after_the_bytes_before_it() {
    const LENGTH: usize = 30_000;
    let manner = Manner::Reset {
        seed: 8,
        length: LENGTH,
    };
    let backend = Backend::start("rough", manner);
    let mut bench = before(&backend);
    const ROUNDS: u64 = 40;
    let mut read_rounds = 0;
    for round in 0..ROUNDS {
        // The reset may be here before connect(2) returns, which then fails, whatever came before.
        let Ok(stream) = connect(bench.listen) else {
            continue;
        };
        let session = Session::over(stream);
        let mut session = session.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mut bytes = vec![0; LENGTH];
        let read = session.stream.read_exact(&mut bytes);
        read.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(bytes == Pattern::bytes(8, LENGTH), "round {round}");
        let error = session.stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "round {round}");
        read_rounds += 1;
    }
    assert!(read_rounds > 0, "no connect was in time");
    bench.assert_sessions_ended("backend_reset", ROUNDS);
}

#[test]
fn a_reset_waits_for_a_reader_who_has_not_taken_the_bytes_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let mut bench = ProxyBench::start(&[addr], without_probes(json!({})));
    let mut client = connect(bench.listen).expect("it listens");
    let (mut backend, _) = listener.accept().expect("the proxy connects");
    // More than the client's queue takes, less than that and the proxy's take together.
    backend.write_all(&Pattern::bytes(8, MIB)).expect("sent");
    until("the proxy has it all", LONG, || {
        (bench.proxy.status().totals.counters.bytes_down == MIB as u64).then_some(())
    });
    reset(backend);
    const UNREAD: Duration = Duration::from_millis(300);
    let ended = || {
        let counters = bench.proxy.status().totals.counters;
        (counters.sessions_active == 0).then_some(())
    };
    assert_eq!(within(UNREAD, ended), None, "reset too soon");
    let mut bytes = vec![0; MIB];
    client.read_exact(&mut bytes).expect("all of it");
    assert!(bytes == Pattern::bytes(8, MIB));
    let error = client.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    bench.assert_sessions_ended("backend_reset", 1);
}

#[test]
fn the_clients_reset_arrives_as_a_reset_after_the_bytes_before_it() {
    const LENGTH: usize = 30_000;
    const ROUNDS: usize = 20;
    let manner = Manner::AnswerAtEnd { seed: 0, length: 0 };
    let backend = Backend::start("reader", manner);
    let mut bench = before(&backend);
    for _ in 0..ROUNDS {
        let mut session = bench.open();
        let bytes = Pattern::bytes(UP_SEED, LENGTH);
        session.stream.write_all(&bytes).expect("sent");
        reset(session.stream);
    }
    let ends = until("all ends", LONG, || {
        Some(backend.ended()).filter(|ends| ends.len() == ROUNDS)
    });
    let right = Ended {
        bytes: LENGTH as u64,
        intact: true,
        reset: true,
    };
    assert_eq!(ends, vec![right; ROUNDS]);
    bench.assert_sessions_ended("client_reset", ROUNDS as u64);
}

#[test]
fn a_silent_session_ends_at_its_idle_time_out_and_a_busy_one_lives() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({ "idle_timeout_ms": 1000 }));
    let mut busy = bench.open();
    let silent = bench.open();
    let begun = Instant::now();
    silent.stream.set_nonblocking(true).expect("a socket");
    let mut silent = silent.stream;
    until("the silent session ends", LONG, || {
        busy.echo(b"busy").expect("a busy session lives");
        match silent.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Ok(_) | Err(_) => Some(()),
        }
    });
    assert!(begun.elapsed() >= Duration::from_millis(900), "too soon");
    bench.proxy.await_sessions_ended("idle_timeout", 1);
    bench.proxy.program.wait_for_line("idle_timeout");
    busy.echo(b"still").expect("a busy session lives");
}

#[test]
fn a_half_closed_silent_session_ends_at_its_own_time_out() {
    let backend = Backend::start("stalled", Manner::Stalled);
    let settings = json!({ "half_close_timeout_ms": 300 });
    let mut bench = ProxyBench::start(&[backend.addr], settings);
    let session = bench.open();
    let kept = bench.open();
    // By a close or by a reset, but it ends.
    if let Err(error) = session.finish() {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    bench.proxy.await_sessions_ended("half_close_timeout", 1);
    bench.proxy.program.wait_for_line("half_close_timeout");
    let active = bench.proxy.status().totals.counters.sessions_active;
    assert_eq!(active, 1, "the session that is open both ways stays");
    drop(kept);
    bench.proxy.await_no_sessions();
}

#[test]
fn at_max_sessions_the_next_one_waits_until_one_ends() {
    let echo = Backend::start("echo", Manner::Echo);
    let settings = without_probes(json!({ "max_sessions": 4 }));
    let bench = ProxyBench::start(&[echo.addr], settings);
    let mut open: Vec<_> = (0..4).map(|_| bench.open()).collect();
    let waiting = connect(bench.listen).expect("the kernel answers");
    until("accepting pauses", LONG, || {
        (bench.proxy.status().limits.accept_pauses > 0).then_some(())
    });
    assert_eq!(echo.accepted(), 4);
    assert_eq!(bench.proxy.status().limits.max_sessions, 4);
    let freed = open.remove(0);
    freed.finish().expect("closed in order");
    let mut session = Session::over(waiting).expect("served at last");
    session.echo(b"served").expect("served to the end");
    drop((open, session));
    bench.proxy.await_no_sessions();
    for _ in 0..8 {
        Transport::Tcp.ask(bench.listen);
    }
}

#[test]
fn a_request_that_ends_before_the_backend_is_reached_is_answered() {
    let manner = Manner::AnswerAtEnd {
        seed: 9,
        length: 1000,
    };
    let backend = Backend::start("late", manner);
    let mut bench = before(&backend);
    const ROUNDS: u64 = 20;
    for _ in 0..ROUNDS {
        let mut stream = connect(bench.listen).expect("it listens");
        stream.write_all(b"whole request").expect("sent");
        stream.shutdown(Shutdown::Write).expect("closed");
        let mut session = Session::over(stream).expect("a session is served");
        let mut answer = Vec::new();
        session.stream.read_to_end(&mut answer).expect("answered");
        assert!(answer == Pattern::bytes(9, 1000));
    }
    bench.assert_sessions_ended("client_closed", ROUNDS);
    let whole = |ended: &Ended| ended.bytes == b"whole request".len() as u64 && !ended.reset;
    assert!(backend.ended().iter().all(whole), "{:?}", backend.ended());
}

#[test]
fn random_streams_both_ways_arrive_as_they_were_sent() {
    const CLIENTS: u64 = 4;
    const SESSIONS: u64 = 40;
    let pool = ["a", "b"].map(|name| Backend::start(name, Manner::Duplex));
    let bench = ProxyBench::start(&pool.each_ref().map(|backend| backend.addr), json!({}));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let listen = bench.listen;
            scope.spawn(move || {
                for session in 0..SESSIONS {
                    // Most are short, some are as long as takes the path for big streams.
                    let longest = if session % 8 == 0 { 4 * MIB } else { 100_000 };
                    let stream = connect(listen).expect("it listens");
                    let seed = client * SESSIONS + session;
                    exchange_streams(stream, seed, longest as u64).expect("not a bit changed");
                }
            });
        }
    });
    bench.proxy.await_no_sessions();
    let ended = bench.proxy.status().totals.sessions_ended;
    let in_order = ["client_closed", "backend_closed"].map(|reason| ended.get(reason));
    let in_order: u64 = in_order.into_iter().flatten().sum();
    assert_eq!(in_order, CLIENTS * SESSIONS, "{ended:?}");
}

/// A signal ends the system call that it finds a worker in, as a debugger, a frozen container and a
/// suspend do, and what was not moved by then has no event of its own.
#[test]
fn streams_go_on_after_the_proxy_was_stopped_and_continued() {
    const STREAMS: usize = 12;
    const PAUSE: Duration = Duration::from_millis(1);
    let manner = Manner::AnswerAtEnd {
        seed: 7,
        length: 64 * MIB,
    };
    let backend = Backend::start("far", manner);
    let mut bench = before(&backend);
    let listen = bench.listen;
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| std::thread::spawn(move || Session::open(listen)?.finish()))
        .collect();
    let mut stops = 0;
    while streams.iter().any(|stream| !stream.is_finished()) {
        for signal in [Signal::STOP, Signal::CONT] {
            bench.proxy.program.signal(signal);
            std::thread::sleep(PAUSE);
        }
        stops += 1;
    }
    for stream in streams {
        let answer = stream.join().expect("no panic").expect("it ends");
        assert!(answer == Pattern::bytes(7, 64 * MIB), "{}", answer.len());
    }
    assert!(stops > 20, "only {stops} stops");
}

#[test]
fn a_stalled_reader_holds_the_sender_back_and_little_memory() {
    const SESSIONS: usize = 20;
    const ALLOWED_A_SESSION: u64 = 64 << 10;
    /// Buffers of the workers themselves, and the allocator's own.
    const ALLOWED_BESIDE: u64 = 6 << 20;
    let backend = Backend::start("stalled", Manner::Stalled);
    let bench = before(&backend);
    bench.open();
    let before = bench.proxy.program.resident_bytes();
    let mut sent = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let session = bench.open();
        sent.push(send_until_blocked(&session.stream));
        sessions.push(session);
    }
    let after = bench.proxy.program.resident_bytes();
    let allowed = before + SESSIONS as u64 * ALLOWED_A_SESSION + ALLOWED_BESIDE;
    assert!(after <= allowed, "{before} grew to {after}");

    backend.release();
    for session in sessions {
        session.stream.shutdown(Shutdown::Write).expect("closed");
    }
    let ends = until("all that was sent arrives", LONG, || {
        Some(backend.ended()).filter(|ends| ends.len() == SESSIONS + 1)
    });
    assert!(ends.iter().all(|ended| ended.intact), "{ends:?}");
    let arrived: u64 = ends.iter().map(|ended| ended.bytes).sum();
    assert_eq!(arrived, sent.iter().sum::<u64>());
}

/// Sends until nothing more is taken for a while. Returns how many bytes were taken.
fn send_until_blocked(stream: &TcpStream) -> u64 {
    const QUIET: Duration = Duration::from_millis(30);
    const PIECE: usize = 256 << 10;
    stream.set_nonblocking(true).expect("a socket");
    let mut stream = stream;
    let mut pattern = Pattern::new(UP_SEED);
    let mut piece = Vec::new();
    let mut sent = 0;
    loop {
        if piece.is_empty() {
            piece = vec![0; PIECE];
            pattern.fill(&mut piece);
        }
        let taken = within(QUIET, || stream.write(&piece).ok());
        let Some(taken) = taken else {
            break;
        };
        piece.drain(..taken);
        sent += taken as u64;
    }
    stream.set_nonblocking(false).expect("a socket");
    sent
}
