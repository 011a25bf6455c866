//! Sessions that end or go on where no event says so: both ends gone at the same time, and readers
//! slower than the idle time-out.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use e2e::proxy_bench::ProxyBench;
use e2e::slow_reader::{Reader, SlowReader};
use serde_json::json;
use testkit::client::{connect, reset};
use testkit::wait::within;
use testkit::{Between, Kind, LONG, without_probes};

use crate::Outcome;

/// One end closes, the other answers that with its last bytes and a reset, as TURN servers do; each way
/// in turn.
pub fn both_gone(kind: Kind) -> Outcome {
    const SESSIONS: usize = 400;
    /// Of pipes, listeners and what else a proxy keeps once it has it.
    const KEPT: usize = 150;
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = backend.local_addr().expect("it is bound");
    let proxy = Between::start(kind, &[addr]);
    let before = proxy.open_descriptors();
    let broken = (0..SESSIONS)
        .filter(|session| {
            let played = play(&proxy, &backend, session % 2 == 0);
            played.is_err()
        })
        .count();
    let ended = Instant::now();
    let is_back = || (proxy.open_descriptors() <= before + KEPT).then_some(());
    let back = within(LONG, is_back).map(|()| ended.elapsed());
    let figure = match back {
        Some(took) => format!("{broken} of {SESSIONS} wrong, descriptors back after {took:.1?}"),
        None => format!("{broken} of {SESSIONS} wrong, descriptors not back after {LONG:?}"),
    };
    let kept = broken == 0 && back.is_some_and(|took| took < Duration::from_secs(5));
    Outcome::of(kept, figure)
}

fn play(proxy: &Between, backend: &TcpListener, backend_is_last: bool) -> std::io::Result<()> {
    let mut client = connect(proxy.listen)?;
    // A proxy may connect to the backend only when the client has sent something.
    client.write_all(b"request")?;
    let (mut backend, _) = backend.accept()?;
    backend.set_read_timeout(Some(LONG))?;
    backend.read_exact(&mut [0; 7])?;
    backend.write_all(b"answer")?;
    client.read_exact(&mut [0; 6])?;
    let (first, mut last): (TcpStream, TcpStream) = match backend_is_last {
        true => (client, backend),
        false => (backend, client),
    };
    drop(first);
    last.read_exact(&mut [0]).expect_err("an end");
    // The proxy may have seen that the first is gone.
    let _ = last.write_all(&[7; 84]);
    reset(last);
    Ok(())
}

/// Readers each way, in small reads and in streams, that take five time-outs for what was sent at once.
pub fn slow_readers(_: Kind) -> Outcome {
    const IDLE_TIMEOUT_MS: u64 = 1_000;
    const EACH: usize = 10;
    const LENGTHS: [usize; 2] = [16 << 10, 256 << 10];
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let readers: Vec<_> = [Reader::Client, Reader::Backend]
            .into_iter()
            .flat_map(|reads| LENGTHS.map(|length| (reads, length)))
            .flat_map(|shape| [shape; EACH])
            .map(|(reads, length)| {
                scope.spawn(move || {
                    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
                    let addr = backend.local_addr().expect("it is bound");
                    let settings = json!({ "idle_timeout_ms": IDLE_TIMEOUT_MS });
                    let bench = ProxyBench::start(&[addr], without_probes(settings));
                    let taken = SlowReader::open(bench.listen, &backend, reads).take_all(length);
                    taken.map_err(|what| {
                        let ended = bench.proxy.status().totals.sessions_ended;
                        format!("{reads:?} reads pieces of {length}: {what}; {ended:?}")
                    })
                })
            })
            .collect();
        let ends = readers.into_iter().map(|reader| reader.join());
        ends.filter_map(|end| end.expect("no reader panics").err())
            .collect()
    });
    wrong.iter().for_each(|what| eprintln!("{what}"));
    let all = 2 * LENGTHS.len() * EACH;
    Outcome::of(
        wrong.is_empty(),
        format!("{} of {all} cut or wrong", wrong.len()),
    )
}
