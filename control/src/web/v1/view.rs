//! What `/api/v1` shows at one moment: the state, and each backend with its status in the proxy.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use contract::{BackendAddr, BackendKey, Name};
use serde_json::{Value, json};

use crate::clock::Now;
use crate::merge::Row;
use crate::verdict::failures_json;
use crate::web::{App, answers, api};

pub struct View {
    pub etag: String,
    /// `GET status`.
    pub status: Value,
    /// `GET backends`, by pool and address.
    pub rows: BTreeMap<BackendKey, Value>,
}

/// The tag of the edits as they stand; one of before a restart never matches.
pub fn etag(app: &App) -> String {
    tag_of(app, app.shared.model().edits)
}

pub fn tag_of(app: &App, edits: u64) -> String {
    format!("\"{:x}-{edits}\"", app.feed.started_ms())
}

pub async fn look(app: &App) -> View {
    let seen = app.proxy.status().await;
    let (edits, rows) = {
        let model = app.shared.model();
        (model.edits, model.rows())
    };
    let now = app.shared.clock.now();
    let outcome = app.publisher.outcome();
    crate::look::note(&app.shared, &outcome, &rows, seen.as_ref()).await;
    let mut status = api::proxy_json(app, seen);
    let seen = take_seen(&mut status);
    let rows = rows.iter();
    let rows = rows.map(|row| (row.key.clone(), row_json(app, row, now, &seen)));
    let rows: BTreeMap<BackendKey, Value> = rows.collect();
    let etag = tag_of(app, edits);
    let mut status = finish_status(app, status, &etag);
    add_services(app, &rows, &mut status);
    View { etag, status, rows }
}

/// The rows of these backends and the tag of the edits, without looking at all others.
pub async fn look_at(app: &App, keys: &[BackendKey]) -> (String, Vec<Value>) {
    let seen = app.proxy.status_of(keys).await;
    let (edits, rows) = {
        let model = app.shared.model();
        (model.edits, model.rows_of(keys))
    };
    let now = app.shared.clock.now();
    let mut status = api::proxy_json(app, seen);
    let seen = take_seen(&mut status);
    let rows = rows.iter().map(|row| row_json(app, row, now, &seen));
    (tag_of(app, edits), rows.collect())
}

/// `seen`: what the proxy says of each backend.
fn row_json(app: &App, row: &Row, now: Now, seen: &HashMap<BackendKey, Value>) -> Value {
    let mut listed = answers::row(app, row);
    listed["id"] = row.key.to_string().into();
    // A moment and not a rest, so that a row changes only when something has happened.
    let left_ms = listed["ttl_remaining_ms"].take().as_u64();
    let expires_at_ms = left_ms.map(|left_ms| (now.unix_ms + left_ms).div_ceil(1000) * 1000);
    listed["expires_at_ms"] = expires_at_ms.into();
    let fields = listed.as_object_mut().expect("a row is an object");
    fields.shift_remove("ttl_remaining_ms");
    let mut proxy = seen.get(&row.key).cloned().unwrap_or_default();
    if let Some(cost) = proxy
        .as_object_mut()
        .and_then(|seen| seen.shift_remove("cost"))
    {
        listed["cost"] = cost;
    }
    listed["proxy"] = proxy;
    listed
}

/// The proxy's backends, out of its status.
fn take_seen(status: &mut Value) -> HashMap<BackendKey, Value> {
    let backends = status["status"]
        .as_object_mut()
        .and_then(|proxy| proxy.shift_remove("backends"));
    let Some(Value::Array(backends)) = backends else {
        return HashMap::new();
    };
    let keyed = backends.into_iter().filter_map(|mut seen| {
        let pool = Name::new(seen["pool"].as_str()?)?;
        let ip = seen["ip"].as_str()?.parse().ok()?;
        let port = u16::try_from(seen["port"].as_u64()?).ok()?;
        let fields = seen.as_object_mut()?;
        fields.shift_remove("ip");
        fields.shift_remove("port");
        Some((BackendKey::new(pool, BackendAddr::new(ip, port)), seen))
    });
    keyed.collect()
}

fn finish_status(app: &App, mut status: Value, etag: &str) -> Value {
    let proxy = status["status"].take();
    let fields = status.as_object_mut().expect("the status is an object");
    fields.shift_remove("ok");
    fields.shift_remove("status");
    status["proxy"] = proxy;
    status["proxies"] = app.shared.proxies().to_json();
    status["at_ms"] = app.shared.clock.now().unix_ms.into();
    status["etag"] = etag.into();
    status["verdict"] = app.shared.verdicts().report().to_json();
    status["failures"] = failures_json();
    status["audit_seq"] = app.shared.audit.last_seq().into();
    let (k8s_updated_at, runtime_updated_at) = answers::updated_at(app);
    status["k8s_updated_at"] = k8s_updated_at;
    status["runtime_updated_at"] = runtime_updated_at;
    status
}

/// The listeners and pools as control knows them, whatever the proxy runs.
fn add_services(app: &App, rows: &BTreeMap<BackendKey, Value>, status: &mut Value) {
    let settings = app.shared.model().settings();
    let mut counts: BTreeMap<&Name, u64> = BTreeMap::new();
    for key in rows.keys() {
        *counts.entry(&key.pool).or_default() += 1;
    }
    let pools = settings.pools();
    for pool in &pools {
        counts.entry(pool).or_default();
    }
    let pools = counts.into_iter().map(|(pool, count)| {
        let algorithm = settings.algorithm_of(pool);
        json!({ "name": pool.as_str(), "algorithm": algorithm, "backends": count })
    });
    status["pools"] = pools.collect();
    let listening = app.shared.model().listening().into_iter();
    let listeners = listening.map(|one| {
        json!({
            "name": one.name.as_str(), "host": one.addr.ip(), "port": one.addr.port(),
            "protocol": one.protocol(), "pool": one.pools.first(),
        })
    });
    status["listeners"] = listeners.collect();
}

/// The verdict as of the last look, which is half a second old at most.
pub async fn verdict(State(app): State<App>) -> Json<Value> {
    Json(app.shared.verdicts().report().to_json())
}

pub async fn status(State(app): State<App>) -> Response {
    let view = look(&app).await;
    tagged(view.etag, view.status)
}

/// The same answer with the tag of the edits as they stand.
pub fn with_tag(app: &App, mut response: Response) -> Response {
    if let Ok(tag) = etag(app).parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// An answer with its tag.
pub fn tagged(etag: String, body: Value) -> Response {
    ([(header::ETAG, etag)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::{key, key_in};

    #[test]
    fn each_row_gets_what_the_proxy_says_of_it_in_its_own_pool() {
        let seen = |pool: &str, state: &str| json!({ "pool": pool, "ip": "10.0.0.1", "port": 9001, "operational": state });
        let mut status = json!({ "status": { "pid": 7, "backends": [
            seen("default", "up"), seen("chat", "down"), seen("No name", "up"),
        ] } });
        let taken = take_seen(&mut status);
        assert_eq!(taken.len(), 2);
        let state = |key| taken[&key]["operational"].clone();
        assert_eq!([state(key(1)), state(key_in("chat", 1))], ["up", "down"]);
        assert_eq!(status["status"], json!({ "pid": 7 }));
    }
}
