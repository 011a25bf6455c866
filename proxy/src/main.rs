//! `proxy_server`: the data plane's process. Command line, signals, start and stop.
//!
//! The main thread runs a small runtime for signals, reloads and the admin socket; the data path is
//! in the workers' own threads and knows nothing of it.

mod admin;
mod clock;
mod config_file;
mod health;
mod limits;
mod listen;
mod logging;
mod metrics;
mod scoring;
mod serve;
mod status;
mod supervisor;
mod worker;
mod workers;

use std::convert::Infallible;
use std::io::Write as _;
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
use logging::Log;
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
    let text = match config_file::load_strictly(&paths.config) {
        Ok(config) if dump => format!("{:#}", config.to_json()),
        Ok(config) => {
            let backends: usize = config.pools.iter().map(|pool| pool.backends.len()).sum();
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

type AnyError = Box<dyn std::error::Error>;

fn run(arguments: &Arguments, paths: &Paths) -> Result<(), AnyError> {
    let log = logging::start(arguments.log_file.as_deref());
    let log = log.map_err(|error| format!("the log cannot be opened: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(arguments, paths, &log));
    log.finish();
    served
}

/// Every signal that the proxy handles. Made first of all: until a handler is in place, a SIGHUP
/// kills.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
    reopen: Signal,
}

/// The signals that end the process.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
}

enum Stop {
    AtOnce,
    AfterDrain,
}

impl Signals {
    fn handle() -> std::io::Result<Signals> {
        Ok(Signals {
            stop: StopSignals {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                quit: signal(SignalKind::quit())?,
            },
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

impl StopSignals {
    async fn recv(&mut self) -> Stop {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Stop::AtOnce,
            _ = self.terminate.recv() => Stop::AfterDrain,
            _ = self.quit.recv() => Stop::AfterDrain,
        }
    }
}

async fn serve(arguments: &Arguments, paths: &Paths, log: &Log) -> Result<(), AnyError> {
    let signals = Signals::handle()?;
    let mut pid_file = PidFile::hold(&paths.pid_file)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments.workers.map_or(cores, usize::from);
    let (reports, reported) = health::reports();
    let supervisor = Arc::new(Supervisor::start(
        paths.config.clone(),
        workers,
        arguments.pin,
        reports,
    )?);
    tokio::spawn(health::keep_watch(Arc::clone(&supervisor), reported));

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
    until_stopped(signals, &supervisor, log).await;
    stop(&supervisor).await;
    // The socket goes before the pid file, whose lock protects it.
    let _ = std::fs::remove_file(&socket_path);
    drop(pid_file);
    tracing::info!("stopped");
    Ok(())
}

/// Serves signals until one of them ends the process, and the drain that some ask for is over.
async fn until_stopped(signals: Signals, supervisor: &Supervisor, log: &Log) {
    let Signals {
        mut stop,
        hangup,
        reopen,
    } = signals;
    // Beside all else, so that a worker which hangs in a reload keeps nobody from stopping.
    let asked = tokio::select! {
        biased;
        asked = stop.recv() => asked,
        never = keep_up(hangup, reopen, supervisor, log) => match never {},
        never = scoring::keep_scored(supervisor) => match never {},
    };
    match asked {
        Stop::AtOnce => return,
        Stop::AfterDrain => {}
    }
    tracing::info!("draining: no new sessions, open ones finish");
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    tokio::select! {
        () = supervisor.drain() => {}
        _ = stop.recv() => {}
    }
}

/// Reloads, log files and the watchdog, for ever.
async fn keep_up(
    mut hangup: Signal,
    mut reopen: Signal,
    supervisor: &Supervisor,
    log: &Log,
) -> Infallible {
    const SWEEP: Duration = Duration::from_secs(1);
    let watchdog = sd_notify::watchdog_enabled();
    // A third of the watchdog's patience: a turn and its wait for the workers take two of them.
    let period = watchdog.map_or(SWEEP, |limit| SWEEP.min(limit / 3));
    let mut sweep = tokio::time::interval(period);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = hangup.recv() => reload(supervisor).await,
            _ = reopen.recv() => log.reopen(),
            // Without either there is nothing to wake up for.
            _ = sweep.tick(), if watchdog.is_some() || supervisor.has_retired() => {
                supervisor.close_unused().await;
                if watchdog.is_some() {
                    feed_watchdog(supervisor, period).await;
                }
            }
        }
    }
}

/// The watchdog is fed only while every worker turns: the main thread alone serves nobody.
async fn feed_watchdog(supervisor: &Supervisor, patience: Duration) {
    match tokio::time::timeout(patience, supervisor.reach_workers()).await {
        Ok(()) => notify_systemd(&[sd_notify::NotifyState::Watchdog]),
        Err(_) => tracing::error!("a worker has not answered for {patience:?}"),
    }
}

/// Ends the workers. One that hangs ends with the process.
async fn stop(supervisor: &Supervisor) {
    const DEADLINE: Duration = Duration::from_secs(10);
    if tokio::time::timeout(DEADLINE, supervisor.stop())
        .await
        .is_err()
    {
        tracing::error!("the workers have not ended within {DEADLINE:?}");
    }
}

async fn reload(supervisor: &Supervisor) {
    let reloading = sd_notify::NotifyState::Reloading;
    let now_us = i128::from(clock::monotonic_us());
    notify_systemd(&[reloading, sd_notify::NotifyState::MonotonicUsec(now_us)]);
    supervisor.reload().await;
    notify_systemd(&[sd_notify::NotifyState::Ready]);
}

fn notify_systemd(states: &[sd_notify::NotifyState]) {
    // Without systemd there is nobody to tell, which is fine.
    let _ = sd_notify::notify(states);
}
