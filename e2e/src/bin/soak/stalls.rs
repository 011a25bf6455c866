//! Control stalls again and again, before a crowd of silent connections: agents go on beating, and no
//! session fails.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use e2e::beats::{beat, crowd, raise_descriptor_limit};
use e2e::loop_bench::LoopBench;
use rustix::process::Signal;
use serde_json::json;
use testkit::{Kind, Manner, Session};

use crate::Outcome;

const TTL_S: u64 = 2;
const ROUNDS: usize = 4;
/// More than two TTLs.
const STALL: Duration = Duration::from_secs(5);
/// Between two stalls: whoever is to expire by mistake does.
const BETWEEN: Duration = Duration::from_secs(3);
const BEAT: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_millis(5);

pub fn stalls(_: Kind) -> Outcome {
    raise_descriptor_limit();
    let settings = json!({ "runtime_ttl_sec": TTL_S, "expiry_freeze": false });
    let mut bench = LoopBench::of(Manner::Echo, settings);
    let (control, listen) = (bench.control.addr, bench.listen);
    let backends = [bench.a.addr, bench.b.addr];
    backends.iter().for_each(|backend| {
        beat(control, *backend);
    });
    // Nobody vouches for them but themselves.
    bench.folder.write_k8s(&[]);
    bench.await_reached("b");
    let stopping = AtomicBool::new(false);
    let [sessions, failed, beats] = [const { AtomicU64::new(0) }; 3];
    std::thread::scope(|scope| {
        for backend in backends {
            let (stopping, beats) = (&stopping, &beats);
            scope.spawn(move || {
                while !stopping.load(Relaxed) {
                    beats.fetch_add(u64::from(beat(control, backend)), Relaxed);
                    std::thread::sleep(BEAT);
                }
            });
        }
        scope.spawn(|| {
            while !stopping.load(Relaxed) {
                let served = Session::open(listen).and_then(|mut session| session.echo(b"word"));
                sessions.fetch_add(1, Relaxed);
                failed.fetch_add(u64::from(served.is_err()), Relaxed);
                std::thread::sleep(PACE);
            }
        });
        for _ in 0..ROUNDS {
            let silent = crowd(control, "");
            bench.control.program.signal(Signal::STOP);
            std::thread::sleep(STALL);
            bench.control.program.signal(Signal::CONT);
            std::thread::sleep(BETWEEN);
            drop(silent);
        }
        stopping.store(true, Relaxed);
    });
    let (sessions, failed, beats) = (
        sessions.into_inner(),
        failed.into_inner(),
        beats.into_inner(),
    );
    let expired = bench
        .control
        .program
        .count_lines("no heartbeat within its TTL");
    Outcome::of(
        failed == 0 && expired == 0,
        format!(
            "{failed} of {sessions} sessions failed, {expired} expired, {beats} beats answered"
        ),
    )
}
