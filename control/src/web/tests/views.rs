//! What the API and the files show, and how the sources find their way there.

use serde_json::{Value, json};

use super::harness::{Folder, ask, until};

#[tokio::test]
async fn backends_are_listed_field_for_field() {
    let folder = Folder::new(json!({}));
    let discovered = json!({"source": "k8s", "updated_at": 1730000001, "backends": [
        {"ip": "10.0.0.1", "port": 9001, "weight": 20, "gpu_usage": 0.5, "vram_usage": 0.25}]});
    folder.write(folder.root.k8s_endpoints(), &discovered);
    let control = folder.start().await;
    control.register("10.0.0.2").await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(listed["k8s_updated_at"], json!(1730000001));
    assert!(listed["updated_at"].is_u64() && listed["runtime_updated_at"].is_u64());
    let fields = |row: &Value, keys: &[&str]| -> Vec<Value> {
        keys.iter().map(|key| row[key].clone()).collect()
    };
    let keys = [
        "ip",
        "port",
        "weight",
        "gpu_usage",
        "vram_usage",
        "enabled",
        "is_warming_up",
        "last_seen",
        "source",
    ];
    let expected = json!(["10.0.0.1", 9001, 20, 0.5, 0.25, true, false, null, "k8s"]);
    assert_eq!(json!(fields(&listed["backends"][0], &keys)), expected);
    let row = &listed["backends"][1];
    let expected = json!([
        "10.0.0.2",
        9001,
        10,
        null,
        null,
        true,
        false,
        row["last_seen"],
        "runtime"
    ]);
    assert_eq!(json!(fields(row, &keys)), expected);
    assert!(row["last_seen"].is_u64());
    assert_eq!(row["ttl_remaining_ms"], json!(15_000));
}

#[tokio::test]
async fn what_an_agent_says_of_its_engine_is_shown_and_what_the_proxy_needs_published() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let body = json!({
        "ip": "10.0.0.2", "port": 9001, "vram_usage": 0.5, "queue": 3, "running": 12,
        "max_batch": 8, "batch_window_ms": 10, "heartbeat_ms": 1000,
    });
    let answer = control.good(ask("POST", "/api/register").body(&body)).await;
    assert!(answer["warnings"].is_null(), "each key is known: {answer}");
    let listed = control.good(ask("GET", "/api/backends")).await;
    for key in [
        "queue",
        "running",
        "max_batch",
        "batch_window_ms",
        "heartbeat_ms",
    ] {
        assert_eq!(listed["backends"][0][key], body[key], "{key}");
    }
    let published = &folder.published()["backends"][0];
    for key in ["max_batch", "batch_window_ms", "heartbeat_ms"] {
        assert_eq!(published[key], body[key], "{key}");
    }
    assert!(published["queue"].is_null(), "nothing that the proxy reads");

    control.register("10.0.0.2").await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert!(
        listed["backends"][0]["queue"].is_null(),
        "the last word is the whole word"
    );
    let published = folder.published();
    let entry = published["backends"][0].as_object().expect("an entry");
    assert!(!entry.contains_key("max_batch"), "{published}");
}

#[tokio::test]
async fn a_changed_source_is_published_by_itself_however_it_was_changed() {
    let folder = Folder::new(json!({"auto_sync_interval_sec": 1}));
    let control = folder.start().await;
    control.register("10.0.0.9").await;
    let path = folder.root.k8s_endpoints();
    let with = |ips: &[&str]| {
        let backends: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip, "port": 1})).collect();
        json!({ "backends": backends })
    };
    let published = |count: usize| folder.published_backends().len() == count;
    folder.write(path.clone(), &with(&["10.0.0.1"]));
    until("by rename", || published(2)).await;
    std::fs::write(&path, with(&["10.0.0.1", "10.0.0.2"]).to_string()).expect("written");
    until("in place", || published(3)).await;
    std::fs::remove_file(&path).expect("removed");
    folder.write(path.clone(), &with(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    until("after a removal", || published(4)).await;
    std::fs::write(&path, "{\"backends\": [").expect("written");
    until("told", || !control.app.shared.model().warnings().is_empty()).await;
    assert!(published(4), "what discovery last said stands");
    folder.write(path.clone(), &with(&[]));
    until("repaired", || published(1)).await;
}

#[tokio::test]
async fn an_edit_of_the_registry_by_others_is_taken_over() {
    let folder = Folder::new(json!({"auto_sync_interval_sec": 1}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let path = folder.root.backends_runtime();
    let mut file = super::harness::read_json(&path);
    file["backends"][0]["weight"] = json!(99);
    let backends = file["backends"].as_array_mut().expect("an array");
    backends.push(json!({"ip": "10.0.0.2", "port": 9001, "weight": 3}));
    folder.write(path, &file);
    until("published", || {
        folder.published_backends() == ["10.0.0.1:9001 99 true", "10.0.0.2:9001 3 true"]
    })
    .await;
}

#[tokio::test]
async fn what_was_published_stands_until_discovery_has_been_read() {
    let folder = Folder::new(json!({"auto_sync_interval_sec": 1}));
    let hand_written = json!({
        "listen": {"host": "127.0.0.1", "port": 7000}, "algorithm": "random", "idle_timeout_ms": 9,
        "updated_at": 1, "backends": [{"ip": "10.0.0.1", "port": 1, "weight": 4}],
    });
    folder.write(folder.root.proxy_config(), &hand_written);
    let control = folder.start().await;
    control.register("10.0.0.2").await;
    assert_eq!(
        folder.published_backends(),
        ["10.0.0.1:1 4 true", "10.0.0.2:9001 10 true"]
    );
    let published = folder.published();
    let kept = [
        &published["listen"]["port"],
        &published["algorithm"],
        &published["idle_timeout_ms"],
    ];
    assert_eq!(kept, [&json!(7000), &json!("random"), &json!(9)]);
    folder.write(folder.root.k8s_endpoints(), &json!({"backends": []}));
    until("discovery's word counts", || {
        folder.published_backends() == ["10.0.0.2:9001 10 true"]
    })
    .await;
}

#[tokio::test]
async fn a_first_empty_file_is_written_only_where_none_exists() {
    let folder = Folder::new(json!({}));
    let _control = folder.start().await;
    until("published", || folder.root.proxy_config().is_file()).await;
    let first = folder.published();
    assert_eq!(first["backends"], json!([]));
    let _again = folder.start().await;
    let control = folder.start().await;
    let ready = || control.app.publisher.outcome().generation.is_some();
    until("settled", ready).await;
    assert_eq!(folder.published(), first, "a restart publishes nothing new");
}

#[tokio::test]
async fn a_configuration_that_others_changed_is_written_anew() {
    let folder = Folder::new(json!({"auto_sync_interval_sec": 1}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let before = folder.published()["generation"].as_u64().expect("a number");
    std::fs::write(folder.root.proxy_config(), b"{}").expect("written");
    until("written again", || {
        folder.published()["generation"]
            .as_u64()
            .is_some_and(|now| now > before)
    })
    .await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 10 true"]);
}

#[tokio::test]
async fn our_own_listener_from_discovery_is_left_out_and_named() {
    let folder = Folder::new(json!({}));
    let discovered = json!({"backends": [
        {"ip": "127.0.0.1", "port": 10080}, {"ip": "10.0.0.1", "port": 1}, {"ip": "x", "port": 1}]});
    folder.write(folder.root.k8s_endpoints(), &discovered);
    let control = folder.start().await;
    let sync = control.good(ask("POST", "/api/sync")).await;
    assert_eq!(sync["merged_count"], json!(1));
    assert_eq!(sync["warnings"].as_array().map(Vec::len), Some(2), "{sync}");
    assert_eq!(folder.published_backends(), ["10.0.0.1:1 10 true"]);
}

#[tokio::test]
async fn the_audit_log_is_shown_clamped() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for last in 1..=15 {
        control.register(&format!("10.0.0.{last}")).await;
    }
    let lines = async |query: &str| {
        let path = format!("/api/logs/audit{query}");
        let answer = control.good(ask("GET", &path)).await;
        assert!(
            answer["path"]
                .as_str()
                .expect("a path")
                .ends_with("audit.log")
        );
        answer["data"].as_str().expect("one string").lines().count()
    };
    assert_eq!(lines("?tail=1").await, 10);
    assert_eq!(lines("?tail=-5").await, 10);
    assert_eq!(lines("?tail=12").await, 12);
    assert!(lines("").await >= 30 && lines("?tail=999999").await >= 30);
}

#[tokio::test]
async fn health_metrics_and_headers() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    control.good(ask("GET", "/livez")).await;
    control.good(ask("GET", "/readyz")).await;
    let (status, headers, text) = control.ask_raw(ask("GET", "/metrics")).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("wicketgate_control_backends_in_use{pool=\"default\"} 1"),
        "{text}"
    );
    // No proxy is there to say who is ready.
    assert!(
        !text.contains("wicketgate_control_backends_ready{"),
        "{text}"
    );
    assert!(text.ends_with('\n'));
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
}

#[tokio::test]
async fn a_carried_backend_that_registers_speaks_for_itself_again() {
    let folder = Folder::new(json!({"runtime_ttl_sec": 10}));
    let left_over = json!({
        "listen": {"host": "0.0.0.0", "port": 7000},
        "backends": [{"ip": "10.0.0.1", "port": 9001}, {"ip": "10.0.0.2", "port": 9001}],
    });
    folder.write(folder.root.proxy_config(), &left_over);
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    control.pass_ms(10_000);
    until("its TTL counts", || {
        folder.published_backends() == ["10.0.0.1:9001 10 false", "10.0.0.2:9001 10 true"]
    })
    .await;
}

#[tokio::test]
async fn an_override_without_a_backend_is_kept_and_shown_but_not_published() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let weight = "/api/backends/10.0.0.1/9001/weight";
    control
        .good(ask("POST", weight).body(&json!({"weight": 7})))
        .await;
    let body = json!({"ip": "10.0.0.1", "port": 9001});
    control
        .good(ask("DELETE", "/api/register").body(&body))
        .await;
    assert_eq!(folder.published_backends(), Vec::<String>::new());
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(listed["backends"], json!([]));
    assert_eq!(
        listed["unused_overrides"][0]["override"]["weight"],
        json!(7)
    );
    control.register("10.0.0.1").await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 7 true"]);
}

#[tokio::test]
async fn broken_files_at_the_start_change_nothing_in_force() {
    let folder = Folder::new(json!({"default_algorithm": "source_hash"}));
    let published = json!({
        "listen": {"host": "0.0.0.0", "port": 7000}, "algorithm": "random", "updated_at": 1,
        "generation": 8, "backends": [{"ip": "10.0.0.1", "port": 1, "weight": 4, "enabled": true,
        "is_warming_up": false, "gpu_usage": null, "vram_usage": null}],
    });
    folder.write(folder.root.proxy_config(), &published);
    let broken = [
        folder.root.settings_runtime(),
        folder.root.backends_runtime(),
        folder.root.k8s_endpoints(),
    ];
    for path in &broken {
        std::fs::write(path, b"{\"backends\": [").expect("written");
    }
    let control = folder.start().await;
    let ready = || control.app.publisher.outcome().generation.is_some();
    until("settled", ready).await;
    assert_eq!(folder.published(), published);
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(
        listed["warnings"].as_array().map(Vec::len),
        Some(3),
        "{listed}"
    );
    control.register("10.0.0.2").await;
    assert_eq!(folder.published_backends().len(), 2);
    let mut aside = folder.root.backends_runtime().into_os_string();
    aside.push(".broken");
    assert!(
        std::path::Path::new(&aside).is_file(),
        "the broken one is kept"
    );
}

#[tokio::test]
async fn answers_go_compressed_to_who_takes_it_and_streams_never() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let encoding = |path: &'static str| {
        let asked = ask("GET", path).header("accept-encoding", "gzip, br");
        let control = &control;
        async move {
            let response = control.respond(asked).await;
            assert_eq!(response.status(), 200, "{path}");
            response.headers().get("content-encoding").cloned()
        }
    };
    for path in [
        "/api/v1/backends",
        "/static/main.js",
        "/api/openapi.json",
        "/",
        "/api/v1/events",
    ] {
        assert_eq!(encoding(path).await.expect(path), "gzip");
    }
    let pings = ask("POST", "/api/v1/pings").header("accept-encoding", "gzip");
    let response = control
        .respond(pings.body(&json!({ "ip": "127.0.0.1" })))
        .await;
    assert!(response.status() == 200 && !response.headers().contains_key("content-encoding"));
    let (_, headers, _) = control.ask_raw(ask("GET", "/api/v1/backends")).await;
    assert!(
        !headers.contains_key("content-encoding"),
        "nobody asked for it"
    );
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for path in ["/static/main.js", "/", "/login"] {
        let (status, headers, body) = control.ask_raw(ask("GET", path)).await;
        assert!(status == 200 && !body.is_empty(), "{path}");
        let tag = headers["etag"].to_str().expect("text");
        let again = ask("GET", path).header("if-none-match", tag);
        let (status, _, body) = control.ask_raw(again).await;
        assert!(status == 304 && body.is_empty(), "{path}: {status}");
        let other = ask("GET", path).header("if-none-match", "W/\"other\"");
        assert_eq!(control.ask_status(other).await, 200, "{path}");
    }
}
