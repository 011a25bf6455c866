//! Plays a cluster's discovery: writes `k8s_endpoints.json`, once or again and again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use contract::publish::{publish, remove_litter};
use contract::{BackendAddr, Name};
use control_client::Signals;
use control_client::arguments::seconds;
use fastrand::Rng;
use simulators::arguments::{self, Backends};
use simulators::fleet::{Changes, Fleet, invented_addrs};
use simulators::output::{complain, say};

/// Simulates the discovery of a cluster: writes the list of GPU nodes that control watches.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
struct Arguments {
    /// The file to write [default: data/k8s_endpoints.json in the root folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The root folder [default: control, or the current folder inside it]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Number of nodes, at made-up addresses where nothing answers
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(0..=1000))]
    n: u16,
    /// List these addresses instead, separated by commas
    #[arg(long, value_name = "IP:PORT,...", conflicts_with = "n", value_parser = arguments::backends)]
    backends: Option<Backends>,
    /// The pool of the nodes [default: default]
    #[arg(long, value_name = "NAME", value_parser = arguments::pool)]
    pool: Option<Name>,
    /// Run until stopped: nodes come and go, at least one stays, figures drift
    #[arg(long = "loop")]
    is_loop: bool,
    /// Seconds from one version to the next, with --loop
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    interval: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let addrs = match arguments.backends {
        Some(Backends(addrs)) => addrs,
        None => invented_addrs(arguments.n),
    };
    let path = match arguments.out {
        Some(path) => path,
        None => {
            let root = arguments::root_or_default(arguments.root);
            if let Err(error) = root.require() {
                complain(error);
                return ExitCode::FAILURE;
            }
            root.k8s_endpoints()
        }
    };
    let pool = arguments.pool.as_ref();
    let mut rng = Rng::new();
    let mut fleet = Fleet::new(addrs, &mut rng);
    if !arguments.is_loop {
        return match write(&path, &fleet, pool, &Changes::default()) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
    }
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            complain(format_args!("signal handlers: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // What a killed run left behind; a folder that is not there yet holds nothing.
    let _ = remove_litter(&path);
    let mut changes = Changes::default();
    loop {
        // A disk that is full or read-only may recover, so a failure ends no loop.
        write(&path, &fleet, pool, &changes);
        if signals.wait(arguments.interval).is_some() {
            return ExitCode::SUCCESS;
        }
        changes = fleet.step(&mut rng);
    }
}

/// Writes the list. `false`: it could not be written, and the previous list stays in place.
fn write(path: &Path, fleet: &Fleet, pool: Option<&Name>, changes: &Changes) -> bool {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let document = fleet.document(pool, since_1970.unwrap_or_default().as_secs());
    let text = format!("{document:#}\n");
    if let Err(error) = publish(path, text.as_bytes()) {
        complain(format_args!(
            "{} cannot be written: {error}; the previous list stays in place",
            path.display()
        ));
        return false;
    }
    let count = fleet.listed().count();
    say(format_args!(
        "{}: backends={count}{}",
        path.display(),
        described(changes)
    ));
    true
}

fn described(changes: &Changes) -> String {
    let list = |sign: &str, addrs: &[BackendAddr]| -> String {
        addrs.iter().map(|addr| format!(" {sign}{addr}")).collect()
    };
    list("+", &changes.came) + &list("-", &changes.left)
}
