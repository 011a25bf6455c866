//! Writing: edits of one backend or of many, all or none, made for a revision.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use contract::{Faults, Object};
use serde_json::{Value, json};

use super::backends::unknown;
use super::problem;
use super::query::Query;
use super::view;
use crate::actor::Actor;
use crate::changes::{ChangeSet, diff};
use crate::keeper::NotStored;
use crate::model::{Mutation, Refusal};
use crate::note::take_note;
use crate::publish::Settled;
use crate::registry::Effect;
use crate::registry::OverridePatch;
use crate::web::body::{JsonObject, MAX_CHANGES_BYTES};
use crate::web::error::ApiError;
use crate::web::path::BackendId;
use crate::web::{App, answers};

/// `PATCH backends/{id}`.
pub async fn patch(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    BackendId { text: id, key }: BackendId,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "changes", &id, error);
    let key = key.ok_or_else(|| refused(unknown(&id)))?;
    let if_revision = precondition(&app, &headers).map_err(refused)?;
    let mut faults = Faults::default();
    let patch = OverridePatch::read(&body, "", &["note"], &mut faults);
    let note = take_note(&mut Object::new(&body, ""), &mut faults);
    if !faults.is_empty() {
        return Err(refused(faults.into()));
    }
    if !app.shared.model().knows(&key) {
        return Err(refused(unknown(&id)));
    }
    let edits = vec![(key, patch)];
    let set = ChangeSet {
        edits,
        if_revision,
        note,
        roll_back: None,
    };
    carry_out(&app, actor, set).await
}

/// `POST changes`, with `?dry_run=true` only the diff.
pub async fn post(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    JsonObject(body): JsonObject<MAX_CHANGES_BYTES>,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "changes", "backends", error);
    let mut query = Query::new(query.as_deref());
    let dry_run = query.flag("dry_run");
    query.end().map_err(|faults| refused(faults.into()))?;
    let if_revision = precondition_unless(dry_run, &app, &headers).map_err(refused)?;
    let set = ChangeSet::read(&body, if_revision).map_err(|faults| refused(faults.into()))?;
    match dry_run {
        true => try_out(&app, &actor, set),
        false => carry_out(&app, actor, set).await,
    }
}

/// The same as [`precondition`]; what is optional, as for a dry run, may be absent.
pub fn precondition_unless(
    is_optional: bool,
    app: &App,
    headers: &HeaderMap,
) -> Result<Option<u64>, ApiError> {
    match is_optional && !headers.contains_key(header::IF_MATCH) {
        true => Ok(None),
        false => precondition(app, headers),
    }
}

/// The number of edits that a write was made for; `None` where any will do (`*`).
fn precondition(app: &App, headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(said) = headers.get(header::IF_MATCH) else {
        return Err(problem::no_precondition());
    };
    let said = said.to_str().unwrap_or_default().trim();
    if said == "*" {
        return Ok(None);
    }
    // Whether it is still so is judged where the change is made, by the number alone.
    let edits = said
        .trim_matches('"')
        .split_once('-')
        .and_then(|(_, edits)| edits.parse().ok());
    match edits {
        Some(edits) if view::tag_of(app, edits) == said => Ok(Some(edits)),
        Some(_) | None => Err(problem::stale(&view::etag(app))),
    }
}

pub async fn carry_out(app: &App, actor: Actor, set: ChangeSet) -> Result<Response, ApiError> {
    let stored = match app.keeper.mutate(Mutation::Change(set), actor).await {
        Ok(stored) => stored,
        Err(NotStored::Refused(Refusal::Stale { .. })) => {
            return Err(problem::stale(&view::etag(app)).audited());
        }
        Err(not_stored) => return Err(not_stored.into()),
    };
    let settled = match stored.change.effect {
        Effect::State => app.publisher.settled(stored.revision).await,
        Effect::Unchanged | Effect::Telemetry => Settled::at_once(&app.publisher),
    };
    let reason = if settled.was_sent() {
        "changes"
    } else {
        "unchanged"
    };
    let body = lines(&stored.change.old, &stored.change.new, false);
    let response = answers::stored(app, reason, &settled, |published| {
        answers::joined(body, published)
    });
    Ok(view::with_tag(app, response))
}

/// What the change would do, on a copy.
fn try_out(app: &App, actor: &Actor, set: ChangeSet) -> Result<Response, ApiError> {
    let mut model = app.shared.model().clone();
    let target = set.target();
    let now = app.shared.clock.now();
    let tried = model.apply(&Mutation::Change(set), &actor.to_string(), now);
    let result = match &tried {
        Ok(_) => "ok".to_owned(),
        Err(refusal) => refusal.to_string(),
    };
    app.shared
        .audit
        .note(actor, "changes_dry_run", &target, &result);
    match tried {
        Ok(change) => {
            let body = lines(&change.old, &change.new, true);
            Ok(view::tagged(view::etag(app), body))
        }
        Err(Refusal::Stale { .. }) => Err(problem::stale(&view::etag(app)).audited()),
        Err(refusal) => Err(ApiError::from(NotStored::Refused(refusal))),
    }
}

pub fn lines(old: &Value, new: &Value, dry_run: bool) -> Value {
    let (changes, undo) = diff(old, new);
    json!({ "ok": true, "dry_run": dry_run, "changes": changes, "undo": undo })
}
