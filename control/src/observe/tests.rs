//! Against a small proxy on a unix socket, and against what is none.

use super::*;
use axum::Router;
use axum::routing::{get, post};
use tokio::net::UnixListener;

async fn serve(router: Router) -> (tempfile::TempDir, Proxy) {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("proxy.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (temp, Proxy::at(&path))
}

#[tokio::test]
async fn the_running_generation_is_read() {
    let running = Running {
        pid: 7,
        started_at_ms: Some(3),
        generation: 4,
        digest: "d".to_owned(),
        loaded_at_ms: 1,
        last_reload: None,
        config_digest: None,
        config_path: None,
        listeners: vec![],
        addresses: vec![],
        refusals: vec![],
    };
    let answer = serde_json::to_string(&running).expect("plain data");
    let router = Router::new().route("/generation", get(move || async move { answer }));
    let (_temp, proxy) = serve(router).await;
    let read = proxy.generation(4, Duration::from_secs(1)).await;
    assert_eq!(read.expect("answered"), running);
}

#[tokio::test]
async fn no_socket_is_told_apart_from_a_proxy_that_fails() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let nobody = Proxy::at(&temp.path().join("proxy.sock"));
    let told = nobody.status().await.expect_err("nobody there");
    assert!(matches!(told, Unknown::NoSocket { .. }), "{told}");

    let router = Router::new().route("/status", get(async || "not JSON"));
    let (_temp, proxy) = serve(router).await;
    let told = proxy.status().await.expect_err("not JSON");
    assert!(matches!(told, Unknown::Failed { .. }), "{told}");
    let reports = Reports { reports: vec![] };
    let told = proxy.report(&reports).await.expect_err("404");
    assert!(matches!(told, Unknown::NoSuchCall { .. }), "{told}");
}

#[tokio::test]
async fn a_proxy_that_never_answers_costs_a_bounded_time() {
    let router = Router::new()
        .route("/generation", get(std::future::pending::<()>))
        .route("/reports", post(std::future::pending::<()>));
    let (_temp, proxy) = serve(router).await;
    let wait = Duration::from_millis(50);
    let told = proxy.generation(1, wait).await.expect_err("no answer");
    assert!(matches!(told, Unknown::Failed { .. }), "{told}");
}
