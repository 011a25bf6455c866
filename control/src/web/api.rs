//! Calls that change nothing: backends, settings, proxy, audit log; and ping.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use contract::status::Status;
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
use crate::observe::Unknown;
use crate::standing::{Protocol, Seen};

pub async fn backends(State(app): State<App>) -> Json<Value> {
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
    let listed = rows.iter().map(|row| {
        let mut listed = answers::row(&app, row);
        listed["cost"] = json!(costs.get(&row.key));
        listed["operational"] = seen.operational(row).into();
        listed["ready_tcp"] = json!(seen.is_ready(row, Protocol::Tcp));
        listed["ready_udp"] = json!(seen.is_ready(row, Protocol::Udp));
        listed
    });
    let listed: Vec<Value> = listed.collect();
    let outcome = app.publisher.outcome();
    let (k8s_updated_at, runtime_updated_at) = answers::updated_at(&app);
    Json(json!({
        "ok": true, "updated_at": outcome.updated_at, "generation": outcome.generation,
        "k8s_updated_at": k8s_updated_at, "runtime_updated_at": runtime_updated_at,
        "warnings": answers::warnings(&app), "freeze": answers::freeze(&app), "backends": listed,
        "unused_overrides": unused,
    }))
}

/// Overrides of backends that no source knows at the moment.
fn unused_overrides(model: &Model) -> Vec<Value> {
    let entries = model.registry.entries.iter();
    let unused = entries.filter(|(key, _)| !model.knows(key));
    unused
        .filter_map(|(key, entry)| {
            let addr = raise(key)?;
            let word = entry.r#override.as_ref()?.to_json();
            Some(json!({ "ip": addr.ip(), "port": addr.port(), "override": word }))
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
pub async fn proxy(State(app): State<App>) -> Json<Value> {
    let status = app.proxy.status().await;
    Json(proxy_json(&app, status))
}

pub fn proxy_json(app: &App, status: Result<Status, Unknown>) -> Value {
    let outcome = app.publisher.outcome();
    let last = outcome.sent.as_ref().map(|sent| {
        let confirmation = sent.confirmation.borrow().clone();
        json!({
            "at_ms": sent.at_ms, "generation": sent.generation, "signalled": sent.signalled,
            "info": sent.info, "applied": confirmation.as_ref().and_then(|c| c.applied),
            "verified": confirmation.as_ref().is_some_and(|c| c.verified),
            "reason": confirmation.as_ref().and_then(|c| c.reason.clone()),
            "applied_in_ms": confirmation.as_ref().and_then(|c| c.in_ms),
        })
    });
    let (applied, seen) = (outcome.applied(), outcome.seen_of_published());
    let other_file = seen.and_then(|seen| seen.other_file.as_ref());
    let other_file = other_file.map(|other| {
        let message = other.to_string();
        json!({ "proxy": other.proxy, "control": other.control, "message": message })
    });
    let (running, status, why) = match status {
        Ok(status) => (true, json!(status), None),
        Err(unknown) => {
            // A proxy without an admin socket is still distinguished from no proxy.
            let settings = app.shared.live();
            let names = &settings.proxy_process_names;
            let found = contract::reload::find_proxy(&settings.proxy_pid_path, names);
            let why = found.as_ref().err().map(ToString::to_string);
            let why = why.unwrap_or_else(|| unknown.to_string());
            (found.is_ok(), Value::Null, Some(why))
        }
    };
    json!({
        "ok": true, "running": running, "why": why, "published_generation": outcome.generation,
        "applied": applied, "verified": seen.map(|seen| seen.verified), "other_file": other_file,
        "refusals": answers::refusals(app, &outcome.incidents), "last_publish": last, "updated_at": outcome.updated_at,
        "failure": outcome.failure.map(|failure| failure.to_string()),
        "warnings": answers::warnings(app), "freeze": answers::freeze(app),
        "protected": !app.access.needs_tokens(), "ttl_ms": app.shared.live().expiry.ttl_ms,
        "status": status,
    })
}

pub async fn audit_log(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
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
    let lost = app.shared.audit.failing().map(
        |failing| json!({ "since_ms": failing.since_ms, "lines": failing.lost, "error": failing.error }),
    );
    let warnings: Vec<String> = app.shared.audit.warning().into_iter().collect();
    Ok(Json(json!({
        "ok": true, "data": data, "path": path, "warnings": warnings, "lost": lost,
    })))
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
) -> Result<Json<Value>, ApiError> {
    let value = body.get("ip").cloned().unwrap_or_default();
    let target = value.as_str().unwrap_or_default();
    let (ip, ports) = ping_target(&app, &actor, &value)?;
    let output = app.pings.ping(ip, &ports).await.map_err(|busy| {
        note_ping(&app, &actor, target, "refused: too many at once");
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, busy.to_string()).audited()
    })?;
    note_ping(&app, &actor, target, "ok");
    Ok(Json(json!({ "ok": true, "output": output })))
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
