//! What the end of a session is called, and that it comes at once where both ends are gone: scripts of
//! two peers, each step of which has arrived at the other end before the next, so that the proxy has
//! seen them in this order.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::proxy_bench::ProxyBench;
use rustix::process::Signal;
use serde_json::json;
use testkit::client::{connect, reset};
use testkit::wait::within;
use testkit::{LONG, until, without_probes};

use Step::{BackendCloses, BackendResets, ClientCloses, ClientResets, Down, Up};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Bytes from the client arrive at the backend.
    Up,
    /// Bytes from the backend arrive at the client.
    Down,
    /// The client shuts its side, and the backend sees it.
    ClientCloses,
    BackendCloses,
    ClientResets,
    BackendResets,
}

/// Less than one read, and much more than makes a stream that is spliced.
const LENGTHS: [usize; 2] = [100, 4 << 20];

/// Both ends of a session.
struct Ends {
    client: Option<TcpStream>,
    backend: Option<TcpStream>,
}

impl Ends {
    fn open(bench: &ProxyBench, backend: &TcpListener) -> Ends {
        let client = connect(bench.listen).expect("it listens");
        let (backend, _) = backend.accept().expect("the proxy connects");
        backend.set_read_timeout(Some(LONG)).expect("above zero");
        Ends {
            client: Some(client),
            backend: Some(backend),
        }
    }

    fn play(&mut self, step: Step, length: usize) {
        let (client, backend) = (&mut self.client, &mut self.backend);
        match step {
            Up => pass(client, backend, length),
            Down => pass(backend, client, length),
            ClientCloses => close(client, backend),
            BackendCloses => close(backend, client),
            ClientResets => reset(client.take().expect("it is open")),
            BackendResets => reset(backend.take().expect("it is open")),
        }
    }
}

fn pass(from: &Option<TcpStream>, to: &Option<TcpStream>, length: usize) {
    let (Some(mut from), Some(mut to)) = (from.as_ref(), to.as_ref()) else {
        panic!("both are open");
    };
    std::thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![7; length]).expect("it is read"));
        let mut arrived = vec![0; length];
        to.read_exact(&mut arrived).expect("it arrives");
    });
}

fn close(from: &Option<TcpStream>, to: &Option<TcpStream>) {
    let (Some(from), Some(mut to)) = (from.as_ref(), to.as_ref()) else {
        panic!("both are open");
    };
    from.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(to.read(&mut [0]).expect("an orderly end"), 0);
}

/// Plays each script, in small pieces and in streams, and asks what its end is called.
#[track_caller]
fn check(scripts: &[(&[Step], &str)]) {
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = backend.local_addr().expect("it is bound");
    let bench = ProxyBench::start(&[addr], without_probes(json!({})));
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (script, reason) in scripts {
        for length in LENGTHS {
            let mut ends = Ends::open(&bench, &backend);
            script.iter().for_each(|step| ends.play(*step, length));
            // The end of one side is enough, though the other one never closes.
            bench.proxy.await_no_sessions();
            *expected.entry(reason).or_default() += 1;
            let mut ended = bench.proxy.status().totals.sessions_ended;
            ended.retain(|_, count| *count > 0);
            let mut ended: BTreeMap<&str, u64> =
                ended.iter().map(|(k, v)| (k.as_str(), *v)).collect();
            assert_eq!(ended, expected, "{script:?}, {length} bytes a step");
            // Those by the fault of the backend are counted there, too.
            ended.retain(|reason, _| {
                ["backend_closed_unanswered", "backend_reset"].contains(reason)
            });
            let failed = bench.proxy.backend(addr).sessions_failed;
            let failed: BTreeMap<&str, u64> =
                failed.iter().map(|(k, v)| (k.as_str(), *v)).collect();
            assert_eq!(failed, ended, "{script:?}, {length} bytes a step");
        }
    }
}

#[test]
fn a_close_is_called_by_whom_it_came_from_and_what_was_owed() {
    check(&[
        (&[ClientCloses, BackendCloses], "client_closed"),
        (&[Up, ClientCloses, BackendCloses], "client_closed"),
        (&[Up, Down, ClientCloses, BackendCloses], "client_closed"),
        (&[BackendCloses, ClientCloses], "backend_closed"),
        (&[Down, BackendCloses, ClientCloses], "backend_closed"),
        (&[Up, Down, BackendCloses, ClientCloses], "backend_closed"),
        // What comes after the end was not owed an answer when the backend closed.
        (
            &[Up, Down, BackendCloses, Up, ClientCloses],
            "backend_closed",
        ),
        (
            &[Up, BackendCloses, ClientCloses],
            "backend_closed_unanswered",
        ),
        (
            &[Up, Down, Up, BackendCloses, ClientCloses],
            "backend_closed_unanswered",
        ),
    ]);
}

#[test]
fn a_reset_is_told_from_one_that_ends_a_finished_exchange() {
    check(&[
        (&[ClientResets], "client_reset"),
        (&[Up, Down, ClientResets], "client_reset"),
        (
            &[Up, Down, ClientCloses, ClientResets],
            "client_reset_after_end",
        ),
        (
            &[Up, Down, BackendCloses, ClientResets],
            "client_reset_after_end",
        ),
        (&[BackendResets], "backend_reset"),
        (&[Up, BackendResets], "backend_reset"),
        (&[Up, Down, BackendResets], "backend_reset"),
        (&[Up, Down, Up, BackendResets], "backend_reset"),
        // Closed, and not answered: the end of no exchange.
        (&[Up, ClientCloses, BackendResets], "backend_reset"),
        // Closed and still owed, and maybe not all of it has come.
        (&[Up, ClientCloses, Down, BackendResets], "backend_reset"),
        (
            &[Up, Down, Up, ClientCloses, BackendResets],
            "backend_reset",
        ),
        (
            &[Up, Down, Up, ClientCloses, Down, Down, BackendResets],
            "backend_reset",
        ),
        (
            &[Up, Down, Up, BackendCloses, BackendResets],
            "backend_reset",
        ),
        // As RabbitMQ and coturn end.
        (
            &[Up, Down, ClientCloses, BackendResets],
            "backend_reset_after_end",
        ),
        (
            &[Up, Down, ClientCloses, Down, BackendResets],
            "backend_reset_after_end",
        ),
        (
            &[Up, Down, BackendCloses, BackendResets],
            "backend_reset_after_end",
        ),
        (&[ClientCloses, BackendResets], "backend_reset_after_end"),
    ]);
}

#[test]
fn what_ends_a_finished_exchange_ejects_nobody() {
    const SESSIONS: usize = 20;
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = backend.local_addr().expect("it is bound");
    let ejection = json!({ "failures": 1, "base_ms": 600_000, "max_percent": 100 });
    let settings = json!({ "algorithm": "gpu_aware", "ejection": ejection });
    let bench = ProxyBench::start(&[addr], without_probes(settings));
    for script in [
        vec![ClientCloses, BackendResets],
        vec![Up, Down, ClientCloses, BackendResets],
        vec![Up, Down, BackendCloses, BackendResets],
    ] {
        for _ in 0..SESSIONS {
            let mut ends = Ends::open(&bench, &backend);
            script.iter().for_each(|step| ends.play(*step, LENGTHS[0]));
            bench.proxy.await_no_sessions();
        }
    }
    let row = bench.proxy.backend(addr);
    assert_eq!(row.health.ejections_total, 0, "{row:?}");
    bench
        .proxy
        .await_sessions_ended("backend_reset_after_end", 3 * SESSIONS as u64);
}

/// A kernel answers bytes to a program that has closed with a reset, so that what it was sent stays
/// unacknowledged for ever. Who is connected to that end has closed or reset by then.
#[test]
fn a_session_whose_two_ends_are_gone_ends_at_once() {
    const SESSIONS: usize = 20;
    /// Of the kind that a TURN server sends last.
    const LAST: usize = 84;
    /// Half of how long a reset waits for what is not acknowledged.
    const AT_ONCE: Duration = Duration::from_secs(5);
    for backend_is_last in [true, false] {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = backend.local_addr().expect("it is bound");
        let settings = without_probes(json!({ "max_sessions": SESSIONS }));
        let mut bench = ProxyBench::start(&[addr], settings);
        let play = |length| {
            let mut ends = Ends::open(&bench, &backend);
            ends.play(Up, length);
            ends.play(Down, length);
            let (Some(client), Some(backend)) = (ends.client, ends.backend) else {
                unreachable!("nobody has reset");
            };
            let (first, mut last) = match backend_is_last {
                true => (client, backend),
                false => (backend, client),
            };
            drop(first);
            assert_eq!(last.read(&mut [0]).expect("an orderly end"), 0);
            last.write_all(&[7; LAST]).expect("its side is open");
            reset(last);
        };
        (0..SESSIONS).for_each(|session| play(LENGTHS[session % LENGTHS.len()]));
        // All places may be taken by those that are gone.
        let next = connect(bench.listen).expect("the kernel answers");
        backend.set_nonblocking(true).expect("a listener");
        let served = within(AT_ONCE, || backend.accept().ok());
        assert!(served.is_some(), "held up, backend last: {backend_is_last}");
        drop((next, served));
        backend.set_nonblocking(false).expect("a listener");
        bench.proxy.await_no_sessions();
        let ended = bench.proxy.status().totals.sessions_ended;
        let count = |reason: &str| ended.get(reason).copied().unwrap_or(0);
        // Either end's reset may be seen first.
        let after_end = count("backend_reset_after_end") + count("client_reset_after_end");
        assert_eq!(after_end, SESSIONS as u64, "{ended:?}");

        (0..SESSIONS).for_each(|_| play(LENGTHS[0]));
        bench.proxy.program.signal(Signal::TERM);
        bench.proxy.program.wait_exit(AT_ONCE);
    }
}

/// The bytes that the proxy holds for a peer are worth nothing once the peer is gone, whatever the
/// other end does.
#[test]
fn what_is_held_for_a_peer_that_is_gone_holds_nothing_up() {
    const AT_ONCE: Duration = Duration::from_secs(5);
    for client_is_gone in [true, false] {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = backend.local_addr().expect("it is bound");
        let bench = ProxyBench::start(&[addr], without_probes(json!({})));
        for closes_first in [false, true] {
            let ends = Ends::open(&bench, &backend);
            let (Some(client), Some(backend)) = (ends.client, ends.backend) else {
                unreachable!("nobody has reset");
            };
            let (gone, sender) = match client_is_gone {
                true => (client, backend),
                false => (backend, client),
            };
            if closes_first {
                close(
                    &Some(gone.try_clone().expect("a descriptor")),
                    &Some(sender.try_clone().expect("a descriptor")),
                );
            }
            fill(&sender);
            reset(gone);
            let is_over = || {
                let counters = bench.proxy.status().totals.counters;
                (counters.sessions_active == 0).then_some(())
            };
            assert!(
                within(AT_ONCE, is_over).is_some(),
                "{client_is_gone} {closes_first}"
            );
            sender.set_nonblocking(false).expect("a socket");
            let mut sender = sender;
            let end = until("its end", LONG, || match sender.write(&[7; 1_000]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => Some(error.kind()),
                Ok(_) | Err(_) => None,
            });
            assert!(matches!(
                end,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ));
        }
    }
}

/// Sends until nothing more is taken for a while.
fn fill(mut stream: &TcpStream) {
    const QUIET: Duration = Duration::from_millis(50);
    let piece = vec![7; 256 << 10];
    stream.set_nonblocking(true).expect("a socket");
    while within(QUIET, || stream.write(&piece).ok()).is_some() {}
}

/// A client that has closed and then resets has one end that waits for it: it hears at once.
#[test]
fn a_reset_after_a_close_reaches_an_end_that_waits() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = backend.local_addr().expect("it is bound");
    let bench = ProxyBench::start(&[addr], without_probes(json!({})));
    for (closes, resets) in [(ClientCloses, ClientResets), (BackendCloses, BackendResets)] {
        let mut ends = Ends::open(&bench, &backend);
        ends.play(closes, 0);
        ends.play(resets, 0);
        let left = ends.client.or(ends.backend).expect("one is left");
        let mut left = left;
        // It has read the close; what it writes is refused from now on.
        until("it hears", LONG, || left.write_all(b"?").err());
    }
}

/// What a kernel sends for a program that is killed depends on what that had read. It is a program that
/// has the connection of the script's backend, does nothing with it, and is killed.
#[test]
fn a_backend_that_is_killed_is_told_from_one_that_had_nothing_left_to_answer() {
    const REQUEST: &[u8] = b"request";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    for (reads, answers, reason) in [
        (false, false, "backend_reset"),
        (true, false, "backend_closed_unanswered"),
        // A close like any other, as far as anybody but the client can tell.
        (true, true, "backend_closed"),
    ] {
        let mut bench = ProxyBench::start(&[addr], without_probes(json!({})));
        let mut client = connect(bench.listen).expect("it listens");
        let (mut backend, _) = listener.accept().expect("the proxy connects");
        client.write_all(REQUEST).expect("sent");
        let mut request = [0; REQUEST.len()];
        let arrived = match reads {
            true => backend.read(&mut request),
            false => backend.peek(&mut request),
        };
        assert_eq!(arrived.expect("it arrives"), REQUEST.len());
        if answers {
            backend.write_all(b"answer").expect("sent");
            client.read_exact(&mut [0; 6]).expect("it arrives");
        }
        let its = OwnedFd::from(backend);
        let spawned = Command::new("sleep").arg("600").stdin(its).spawn();
        let mut program = spawned.expect("it is a command");
        program.kill().expect("it is our own");
        program.wait().expect("it was killed");
        until("the client's end", LONG, || match client.read(&mut [0]) {
            Ok(0) | Err(_) => Some(()),
            Ok(_) => None,
        });
        drop(client);
        bench.assert_sessions_ended(reason, 1);
    }
}

/// A client that has closed both ways waits for no answer: its kernel resets at the last one.
#[test]
fn a_reset_behind_the_last_answer_fails_no_client_that_has_gone() {
    const ROUNDS: u64 = 50;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    let bench = ProxyBench::start(&[addr], without_probes(json!({})));
    for _ in 0..ROUNDS {
        let mut client = connect(bench.listen).expect("it listens");
        client.write_all(b"bye").expect("sent");
        drop(client);
        let (mut backend, _) = listener.accept().expect("the proxy connects");
        backend
            .read_to_end(&mut Vec::new())
            .expect("an orderly end");
        // The proxy may have heard of the client's reset by the second one.
        let _ = backend.write_all(&[7; 84]);
        reset(backend);
    }
    bench.proxy.await_no_sessions();
    let ended = bench.proxy.status().totals.sessions_ended;
    let of = |reason: &str| ended.get(reason).copied().unwrap_or(0);
    let after_end = of("backend_reset_after_end") + of("client_reset_after_end");
    assert_eq!(after_end, ROUNDS, "{ended:?}");
}

/// Anybody can make sessions end. Of those that carried nothing, ten lines a second of each reason are
/// written, and the number of the rest.
#[test]
fn lines_that_strangers_cause_are_limited_and_none_goes_uncounted() {
    const SESSIONS: u64 = 400;
    for (wanted, is_limited) in [("all", true), ("failures", true), ("unlimited", false)] {
        let settings = without_probes(json!({ "session_log": wanted }));
        let mut bench = ProxyBench::start(&[], settings);
        let begun = Instant::now();
        for _ in 0..SESSIONS {
            // The reset may be here before connect(2) returns, which then fails.
            let end = connect(bench.listen).and_then(|mut client| client.read(&mut [0]));
            assert!(matches!(end, Ok(0) | Err(_)), "served by nobody");
        }
        assert_lines(&mut bench, "no_backend", SESSIONS, begun, is_limited);
    }
}

/// Who asks for all gets a line for each session over TCP that carried bytes both ways, also amid a
/// flood of empty ones, which are limited whether their backend speaks first or not.
#[test]
fn exchanges_are_all_logged_amid_a_flood_of_empty_sessions() {
    const SESSIONS: u64 = 100;
    for greets in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer_all(client, greets));
            }
        });
        let mut bench = ProxyBench::start(&[addr], without_probes(json!({})));
        let begun = Instant::now();
        for _ in 0..SESSIONS {
            let mut empty = connect(bench.listen).expect("it listens");
            if greets {
                empty.read_exact(&mut [0]).expect("greeted");
            }
            drop(empty);
            let mut client = connect(bench.listen).expect("it listens");
            client.write_all(b"x").expect("sent");
            let answer_len = if greets { 2 } else { 1 };
            client
                .read_exact(&mut [0; 2][..answer_len])
                .expect("answered");
        }
        bench
            .proxy
            .await_sessions_ended("client_closed", 2 * SESSIONS);
        let (mut exchanges, mut empty, mut left_out) = (0, 0, 0);
        while exchanges + empty + left_out < 2 * SESSIONS {
            let line = bench.proxy.program.wait_for_line("client_closed");
            match left_out_of(&line) {
                Some(count) => left_out += count,
                None if line.contains("bytes_up=0") => empty += 1,
                None => exchanges += 1,
            }
        }
        assert_eq!((exchanges, empty + left_out), (SESSIONS, SESSIONS));
        let most = LINES_A_SECOND * (begun.elapsed().as_secs() + 1);
        assert!(empty <= most, "{empty} lines of empty sessions");
    }
}

/// The source of a datagram may be forged, so what it causes is limited, answered or not.
#[test]
fn lines_of_flows_are_limited_whether_they_are_answered_or_not() {
    const FLOWS: u64 = 300;
    for answers in [true, false] {
        let backend = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let addr = backend.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((len, client)) = backend.recv_from(&mut buffer) {
                if answers {
                    backend.send_to(&buffer[..len], client).expect("sent");
                }
            }
        });
        let settings = json!({ "udp_idle_ms": 200, "udp_responses": 1 });
        let mut bench = ProxyBench::start(&[addr], without_probes(settings));
        let begun = Instant::now();
        // Kept: a later one of the same port would go on with the flow of an earlier one.
        let mut clients = Vec::new();
        for _ in 0..FLOWS {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
            client.send_to(b"x", bench.listen).expect("sent");
            if answers {
                client.set_read_timeout(Some(LONG)).expect("set");
                client.recv(&mut [0; 8]).expect("answered");
            }
            clients.push(client);
        }
        let reason = if answers { "answered" } else { "one_way" };
        let word = format!("reason=\"{reason}\"");
        assert_lines(&mut bench, &word, FLOWS, begun, true);
    }
}

const LINES_A_SECOND: u64 = 10;

/// Waits until all of `count` ended sessions or flows stand in the log, as lines that hold `reason` or
/// as part of a summary.
fn assert_lines(
    bench: &mut ProxyBench,
    reason: &str,
    count: u64,
    begun: Instant,
    is_limited: bool,
) {
    let (mut written, mut left_out) = (0, 0);
    while written + left_out < count {
        let line = bench.proxy.program.wait_for_line(reason);
        match left_out_of(&line) {
            Some(count) => left_out += count,
            None => written += 1,
        }
    }
    assert_eq!(written + left_out, count);
    let seconds = begun.elapsed().as_secs() + 1;
    let most = match is_limited {
        true => LINES_A_SECOND * seconds,
        false => count,
    };
    assert!(written <= most, "{written} lines in {seconds} s");
    assert_eq!(left_out > 0, is_limited, "{left_out} left out");
}

/// How many lines a summary counts.
fn left_out_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("left_out=")?;
    let count = rest.split_whitespace().next().unwrap_or_default();
    Some(count.parse().expect("a number"))
}

/// Answers byte for byte, after a byte of its own where it `greets`.
fn answer_all(mut client: TcpStream, greets: bool) {
    // A client that has gone wants no answer.
    let _ = greets.then(|| client.write_all(b"!"));
    let mut buffer = [0; 64];
    while let Ok(len @ 1..) = client.read(&mut buffer) {
        let _ = client.write_all(&buffer[..len]);
    }
}
