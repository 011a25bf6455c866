//! Reads mutated inputs for a while. A panic names the target and the seed; `--seed` plays one again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use inputs::{TARGETS, Target, corpus, mutate};

/// An input that takes longer is a fault, too.
const SLOW: Duration = Duration::from_secs(2);

/// Reads mutated inputs of every format, for so long each.
#[derive(Parser)]
struct Arguments {
    /// Minutes for each target
    #[arg(long, value_name = "N", default_value = "1")]
    minutes: f64,
    /// Only targets whose names hold this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The first seed; on its own with --minutes 0, that one input
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs_f64(60.0 * arguments.minutes);
    let wanted = TARGETS
        .iter()
        .filter(|target| target.name.contains(&arguments.only));
    let mut code = ExitCode::SUCCESS;
    for target in wanted {
        match read_for(target, arguments.seed, time) {
            Ok(count) => println!("{}: {count} inputs", target.name),
            Err(seed) => {
                println!(
                    "{}: --seed {seed} breaks it; the message stands above",
                    target.name
                );
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// How many inputs were read, or the seed of the one that broke the target.
fn read_for(target: &Target, first: u64, time: Duration) -> Result<u64, u64> {
    let corpus = corpus(target.name);
    let begun = Instant::now();
    for seed in first.. {
        let input = mutate::input(&corpus, seed);
        let read = Instant::now();
        let returned = catch_unwind(AssertUnwindSafe(|| (target.read)(&input)));
        if returned.is_err() || read.elapsed() > SLOW {
            return Err(seed);
        }
        if begun.elapsed() >= time {
            return Ok(seed - first + 1);
        }
    }
    unreachable!("there are more seeds than time")
}
