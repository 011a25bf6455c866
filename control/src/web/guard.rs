//! What stands before every route: exact Host and Origin, protected mode, tokens; and behind it,
//! the headers of every answer and the access lines of the audit log.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::error::{ApiError, Audited};
use super::v1;
use crate::actor::{Actor, TokenUse};
use crate::auth::{Caller, Need, authorize};

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
    // One view of the page takes dozens of files, which are one access to whoever reads the log.
    let audited = if path.starts_with("/static/") {
        "/static/"
    } else {
        &path
    };
    let target = format!("{} {audited}", request.method());
    let judged = judge(&app, peer, &request);
    let token = *judged.as_ref().unwrap_or(&TokenUse::None);
    let actor = Actor::Client {
        ip: peer.ip().to_canonical(),
        token,
    };
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let mut response = match judged {
        Ok(_) => {
            request.extensions_mut().insert(actor.clone());
            next.run(request).await
        }
        Err(error) => {
            counters.requests_refused.fetch_add(1, Ordering::Relaxed);
            let result = format!("{}: {}", error.status.as_u16(), error.message);
            app.shared.audit.note(&actor, "refused", &target, &result);
            error.into_response()
        }
    };
    let status = response.status();
    let was_refused = status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED;
    // Mutations have lines of their own; one that did not get that far has only this one.
    let has_line = response.extensions().get::<Audited>().is_some();
    if !was_refused && !has_line && (reads || status.is_client_error()) {
        let result = status.as_u16().to_string();
        app.shared.audit.note(&actor, "access", &target, &result);
    }
    add_headers(response.headers_mut());
    if path.starts_with("/api/v1/") {
        return v1::problem::render(response, &path);
    }
    response
}

fn judge(app: &App, peer: SocketAddr, request: &Request) -> Result<TokenUse, ApiError> {
    let headers = request.headers();
    let path = request.uri().path();
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let caller = Caller {
        ip: peer.ip(),
        forwarded: FORWARDED.iter().any(|name| headers.contains_key(*name)),
        bearer,
    };
    let need = need(request.method(), path);
    // Who is not served at all need not learn which names we answer to.
    let token = match authorize(app.tokens.as_ref(), caller, need) {
        Err(denied @ crate::auth::Denied::Protected) if path != "/livez" => {
            return Err(denied.into());
        }
        judged => judged,
    };
    if path == "/livez" {
        return Ok(TokenUse::None);
    }
    check_host_and_origin(app, headers, path)?;
    token.map_err(ApiError::from)
}

fn need(method: &Method, path: &str) -> Need {
    let is_open = path == "/" || path == "/livez" || path.starts_with("/static/");
    let reads = method == Method::GET || method == Method::HEAD;
    match (reads, path) {
        (true, _) if is_open => Need::Nothing,
        (true, _) => Need::Read,
        (false, "/api/register") => Need::Register,
        (false, _) => Need::Write,
    }
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
            "Host: found {host:?}, allowed: the address we listen on, localhost and loopback at our \
             port, and \"allowed_hosts\" of control_config.json"
        ));
    }
    if let Some(origin) = text(header::ORIGIN)
        && !app.hosts.is_own_origin(origin, host)
    {
        return refuse(format!("Origin: found {origin:?}, allowed: our own page"));
    }
    // A browser tells by itself when another site's page asks; a link to our page is no harm.
    let is_foreign = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site" || site == "same-site");
    if is_foreign && path.starts_with("/api/") {
        return refuse("Sec-Fetch-Site: another site's page may not use this interface".to_owned());
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
