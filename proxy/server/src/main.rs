//! `proxy_server`: the data plane's process. Command line, signals, start and stop.
//!
//! The main thread runs a small runtime for signals, reloads and the admin socket; the data path is
//! in the workers' own threads and knows nothing of it.

mod admin;
mod announcement;
mod arguments;
mod clock;
mod config_file;
mod limits;
mod log;
mod privileges;
mod probes;
mod ready;
mod reasons;
mod sandbox;
mod scoring;
mod supervise;
mod udp_alone;

use std::convert::Infallible;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use admin::ReloadAsks;
use announcement::Announcement;
use arguments::{Arguments, Paths};
use config_file::ConfigFileError;
use log::Log;
use ready::Ready;
use sandbox::Confinement;
use supervise::Supervisor;

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
    match run(&arguments, &paths) {
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

type AnyError = Box<dyn std::error::Error>;

fn run(arguments: &Arguments, paths: &Paths) -> Result<(), AnyError> {
    if let Some(user) = &arguments.user {
        user.take_on()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _in_runtime = runtime.enter();
    let signals = Signals::handle()?;
    let ready = Ready::get(arguments, paths)?;
    // The working folder cannot be asked for once the process is confined.
    let root = std::path::absolute(&paths.root).unwrap_or_else(|_| paths.root.clone());
    let root = root.display();
    let confinement = sandbox::enter(&sandbox::Wanted {
        sandbox: !arguments.no_sandbox,
        keep_bind: arguments.keep_bind,
        is_other_user: arguments.user.is_some(),
        root: &paths.root,
        config: &paths.config,
        pid_file: &paths.pid_file,
        log_file: arguments.log_file.as_deref(),
        makes_files: ready.announcement.lacks_files(),
    })?;
    // The first thread is started here, confined as those after it are.
    let log_file = arguments.log_file.as_deref();
    let log = log::start(log_file).map_err(|error| match log_file {
        Some(path) => format!("--log-file {}: {error}", path.display()),
        None => format!("the log cannot go to standard error: {error}"),
    })?;
    tracing::info!("starting root={root} config={}", paths.config.display());
    confinement.log();
    let served = runtime.block_on(serve(signals, ready, confinement, arguments.pin, &log));
    log.finish();
    served
}

/// How others find the proxy, and what serves an admin socket.
type Announced<'a> = (&'a mut Announcement, &'a dyn Fn(UnixListener));

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

async fn serve(
    signals: Signals,
    ready: Ready,
    confinement: Confinement,
    is_pinned: bool,
    log: &Log,
) -> Result<(), AnyError> {
    let Ready {
        bound,
        mut announcement,
        metrics,
    } = ready;
    let (reports, reported) = probes::reports();
    let supervisor = Supervisor::start(bound, is_pinned, confinement, &reports);
    let supervisor = supervisor.map_err(|error| format!("a worker cannot be started: {error}"))?;
    let supervisor = Arc::new(supervisor);
    tokio::spawn(probes::keep_watch(Arc::clone(&supervisor), reported));
    let (asked, asks) = admin::reload_asks();
    let serve_admin = {
        let supervisor = Arc::clone(&supervisor);
        move |listener| {
            let serving = admin::serve(listener, Arc::clone(&supervisor), asked.clone());
            tokio::spawn(serving);
        }
    };
    if let Some(listener) = metrics {
        tokio::spawn(admin::serve_metrics(listener, Arc::clone(&supervisor)));
    }
    announcement.make(supervisor.confinement(), &serve_admin);
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    let announced: Announced<'_> = (&mut announcement, &serve_admin);
    until_stopped(signals, asks, &supervisor, announced, log).await;
    stop(&supervisor).await;
    drop(announcement);
    tracing::info!("stopped");
    Ok(())
}

/// Serves signals until one of them ends the process, and the drain that some ask for is over.
async fn until_stopped(
    signals: Signals,
    asks: ReloadAsks,
    supervisor: &Supervisor,
    announced: Announced<'_>,
    log: &Log,
) {
    let Signals {
        mut stop,
        hangup,
        reopen,
    } = signals;
    // Beside all else, so that a worker which hangs in a reload keeps nobody from stopping.
    let asked = tokio::select! {
        biased;
        asked = stop.recv() => asked,
        never = keep_up(hangup, reopen, asks, supervisor, announced, log) => match never {},
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

/// Reloads, whoever asks for them, log files and the watchdog, for ever.
async fn keep_up(
    mut hangup: Signal,
    mut reopen: Signal,
    mut asks: ReloadAsks,
    supervisor: &Supervisor,
    announced: Announced<'_>,
    log: &Log,
) -> Infallible {
    const SWEEP: Duration = Duration::from_secs(1);
    let (announcement, serve_admin) = announced;
    let watchdog = sd_notify::watchdog_enabled();
    // A third of the watchdog's patience: a turn and its wait for the workers take two of them.
    let period = watchdog.map_or(SWEEP, |limit| SWEEP.min(limit / 3));
    let mut sweep = tokio::time::interval(period);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = hangup.recv() => reload(supervisor).await,
            waiting = asks.recv() => {
                reload(supervisor).await;
                waiting.answer(&supervisor.running().borrow());
            }
            _ = reopen.recv() => log.reopen(),
            // Without these there is nothing to wake up for.
            _ = sweep.tick(), if watchdog.is_some() || supervisor.needs_sweep() || announcement.is_waiting() => {
                announcement.try_again(serve_admin);
                supervisor.close_unused().await;
                supervisor.try_listeners().await;
                supervisor.look_at_addresses().await;
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
        Err(_) => tracing::error!("a worker has not responded for {patience:?}"),
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
    let now_us = i128::from(proxy_engine::clock::monotonic_us());
    notify_systemd(&[reloading, sd_notify::NotifyState::MonotonicUsec(now_us)]);
    supervisor.reload().await;
    notify_systemd(&[sd_notify::NotifyState::Ready]);
}

fn notify_systemd(states: &[sd_notify::NotifyState]) {
    // Without systemd there is nobody to tell, which is fine.
    let _ = sd_notify::notify(states);
}
