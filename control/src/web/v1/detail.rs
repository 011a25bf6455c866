//! `GET backends/{id}`: one backend with what the list leaves out: the values of each source, its past
//! states, and its lines of the audit log. For one that is gone, what is still known.

use api::v1::{Detail, Layers, OfSource, Registration};
use axum::extract::State;
use axum::response::Response;
use contract::BackendKey;
use serde_json::{Map, Value};

use super::backends::unknown;
use super::view::{look, look_at, tagged};
use crate::registry::Override;
use crate::sources::entry::Said;
use crate::web::App;
use crate::web::error::ApiError;
use crate::web::path::BackendId;

/// Lines of the audit log that are looked through, and that are given.
const LINES_LOOKED_AT: usize = 5_000;
const EDITS: usize = 10;
/// Lines about settings, which concern every backend.
const SETTINGS_EDITS: usize = 3;

pub async fn one(
    State(app): State<App>,
    BackendId { text: id, key }: BackendId,
) -> Result<Response, ApiError> {
    let key = key.ok_or_else(|| unknown(&id))?;
    let (etag, rows) = look_at(&app, std::slice::from_ref(&key)).await;
    let Some(row) = rows.into_iter().next() else {
        // Notes that it is gone.
        look(&app).await;
        return Err(gone(&app, &key, &id).await);
    };
    let lines = audit_lines(&app).await;
    let body = Detail {
        backend: row,
        layers: layers(&app, &key),
        history: app.shared.history().of(&key),
        edits: edits(&lines, &key),
        settings_edits: settings_edits(&lines),
    };
    Ok(tagged(etag, body))
}

/// 404, with what is still known of a backend that was listed.
async fn gone(app: &App, key: &BackendKey, id: &str) -> ApiError {
    let remembered = app.shared.history().gone(key);
    let edits = edits(&audit_lines(app).await, key);
    if remembered.is_none() && edits.is_empty() {
        return unknown(id);
    }
    let mut gone = remembered.unwrap_or_default();
    gone.edits = edits;
    unknown(id).with_gone(gone)
}

/// What each source says, the strongest first; the first that names a value decides it.
fn layers(app: &App, key: &BackendKey) -> Layers {
    let model = app.shared.model();
    let entry = model.registry.entries.get(key);
    let word = entry.and_then(|entry| entry.r#override.as_ref());
    let registered = entry.and_then(|entry| entry.registered.as_ref());
    let listed = |said: Option<&Said>| {
        said.map(|said| OfSource {
            weight: said.weight,
            enabled: said.enabled,
        })
    };
    Layers {
        r#override: word.map(Override::described),
        registration: registered.map(|registered| Registration {
            weight: registered.weight,
            enabled: registered.enabled,
            is_expired: registered.is_expired(),
        }),
        r#static: listed(model.statics.backends.get(key)),
        discovery: listed(model.listed().discovered(key)),
    }
}

/// The newest lines of the audit log, the newest first; none where the log cannot be read, which
/// `GET audit` says.
async fn audit_lines(app: &App) -> Vec<Value> {
    let shared = app.shared.clone();
    let read = tokio::task::spawn_blocking(move || shared.audit.lines(None, LINES_LOOKED_AT)).await;
    let mut lines = read
        .expect("reading a file does not panic")
        .unwrap_or_default();
    lines.reverse();
    lines
}

/// A backend's own lines, and its part of wider ones, unless that has changed nothing.
fn edits(lines: &[Value], key: &BackendKey) -> Vec<Map<String, Value>> {
    let id = key.to_string();
    let own = lines.iter().filter_map(|line| line_of(line, &id));
    let own = own.filter(|line| !has_changed_nothing(line));
    own.take(EDITS).filter_map(object).collect()
}

/// Changes of settings that were not refused: one of them may have taken any backend out.
fn settings_edits(lines: &[Value]) -> Vec<Map<String, Value>> {
    // A refused one says neither what was nor what is.
    let made = lines
        .iter()
        .filter(|line| line["action"] == "settings" && line["new"].is_object());
    let made = made.filter(|line| !has_changed_nothing(line));
    made.take(SETTINGS_EDITS)
        .cloned()
        .filter_map(object)
        .collect()
}

/// Each line of the log is an object.
fn object(line: Value) -> Option<Map<String, Value>> {
    match line {
        Value::Object(line) => Some(line),
        _ => None,
    }
}

fn has_changed_nothing(line: &Value) -> bool {
    line["new"].is_object() && line["old"] == line["new"]
}

/// A line about one backend, or this backend's part of a line about many.
fn line_of(line: &Value, id: &str) -> Option<Value> {
    if line["target"] == id {
        return Some(line.clone());
    }
    let names = |side: &Value| side.as_object().is_some_and(|side| side.contains_key(id));
    if !names(&line["old"]) && !names(&line["new"]) {
        return None;
    }
    let mut line = line.clone();
    for side in ["old", "new"] {
        let own = line[side].get(id).cloned().unwrap_or_default();
        line[side] = own;
    }
    Some(line)
}
