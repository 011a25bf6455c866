//! `proxy_server`: the data plane's process.
//!
//! The main thread runs a small runtime for signals, reloads and the admin socket; the data path is
//! in the workers' own threads and knows nothing of it.

mod admin;
mod arguments;
mod clock;
mod config_file;
mod limits;
mod log;
mod privileges;
mod probes;
mod reasons;
mod sandbox;
mod scoring;
mod signals;
mod start;
mod supervise;
mod udp_alone;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Paths};
use config_file::ConfigFileError;

fn main() -> ExitCode {
    // Prints and exits by itself: 0 for help and version, 2 for wrong usage.
    let arguments = Arguments::parse();
    if arguments.schema {
        return print(&format!("{:#}", contract::keys::schema()));
    }
    let paths = arguments.paths();
    if let Err(error) = arguments.require_root(&paths) {
        eprintln!("proxy_server: {error}");
        return ExitCode::FAILURE;
    }
    if arguments.check || arguments.dump {
        return check(&paths, arguments.dump);
    }
    match start::run(&arguments, &paths) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy_server: {error}");
            tell_log_file(&arguments, &*error);
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads the log alone learns of a start that failed before the log began. Not as a user that
/// the proxy is not to run as, whose file it could not write then.
fn tell_log_file(arguments: &Arguments, error: &dyn std::error::Error) {
    let is_own_user = arguments.user.is_none() || !rustix::process::geteuid().is_root();
    if let Some(path) = arguments.log_file.as_deref().filter(|_| is_own_user) {
        // It stands on standard error, too, which is all that is left where this cannot be written.
        let _ = log::append(path, &format!("ERROR start failed: {error}"));
    }
}

/// `--check` and `--dump`: every fault and every unknown key on standard error, one a line.
fn check(paths: &Paths, dump: bool) -> ExitCode {
    let path = paths.config.display();
    let text = match config_file::load_strictly(&paths.config) {
        Ok(config) if dump => format!("{:#}", config.to_json()),
        Ok(config) => {
            let backends = config_file::backend_count(&config);
            format!("{path}: configuration is valid, backends={backends}")
        }
        Err(ConfigFileError::Faulty { faults, .. }) => {
            faults
                .0
                .iter()
                .for_each(|fault| eprintln!("{path}: {fault}"));
            return ExitCode::FAILURE;
        }
        Err(error @ ConfigFileError::Unreadable { .. }) => {
            eprintln!("proxy_server: {error}");
            return ExitCode::FAILURE;
        }
    };
    print(&text)
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy_server: standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
