//! What `/api/v1` shows at one moment: the state, and each backend with its status in the proxy.

use std::collections::{BTreeMap, HashMap};

use api::v1::{Backend, InProxy, Listener, Pool, Protocols, Proxy, Status, Verdict, take_apart};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use contract::status::{BackendStatus, Status as Seen};
use contract::{BackendKey, Name};
use serde::Serialize;

use crate::clock::Now;
use crate::merge::Row;
use crate::verdict::failures;
use crate::web::{App, answers};

pub struct View {
    pub etag: String,
    /// `GET status`.
    pub status: Status,
    /// `GET backends`, by pool and address.
    pub rows: BTreeMap<BackendKey, Backend>,
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
    let planned = answers::planned(app, seen.as_ref());
    let (proxy, mut seen) = by_backend(seen.ok());
    let rows = rows.iter();
    let rows = rows.map(|row| (row.key.clone(), shown(app, row, now, &mut seen)));
    let rows: BTreeMap<BackendKey, Backend> = rows.collect();
    let etag = tag_of(app, edits);
    let (k8s_updated_at, runtime_updated_at) = answers::updated_at(app);
    let status = Status {
        planned,
        proxy: proxy.map(Box::new),
        proxies: app.shared.proxies().list(),
        at_ms: app.shared.clock.now().unix_ms,
        etag: etag.clone(),
        verdict: app.shared.verdicts().report().described(),
        failures: failures(),
        audit_seq: app.shared.audit.last_seq(),
        k8s_updated_at,
        runtime_updated_at,
        pools: pools(app, rows.keys()),
        listeners: listeners(app),
    };
    View { etag, status, rows }
}

/// The rows of these backends and the tag of the edits, without looking at all others.
pub async fn look_at(app: &App, keys: &[BackendKey]) -> (String, Vec<Backend>) {
    let seen = app.proxy.status_of(keys).await;
    let (edits, rows) = {
        let model = app.shared.model();
        (model.edits, model.rows_of(keys))
    };
    let now = app.shared.clock.now();
    let (_, mut seen) = by_backend(seen.ok());
    let rows = rows.iter().map(|row| shown(app, row, now, &mut seen));
    (tag_of(app, edits), rows.collect())
}

/// The row of a backend, with what the proxy says of it.
fn shown(app: &App, row: &Row, now: Now, seen: &mut HashMap<BackendKey, BackendStatus>) -> Backend {
    let mut listed = answers::row(app, row, now);
    if let Some(status) = seen.remove(&row.key) {
        let (in_proxy, cost) = InProxy::new(status);
        listed.proxy = Some(Box::new(in_proxy));
        listed.cost = cost;
    }
    listed
}

/// What the proxy says of itself and of each backend.
fn by_backend(seen: Option<Seen>) -> (Option<Proxy>, HashMap<BackendKey, BackendStatus>) {
    let Some(seen) = seen else {
        return (None, HashMap::new());
    };
    let (proxy, backends) = take_apart(seen);
    let backends = backends.into_iter();
    let keyed = backends.filter_map(|backend| Some((backend.key()?, backend)));
    (Some(proxy), keyed.collect())
}

/// The pools as control knows them, whatever the proxy runs.
fn pools<'a>(app: &App, keys: impl Iterator<Item = &'a BackendKey>) -> Vec<Pool> {
    let settings = app.shared.model().settings();
    let mut counts: BTreeMap<&Name, u64> = BTreeMap::new();
    for key in keys {
        *counts.entry(&key.pool).or_default() += 1;
    }
    let defined = settings.pools();
    for pool in &defined {
        counts.entry(pool).or_default();
    }
    let pools = counts.into_iter().map(|(pool, backends)| Pool {
        name: pool.to_string(),
        algorithm: settings.algorithm_of(pool).map(str::to_owned),
        backends,
    });
    pools.collect()
}

/// The listeners likewise.
fn listeners(app: &App) -> Vec<Listener> {
    let listening = app.shared.model().listening().into_iter();
    let listeners = listening.map(|one| Listener {
        name: one.name.to_string(),
        host: one.addr.ip(),
        port: one.addr.port(),
        protocol: match (one.is_tcp, one.is_udp) {
            (true, false) => Protocols::Tcp,
            (false, true) => Protocols::Udp,
            (true, true) | (false, false) => Protocols::TcpAndUdp,
        },
        pool: one.pools.first().cloned(),
    });
    listeners.collect()
}

/// The verdict as of the last look, which is half a second old at most.
pub async fn verdict(State(app): State<App>) -> Json<Verdict> {
    Json(app.shared.verdicts().report().described())
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
pub fn tagged(etag: String, body: impl Serialize) -> Response {
    ([(header::ETAG, etag)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::{key, key_in};

    #[test]
    fn each_row_gets_what_the_proxy_says_of_it_in_its_own_pool() {
        let mut status = crate::history::tests::seen("up", "probe: ok");
        let seen = |pool: &str, state| BackendStatus {
            pool: pool.to_owned(),
            ip: [10, 0, 0, 1].into(),
            port: 9001,
            operational: state,
            ..status.backends[0].clone()
        };
        use contract::status::OperationalState::{Down, Up};
        status.backends = vec![seen("default", Up), seen("chat", Down), seen("No name", Up)];
        let (proxy, taken) = by_backend(Some(status));
        assert!(proxy.is_some());
        assert_eq!(taken.len(), 2);
        let state = |key| taken[&key].operational;
        assert_eq!([state(key(1)), state(key_in("chat", 1))], [Up, Down]);
        assert_eq!(by_backend(None), (None, HashMap::new()));
    }
}
