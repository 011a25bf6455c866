//! Reads mutated inputs for a while. A panic ends it and names target and seed; `--seed` plays one
//! again.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Parser;
use inputs::{TARGETS, Target, corpus, mutate};

/// An input that takes longer is a fault, too.
const SLOW: Duration = Duration::from_secs(2);

/// Reads mutated inputs of every format, one after the other.
#[derive(Parser)]
struct Arguments {
    /// Minutes, which the targets share
    #[arg(long, value_name = "N", default_value = "1")]
    minutes: f64,
    /// Only targets whose names hold this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The first seed; on its own with --minutes 0, that one input
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
}

thread_local! {
    /// What is being read, for the message of a panic.
    static READING: Cell<(&'static str, u64)> = const { Cell::new(("nothing", 0)) };
}

fn main() {
    let arguments = Arguments::parse();
    let is_asked_for = |target: &&Target| target.name.contains(&arguments.only);
    let targets: Vec<&Target> = TARGETS.iter().filter(is_asked_for).collect();
    let time = Duration::from_secs_f64(60.0 * arguments.minutes / targets.len().max(1) as f64);
    // By a hook, since a release build ends at once.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let (name, seed) = READING.get();
        eprintln!("broken by --only {name} --seed {seed}:");
        told(panic);
    }));
    for target in targets {
        let count = read_for(target, arguments.seed, time);
        println!("{}: {count} inputs", target.name);
    }
}

/// How many inputs were read.
fn read_for(target: &Target, first: u64, time: Duration) -> u64 {
    let corpus = corpus(target.name);
    let begun = Instant::now();
    let mut seed = first;
    loop {
        READING.set((target.name, seed));
        let input = mutate::input(&corpus, seed);
        let read = Instant::now();
        (target.read)(&input);
        let took = read.elapsed();
        assert!(took < SLOW, "it took {took:?}");
        seed += 1;
        if begun.elapsed() >= time {
            return seed - first;
        }
    }
}
