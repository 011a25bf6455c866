//! Control's HTTP API, field for field as existing clients know it.

use std::fs;

use e2e::api_bench::ApiBench;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::proxy::announced;
use testkit::{
    Backend, Control, Folder, LONG, Manner, Program, Proxy, Session, proxy_config, until,
};

/// The types of a `sync`'s base fields.
#[track_caller]
fn assert_sync(sync: &Value, bench: &ApiBench) {
    assert_eq!(sync["ok"], json!(true), "{sync}");
    assert!(sync["reason"].is_string(), "{sync}");
    let path = sync["proxy_config_path"].as_str().expect("a path");
    let published = fs::canonicalize(path).expect("it was published");
    let right = fs::canonicalize(bench.folder.root.proxy_config()).expect("it was published");
    assert_eq!(published, right);
    assert!(sync["reload"]["ok"].is_boolean(), "{sync}");
    assert!(sync["reload"]["info"].is_string(), "{sync}");
    assert!(sync["merged_count"].is_u64(), "{sync}");
    for key in ["k8s_updated_at", "runtime_updated_at"] {
        assert!(
            sync[key].is_number() || sync[key].is_null(),
            "{key}: {sync}"
        );
    }
}

#[test]
fn the_table_has_every_field() {
    let bench = ApiBench::start(json!({}));
    let registered = free_address();
    let body = json!({
        "ip": registered.ip(), "port": registered.port(), "weight": 7, "gpu_usage": 0.25,
        "vram_usage": 0.5, "enabled": true, "is_warming_up": true,
    });
    let (status, answer) = bench.api().post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["ok"], json!(true));
    assert!(answer["message"].is_string(), "{answer}");
    let backend = json!({ "ip": registered.ip(), "port": registered.port() });
    assert_eq!(answer["backend"], backend);
    assert_sync(&answer["sync"], &bench);
    assert_eq!(answer["sync"]["merged_count"], json!(2));

    let (status, table) = bench.api().get("/api/backends");
    assert_eq!(status, 200, "{table}");
    assert_eq!(table["ok"], json!(true));
    for key in ["updated_at", "k8s_updated_at", "runtime_updated_at"] {
        assert!(table[key].is_number(), "{key}: {table}");
    }
    let row = bench.row(registered).expect("registered");
    let right = [
        ("weight", json!(7)),
        ("gpu_usage", json!(0.25)),
        ("vram_usage", json!(0.5)),
        ("enabled", json!(true)),
        ("is_warming_up", json!(true)),
        ("source", json!("runtime")),
    ];
    for (key, value) in right {
        assert_eq!(row[key], value, "{key}: {row}");
    }
    assert!(row["last_seen"].is_number(), "{row}");
    let row = bench.row(bench.discovered).expect("discovered");
    let right = [
        ("weight", json!(10)),
        ("gpu_usage", json!(0.2)),
        ("vram_usage", Value::Null),
        ("enabled", json!(true)),
        ("is_warming_up", json!(false)),
        ("source", json!("k8s")),
    ];
    for (key, value) in right {
        assert_eq!(row[key], value, "{key}: {row}");
    }
    assert!(row.get("last_seen").is_some(), "{row}");
}

#[test]
fn a_weight_is_changed_published_and_shown() {
    let bench = ApiBench::start(json!({}));
    let addr = bench.discovered;
    let (status, answer) = bench.api().set_weight(addr, 77);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["ok"], json!(true));
    let updated = json!({ "ip": addr.ip(), "port": addr.port(), "weight": 77 });
    assert_eq!(answer["updated"], updated);
    assert_sync(&answer["sync"], &bench);
    let row = bench.row(addr).expect("discovered");
    assert_eq!(
        (&row["weight"], &row["source"]),
        (&json!(77), &json!("runtime"))
    );
    let published = bench.folder.proxy_config().expect("published");
    assert_eq!(published["backends"][0]["weight"], json!(77));
    assert_eq!(published["listen"]["port"], json!(bench.listen.port()));
    let kept = testkit::folder::read(&bench.folder.root.backends_runtime()).expect("stored");
    assert_eq!(kept["source"], json!("runtime_register"));
    assert_eq!(kept["backends"][0]["ip"], json!(addr.ip()));
}

#[test]
fn an_override_and_a_registration_can_be_taken_back() {
    let bench = ApiBench::start(json!({}));
    let addr = bench.discovered;
    bench.api().set_weight(addr, 77);
    let path = format!("/api/backends/{}/{}/override", addr.ip(), addr.port());
    let (status, answer) = bench.api().delete(&path, None);
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_sync(&answer["sync"], &bench);
    let row = bench.row(addr).expect("discovered");
    assert_eq!(
        (&row["weight"], &row["source"]),
        (&json!(10), &json!("k8s"))
    );

    let registered = free_address();
    bench.register(registered);
    let body = json!({ "ip": registered.ip(), "port": registered.port() });
    let (status, answer) = bench.api().delete("/api/register", Some(&body));
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_sync(&answer["sync"], &bench);
    assert_eq!(bench.row(registered), None);
    let (status, answer) = bench.api().delete("/api/register", Some(&body));
    assert_eq!(status, 404, "{answer}");
}

#[test]
fn a_sync_says_what_a_proxy_has_applied() {
    let bench = ApiBench::start(json!({}));
    let proxy = Proxy::start_on(&bench.folder, &[]);
    let (status, sync) = bench.api().post_nothing("/api/sync");
    assert_eq!(status, 200, "{sync}");
    assert_sync(&sync, &bench);
    let reload = &sync["reload"];
    assert_eq!(reload["ok"], json!(true), "{sync}");
    let info = format!("sent SIGHUP to pid={}", proxy.program.pid());
    assert_eq!(reload["info"], json!(info));
    assert_eq!(reload["applied"], json!(true), "{sync}");
    assert!(reload["applied_in_ms"].is_number(), "{sync}");
    let generation = reload["generation"].as_u64().expect("a number");
    assert!(proxy.status().running.generation >= generation);

    let (_, answer) = bench.api().set_weight(bench.discovered, 3);
    let reload = &answer["sync"]["reload"];
    assert_eq!(reload["applied"], json!(true), "{answer}");
    assert!(reload["generation"].as_u64() > Some(generation), "{answer}");
    assert_eq!(proxy.backend(bench.discovered).weight, 3);
}

#[test]
fn a_sync_says_that_dummy_proxy_cannot_confirm() {
    let bench = ApiBench::start(json!({}));
    let root = bench.folder.root_argument();
    let mut dummy = Program::start("dummy_proxy", ["--root", root]);
    let pid_file = bench.folder.root.proxy_pid();
    until("dummy_proxy is ready", LONG, || {
        (announced(&pid_file) == Some(dummy.pid())).then_some(())
    });
    let (status, answer) = bench.api().set_weight(bench.discovered, 55);
    assert_eq!(status, 200, "{answer}");
    assert_sync(&answer["sync"], &bench);
    let reload = &answer["sync"]["reload"];
    assert_eq!(reload["ok"], json!(true), "{answer}");
    let info = reload["info"].as_str().expect("text");
    assert!(
        info.contains(&format!("sent SIGHUP to pid={}", dummy.pid())),
        "{info}"
    );
    assert_ne!(reload["applied"], json!(true), "{answer}");
    dummy.wait_for_line("SIGHUP");
}

#[test]
fn a_sync_says_that_there_is_no_proxy() {
    let mut bench = ApiBench::start(json!({}));
    for _ in 0..3 {
        let (status, sync) = bench.api().post_nothing("/api/sync");
        assert_eq!(status, 200, "{sync}");
        assert_sync(&sync, &bench);
        assert_eq!(sync["reload"]["ok"], json!(false), "{sync}");
        let info = sync["reload"]["info"].as_str().expect("text");
        assert!(info.contains("proxy.pid"), "{info}");
        assert_ne!(sync["reload"]["applied"], json!(true), "{sync}");
    }
    // Said once while it lasts, and again when it comes again.
    let mut proxy = Proxy::start_on(&bench.folder, &[]);
    bench.api().post_nothing("/api/sync");
    bench.control.program.wait_for_line("applied generation=");
    bench.control.program.assert_one_line("not confirmed");
    proxy.program.signal(Signal::TERM);
    proxy.program.wait_exit(LONG);
    bench.api().post_nothing("/api/sync");
    bench.control.program.wait_for_line("not confirmed");
}

#[test]
fn a_sync_says_that_the_proxy_has_refused() {
    let bench = ApiBench::start(json!({}));
    let taken = Backend::start("other", Manner::Echo);
    let proxy = Proxy::start_on(&bench.folder, &[]);
    let body = json!({ "listen": { "host": "127.0.0.1", "port": taken.addr.port() } });
    let (status, answer) = bench.api().post("/api/settings", &body);
    // It is rolled back: nothing waits for a port that somebody else has.
    assert_eq!(status, 409, "{answer}");
    let reload = &answer["sync"]["reload"];
    assert_eq!(reload["applied"], json!(false), "{answer}");
    let reason = reload["reason"].as_str().expect("text");
    assert!(reason.contains(&taken.addr.port().to_string()), "{answer}");
    assert_eq!(proxy.status().running.listeners[0].addr, bench.listen);
}

#[test]
fn the_audit_log_holds_every_mutation_and_every_refusal() {
    let bench = ApiBench::start(json!({}));
    let registered = free_address();
    bench.register(registered);
    bench.api().set_weight(bench.discovered, 42);
    bench.api().post(
        "/api/register",
        &json!({ "ip": "localhost\n{}", "port": 1 }),
    );
    bench.api().post("/api/ping", &json!({ "ip": "127.0.0.1" }));
    bench.api().post_nothing("/api/sync");
    let lines = until("the audit log", LONG, || {
        let (status, answer) = bench.api().get("/api/logs/audit?tail=100");
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
        assert!(
            answer["path"]
                .as_str()
                .expect("text")
                .ends_with("audit.log")
        );
        let data = answer["data"].as_str().expect("text");
        let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON a line");
        let lines: Vec<Value> = data.lines().map(line).collect();
        let has = |word: &str| lines.iter().any(|line| line.to_string().contains(word));
        (has("sync") && has("ping")).then_some(lines)
    });
    let with = |words: &[&str]| {
        let has_all = |line: &&Value| words.iter().all(|word| line.to_string().contains(word));
        lines.iter().find(has_all)
    };
    let registered = registered.to_string();
    let discovered = bench.discovered.to_string();
    for words in [
        &["register", registered.as_str()][..],
        &["weight", discovered.as_str(), "42"],
        &["ping", "127.0.0.1"],
        &["sync"],
    ] {
        let line = with(words).unwrap_or_else(|| panic!("{words:?} is missing: {lines:#?}"));
        for key in ["actor", "action", "target"] {
            assert!(line.get(key).is_some(), "{key}: {line}");
        }
    }
    assert!(
        with(&["register", "localhost"]).is_some(),
        "a refusal: {lines:#?}"
    );
    let (_, few) = bench.api().get("/api/logs/audit?tail=10");
    assert!(few["data"].as_str().expect("text").lines().count() <= 10);
}

#[test]
fn the_console_and_the_probes_are_served() {
    let bench = ApiBench::start(json!({}));
    let get = |path: &str| {
        let answer = bench.api().exchange(Request::new("GET", path));
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    };
    let page = get("/");
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    get("/static/main.js");
    get("/static/style.css");
    get("/livez");
    get("/readyz");
    assert!(get("/metrics").text().contains("# TYPE"));
}

#[test]
fn a_bad_control_config_is_refused_with_the_nearest_known_key() {
    let folder = Folder::new();
    folder.write_control_config(&json!({ "runtime_ttl_secs": 3, "port": 99_999 }));
    let arguments = ["--root", folder.root_argument(), "--check"];
    let output = testkit::process::run("control_server", arguments);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    for word in ["/runtime_ttl_secs", "runtime_ttl_sec", "/port", "99999"] {
        assert!(log.contains(word), "{word} is missing: {log}");
    }
}

#[test]
fn a_check_names_a_port_that_both_planes_would_listen_on() {
    let free = free_address();
    let own = |key: &str| json!({"host": "127.0.0.1", "port": free.port(), key: free.port()});
    let with = |listeners: Value| json!({"host": "127.0.0.1", "port": free.port(), "proxy": {"listeners": listeners}});
    for (config, place) in [
        (own("default_listen_port"), Some("/default_listen_port")),
        (json!({"host": "127.0.0.1", "port": 10_080}), Some("/port")),
        (json!({"host": "127.0.0.1", "port": free.port()}), None),
        (
            with(json!([{"name": "chat", "host": "127.0.0.1", "port": free.port()}])),
            Some("/proxy/listeners/chat"),
        ),
        (
            with(json!([{"name": "chat", "host": "127.0.0.1", "port": 1, "pool": "gone"}])),
            Some("/proxy/listeners/chat/pool"),
        ),
        (
            with(json!([{"name": "chat", "max_flows": 1}])),
            Some("/proxy/listeners/chat/host"),
        ),
    ] {
        let folder = Folder::new();
        folder.write_control_config(&config);
        let arguments = ["--root", folder.root_argument(), "--check"];
        let output = testkit::process::run("control_server", arguments);
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), place.is_none(), "{config}: {log}");
        assert!(log.contains(place.unwrap_or_default()), "{config}: {log}");
    }
}

#[test]
fn a_first_configuration_is_written_only_where_there_is_none() {
    let folder = Folder::new();
    let listen = free_address();
    let control = Control::start(&folder, listen, &json!({}));
    let first = until("a first file", LONG, || folder.proxy_config());
    assert_eq!(first["backends"], json!([]));
    assert_eq!(first["listen"]["port"], json!(listen.port()));
    drop(control);

    let folder = Folder::new();
    let echo = Backend::start("echo", Manner::Echo);
    folder.write_proxy_config(&proxy_config(listen, &[(echo.addr, 10)]));
    let _proxy = Proxy::start_on(&folder, &[]);
    let control = Control::start(&folder, listen, &json!({}));
    control.api.post_nothing("/api/sync");
    // No source has been read that could say otherwise, so the published backends stand.
    assert_eq!(Session::open(listen).expect("served").backend, "echo");
}
