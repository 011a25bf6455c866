//! `/api/openapi.json`: written by hand beside the handlers, since our answers are JSON values that
//! a derived schema could not describe; tests compare it with the routes and with real answers.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};

pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
