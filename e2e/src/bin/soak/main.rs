//! What takes too long for every run of the tests, and the figures beside other proxies: each
//! scenario plays the same peers through wicketgate, haproxy or nginx.
//!
//! `soak` alone plays every scenario once through each proxy that is installed and prints a table.
//! `soak --minutes N` plays wicketgate's longest ones until the time is over. It ends with 1 where
//! wicketgate broke a promise.

mod ends;
mod garbage;
mod hold;
mod idle;
mod stalls;
mod swift;
mod tcp;
mod udp;
mod volume;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use testkit::Kind;

/// Plays long scenarios, and the same short ones through other proxies.
#[derive(Parser)]
struct Arguments {
    /// Play wicketgate's long scenarios for so many minutes
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Play only the scenarios whose names hold this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Play wicketgate alone
    #[arg(long)]
    ours: bool,
}

/// What a scenario showed.
struct Outcome {
    kept: bool,
    figure: String,
}

impl Outcome {
    fn of(kept: bool, figure: impl Into<String>) -> Outcome {
        let figure = figure.into();
        Outcome { kept, figure }
    }
}

struct Scenario {
    name: &'static str,
    play: fn(Kind) -> Outcome,
    /// Other proxies can play it, too.
    for_others: fn(Kind) -> bool,
}

const EVERYBODY: fn(Kind) -> bool = |_| true;
const WHO_DOES_UDP: fn(Kind) -> bool = |kind| kind != Kind::Other(testkit::Peer::Haproxy);
const OURS: fn(Kind) -> bool = |kind| kind == Kind::Ours;

const fn scenario(
    name: &'static str,
    play: fn(Kind) -> Outcome,
    for_others: fn(Kind) -> bool,
) -> Scenario {
    Scenario {
        name,
        play,
        for_others,
    }
}

/// Each takes seconds.
const SHORT: &[Scenario] = &[
    scenario("half-close, then 1 MiB", tcp::half_close, EVERYBODY),
    scenario("reset after 30,000 B", tcp::reset, EVERYBODY),
    scenario("both ends gone at once", ends::both_gone, EVERYBODY),
    scenario("slow readers", ends::slow_readers, OURS),
    scenario("1 of 2 refuses", tcp::one_refuses, EVERYBODY),
    scenario(
        "kill -9 of 1 of 3 under load",
        tcp::one_is_killed,
        EVERYBODY,
    ),
    scenario("1 of 2 swallows connects", tcp::one_swallows, EVERYBODY),
    scenario("sessions of every shape", tcp::storm, EVERYBODY),
    scenario("memory of a stalled reader", tcp::stalled, EVERYBODY),
    scenario("memory of an idle session", idle::memory, EVERYBODY),
    scenario("5 reloads a second", idle::reloads, EVERYBODY),
    scenario("an empty file", idle::empty_file, EVERYBODY),
    scenario("datagrams 0..65,507 B", udp::sizes, WHO_DOES_UDP),
    scenario("upstream port over a reload", udp::port, WHO_DOES_UDP),
    scenario("100,000 sources", udp::sources, WHO_DOES_UDP),
    scenario("answers amid 6,000 sources/s", udp::answered, WHO_DOES_UDP),
    scenario("a datagram from a listener", udp::loops, OURS),
    scenario(
        "sessions one after the other",
        volume::short_sample,
        EVERYBODY,
    ),
];

/// Each takes minutes; they are played in turn.
const LONG: &[Scenario] = &[
    scenario("2,000,000 sessions", volume::two_million, OURS),
    scenario("100,000 sessions of every shape", volume::storm, OURS),
    scenario("both ends gone at once", ends::both_gone, OURS),
    scenario("slow readers", ends::slow_readers, OURS),
    scenario("5 reloads a second", idle::reloads, OURS),
    scenario("100,000 sources", udp::sources, OURS),
    scenario("answers amid 6,000 sources/s", udp::answered, OURS),
    scenario("a datagram from a listener", udp::loops, OURS),
    scenario("garbage beside requests", garbage::beside_requests, OURS),
    scenario("stalls of control, and a crowd", stalls::stalls, OURS),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_asked = |scenario: &&Scenario| scenario.name.contains(&arguments.only);
    match arguments.minutes {
        Some(minutes) => {
            let scenarios: Vec<_> = LONG.iter().filter(is_asked).collect();
            play_for(&scenarios, Duration::from_secs(60 * minutes))
        }
        None => {
            let scenarios: Vec<_> = SHORT.iter().filter(is_asked).collect();
            compare(&scenarios, arguments.ours)
        }
    }
}

/// Plays them in turn, each at least once, until the time is over.
fn play_for(scenarios: &[&Scenario], time: Duration) -> ExitCode {
    let begun = Instant::now();
    let mut code = ExitCode::SUCCESS;
    loop {
        for scenario in scenarios {
            let played = Instant::now();
            let outcome = (scenario.play)(Kind::Ours);
            let word = if outcome.kept { "kept" } else { "BROKEN" };
            let (name, figure) = (scenario.name, outcome.figure);
            println!("{word}: {name}: {figure} ({:.0?})", played.elapsed());
            if !outcome.kept {
                code = ExitCode::FAILURE;
            }
        }
        if scenarios.is_empty() || begun.elapsed() >= time {
            return code;
        }
    }
}

/// Plays them once through every proxy and prints a table.
fn compare(scenarios: &[&Scenario], ours_alone: bool) -> ExitCode {
    let is_wanted = |kind: &Kind| *kind == Kind::Ours || !ours_alone && kind.is_at_hand();
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(is_wanted).collect();
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    println!("| scenario | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    let mut code = ExitCode::SUCCESS;
    for scenario in scenarios {
        let mut row = format!("| {} |", scenario.name);
        for kind in &kinds {
            if !(scenario.for_others)(*kind) {
                row.push_str(" - |");
                continue;
            }
            let outcome = (scenario.play)(*kind);
            let mark = if outcome.kept { "" } else { "**" };
            row.push_str(&format!(" {mark}{}{mark} |", outcome.figure));
            if *kind == Kind::Ours && !outcome.kept {
                code = ExitCode::FAILURE;
            }
        }
        println!("{row}");
    }
    code
}
