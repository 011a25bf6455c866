//! The HTTP interface: routes, the guard before them, and what every answer has in common.

mod answers;
mod api;
pub mod body;
#[cfg(debug_assertions)]
mod bundle;
mod client;
mod compress;
mod console;
mod costs;
mod deadline;
mod ear;
mod error;
mod files;
mod guard;
mod metrics;
pub mod operations;
mod path;
mod routes;
pub mod serve;
pub mod settings_call;
pub mod tls;
pub mod v1;
mod whole;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;

use crate::auth::{Access, Hosts};
use crate::keeper::Keeper;
use crate::observe::Proxy;
use crate::ping::Pings;
use crate::publish::Publisher;
use crate::shared::Shared;
use tls::Tls;
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
    pub access: Access,
    pub tls: Option<Arc<Tls>>,
    /// The port we really listen on, without TLS.
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

/// The routes behind the guard, which protects all of them, unknown ones included.
pub fn router(app: App) -> Router {
    routes::router()
        .fallback(any(error::not_found))
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            guard::guard,
        ))
        .layer(compress::layer())
        .with_state(app)
}

#[cfg(test)]
mod tests;
