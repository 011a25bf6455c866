//! Reports of backends, as control passes them on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use contract::status::Reports;
use contract::{BackendAddr, Report};
use proxy_core::backend::BackendState;
use serde_json::json;

use super::problem::problem;
use crate::clock;
use crate::supervise::Supervisor;

/// Takes telemetry at once, without a reload. Counted and ignored are reports of unknown backends,
/// which may have been removed a moment ago, and those that a newer one has overtaken.
pub async fn take_reports(
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
