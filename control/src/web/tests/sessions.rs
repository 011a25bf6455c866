//! Signing in and out, what a session is good for, and how often a wrong token may be tried.

use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::harness::{Ask, Control, Folder, ask, until};

const OWN: &str = "http://127.0.0.1:8080";
const SESSION: &str = "/api/v1/session";
const REMOTE: &str = "192.0.2.1:999";

async fn sign_in(control: &Control, token: &str) -> (StatusCode, HeaderMap, Value) {
    let asked = ask("POST", SESSION).header("origin", OWN).peer(REMOTE);
    let asked = asked.header("content-type", "application/json");
    let asked = asked.body(&json!({ "token": token }));
    let (status, headers, text) = control.ask_raw(asked).await;
    (status, headers, serde_json::from_str(&text).expect("JSON"))
}

/// The cookie as a browser sends it back.
async fn cookie(control: &Control, token: &str) -> String {
    let (status, headers, body) = sign_in(control, token).await;
    assert_eq!(status, 200, "{body}");
    let cookie = headers["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

fn write_weight<'a>(cookie: &'a str) -> Ask<'a> {
    let asked = ask("POST", "/api/backends/10.0.0.1/9001/weight").peer(REMOTE);
    let asked = asked.header("origin", OWN).header("cookie", cookie);
    asked.body(&json!({ "weight": 7 }))
}

async fn with_tokens(folder: &Folder) -> Control {
    folder.write_tokens(&[
        ("reader", "read", None),
        ("writer", "write", None),
        ("registrar", "register", None),
    ]);
    let control = folder.start().await;
    let registration = ask("POST", "/api/register").header("authorization", "Bearer registrar");
    let body = json!({ "ip": "10.0.0.1", "port": 9001 });
    control.good(registration.body(&body)).await;
    control
}

#[tokio::test]
async fn the_page_leads_to_the_login_and_keeps_what_was_asked_for() {
    let folder = Folder::new(json!({}));
    let control = with_tokens(&folder).await;
    let (status, headers, _) = control
        .ask_raw(ask("GET", "/?filter=down").peer(REMOTE))
        .await;
    assert_eq!(
        (status, &headers["location"]),
        (
            StatusCode::SEE_OTHER,
            &"/login?filter=down".parse().expect("text")
        )
    );
    let (status, headers, page) = control.ask_raw(ask("GET", "/login").peer(REMOTE)).await;
    assert_eq!(status, 200);
    assert!(page.contains("type=\"password\"") && !page.contains("onclick"));
    assert!(
        headers["content-security-policy"]
            .to_str()
            .expect("text")
            .contains("script-src 'self'")
    );
    let cookie = cookie(&control, "reader").await;
    let (status, _, page) = control
        .ask_raw(ask("GET", "/").peer(REMOTE).header("cookie", &cookie))
        .await;
    assert!(status == 200 && page.contains("main.js"));
}

#[tokio::test]
async fn a_session_may_what_its_token_may_until_it_is_signed_out() {
    let folder = Folder::new(json!({}));
    let control = with_tokens(&folder).await;
    let (status, headers, body) = sign_in(&control, "writer").await;
    assert_eq!(
        (status, &body["scope"], &body["signed_in"]),
        (StatusCode::OK, &json!("write"), &json!(true))
    );
    let set = headers["set-cookie"].to_str().expect("text");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(part), "{part}: {set}");
    }
    assert!(!set.contains("Secure") && !set.contains("writer"), "{set}");
    let writer = cookie(&control, "writer").await;
    let reader = cookie(&control, "reader").await;
    control.good(write_weight(&writer)).await;
    let (status, _) = control.ask(write_weight(&reader)).await;
    assert_eq!(status, 403);
    let lines = folder.audited("weight");
    let line = lines.last().expect("a line");
    assert_eq!(
        line["actor"],
        json!("192.0.2.1 with a session of token writer (write)")
    );

    let out = ask("DELETE", SESSION)
        .header("origin", OWN)
        .header("cookie", &writer)
        .peer(REMOTE);
    let (status, headers, _) = control.ask_raw(out).await;
    assert!(
        status == 200
            && headers["set-cookie"]
                .to_str()
                .expect("text")
                .contains("Max-Age=0")
    );
    assert_eq!(control.ask(write_weight(&writer)).await.0, 401);
    let (name, _) = writer.split_once('=').expect("a name and a value");
    for cookie in [&writer, &format!("{name}=made up")] {
        let again = ask("DELETE", SESSION).header("origin", OWN);
        let again = again.header("cookie", cookie).peer(REMOTE);
        assert_eq!(control.ask(again).await.0, 200);
    }
    let (_, told) = control
        .ask(ask("GET", SESSION).peer(REMOTE).header("cookie", &writer))
        .await;
    assert_eq!(
        (&told["scope"], &told["needs_token"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(folder.audited("sign_in").len(), 3);
    assert_eq!(folder.audited("sign_out").len(), 1);
}

#[tokio::test]
async fn cookies_that_another_port_of_this_host_has_set_lock_nobody_out() {
    let folder = Folder::new(json!({}));
    let control = with_tokens(&folder).await;
    let good = cookie(&control, "writer").await;
    let (name, _) = good.split_once('=').expect("a name and a value");
    for planted in [
        format!("{name}=planted; {good}"),
        format!("{good}; {name}=planted"),
        format!("{name}=; {name}={}; other={name}; {good}", "0".repeat(64)),
    ] {
        control.good(write_weight(&planted)).await;
    }
    let (status, _) = control.ask(write_weight(&format!("{name}=planted"))).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn under_tls_the_cookie_is_secure() {
    let folder = Folder::new(json!({ "allowed_hosts": ["console.example"] }));
    let control = with_tokens(&folder).await;
    let asked = ask("POST", SESSION).header("host", "console.example");
    let asked = asked.header("origin", "https://console.example");
    let (status, headers, _) = control
        .ask_raw(asked.body(&json!({ "token": "reader" })))
        .await;
    assert!(
        status == 200
            && headers["set-cookie"]
                .to_str()
                .expect("text")
                .contains("; Secure")
    );
}

#[tokio::test]
async fn no_session_is_opened_by_a_wrong_lesser_or_missing_token() {
    let folder = Folder::new(json!({}));
    let control = with_tokens(&folder).await;
    for (token, right) in [("nonsense", 401), ("registrar", 403)] {
        let (status, headers, body) = sign_in(&control, token).await;
        assert!(
            status == right && !headers.contains_key("set-cookie"),
            "{token}: {body}"
        );
    }
    for body in [
        json!({}),
        json!({ "token": 7 }),
        json!({ "token": "reader", "more": 1 }),
    ] {
        let asked = ask("POST", SESSION).body(&body);
        let (status, answer) = control.ask(asked).await;
        assert!(
            status == 400 && !answer.to_string().contains("reader"),
            "{answer}"
        );
    }
    let open = Folder::new(json!({}));
    let control = open.start().await;
    let (status, _) = control
        .ask(ask("POST", SESSION).body(&json!({ "token": "any" })))
        .await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn a_revoked_token_ends_its_sessions_and_their_streams() {
    let folder = Folder::new(json!({}));
    let control = with_tokens(&folder).await;
    let cookie = cookie(&control, "reader").await;
    let asked = || {
        ask("GET", "/api/v1/events")
            .header("cookie", &cookie)
            .peer(REMOTE)
    };
    let mut stream = control.open(asked()).await;
    assert!(stream.frame().await.is_some());
    folder.write_tokens(&[("writer", "write", None)]);
    control.app.access.reload().expect("good");
    let end = async { while stream.frame().await.is_some() {} };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), end).await;
    ended.expect("the stream ends");
    assert_eq!(control.ask_status(asked()).await, 401);
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_for_their_address_alone() {
    let folder = Folder::new(json!({ "tokens": { "read": "made-up-token" } }));
    folder.write_tokens(&[("generated", "read", None)]);
    let control = folder.start().await;
    let status = |peer: &'static str, token: &'static str| {
        let asked = ask("GET", "/api/v1/status").peer(peer);
        let header = format!("Bearer {token}");
        let control = &control;
        async move {
            control
                .ask_raw(asked.header("authorization", &header))
                .await
        }
    };
    for _ in 0..10 {
        assert_eq!(status(REMOTE, "guess").await.0, 401);
    }
    let (refused, headers, body) = status(REMOTE, "guess").await;
    assert_eq!(
        (refused, &headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &6.into())
    );
    assert!(body.contains("try again in 6 s"), "{body}");
    assert_eq!(
        status(REMOTE, "made-up-token").await.0,
        429,
        "a right guess looks like a wrong one"
    );
    assert_eq!(sign_in(&control, "made-up-token").await.0, 429);
    assert_eq!(status(REMOTE, "generated").await.0, 200);
    assert_eq!(sign_in(&control, "generated").await.0, 200);
    assert_eq!(status("192.0.2.2:999", "made-up-token").await.0, 200);
    control.pass_ms(6_000);
    assert_eq!(status(REMOTE, "made-up-token").await.0, 200);
}

#[tokio::test]
async fn tokens_are_taken_up_while_the_server_runs() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let file = crate::settings::SettingsFile::at(&folder.root);
    crate::renew::start(control.app.clone(), file).expect("a handler");
    assert_eq!(
        control
            .ask(ask("GET", "/api/backends").peer(REMOTE))
            .await
            .0,
        403
    );
    folder.write_tokens(&[("reader", "read", None)]);
    until("tokens are needed", || control.app.access.needs_tokens()).await;
    let asked = ask("GET", "/api/backends").peer(REMOTE);
    assert_eq!(
        control
            .ask(asked.header("authorization", "Bearer reader"))
            .await
            .0,
        200
    );
    // The token counts a moment before its line is written.
    until("the line", || !folder.audited("token_added").is_empty()).await;
    assert_eq!(
        folder.audited("token_added")[0]["target"],
        json!("token reader (read)")
    );
}
