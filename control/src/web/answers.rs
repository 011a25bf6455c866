//! Common parts of answers: `sync`, a backend's row, the state of the whole.

use std::borrow::Cow;

use api::v1::{Backend, Beneath, LastPublish, OtherFile, Planned};
use api::{ProxyRefusal, Published, Sync};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use contract::Name;
use contract::status::Status;
use serde::Serialize;
use serde_json::{Value, json};

use super::App;
use super::error::{ApiError, status_of_write};
use crate::actor::Actor;
use crate::clock::Now;
use crate::layer::Unusable;
use crate::merge::Row;
use crate::observe::Unknown;
use crate::publish::{Failure, Incident, Sent, Settled};
use crate::registry::{Freeze, Override};
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
pub fn sync(app: &App, reason: &str, settled: &Settled) -> Sync {
    let (k8s_updated_at, runtime_updated_at) = updated_at(app);
    let outcome = &settled.outcome;
    Sync {
        ok: outcome.failure.is_none(),
        reason: reason.to_owned(),
        proxy_config_path: app.shared.settings.proxy_config_path.clone(),
        reload: settled.reload(),
        merged_count: outcome.merged_count - outcome.left_out.len(),
        k8s_updated_at,
        runtime_updated_at,
        warnings: warnings_after(app, settled),
        error: outcome.failure.as_ref().map(ToString::to_string),
    }
}

/// The answer about a change that is stored: 507 or 503 where it could not be published.
pub fn stored<A: Serialize>(
    app: &App,
    reason: &str,
    settled: &Settled,
    answer: impl FnOnce(Published) -> A,
) -> Response {
    let sync = sync(app, reason, settled);
    with_sync(settled, sync, answer)
}

/// The same with a `sync` of its own.
pub fn with_sync<A: Serialize>(
    settled: &Settled,
    sync: Sync,
    answer: impl FnOnce(Published) -> A,
) -> Response {
    let failure = settled.outcome.failure.as_ref();
    let error = failure
        .map(|failure| format!("stored, but not published yet: {failure}; control is retrying"));
    let ok = failure.is_none();
    let status = failure.map_or(StatusCode::OK, status_of);
    (status, Json(answer(Published { ok, sync, error }))).into_response()
}

/// The answer whose other members are a value.
pub fn joined(mut body: Value, published: Published) -> Value {
    let Published { ok, sync, error } = published;
    body["sync"] = json!(sync);
    body["ok"] = ok.into();
    if let Some(error) = error {
        body["error"] = error.into();
    }
    body
}

pub fn status_of(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Write { error, .. } => status_of_write(error.kind()),
        Failure::Refused(_) | Failure::Slow => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `k8s_updated_at` as the strongest source wrote it, and `runtime_updated_at`.
pub fn updated_at(app: &App) -> (Value, Option<u64>) {
    let model = app.shared.model();
    let strongest = model.discovered.first();
    let k8s = strongest.and_then(|source| source.listing.updated_at.clone());
    let runtime = match model.registry.updated_at {
        0 => None,
        seconds => Some(seconds),
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
pub fn refusals(app: &App, incidents: &[Incident]) -> Vec<ProxyRefusal> {
    let interval_s = app.shared.live().auto_sync_interval_s;
    let incidents = incidents.iter();
    incidents.map(|one| one.described(interval_s)).collect()
}

/// The proxy's process, and what control has published and found.
pub fn planned(app: &App, seen: Result<&Status, &Unknown>) -> Planned {
    let outcome = app.publisher.outcome();
    let (applied, confirmed) = (outcome.applied(), outcome.seen_of_published());
    let other_file = confirmed.and_then(|seen| seen.other_file.as_ref());
    let (running, why) = match seen {
        Ok(_) => (true, None),
        Err(unknown) => {
            // A proxy without an admin socket is still distinguished from no proxy.
            let settings = app.shared.live();
            let names = &settings.proxy_process_names;
            let found = contract::reload::find_proxy(&settings.proxy_pid_path, names);
            let why = found.as_ref().err().map(ToString::to_string);
            (
                found.is_ok(),
                Some(why.unwrap_or_else(|| unknown.to_string())),
            )
        }
    };
    Planned {
        running,
        why,
        published_generation: outcome.generation,
        applied,
        verified: confirmed.map(|seen| seen.verified),
        other_file: other_file.map(|other| OtherFile {
            proxy: other.proxy.clone(),
            control: other.control.clone(),
            message: other.to_string(),
        }),
        refusals: refusals(app, &outcome.incidents),
        last_publish: outcome.sent.as_deref().map(last_publish),
        updated_at: outcome.updated_at,
        failure: outcome.failure.as_ref().map(ToString::to_string),
        warnings: warnings(app),
        freeze: freeze(app),
        protected: !app.access.needs_tokens(),
        ttl_ms: app.shared.live().expiry.ttl_ms,
    }
}

fn last_publish(sent: &Sent) -> LastPublish {
    let confirmation = sent.confirmation.borrow().clone();
    let confirmed = confirmation.as_ref();
    LastPublish {
        at_ms: sent.at_ms,
        generation: sent.generation,
        signalled: sent.signalled,
        info: sent.info.clone(),
        applied: confirmed.and_then(|confirmed| confirmed.applied),
        verified: confirmed.is_some_and(|confirmed| confirmed.verified),
        reason: confirmed.and_then(|confirmed| confirmed.reason.clone()),
        applied_in_ms: confirmed.and_then(|confirmed| confirmed.in_ms),
    }
}

/// One backend as control knows it, without its status in the proxy.
pub fn row(app: &App, row: &Row, now: Now) -> Backend {
    // A moment and not a rest, so that a row changes only when something has happened.
    let left_ms = ttl_remaining_ms(app, row, now);
    let expires_at_ms = left_ms.map(|left_ms| (now.unix_ms + left_ms).div_ceil(1000) * 1000);
    let registered = row.registered.as_ref();
    let requests = row.requests();
    let (backend, beneath) = (&row.backend, row.beneath);
    let known_by = row.known_by();
    Backend {
        pool: row.key.pool.to_string(),
        ip: backend.addr.ip(),
        port: backend.addr.port(),
        weight: backend.weight,
        gpu_usage: backend.report.gpu_usage,
        vram_usage: backend.report.vram_usage,
        enabled: backend.enabled,
        is_warming_up: backend.is_warming_up,
        last_seen: registered.map(|registered| registered.last_seen),
        source: word(row.source()),
        sources: known_by.names().into_iter().map(word).collect(),
        r#override: row.r#override.as_ref().map(Override::described),
        without_override: row.r#override.as_ref().map(|_| Beneath {
            weight: beneath.weight,
            enabled: beneath.enabled,
        }),
        state: row.state().word().into(),
        published_weight: row.published().weight,
        reported_at_ms: backend.report.reported_at_ms,
        heartbeat_ms: backend.report.heartbeat_ms,
        owned: registered.is_some_and(|registered| registered.owner.is_some()),
        queue: requests.queue,
        running: requests.running,
        max_batch: backend.batch.map(|batch| batch.max),
        batch_window_ms: backend.batch.map(|batch| batch.window_ms),
        id: row.key.to_string(),
        expires_at_ms,
        cost: None,
        proxy: None,
    }
}

/// Thousands of rows have the same few sources, so their names are not kept with each.
fn word(name: &str) -> Cow<'static, str> {
    const USUAL: [&str; 4] = ["override", "runtime", "static", "k8s"];
    let usual = USUAL.into_iter().find(|usual| *usual == name);
    usual.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed)
}

/// How long a registration lasts without another heartbeat.
pub fn ttl_remaining_ms(app: &App, row: &Row, now: Now) -> Option<u64> {
    let policy = app.shared.live().expiry;
    let registered = row.registered.as_ref()?;
    Some(registered.ttl_remaining_ms(now, policy))
}

/// The freeze of a mass expiry; `null` where none is held.
pub fn freeze(app: &App) -> Option<api::v1::Freeze> {
    let now = app.shared.clock.now();
    match app.shared.model().registry.freeze {
        Freeze::Held { since_ms } => Some(api::v1::Freeze {
            held_for_ms: now.listened_ms.saturating_sub(since_ms),
            acknowledge: "POST /api/expiry/acknowledge".to_owned(),
        }),
        Freeze::Off | Freeze::Waived { .. } => None,
    }
}
