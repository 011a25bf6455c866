//! Errors of `/api/v1` as problem documents (RFC 9457). The guard renders them in one place, so the extractors and the
//! handlers need not know.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::web::error::ApiError;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The answer as `/api/v1` gives it, where it is an error.
pub fn render(mut response: Response, path: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    let body = serde_json::to_vec(&error.problem(path)).expect("a problem has only text as keys");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = body.into();
    response
}

/// 412: another client has edited meanwhile.
pub fn stale(etag: &str) -> ApiError {
    let message = "someone else has edited since: read again, review the differences, and send \
                   the change with the new ETag";
    ApiError::new(StatusCode::PRECONDITION_FAILED, message).with_etag(etag)
}

/// 428: a write must say what it was made for.
pub fn no_precondition() -> ApiError {
    let message = "If-Match is required: the ETag of what was read, or * for any";
    ApiError::new(StatusCode::PRECONDITION_REQUIRED, message)
}
