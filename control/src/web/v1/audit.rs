//! The audit log by number: the lines after a given one, waiting for the next line if asked to.

use std::time::Duration;

use api::v1::AuditLines;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;

use super::query::Query;
use crate::web::App;
use crate::web::error::ApiError;

const PAGE: u64 = 200;
const MAX_PAGE: u64 = 5_000;
/// How long an answer waits for the next line.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lines after number `after`, oldest first; without it the newest ones.
pub async fn lines(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditLines>, ApiError> {
    let mut query = Query::new(query.as_deref());
    let limit = query.number("limit", PAGE, 1, MAX_PAGE) as usize;
    let given = query.text("after").is_some();
    let after = query.number("after", 0, 0, u64::MAX);
    let follow = query.flag("follow");
    query.end()?;
    if follow && given {
        let mut seq = app.shared.audit.follow();
        let newer = seq.wait_for(|seq| *seq > after);
        let mut closing = app.feed.closing();
        // Nothing new in time is an answer too: an empty one.
        tokio::select! {
            _ = tokio::time::timeout(PATIENCE, newer) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
    let shared = app.shared.clone();
    let after = given.then_some(after);
    let read = tokio::task::spawn_blocking(move || shared.audit.lines(after, limit)).await;
    let lines = read
        .expect("reading a file does not panic")
        .map_err(|error| {
            let path = app.shared.audit.path().display();
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("{path}: {error}"))
        })?;
    let next = lines.last().and_then(|line| line["seq"].as_u64());
    let next = next.or(after).unwrap_or(0);
    Ok(Json(AuditLines {
        lines,
        next,
        last: app.shared.audit.last_seq(),
        path: app.shared.audit.path().to_owned(),
    }))
}
