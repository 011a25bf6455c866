//! What a configuration file may say, and how it is told what it may not.

use std::path::PathBuf;
use std::time::Duration;

use agent::engines::Engine;
use agent::fetch::{Login, Reach};
use agent::gpus::Gpu;
use agent::health::Health;
use agent::settings::{EngineSettings, MAX_ENGINES, Settings, Source};
use serde_json::{Value, json};

fn read(value: &Value) -> Result<Settings, Vec<String>> {
    let read = Settings::read(value.to_string().as_bytes());
    read.map_err(|faults| faults.0.into_iter().map(|fault| fault.place).collect())
}

#[track_caller]
fn engine(mut engine: Value) -> EngineSettings {
    engine["advertise"] = "10.0.0.1:8123".into();
    let settings = read(&json!({ "engines": [engine] })).expect("good");
    settings.engines[0].clone()
}

#[test]
fn every_key_is_read() {
    let settings = read(&json!({
        "control": "http://10.0.0.9:8080/", "token_file": "/run/token", "interval_ms": 500,
        "stale_ms": 3000, "owner_file": "/run/owner", "ca_file": "/run/ca.pem",
        "engines": [
            { "advertise": "10.0.0.1:8000", "source": "vllm", "url": "http://127.0.0.1:8001/metrics",
              "gpu": [0, "GPU-604ac76c"], "weight": 20, "max_batch": 8, "batch_window_ms": 10,
              "health": "http://127.0.0.1:8001/health", "timeout_ms": 700,
              "engine_token_file": "/run/engine", "engine_ca_file": "/run/engine.pem" },
            { "advertise": "10.0.0.1:8002", "source": "command", "command": "echo {}",
              "health": "none" },
        ],
    }))
    .expect("good");
    assert_eq!(settings.control[0].0, "http://10.0.0.9:8080");
    let paths = [settings.token_file, settings.owner_file, settings.ca_file];
    let paths = paths.map(|path| path.expect("given"));
    assert_eq!(
        paths,
        ["/run/token", "/run/owner", "/run/ca.pem"].map(PathBuf::from)
    );
    assert_eq!(settings.interval, Duration::from_millis(500));
    assert_eq!(settings.stale_after, Duration::from_millis(3000));
    let [vllm, command] = settings.engines.as_slice() else {
        panic!("two engines")
    };
    assert_eq!(vllm.gpus, [Gpu::Index(0), Gpu::Uuid("GPU-604ac76c".into())]);
    let batch = vllm.batch.expect("given");
    assert_eq!((vllm.weight, batch.max, batch.window_ms), (Some(20), 8, 10));
    assert_eq!(vllm.timeout, Duration::from_millis(700));
    assert_eq!(
        vllm.reach,
        Reach {
            ca_file: Some("/run/engine.pem".into()),
            login: Some(Login::Token("/run/engine".into())),
        }
    );
    assert_eq!(command.reach, Reach::default());
    assert_eq!(command.source, Source::Command("echo {}".into()));
    assert_eq!(command.health, Health::None);
}

#[test]
fn what_is_left_out_is_the_advertised_or_usual_port_and_the_engines_path_and_check() {
    let http = |url: &str| Health::Http(url.to_owned());
    let cases = [
        ("vllm", "8123/metrics", http("http://127.0.0.1:8123/health")),
        (
            "sglang",
            "8123/metrics",
            http("http://127.0.0.1:8123/health"),
        ),
        (
            "triton",
            "8002/metrics",
            http("http://127.0.0.1:8000/v2/health/ready"),
        ),
        (
            "trtllm",
            "8123/prometheus/metrics",
            http("http://127.0.0.1:8123/health"),
        ),
        ("tgi", "8123/metrics", http("http://127.0.0.1:8123/health")),
        (
            "lmdeploy",
            "8123/metrics",
            http("http://127.0.0.1:8123/health"),
        ),
        (
            "llamacpp",
            "8123/metrics",
            http("http://127.0.0.1:8123/health"),
        ),
        (
            "amd",
            "5000/metrics",
            Health::Tcp(([10, 0, 0, 1], 8123).into()),
        ),
        (
            "dcgm",
            "9400/metrics",
            Health::Tcp(([10, 0, 0, 1], 8123).into()),
        ),
    ];
    for (source, place, health) in cases {
        let read = engine(json!({ "source": source }));
        let Source::Metrics { url, .. } = &read.source else {
            panic!("{source} shows metrics")
        };
        assert_eq!(*url, format!("http://127.0.0.1:{place}"));
        assert_eq!(read.health, health, "{source}");
    }
    let connect = Health::Tcp(([10, 0, 0, 1], 8123).into());
    let nvml = engine(json!({ "source": "nvml", "gpu": 0 }));
    assert_eq!((nvml.source, nvml.health), (Source::Nvml, connect.clone()));
    let vllm = engine(json!({ "source": "vllm", "health": "tcp" }));
    assert_eq!(vllm.health, connect);
}

#[test]
fn a_url_without_a_path_gets_the_engines_own() {
    let url = |source: &str, url: &str| match engine(json!({ "source": source, "url": url })) {
        EngineSettings {
            source: Source::Metrics { url, engine },
            health: Health::Http(health),
            ..
        } => (engine, url, health),
        other => panic!("{other:?}"),
    };
    let expected = |engine, url: &str, health: &str| (engine, url.into(), health.into());
    assert_eq!(
        url("trtllm", "http://[::1]:9"),
        expected(
            Engine::Trtllm,
            "http://[::1]:9/prometheus/metrics",
            "http://[::1]:9/health"
        )
    );
    assert_eq!(
        url("triton", "http://gpu-1:8002/"),
        expected(
            Engine::Triton,
            "http://gpu-1:8002/metrics",
            "http://gpu-1:8000/v2/health/ready"
        )
    );
    assert_eq!(
        url("vllm", "https://gpu-1"),
        expected(
            Engine::Vllm,
            "https://gpu-1/metrics",
            "https://gpu-1:443/health"
        )
    );
    assert_eq!(
        url("vllm", "http://gpu-1/m?x=1"),
        expected(Engine::Vllm, "http://gpu-1/m?x=1", "http://gpu-1:80/health")
    );
}

#[test]
fn each_bad_value_is_named_by_its_place() {
    let cases = [
        ("advertise", json!(null)),
        ("advertise", json!("gpu-1:8000")),
        ("advertise", json!("0.0.0.0:8000")),
        ("pool", json!("Chat")),
        ("pool", json!(7)),
        ("source", json!(null)),
        ("source", json!("vlm")),
        ("url", json!("ftp://127.0.0.1:8000")),
        ("url", json!("https://user@127.0.0.1")),
        ("engine_token_file", json!(1)),
        ("engine_ca_file", json!(true)),
        ("url", json!("http://user@127.0.0.1")),
        ("url", json!("127.0.0.1:8000")),
        ("url", json!(8000)),
        ("command", json!("echo {}")),
        ("gpu", json!("gpu0")),
        ("gpu", json!(-1)),
        ("gpu", json!([])),
        ("gpu", json!([0, 0])),
        ("gpu", json!({})),
        ("weight", json!(1001)),
        ("max_batch", json!(4097)),
        ("batch_window_ms", json!(-1)),
        ("health", json!("/health")),
        ("health", json!(true)),
        ("timeout_ms", json!(1)),
        ("wight", json!(1)),
    ];
    for (key, value) in cases {
        let mut engine = json!({
            "advertise": "10.0.0.1:8000", "source": "vllm", "max_batch": 8, "batch_window_ms": 10,
        });
        engine[key] = value;
        let places = read(&json!({ "engines": [engine] })).expect_err(key);
        assert_eq!(places, [format!("/engines/0/{key}")], "{engine}");
    }
    for (key, value) in [
        ("control", json!("ftp://a")),
        ("control", json!(1)),
        ("control", json!([])),
        ("control", json!(["http://a", 7])),
        ("control", json!(vec!["http://a"; 9])),
        ("token_file", json!(1)),
        ("owner_file", json!(1)),
        ("ca_file", json!(1)),
        ("interval_ms", json!(99)),
        ("stale_ms", json!(0)),
        ("engines", json!(null)),
        ("engines", json!([])),
        ("engines", json!({})),
        ("intervall_ms", json!(1000)),
    ] {
        let mut file = json!({ "engines": [{ "advertise": "10.0.0.1:1", "source": "vllm" }] });
        file[key] = value;
        assert_eq!(read(&file).expect_err(key), [format!("/{key}")], "{file}");
    }
}

#[test]
fn control_may_be_several() {
    let file = json!({
        "control": ["http://a:8080", "https://b"],
        "engines": [{ "advertise": "10.0.0.1:1", "source": "vllm" }],
    });
    let controls = read(&file).expect("good").control;
    let controls: Vec<&str> = controls.iter().map(|control| control.0.as_str()).collect();
    assert_eq!(controls, ["http://a:8080", "https://b"]);
}

#[test]
fn what_a_source_needs_is_asked_for() {
    let places = |engine: Value| read(&json!({ "engines": [engine] })).expect_err("bad");
    let addr = "10.0.0.1:1";
    let nvml = json!({ "advertise": addr, "source": "nvml", "url": "http://a" });
    assert_eq!(places(nvml), ["/engines/0/gpu", "/engines/0/url"]);
    let command = json!({ "advertise": addr, "source": "command" });
    assert_eq!(places(command), ["/engines/0/command"]);
    let part = json!({ "advertise": addr, "source": "dcgm", "gpu": "MIG-b6ba1f4f" });
    assert_eq!(places(part), ["/engines/0/gpu"]);
    let both = json!({
        "advertise": addr, "source": "vllm",
        "engine_token_file": "/run/a", "engine_login_file": "/run/b",
    });
    assert_eq!(places(both), ["/engines/0/engine_login_file"]);
    let amds = "ccff74a1-0000-1000-80e0-c6d49f5b0d86";
    for (source, gpu) in [("amd", "MIG-b6ba1f4f"), ("vllm", amds), ("nvml", amds)] {
        let engine = json!({ "advertise": addr, "source": source, "gpu": gpu });
        assert_eq!(places(engine), ["/engines/0/gpu"], "{source}");
    }
    let amd = engine(json!({ "source": "amd", "gpu": amds }));
    assert_eq!(amd.gpus, [Gpu::Uuid(amds.into())]);
}

#[test]
fn all_faults_are_told_at_once() {
    let file = json!({ "interval_ms": 1, "engines": [
        { "advertise": "x", "source": "vlm" }, 7, { "advertise": "10.0.0.1:1", "source": "tgi" },
        { "advertise": "10.0.0.1:1", "source": "tgi" },
    ]});
    let expected = [
        "/interval_ms",
        "/engines/0/advertise",
        "/engines/0/source",
        "/engines/1",
        "/engines/3/advertise",
    ];
    assert_eq!(read(&file).expect_err("bad"), expected);
    let engine = |port: usize| json!({ "advertise": format!("10.0.0.1:{port}"), "source": "tgi" });
    let many: Vec<Value> = (1..=MAX_ENGINES + 1).map(engine).collect();
    assert_eq!(
        read(&json!({ "engines": many })).expect_err("bad"),
        ["/engines"]
    );
}

#[test]
fn what_is_no_file_of_settings_is_refused() {
    for bad in ["", "[]", "{", "null", "{\"engines\": NaN}", "\u{0}"] {
        assert!(Settings::read(bad.as_bytes()).is_err(), "{bad:?}");
    }
}
