//! Against a stand-in for the proxy: a process that takes SIGHUP, and an admin socket.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::{get, post};
use axum::{Json, Router};
use contract::status::{Reload, Reports, Running};
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::harness::{Folder, ask, until};

/// A shell that outlives SIGHUP, named in the pid file.
pub struct Process(Child);

impl Process {
    pub fn start(folder: &Folder) -> Process {
        let script = "trap : HUP; echo; while :; do sleep 0.05; done";
        let mut command = Command::new("sh");
        let child = command.args(["-c", script]).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("sh starts");
        // A signal before that would end it.
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut [0]).expect("it has set its trap");
        let pid = child.id().to_string();
        std::fs::write(folder.root.proxy_pid(), pid).expect("written");
        Process(child)
    }

    fn info(&self) -> Value {
        format!("sent SIGHUP to pid={}", self.0.id()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> Folder {
    Folder::new(json!({"proxy_process_names": ["sh"]}))
}

pub fn running(generation: u64, last_reload: Option<Reload>) -> Running {
    Running {
        pid: 7,
        started_at_ms: None,
        generation,
        digest: String::new(),
        loaded_at_ms: 0,
        last_reload,
        config_digest: None,
        config_path: None,
        listeners: vec![],
        addresses: vec![],
        refusals: vec![],
    }
}

pub fn serve(folder: &Folder, router: Router) {
    let path = contract::paths::proxy_socket(&folder.root.proxy_pid());
    let listener = UnixListener::bind(path).expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
}

#[tokio::test]
async fn without_an_admin_socket_the_signal_is_told_and_applied_is_unknown() {
    let folder = folder();
    let process = Process::start(&folder);
    let control = folder.start().await;
    let reload = control.register("10.0.0.1").await["sync"]["reload"].clone();
    assert_eq!(
        (&reload["ok"], &reload["info"]),
        (&json!(true), &process.info())
    );
    assert_eq!(reload["applied"], Value::Null);
    assert_eq!(reload["generation"], folder.published()["generation"]);
}

#[tokio::test]
async fn a_proxy_that_runs_the_generation_has_applied_it() {
    let folder = folder();
    let _process = Process::start(&folder);
    let path = folder.root.proxy_config();
    // As the proxy does: it runs what the file says.
    let from_file = move || {
        let file = super::harness::read_json(&path);
        running(file["generation"].as_u64().unwrap_or(0), None)
    };
    serve(
        &folder,
        Router::new().route("/generation", get(async move || Json(from_file()))),
    );
    let control = folder.start().await;
    let reload = control.register("10.0.0.1").await["sync"]["reload"].clone();
    assert_eq!(reload["applied"], json!(true), "{reload}");
    assert!(reload["applied_in_ms"].is_u64());
    let before = folder.published()["generation"].clone();
    let sync = control.good(ask("POST", "/api/sync")).await;
    assert_eq!(sync["reload"]["applied"], json!(true), "{sync}");
    assert_eq!(folder.published()["generation"], before);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason() {
    let folder = folder();
    let _process = Process::start(&folder);
    let refusal = Reload {
        at_ms: 1,
        ok: false,
        generation: Some(u64::MAX),
        reason: Some("port 10080 is in use".to_owned()),
    };
    let answer = running(0, Some(refusal));
    serve(
        &folder,
        Router::new().route("/generation", get(async move || Json(answer))),
    );
    let control = folder.start().await;
    let answer = control.register("10.0.0.1").await;
    assert_eq!(answer["sync"]["ok"], json!(true), "stored and published");
    let reload = &answer["sync"]["reload"];
    assert_eq!(reload["applied"], json!(false));
    let reason = reload["reason"].as_str().expect("a reason");
    assert!(reason.contains("port 10080 is in use"), "{reason}");
}

#[tokio::test]
async fn a_proxy_that_does_not_confirm_in_time_is_told() {
    let folder = folder();
    let _process = Process::start(&folder);
    let silent = Router::new().route("/generation", get(std::future::pending::<()>));
    serve(&folder, silent);
    let control = folder.start().await;
    let reload = control.register("10.0.0.1").await["sync"]["reload"].clone();
    assert_eq!(
        (&reload["ok"], &reload["applied"]),
        (&json!(true), &json!(false))
    );
    assert!(reload["reason"].is_string());
}

#[tokio::test]
async fn a_later_generation_that_already_runs_is_overtaken() {
    let folder = folder();
    serve(
        &folder,
        Router::new().route("/generation", get(async || Json(running(41, None)))),
    );
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let generation = folder.published()["generation"].as_u64().expect("a number");
    assert!(generation > 41, "{generation}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_signalled_is_asked_over_its_socket() {
    let folder = folder();
    // In a container of its own the proxy is process 1, which is somebody else here.
    std::fs::write(folder.root.proxy_pid(), "1").expect("written");
    let reloads = Arc::new(AtomicU64::new(0));
    let (counted, path) = (reloads.clone(), folder.root.proxy_config());
    let generation = Arc::new(AtomicU64::new(0));
    let runs = generation.clone();
    let reload = async move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let file = super::harness::read_json(&path);
        let new = file["generation"].as_u64().expect("a number");
        generation.store(new, Ordering::Relaxed);
        Json(running(new, None))
    };
    let tell = async move || Json(running(runs.load(Ordering::Relaxed), None));
    let router = Router::new().route("/reload", post(reload));
    serve(&folder, router.route("/generation", get(tell)));
    let control = folder.start().await;
    let reload = control.register("10.0.0.1").await["sync"]["reload"].clone();
    assert_eq!(
        (&reload["ok"], &reload["applied"]),
        (&json!(true), &json!(true)),
        "{reload}"
    );
    let info = reload["info"].as_str().expect("text");
    assert!(info.contains("proxy.sock, pid=7"), "{info}");
    assert!(info.contains("found \"1\""), "why no signal: {info}");
    assert!(reloads.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn figures_that_end_are_told_to_the_proxy() {
    let folder = folder();
    let _process = Process::start(&folder);
    let said = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = said.clone();
    let take = async move |Json(reports): Json<Reports>| {
        let figures = reports.reports.iter().map(|report| report.gpu_usage);
        heard.lock().expect("no panic").extend(figures);
    };
    serve(&folder, Router::new().route("/reports", post(take)));
    let control = folder.start().await;
    // The first ones reach the proxy in the file, by a reload.
    for gpu_usage in [json!(0.75), Value::Null] {
        let body = json!({"ip": "10.0.0.1", "port": 9001, "gpu_usage": gpu_usage});
        control.good(ask("POST", "/api/register").body(&body)).await;
    }
    until("told", || {
        said.lock().expect("no panic").last() == Some(&None)
    })
    .await;
}

#[tokio::test]
async fn figures_go_over_the_socket_without_a_generation() {
    let folder = folder();
    let _process = Process::start(&folder);
    let percent = Arc::new(AtomicU64::new(0));
    let seen = percent.clone();
    let take = async move |Json(reports): Json<Reports>| {
        let gpu = reports.reports.first().and_then(|report| report.gpu_usage);
        seen.store((gpu.unwrap_or(0.0) * 100.0) as u64, Ordering::Relaxed);
    };
    serve(&folder, Router::new().route("/reports", post(take)));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let generation = folder.published()["generation"].clone();
    let body = json!({"ip": "10.0.0.1", "port": 9001, "gpu_usage": 0.75});
    control.good(ask("POST", "/api/register").body(&body)).await;
    until("delivered", || percent.load(Ordering::Relaxed) == 75).await;
    assert_eq!(folder.published()["generation"], generation);
}

#[tokio::test]
async fn a_proxy_without_the_socket_gets_figures_by_a_signal() {
    let folder = folder();
    let _process = Process::start(&folder);
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let signals = || control.app.shared.counters.signals.load(Ordering::Relaxed);
    let before = signals();
    let generation = folder.published()["generation"].clone();
    let body = json!({"ip": "10.0.0.1", "port": 9001, "gpu_usage": 0.75});
    control.good(ask("POST", "/api/register").body(&body)).await;
    until("signalled", || signals() > before).await;
    let published = folder.published();
    assert_eq!(published["backends"][0]["gpu_usage"], json!(0.75));
    assert_eq!(published["generation"], generation);
}

#[tokio::test]
async fn backends_are_listed_with_what_the_proxy_says_they_cost() {
    let folder = folder();
    let _process = Process::start(&folder);
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let cost = json!({
        "total": 3.5, "in_flight": 2.0, "weight": 1.0, "slowness": 1.0, "latency_samples": 9,
        "warm_up": 1.0, "failures": 0.0, "failed": [], "vram_expected": 0.83, "vram": 0.5, "gpu": 0.0,
        "report_weight": 1.0, "report_age_ms": 120,
    });
    let status = status_with(json!({ "ip": "10.0.0.1", "port": 9001, "cost": cost }));
    serve(
        &folder,
        Router::new().route("/status", get(async move || Json(status))),
    );
    let costs = async || {
        let mut costs = Vec::new();
        for path in ["/api/backends", "/api/v1/backends"] {
            let (status, listed) = control.ask(ask("GET", path)).await;
            assert_eq!(status, 200, "{path}: {listed}");
            costs.push(listed["backends"][0]["cost"].clone());
        }
        costs
    };
    // The newer path passes on what the proxy says, which says nothing under another algorithm.
    assert_eq!(costs().await[0], Value::Null, "another algorithm");
    let body = json!({"algorithm": "gpu_aware"});
    control.good(ask("POST", "/api/settings").body(&body)).await;
    assert_eq!(costs().await, [cost.clone(), cost]);
}

/// A status of one backend, which says `said` of itself beside what every one says.
fn status_with(said: Value) -> Value {
    let mut backend = json!({
        "configured": true, "admin": "ready", "operational": "up", "reason": "", "weight": 10,
        "weight_effective": 10, "gpu_usage": null, "vram_usage": null, "reported_at_ms": null,
        "connect_latency_us": null, "first_byte_latency_us": null,
    });
    let counters = serde_json::to_value(contract::status::Counters::default());
    for more in [counters.expect("numbers"), said] {
        let (Value::Object(backend), Value::Object(more)) = (&mut backend, more) else {
            unreachable!("all of them are objects")
        };
        backend.extend(more);
    }
    let totals = serde_json::to_value(contract::status::Totals::default());
    let mut status = json!({
        "version": "0", "reloads_ok": 0, "reloads_refused": 0,
        "draining": false, "algorithm": "gpu_aware", "workers": [], "listeners": [],
        "backends": [backend], "totals": totals.expect("numbers"),
        "limits": {"max_sessions": 1, "max_flows": 1, "accept_pauses": 0, "log_lines_dropped": 0},
    });
    let running = serde_json::to_value(running(1, None)).expect("plain data");
    let (Value::Object(all), Value::Object(running)) = (&mut status, running) else {
        unreachable!("both are objects")
    };
    all.extend(running);
    status
}

#[tokio::test]
async fn the_proxy_of_this_node_is_in_the_list_of_proxies_whether_or_not_it_answers() {
    let folder = folder();
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let proxies = async || {
        let (_, status) = control.ask(ask("GET", "/api/v1/status")).await;
        assert_eq!(status["proxies"].as_array().map(Vec::len), Some(1));
        let published = &status["published_generation"];
        assert_eq!(&status["proxies"][0]["published_generation"], published);
        status["proxies"][0].clone()
    };
    let silent = proxies().await;
    assert_eq!(
        [&silent["name"], &silent["is_local"], &silent["generation"]],
        [&json!("local"), &json!(true), &Value::Null]
    );
    assert_ne!(silent["level"], json!("ok"));
    let mut status = crate::history::tests::seen("up", "probe: ok");
    status.running.generation = 7;
    let answer = async move || Json(status.clone());
    serve(&folder, Router::new().route("/status", get(answer)));
    assert_eq!(proxies().await["generation"], json!(7));
}
