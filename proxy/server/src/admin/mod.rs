//! The admin socket: HTTP over a unix socket that only the proxy's own user may open, and the group
//! that it was told.
//!
//! Served by the main thread's runtime, so that no question costs the workers anything.

mod metrics;
mod problem;
pub mod reload_asks;
mod reports;
mod sessions;
pub mod socket;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use contract::config::MAX_FILE_BYTES;
use contract::exposition::Form;
use contract::status::{Running, States, Status};
use serde::Deserialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use self::problem::problem;
use self::reload_asks::{ReloadAsk, ReloadAsks};
use self::reports::take_reports;
use self::sessions::{answer_sessions, end_session};
use self::status::{states, status};
use crate::supervise::Supervisor;
use serve::Bounds;

/// 20,000 reports take about 3 MB, and a whole configuration may come as well.
const MAX_BODY_BYTES: usize = MAX_FILE_BYTES;
const MAX_WAIT_MS: u64 = 10_000;
/// Both fit into the descriptors that are kept from the sessions. An exchange on the admin socket
/// includes the longest wait.
const ADMIN_BOUNDS: Bounds = Bounds {
    connections: 24,
    exchange: Duration::from_secs(30),
};
const METRICS_BOUNDS: Bounds = Bounds {
    connections: 16,
    exchange: Duration::from_secs(10),
};

/// Where the admin socket asks for reloads, and who gets to know.
pub fn reload_asks() -> (ReloadAsk, ReloadAsks) {
    reload_asks::channel(ADMIN_BOUNDS.connections)
}

/// Serves all routes on the admin socket.
pub async fn serve(listener: UnixListener, supervisor: Arc<Supervisor>, ask: ReloadAsk) {
    let reload = Router::new()
        .route("/reload", post(answer_reload))
        .with_state(ask);
    let routes = Router::new()
        .route("/status", get(answer_status))
        .route("/states", get(answer_states))
        .route("/generation", get(answer_generation))
        .route("/reports", post(take_reports))
        .route("/sessions", get(answer_sessions))
        .route("/sessions/{id}", delete(end_session))
        .route("/check", post(answer_check))
        .route("/metrics", get(answer_metrics))
        .fallback(async || problem(StatusCode::NOT_FOUND, "no such path"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(supervisor)
        .merge(reload);
    serve::serve(listener, routes, ADMIN_BOUNDS).await;
}

/// Serves the metrics alone on a TCP address.
pub async fn serve_metrics(listener: TcpListener, supervisor: Arc<Supervisor>) {
    let routes = Router::new()
        .route("/metrics", get(answer_metrics))
        .with_state(supervisor);
    serve::serve(listener, routes, METRICS_BOUNDS).await;
}

/// What `GET /status` may ask for.
#[derive(Deserialize)]
struct Asked {
    /// Only these backends, as `ip:port` or `pool/ip:port`, separated by commas.
    backends: Option<String>,
}

async fn answer_status(
    State(supervisor): State<Arc<Supervisor>>,
    Query(asked): Query<Asked>,
) -> Json<Status> {
    let named = asked
        .backends
        .as_ref()
        .map(|names| names.split(',').collect());
    Json(status(&supervisor, named.as_ref()))
}

async fn answer_states(State(supervisor): State<Arc<Supervisor>>) -> Json<States> {
    Json(states(&supervisor))
}

async fn answer_metrics(
    State(supervisor): State<Arc<Supervisor>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let form = Form::wanted(accept);
    let text = form.of(metrics::text(status(&supervisor, None)));
    ([(header::CONTENT_TYPE, form.content_type())], text)
}

#[derive(Debug, Deserialize)]
struct Wait {
    at_least: Option<u64>,
    timeout_ms: Option<u64>,
}

/// Holds the answer back until the generation asked for runs or has been refused.
async fn answer_generation(
    State(supervisor): State<Arc<Supervisor>>,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(wait)) = wait else {
        return problem(
            StatusCode::BAD_REQUEST,
            "at_least and timeout_ms are whole numbers",
        );
    };
    let mut running = supervisor.running();
    let wanted = wait.at_least.unwrap_or(0);
    let asked_after = running.borrow().last_reload.clone();
    let is_decided = |running: &Running| {
        // A refusal of something newer counts only if it came after the question: that of an older
        // attempt says nothing of what is being loaded now.
        let was_refused = running.last_reload.as_ref().is_some_and(|reload| {
            let is_newer = reload.generation.is_none_or(|tried| tried > wanted);
            let is_this = reload.generation == Some(wanted);
            !reload.ok && (is_this || is_newer && running.last_reload != asked_after)
        });
        running.generation >= wanted || was_refused
    };
    let timeout = Duration::from_millis(wait.timeout_ms.unwrap_or(0).min(MAX_WAIT_MS));
    // At the time-out the answer is what runs, whatever that is.
    let _ = tokio::time::timeout(timeout, running.wait_for(is_decided)).await;
    let answer = running.borrow().clone();
    Json(answer).into_response()
}

/// Answers after the reload, whose outcome is the answer's `last_reload`.
async fn answer_reload(State(ask): State<ReloadAsk>) -> Response {
    let (waiting, outcome) = oneshot::channel();
    let stopping = || problem(StatusCode::SERVICE_UNAVAILABLE, "the proxy is stopping");
    if ask.send(waiting).await.is_err() {
        return stopping();
    }
    outcome
        .await
        .map_or_else(|_| stopping(), |running| Json(running).into_response())
}

/// The body is a whole `proxy_config.json`, of any content type.
async fn answer_check(State(supervisor): State<Arc<Supervisor>>, document: Bytes) -> Response {
    Json(supervisor.try_out(&document)).into_response()
}
