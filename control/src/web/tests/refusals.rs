//! Bad input, foreign callers and lesser tokens: a clear answer, nothing changed, and a line in the
//! audit log.

use serde_json::json;

use super::harness::{Folder, LISTEN, ask};

const WEIGHT: &str = "/api/backends/10.0.0.1/9001/weight";

#[tokio::test]
async fn each_bad_body_is_answered_with_the_place() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let before = folder.published();
    let deep = format!("{{\"ip\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let register = [
        ("", ""),
        ("{", "(line 1, column 1)"),
        ("[]", ""),
        (deep.as_str(), "(line 1, column 133)"),
        (r#"{"ip": "10.0.0.1", "port": NaN}"#, "(line 1, column 28)"),
        (r#"{"port": 9001}"#, "/ip"),
        (r#"{"ip": "gpu-node", "port": 9001}"#, "/ip"),
        (r#"{"ip": "0.0.0.0", "port": 9001}"#, "/ip"),
        (r#"{"ip": "10.0.0.2"}"#, "/port"),
        (r#"{"ip": "10.0.0.2", "port": 0}"#, "/port"),
        (r#"{"ip": "10.0.0.2", "port": 65536}"#, "/port"),
        (r#"{"ip": "10.0.0.2", "port": "9001"}"#, "/port"),
        (
            r#"{"ip": "10.0.0.2", "port": 1, "weight": 1001}"#,
            "/weight",
        ),
        (r#"{"ip": "10.0.0.2", "port": 1, "weight": -1}"#, "/weight"),
        (r#"{"ip": "10.0.0.2", "port": 1, "weight": 1.5}"#, "/weight"),
        (
            r#"{"ip": "10.0.0.2", "port": 1, "gpu_usage": 1.1}"#,
            "/gpu_usage",
        ),
        (
            r#"{"ip": "10.0.0.2", "port": 1, "vram_usage": "x"}"#,
            "/vram_usage",
        ),
        (r#"{"ip": "10.0.0.2", "port": 1, "enabled": 1}"#, "/enabled"),
        (r#"{"ip": "127.0.0.1", "port": 10080}"#, "/ip"),
        (r#"{"ip": "127.0.0.1", "port": 8080}"#, "/ip"),
    ];
    for (body, place) in register {
        let (status, answer) = control.ask(ask("POST", "/api/register").text(body)).await;
        assert_eq!(
            (status.as_u16(), &answer["ok"]),
            (400, &json!(false)),
            "{body}"
        );
        assert!(answer["error"].is_string(), "{answer}");
        let found = answer["faults"][0]["place"].as_str().expect("a place");
        if !place.starts_with("(line") {
            assert_eq!(found, place, "{body}: {answer}");
        } else {
            assert!(found.starts_with("(line 1"), "{body}: {answer}");
        }
        assert!(answer["faults"][0]["allowed"].is_string());
    }
    for body in [
        "{}",
        r#"{"weight": null}"#,
        r#"{"weight": 1001}"#,
        r#"{"weight": "7"}"#,
    ] {
        let (status, answer) = control.ask(ask("POST", WEIGHT).text(body)).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(answer["faults"][0]["place"], json!("/weight"));
    }
    for body in [r#"{"algorithm": "fastest"}"#, r#"{"algoritm": "random"}"#] {
        let (status, _) = control.ask(ask("POST", "/api/settings").text(body)).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(folder.published(), before, "nothing has changed");
}

#[tokio::test]
async fn each_bad_word_of_an_agent_is_answered_with_the_place() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for (key, value) in [
        ("queue", json!(-1)),
        ("running", json!(1.5)),
        ("running", json!("3")),
        ("report_age_ms", json!(-1)),
        ("heartbeat_ms", json!(0)),
        ("max_batch", json!(4097)),
        ("batch_window_ms", json!(10_001)),
    ] {
        let mut body = json!({ "ip": "10.0.0.1", "port": 1, "max_batch": 8, "batch_window_ms": 5 });
        body[key] = value;
        let (status, answer) = control.ask(ask("POST", "/api/register").body(&body)).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(
            answer["faults"][0]["place"],
            json!(format!("/{key}")),
            "{answer}"
        );
    }
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(listed["backends"], json!([]));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let large = format!("{{\"ip\": \"{}\"}}", "x".repeat(70_000));
    let (status, answer) = control.ask(ask("POST", "/api/register").text(large)).await;
    assert_eq!(status, 413);
    let allowed = answer["faults"][0]["allowed"].as_str().expect("a string");
    assert!(allowed.contains("65536"), "{answer}");
}

#[tokio::test]
async fn every_error_is_json_also_for_unknown_paths_and_methods() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let cases = [
        ("GET", "/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("GET", "/static/../Cargo.toml", 404),
        ("GET", "/static/nothing.js", 404),
        ("PUT", "/api/register", 405),
        ("GET", "/api/register", 405),
        ("GET", "/api/sync", 405),
        ("GET", "/api/ping", 405),
        ("GET", WEIGHT, 405),
        ("POST", "/api/backends/10.0.0.9/9001/weight", 404),
        ("POST", "/api/backends/gpu-node/9001/weight", 400),
        ("POST", "/api/backends/10.0.0.1/0/weight", 400),
        ("POST", "/api/backends/10.0.0.1/%FF/weight", 400),
        ("DELETE", "/api/backends/10.0.0.9/9001/override", 404),
        ("DELETE", "/api/backends/x/y/override", 400),
        ("POST", "/api/expiry/acknowledge", 409),
        ("GET", "/api/logs/audit?tail=many", 400),
    ];
    for (method, path, expected) in cases {
        let body = json!({"weight": 5});
        let (status, answer) = control.ask(ask(method, path).body(&body)).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert_eq!(answer["ok"], json!(false));
        let error = answer["error"].as_str().expect("a string");
        if [404, 405].contains(&expected) && path.starts_with("/api/nowhere") {
            assert!(error.contains("/api/nowhere"), "{error}");
        }
    }
}

#[tokio::test]
async fn protected_mode_serves_this_machine_only_and_says_what_to_do() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for path in ["/", "/api/backends", "/metrics", "/static/main.js"] {
        let (status, answer) = control.ask(ask("GET", path).peer("192.0.2.1:999")).await;
        assert_eq!(status, 403, "{path}");
        let error = answer["error"].as_str().expect("a string");
        assert!(error.contains("tokens"), "{error}");
        for header in ["forwarded", "x-forwarded-for", "via", "x-real-ip"] {
            let through = ask("GET", path).header(header, "192.0.2.1");
            assert_eq!(control.ask(through).await.0, 403, "{path} {header}");
        }
    }
    let alive = ask("GET", "/livez").peer("192.0.2.1:999");
    assert_eq!(control.ask(alive).await.0, 200);
    assert!(!folder.audited("refused").is_empty());
}

#[tokio::test]
async fn foreign_hosts_origins_and_forms_are_refused() {
    let folder = Folder::new(json!({"allowed_hosts": ["console.example"]}));
    let control = folder.start().await;
    let register = || ask("POST", "/api/register").body(&json!({"ip": "10.0.0.1", "port": 1}));
    let own = "http://127.0.0.1:8080";
    let cases = [
        (register().header("host", "evil.example:8080"), 403),
        (register().header("host", ""), 403),
        (register().header("origin", "http://evil.example"), 403),
        (register().header("origin", "null"), 403),
        (register().header("origin", "http://localhost:8080"), 403),
        (register().header("sec-fetch-site", "cross-site"), 403),
        (
            register()
                .header("origin", own)
                .header("content-type", "text/plain"),
            415,
        ),
        (
            register()
                .header("origin", own)
                .header("content-type", "application/json"),
            200,
        ),
        (
            register().header("content-type", "application/x-www-form-urlencoded"),
            200,
        ),
        (register().header("host", "console.example"), 200),
        (register().header("host", "localhost:8080"), 200),
        (register().header("host", LISTEN), 200),
    ];
    for (question, expected) in cases {
        let told = format!("{:?}", question.headers);
        let (status, answer) = control.ask(question).await;
        assert_eq!(status, expected, "{told}: {answer}");
    }
}

#[tokio::test]
async fn only_known_backends_can_be_pinged() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for ip in [
        json!("192.0.2.9"),
        json!("localhost"),
        json!(7),
        json!(null),
        json!("; ls"),
    ] {
        let (status, answer) = control
            .ask(ask("POST", "/api/ping").body(&json!({ "ip": ip })))
            .await;
        assert_eq!(status, 400, "{ip}");
        assert_eq!(answer["faults"][0]["place"], json!("/ip"));
    }
    let body = json!({"ip": "127.0.0.1"});
    let answer = control.good(ask("POST", "/api/ping").body(&body)).await;
    assert!(
        answer["output"]
            .as_str()
            .expect("text")
            .contains("statistics")
    );
    assert_eq!(folder.audited("ping").len(), 6);
}

#[tokio::test]
async fn a_pool_where_none_or_no_such_name_belongs_is_named() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let before = folder.published();
    for (key, value) in [
        ("weight", json!(7)),
        ("enabled", json!(false)),
        ("drain", json!(true)),
    ] {
        let path = format!("/api/backends/10.0.0.1/9001/{key}");
        let body = json!({ key: value, "pool": "chat" });
        let (status, answer) = control.ask(ask("POST", &path).body(&body)).await;
        assert_eq!(status, 400, "{answer}");
        assert_eq!(answer["faults"][0]["place"], "/pool", "{answer}");
    }
    assert_eq!(folder.published(), before, "the pool default is as it was");
    for (method, kind) in [
        ("GET", "backends"),
        ("PATCH", "backends"),
        ("PUT", "static"),
        ("DELETE", "static"),
    ] {
        let path = format!("/api/v1/pools/No-Name/{kind}/10.0.0.1:9001");
        let call = ask(method, &path).header("if-match", "*").body(&json!({}));
        let (status, answer) = control.ask(call).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains("(path) pool"), "{answer}");
    }
    let body = json!({ "weight": 7, "pool": "default" });
    control.good(ask("POST", WEIGHT).body(&body)).await;
}
