//! `POST /api/settings`: stored, published, and rolled back if the proxy refuses it.

use ::api::Sync;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::body::JsonObject;
use super::error::ApiError;
use super::v1::changes::precondition_unless;
use super::v1::{problem, view};
use super::{App, answers, api};
use crate::actor::Actor;
use crate::calls::{OnRefusal, SettingsCall};
use crate::keeper::NotStored;
use crate::model::{Mutation, Refusal};
use crate::publish::{Incident, Settled};

/// How often it is tried to store that the outcome of a call is known.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// The actor of what follows from what the proxy says.
const PUBLISHER: Actor = Actor::Control("publisher");

pub async fn change_settings(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "settings", "proxy", error);
    let if_revision = precondition_unless(true, &app, &headers).map_err(refused)?;
    let id = app.shared.next_call.fetch_add(1, Ordering::Relaxed);
    let call = SettingsCall::read(id, body).map_err(|faults| refused(faults.into()))?;
    let call = SettingsCall {
        if_revision,
        ..call
    };
    carry_through(app, actor, call).await
}

/// A call continues even if its client is gone.
pub async fn carry_through(
    app: App,
    actor: Actor,
    call: SettingsCall,
) -> Result<Response, ApiError> {
    tokio::spawn(carry_out(app, actor, call))
        .await
        .expect("it does not panic")
}

async fn carry_out(app: App, actor: Actor, call: SettingsCall) -> Result<Response, ApiError> {
    let (id, on_refusal, patch) = (call.id, call.on_refusal, call.patch.clone());
    let stored = app
        .keeper
        .mutate(Mutation::ChangeSettings(call), actor)
        .await;
    let stored = match stored {
        Ok(stored) => stored,
        // It is in the file, so it is published without further reports.
        Err(error @ NotStored::NotLasting { .. }) => {
            let _ = keep(&app, id).await;
            return Err(error.into());
        }
        Err(NotStored::Refused(Refusal::Stale { .. })) => {
            return Err(problem::stale(&view::etag(&app)).audited());
        }
        Err(error) => return Err(error.into()),
    };
    let (asked, changed) = {
        let model = app.shared.model();
        let asked = model.settings().asked(&patch);
        let call = model.pending.iter().find(|call| call.id == id);
        let changed = call.map(|call| call.old.differing(&call.new));
        (asked, changed.unwrap_or_default())
    };
    // As this change left them; another change may be made before it is published.
    let answer = json!({ "ok": true, "settings": api::settings_json(&app) });
    let settled = app.publisher.settled(stored.revision).await;
    let refused = settled.refused(&asked);
    if refused.is_empty() {
        let mut sync = answers::sync(&app, "settings", &settled);
        warn_unless(keep(&app, id).await, &mut sync);
        return Ok(answers::with_sync(&settled, sync, |published| {
            answers::joined(answer, published)
        }));
    }
    // A value that was refused before and is only repeated rolls nothing back.
    let mut own = asked;
    own.retain(|key, _| changed.contains(key));
    if on_refusal == OnRefusal::RollBack
        && !settled.refused(&own).is_empty()
        && let Some(revision) = roll_back(&app, id).await
    {
        let settled = app.publisher.settled(revision).await;
        return Err(rolled_back(&app, &settled, &refused));
    }
    let is_kept = keep(&app, id).await;
    Ok(tried_again(&app, &settled, &refused, answer, is_kept))
}

/// The outcome is known, or the answer says that it is not: a later refusal is an incident, and
/// changes no settings. False where that could not be stored: it is tried again until it is, since a
/// later start would take the call for one that a crash has cut.
async fn keep(app: &App, id: u64) -> bool {
    if is_kept(app, id).await {
        return true;
    }
    let app = app.clone();
    tokio::spawn(async move {
        while !is_kept(&app, id).await {
            tokio::time::sleep(KEEP_AGAIN).await;
        }
    });
    false
}

async fn is_kept(app: &App, id: u64) -> bool {
    let kept = app.keeper.mutate(Mutation::KeepSettings(id), PUBLISHER);
    match kept.await {
        Err(NotStored::Store { .. }) => false,
        // Nothing waits where nothing was changed, or where its outcome is known.
        Ok(_) | Err(NotStored::Refused(_) | NotStored::NotLasting { .. } | NotStored::Stopping) => {
            true
        }
    }
}

const NOT_KEPT: &str = "settings_runtime.json cannot be written: if control restarts before it can, \
                        and the proxy then refuses these settings, they are rolled back";

/// The model's revision afterwards; `None` where the settings stand.
async fn roll_back(app: &App, id: u64) -> Option<u64> {
    match app
        .keeper
        .mutate(Mutation::RollBackSettings(id), PUBLISHER)
        .await
    {
        Ok(stored) => Some(stored.revision),
        // It is in the file, and so in force.
        Err(error @ NotStored::NotLasting { .. }) => {
            tracing::error!("settings rolled back: {error}");
            Some(app.shared.model().revision)
        }
        // Other settings were restored meanwhile, and apply.
        Err(NotStored::Refused(Refusal::Settled)) => None,
        Err(error) => {
            tracing::error!("settings not rolled back: {error}");
            None
        }
    }
}

fn reason_of(refused: &[Incident]) -> String {
    let reasons: Vec<String> = refused.iter().map(Incident::describe).collect();
    reasons.join("; ")
}

fn rolled_back(app: &App, settled: &Settled, refused: &[Incident]) -> ApiError {
    let reason = reason_of(refused);
    let mut sync = answers::sync(app, "settings", settled);
    not_applied(&mut sync, &reason);
    ApiError::new(StatusCode::CONFLICT, format!("rolled back: {reason}"))
        .with("rolled_back", true.into())
        .with("settings", api::settings_json(app))
        .with("refusals", json!(answers::refusals(app, refused)))
        .with("sync", json!(sync))
        .audited()
}

fn tried_again(
    app: &App,
    settled: &Settled,
    refused: &[Incident],
    mut body: Value,
    is_kept: bool,
) -> Response {
    body["refusals"] = json!(answers::refusals(app, refused));
    body["applied"] = false.into();
    let mut sync = answers::sync(app, "settings", settled);
    not_applied(&mut sync, &reason_of(refused));
    warn_unless(is_kept, &mut sync);
    answers::with_sync(settled, sync, |published| answers::joined(body, published))
}

fn warn_unless(is_kept: bool, sync: &mut Sync) {
    if !is_kept {
        sync.warnings.push(NOT_KEPT.to_owned());
    }
}

/// The rest may be applied; what this call is about is not.
fn not_applied(sync: &mut Sync, reason: &str) {
    sync.reload.applied = Some(false);
    sync.reload.applied_in_ms = None;
    sync.reload.reason = Some(reason.to_owned());
}

/// Calls that an earlier process has stored and not brought to their end: the outcome is looked up,
/// and each is completed or rolled back. Silence of the proxy is no outcome.
pub async fn resume(app: App) {
    let calls = app.shared.model().pending.clone();
    let mut outcomes = app.publisher.outcomes();
    // The latest first, so that each finds what it has left.
    for call in calls.iter().rev() {
        let known = outcomes.wait_for(|outcome| {
            let seen = outcome.seen.as_ref().filter(|seen| seen.applied);
            let is_current = seen.is_some_and(|seen| Some(seen.generation) == outcome.generation);
            is_current && outcome.failure.is_none()
        });
        let incidents = match known.await {
            Ok(outcome) => outcome.incidents.clone(),
            Err(_) => return,
        };
        let changed = call.old.differing(&call.new);
        let mut head = app.shared.model().settings().head().into_iter();
        let is_refused = head.any(|(key, value)| {
            let mut incidents = incidents.iter();
            changed.contains(&key) && incidents.any(|incident| incident.refuses(&key, &value))
        });
        let is_undone = is_refused && call.on_refusal == OnRefusal::RollBack;
        let undone = match is_undone {
            true => roll_back(&app, call.id).await,
            false => None,
        };
        match undone {
            Some(revision) => _ = app.publisher.settled(revision).await,
            None => _ = keep(&app, call.id).await,
        }
    }
}
