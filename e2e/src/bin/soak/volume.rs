//! Very many sessions, after which descriptors are back and memory is flat.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use testkit::storm::play_clients;
use testkit::{Backend, Between, Kind, LONG, Manner, until};

use crate::{Outcome, swift};

const CLIENTS: usize = 8;
/// Pipes that are kept for the next stream.
const PIPES: usize = 2 * 64;
/// The allocator's own comings and goings.
const MEMORY_SLACK: u64 = 2 << 20;

pub fn short_sample(kind: Kind) -> Outcome {
    short(kind, 40_000)
}

pub fn two_million(kind: Kind) -> Outcome {
    short(kind, 2_000_000)
}

fn short(kind: Kind, sessions: u64) -> Outcome {
    let backends = [swift::start(), swift::start()];
    let proxy = Between::start(kind, &backends);
    play(proxy.listen, sessions / 20);
    let (descriptors, memory) = at_rest(&proxy, usize::MAX);
    let begun = Instant::now();
    let failed = play(proxy.listen, sessions);
    let rate = sessions as f64 / begun.elapsed().as_secs_f64();
    let (left, grown) = at_rest(&proxy, descriptors);
    let figure = format!(
        "{failed} of {sessions} failed, descriptors {descriptors} then {left}, memory {:+} KiB, {rate:.0} a second",
        (grown as i64 - memory as i64) / 1024
    );
    let kept = failed == 0 && left <= descriptors && grown <= memory + MEMORY_SLACK;
    Outcome::of(kept, figure)
}

/// Descriptors, once they are at most so many or it does not get better, and memory.
fn at_rest(proxy: &Between, at_most: usize) -> (usize, u64) {
    if let Some(ours) = proxy.ours() {
        ours.await_no_sessions();
    }
    testkit::wait::within(LONG / 4, || {
        (proxy.open_descriptors() <= at_most).then_some(())
    });
    (proxy.open_descriptors(), proxy.resident_bytes())
}

fn play(listen: SocketAddr, sessions: u64) -> u64 {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while next.fetch_add(1, Relaxed) < sessions {
                    failed.fetch_add(u64::from(swift::ask(listen).is_err()), Relaxed);
                }
            });
        }
    });
    failed.into_inner()
}

pub fn storm(kind: Kind) -> Outcome {
    const SESSIONS: u64 = 100_000;
    let backends = ["a", "b"].map(|name| Backend::start(name, Manner::Storm));
    let proxy = Between::start(kind, &backends.each_ref().map(|backend| backend.addr));
    play_clients(proxy.listen, 0..200, CLIENTS);
    let (descriptors, _) = at_rest(&proxy, usize::MAX);
    let failures = play_clients(proxy.listen, 200..SESSIONS, CLIENTS);
    let (left, _) = at_rest(&proxy, descriptors + PIPES);
    let wrong: usize = backends.iter().map(count_wrong).sum();
    let figure = format!(
        "{} of {SESSIONS} wrong at the client, {wrong} at the backend, descriptors {descriptors} then {left}",
        failures.len()
    );
    for failure in failures.iter().take(10) {
        eprintln!("{failure}");
    }
    let kept = failures.is_empty() && wrong == 0 && left <= descriptors + PIPES;
    Outcome::of(kept, figure)
}

/// How many sessions went otherwise than they should, as a backend of [`Manner::Storm`] saw it.
pub fn count_wrong(backend: &Backend) -> usize {
    let ends = until("the backend's ends have ended too", LONG, || {
        (backend.open() == 0).then(|| backend.ended())
    });
    ends.iter().filter(|ended| !ended.intact).count()
}
