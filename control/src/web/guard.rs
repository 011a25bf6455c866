//! The checks before every route: exact Host and Origin, protected mode, tokens. After it: the headers of
//! every answer and the access lines of the audit log.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::client::Client;
use super::error::{ApiError, Audited};
use super::{routes, v1};
use crate::actor::Actor;
use crate::auth::{Caller, Denied, Grant, Proof, SESSION_COOKIE, SessionKey, Shown};

/// Headers by which a forwarding proxy shows itself; from there on `peer` is not the origin.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
];

/// The page needs nothing from elsewhere, and nothing inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

pub async fn guard(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let counters = &app.shared.counters;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    let path = request.uri().path().to_owned();
    // One view of the page reads dozens of files, which the log counts as one access.
    let audited = if path.starts_with("/static/") {
        "/static/"
    } else {
        &path
    };
    let target = format!("{} {audited}", request.method());
    let judged = judge(&app, peer, &request);
    let grant = judged
        .as_ref()
        .ok()
        .and_then(|client| client.grant.as_ref());
    let actor = Actor::Client {
        ip: peer.ip().to_canonical(),
        by: grant.and_then(|grant| grant.label.clone()),
    };
    let reads = is_reading(request.method());
    let mut response = match judged {
        Ok(client) => {
            request.extensions_mut().insert(actor.clone());
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(error) => {
            counters.requests_refused.fetch_add(1, Ordering::Relaxed);
            let result = format!("{}: {}", error.status.as_u16(), error.message);
            app.shared.audit.note(&actor, "refused", &target, &result);
            error.audited().into_response()
        }
    };
    let status = response.status();
    // Mutations have lines of their own; one that did not get that far has only this one.
    let has_line = response.extensions().get::<Audited>().is_some();
    if !has_line && (reads || status.is_client_error()) {
        let result = status.as_u16().to_string();
        app.shared.audit.note(&actor, "access", &target, &result);
    }
    // Whatever it changed has its line before it is answered.
    app.shared.audit.settle().await;
    add_headers(response.headers_mut());
    if path.starts_with("/api/v1/") {
        return v1::problem::render(response, &path);
    }
    response
}

fn is_reading(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn judge(app: &App, peer: SocketAddr, request: &Request) -> Result<Client, ApiError> {
    let headers = request.headers();
    let path = request.uri().path();
    let bearer = bearer(headers);
    let cookie = session_cookie(app, headers);
    let caller = Caller {
        ip: peer.ip().to_canonical(),
        forwarded: FORWARDED.iter().any(|name| headers.contains_key(*name)),
        shown: match (bearer, cookie) {
            (Some(token), _) => Shown::Bearer(token),
            (None, Some(id)) => Shown::Session(id),
            (None, None) => Shown::Nothing,
        },
    };
    let client = |grant| Client {
        ip: caller.ip,
        is_local: caller.is_local(),
        grant,
        session: cookie.map(SessionKey::of),
    };
    if path == "/livez" {
        return Ok(client(None));
    }
    match judge_caller(app, request, &caller) {
        Ok(grant) => Ok(client(grant)),
        Err(_) if is_open(app, path) => Ok(client(None)),
        Err(error) => Err(error),
    }
}

/// Whether anybody is served: a supervisor has no token to show, and asks by an address.
fn is_open(app: &App, path: &str) -> bool {
    path == "/readyz" || (path == "/metrics" && app.shared.live().open_metrics)
}

fn judge_caller(app: &App, request: &Request, caller: &Caller) -> Result<Option<Grant>, ApiError> {
    // Who is not served at all need not learn which names we answer to.
    if !app.access.needs_tokens() && !caller.is_local() {
        return Err(Denied::Protected.into());
    }
    let headers = request.headers();
    let path = request.uri().path();
    let checked = check_host_and_origin(app, headers, path);
    if !may_be_a_program(headers) {
        checked.clone()?;
    }
    if !is_reading(request.method()) {
        check_form(headers, matches!(caller.shown, Shown::Session(_)))?;
    }
    let need = routes::need(request.method(), path);
    let grant = match app.access.judge(caller, need) {
        // The body names the backend: the handler checks it.
        Err(Denied::NoToken) if may_refresh_without(app, request, caller) => None,
        judged => judged?,
    };
    // A page of another site knows no token, whatever host name it used.
    match grant.as_ref().map(|grant| grant.proof) {
        Some(Proof::Token(_)) => {}
        Some(Proof::Local | Proof::Session(_)) | None => checked?,
    }
    Ok(grant)
}

/// For a while after the first token, what was registered from this machine is refreshed without one.
fn may_refresh_without(app: &App, request: &Request, caller: &Caller) -> bool {
    let is_registration =
        request.method() == Method::POST && request.uri().path() == "/api/register";
    is_registration && caller.is_local() && app.access.has_grace()
}

/// Whether a request shows a token, one Host or none, and nothing that only a browser sends.
fn may_be_a_program(headers: &HeaderMap) -> bool {
    let has_one_host = headers.get_all(header::HOST).iter().count() <= 1;
    let has = |name| headers.contains_key(name);
    bearer(headers).is_some() && has_one_host && !has("origin") && !has("sec-fetch-site")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The session's id. Cookies know no ports, so a server on another port of this host may have given
/// the browser some of our name, and one for a longer path comes first: what counts is the first that
/// a session has. The bound on headers is one on their number, too.
fn session_cookie<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = format!("{SESSION_COOKIE}{}", app.port);
    let all = headers.get_all(header::COOKIE).iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut ids = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(|(key, value)| (key == name).then_some(value));
    let first = ids.next()?;
    let mut all = std::iter::once(first).chain(ids);
    all.find(|id| app.access.has_session(id)).or(Some(first))
}

/// Refuses what a page of another site could send without permission: a browser sends an Origin with every
/// request that changes something, and no form can send JSON.
fn check_form(headers: &HeaderMap, by_cookie: bool) -> Result<(), ApiError> {
    let has_origin = headers.contains_key(header::ORIGIN);
    if by_cookie && !has_origin {
        let message = "Origin is required: this session belongs to the console's own page";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let Some(found) = headers.get(header::CONTENT_TYPE).filter(|_| has_origin) else {
        return Ok(());
    };
    let found = found.to_str().unwrap_or("(no text)");
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("Content-Type: found {found:?}, allowed: application/json");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
}

fn check_host_and_origin(app: &App, headers: &HeaderMap, path: &str) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or("(no text)"))
    };
    let host = text(header::HOST).unwrap_or_default();
    let has_one_host = headers.get_all(header::HOST).iter().count() == 1;
    if !has_one_host || !app.hosts.contain(host) {
        return refuse(format!(
            "Host: found {host:?}, allowed: an address that control listens on, localhost or loopback \
             with its port, or a name in \"allowed_hosts\" of control_config.json; a program with a \
             bearer token may use any"
        ));
    }
    if let Some(origin) = text(header::ORIGIN)
        && !app.hosts.is_own_origin(origin, host)
    {
        return refuse(format!(
            "Origin: found {origin:?}, allowed: the console's own page"
        ));
    }
    // A browser tells by itself when another site's page asks; a link to our page is no harm.
    let is_foreign = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site" || site == "same-site");
    if is_foreign && path.starts_with("/api/") {
        return refuse("Sec-Fetch-Site: a page of another site may not use this API".to_owned());
    }
    Ok(())
}

fn add_headers(headers: &mut HeaderMap) {
    let all = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
