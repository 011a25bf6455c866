//! Many idle sessions: what each costs, and whether reloads touch any.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use testkit::{Between, Kind};

use crate::Outcome;
use crate::hold::{Holder, echo};

/// Two descriptors each in the proxy, and two in this process.
const SESSIONS: usize = 8_000;
/// What our notes promise of an idle session.
const MOST_BYTES: u64 = 700;

pub fn memory(kind: Kind) -> Outcome {
    let holder = Holder::start();
    let proxy = Between::start(kind, &[holder.addr]);
    // What the first sessions make a proxy allocate once is no price of a session.
    let first = holder.open(proxy.listen, 100);
    let before = proxy.resident_bytes();
    let sessions = holder.open(proxy.listen, SESSIONS - 100);
    let each = proxy.resident_bytes().saturating_sub(before) / sessions.len() as u64;
    drop((first, sessions));
    Outcome::of(each <= MOST_BYTES, format!("{each} B"))
}

pub fn reloads(kind: Kind) -> Outcome {
    const FOR: Duration = Duration::from_secs(6);
    const EVERY: Duration = Duration::from_millis(200);
    let holder = Holder::start();
    let mut proxy = Between::start(kind, &[holder.addr]);
    let mut idle = holder.open(proxy.listen, SESSIONS);
    let before = proxy.resident_bytes();
    let (stopping, new, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let listen = proxy.listen;
    let (reloads, memory, processes) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stopping.load(Relaxed) {
                let seed = new.fetch_add(1, Relaxed);
                failed.fetch_add(u64::from(echo(listen, seed).is_err()), Relaxed);
            }
        });
        let begun = Instant::now();
        let mut reloads = 0;
        while begun.elapsed() < FOR {
            proxy.reload();
            reloads += 1;
            // A pace that is kept, not a condition that is awaited.
            std::thread::sleep((begun + reloads * EVERY).saturating_duration_since(Instant::now()));
        }
        let figures = (reloads, proxy.resident_bytes(), proxy.processes().len());
        stopping.store(true, Relaxed);
        figures
    });
    let cut = holder.count_cut(&mut idle);
    let (new, failed) = (new.into_inner(), failed.into_inner());
    let grown = memory as f64 / before as f64;
    let kept = cut == 0 && failed == 0 && processes == 1;
    let figure = format!(
        "{reloads} reloads: {cut} of {SESSIONS} cut, {failed} of {new} new failed, \
         {processes} processes, memory x{grown:.1}"
    );
    Outcome::of(kept, figure)
}

/// A file in which nothing stands must not take the service away.
pub fn empty_file(kind: Kind) -> Outcome {
    const AFTER: Duration = Duration::from_secs(1);
    const ASKED: u64 = 20;
    let holder = Holder::start();
    let mut proxy = Between::start(kind, &[holder.addr]);
    proxy.reload_empty();
    std::thread::sleep(AFTER);
    let served = (0..ASKED)
        .filter(|seed| echo(proxy.listen, *seed).is_ok())
        .count();
    Outcome::of(
        served as u64 == ASKED,
        format!("{served} of {ASKED} served after it"),
    )
}
