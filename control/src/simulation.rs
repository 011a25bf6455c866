//! The whole control plane by seed: discovery, registrations, expiry, overrides, settings,
//! publishing, refusals and silence of the proxy, full disks, restored files, jumping clocks and
//! crashes, in random order and in virtual time.
//!
//! The code that runs is the server's own: the keeper's and the publisher's steps over a real
//! folder, taken one at a time, so that a seed always gives the same history. Beside it an oracle
//! keeps in the simplest words what was answered ([`oracle`]), and after every step what control
//! holds and what it has published is compared with that. A failure names its seed; `SIM_SEED=N`
//! plays that one alone, and `SIM_SEEDS=N` so many.

mod oracle;
mod proxy;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use world::World;

/// Played by every run of the tests; `make soak` plays thousands.
const SEEDS: u64 = 1_000;
const STEPS: usize = 60;

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

fn play(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.settle().await;
    });
}

/// Plays seeds on every core; those whose history breaks a promise.
fn play_all(seeds: u64) -> Vec<u64> {
    let (next, broken) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
                        broken.lock().expect("no holder panics").push(seed);
                    }
                }
            });
        }
    });
    broken.into_inner().expect("no holder panics")
}

#[test]
fn what_was_answered_is_held_stored_and_published_in_every_history() {
    if let Some(seed) = number_from_environment("SIM_SEED") {
        play(seed);
        return;
    }
    let broken = play_all(number_from_environment("SIM_SEEDS").unwrap_or(SEEDS));
    assert!(broken.is_empty(), "play again with SIM_SEED=N: {broken:?}");
}
