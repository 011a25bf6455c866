//! Calls that change nothing: backends, settings, proxy, audit log; and ping.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ::api::base::{AuditLog, Backend, Backends, LostLines, PingAnswer, Proxy, UnusedOverride};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use contract::{Faults, parse_backend_ip};
use serde_json::{Value, json};

use super::body::JsonObject;
use super::error::ApiError;
use super::{App, answers, costs};
use crate::actor::Actor;
use crate::audit::Entry;
use crate::base::raise;
use crate::layer::Layer;
use crate::merge::Row;
use crate::model::Model;
use crate::standing::{Protocol, Seen};

pub async fn backends(State(app): State<App>) -> Json<Backends> {
    let (rows, unused) = {
        let model = app.shared.model();
        (model.rows(), unused_overrides(&model))
    };
    // The base call lists the pool `default`, and no other.
    let rows: Vec<Row> = { rows.into_iter() }
        .filter(|row| raise(&row.key).is_some())
        .collect();
    let status = costs::status(&app).await;
    let costs = costs::costs(&app, status.as_ref());
    let seen = Seen::of(status.as_ref());
    let now = app.shared.clock.now();
    let listed = rows.iter().map(|row| Backend {
        ttl_remaining_ms: answers::ttl_remaining_ms(&app, row, now),
        cost: costs.get(&row.key).map(|&cost| cost.clone()),
        operational: seen.operational(row).into(),
        ready_tcp: seen.is_ready(row, Protocol::Tcp),
        ready_udp: seen.is_ready(row, Protocol::Udp),
        ..answers::row(&app, row, now).into()
    });
    let backends = listed.collect();
    let outcome = app.publisher.outcome();
    let (k8s_updated_at, runtime_updated_at) = answers::updated_at(&app);
    Json(Backends {
        ok: true,
        updated_at: outcome.updated_at,
        generation: outcome.generation,
        k8s_updated_at,
        runtime_updated_at,
        warnings: answers::warnings(&app),
        freeze: answers::freeze(&app),
        backends,
        unused_overrides: unused,
    })
}

/// Overrides of backends that no source knows at the moment.
fn unused_overrides(model: &Model) -> Vec<UnusedOverride> {
    let entries = model.registry.entries.iter();
    let unused = entries.filter(|(key, _)| !model.knows(key));
    unused
        .filter_map(|(key, entry)| {
            let addr = raise(key)?;
            Some(UnusedOverride {
                ip: addr.ip(),
                port: addr.port(),
                r#override: entry.r#override.as_ref()?.described(),
            })
        })
        .collect()
}

pub async fn settings(State(app): State<App>) -> Json<Value> {
    Json(json!({ "ok": true, "settings": settings_json(&app) }))
}

/// The settings that are set and in force, which of them are set by API or in `control_config.json`, and
/// what that and the defaults come to.
pub fn settings_json(app: &App) -> Value {
    let model = app.shared.model();
    let settings = model.settings();
    let mut all = settings.to_json();
    let listen = settings.listen();
    all["listen"]["host"] = json!(listen.ip());
    all["listen"]["port"] = listen.port().into();
    all["algorithm"] = settings.algorithm().name().into();
    all["by_api"] = model.runtime_settings.to_json();
    all["by_file"] = model.base_settings.to_json();
    all["in_force"] = settings.in_full();
    all["defaults"] = Layer::default().in_full();
    let algorithms: Vec<&str> = contract::Algorithm::ALL
        .iter()
        .map(|(name, _)| *name)
        .collect();
    all["algorithms"] = algorithms.into();
    all
}

/// The proxy as it sees itself, and control's own view of what it should run.
pub async fn proxy(State(app): State<App>) -> Json<Proxy> {
    let status = app.proxy.status().await;
    Json(Proxy {
        ok: true,
        planned: answers::planned(&app, status.as_ref()),
        status: status.ok().map(Box::new),
    })
}

pub async fn audit_log(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditLog>, ApiError> {
    let lines = tail(query.as_deref())?;
    let shared = app.shared.clone();
    let read = tokio::task::spawn_blocking(move || shared.audit.tail(lines)).await;
    let path = app.shared.audit.path();
    let data = read
        .expect("reading a file does not panic")
        .map_err(|error| {
            let lost = app.shared.audit.warning();
            let lost = lost.map_or_else(String::new, |warning| format!("; {warning}"));
            let message = format!("{}: {error}{lost}", path.display());
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
    let lost = app.shared.audit.failing().map(|failing| LostLines {
        since_ms: failing.since_ms,
        lines: failing.lost,
        error: failing.error,
    });
    Ok(Json(AuditLog {
        ok: true,
        data,
        path: path.to_owned(),
        warnings: app.shared.audit.warning().into_iter().collect(),
        lost,
    }))
}

/// `tail` of the query, clamped to what is offered.
fn tail(query: Option<&str>) -> Result<usize, Faults> {
    const DEFAULT: usize = 100;
    let value = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("tail="));
    let Some(value) = value else {
        return Ok(DEFAULT);
    };
    match value.parse::<i64>() {
        Ok(number) => Ok(number.clamp(10, 2000) as usize),
        Err(_) => {
            let mut faults = Faults::default();
            faults.add("?tail", value, "an integer from 10 to 2000");
            Err(faults)
        }
    }
}

pub async fn ping(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    JsonObject(body): JsonObject,
) -> Result<Json<PingAnswer>, ApiError> {
    let value = body.get("ip").cloned().unwrap_or_default();
    let target = value.as_str().unwrap_or_default();
    let (ip, ports) = ping_target(&app, &actor, &value)?;
    let output = app.pings.ping(ip, &ports).await.map_err(|busy| {
        note_ping(&app, &actor, target, "refused: too many at once");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, busy.to_string()).audited()
    })?;
    note_ping(&app, &actor, target, "ok");
    Ok(Json(PingAnswer { ok: true, output }))
}

/// The address to ping and the ports known of it; nothing but backends and this machine is pinged.
pub fn ping_target(
    app: &App,
    actor: &Actor,
    value: &Value,
) -> Result<(IpAddr, Vec<u16>), ApiError> {
    const ALLOWED: &str = "the ip of a registered, listed or discovered backend, or 127.0.0.1";
    let refuse = |found: String, result: &str| {
        note_ping(app, actor, value.as_str().unwrap_or_default(), result);
        let mut faults = Faults::default();
        faults.add("/ip", found, ALLOWED);
        ApiError::from(faults).audited()
    };
    let Some(ip) = value.as_str().and_then(parse_backend_ip) else {
        return Err(refuse(value.to_string(), "refused: not a unicast address"));
    };
    let rows = app.shared.model().rows();
    let of_ip = rows.iter().filter(|row| row.backend.addr.ip() == ip);
    let mut ports: BTreeSet<u16> = of_ip.map(|row| row.backend.addr.port()).collect();
    if ip == std::net::Ipv4Addr::LOCALHOST {
        ports.insert(app.port);
    }
    if ports.is_empty() {
        let found = format!("{ip}, which is not a known backend");
        return Err(refuse(found, "refused: not a known backend"));
    }
    Ok((ip, ports.into_iter().collect()))
}

/// The line of a ping in the audit log.
pub fn note_ping(app: &App, actor: &Actor, target: &str, result: &str) {
    app.shared.audit.write(Entry {
        actor,
        action: "ping",
        target,
        old: Value::Null,
        new: Value::Null,
        note: None,
        before_edit: None,
        result,
    });
}
