//! `gpu_agent`: the command line.

mod arguments;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use agent::access::Entrance;
use agent::fetch::Http;
use agent::nvml::DriverGpus;
use agent::run;
use agent::settings::Settings;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match carry_out(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu_agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False where `--once` found a source that gives nothing.
fn carry_out(arguments: &Arguments) -> Result<bool, String> {
    let settings = arguments.settings()?;
    let entrance = Entrance::open(arguments.access(&settings)?)?;
    let gpus = DriverGpus::default();
    for engine in &settings.engines {
        Http::open(engine.timeout, &engine.reach)?;
    }
    if arguments.check {
        match settings.engines.len() {
            1 => println!("valid, 1 engine"),
            many => println!("valid, {many} engines"),
        }
        return Ok(true);
    }
    if arguments.once {
        return print_once(&settings, &gpus);
    }
    if settings.control.is_empty() {
        arguments::refuse("--control URL is needed, or \"control\" in the file of --config");
    }
    run::run(settings, entrance, Arc::new(gpus)).map(|()| true)
}

/// One line of JSON an engine.
fn print_once(settings: &Settings, gpus: &DriverGpus) -> Result<bool, String> {
    let mut all_read = true;
    let mut stdout = std::io::stdout();
    for engine in &settings.engines {
        let (answer, is_read) = run::once(engine, gpus)?;
        all_read &= is_read;
        writeln!(stdout, "{answer}").map_err(|error| format!("standard output: {error}"))?;
    }
    Ok(all_read)
}
