//! `session`: exchanges a token for a cookie that identifies the console until it signs out.

use api::v1::{Session, SignedOut};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use contract::{Faults, Object};
use serde_json::Value;

use crate::actor::Actor;
use crate::audit::Entry;
use crate::auth::{Grant, Proof, SESSION_COOKIE};
use crate::web::App;
use crate::web::body::JsonObject;
use crate::web::client::Client;
use crate::web::error::ApiError;

/// What the caller may do, and by what; the console hides what it may not.
pub async fn show(State(app): State<App>, Extension(client): Extension<Client>) -> Json<Session> {
    Json(describe(&app, client.grant.as_ref()))
}

/// A token opens a session of this browser.
pub async fn sign_in(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let refused = |error: ApiError| {
        let result = format!("{}: {}", error.status.as_u16(), error.message);
        app.shared.audit.note(&actor, "sign_in", "console", &result);
        error.audited()
    };
    let token = read_token(&body).map_err(|faults| refused(faults.into()))?;
    if !app.access.needs_tokens() {
        let message = "no tokens are configured, so there is nothing to sign in with";
        return Err(refused(ApiError::new(StatusCode::CONFLICT, message)));
    }
    let signed_in = app.access.sign_in(client.ip, &token);
    let signed_in = signed_in.map_err(|denied| refused(denied.into()))?;
    let by = signed_in.grant.label.clone();
    tell(&app, &Actor::Client { ip: client.ip, by }, "sign_in");
    // The browser says by its Origin whether it came by TLS, ours or that of a proxy before us.
    let origin = headers.get(header::ORIGIN);
    let is_secure = origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    let cookie = cookie(&app, &signed_in.id, signed_in.max_age_s, is_secure);
    let body = Json(describe(&app, Some(&signed_in.grant)));
    Ok(([(header::SET_COOKIE, cookie)], body).into_response())
}

pub async fn sign_out(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Extension(actor): Extension<Actor>,
) -> Response {
    // Anybody may ask with a cookie made up: what ends nothing is no line of the audit log.
    if let Some(key) = client.session
        && app.access.sign_out(key)
    {
        tell(&app, &actor, "sign_out");
    }
    let gone = cookie(&app, "", 0, false);
    ([(header::SET_COOKIE, gone)], Json(SignedOut { ok: true })).into_response()
}

fn describe(app: &App, grant: Option<&Grant>) -> Session {
    Session {
        ok: true,
        needs_token: app.access.needs_tokens(),
        signed_in: grant.is_some_and(|grant| matches!(grant.proof, Proof::Session(_))),
        scope: grant.map(|grant| grant.scope.name().to_owned()),
        by: grant.and_then(|grant| grant.label.clone()),
    }
}

fn read_token(body: &serde_json::Map<String, Value>) -> Result<String, Faults> {
    let mut faults = Faults::default();
    let mut object = Object::new(body, "");
    // The value may be a secret in the wrong form, so the message does not repeat it.
    let token = object.take("token").and_then(Value::as_str);
    if token.is_none() {
        faults.add("/token", "no string", "a token");
    }
    object.unknown_keys(&mut faults);
    match token.filter(|_| faults.is_empty()) {
        Some(token) => Ok(token.trim().to_owned()),
        None => Err(faults),
    }
}

fn cookie(app: &App, id: &str, max_age_s: u64, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!(
        "{SESSION_COOKIE}{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}",
        app.port
    )
}

fn tell(app: &App, actor: &Actor, action: &'static str) {
    app.shared.audit.write(Entry {
        actor,
        action,
        target: "console",
        old: Value::Null,
        new: Value::Null,
        note: None,
        before_edit: None,
        result: "ok",
    });
}
