//! `sched_proof`: the scheduling of the real proxy, on real sockets.
//!
//! The real `control_server` and `proxy_server` stand before model servers on loopback, which register
//! and beat as GPU servers do; an open loop of seeded, heavy-tailed jobs goes through the proxy, the
//! same ones under every policy. What is modelled is the GPU alone: its slots, its VRAM, and how jobs
//! slow each other. Sockets, processes, reports and everything between are real.

mod clock;
mod wire;

mod load;
mod servers;

mod act;
mod planes;
mod sample;

mod page;
mod results;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bench::machine::{self, Machine};
use clap::Parser;
use contract::Algorithm;
use control_client::Signals;

use act::Act;
use clock::SPEED;
use planes::Binaries;
use results::Results;

#[derive(Debug, Parser)]
#[command(
    name = "sched_proof",
    version,
    about = "Compares scheduling policies of the real proxy before models of GPU servers"
)]
struct Arguments {
    /// The folder of control_server and proxy_server [default: that of this program]
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Separated by commas
    #[arg(long, value_delimiter = ',', value_parser = ["mixed", "mixed_streamed", "pressure", "black_hole", "black_hole_ejected"])]
    acts: Vec<String>,
    /// Separated by commas. Not peak_ewma, whose decay of 10 s cannot run as fast as the model
    #[arg(long, value_delimiter = ',', value_parser = algorithm,
          default_value = "round_robin,least_connections,power_of_two,gpu_aware")]
    policies: Vec<Algorithm>,
    /// Runs of each act and policy; in a round every policy gets the same jobs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    /// Jobs of a run
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=200_000))]
    jobs: u64,
    /// Also write raw figures, a page and a chart into this folder
    #[arg(long)]
    write: Option<PathBuf>,
    /// Measure nothing: write page and chart again from the raw figures kept in this folder
    #[arg(long, conflicts_with_all = ["programs", "acts", "policies", "rounds", "jobs", "write"])]
    redraw: Option<PathBuf>,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let found = Algorithm::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let names = Algorithm::ALL.map(|(name, _)| name).join(", ");
        format!("allowed: {names}")
    })
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sched_proof: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = &arguments.redraw {
        return Ok(page::redraw(folder)?);
    }
    let beside = std::env::current_exe()?;
    let beside = beside.parent().unwrap_or(Path::new("."));
    let binaries = Binaries::in_folder(arguments.programs.as_deref().unwrap_or(beside))?;
    let own_network = machine::enter_own_network()?;
    machine::raise_descriptor_limit()?;
    heed_signals()?;
    let acts = chosen(&arguments.acts, arguments.jobs as usize);
    let mut results = Results {
        what: "models of GPU servers on real sockets, through the real planes; no GPU took part"
            .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: Machine::look(own_network),
        model_seconds_a_second: SPEED,
        jobs: arguments.jobs as usize,
        samples: Vec::new(),
    };
    for round in 1..=arguments.rounds {
        for act in &acts {
            // Each goes first in its turn, so that none always runs on a machine of one kind.
            for at in 0..arguments.policies.len() {
                let turn = (at + round as usize) % arguments.policies.len();
                let algorithm = arguments.policies[turn];
                let sample = sample::run(&binaries, act, algorithm, round, &INTERRUPTED)?;
                eprintln!("{}", page::line(&sample));
                results.samples.push(sample);
            }
        }
        // What is measured by now is kept, whatever ends a later round.
        if let Some(folder) = &arguments.write {
            page::write(folder, &results)?;
        }
    }
    print!("{}", page::tables(&results));
    Ok(())
}

/// Set by a signal, so that a run ends in order and leaves neither processes nor folders behind.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn heed_signals() -> std::io::Result<()> {
    let signals = Signals::install()?;
    std::thread::spawn(move || {
        signals.wait_for_ever();
        INTERRUPTED.store(true, Relaxed);
    });
    Ok(())
}

/// The acts that are named; all where none is.
fn chosen(names: &[String], jobs: usize) -> Vec<Act> {
    let is_wanted = |act: &Act| names.is_empty() || names.iter().any(|name| name == act.name);
    act::all(jobs).into_iter().filter(is_wanted).collect()
}
