//! What an operator changes while the server runs: tokens and certificate, checked twice a second and read
//! at once on SIGHUP, and `control_config.json`, read only on SIGHUP ([`reread`]). A folder watch would be
//! quicker, but does not work on some file systems. A file that cannot be read is retried at every check,
//! and reported once.

pub mod tokens;

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::file_version::LastError;
use crate::own_addresses::local_addresses;
use crate::reread;
use crate::settings::SettingsFile;
use crate::web::App;
use crate::web::tls::Tls;

const PERIOD: Duration = Duration::from_millis(500);

/// Starts the checks. From here on SIGHUP no longer ends the process.
///
/// # Errors
/// No handler can be set.
pub fn start(app: App, file: SettingsFile) -> std::io::Result<()> {
    let hangup = signal(SignalKind::hangup())?;
    tokio::spawn(tokens::store_now_and_then(app.clone()));
    tokio::spawn(run(app, file, hangup));
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

async fn run(app: App, file: SettingsFile, mut hangup: Signal) {
    let mut tick = tokio::time::interval(PERIOD);
    let mut told = Told::default();
    loop {
        let is_told = tokio::select! {
            _ = tick.tick() => false,
            _ = hangup.recv() => true,
        };
        if is_told {
            told = Told::default();
            reread::read_again(&app, &file).await;
        }
        let ours = app.clone();
        let looked = tokio::task::spawn_blocking(move || look(&ours, is_told, told));
        told = looked.await.expect("looking at files does not panic");
    }
}

/// Reads the files that have changed, or all of them if `is_told`.
fn look(app: &App, is_told: bool, mut told: Told) -> Told {
    if is_told || app.access.is_file_unread() {
        tokens::read(app, &mut told.tokens);
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
    tokens: LastError,
    certificate: LastError,
}

fn read_certificate(app: &App, tls: &Tls, told: &mut LastError) {
    let result = match tls.reload() {
        Ok(()) => {
            told.clear();
            tracing::info!("certificate reloaded");
            "ok".to_owned()
        }
        Err(error) => {
            let error = error.to_string();
            if !told.is_news(&error) {
                return;
            }
            tracing::error!("{error}; the old certificate stays in use");
            error
        }
    };
    app.shared
        .audit_own("tls", "read_certificate", "console", &result);
}
