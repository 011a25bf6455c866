//! `GET sessions` and `DELETE sessions/{id}`: who is connected, as the proxy says, and ending one of them.

use api::v1::SessionEnded;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use contract::sessions::{
    LISTED, ListedProtocol, MAX_LISTED, SessionList, SessionOrder, SessionQuery,
};
use contract::{Name, Networks};

use super::query::Query;
use crate::actor::Actor;
use crate::observe::Unknown;
use crate::web::App;
use crate::web::error::ApiError;

pub async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<SessionList>, ApiError> {
    let asked = read(Query::new(query.as_deref()))?;
    let list = app.proxy.sessions(&asked).await;
    list.map(Json).map_err(|unknown| silent(&unknown))
}

pub async fn end(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<Json<SessionEnded>, ApiError> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let ended = match id.bytes().all(is_id) {
        true => app
            .proxy
            .end_session(&id)
            .await
            .map_err(|unknown| silent(&unknown)),
        false => Ok(false),
    };
    let ended = ended.and_then(|has_ended| match has_ended {
        true => Ok(()),
        false => {
            let message = format!("no session {id:?} is open");
            Err(ApiError::new(StatusCode::NOT_FOUND, message))
        }
    });
    let result = ended.as_ref().err().map_or("ok", |error| &error.message);
    app.shared.audit.note(&actor, "end_session", &id, result);
    match ended {
        Ok(()) => Ok(Json(SessionEnded { ok: true, id })),
        Err(error) => Err(error.audited()),
    }
}

fn silent(unknown: &Unknown) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, unknown.to_string())
}

fn read(mut query: Query) -> Result<SessionQuery, ApiError> {
    let name = |query: &mut Query, key: &'static str, allowed: &str| {
        let text = query.text(key)?;
        if Name::new(&text).is_none() {
            query.faults.add(&format!("?{key}"), &text, allowed);
        }
        Some(text)
    };
    let pool = name(&mut query, "pool", "the name of a pool");
    let listener = name(&mut query, "listener", "the name of a listener");
    let backend = query.text("backend").and_then(|text| {
        let addr = text.parse().ok();
        if addr.is_none() {
            query.faults.add("?backend", &text, "\"ip:port\"");
        }
        addr
    });
    let client = query.text("client");
    if let Some(text) = client
        .as_ref()
        .filter(|text| Networks::parse(text).is_none())
    {
        let allowed = "an address or a network such as 10.0.0.0/8";
        query.faults.add("?client", text, allowed);
    }
    let protocol = choice(
        &mut query,
        "protocol",
        &[("tcp", ListedProtocol::Tcp), ("udp", ListedProtocol::Udp)],
    );
    let orders = [
        ("age", SessionOrder::Age),
        ("idle", SessionOrder::Idle),
        ("bytes", SessionOrder::Bytes),
    ];
    let sort = choice(&mut query, "sort", &orders).unwrap_or_default();
    let limit = query.number("limit", LISTED as u64, 0, MAX_LISTED as u64) as usize;
    query.end()?;
    Ok(SessionQuery {
        pool,
        listener,
        backend,
        client,
        protocol,
        sort,
        limit,
    })
}

fn choice<T: Copy>(query: &mut Query, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
    let text = query.text(key)?;
    let found = choices.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let allowed = format!("one of {}", words.join(", "));
        query.faults.add(&format!("?{key}"), &text, allowed);
    }
    found.map(|(_, choice)| *choice)
}
