//! Errors of `/api/v1` as problem documents (RFC 9457). They are made from the older interface's
//! errors in one place, so that the guard, the extractors and the handlers need not know.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::web::error::ApiError;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The answer as `/api/v1` gives it, where it is an error.
pub fn render(mut response: Response, path: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else {
        return response;
    };
    let body = document(&error, path).to_string();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = body.into();
    response
}

fn document(error: &ApiError, path: &str) -> Value {
    let title = error.status.canonical_reason().unwrap_or("error");
    let mut document = json!({
        "type": "about:blank", "title": title, "status": error.status.as_u16(),
        "detail": error.message, "instance": path,
    });
    for (key, value) in &error.more {
        match (*key, value) {
            ("faults", Value::Array(faults)) => {
                document["errors"] = faults.iter().map(of_fault).collect();
            }
            (key, value) => document[key] = value.clone(),
        }
    }
    document
}

/// A fault's place is a JSON pointer into the body, or a parameter of the path or the query.
fn of_fault(fault: &Value) -> Value {
    let place = fault["place"].as_str().unwrap_or_default();
    let is_pointer = place.is_empty() || place.starts_with('/');
    let key = if is_pointer { "pointer" } else { "parameter" };
    let (found, allowed) = (&fault["found"], &fault["allowed"]);
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let detail = format!("found {}, allowed: {}", plain(found), plain(allowed));
    json!({ key: place, "detail": detail, "found": found, "allowed": allowed })
}

/// 412: another client has edited meanwhile.
pub fn stale(etag: &str) -> ApiError {
    let message = "someone else has edited since: read again, review the differences, and send \
                   the change with the new ETag";
    ApiError::new(StatusCode::PRECONDITION_FAILED, message).with("etag", etag.into())
}

/// 428: a write must say what it was made for.
pub fn no_precondition() -> ApiError {
    let message = "If-Match is required: the ETag of what was read, or * for any";
    ApiError::new(StatusCode::PRECONDITION_REQUIRED, message)
}
