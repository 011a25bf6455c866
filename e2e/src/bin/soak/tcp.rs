//! Ends, failures and memory of sessions, as "the same tests for everyone" have them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::backend::Ended;
use testkit::client::{self, connect};
use testkit::deaf::{Blackhole, Refuser};
use testkit::pattern::Pattern;
use testkit::ports::free_address;
use testkit::protocol::UP_SEED;
use testkit::storm::play_clients;
use testkit::wait::within;
use testkit::{Backend, Between, Kind, LONG, Manner, Program, Session, until};

use crate::Outcome;
use crate::volume::count_wrong;

const MIB: usize = 1 << 20;

/// Each way in turn: the end of one direction, then a MiB in the other.
pub fn half_close(kind: Kind) -> Outcome {
    const ROUNDS: usize = 10;
    let (late, early) = (
        Backend::start(
            "late",
            Manner::AnswerAtEnd {
                seed: 7,
                length: MIB,
            },
        ),
        Backend::start("early", Manner::CloseFirst),
    );
    let proxies = [&late, &early].map(|backend| Between::start(kind, &[backend.addr]));
    let mut down = 0;
    for _ in 0..ROUNDS {
        let Ok(mut session) = Session::open(proxies[0].listen) else {
            continue;
        };
        let answer = session
            .stream
            .write_all(b"request")
            .and_then(|()| session.finish());
        down += answer.map_or(0, |bytes| bytes.len());
        if let Ok(mut session) = Session::open(proxies[1].listen) {
            // How much arrived is the backend's to say.
            let _ = session.stream.read(&mut [0]);
            let _ = session.stream.write_all(&Pattern::bytes(UP_SEED, MIB));
            let _ = session.finish();
        }
    }
    let arrived = || early.ended().iter().map(|ended| ended.bytes).sum::<u64>();
    let whole = (ROUNDS * MIB) as u64;
    within(LONG / 4, || (arrived() >= whole).then_some(()));
    let up = arrived();
    let percent = |bytes: f64| 100.0 * bytes / (ROUNDS * MIB) as f64;
    let (down, up) = (percent(down as f64), percent(up as f64));
    let kept = down == 100.0 && up == 100.0;
    Outcome::of(kept, format!("{down:.0} % down, {up:.0} % up"))
}

/// Each way in turn: bytes, then a reset.
pub fn reset(kind: Kind) -> Outcome {
    const ROUNDS: usize = 20;
    const LENGTH: usize = 30_000;
    let rough = Manner::Reset {
        seed: 8,
        length: LENGTH,
    };
    let rough = Backend::start("rough", rough);
    let reader = Backend::start("reader", Manner::AnswerAtEnd { seed: 0, length: 0 });
    let proxies = [&rough, &reader].map(|backend| Between::start(kind, &[backend.addr]));
    let (mut down, mut begun) = (0, 0);
    for _ in 0..ROUNDS {
        // Where the reset is here before connect(2) returns, nobody can tell what came before.
        if let Ok(mut session) = connect(proxies[0].listen).and_then(Session::over) {
            begun += 1;
            down += usize::from(ends_by_reset_after(&mut session.stream, 8, LENGTH));
        }
        if let Ok(mut session) = Session::open(proxies[1].listen) {
            // How much arrived is the backend's to say.
            let _ = session.stream.write_all(&Pattern::bytes(UP_SEED, LENGTH));
            client::reset(session.stream);
        }
    }
    let is_right = |ended: &&Ended| ended.reset && ended.intact && ended.bytes == LENGTH as u64;
    let right = || reader.ended().iter().filter(is_right).count();
    within(LONG / 4, || (right() == ROUNDS).then_some(()));
    let up = right();
    let kept = begun > 0 && down == begun && up == ROUNDS;
    let figure = format!("{down} of {begun} arrive down, {up} of {ROUNDS} up");
    Outcome::of(kept, figure)
}

fn ends_by_reset_after(stream: &mut TcpStream, seed: u64, length: usize) -> bool {
    let mut bytes = vec![0; length];
    let is_whole = stream.read_exact(&mut bytes).is_ok() && bytes == Pattern::bytes(seed, length);
    let end = stream.read(&mut [0]).map_err(|error| error.kind());
    is_whole && end == Err(ErrorKind::ConnectionReset)
}

/// How many of `count` sessions reach a backend that echoes, and the longest wait for one.
fn served(listen: SocketAddr, count: usize) -> (usize, Duration) {
    let mut longest = Duration::ZERO;
    let ask = |_: &usize| {
        let begun = Instant::now();
        let is_served = Session::open(listen).and_then(Session::finish).is_ok();
        longest = longest.max(begun.elapsed());
        is_served
    };
    let served = (0..count).filter(ask).count();
    (served, longest)
}

pub fn one_refuses(kind: Kind) -> Outcome {
    const SESSIONS: usize = 40;
    let (refuser, echo) = (Refuser::new(), Backend::start("echo", Manner::Echo));
    let proxy = Between::start(kind, &[refuser.addr, echo.addr]);
    let (served, _) = served(proxy.listen, SESSIONS);
    Outcome::of(served == SESSIONS, format!("{served} of {SESSIONS} served"))
}

pub fn one_swallows(kind: Kind) -> Outcome {
    const SESSIONS: usize = 40;
    let (hole, echo) = (Blackhole::new(), Backend::start("echo", Manner::Echo));
    let proxy = Between::start(kind, &[hole.addr, echo.addr]);
    let begun = Instant::now();
    let (served, longest) = served(proxy.listen, SESSIONS);
    let all = begun.elapsed();
    let figure =
        format!("{served} of {SESSIONS} served, the slowest in {longest:.1?}, all in {all:.1?}");
    Outcome::of(served == SESSIONS, figure)
}

pub fn one_is_killed(kind: Kind) -> Outcome {
    const AFTER: u64 = 2_000;
    let addresses = [(); 3].map(|()| free_address());
    let mut programs = addresses.map(|addr| {
        let mut program = Program::start("demo_backend", ["--listen", &addr.to_string()]);
        program.wait_for_line("listens on");
        program
    });
    let proxy = Between::start(kind, &addresses);
    let (killed, stopping) = (AtomicBool::new(false), AtomicBool::new(false));
    let (before, after, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stopping.load(Relaxed) {
                    // Only what is begun after the kill is a new session.
                    let is_new = killed.load(Relaxed);
                    let is_served = greeted(proxy.listen).is_ok();
                    let count = if is_new { &after } else { &before };
                    count.fetch_add(1, Relaxed);
                    failed.fetch_add(u64::from(is_new && !is_served), Relaxed);
                }
            });
        }
        let enough = |count: &AtomicU64, least| {
            until("sessions end", LONG, || {
                (count.load(Relaxed) >= least).then_some(())
            });
        };
        enough(&before, 200);
        programs[1].signal(Signal::KILL);
        programs[1].wait_exit(LONG);
        killed.store(true, Relaxed);
        enough(&after, AFTER);
        stopping.store(true, Relaxed);
    });
    let (after, failed) = (after.into_inner(), failed.into_inner());
    Outcome::of(
        failed == 0,
        format!("{failed} of {after} new sessions failed"),
    )
}

/// A demonstration backend says its name at once, and each line again.
fn greeted(listen: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(listen)?;
    stream.write_all(b"line\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.lines().count() {
        2 => Ok(()),
        _ => Err(std::io::Error::other(text)),
    }
}

pub fn storm(kind: Kind) -> Outcome {
    const SESSIONS: u64 = 4_000;
    let backends = ["a", "b"].map(|name| Backend::start(name, Manner::Storm));
    let proxy = Between::start(kind, &backends.each_ref().map(|backend| backend.addr));
    let failures = play_clients(proxy.listen, 0..SESSIONS, 8).len();
    let wrong: usize = backends.iter().map(count_wrong).sum();
    let figure = format!("{failures} of {SESSIONS} wrong at the client, {wrong} at the backend");
    Outcome::of(failures == 0 && wrong == 0, figure)
}

pub fn stalled(kind: Kind) -> Outcome {
    const SESSIONS: usize = 100;
    const MOST: u64 = 64 << 10;
    let backend = Backend::start("stalled", Manner::Stalled);
    let proxy = Between::start(kind, &[backend.addr]);
    let open = || Session::open(proxy.listen).expect("a session is served");
    let first: Vec<_> = (0..10).map(|_| open()).collect();
    first.iter().for_each(|session| fill(&session.stream));
    let before = proxy.resident_bytes();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| open()).collect();
    sessions.iter().for_each(|session| fill(&session.stream));
    let each = proxy.resident_bytes().saturating_sub(before) / SESSIONS as u64;
    drop((first, sessions));
    backend.release();
    Outcome::of(each <= MOST, format!("{:.1} KiB", each as f64 / 1024.0))
}

/// Sends until nothing more is taken for a while.
fn fill(mut stream: &TcpStream) {
    const QUIET: Duration = Duration::from_millis(30);
    let piece = vec![0; 256 << 10];
    stream.set_nonblocking(true).expect("a socket");
    while within(QUIET, || stream.write(&piece).ok()).is_some() {}
}
