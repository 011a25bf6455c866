//! The audit log cannot be forged: whatever a client puts wherever it can, each line stays one JSON
//! object of ours with the next number, and holds nothing that a terminal obeys.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::harness::{Control, Folder, LISTEN};
use crate::web::routes::routes;

const PEER: &str = "192.0.2.66:6";
/// A line as an attacker would like to see it in the log.
const FORGED: &str = r#"{"time":"2024-01-01T00:00:00.000Z","seq":1,"actor":"control: forged","action":"forged","target":"x","result":"ok"}"#;

/// What ends a line, a string or a terminal's patience, each with the forged line behind it.
fn payloads() -> Vec<Vec<u8>> {
    let ends: [&[u8]; 14] = [
        b"\n",
        b"\r\n",
        b"\"}\n",
        b"\\\"}\n",
        b"\\",
        b"\"",
        b"\0\n",
        b"\x1b[2K\x1b[1A",
        b"\x7f\x08\x08",
        "\u{85}\u{9b}2J".as_bytes(),
        "\u{2028}\u{2029}".as_bytes(),
        "\u{202e}\u{2066}\u{200f}\u{200e}\u{61c}\u{feff}".as_bytes(),
        b"\xff\xfe\xc3\x28",
        b"%0a%22",
    ];
    ends.iter()
        .map(|end| [end, FORGED.as_bytes()].concat())
        .collect()
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

async fn send(control: &Control, request: Request<Body>) {
    let response = control.router.clone().oneshot(request).await;
    let status = response.expect("infallible").status();
    assert!(!status.is_server_error() || status == 503, "{status}");
}

fn request(method: &Method, path: &str, body: Vec<u8>) -> Request<Body> {
    let peer: std::net::SocketAddr = PEER.parse().expect("a literal");
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", LISTEN).header("if-match", "*");
    let request = request.header("authorization", "Bearer admin");
    let request = request.extension(ConnectInfo(peer));
    request.body(Body::from(body)).expect("a request")
}

/// The payload as the backend's address, as every other field, as a field's name, and as no JSON.
fn bodies(payload: &[u8]) -> Vec<Vec<u8>> {
    const FIELDS: [&str; 11] = [
        "weight",
        "enabled",
        "drain",
        "owner",
        "token",
        "algorithm",
        "changes",
        "probes",
        "is_warming_up",
        "gpu_usage",
        "max_batch",
    ];
    let text = String::from_utf8_lossy(payload);
    let mut all = json!({ "ip": "10.0.0.1", "port": 9001 });
    for field in FIELDS {
        all[field] = json!(text);
    }
    let documents = [
        json!({ "ip": text, "port": text }),
        all,
        json!({ text.as_ref(): 1, "ip": "10.0.0.1", "port": 9001 }),
        json!({ "changes": [{ "id": text, text.as_ref(): text }] }),
    ];
    let mut bodies: Vec<Vec<u8>> = documents.map(|one| one.to_string().into_bytes()).to_vec();
    bodies.push(payload.to_vec());
    bodies.push([b"{\"ip\": \"", payload, b"\", \"port\": 1}"].concat());
    bodies
}

#[tokio::test]
async fn no_string_of_a_client_makes_or_breaks_a_line() {
    const HEADERS: [&str; 8] = [
        "host",
        "origin",
        "authorization",
        "content-type",
        "cookie",
        "x-forwarded-for",
        "if-match",
        "sec-fetch-site",
    ];
    let folder = Folder::new(json!({}));
    folder.write_tokens(&[("admin", "admin", None)]);
    let control = folder.start().await;
    for payload in payloads() {
        let escaped = percent(&payload);
        for route in routes() {
            // A stream has no end, and an answer that follows waits for its line.
            if route.path == "/api/v1/events" {
                continue;
            }
            let path = ["{ip}", "{port}", "{id}", "{*path}"]
                .iter()
                .fold(route.path.to_owned(), |path, name| {
                    path.replace(name, &escaped)
                });
            send(&control, request(&route.method, &path, b"{}".to_vec())).await;
            let query = format!("{path}?tail={escaped}&cursor={escaped}&limit={escaped}");
            send(&control, request(&route.method, &query, b"{}".to_vec())).await;
            if route.method != Method::GET {
                let path = path.replace(&escaped, "1");
                for body in bodies(&payload) {
                    send(&control, request(&route.method, &path, body)).await;
                }
            }
        }
        send(
            &control,
            request(&Method::GET, &format!("/{escaped}"), Vec::new()),
        )
        .await;
        for name in HEADERS {
            // What no header may hold does not get as far as this.
            if let Ok(value) = HeaderValue::from_bytes(&payload) {
                let mut asked = request(&Method::POST, "/api/register", b"{}".to_vec());
                asked.headers_mut().insert(name, value);
                send(&control, asked).await;
            }
        }
    }
    control.app.shared.audit.sum_up();
    control.app.shared.audit.settle().await;
    check_log(&std::fs::read(folder.root.audit_log()).expect("written"));
}

fn check_log(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let obeyed = text.chars().find(|character| {
        let is_mark = "\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}"
            .contains(*character);
        (character.is_control() && *character != '\n') || is_mark
    });
    assert_eq!(obeyed, None, "a terminal or a browser obeys this");
    let mut expected = 1;
    for line in text.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["seq"], json!(expected), "{line}");
        expected += 1;
        assert_ne!(line["action"], json!("forged"), "{line}");
        let actor = line["actor"].as_str().expect("text");
        let is_ours =
            actor.starts_with("192.0.2.66") || actor.starts_with("control: ") || actor == "others";
        assert!(is_ours && actor != "control: forged", "{line}");
    }
    assert!(expected > 100, "{expected} lines only");
}
