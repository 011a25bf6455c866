//! Path parameters, whose faults are answered like all others.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use contract::address::ALLOWED_BACKEND_IP;
use contract::{BackendAddr, BackendKey, Faults, Name, parse_backend_ip};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::base::{ALLOWED_POOL, lower, parse_id, parse_key};

/// axum's own `Path`, with our errors.
pub struct PathOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathOf<T>, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(PathOf(value)),
            Err(rejection) => {
                let message = rejection.body_text();
                Err(ApiError::new(StatusCode::BAD_REQUEST, message))
            }
        }
    }
}

/// The backend that a path of `/api/v1` names: `pools/{pool}/.../{id}`, or `{id}` alone, which is `ip:port` or, as
/// in lists, `pool/ip:port` with the slash escaped.
pub struct BackendId {
    /// As it is written in lists, whether or not it is one.
    pub text: String,
    /// `None` where the path names none.
    pub key: Option<BackendKey>,
}

impl<S: Send + Sync> FromRequestParts<S> for BackendId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<BackendId, ApiError> {
        let PathOf(parts) =
            PathOf::<HashMap<String, String>>::from_request_parts(parts, state).await?;
        let part = |name| parts.get(name).map_or("", String::as_str);
        let id = part("id");
        Ok(match parts.get("pool") {
            None => BackendId {
                text: id.to_owned(),
                key: parse_key(id),
            },
            Some(pool) => {
                let Some(name) = Name::new(pool) else {
                    let mut faults = Faults::default();
                    faults.add("(path) pool", pool, ALLOWED_POOL);
                    return Err(faults.into());
                };
                let key = parse_id(id).map(|own| BackendKey { pool: name, ..own });
                let text = key.as_ref().map(BackendKey::to_string);
                BackendId {
                    text: text.unwrap_or_else(|| format!("{pool}/{id}")),
                    key,
                }
            }
        })
    }
}

/// `ip` and `port` of a path as they were written.
pub type BackendPath = PathOf<(String, String)>;

impl BackendPath {
    /// The backend that the path names.
    pub fn key(&self) -> Result<BackendKey, Faults> {
        let (ip, port) = &self.0;
        let mut faults = Faults::default();
        let parsed = parse_backend_ip(ip);
        if parsed.is_none() {
            faults.add("(path) ip", ip, ALLOWED_BACKEND_IP);
        }
        let number = port.parse::<u16>().ok().filter(|port| *port > 0);
        if number.is_none() {
            faults.add("(path) port", port, "an integer from 1 to 65535");
        }
        match (parsed, number) {
            (Some(ip), Some(port)) => Ok(lower(BackendAddr::new(ip, port))),
            (Some(_) | None, _) => Err(faults),
        }
    }

    /// The backend for the audit log, however it is written.
    pub fn target(&self) -> String {
        format!("{}:{}", self.0.0, self.0.1)
    }
}
