//! Request bodies: bounded in size and time, JSON whatever the content type (the guard
//! checks it for browsers), all faults named.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use contract::parse_object;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value, json};

use super::error::ApiError;

/// The largest body.
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// The largest body of edits of many backends.
pub const MAX_CHANGES_BYTES: usize = 2 << 20;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A body that is one JSON object of at most `MAX` bytes.
pub struct JsonObject<const MAX: usize = MAX_BODY_BYTES>(pub Map<String, Value>);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for JsonObject<MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let body = Limited::new(request.into_body(), MAX);
        let Ok(collected) = tokio::time::timeout(ARRIVAL, body.collect()).await else {
            let message = format!("the body did not arrive within {ARRIVAL:?}");
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message));
        };
        let bytes = collected.map_err(|error| match error.is::<LengthLimitError>() {
            true => too_large(MAX),
            false => ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("the body was cut off: {error}"),
            ),
        })?;
        Ok(JsonObject(parse_object(&bytes.to_bytes(), MAX)?))
    }
}

fn too_large(max: usize) -> ApiError {
    let allowed = format!("at most {max} bytes");
    let found = "a larger body";
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("(top): found {found}, allowed: {allowed}"),
    )
    .with(
        "faults",
        json!([{ "place": "", "found": found, "allowed": allowed }]),
    )
}
