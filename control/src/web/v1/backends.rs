//! Reading backends and configuration.

use ::api::v1::Page;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use contract::config::MAX_FILE_BYTES;
use contract::{BackendKey, Faults, Name};
use serde_json::{Value, json};

use super::query::Query;
use super::view::{self, look_at, tagged};
use crate::base::parse_key;
use crate::bounded_read::read_file;
use crate::merge;
use crate::web::error::ApiError;
use crate::web::{App, api};

/// Backends of a page by default, and at most.
const PAGE: u64 = 1_000;
const MAX_PAGE: u64 = 10_000;

/// In the order of pools and addresses, so that backends that come and go move no other backend to another page.
pub async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut query = Query::new(query.as_deref());
    let limit = query.number("limit", PAGE, 1, MAX_PAGE) as usize;
    let cursor = query.text("cursor");
    let after = cursor.as_deref().and_then(parse_key);
    if let (Some(cursor), None) = (&cursor, &after) {
        query
            .faults
            .add("?cursor", cursor, "\"next\" of an earlier answer");
    }
    let pool = query.text("pool");
    let name = pool.as_deref().and_then(Name::new);
    if let (Some(pool), None) = (&pool, &name) {
        query.faults.add("?pool", pool, "the name of a pool");
    }
    query.end()?;
    let (total, page, has_more) = {
        let model = app.shared.model();
        let mut keys = merge::keys(model.listed(), &model.registry);
        keys.retain(|key| name.as_ref().is_none_or(|name| key.pool == *name));
        let from = after.map_or(0, |after| keys.partition_point(|key| **key <= after));
        let page = keys[from..].iter().take(limit);
        let page: Vec<BackendKey> = page.map(|&key| key.clone()).collect();
        (keys.len(), page, from + limit < keys.len())
    };
    let next = page.last().filter(|_| has_more).map(ToString::to_string);
    let (etag, rows) = look_at(&app, &page).await;
    let page = Page {
        total,
        next,
        backends: rows,
    };
    Ok(tagged(etag, page))
}

pub fn unknown(id: &str) -> ApiError {
    let mut faults = Faults::default();
    faults.add(
        "(path) id",
        id,
        "\"ip:port\" of a registered, listed or discovered backend",
    );
    let mut error = ApiError::from(faults);
    error.status = StatusCode::NOT_FOUND;
    error
}

/// What is in force, and the file as it was last published.
pub async fn config(State(app): State<App>) -> Result<Response, ApiError> {
    let path = app.shared.settings.proxy_config_path.clone();
    let read = tokio::task::spawn_blocking(move || read_file(&path, MAX_FILE_BYTES)).await;
    let read = read.expect("reading a file does not panic");
    let bytes = read.map_err(|error| {
        let path = app.shared.settings.proxy_config_path.display();
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("{path}: {error}"))
    })?;
    let published = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let outcome = app.publisher.outcome();
    // Before the settings: a newer tag would hide an edit that they do not show.
    let etag = view::etag(&app);
    let body = json!({
        "etag": etag, "effective": api::settings_json(&app), "published": published,
        "path": app.shared.settings.proxy_config_path, "generation": outcome.generation,
        "updated_at": outcome.updated_at,
    });
    Ok(tagged(etag, body))
}
