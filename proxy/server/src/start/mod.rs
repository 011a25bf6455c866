//! A start, from the rights that the process has to the moment when it serves, and its orderly end.

pub mod announcement;
mod ready;

use std::sync::Arc;
use std::time::Duration;

use self::ready::Ready;
use crate::admin;
use crate::arguments::{Arguments, Paths};
use crate::log::{self, Log};
use crate::probes;
use crate::sandbox::{self, Confinement};
use crate::signals::{Announced, Signals, notify_systemd, until_stopped};
use crate::supervise::Supervisor;

type AnyError = Box<dyn std::error::Error>;

/// Runs the proxy until a signal ends it.
pub fn run(arguments: &Arguments, paths: &Paths) -> Result<(), AnyError> {
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
