//! `GET series`: past figures of the whole or of one backend.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use contract::Faults;
use serde_json::Value;

use super::query::Query;
use crate::base::parse_key;
use crate::series::{HOUR_MS, MINUTE_MS, STEP_MS};
use crate::web::App;
use crate::web::error::ApiError;

/// From `from_ms` (an hour ago) to `to_ms` (now). `step_ms` is 5,000 or 60,000; without it a span of an
/// hour at most has the finer one.
pub async fn series(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let now_ms = app.shared.clock.now().unix_ms;
    let mut query = Query::new(query.as_deref());
    let to_ms = query.number("to_ms", now_ms, 0, u64::MAX);
    let hour_before = to_ms.saturating_sub(HOUR_MS);
    let from_ms = query.number("from_ms", hour_before, 0, to_ms);
    let step_ms = match query.text("step_ms").as_deref() {
        None if to_ms - from_ms <= HOUR_MS => STEP_MS,
        None | Some("60000") => MINUTE_MS,
        Some("5000") => STEP_MS,
        Some(text) => {
            query.faults.add("?step_ms", text, "5000 or 60000");
            STEP_MS
        }
    };
    let id = query.text("backend");
    let key = id.as_deref().and_then(parse_key);
    if let (Some(id), None) = (&id, &key) {
        query.faults.add("?backend", id, "\"ip:port\"");
    }
    if !query.faults.is_empty() {
        return Err(query.faults.into());
    }
    let mut answer = {
        let series = app.shared.series();
        match key {
            None => {
                let mut whole = series.whole(step_ms, from_ms, to_ms);
                whole["backends_left_out"] = series.left_out().into();
                whole
            }
            Some(key) => series
                .backend(&key, from_ms, to_ms)
                .ok_or_else(|| nothing_of(&key.to_string()))?,
        }
    };
    answer["now_ms"] = now_ms.into();
    answer["started_at_ms"] = app.feed.started_ms().into();
    Ok(Json(answer))
}

fn nothing_of(id: &str) -> ApiError {
    let mut faults = Faults::default();
    let allowed = "a backend that was listed at the last full minute";
    faults.add("?backend", id, allowed);
    let mut error = ApiError::from(faults);
    error.status = StatusCode::NOT_FOUND;
    error
}
