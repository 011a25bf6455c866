//! `sched_sim`: what each way of choosing a backend does to latency and to jobs lost, in virtual
//! time, on models of GPU servers.
//!
//! The pickers and the scorer are the very ones that the proxy links, driven through their public
//! interface; they see what a proxy sees and nothing else. Everything is drawn from a seed, the same
//! arrivals for every policy, so a figure can be had again to the last digit.

mod trace;

mod run;

mod figures;

mod claims;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;

use bench::sched::{choice, outcome, policy, scenario, server, simulation, workload};
use clap::Parser;

use choice::Overrides;
use policy::Policy;
use trace::{Costs, Format};

#[derive(Debug, Parser)]
#[command(
    name = "sched_sim",
    version,
    about = "Simulates scheduling policies on models of GPU servers"
)]
struct Arguments {
    /// A scenario or a family of them; `list` names them all
    #[arg(long)]
    scenario: Option<String>,
    /// Requests of a real service; without --scenario, nothing else is simulated
    #[arg(long)]
    trace: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Azure)]
    trace_format: Format,
    /// Offered load in parts of the capacity, in place of the scenario's own
    #[arg(long, value_parser = load_factor)]
    rho: Option<f64>,
    /// Seconds of work a prompt token of the trace costs
    #[arg(long, default_value_t = 0.0002, value_parser = positive)]
    prompt_cost: f64,
    /// Seconds of work a generated token of the trace costs
    #[arg(long, default_value_t = 0.02, value_parser = positive)]
    token_cost: f64,
    /// Share of the VRAM that a token of the trace takes
    #[arg(long, default_value_t = 1.6e-5, value_parser = positive)]
    vram_per_token: f64,
    /// What becomes of a job that does not fit into the VRAM, in place of the scenario's own
    #[arg(long, value_enum)]
    mode: Option<server::Mode>,
    /// Separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = Policy::ALL)]
    policies: Vec<Policy>,
    /// Runs of each scenario and policy; every policy gets the same ones
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also write a page with charts into this folder
    #[arg(long)]
    write: Option<PathBuf>,
}

fn load_factor(text: &str) -> Result<f64, String> {
    within(text, 0.01, 2.0)
}

fn positive(text: &str) -> Result<f64, String> {
    within(text, 0.0, 1e6)
}

fn within(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("allowed: a number from {min} to {max}"))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sched_sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let costs = Costs {
        prompt_s: arguments.prompt_cost,
        token_s: arguments.token_cost,
        vram_per_token: arguments.vram_per_token,
    };
    let trace = match &arguments.trace {
        Some(path) => Some(trace::read(path, arguments.trace_format, &costs)?),
        None => None,
    };
    let overrides = Overrides {
        rho: arguments.rho,
        mode: arguments.mode,
    };
    let wanted = arguments.scenario.as_deref();
    if wanted == Some("list") {
        print!("{}", choice::list());
        return Ok(());
    }
    let scenarios = choice::choose(wanted, trace, &overrides)?;
    let results = run::all(&scenarios, &arguments.policies, arguments.seeds);
    if let Some(folder) = &arguments.write {
        page::write(folder, &results)?;
    }
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&figures::rows(&results))?
        );
    } else {
        print!("{}", page::table(&results));
    }
    Ok(())
}
