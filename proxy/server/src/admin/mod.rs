//! The admin socket: HTTP over a unix socket that only the proxy's own user may open, and the group
//! that it was told.
//!
//! Served by the main thread's runtime, so that no question costs the workers anything.

mod metrics;
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
use axum::routing::{get, post};
use contract::config::MAX_FILE_BYTES;
use contract::exposition::Form;
use contract::status::{Reports, Running, States, Status};
use contract::{BackendAddr, Report};
use proxy_core::backend::BackendState;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use self::status::{states, status};
use crate::clock;
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

/// Asks for a reload, each answered with what runs after it.
pub struct ReloadAsks(mpsc::Receiver<oneshot::Sender<Running>>);

/// Where the admin socket asks for reloads.
pub type ReloadAsk = mpsc::Sender<oneshot::Sender<Running>>;

/// Those who wait for one reload.
pub struct Waiting(Vec<oneshot::Sender<Running>>);

pub fn reload_asks() -> (ReloadAsk, ReloadAsks) {
    let (ask, asks) = mpsc::channel(ADMIN_BOUNDS.connections);
    (ask, ReloadAsks(asks))
}

impl ReloadAsks {
    /// Awaits somebody who asks, and takes along all who do by then: one reload that begins after
    /// their asking serves them all. Never ends once nobody can ask any more.
    pub async fn recv(&mut self) -> Waiting {
        let Some(first) = self.0.recv().await else {
            return std::future::pending().await;
        };
        let others = std::iter::from_fn(|| self.0.try_recv().ok());
        Waiting(std::iter::once(first).chain(others).collect())
    }
}

impl Waiting {
    pub fn answer(self, running: &Running) {
        for waiting in self.0 {
            // Whoever has gone needs no answer.
            let _ = waiting.send(running.clone());
        }
    }
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

async fn answer_status(State(supervisor): State<Arc<Supervisor>>) -> Json<Status> {
    Json(status(&supervisor))
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
    let text = form.of(metrics::text(status(&supervisor)));
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

/// Takes telemetry at once, without a reload. Counted and ignored are reports of unknown backends,
/// which may have been removed a moment ago, and those that a newer one has overtaken.
async fn take_reports(
    State(supervisor): State<Arc<Supervisor>>,
    reports: Result<Json<Reports>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let reports = match reports {
        Ok(Json(reports)) => reports.reports,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let is_share = |share: Option<f64>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
    let bad = reports
        .iter()
        .position(|r| !is_share(r.gpu_usage) || !is_share(r.vram_usage));
    if let Some(index) = bad {
        let text = format!("/reports/{index}: usage is allowed from 0 to 1, or null");
        return problem(StatusCode::BAD_REQUEST, &text);
    }
    let now = clock::now();
    let state = supervisor.state();
    let (mut taken, mut overtaken) = (0, 0);
    for report in &reports {
        // A report is of a server, whatever pools it is in.
        let members = state.registry.at(BackendAddr::new(report.ip, report.port));
        let last_of = |backend: &Arc<BackendState>| backend.telemetry().get();
        let Some(last) = members
            .iter()
            .map(last_of)
            .max_by_key(|last| last.reported_at_ms)
        else {
            continue;
        };
        if is_overtaken(report.reported_at_ms, last.reported_at_ms) {
            overtaken += 1;
            continue;
        }
        let has_figures = report.gpu_usage.is_some() || report.vram_usage.is_some();
        for backend in members {
            backend.telemetry().set(&Report {
                gpu_usage: report.gpu_usage,
                vram_usage: report.vram_usage,
                // Without a figure there is nothing that could have an age.
                reported_at_ms: has_figures.then_some(report.reported_at_ms),
                heartbeat_ms: last_of(backend).heartbeat_ms,
            });
            state.score_report(backend, now);
        }
        taken += 1;
    }
    // When a report gets stale is known anew.
    supervisor.scoring_bell().ring();
    let unknown = reports.len() - taken - overtaken;
    let answer = json!({ "ok": true, "taken": taken, "overtaken": overtaken, "unknown": unknown });
    Json(answer).into_response()
}

/// Whether a report of `at_ms` is older than the last one. Much older, it is not late: the clock of
/// whoever reports was set back, and what it says now counts.
fn is_overtaken(at_ms: u64, last_at_ms: Option<u64>) -> bool {
    const LATEST_MS: u64 = 60_000;
    last_at_ms.is_some_and(|last| at_ms < last && last - at_ms <= LATEST_MS)
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "ok": false, "error": text }))).into_response()
}
