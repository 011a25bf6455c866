//! Every error is one problem, which `/api/v1` answers as a problem document (RFC 9457), and the base API in its
//! older form: `{ok: false, error, faults?, ...}`.

use api::base;
use api::v1::{Gone, Problem};

use axum::Json;
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contract::Faults;
use serde_json::{Map, Value};

use crate::auth::Denied;
use crate::keeper::NotStored;
use crate::model::Refusal;

/// An error answer.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    faults: Option<Faults>,
    etag: Option<String>,
    gone: Option<Box<Gone>>,
    retry_after_s: Option<u64>,
    /// Members of single calls.
    more: Box<Map<String, Value>>,
    is_audited: bool,
}

/// Marks an answer whose line in the audit log is written already.
#[derive(Debug, Clone, Copy)]
pub struct Audited;

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
            faults: None,
            etag: None,
            gone: None,
            retry_after_s: None,
            more: Box::default(),
            is_audited: false,
        }
    }

    /// The audit log has its line already.
    pub fn audited(mut self) -> ApiError {
        self.is_audited = true;
        self
    }

    /// The current tag of the edits.
    pub fn with_etag(mut self, etag: &str) -> ApiError {
        self.etag = Some(etag.to_owned());
        self
    }

    /// What is still known of a backend.
    pub fn with_gone(mut self, gone: Gone) -> ApiError {
        self.gone = Some(Box::new(gone));
        self
    }

    /// When to try again; the header Retry-After says it too.
    pub fn retry_after(mut self, seconds: u64) -> ApiError {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A member that only this call has.
    pub fn with(mut self, key: &str, value: Value) -> ApiError {
        self.more.insert(key.to_owned(), value);
        self
    }

    /// The problem of a call to `path`.
    pub fn problem(self, path: &str) -> Problem {
        let errors = self.faults.map(|faults| {
            let faults = faults.0.iter();
            faults.map(api::v1::Fault::from).collect()
        });
        Problem {
            r#type: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("error").to_owned(),
            status: self.status.as_u16(),
            detail: self.message,
            instance: path.to_owned(),
            etag: self.etag,
            errors,
            retry_after_s: self.retry_after_s,
            gone: self.gone.map(|gone| *gone),
            more: *self.more,
        }
    }
}

/// In the form of the base API, whose errors name no path; the guard renders those of `/api/v1`.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let refusal = base::Refusal::from(self.clone().problem(""));
        let mut response = (self.status, Json(refusal)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(wait_s) = self.retry_after_s {
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
        ApiError {
            faults: Some(faults.clone()),
            ..ApiError::new(StatusCode::BAD_REQUEST, faults.to_string())
        }
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
                error.retry_after(retry_after_s)
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
