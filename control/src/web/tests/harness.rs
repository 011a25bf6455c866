//! A control plane over a temporary folder, asked without a socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use contract::Root;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::settings::Settings;
use crate::start::start_tasks;
use crate::web::{App, router};

pub const LISTEN: &str = "127.0.0.1:8080";

/// A folder, of which control may be started several times.
pub struct Folder {
    _temp: tempfile::TempDir,
    pub root: Root,
    /// `control_config.json` of the next start.
    pub config: Value,
}

pub struct Control {
    pub router: Router,
    pub app: App,
    elapsed_ms: Arc<AtomicU64>,
}

/// One request, by default from this machine's own client without a token.
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: String,
    pub peer: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
}

pub fn ask<'a>(method: &'a str, path: &'a str) -> Ask<'a> {
    Ask {
        method,
        path,
        body: String::new(),
        peer: "127.0.0.1:50000",
        headers: vec![("host", LISTEN)],
    }
}

impl<'a> Ask<'a> {
    pub fn body(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self
    }

    pub fn text(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub fn peer(mut self, peer: &'a str) -> Self {
        self.peer = peer;
        self
    }

    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.retain(|header| header.0 != name);
        self.headers.push((name, value));
        self
    }
}

impl Folder {
    pub fn new(config: Value) -> Folder {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = Root(temp.path().join("control"));
        for folder in ["config", "data", "run", "logs"] {
            std::fs::create_dir_all(root.0.join(folder)).expect("a folder");
        }
        Folder {
            _temp: temp,
            root,
            config,
        }
    }

    /// Writes the token file: each token is its name, with its scope and its end in Unix seconds.
    pub fn write_tokens(&self, tokens: &[(&str, &str, Option<u64>)]) {
        let tokens = tokens.iter().map(|(name, scope, expires_at)| {
            let sha256 = contract::digest(name.as_bytes());
            json!({ "name": name, "scope": scope, "sha256": sha256, "expires_at": expires_at })
        });
        let text = json!({ "tokens": tokens.collect::<Vec<Value>>() }).to_string();
        let written = contract::publish::publish_private(&self.root.tokens(), text.as_bytes());
        written.expect("written");
    }

    pub async fn start(&self) -> Control {
        let config = self.config.to_string();
        let settings = Settings::read(Some(config.as_bytes()), &self.root).expect("good settings");
        let (clock, elapsed_ms) = Clock::by_hand();
        let listen: SocketAddr = LISTEN.parse().expect("a literal");
        let app = start_tasks(settings, &[listen], None, clock)
            .await
            .expect("good tokens");
        // What a start writes is there, so that it is not taken for what a request has done.
        app.keeper.read_sources().await;
        Control {
            router: router(app.clone()),
            app,
            elapsed_ms,
        }
    }

    pub fn write(&self, path: PathBuf, value: &Value) {
        contract::publish(&path, value.to_string().as_bytes()).expect("written");
    }

    pub fn published(&self) -> Value {
        read_json(&self.root.proxy_config())
    }

    /// The published backends as `ip:port weight enabled`.
    pub fn published_backends(&self) -> Vec<String> {
        let published = self.published();
        let backends = published["backends"].as_array().expect("an array");
        backends
            .iter()
            .map(|backend| {
                let ip = backend["ip"].as_str().expect("a string");
                let (port, weight, enabled) =
                    (&backend["port"], &backend["weight"], &backend["enabled"]);
                format!("{ip}:{port} {weight} {enabled}")
            })
            .collect()
    }

    /// The audit log's lines of one action.
    pub fn audited(&self, action: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.root.audit_log()).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"))
            .filter(|line| line["action"] == action)
            .collect()
    }
}

pub fn read_json(path: &std::path::Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

impl Control {
    pub async fn ask(&self, ask: Ask<'_>) -> (StatusCode, Value) {
        let (status, _, body) = self.ask_raw(ask).await;
        let value = serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("{status}: not JSON ({error}): {body}"));
        (status, value)
    }

    pub async fn ask_raw(&self, ask: Ask<'_>) -> (StatusCode, axum::http::HeaderMap, String) {
        let response = self.respond(ask).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a body");
        let text = String::from_utf8(bytes.to_bytes().to_vec()).expect("text");
        (status, headers, text)
    }

    /// Without reading the body, which may have no end.
    pub async fn ask_status(&self, ask: Ask<'_>) -> StatusCode {
        self.respond(ask).await.status()
    }

    /// The body of a stream.
    pub async fn open(&self, ask: Ask<'_>) -> Body {
        let response = self.respond(ask).await;
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    pub async fn respond(&self, ask: Ask<'_>) -> axum::response::Response {
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let peer: SocketAddr = ask.peer.parse().expect("a literal");
        let request = request.extension(ConnectInfo(peer));
        let request = request.body(Body::from(ask.body)).expect("a request");
        let response = self.router.clone().oneshot(request).await;
        response.expect("infallible")
    }

    /// Asks and expects 200 with `ok: true`.
    #[track_caller]
    pub fn good<'a>(&'a self, question: Ask<'a>) -> impl Future<Output = Value> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let (status, value) = self.ask(question).await;
            assert_eq!(status, 200, "{at}: {value}");
            assert_eq!(value["ok"], json!(true), "{at}: {value}");
            value
        }
    }

    pub async fn register(&self, ip: &str) -> Value {
        let body = json!({ "ip": ip, "port": 9001 });
        self.good(ask("POST", "/api/register").body(&body)).await
    }

    pub fn pass_ms(&self, ms: u64) {
        self.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    const DEADLINE: Duration = Duration::from_secs(10);
    let message = format!("{} at {}", what, std::panic::Location::caller());
    let started = Instant::now();
    async move {
        while !condition() {
            assert!(started.elapsed() < DEADLINE, "not in time: {message}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
