//! The static list: backends that operators list, and that need no heartbeat.

use api::v1::{StaticBackend, StaticList};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use contract::config::MAX_WEIGHT;
use contract::{BackendKey, Faults, Object};
use serde_json::{Map, Value, json};

use super::backends::unknown;
use crate::actor::Actor;
use crate::model::{Change, Mutation};
use crate::sources::entry::Said;
use crate::web::answers::joined;
use crate::web::body::JsonObject;
use crate::web::error::ApiError;
use crate::web::operations::mutate;
use crate::web::path::BackendId;
use crate::web::{App, answers};

/// `GET static`.
pub async fn list(State(app): State<App>) -> Response {
    let statics = app.shared.model().statics.clone();
    let backends = statics.backends.values().map(|said| StaticBackend {
        said: values(said),
        id: said.key.to_string(),
    });
    let path = app.shared.settings.static_backends_path.display();
    let list = StaticList {
        backends: backends.collect(),
        path: path.to_string(),
    };
    Json(list).into_response()
}

fn values(said: &Said) -> api::v1::Said {
    api::v1::Said {
        weight: said.weight,
        enabled: said.enabled,
        is_warming_up: said.is_warming_up,
    }
}

/// `PUT static/{id}`: what the body does not mention is left to discovery, or to the default.
pub async fn put(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    BackendId { text: id, key }: BackendId,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "set_static", &id, error);
    let key = key.ok_or_else(|| refused(bad_id(&id)))?;
    let said = read(&app, key, &body).map_err(|faults| refused(faults.into()))?;
    let note = app.shared.model().note_of_pool(&said.key.pool);
    let set = Mutation::SetStatic(said);
    mutate(&app, actor, set, |change, published| {
        let mut both = both(&change);
        if let Some(note) = note {
            both["warnings"] = json!([note]);
        }
        joined(both, published)
    })
    .await
}

/// `DELETE static/{id}`.
pub async fn delete(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    BackendId { text: id, key }: BackendId,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| answers::refused(&app, &actor, "remove_static", &id, error);
    let key = key.ok_or_else(|| refused(unknown(&id)))?;
    let remove = Mutation::RemoveStatic(key);
    mutate(&app, actor, remove, |change, published| {
        joined(both(&change), published)
    })
    .await
}

fn read(app: &App, key: BackendKey, body: &Map<String, Value>) -> Result<Said, Faults> {
    let mut faults = Faults::default();
    app.shared
        .live()
        .admission
        .refuse_special(key.addr, &mut faults);
    let mut object = Object::new(body, "");
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, &mut faults);
    let said = Said {
        weight: weight.map(|weight| weight as u16),
        enabled: object.take_bool("enabled", &mut faults),
        is_warming_up: object.take_bool("is_warming_up", &mut faults),
        ..Said::nothing_of(key)
    };
    object.unknown_keys(&mut faults);
    match faults.is_empty() {
        true => Ok(said),
        false => Err(faults),
    }
}

/// What the list said of the backend, and says now.
fn both(change: &Change) -> Value {
    json!({ "ok": true, "old": change.old, "new": change.new })
}

fn bad_id(id: &str) -> ApiError {
    let mut faults = Faults::default();
    let allowed = "\"ip:port\" with an address of one host, an IPv6 address in brackets";
    faults.add("(path) id", id, allowed);
    faults.into()
}
