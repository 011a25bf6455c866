//! The matrix of who may do what, over every route there is: made from the list that the router is
//! made of, so that a new route is in it, and fails where this file gives it no body.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};

use super::harness::{Ask, Control, Folder, LISTEN, ask, read_json};
use crate::auth::{Need, Scope};
use crate::web::routes::{Route, routes};

const REMOTE: &str = "192.0.2.1:999";
const OWN: &str = "http://127.0.0.1:8080";

/// A good body for each route that changes something.
fn body_of(route: &Route) -> Value {
    match (route.method.as_str(), route.path) {
        ("POST" | "DELETE", "/api/register") => json!({ "ip": "10.0.0.7", "port": 9001 }),
        ("POST", "/api/backends/{ip}/{port}/weight") => json!({ "weight": 5 }),
        ("POST", "/api/backends/{ip}/{port}/enabled") => json!({ "enabled": false }),
        ("POST", "/api/backends/{ip}/{port}/drain") => json!({ "drain": true }),
        ("POST", "/api/settings") => json!({ "algorithm": "random" }),
        ("POST", "/api/ping" | "/api/v1/pings") => json!({ "ip": "127.0.0.1" }),
        ("PATCH", "/api/v1/backends/{id}" | "/api/v1/pools/{pool}/backends/{id}")
        | ("PUT", "/api/v1/static/{id}" | "/api/v1/pools/{pool}/static/{id}") => {
            json!({ "weight": 5 })
        }
        ("POST", "/api/v1/changes") => {
            json!({ "changes": [{ "id": "10.0.0.1:9001", "weight": 5 }] })
        }
        ("POST", "/api/v1/session") => json!({ "token": "nonsense" }),
        ("POST", "/api/v1/edits/{number}/roll_back") => json!({}),
        ("POST", "/api/sync" | "/api/expiry/acknowledge")
        | (
            "DELETE",
            "/api/backends/{ip}/{port}/override"
            | "/api/v1/session"
            | "/api/v1/sessions/{id}"
            | "/api/v1/static/{id}"
            | "/api/v1/pools/{pool}/static/{id}",
        ) => Value::Null,
        (method, path) => panic!("{method} {path} has no body here: give it one"),
    }
}

fn path_of(route: &Route) -> String {
    let filled = [
        ("{ip}", "10.0.0.1"),
        ("{port}", "9001"),
        ("{id}", "10.0.0.1:9001"),
        ("{pool}", "default"),
        ("{number}", "99"),
        ("{*path}", "main.js"),
    ];
    let fill = |path: String, (name, value): (&str, &str)| path.replace(name, value);
    filled.into_iter().fold(route.path.to_owned(), fill)
}

fn changing() -> impl Iterator<Item = Route> {
    routes()
        .into_iter()
        .filter(|route| route.method != Method::GET)
}

/// A request to the route, as a program elsewhere makes it.
fn question<'a>(route: &'a Route, path: &'a str) -> Ask<'a> {
    let question = ask(route.method.as_str(), path).peer(REMOTE);
    let question = question.header("if-match", "*");
    match body_of(route) {
        Value::Null => question,
        body => question.body(&body),
    }
}

/// All that requests may change.
fn state(folder: &Folder, control: &Control) -> (Vec<Value>, u64, u64) {
    let files = [
        folder.root.backends_runtime(),
        folder.root.static_backends(),
        folder.root.settings_runtime(),
        folder.root.proxy_config(),
        folder.root.tokens(),
    ];
    let model = control.app.shared.model();
    let files = files.iter().map(|path| read_json(path)).collect();
    (files, model.edits, model.revision)
}

/// A control plane with a token of each scope, and one backend.
async fn control_with_tokens(folder: &Folder) -> Control {
    let past = Some(1_000_000_000);
    let all = [
        ("read", "read", None),
        ("register", "register", None),
        ("write", "write", None),
        ("admin", "admin", None),
        ("expired", "admin", past),
    ];
    let mut with_revoked = all.to_vec();
    with_revoked.push(("revoked", "admin", None));
    folder.write_tokens(&with_revoked);
    let control = folder.start().await;
    let registration = ask("POST", "/api/register").header("authorization", "Bearer revoked");
    let body = json!({ "ip": "10.0.0.1", "port": 9001 });
    control.good(registration.body(&body)).await;
    folder.write_tokens(&all);
    control.app.access.reload().expect("good tokens");
    control
}

#[tokio::test]
async fn without_a_good_token_nothing_is_changed() {
    let folder = Folder::new(json!({}));
    let control = control_with_tokens(&folder).await;
    let before = state(&folder, &control);
    for route in changing().filter(|route| route.need != Need::Nothing) {
        let path = path_of(&route);
        for bearer in ["", "nonsense", "expired", "revoked"] {
            let header = format!("Bearer {bearer}");
            let mut asked = question(&route, &path);
            if !bearer.is_empty() {
                asked = asked.header("authorization", &header);
            }
            // Wrong tokens from one address are slowed down, which is another test's matter.
            let peer = format!("[2001:db8:{:x}::1]:9", path.len() * 8 + bearer.len());
            let (status, answer) = control.ask(asked.peer(&peer)).await;
            assert_eq!(status, 401, "{} {path} {bearer:?}: {answer}", route.method);
        }
    }
    assert_eq!(state(&folder, &control), before);
}

#[tokio::test]
async fn each_scope_may_do_what_it_is_for_and_nothing_else() {
    let folder = Folder::new(json!({}));
    let control = control_with_tokens(&folder).await;
    for route in routes()
        .into_iter()
        .filter(|route| route.need != Need::Nothing)
    {
        let path = path_of(&route);
        for (name, scope) in Scope::ALL {
            let header = format!("Bearer {name}");
            let asked = match route.method == Method::GET {
                true => ask("GET", &path).peer(REMOTE),
                false => question(&route, &path),
            };
            let status = control
                .ask_status(asked.header("authorization", &header))
                .await;
            let told = format!("{} {path} with {name}: {status}", route.method);
            match scope.allows(route.need) {
                true => assert!(![401, 403, 415, 429].contains(&status.as_u16()), "{told}"),
                false => assert_eq!(status, 403, "{told}"),
            }
        }
    }
    let text = std::fs::read_to_string(folder.root.audit_log()).expect("written");
    assert!(
        text.contains("192.0.2.1 with token write (write)"),
        "{text}"
    );
    assert!(!text.contains("Bearer"), "a token leaked into the log");
}

#[tokio::test]
async fn what_comes_from_elsewhere_changes_nothing_even_with_a_good_token() {
    let folder = Folder::new(json!({}));
    let control = control_with_tokens(&folder).await;
    let before = state(&folder, &control);
    let signed_in = ask("POST", "/api/v1/session").body(&json!({ "token": "admin" }));
    let (status, headers, _) = control.ask_raw(signed_in).await;
    assert_eq!(status, 200);
    let cookie = headers["set-cookie"].to_str().expect("text");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let bearer = ("authorization", "Bearer admin");
    let session = ("cookie", cookie.as_str());
    for route in changing() {
        let path = path_of(&route);
        let cases = [
            (
                vec![session, ("origin", OWN), ("host", "evil.example:8080")],
                403,
            ),
            (
                vec![bearer, ("origin", OWN), ("host", "evil.example:8080")],
                403,
            ),
            (
                vec![bearer, ("sec-fetch-site", "none"), ("host", "127.0.0.1:80")],
                403,
            ),
            (vec![bearer, ("origin", "http://evil.example")], 403),
            (vec![bearer, ("origin", "null")], 403),
            (vec![bearer, ("sec-fetch-site", "cross-site")], 403),
            (
                vec![bearer, ("origin", OWN), ("content-type", "text/plain")],
                415,
            ),
            (
                vec![
                    session,
                    ("origin", OWN),
                    ("content-type", "application/x-www-form-urlencoded"),
                ],
                415,
            ),
            (vec![session], 403),
            (vec![session, ("origin", "http://127.0.0.1:8081")], 403),
            (
                vec![session, ("origin", OWN), ("sec-fetch-site", "same-site")],
                403,
            ),
        ];
        for (headers, right) in cases {
            let mut asked = question(&route, &path);
            let told = format!("{} {path} {headers:?}", route.method);
            for (name, value) in headers {
                asked = asked.header(name, value);
            }
            let (status, answer) = control.ask(asked).await;
            assert_eq!(status, right, "{told}: {answer}");
        }
        // Two of them leave open which one a proxy before us has looked at.
        let mut twice = question(&route, &path).header(bearer.0, bearer.1);
        twice.headers.push(("host", LISTEN));
        assert_eq!(control.ask(twice).await.0, 403, "{} {path}", route.method);
    }
    assert_eq!(state(&folder, &control), before);
    let still = ask("GET", "/api/v1/session").header("cookie", &cookie);
    let (_, answer) = control.ask(still).await;
    assert_eq!(
        answer["scope"],
        json!("admin"),
        "the session has not been ended: {answer}"
    );
}

#[tokio::test]
async fn a_program_with_a_good_token_is_served_whatever_name_it_has_reached_us_by() {
    let folder = Folder::new(json!({}));
    let control = control_with_tokens(&folder).await;
    let registration = json!({ "ip": "10.0.0.7", "port": 9001 });
    let questions = || {
        [
            ask("GET", "/api/backends"),
            ask("GET", "/metrics"),
            ask("POST", "/api/register").body(&registration),
        ]
    };
    let cases = [
        (Some("Bearer admin"), 200),
        (Some("Bearer nonsense"), 401),
        (Some("Bearer expired"), 401),
        (None, 403),
    ];
    let hosts = [Some("prom.internal"), Some("127.0.0.1:1"), Some(""), None];
    for (number, (host, (bearer, right))) in hosts
        .into_iter()
        .flat_map(|host| cases.map(|case| (host, case)))
        .enumerate()
    {
        for mut asked in questions() {
            asked.headers.retain(|(name, _)| *name != "host");
            asked.headers.extend(host.map(|host| ("host", host)));
            asked
                .headers
                .extend(bearer.map(|bearer| ("authorization", bearer)));
            let told = format!("{} {} {:?}", asked.method, asked.path, asked.headers);
            // Wrong tokens from one address are slowed down, which is another test's matter.
            let peer = format!("192.0.2.{number}:9");
            let (status, _, answer) = control.ask_raw(asked.peer(&peer)).await;
            assert_eq!(status, right, "{told}: {answer}");
        }
    }
    // In protected mode nothing has been proved by it.
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for asked in questions() {
        let asked = asked.header("authorization", "Bearer admin");
        let (status, _, answer) = control.ask_raw(asked.header("host", "prom.internal")).await;
        assert_eq!(status, 403, "{answer}");
    }
}

#[tokio::test]
async fn the_verdict_of_a_supervisor_needs_no_token_and_details_need_one_unless_they_are_open() {
    let is_open = [json!({}), json!({ "open_metrics": true })];
    for (config, is_open) in is_open.into_iter().zip([false, true]) {
        let folder = Folder::new(config);
        let control = control_with_tokens(&folder).await;
        let strangers = [
            ask("GET", "/readyz").peer(REMOTE),
            ask("GET", "/readyz")
                .peer(REMOTE)
                .header("host", "10.1.2.3:8080"),
            ask("GET", "/readyz")
                .peer(REMOTE)
                .header("authorization", "Bearer expired"),
            ask("GET", "/readyz")
                .peer(REMOTE)
                .header("authorization", "Bearer register"),
        ];
        for asked in strangers {
            let told = format!("{:?}", asked.headers);
            let answer = control.good(asked).await;
            assert_eq!(answer["warnings"].is_array(), is_open, "{told}: {answer}");
            assert!(
                is_open || answer == json!({ "ok": true }),
                "{told}: {answer}"
            );
        }
        let reader = ask("GET", "/readyz").header("authorization", "Bearer read");
        let answer = control.good(reader).await;
        assert!(answer["warnings"].is_array(), "{answer}");
        let metrics = ask("GET", "/metrics")
            .peer(REMOTE)
            .header("host", "prom.internal");
        let status = control.ask_status(metrics).await.as_u16();
        assert_eq!(status == 200, is_open, "{status}");
        let status = control.ask_status(ask("GET", "/api/backends")).await;
        assert_eq!(status, 401, "nothing else is open");

        // Nor in protected mode.
        let folder = Folder::new(folder.config.clone());
        let control = folder.start().await;
        assert!(
            control
                .app
                .publisher
                .has_tried(Duration::from_secs(10))
                .await
        );
        let answer = control.good(ask("GET", "/readyz").peer(REMOTE)).await;
        assert_eq!(answer["warnings"].is_array(), is_open, "{answer}");
        let metrics = ask("GET", "/metrics").peer(REMOTE);
        let status = control.ask_status(metrics).await.as_u16();
        assert_eq!(status == 200, is_open, "{status}");
    }
}

#[tokio::test]
async fn in_protected_mode_only_this_machine_is_served() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let before = state(&folder, &control);
    let open = ["/livez", "/readyz"];
    for route in routes()
        .into_iter()
        .filter(|route| !open.contains(&route.path))
    {
        let path = path_of(&route);
        let asked = || match route.method == Method::GET {
            true => ask("GET", &path).header("host", LISTEN),
            false => question(&route, &path),
        };
        let elsewhere = asked().peer(REMOTE);
        // Nor does it learn which names we answer to.
        let unknown = asked().peer(REMOTE).header("host", "evil.example");
        let forwarded = [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
            "via",
        ];
        let forwarded = forwarded.map(|name| asked().peer("127.0.0.1:9").header(name, "127.0.0.1"));
        for asked in forwarded.into_iter().chain([elsewhere, unknown]) {
            let told = format!("{} {path} {:?}", route.method, asked.headers);
            let (status, _, answer) = control.ask_raw(asked).await;
            assert_eq!(status, 403, "{told}: {answer}");
            assert!(answer.contains("token create"), "what to do: {answer}");
        }
    }
    assert_eq!(state(&folder, &control), before);
}

#[tokio::test]
async fn reading_changes_nothing() {
    let folder = Folder::new(json!({}));
    let control = control_with_tokens(&folder).await;
    let before = state(&folder, &control);
    for route in routes()
        .into_iter()
        .filter(|route| route.method == Method::GET)
    {
        let path = path_of(&route);
        for query in ["", "?dry_run=false", "?weight=7", "?_method=DELETE"] {
            let path = format!("{path}{query}");
            let asked = ask("GET", &path).header("authorization", "Bearer admin");
            let asked = asked.body(&json!({ "weight": 7, "ip": "10.0.0.1", "port": 9001 }));
            let status = control.ask_status(asked).await;
            // Only the proxy knows its sessions, and there is none.
            let is_of_proxy = route.path == "/api/v1/sessions";
            assert!(is_of_proxy || !status.is_server_error(), "{path}: {status}");
        }
    }
    assert_eq!(state(&folder, &control), before);
}
