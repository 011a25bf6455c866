//! `GET backends/{id}`: one backend with what the list leaves out: the values of each source, its past
//! states, and its lines of the audit log. For one that is gone, what is still known.

use axum::extract::State;
use axum::response::Response;
use contract::BackendAddr;
use serde_json::{Value, json};

use super::backends::unknown;
use super::view::{look, tagged};
use crate::changes::parse_id;
use crate::sources::entry::Said;
use crate::sources::runtime::override_json;
use crate::web::App;
use crate::web::error::ApiError;
use crate::web::path::PathOf;

/// Lines of the audit log that are looked through, and that are given.
const LINES_LOOKED_AT: usize = 5_000;
const EDITS: usize = 10;

pub async fn one(State(app): State<App>, PathOf(id): PathOf<String>) -> Result<Response, ApiError> {
    let view = look(&app).await;
    let addr = parse_id(&id).ok_or_else(|| unknown(&id))?;
    let Some(row) = view.rows.get(&addr) else {
        return Err(gone(&app, addr, &id).await);
    };
    let body = json!({
        "backend": row, "layers": layers(&app, addr), "history": app.shared.history().of(addr),
        "edits": edits(&app, addr).await,
    });
    Ok(tagged(view.etag, body))
}

/// 404, with what is still known of a backend that was listed.
async fn gone(app: &App, addr: BackendAddr, id: &str) -> ApiError {
    let remembered = app.shared.history().gone(addr);
    let edits = edits(app, addr).await;
    if remembered.is_none() && edits.is_empty() {
        return unknown(id);
    }
    let nothing = json!({ "at_ms": null, "sources": [], "history": [] });
    let mut gone = remembered.unwrap_or(nothing);
    gone["edits"] = edits.into();
    unknown(id).with("gone", gone)
}

/// What each source says, the strongest first; the first that names a value decides it.
fn layers(app: &App, addr: BackendAddr) -> Value {
    let model = app.shared.model();
    let entry = model.registry.entries.get(&addr);
    let word = entry.and_then(|entry| entry.r#override.as_ref());
    let registered = entry.and_then(|entry| entry.registered.as_ref());
    let listed = |said: Option<&Said>| {
        said.map(|said| json!({ "weight": said.weight, "enabled": said.enabled }))
    };
    json!({
        "override": word.map(override_json),
        "registration": registered.map(|registered| json!({
            "weight": registered.weight, "enabled": registered.enabled,
            "is_expired": registered.is_expired(),
        })),
        "static": listed(model.statics.backends.get(&addr)),
        "discovery": listed(model.discovery.backends.get(&addr)),
    })
}

/// Its newest lines of the audit log, the newest first; none where the log cannot be read, which
/// `GET audit` says.
async fn edits(app: &App, addr: BackendAddr) -> Vec<Value> {
    let shared = app.shared.clone();
    let read = tokio::task::spawn_blocking(move || shared.audit.lines(None, LINES_LOOKED_AT)).await;
    let lines = read.expect("reading a file does not panic");
    let id = addr.to_string();
    let lines = lines.unwrap_or_default().into_iter().rev();
    lines
        .filter_map(|line| line_of(line, &id))
        .take(EDITS)
        .collect()
}

/// A line about one backend, or this backend's part of a line about many.
fn line_of(mut line: Value, id: &str) -> Option<Value> {
    if line["target"] == id {
        return Some(line);
    }
    let names = |side: &Value| side.as_object().is_some_and(|side| side.contains_key(id));
    if !names(&line["old"]) && !names(&line["new"]) {
        return None;
    }
    for side in ["old", "new"] {
        let own = line[side].get(id).cloned().unwrap_or_default();
        line[side] = own;
    }
    Some(line)
}
