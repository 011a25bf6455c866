//! `control_server`: the control plane's command line.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use contract::config::MAX_FILE_BYTES;
use contract::paths::{Root, RootError};
use control::auth::command::{self, TokenCommand};
use control::bounded_read::read_file;
use control::clock::Clock;
use control::settings::{SettingsError, SettingsFile};
use control::sources::listing;
use control::start;
use control::words::many;
use tracing_subscriber::EnvFilter;

/// The control plane of Wicketgate: console, registration, discovery, publishing.
#[derive(Parser)]
#[command(name = "control_server", version, disable_version_flag = true)]
struct Arguments {
    /// The root folder, which must exist [default: control, or the current folder inside it]
    #[arg(long, value_name = "FOLDER", global = true)]
    root: Option<PathBuf>,
    /// Create the root folder if it does not exist
    #[arg(long, conflicts_with = "check")]
    init: bool,
    /// The address to listen on, instead of the one in control_config.json
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Check the settings, name each fault and its place, and exit
    #[arg(short = 't', long)]
    check: bool,
    /// Check a discovery file, such as k8s_endpoints.json, name each fault and its place, and exit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "init", "listen"])]
    check_discovery: Option<PathBuf>,
    /// Check a static list, such as static_backends.json, name each fault and its place, and exit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "check_discovery", "init", "listen"])]
    check_static: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create, list and revoke tokens; a running server picks up changes
    #[command(subcommand)]
    Token(TokenCommand),
}

/// How many faults of one file a check names.
const MOST_NAMED: usize = 1_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Only those messages of the folder watch that an operator can act on.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,notify=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let listing = arguments.check_discovery.as_ref();
    if let Some(file) = listing.or(arguments.check_static.as_ref()) {
        return exit(check_listing(file));
    }
    let root = arguments.root.clone().map_or_else(
        || Root::default_from(&std::env::current_dir().unwrap_or_default()),
        Root,
    );
    let is_there = match arguments.init {
        true => root.init(),
        false => root.require(),
    };
    if let Err(error) = is_there {
        let is_start = !arguments.check && arguments.command.is_none();
        let hint = match error {
            RootError::Missing(_) if is_start => ", or create it with --init",
            RootError::Missing(_) | RootError::NotAFolder(_) | RootError::Io { .. } => "",
        };
        return exit(Err(format!("{error}{hint}")));
    }
    if let Some(Command::Token(command)) = arguments.command {
        let now_s = Clock::system().now().unix_s();
        return exit(command::run(command, &root, now_s));
    }
    match serve(&root, &arguments) {
        // Whoever checks a file wants to mend all of it at once.
        Err(start::StartError::Settings(SettingsError::Faults { path, faults }))
            if arguments.check =>
        {
            exit(Err(name_all(path.display(), &faults.0)))
        }
        done => exit(done),
    }
}

fn serve(root: &Root, arguments: &Arguments) -> Result<(), start::StartError> {
    let file = SettingsFile {
        root: root.clone(),
        listen: arguments.listen,
    };
    let settings = file.read()?;
    if arguments.check {
        start::check(&file, &settings)?;
        println!("{}: valid", file.path().display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(start::StartError::Runtime)?;
    let served = runtime.block_on(start::run(settings, file));
    // A call of the system that a disk does not answer must not hold up the end.
    runtime.shutdown_background();
    served
}

/// Names everything that is wrong with a file that lists backends.
fn check_listing(file: &Path) -> Result<(), String> {
    let name = file.display();
    let told = |error: std::io::Error| format!("{name}: {error}");
    // A pipe would be waited for, and a device may have no end.
    let found = std::fs::metadata(file).map_err(told)?;
    if found.is_dir() {
        return Err(format!("{name}: found a folder, allowed: a file"));
    }
    if !found.is_file() {
        return Err(format!(
            "{name}: found a pipe or a device, allowed: a regular file"
        ));
    }
    let bytes = read_file(file, MAX_FILE_BYTES)
        .map_err(told)?
        .unwrap_or_default();
    let complaints = listing::complaints(&bytes);
    if complaints.is_empty() {
        println!("{name}: valid");
        return Ok(());
    }
    Err(name_all(&name, &complaints))
}

/// Names faults of a file, one a line, up to [`MOST_NAMED`]; returns how many there are.
fn name_all(file: impl std::fmt::Display, faults: &[impl std::fmt::Display]) -> String {
    for fault in faults.iter().take(MOST_NAMED) {
        eprintln!("{file}: {fault}");
    }
    let more = faults.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        eprintln!("{file}: and {more} more");
    }
    format!("{file}: {}", many(faults.len(), "fault"))
}

fn exit<E: std::fmt::Display>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control_server: {error}");
            ExitCode::FAILURE
        }
    }
}
