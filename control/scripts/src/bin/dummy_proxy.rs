//! Plays the proxy for a control plane that is tried alone: holds the pid file and tells each
//! SIGHUP and what the file says then. It forwards nothing and has no admin socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use contract::pidfile::PidFile;
use control_client::{Signal, Signals};
use simulators::arguments::root_or_default;
use simulators::config_summary;
use simulators::output::{complain, say};

/// A stand-in for the proxy: holds the pid file, and prints each SIGHUP with the configuration.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The root folder [default: control, or the current folder inside it]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// The file to read [default: config/proxy_config.json in the root folder]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The pid file to hold [default: run/proxy.pid in the root folder]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let needs_root = arguments.config.is_none() || arguments.pid_file.is_none();
    let root = root_or_default(arguments.root);
    if needs_root && let Err(error) = root.require() {
        complain(error);
        return ExitCode::FAILURE;
    }
    let config = arguments.config.unwrap_or_else(|| root.proxy_config());
    let pid_file = arguments.pid_file.unwrap_or_else(|| root.proxy_pid());
    match run(&config, &pid_file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Path, pid_file: &Path) -> Result<(), String> {
    let mut held = PidFile::hold(pid_file).map_err(|error| error.to_string())?;
    let signals = Signals::install().map_err(|error| format!("signal handlers: {error}"))?;
    // Only now, with the handlers in place: a SIGHUP that comes sooner would end us.
    held.announce()
        .map_err(|error| format!("{}: {error}", pid_file.display()))?;
    say(format_args!(
        "dummy_proxy pid={} holds {}",
        std::process::id(),
        pid_file.display()
    ));
    tell("start", config);
    let mut hang_ups: u64 = 0;
    loop {
        match signals.wait_for_ever() {
            Signal::HangUp => {
                hang_ups += 1;
                tell(&format!("SIGHUP {hang_ups}"), config);
            }
            Signal::Stop => {
                say("stopped");
                return Ok(());
            }
        }
    }
}

fn tell(occasion: &str, config: &Path) {
    let mut lines = config_summary::lines(config).into_iter();
    if let Some(first) = lines.next() {
        say(format_args!("{occasion}: {first}"));
    }
    for line in lines {
        say(line);
    }
}
