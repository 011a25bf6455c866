//! The last edits by people, and rolling back to the state before one of them.

use std::sync::atomic::Ordering;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use contract::{Faults, Object};
use serde_json::{Map, Value, json};

use super::changes::{carry_out, lines, precondition_unless};
use super::query::Query;
use super::{problem, view};
use crate::actor::Actor;
use crate::auth::Need;
use crate::calls::{OnRefusal, SettingsCall};
use crate::changes::{ChangeSet, RollBack};
use crate::edits::WayBack;
use crate::keeper::NotStored;
use crate::model::{Model, Mutation};
use crate::note::take_note;
use crate::web::body::JsonObject;
use crate::web::client::Client;
use crate::web::error::ApiError;
use crate::web::path::PathOf;
use crate::web::settings_call::carry_through;
use crate::web::{App, answers};

/// `GET edits`: the newest first.
pub async fn list(State(app): State<App>) -> Response {
    let mut edits = app.shared.edits().lines();
    edits.reverse();
    view::tagged(view::etag(&app), json!({ "edits": edits }))
}

/// `POST edits/{number}/roll_back`, with `?dry_run=true` only the diff: settings and overrides as they
/// were before that edit.
pub async fn roll_back(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    PathOf(number): PathOf<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "roll_back", &number, error);
    let mut query = Query::new(query.as_deref());
    let dry_run = query.flag("dry_run");
    query.end().map_err(|faults| refused(faults.into()))?;
    let note = read_note(&body).map_err(|faults| refused(faults.into()))?;
    let if_revision = precondition_unless(dry_run, &app, &headers).map_err(refused)?;
    let model = app.shared.model().clone();
    let parsed = number.parse::<u64>().ok();
    let way_back = parsed.and_then(|number| app.shared.edits().way_back(number, &model));
    let way_back = way_back.ok_or_else(|| refused(not_kept(&number)))?;
    let may = client
        .grant
        .as_ref()
        .is_some_and(|grant| grant.scope.allows(Need::Admin));
    if !way_back.settings.is_empty() && !may {
        let message = "changing the proxy's settings needs a token with the scope admin";
        return Err(refused(ApiError::new(StatusCode::FORBIDDEN, message)));
    }
    if if_revision.is_some_and(|expected| expected != model.edits) {
        return Err(refused(problem::stale(&view::etag(&app))));
    }
    let roll_back = RollBack {
        id: app.shared.next_call.fetch_add(1, Ordering::Relaxed),
        before_edit: way_back.before_edit,
    };
    let plan = Plan::new(&way_back, if_revision, note, roll_back);
    let shown = plan.show(&app, model, &actor, &way_back).map_err(refused)?;
    match dry_run {
        true => Ok(view::tagged(view::etag(&app), shown)),
        false => plan.carry_out(&app, actor, shown).await,
    }
}

fn read_note(body: &Map<String, Value>) -> Result<Option<String>, Faults> {
    let mut faults = Faults::default();
    let mut object = Object::new(body, "");
    let note = take_note(&mut object, &mut faults);
    object.unknown_keys(&mut faults);
    match faults.is_empty() {
        true => Ok(note),
        false => Err(faults),
    }
}

fn not_kept(number: &str) -> ApiError {
    let message = format!("no edit {number:?}: the last 50 are kept, see GET /api/v1/edits");
    ApiError::new(StatusCode::NOT_FOUND, message)
}

/// The mutations that a way back consists of; together they are one edit.
struct Plan {
    overrides: Option<ChangeSet>,
    settings: Option<SettingsCall>,
}

impl Plan {
    fn new(
        way_back: &WayBack,
        if_revision: Option<u64>,
        note: Option<String>,
        roll_back: RollBack,
    ) -> Plan {
        let overrides = (!way_back.overrides.is_empty()).then(|| ChangeSet {
            edits: way_back.overrides.clone(),
            if_revision,
            note: note.clone(),
            roll_back: Some(roll_back),
        });
        let settings = (!way_back.settings.is_empty()).then(|| SettingsCall {
            id: roll_back.id,
            patch: way_back.settings.clone(),
            on_refusal: OnRefusal::RollBack,
            // The caller has compared.
            if_revision: None,
            note,
            roll_back: Some(roll_back),
        });
        Plan {
            overrides,
            settings,
        }
    }

    /// What it does, tried on a copy of the model.
    fn show(
        &self,
        app: &App,
        mut model: Model,
        actor: &Actor,
        way_back: &WayBack,
    ) -> Result<Value, ApiError> {
        let actor = actor.to_string();
        let now = app.shared.clock.now();
        let mut try_out = |mutation: Mutation| {
            let tried = model.apply(&mutation, &actor, now);
            tried.map_err(|refusal| ApiError::from(NotStored::Refused(refusal)))
        };
        let mut shown = lines(&Value::Null, &Value::Null, true);
        if let Some(set) = &self.overrides {
            let change = try_out(Mutation::Change(set.clone()))?;
            shown = lines(&change.old, &change.new, true);
        }
        shown["settings"] = Value::Null;
        if let Some(call) = &self.settings {
            let change = try_out(Mutation::ChangeSettings(call.clone()))?;
            shown["settings"] = json!({ "old": change.old, "new": change.new });
        }
        let gone = way_back.gone.iter().map(ToString::to_string);
        shown["etag"] = view::etag(app).into();
        shown["gone"] = gone.collect::<Vec<String>>().into();
        Ok(shown)
    }

    /// Settings first: the proxy may refuse them, and nothing else has happened then. Overrides are refused
    /// where people have edited since; the answer says so if the settings are back by then.
    async fn carry_out(
        self,
        app: &App,
        actor: Actor,
        mut shown: Value,
    ) -> Result<Response, ApiError> {
        shown["dry_run"] = false.into();
        let has_settings = self.settings.is_some();
        if let Some(call) = self.settings {
            carry_through(app.clone(), actor.clone(), call).await?;
        }
        if let Some(mut set) = self.overrides {
            // The settings were a step, too.
            set.if_revision = set
                .if_revision
                .map(|expected| expected + u64::from(has_settings));
            let made = carry_out(app, actor, set).await;
            made.map_err(|error| match has_settings {
                true => error.with(
                    "settings",
                    "rolled back; only the overrides were not".into(),
                ),
                false => error,
            })?;
        }
        let revision = app.shared.model().revision;
        let settled = app.publisher.settled(revision).await;
        let response = answers::stored(app, "roll_back", &settled, |published| {
            answers::joined(shown, published)
        });
        Ok(view::with_tag(app, response))
    }
}
