//! Calls that change something. Each handler parses, mutates, waits for the result, and answers.

use api::base::{Nothing, Registered, Target, Unregistered, Updated};
use api::{Published, Stored, Sync};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use contract::config::{MAX_WEIGHT, read_report};
use contract::{BackendAddr, BackendKey, Batch, DEFAULT_NAME, Faults, OWNER_BYTES, Object, Report};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::JsonObject;
use super::client::Client;
use super::error::ApiError;
use super::path::BackendPath;
use super::{App, answers};
use crate::actor::Actor;
use crate::audit::Entry;
use crate::auth::{Denied, SecretHash};
use crate::base::{raise, read_key};
use crate::model::{Change, Mutation};
use crate::publish::Settled;
use crate::registry::{Effect, OverrideChange, Registration, Remover, Requests};

/// The most requests that a backend may say are queued or running at it.
const MAX_REQUESTS: u64 = 1_000_000_000;
/// The oldest figures that a backend may say again.
const MAX_REPORT_AGE_MS: u64 = 3_600_000;

pub async fn register(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let admit = |addr, faults: &mut Faults| {
        let settings = app.shared.live();
        settings.admission.refuse(addr, client.is_local, faults);
    };
    let (said, notes) = match read_registration(&body, admit) {
        Ok(read) => read,
        Err(faults) => {
            return Err(answers::refused(
                &app,
                &actor,
                "register",
                &target_of(&body),
                faults,
            ));
        }
    };
    let key = said.key.clone();
    let exists = app.shared.model().registry.registered(&key).is_some();
    if client.grant.is_none() && !(exists && app.access.is_in_grace(&key)) {
        let error = ApiError::from(Denied::NewWithoutToken);
        let result = format!("{}: {}", error.status.as_u16(), error.message);
        let target = format!("POST /api/register {key}");
        app.shared.audit.note(&actor, "refused", &target, &result);
        return Err(error.audited());
    }
    let mut notes = notes;
    notes.extend(app.shared.model().note_of_pool(&key.pool));
    let answer = |message: String, published| {
        let registered = Registered {
            message,
            backend: target(&key),
            warnings: notes,
        };
        Stored::new(registered, published)
    };
    let effect = match app.shared.heartbeat(&said) {
        Some(effect) => effect,
        None => {
            let stored = app.keeper.mutate(Mutation::Register(said), actor).await?;
            if stored.change.effect == Effect::State {
                let message = format!("registered {key}");
                let publisher = &app.publisher;
                let settled = publisher.settled_unless_crowded(stored.revision).await;
                return Ok(answers::stored(&app, "register", &settled, |published| {
                    answer(message, published)
                }));
            }
            stored.change.effect
        }
    };
    let reason = match effect {
        Effect::Unchanged => "unchanged",
        Effect::Telemetry | Effect::State => "telemetry",
    };
    let settled = Settled::at_once(&app.publisher);
    // A heartbeat is not answerable for what else could not be published.
    let sync = Sync {
        ok: true,
        ..answers::sync(&app, reason, &settled)
    };
    let published = Published {
        ok: true,
        sync,
        error: None,
    };
    Ok(Json(answer(format!("heartbeat of {key}"), published)).into_response())
}

pub async fn unregister(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Extension(client): Extension<Client>,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let mut faults = Faults::default();
    let mut object = Object::new(&body, "");
    let key = read_key(&mut object, &mut faults);
    let owner = read_owner(&mut object, &mut faults);
    let Some(key) = key.filter(|_| faults.is_empty()) else {
        return Err(answers::refused(
            &app,
            &actor,
            "unregister",
            &target_of(&body),
            faults,
        ));
    };
    let backend = target(&key);
    let remover = match client.is_operator() {
        true => Remover::Operator,
        false => Remover::Backend(owner),
    };
    let unregister = Mutation::Unregister(key, remover);
    mutate(&app, actor, unregister, |_, published| {
        Stored::new(Unregistered { backend }, published)
    })
    .await
}

pub async fn set_weight(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    path: BackendPath,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    change_override(&app, actor, "weight", path, body, |object, faults| {
        object.take_required("weight", "an integer from 0 to 1000", faults);
        let weight = object.take_integer("weight", 0, MAX_WEIGHT, faults)?;
        Some(OverrideChange::Weight(weight as u16))
    })
    .await
}

pub async fn set_enabled(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    path: BackendPath,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    change_override(&app, actor, "enabled", path, body, |object, faults| {
        object.take_required("enabled", "true or false", faults);
        object
            .take_bool("enabled", faults)
            .map(OverrideChange::Enabled)
    })
    .await
}

pub async fn set_drain(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    path: BackendPath,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    change_override(&app, actor, "drain", path, body, |object, faults| {
        object.take_required("drain", "true or false", faults);
        object.take_bool("drain", faults).map(OverrideChange::Drain)
    })
    .await
}

pub async fn clear_override(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    path: BackendPath,
) -> Result<Response, ApiError> {
    let key = path.key().map_err(|faults| {
        let target = path.target();
        answers::refused(&app, &actor, "clear_override", &target, faults)
    })?;
    mutate(&app, actor, Mutation::ClearOverride(key), |_, published| {
        Stored::new(Nothing {}, published)
    })
    .await
}

pub async fn acknowledge_expiry(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, ApiError> {
    mutate(&app, actor, Mutation::AcknowledgeExpiry, |_, published| {
        Stored::new(Nothing {}, published)
    })
    .await
}

/// Reads the sources, publishes and signals, whether anything has changed or not.
pub async fn sync(State(app): State<App>, Extension(actor): Extension<Actor>) -> Response {
    app.keeper.read_sources().await;
    let settled = app.publisher.force().await;
    let sync = answers::sync(&app, "manual", &settled);
    let failure = settled.outcome.failure.as_ref();
    app.shared.audit.write(Entry {
        actor: &actor,
        action: "sync",
        target: "proxy",
        old: Value::Null,
        new: json!(sync.reload),
        note: None,
        before_edit: None,
        result: &failure.map_or("ok".to_owned(), ToString::to_string),
    });
    let status = failure.map_or(StatusCode::OK, answers::status_of);
    (status, Json(sync)).into_response()
}

/// Carries out a mutation, waits for what became of it, and answers.
pub async fn mutate<A: Serialize>(
    app: &App,
    actor: Actor,
    mutation: Mutation,
    answer: impl FnOnce(Change, Published) -> A,
) -> Result<Response, ApiError> {
    let action = mutation.action();
    let stored = app.keeper.mutate(mutation, actor).await?;
    let settled = match stored.change.effect {
        Effect::State => app.publisher.settled(stored.revision).await,
        Effect::Unchanged | Effect::Telemetry => Settled::at_once(&app.publisher),
    };
    let reason = if settled.was_sent() {
        action
    } else {
        "unchanged"
    };
    Ok(answers::stored(app, reason, &settled, |published| {
        answer(stored.change, published)
    }))
}

async fn change_override(
    app: &App,
    actor: Actor,
    key: &'static str,
    path: BackendPath,
    body: Map<String, Value>,
    read: impl Fn(&mut Object, &mut Faults) -> Option<OverrideChange>,
) -> Result<Response, ApiError> {
    let refused = |faults: Faults| answers::refused(app, &actor, key, &path.target(), faults);
    let backend = path.key().map_err(refused)?;
    let mut faults = Faults::default();
    let mut object = Object::new(&body, "");
    refuse_other_pool(&mut object, &mut faults);
    let change = read(&mut object, &mut faults);
    let change = change.filter(|_| faults.is_empty());
    let change = change.ok_or_else(|| refused(faults))?;
    let addr = backend.addr;
    let mut updated = json!({ "ip": addr.ip(), "port": addr.port() });
    updated[key] = body[key].clone();
    let change = Mutation::SetOverride(backend, change);
    mutate(app, actor, change, |_, published| {
        Stored::new(Updated { updated }, published)
    })
    .await
}

/// The paths of the base API name backends of the pool `default`: a body that names another would change the wrong
/// one.
fn refuse_other_pool(object: &mut Object, faults: &mut Faults) {
    let other = object.take("pool").filter(|pool| **pool != DEFAULT_NAME);
    if let Some(other) = other {
        let allowed = "no pool but default: /api/v1/pools/POOL/backends/IP:PORT names other pools";
        faults.add(&object.pointer("pool"), other, allowed);
    }
}

pub fn read_registration(
    body: &Map<String, Value>,
    admit: impl Fn(BackendAddr, &mut Faults),
) -> Result<(Registration, Vec<String>), Faults> {
    let mut faults = Faults::default();
    let mut object = Object::new(body, "");
    let key = read_key(&mut object, &mut faults);
    if let Some(key) = &key {
        admit(key.addr, &mut faults);
    }
    let owner = read_owner(&mut object, &mut faults);
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, &mut faults);
    let enabled = object.take_bool("enabled", &mut faults);
    let is_warming_up = object.take_bool("is_warming_up", &mut faults);
    let report: Report = read_report(&mut object, &mut faults);
    let mut count = |key, max| object.take_integer(key, 0, max, &mut faults);
    let requests = Requests {
        queue: count("queue", MAX_REQUESTS),
        running: count("running", MAX_REQUESTS),
    };
    let report_age_ms = count("report_age_ms", MAX_REPORT_AGE_MS);
    let batch = Batch::read(&mut object, &mut faults);
    // An unknown key may come from a newer agent, or be a typo: reported, not refused.
    let mut unknown_keys = Faults::default();
    object.unknown_keys(&mut unknown_keys);
    let notes = unknown_keys.0.iter().map(ToString::to_string).collect();
    let Some(key) = key.filter(|_| faults.is_empty()) else {
        return Err(faults);
    };
    let said = Registration {
        key,
        weight: weight.map(|weight| weight as u16),
        enabled,
        is_warming_up,
        report,
        report_age_ms: report_age_ms.unwrap_or(0),
        requests,
        batch,
        owner,
    };
    Ok((said, notes))
}

/// The owner's secret, stored as its hash. The message does not repeat it.
fn read_owner(object: &mut Object, faults: &mut Faults) -> Option<SecretHash> {
    let value = object.take("owner")?;
    let secret = value
        .as_str()
        .filter(|text| OWNER_BYTES.contains(&text.len()));
    if secret.is_none() {
        let allowed = "a secret string of 16 to 256 bytes";
        faults.add("/owner", "no such string", allowed);
    }
    secret.map(SecretHash::of)
}

fn target(key: &BackendKey) -> Target {
    Target {
        ip: key.addr.ip(),
        port: key.addr.port(),
        pool: raise(key).is_none().then(|| key.pool.to_string()),
    }
}

/// What a body that could not be read seems to be about.
fn target_of(body: &Map<String, Value>) -> String {
    let part = |key| body.get(key).map_or("?".to_owned(), Value::to_string);
    let pool = body
        .get("pool")
        .map_or(String::new(), |pool| format!("{pool}/"));
    format!("{pool}{}:{}", part("ip"), part("port"))
}
