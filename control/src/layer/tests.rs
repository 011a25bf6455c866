//! How layers are read, written and stacked.

use super::*;
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("tests give objects, not {other}"),
    }
}

fn layer(value: Value) -> Layer {
    Layer::default().patched(&map(value)).expect("a good patch")
}

#[test]
fn the_upper_layer_wins_key_by_key() {
    let above = layer(json!({"algorithm": "random", "proxy": {"connect_attempts": 2}}));
    let below = layer(json!({
        "algorithm": "source_hash", "listen": {"host": "127.0.0.1", "port": 7000},
        "proxy": {
            "connect_attempts": 3, "warming_share": "none", "health": {"probe": "off"},
        },
    }));
    let both = above.over(&below);
    assert_eq!(both.algorithm(), Algorithm::Random);
    assert_eq!(both.listen().to_string(), "127.0.0.1:7000");
    let head = Map::from_iter(both.head());
    assert_eq!(head["connect_attempts"], json!(2));
    assert_eq!(head["warming_share"], json!("none"));
    assert_eq!(head["health"], json!({"probe": "off"}));
    assert_eq!(layer(both.to_json()), both);
}

#[test]
fn in_full_every_value_is_there_set_or_by_default() {
    let set = layer(json!({
        "listen": {"port": 7000}, "proxy": {"connect_attempts": 2, "health": {"rise": 5}},
    }));
    let (full, defaults) = (set.in_full(), Layer::default().in_full());
    assert_eq!(full["listen"]["port"], 7000);
    assert_eq!(full["listen"]["tcp"], true, "a default");
    assert_eq!(full["algorithm"], "weighted_round_robin");
    let changed = |key: &str, part: &str| {
        let [full, default] = [&full, &defaults].map(|of| of["proxy"][key].pointer(part));
        full != default
    };
    assert_eq!(full["proxy"]["connect_attempts"], 2);
    assert!(changed("connect_attempts", ""));
    assert!(changed("health", "/rise"));
    assert!(!changed("health", "/fall"));
    assert!(!changed("connect_timeout_ms", ""));
    assert!(defaults["proxy"]["gpu_aware"]["vram_soft"].is_number());
    for key in BASE_KEYS {
        assert_eq!(full["proxy"].get(key), None, "{key}");
    }
}

#[test]
fn a_listen_host_is_kept_in_its_canonical_form() {
    for (host, right) in [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
    ] {
        let one = layer(json!({"listen": {"host": host}}));
        assert_eq!(one.to_json(), json!({"listen": {"host": right}}));
    }
    let multicast = map(json!({"listen": {"host": "::ffff:224.0.0.1"}}));
    assert!(Layer::default().patched(&multicast).is_err());
}

#[test]
fn nothing_set_means_the_documented_defaults_and_no_optional_key() {
    let head = Map::from_iter(Layer::default().head());
    let expected = json!({
        "listen": {"host": "0.0.0.0", "port": 10080}, "algorithm": "weighted_round_robin",
    });
    assert_eq!(Value::Object(head), expected);
}

#[test]
fn null_clears_a_key_and_silence_keeps_it() {
    let start = layer(json!({"algorithm": "random", "listen": {"host": "::1", "port": 7}}));
    let patch = map(json!({"algorithm": null, "listen": {"port": null}}));
    let left = start.patched(&patch).expect("a good patch");
    assert_eq!(left.to_json(), json!({"listen": {"host": "::1"}}));
    let patch = map(json!({"listen": null}));
    let left = start.patched(&patch).expect("a good patch");
    assert_eq!(left.to_json(), json!({"algorithm": "random"}));
}

#[test]
fn each_bad_setting_is_named_by_its_place() {
    let cases = [
        (json!({"algorithm": "fastest"}), "/algorithm"),
        (json!({"listen": 7}), "/listen"),
        (json!({"listen": {"host": "example.org"}}), "/listen/host"),
        (json!({"listen": {"port": 0}}), "/listen/port"),
        (json!({"listen": {"prot": 1}}), "/listen/prot"),
        (json!({"proxy": []}), "/proxy"),
        (
            json!({"proxy": {"connect_attempts": 0}}),
            "/proxy/connect_attempts",
        ),
        (
            json!({"proxy": {"conect_attempts": 1}}),
            "/proxy/conect_attempts",
        ),
        (json!({"proxy": {"backends": []}}), "/proxy/backends"),
        (
            json!({"proxy": {"health": {"probe": "icmp"}}}),
            "/proxy/health/probe",
        ),
        (
            json!({"proxy": {"ejection": {"failure": 1}}}),
            "/proxy/ejection/failure",
        ),
        (json!({"algoritm": "random"}), "/algoritm"),
    ];
    for (patch, place) in cases {
        let faults = Layer::default().patched(&map(patch)).expect_err(place);
        let places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, [place]);
    }
}

#[test]
fn a_published_file_keeps_what_it_says_explicitly() {
    let published = map(json!({
        "listen": {"host": "127.0.0.1", "port": 7000, "udp": false}, "algorithm": "random",
        "updated_at": 1, "generation": 4, "backends": [], "idle_timeout_ms": 5, "newer": true,
    }));
    let expected = json!({
        "listen": {"host": "127.0.0.1", "port": 7000, "udp": false}, "algorithm": "random",
        "proxy": {"idle_timeout_ms": 5},
    });
    assert_eq!(Layer::of_published(&published).to_json(), expected);
}
