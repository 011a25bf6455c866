//! What the admin socket answers where it cannot do as it is asked.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

pub fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "ok": false, "error": text }))).into_response()
}
