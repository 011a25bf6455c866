//! What a running proxy reacts to: signals, whoever asks for a reload, the watchdog, and what is looked at once a
//! second.

use std::convert::Infallible;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::reload_asks::ReloadAsks;
use crate::log::Log;
use crate::scoring;
use crate::start::announcement::Announcement;
use crate::supervise::Supervisor;

/// How others find the proxy, and what serves an admin socket.
pub type Announced<'a> = (&'a mut Announcement, &'a dyn Fn(UnixListener));

/// Every signal that the proxy handles. Made first of all: until a handler is in place, a SIGHUP
/// kills.
pub struct Signals {
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
    pub fn handle() -> std::io::Result<Signals> {
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

/// Serves signals until one of them ends the process, and the drain that some ask for is over.
pub async fn until_stopped(
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

async fn reload(supervisor: &Supervisor) {
    let reloading = sd_notify::NotifyState::Reloading;
    let now_us = i128::from(proxy_engine::clock::monotonic_us());
    notify_systemd(&[reloading, sd_notify::NotifyState::MonotonicUsec(now_us)]);
    supervisor.reload().await;
    notify_systemd(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd, where it has started the proxy.
pub fn notify_systemd(states: &[sd_notify::NotifyState]) {
    // Without systemd there is nobody to tell, which is fine.
    let _ = sd_notify::notify(states);
}
