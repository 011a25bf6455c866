//! `/api/v1`: the interface that the console stands on. Lists have cursors, writes a revision
//! (`ETag`, `If-Match`), errors are problem documents (RFC 9457), and `/api/openapi.json` says all
//! of it. The older paths beside it stay as they are.

mod audit;
mod backends;
mod changes;
mod detail;
mod events;
mod openapi;
mod pings;
pub mod problem;
mod query;
mod stream;
mod view;

use axum::Router;
use axum::routing::{any, get, post};

use super::{App, error};

pub use events::Feed;
#[cfg(test)]
pub use openapi::DOCUMENT;
pub use openapi::document;

/// The routes below `/api/v1`; `openapi.json` lists the same ones, which a test sees to.
pub fn router() -> Router<App> {
    Router::new()
        .route("/status", get(view::status))
        .route("/backends", get(backends::list))
        .route("/backends/{id}", get(detail::one).patch(changes::patch))
        .route("/changes", post(changes::post))
        .route("/config", get(backends::config))
        .route("/events", get(events::events))
        .route("/audit", get(audit::lines))
        .route("/pings", post(pings::ping))
        .fallback(any(error::not_found))
        .method_not_allowed_fallback(error::method_not_allowed)
}
