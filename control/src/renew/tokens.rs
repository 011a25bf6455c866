//! Tokens of a running server: reading them again, the time without them, and storing their last use.

use std::time::Duration;

use contract::BackendKey;

use crate::auth::TokenChange;
use crate::clock::rfc3339;
use crate::file_version::LastError;
use crate::web::App;
use crate::words::many;

/// How often the last use of tokens is stored.
const STORE_PERIOD: Duration = Duration::from_secs(10);

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
    let until = rfc3339(until_s);
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

/// Reads the tokens again.
pub fn read(app: &App, told: &mut LastError) {
    let result = match app.access.reload() {
        Ok(changes) => {
            tell_of_tokens(app, changes);
            begin_grace(app);
            if !told.clear() {
                return;
            }
            tracing::info!("tokens reloaded");
            "ok".to_owned()
        }
        Err(error) => {
            let error = error.to_string();
            if !told.is_news(&error) {
                return;
            }
            tracing::error!("{error}; the last known tokens stay valid");
            error
        }
    };
    app.shared
        .audit_own("tokens", "read_tokens", "tokens", &result);
}

/// Stores the last use of tokens for as long as control runs.
pub async fn store_now_and_then(app: App) {
    let mut tick = tokio::time::interval(STORE_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        store_uses(&app).await;
    }
}

/// Stores the last use of tokens, outside the runtime's thread, which a slow disk would block.
pub async fn store_uses(app: &App) {
    let app = app.clone();
    let stored = tokio::task::spawn_blocking(move || write_uses(&app)).await;
    stored.expect("writing a file does not panic");
}

/// Nothing depends on it, so a full disk is only reported.
fn write_uses(app: &App) {
    if let Err(error) = app.access.store_uses() {
        let path = app.shared.settings.token_uses_path.display();
        tracing::warn!("the last use of tokens is not stored: {path}: {error}");
    }
}
