//! `/api/openapi.json`, which the crate `api` generates from the types of all requests and answers.

use api::document::DOCUMENT;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
