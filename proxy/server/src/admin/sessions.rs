//! Open sessions and flows: who is connected, and ending one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use contract::sessions::{
    ClientShare, ListedProtocol, MAX_LISTED, OpenSession, SessionList, SessionQuery,
};
use contract::{BackendAddr, Networks};
use proxy_core::listing::{Open, OpenId, Wanted};
use proxy_core::plan::Protocol;
use serde_json::json;

use super::problem::problem;
use crate::supervise::Supervisor;
use crate::supervise::state::State as Known;

/// Clients in an answer.
const TOP_CLIENTS: usize = 10;

/// `GET /sessions`.
pub async fn answer_sessions(
    State(supervisor): State<Arc<Supervisor>>,
    asked: Result<Query<SessionQuery>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let wanted = match wanted(&supervisor.state(), &asked) {
        Ok(wanted) => wanted,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let Some(wanted) = wanted else {
        return Json(SessionList::default()).into_response();
    };
    let listing = supervisor.workers().list(&wanted).await;
    let (total, first, clients) = listing.finish(TOP_CLIENTS);
    let known = supervisor.state();
    let sessions = first.into_iter().map(|open| described(&known, open));
    let top_clients = clients.into_iter().map(|one| ClientShare {
        client: one.client,
        sessions: one.sessions,
        bytes: one.bytes,
    });
    let answer = SessionList {
        total,
        sessions: sessions.collect(),
        top_clients: top_clients.collect(),
    };
    Json(answer).into_response()
}

/// `DELETE /sessions/{id}`.
pub async fn end_session(
    State(supervisor): State<Arc<Supervisor>>,
    Path(id): Path<String>,
) -> Response {
    let is_open = match parse_id(&id) {
        Some(id) => supervisor.workers().end(id).await,
        None => false,
    };
    match is_open {
        true => Json(json!({ "ok": true })).into_response(),
        false => problem(StatusCode::NOT_FOUND, "no such session is open"),
    }
}

/// `None`: of a pool or listener that is not known, so that there can be none.
fn wanted(known: &Known, asked: &SessionQuery) -> Result<Option<Wanted>, String> {
    if asked.limit > MAX_LISTED {
        return Err(format!(
            "limit: found {}, allowed: 0 to {MAX_LISTED}",
            asked.limit
        ));
    }
    let client = match &asked.client {
        None => None,
        Some(text) => {
            let network = Networks::parse(text);
            let allowed = "allowed: an address or a network such as 10.0.0.0/8";
            Some(network.ok_or_else(|| format!("client: found {text:?}, {allowed}"))?)
        }
    };
    let pool = asked.pool.as_ref().map(|name| {
        let mut pools = known.snapshot.known_pools();
        pools
            .find(|(_, known)| known.as_str() == name)
            .map(|(id, _)| id)
    });
    let listener = asked.listener.as_ref().map(|name| {
        let mut listeners = known.registry.listeners.all();
        listeners
            .find(|known| known.name.as_str() == name)
            .map(|known| known.id)
    });
    if pool == Some(None) || listener == Some(None) {
        return Ok(None);
    }
    Ok(Some(Wanted {
        listener: listener.flatten(),
        pool: pool.flatten(),
        backend: asked
            .backend
            .map(|addr| BackendAddr::new(addr.ip(), addr.port())),
        client,
        protocol: asked.protocol.map(|protocol| match protocol {
            ListedProtocol::Tcp => Protocol::Tcp,
            ListedProtocol::Udp => Protocol::Udp,
        }),
        order: asked.sort,
        limit: asked.limit,
    }))
}

fn described(known: &Known, open: Open) -> OpenSession {
    let mut listeners = known.registry.listeners.all();
    let listener = listeners.find(|one| one.id == open.listener);
    OpenSession {
        id: id_of(open.id),
        protocol: match open.id.protocol {
            Protocol::Tcp => ListedProtocol::Tcp,
            Protocol::Udp => ListedProtocol::Udp,
        },
        client: open.client,
        listener: listener.map(|one| one.name.to_string()),
        pool: known.snapshot.pool_name(open.pool).map(ToString::to_string),
        backend: open.backend.map(|backend| backend.0),
        state: open.phase,
        age_ms: open.age_ms,
        idle_ms: open.idle_ms,
        bytes_up: open.bytes_up,
        bytes_down: open.bytes_down,
    }
}

fn id_of(id: OpenId) -> String {
    format!(
        "{}-{}-{}-{}",
        id.protocol.word(),
        id.worker,
        id.place,
        id.started_us
    )
}

fn parse_id(text: &str) -> Option<OpenId> {
    let mut parts = text.split('-');
    let protocol = match parts.next()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let id = OpenId {
        protocol,
        worker: parts.next()?.parse().ok()?,
        place: parts.next()?.parse().ok()?,
        started_us: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_and_nothing_else_is() {
        let id = OpenId {
            protocol: Protocol::Udp,
            worker: 3,
            place: 70_000,
            started_us: 1 << 50,
        };
        assert_eq!(parse_id(&id_of(id)), Some(id));
        for bad in [
            "",
            "tcp",
            "tcp-0-0",
            "sctp-0-0-0",
            "tcp-0-0-0-0",
            "tcp-0--1-0",
            "tcp-x-0-0",
        ] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
