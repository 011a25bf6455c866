//! Common parts of answers: `sync`, a backend's row, the state of the whole.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use contract::Name;
use serde_json::{Value, json};

use super::App;
use super::error::{ApiError, status_of_write};
use crate::actor::Actor;
use crate::layer::Unusable;
use crate::merge::Row;
use crate::publish::{Failure, Incident, Settled};
use crate::registry::{Freeze, Override, Registered};
use crate::render::LeftOut;

/// A call that never reached the keeper has its line in the audit log too.
pub fn refused(
    app: &App,
    actor: &Actor,
    action: &'static str,
    target: &str,
    why: impl Into<ApiError>,
) -> ApiError {
    let error = why.into();
    app.shared.audit.note(actor, action, target, &error.message);
    error.audited()
}

/// The `sync` of an answer.
pub fn sync(app: &App, reason: &str, settled: &Settled) -> Value {
    let (k8s_updated_at, runtime_updated_at) = updated_at(app);
    let outcome = &settled.outcome;
    let mut sync = json!({
        "ok": outcome.failure.is_none(), "reason": reason,
        "proxy_config_path": app.shared.settings.proxy_config_path,
        "reload": settled.reload_json(),
        "merged_count": outcome.merged_count - outcome.left_out.len(),
        "k8s_updated_at": k8s_updated_at, "runtime_updated_at": runtime_updated_at,
        "warnings": warnings_after(app, settled),
    });
    if let Some(failure) = &outcome.failure {
        sync["error"] = failure.to_string().into();
    }
    sync
}

/// An answer that says ok, whose change is stored; 507 or 503 where it could not be published.
pub fn published(app: &App, reason: &str, settled: &Settled, body: Value) -> Response {
    let sync = sync(app, reason, settled);
    with_sync(settled, body, sync)
}

/// The same with a `sync` of its own.
pub fn with_sync(settled: &Settled, mut body: Value, sync: Value) -> Response {
    body["sync"] = sync;
    let Some(failure) = &settled.outcome.failure else {
        return Json(body).into_response();
    };
    body["ok"] = false.into();
    let error = format!("stored, but not published yet: {failure}; control is retrying");
    body["error"] = error.into();
    (status_of(failure), Json(body)).into_response()
}

pub fn status_of(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Write { error, .. } => status_of_write(error.kind()),
        Failure::Refused(_) | Failure::Slow => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `k8s_updated_at` as the strongest source wrote it, and `runtime_updated_at`.
pub fn updated_at(app: &App) -> (Value, Value) {
    let model = app.shared.model();
    let strongest = model.discovered.first();
    let k8s = strongest.and_then(|source| source.listing.updated_at.clone());
    let runtime = match model.registry.updated_at {
        0 => Value::Null,
        seconds => seconds.into(),
    };
    (k8s.unwrap_or_default(), runtime)
}

/// The same as [`warnings`], after a change. The verdict on the backends is from before it.
fn warnings_after(app: &App, settled: &Settled) -> Vec<String> {
    let mut warnings = warnings(app);
    if settled.was_sent() {
        let stale = no_backend(app, |_| false);
        warnings.retain(|warning| !stale.contains(warning));
    }
    warnings
}

/// Everything that is not as it should be, in words.
pub fn warnings(app: &App) -> Vec<String> {
    let mut warnings = app.shared.model().warnings();
    warnings.extend(app.shared.config_note());
    let outcome = app.publisher.outcome();
    warnings.extend(left_out(&outcome.left_out));
    let unusable = app.shared.model().unusable_listeners().into_iter();
    warnings.extend(unusable.map(|one| {
        let Unusable { name, why, .. } = one;
        format!("listener {name}: its settings are not applied: {why}")
    }));
    let incidents = outcome.incidents.iter();
    // A refused backend is left out, and so already reported.
    let incidents = incidents.filter(|one| !one.is_of_backend());
    let silent = outcome.silent.as_ref();
    warnings.extend(incidents.map(|incident| match silent {
        None => incident.describe(),
        Some(_) => format!(
            "{} (reported before the proxy stopped answering)",
            incident.describe()
        ),
    }));
    warnings.extend(silent.map(|why| format!("the proxy no longer answers: {why}")));
    let other_file = outcome
        .seen
        .as_ref()
        .and_then(|seen| seen.other_file.as_ref());
    warnings.extend(other_file.map(ToString::to_string));
    warnings.extend(
        outcome
            .failure
            .map(|failure| format!("not published: {failure}")),
    );
    warnings.extend(no_backend(app, |pool| {
        app.shared.model().has_backend_in(pool)
    }));
    if let Freeze::Held { .. } = app.shared.model().registry.freeze {
        warnings.push(
            "mass expiry held back: more than half of the registrations are silent".to_owned(),
        );
    }
    warnings.extend(app.shared.edits_note());
    warnings.extend(app.shared.audit.warning());
    warnings
}

/// Why no backend takes traffic, as of the last look at the proxy.
fn no_backend(app: &App, has_backend: impl Fn(&Name) -> bool) -> Vec<String> {
    // The model is never locked under the verdicts.
    let report = app.shared.verdicts().report().clone();
    report.no_backend(has_backend).collect()
}

/// Backends that are left out, each by itself; many of one pool for one reason in one line.
fn left_out(left_out: &[LeftOut]) -> Vec<String> {
    const EACH: usize = 3;
    let mut alike: Vec<(&LeftOut, usize)> = Vec::new();
    let mut lines = Vec::new();
    for out in left_out {
        let same = |(first, _): &&mut (&LeftOut, usize)| {
            (&first.key.pool, &first.why) == (&out.key.pool, &out.why)
        };
        match alike.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => alike.push((out, 1)),
        }
    }
    for (first, count) in alike {
        let LeftOut { key, why } = first;
        let of_it = |out: &&LeftOut| out.key.pool == key.pool && out.why == *why;
        match count {
            ..=EACH => {
                let each = left_out.iter().filter(of_it);
                lines.extend(each.map(|out| format!("{} is left out: {why}", out.key)));
            }
            _ => lines.push(format!(
                "{count} backends of pool {} are left out, such as {key}: {why}",
                key.pool
            )),
        }
    }
    lines
}

/// What the proxy refuses, as in answers.
pub fn refusals(app: &App, incidents: &[Incident]) -> Value {
    let interval_s = app.shared.live().auto_sync_interval_s;
    let incidents = incidents.iter();
    incidents.map(|one| one.to_json(interval_s)).collect()
}

/// One backend as `GET /api/backends` lists it.
pub fn row(app: &App, row: &Row) -> Value {
    let now = app.shared.clock.now();
    let policy = app.shared.live().expiry;
    let left = |registered: &Registered| registered.ttl_remaining_ms(now, policy);
    let registered = row.registered.as_ref();
    let requests = row.requests();
    let (backend, beneath) = (&row.backend, row.beneath);
    let cleared = json!({ "weight": beneath.weight, "enabled": beneath.enabled });
    json!({
        "pool": row.key.pool.as_str(),
        "ip": backend.addr.ip(), "port": backend.addr.port(), "weight": backend.weight,
        "gpu_usage": backend.report.gpu_usage, "vram_usage": backend.report.vram_usage,
        "enabled": backend.enabled, "is_warming_up": backend.is_warming_up,
        "last_seen": registered.map(|registered| registered.last_seen), "source": row.source(),
        "sources": row.known_by().names(), "override": row.r#override.as_ref().map(Override::to_json),
        "without_override": row.r#override.as_ref().map(|_| cleared),
        "ttl_remaining_ms": registered.map(left), "state": row.state().word(),
        "published_weight": row.published().weight,
        "reported_at_ms": backend.report.reported_at_ms,
        "heartbeat_ms": backend.report.heartbeat_ms,
        "owned": registered.is_some_and(|registered| registered.owner.is_some()),
        "queue": requests.queue, "running": requests.running,
        "max_batch": backend.batch.map(|batch| batch.max),
        "batch_window_ms": backend.batch.map(|batch| batch.window_ms),
    })
}

/// The freeze of a mass expiry; `null` where none is held.
pub fn freeze(app: &App) -> Value {
    let now = app.shared.clock.now();
    match app.shared.model().registry.freeze {
        Freeze::Held { since_ms } => json!({
            "held_for_ms": now.listened_ms.saturating_sub(since_ms),
            "acknowledge": "POST /api/expiry/acknowledge",
        }),
        Freeze::Off | Freeze::Waived { .. } => Value::Null,
    }
}
