//! Every error as the same JSON: `{ok: false, error, faults?, ...}`.

use axum::Json;
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contract::Faults;
use serde_json::{Value, json};

use crate::auth::Denied;
use crate::keeper::NotStored;
use crate::model::Refusal;

/// An error answer.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// Further fields of the answer.
    pub more: Vec<(&'static str, Value)>,
    is_audited: bool,
}

/// The field that becomes the header Retry-After too.
const RETRY_AFTER_S: &str = "retry_after_s";

/// Marks an answer whose line in the audit log is written already.
#[derive(Debug, Clone, Copy)]
pub struct Audited;

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
            more: Vec::new(),
            is_audited: false,
        }
    }

    /// The audit log has its line already.
    pub fn audited(mut self) -> ApiError {
        self.is_audited = true;
        self
    }

    pub fn with(mut self, key: &'static str, value: Value) -> ApiError {
        self.more.push((key, value));
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "ok": false, "error": self.message });
        for (key, value) in &self.more {
            body[*key] = value.clone();
        }
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        let wait_s = self.more.iter().find(|(key, _)| *key == RETRY_AFTER_S);
        if let Some(wait_s) = wait_s.and_then(|(_, value)| value.as_u64()) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, wait_s.into());
        }
        if self.is_audited {
            response.extensions_mut().insert(Audited);
        }
        // `/api/v1` says the same in another form.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Faults> for ApiError {
    fn from(faults: Faults) -> ApiError {
        let list: Vec<Value> = faults
            .0
            .iter()
            .map(|fault| {
                json!({ "place": fault.place, "found": fault.found, "allowed": fault.allowed })
            })
            .collect();
        ApiError::new(StatusCode::BAD_REQUEST, faults.to_string()).with("faults", list.into())
    }
}

/// The keeper has written the line.
impl From<NotStored> for ApiError {
    fn from(not_stored: NotStored) -> ApiError {
        let message = not_stored.to_string();
        let error = match not_stored {
            NotStored::Refused(refusal) => match refusal {
                Refusal::Faults(faults) => faults.into(),
                Refusal::UnknownBackend(_) | Refusal::NotRegistered(_) | Refusal::NotStatic(_) => {
                    ApiError::new(StatusCode::NOT_FOUND, message)
                }
                Refusal::Stale { .. } => ApiError::new(StatusCode::PRECONDITION_FAILED, message),
                Refusal::NotOwner(_) | Refusal::HasNoOwner(_) => {
                    ApiError::new(StatusCode::FORBIDDEN, message)
                }
                Refusal::NoFreeze
                | Refusal::Full(_)
                | Refusal::StaticFull
                | Refusal::StaticUnread(_)
                | Refusal::TooMany(_)
                | Refusal::Settled => ApiError::new(StatusCode::CONFLICT, message),
            },
            NotStored::Store { error, .. } | NotStored::NotLasting { error, .. } => {
                ApiError::new(status_of_write(error.kind()), message)
            }
            NotStored::Stopping => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message),
        };
        error.audited()
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        let message = denied.to_string();
        match denied {
            Denied::NoToken
            | Denied::NewWithoutToken
            | Denied::WrongToken
            | Denied::ExpiredToken
            | Denied::SessionOver => ApiError::new(StatusCode::UNAUTHORIZED, message),
            Denied::Protected | Denied::LesserToken(_) => {
                ApiError::new(StatusCode::FORBIDDEN, message)
            }
            Denied::TooManyFailures { retry_after_s } => {
                let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
                error.with(RETRY_AFTER_S, retry_after_s.into())
            }
        }
    }
}

/// 507 for a full disk, 503 for any other trouble with it.
pub fn status_of_write(kind: std::io::ErrorKind) -> StatusCode {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match kind {
        StorageFull | QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("no such path: {:?}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, message)
}

pub async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("{method} is not allowed for {:?}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
