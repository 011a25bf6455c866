//! The HTTP interface: routes, the guard before them, and what every answer has in common.

mod answers;
mod api;
pub mod body;
mod console;
mod costs;
mod error;
mod guard;
mod metrics;
pub mod operations;
mod path;
pub mod serve;
pub mod v1;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, delete, get, post};

use crate::auth::{Hosts, Tokens};
use crate::keeper::Keeper;
use crate::observe::Proxy;
use crate::ping::Pings;
use crate::publish::Publisher;
use crate::shared::Shared;
use v1::Feed;

/// What the handlers work with.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

pub struct AppParts {
    pub shared: Arc<Shared>,
    pub keeper: Keeper,
    pub publisher: Publisher,
    pub proxy: Proxy,
    pub pings: Pings,
    pub feed: Feed,
    pub hosts: Hosts,
    pub tokens: Option<Tokens>,
    /// The port we really listen on.
    pub port: u16,
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl App {
    pub fn new(parts: AppParts) -> App {
        App(Arc::new(parts))
    }
}

/// Every route. The guard stands before all of them, unknown ones included.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/backends", get(api::backends))
        .route(
            "/register",
            post(operations::register).delete(operations::unregister),
        )
        .route("/backends/{ip}/{port}/weight", post(operations::set_weight))
        .route(
            "/backends/{ip}/{port}/enabled",
            post(operations::set_enabled),
        )
        .route("/backends/{ip}/{port}/drain", post(operations::set_drain))
        .route(
            "/backends/{ip}/{port}/override",
            delete(operations::clear_override),
        )
        .route(
            "/settings",
            get(api::settings).post(operations::change_settings),
        )
        .route("/expiry/acknowledge", post(operations::acknowledge_expiry))
        .route("/sync", post(operations::sync))
        .route("/ping", post(api::ping))
        .route("/proxy", get(api::proxy))
        .route("/logs/audit", get(api::audit_log))
        .route("/openapi.json", get(v1::document))
        .nest("/v1", v1::router())
        .fallback(any(error::not_found))
        .method_not_allowed_fallback(error::method_not_allowed);
    Router::new()
        .route("/", get(console::page))
        .route("/static/{*path}", get(console::static_file))
        .route("/livez", get(metrics::livez))
        .route("/readyz", get(metrics::readyz))
        .route("/metrics", get(metrics::metrics))
        .nest("/api", api)
        .fallback(any(error::not_found))
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            guard::guard,
        ))
        .with_state(app)
}

#[cfg(test)]
mod tests;
