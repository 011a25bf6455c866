//! What an operator changes while the server runs: tokens and certificate, checked twice a second and read
//! at once on SIGHUP, and `control_config.json`, read only on SIGHUP ([`reread`]). A folder watch would be
//! quicker, but does not work on some file systems. A file that cannot be read is retried at every check,
//! and reported once.

use std::time::Duration;

use contract::BackendKey;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::auth::{TokenChange, command};
use crate::publish::local_addresses;
use crate::reread::{self, Source};
use crate::web::App;
use crate::web::tls::Tls;
use crate::words::many;

const PERIOD: Duration = Duration::from_millis(500);
/// How often the last use of tokens is stored.
const STORE_PERIOD: Duration = Duration::from_secs(10);

/// Starts the checks. From here on SIGHUP no longer ends the process.
///
/// # Errors
/// No handler can be set.
pub fn start(app: App, source: Source) -> std::io::Result<()> {
    let hangup = signal(SignalKind::hangup())?;
    tokio::spawn(store_now_and_then(app.clone()));
    tokio::spawn(run(app, source, hangup));
    Ok(())
}

/// How often this machine's addresses are read.
const ADDRESSES_PERIOD: Duration = Duration::from_secs(1);

/// Lets browsers use addresses that this machine gains later, such as a virtual one, and none that it has
/// lost.
pub async fn follow_addresses(app: App) {
    let mut tick = tokio::time::interval(ADDRESSES_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = Vec::new();
    loop {
        tick.tick().await;
        let addresses = local_addresses();
        // If they cannot be read, as without descriptors, none counts as lost.
        if addresses != known && !addresses.is_empty() {
            app.hosts.own(&addresses);
            known = addresses;
        }
    }
}

async fn store_now_and_then(app: App) {
    let mut tick = tokio::time::interval(STORE_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        store_uses_apart(&app).await;
    }
}

async fn run(app: App, source: Source, mut hangup: Signal) {
    let mut tick = tokio::time::interval(PERIOD);
    let mut told = Told::default();
    loop {
        let is_told = tokio::select! {
            _ = tick.tick() => false,
            _ = hangup.recv() => true,
        };
        if is_told {
            told = Told::default();
            reread::read_again(&app, &source).await;
        }
        let ours = app.clone();
        let looked = tokio::task::spawn_blocking(move || look(&ours, is_told, told));
        told = looked.await.expect("looking at files does not panic");
    }
}

/// Reads the files that have changed, or all of them if `is_told`.
fn look(app: &App, is_told: bool, mut told: Told) -> Told {
    if is_told || app.access.is_file_unread() {
        read_tokens(app, &mut told.tokens);
    }
    if let Some(tls) = &app.tls
        && (is_told || tls.is_a_file_unread())
    {
        read_certificate(app, tls, &mut told.certificate);
    }
    told
}

/// The last reported error of each, while it lasts.
#[derive(Default)]
struct Told {
    tokens: Option<String>,
    certificate: Option<String>,
}

/// Returns whether `error` differs from the last reported one.
fn is_news(told: &mut Option<String>, error: &str) -> bool {
    told.replace(error.to_owned()).as_deref() != Some(error)
}

/// Outside the runtime's thread, which a slow disk would block.
pub async fn store_uses_apart(app: &App) {
    let app = app.clone();
    let stored = tokio::task::spawn_blocking(move || store_uses(&app)).await;
    stored.expect("writing a file does not panic");
}

/// Nothing depends on it, so a full disk is only reported.
fn store_uses(app: &App) {
    if let Err(error) = app.access.store_uses() {
        let path = app.shared.settings.token_uses_path.display();
        tracing::warn!("the last use of tokens is not stored: {path}: {error}");
    }
}

fn read_certificate(app: &App, tls: &Tls, told: &mut Option<String>) {
    let result = match tls.reload() {
        Ok(()) => {
            *told = None;
            tracing::info!("certificate reloaded");
            "ok".to_owned()
        }
        Err(error) => {
            let error = error.to_string();
            if !is_news(told, &error) {
                return;
            }
            tracing::error!("{error}; the old certificate stays in use");
            error
        }
    };
    app.shared
        .audit_own("tls", "read_certificate", "console", &result);
}

/// Registrations that exist when tokens are first needed continue for a while; logged when this begins.
pub fn begin_grace(app: &App) {
    let registered: Vec<BackendKey> = {
        let model = app.shared.model();
        let entries = model.registry.entries.iter();
        let registered = entries.filter(|(_, entry)| entry.registered.is_some());
        registered.map(|(key, _)| key.clone()).collect()
    };
    let Some((until_s, count)) = app.access.begin_grace(registered) else {
        return;
    };
    let until = command::time(until_s);
    tracing::warn!(
        "calls now need a token; {count} registrations can be refreshed from this machine without one \
         until {until}"
    );
    let target = many(count, "registration");
    let result = format!("refreshed without a token until {until}");
    app.shared.audit_own("tokens", "grace", &target, &result);
}

/// Logs changes that are in effect.
pub fn tell_of_tokens(app: &App, changes: Vec<TokenChange>) {
    for change in changes {
        let (action, label) = match &change {
            TokenChange::Added(label) => ("token_added", label),
            TokenChange::Removed(label) => ("token_removed", label),
        };
        tracing::info!("{action}: {label}");
        app.shared.audit_own("tokens", action, label, "ok");
    }
}

fn read_tokens(app: &App, told: &mut Option<String>) {
    let result = match app.access.reload() {
        Ok(changes) => {
            tell_of_tokens(app, changes);
            begin_grace(app);
            if told.take().is_none() {
                return;
            }
            tracing::info!("tokens reloaded");
            "ok".to_owned()
        }
        Err(error) => {
            let error = error.to_string();
            if !is_news(told, &error) {
                return;
            }
            tracing::error!("{error}; the last known tokens stay valid");
            error
        }
    };
    app.shared
        .audit_own("tokens", "read_tokens", "tokens", &result);
}
