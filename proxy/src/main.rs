//! `proxy_server`: the data plane's process. Command line, signals, start and stop.
//!
//! The main thread runs a small runtime for signals, reloads and the admin socket; the data path is
//! in the workers' own threads and knows nothing of it.

mod admin;
mod config_file;
mod limits;
mod listen;
mod logging;
mod metrics;
mod serve;
mod status;
mod supervisor;
mod worker;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use contract::Root;
use contract::paths::proxy_socket;
use contract::pidfile::PidFile;
use tokio::signal::unix::{Signal, SignalKind, signal};

use config_file::ConfigFileError;
use logging::LogFile;
use supervisor::Supervisor;

/// The data plane of Wicketgate: forwards TCP sessions and UDP flows to a pool of backends.
#[derive(Debug, Parser)]
#[command(name = "proxy_server", version, about)]
struct Arguments {
    /// The contract's folder [default: control, or the working folder inside it]
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// The configuration [default: <root>/config/proxy_config.json]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Written once ready; the admin socket stands beside it [default: <root>/run/proxy.pid]
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Worker threads [default: one a core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Keep each worker on a core of its own
    #[arg(long)]
    pin: bool,
    /// Serve GET /metrics on this address too
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Log to this file, opened anew at USR1 [default: standard error]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Check the configuration, bind nothing, and exit
    #[arg(short = 't', long)]
    check: bool,
    /// Print the configuration with every default filled in, bind nothing, and exit
    #[arg(short = 'T', long)]
    dump: bool,
}

/// Where things are, after the defaults.
struct Paths {
    config: PathBuf,
    pid_file: PathBuf,
}

impl Arguments {
    fn paths(&self) -> Paths {
        let root = self.root.clone().map(Root).unwrap_or_else(|| {
            // Without a working folder there is nothing to stand inside of.
            Root::default_from(&std::env::current_dir().unwrap_or_default())
        });
        Paths {
            config: self.config.clone().unwrap_or_else(|| root.proxy_config()),
            pid_file: self.pid_file.clone().unwrap_or_else(|| root.proxy_pid()),
        }
    }
}

fn main() -> ExitCode {
    // Prints and exits by itself: 0 for help and version, 2 for wrong usage.
    let arguments = Arguments::parse();
    let paths = arguments.paths();
    if arguments.check || arguments.dump {
        return check(&paths, arguments.dump);
    }
    match run(&arguments, &paths) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy_server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `--check` and `--dump`: every fault and every unknown key on standard error, one a line.
fn check(paths: &Paths, dump: bool) -> ExitCode {
    let path = paths.config.display();
    match config_file::load_strictly(&paths.config) {
        Ok(config) if dump => println!("{:#}", config.to_json()),
        Ok(config) => {
            let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
            println!("{path}: configuration is valid, backends={backends}");
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
    }
    ExitCode::SUCCESS
}

type AnyError = Box<dyn std::error::Error>;

fn run(arguments: &Arguments, paths: &Paths) -> Result<(), AnyError> {
    let log_file = arguments.log_file.as_deref().map(LogFile::open).transpose();
    let log_file = log_file.map_err(|error| format!("--log-file: {error}"))?;
    logging::start(log_file.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(arguments, paths, log_file))
}

/// Every signal that the proxy handles. Made first of all: until a handler is in place, a SIGHUP
/// kills.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    reopen: Signal,
}

impl Signals {
    fn handle() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

async fn serve(
    arguments: &Arguments,
    paths: &Paths,
    log_file: Option<LogFile>,
) -> Result<(), AnyError> {
    let mut signals = Signals::handle()?;
    let mut pid_file = PidFile::hold(&paths.pid_file)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments.workers.map_or(cores, usize::from);
    let supervisor = Arc::new(Supervisor::start(
        paths.config.clone(),
        workers,
        arguments.pin,
    )?);

    let socket_path = proxy_socket(&paths.pid_file);
    let socket = admin::bind(&socket_path);
    let socket = socket.map_err(|error| format!("{}: {error}", socket_path.display()))?;
    tokio::spawn(admin::serve(socket, Arc::clone(&supervisor)));
    if let Some(addr) = arguments.metrics_listen {
        let listener = tokio::net::TcpListener::bind(addr).await;
        let listener = listener.map_err(|error| format!("--metrics-listen {addr}: {error}"))?;
        tokio::spawn(admin::serve_metrics(listener, Arc::clone(&supervisor)));
    }

    pid_file
        .announce()
        .map_err(|error| format!("{}: {error}", paths.pid_file.display()))?;
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    until_stopped(&mut signals, &supervisor, log_file.as_ref()).await;
    supervisor.stop().await;
    // The socket goes before the pid file, whose lock protects it.
    let _ = std::fs::remove_file(&socket_path);
    drop(pid_file);
    tracing::info!("stopped");
    Ok(())
}

/// Serves signals until one of them ends the process, and the drain that some ask for is over.
async fn until_stopped(
    signals: &mut Signals,
    supervisor: &Arc<Supervisor>,
    log_file: Option<&LogFile>,
) {
    const SWEEP: Duration = Duration::from_secs(1);
    let watchdog = sd_notify::watchdog_enabled();
    let mut sweep = tokio::time::interval(watchdog.map_or(SWEEP, |limit| SWEEP.min(limit / 2)));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => return,
            _ = signals.terminate.recv() => break,
            _ = signals.quit.recv() => break,
            _ = signals.hangup.recv() => reload(supervisor).await,
            _ = signals.reopen.recv() => reopen_log(log_file),
            _ = sweep.tick() => {
                supervisor.close_unused().await;
                if watchdog.is_some() {
                    notify_systemd(&[sd_notify::NotifyState::Watchdog]);
                }
            }
        }
    }
    tracing::info!("draining: no new sessions, open ones finish");
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    tokio::select! {
        () = supervisor.drain() => {}
        _ = signals.terminate.recv() => {}
        _ = signals.quit.recv() => {}
        _ = signals.interrupt.recv() => {}
    }
}

async fn reload(supervisor: &Supervisor) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let monotonic_us = now.tv_sec as i128 * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    let reloading = sd_notify::NotifyState::Reloading;
    notify_systemd(&[
        reloading,
        sd_notify::NotifyState::MonotonicUsec(monotonic_us),
    ]);
    supervisor.reload().await;
    notify_systemd(&[sd_notify::NotifyState::Ready]);
}

fn reopen_log(log_file: Option<&LogFile>) {
    match log_file.map(LogFile::reopen) {
        Some(Err(error)) => tracing::error!("the log file cannot be opened anew: {error}"),
        Some(Ok(())) => tracing::info!("log file opened anew"),
        None => tracing::info!("no log file to open anew: the log goes to standard error"),
    }
}

fn notify_systemd(states: &[sd_notify::NotifyState]) {
    // Without systemd there is nobody to tell, which is fine.
    let _ = sd_notify::notify(states);
}
