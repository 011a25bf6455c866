use serde_json::{Value, json};

use super::*;

const BASE: &str = r#"{
    "listen": { "host": "0.0.0.0", "port": 10080 },
    "algorithm": "weighted_round_robin",
    "updated_at": 1730000000,
    "backends": [ { "ip": "10.0.0.11", "port": 9001, "weight": 10, "enabled": true,
                    "is_warming_up": false, "gpu_usage": 0.2, "vram_usage": 0.4 } ]
}"#;

fn local() -> LocalAddresses {
    LocalAddresses(vec!["192.168.7.7".parse().expect("a literal")])
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(BASE).expect("BASE is JSON");
    change(&mut value);
    value.to_string().into_bytes()
}

/// The places that `check` complains of.
#[track_caller]
fn places(bytes: &[u8]) -> Vec<String> {
    match check(bytes, &local()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.into_iter().map(|fault| fault.place).collect(),
    }
}

#[test]
fn the_base_format_is_read_field_for_field() {
    let config = check(BASE.as_bytes(), &local()).expect("valid").config;
    assert_eq!(
        config.listeners[0].addrs().next().expect("one"),
        "0.0.0.0:10080".parse().expect("a literal")
    );
    assert!(config.listeners[0].tcp && config.listeners[0].udp);
    let names = (&config.listeners[0].name, &config.pools[0].name);
    assert_eq!(names, (&Name::default(), &Name::default()));
    assert_eq!(config.pools[0].algorithm, Algorithm::WeightedRoundRobin);
    let backend = &config.pools[0].backends[0];
    assert_eq!(backend.addr.to_string(), "10.0.0.11:9001");
    assert_eq!(
        (backend.weight, backend.enabled, backend.is_warming_up),
        (10, true, false)
    );
    assert_eq!(backend.report.vram_usage, Some(0.4));
    assert_eq!(config.generation, None);
}

#[test]
fn no_backends_is_a_valid_configuration() {
    assert!(places(&changed(|value| value["backends"] = json!([]))).is_empty());
}

#[test]
fn a_configuration_written_out_is_read_back_the_same() {
    let with_optional_keys = changed(|value| {
        value["backends"][0]["max_batch"] = json!(8);
        value["backends"][0]["batch_window_ms"] = json!(10);
        value["backends"][0]["heartbeat_ms"] = json!(1000);
    });
    for bytes in [BASE.as_bytes(), &with_optional_keys] {
        let config = check(bytes, &local()).expect("valid").config;
        let again = check(config.to_json().to_string().as_bytes(), &local()).expect("valid");
        assert_eq!(again.config, config);
        assert!(again.unknown_keys.is_empty(), "{}", again.unknown_keys);
    }
}

#[test]
fn each_bad_value_is_named_by_its_place() {
    let cases: [(&str, Value); 25] = [
        ("/listen", json!(7)),
        ("/listen/host", json!("example.org")),
        ("/listen/host", json!(null)),
        ("/listen/port", json!(0)),
        ("/listen/port", json!(65536)),
        ("/listen/tcp", json!("yes")),
        ("/algorithm", json!("fastest")),
        ("/updated_at", json!("yesterday")),
        ("/updated_at", json!([1])),
        ("/generation", json!(-1)),
        ("/connect_attempts", json!(0)),
        ("/session_log", json!("none")),
        ("/backends", json!({})),
        ("/backends", json!(null)),
        ("/backends/0", json!("10.0.0.1:80")),
        ("/backends/0/ip", json!("gpu-node-1")),
        ("/backends/0/ip", json!(null)),
        ("/backends/0/port", json!(0)),
        ("/backends/0/port", json!("9001")),
        ("/backends/0/weight", json!(1001)),
        ("/backends/0/weight", json!(-1)),
        ("/backends/0/enabled", json!(1)),
        ("/backends/0/gpu_usage", json!(1.01)),
        ("/backends/0/vram_usage", json!("half")),
        ("/backends/0/heartbeat_ms", json!(0)),
    ];
    for (place, value) in cases {
        let bytes = changed(|document| {
            let parent = place.rsplit_once('/').expect("a pointer").0;
            let key = place.rsplit_once('/').expect("a pointer").1;
            let parent = document.pointer_mut(parent).expect("BASE has the parent");
            match parent {
                Value::Array(items) => items[0] = value.clone(),
                other => other[key] = value.clone(),
            }
        });
        assert_eq!(places(&bytes), [place], "{value}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let bytes = changed(|value| {
        value["algorithm"] = json!("x");
        value["backends"] = json!([{"ip": "a", "port": 0}, {"ip": "10.0.0.1", "port": 70000}]);
    });
    let expected = [
        "/algorithm",
        "/backends/0/ip",
        "/backends/0/port",
        "/backends/1/port",
    ];
    assert_eq!(places(&bytes), expected);
}

#[test]
fn the_same_backend_twice_is_refused() {
    let bytes = changed(|value| {
        value["backends"] =
            json!([{"ip": "10.0.0.1", "port": 1}, {"ip": "::ffff:10.0.0.1", "port": 1}]);
    });
    assert_eq!(places(&bytes), ["/backends/1"]);
}

#[test]
fn the_generation_of_a_refused_file_is_read_where_it_can_be() {
    let refused = changed(|value| {
        value["algorithm"] = json!("fastest");
        value["generation"] = json!(7);
    });
    assert_eq!(generation_of(&refused), Some(7));
    assert_eq!(generation_of(b"{\"generation\": 7"), None);
    assert_eq!(generation_of(b"{\"generation\": \"7\"}"), None);
}

#[test]
fn our_own_listener_is_skipped_and_refused_only_where_a_person_asks() {
    let refused = |listen: &str, ip: &str| {
        let bytes = changed(|value| {
            value["listen"]["host"] = json!(listen);
            value["backends"][0]["ip"] = json!(ip);
            value["backends"][0]["port"] = json!(10080);
        });
        let checked = check(&bytes, &local()).expect("valid, whatever is skipped");
        let is_skipped = !checked.skipped.is_empty();
        assert_eq!(checked.config.pools[0].backends.is_empty(), is_skipped);
        let strictly = check_strictly(&bytes, &local());
        let places = strictly.map_err(|faults| faults.0[0].place.clone());
        assert_eq!(places.err(), is_skipped.then(|| "/backends/0".to_owned()));
        is_skipped
    };
    assert!(refused("0.0.0.0", "127.0.0.1"));
    assert!(refused("0.0.0.0", "127.8.8.8"));
    assert!(refused("0.0.0.0", "192.168.7.7"));
    assert!(refused("::", "192.168.7.7"));
    assert!(refused("10.0.0.1", "10.0.0.1"));
    assert!(refused("::ffff:10.0.0.1", "10.0.0.1"));
    assert!(refused("10.0.0.1", "::ffff:10.0.0.1"));
    assert!(refused("::ffff:0.0.0.0", "127.0.0.1"));
    assert!(refused("::", "::ffff:127.0.0.1"));
    assert!(refused("::", "::1"));
    assert!(!refused("10.0.0.1", "127.0.0.1"));
    assert!(!refused("0.0.0.0", "192.168.7.8"));
    assert!(!refused("0.0.0.0", "::1"));
}

#[test]
fn a_probe_that_would_reach_our_own_listener_is_refused_only_where_a_person_asks() {
    let found = |host: &str, ip: &str, change: &dyn Fn(&mut Value)| {
        let bytes = changed(|value| {
            value["listen"]["host"] = json!(host);
            value["backends"][0]["ip"] = json!(ip);
            value["health"] = json!({"port": 10080});
            change(value);
        });
        let checked = check(&bytes, &local()).expect("valid, whatever is probed");
        assert!(checked.skipped.is_empty(), "{ip}:9001 is no listener");
        let faults = check_strictly(&bytes, &local()).err()?;
        assert_eq!(faults.0.len(), 1, "{faults}");
        Some(faults.to_string())
    };
    let as_it_is = |_: &mut Value| {};
    for (host, ip, is_own) in [
        ("0.0.0.0", "127.0.0.1", true),
        ("0.0.0.0", "192.168.7.7", true),
        ("0.0.0.0", "192.168.7.8", false),
        ("0.0.0.0", "::1", false),
        ("::", "::1", true),
        ("::", "127.0.0.9", true),
        ("10.0.0.1", "10.0.0.1", true),
        ("127.0.0.1", "127.0.0.2", false),
    ] {
        let right = is_own.then(|| {
            let listen = SocketAddr::new(host.parse().expect("a literal"), 10080);
            let addr = SocketAddr::new(ip.parse().expect("a literal"), 9001);
            format!(
                "/health/port: found 10080, allowed: a port where a probe of {addr} does not \
                 reach the proxy's own listener {listen}"
            )
        });
        assert_eq!(found(host, ip, &as_it_is), right, "{host} {ip}");
    }
    let is_refused = |change: &dyn Fn(&mut Value)| found("::", "::1", change).is_some();
    let udp = json!({"probe": "udp", "port": 10080, "send": "x"});
    assert!(!is_refused(&|value| value["health"]["port"] = json!(10081)));
    assert!(!is_refused(&|value| value["health"]["probe"] = json!("off")));
    assert!(!is_refused(
        &|value| value["backends"][0]["enabled"] = json!(false)
    ));
    assert!(!is_refused(&|value| value["listen"]["tcp"] = json!(false)));
    assert!(is_refused(&|value| value["health"] = udp.clone()));
    assert!(!is_refused(&|value| {
        value["health"] = udp.clone();
        value["listen"]["udp"] = json!(false);
    }));
}

#[test]
fn what_else_the_proxy_accepts_on_is_skipped_too_by_its_place_in_the_file() {
    let own = |port: u16| json!({"ip": "127.0.0.1", "port": port});
    let bytes = changed(|value| {
        value["backends"] = json!([own(10080), own(1), own(9000), own(2)]);
    });
    let checked = check(&bytes, &local()).expect("valid");
    let ports = |config: &Config| -> Vec<u16> {
        let backends = config.pools[0].backends.iter();
        backends.map(|backend| backend.addr.port()).collect()
    };
    let places = |skipped: &[Skipped]| -> Vec<String> {
        skipped.iter().map(|entry| entry.place.clone()).collect()
    };
    assert_eq!(ports(&checked.config), [1, 9000, 2]);
    assert_eq!(places(&checked.skipped), ["/backends/0"]);
    let listening = ["127.0.0.1:9000", "[::]:2"].map(|addr| addr.parse().expect("a literal"));
    let (config, skipped) = checked.while_listening(&listening, &local());
    assert_eq!(ports(&config), [1]);
    let right = ["/backends/0", "/backends/2", "/backends/3"];
    assert_eq!(places(&skipped), right);
}

#[test]
fn skipped_entries_are_counted_in_their_own_pool() {
    let own = |port: u16| json!({"ip": "127.0.0.1", "port": port});
    let bytes = changed(|value| {
        value["backends"] = json!([own(10080), own(1), own(9000)]);
        value["pools"] = json!({"other": {"backends": [own(1), own(9000), own(10080)]}});
    });
    let checked = check(&bytes, &local()).expect("valid");
    let listening = ["127.0.0.1:9000".parse().expect("a literal")];
    let (config, skipped) = checked.while_listening(&listening, &local());
    let kept = config.pools.iter().map(|pool| pool.backends.len());
    assert_eq!(kept.collect::<Vec<_>>(), [1, 1]);
    let places: Vec<&str> = skipped.iter().map(|entry| &*entry.place).collect();
    let right = [
        "/backends/0",
        "/backends/2",
        "/pools/other/backends/1",
        "/pools/other/backends/2",
    ];
    assert_eq!(places, right);
}

#[test]
fn a_listen_host_is_read_in_its_canonical_form() {
    for (host, right) in [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::1", "::1"),
    ] {
        let bytes = changed(|value| value["listen"]["host"] = json!(host));
        let config = check(&bytes, &local()).expect("valid").config;
        assert_eq!(config.listeners[0].hosts[0].to_string(), right, "{host}");
    }
    let multicast = changed(|value| value["listen"]["host"] = json!("::ffff:224.0.0.1"));
    assert_eq!(places(&multicast), ["/listen/host"]);
}

#[test]
fn unknown_keys_are_told_apart_from_faults() {
    let bytes = changed(|value| {
        value["algoritm"] = json!("x");
        value["backends"][0]["wight"] = json!(1);
    });
    let checked = check(&bytes, &local()).expect("unknown keys are no faults");
    let places: Vec<String> = checked
        .unknown_keys
        .0
        .into_iter()
        .map(|f| f.place)
        .collect();
    assert_eq!(places, ["/backends/0/wight", "/algoritm"]);
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = BASE.trim_end();
    for length in 0..whole.len() {
        assert!(
            !places(&whole.as_bytes()[..length]).is_empty(),
            "cut at {length}"
        );
    }
    for bad in ["", "{}", "[]", "\u{0}", "null"] {
        assert!(!places(bad.as_bytes()).is_empty(), "{bad:?}");
    }
    assert!(!places(&vec![b' '; MAX_FILE_BYTES + 1]).is_empty());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_check_panic(bytes in proptest::collection::vec(0u8.., 0..400)) {
        let _ = check(&bytes, &LocalAddresses::default());
    }
}

/// Two services beside the one of the base format, each with rules of its own.
fn extended() -> Value {
    let mut value: Value = serde_json::from_str(BASE).expect("BASE is JSON");
    value["connect_attempts"] = json!(2);
    value["udp_idle_ms"] = json!(9_000);
    value["max_sessions"] = json!(100);
    value["health"] = json!({"probe": "tcp", "interval_ms": 500});
    value["listeners"] = json!([
        {"name": "chat", "host": "::", "port": 8000, "protocol": "tcp", "pool": "chat",
         "idle_timeout_ms": 60_000},
        {"name": "dns", "host": "0.0.0.0", "port": 53, "pool": "dns", "udp_idle_ms": 2_000,
         "udp_responses": 1, "max_flows": 50},
    ]);
    value["pools"] = json!({
        "dns": {"health": {"probe": "off"}, "backends": [{"ip": "10.0.0.11", "port": 9001}]},
        "chat": {"algorithm": "gpu_aware", "connect_attempts": 8, "backend_gone_timeout_ms": 7,
                 "ejection": {"failures": 1}, "backends": []},
    });
    value
}

fn check_value(value: &Value) -> Checked {
    check(value.to_string().as_bytes(), &local()).expect("valid")
}

#[test]
fn listeners_and_pools_have_their_own_settings_and_else_those_at_the_top() {
    let config = check_value(&extended()).config;
    let listeners = config.listeners.iter().map(|listener| {
        let pool = listener.routes.only_pool().expect("one pool");
        let pool = config.pools[*pool].name.to_string();
        let settings = &listener.settings;
        let takes = (listener.tcp, listener.udp);
        let bounds = (settings.max_sessions, settings.max_flows);
        (
            pool,
            takes,
            settings.udp_idle_ms,
            settings.idle_timeout_ms,
            bounds,
        )
    });
    let hour = 3_600_000;
    let right = [
        ("default", (true, true), 9_000, hour, (Some(100), None)),
        ("chat", (true, false), 9_000, 60_000, (Some(100), None)),
        ("dns", (true, true), 2_000, hour, (Some(100), Some(50))),
    ];
    let right =
        right.map(|(pool, takes, udp, tcp, bounds)| (pool.to_owned(), takes, udp, tcp, bounds));
    assert_eq!(listeners.collect::<Vec<_>>(), right);
    let pools = config.pools.iter().map(|pool| {
        let PoolSettings { connect, health } = &pool.settings;
        let probe = (health.probe.kind, health.probe.interval_ms);
        let gone = connect.backend_gone_timeout_ms;
        (
            pool.name.as_str(),
            pool.algorithm,
            connect.attempts,
            gone,
            probe,
            health.ejection.failures,
        )
    });
    let weighted = Algorithm::WeightedRoundRobin;
    let right = [
        ("default", weighted, 2, None, (ProbeKind::Tcp, 500), 5),
        (
            "chat",
            Algorithm::GpuAware,
            8,
            Some(7),
            (ProbeKind::Tcp, 500),
            1,
        ),
        // `health` is taken whole.
        ("dns", weighted, 2, None, (ProbeKind::Off, 2_000), 5),
    ];
    assert_eq!(pools.collect::<Vec<_>>(), right);
}

#[test]
fn the_extended_format_is_written_out_and_read_back_the_same() {
    let without_base = {
        let mut value = extended();
        let object = value.as_object_mut().expect("an object");
        object.retain(|key, _| !["listen", "backends"].contains(&key.as_str()));
        value
    };
    let mut base_in_pools = without_base.clone();
    base_in_pools["pools"]["default"] = json!({"backends": []});
    base_in_pools["listeners"][0]["pool"] = json!(null);
    for value in [extended(), without_base, base_in_pools] {
        let config = check_value(&value).config;
        let again = check_value(&config.to_json());
        assert_eq!(again.config, config);
        assert!(again.unknown_keys.is_empty(), "{}", again.unknown_keys);
    }
}

#[test]
fn a_base_document_is_written_in_the_base_format() {
    let mut value: Value = serde_json::from_str(BASE).expect("BASE is JSON");
    value["pools"] = json!({});
    value["listeners"] = json!([]);
    let written = check_value(&value).config.to_json();
    assert!(written.get("listen").is_some() && written.get("pools").is_none());
    // The same service in the words of the extended format.
    let object = value.as_object_mut().expect("an object");
    let backends = object.remove("backends").expect("BASE has them");
    object.remove("listen");
    object["pools"] = json!({"default": {"backends": backends}});
    object["listeners"] = json!([{"name": "default", "host": "0.0.0.0", "port": 10080}]);
    assert_eq!(check_value(&value).config.to_json(), written);
}

#[test]
fn each_fault_of_the_extended_format_is_named_by_its_place() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 21] = [
        (
            "no name",
            |v| v["listeners"][0]["name"] = json!(null),
            "/listeners/0/name",
        ),
        (
            "a bad name",
            |v| v["listeners"][0]["name"] = json!("Chat"),
            "/listeners/0/name",
        ),
        (
            "a name twice",
            |v| v["listeners"][1]["name"] = json!("chat"),
            "/listeners/1/name",
        ),
        (
            "the name of listen",
            |v| v["listeners"][1]["name"] = json!("default"),
            "/listeners/1/name",
        ),
        (
            "no port",
            |v| v["listeners"][0]["port"] = json!(0),
            "/listeners/0/port",
        ),
        (
            "a host name",
            |v| v["listeners"][0]["host"] = json!("localhost"),
            "/listeners/0/host",
        ),
        (
            "a protocol",
            |v| v["listeners"][0]["protocol"] = json!("udp+tcp"),
            "/listeners/0/protocol",
        ),
        (
            "no such pool",
            |v| v["listeners"][0]["pool"] = json!("chats"),
            "/listeners/0/pool",
        ),
        (
            "no pool name",
            |v| v["listeners"][0]["pool"] = json!(7),
            "/listeners/0/pool",
        ),
        (
            "an address twice",
            |v| {
                v["listeners"][1] =
                    json!({"name": "x", "host": "::", "port": 8000, "protocol": "tcp+udp"});
            },
            "/listeners/1",
        ),
        (
            "the address of listen",
            |v| {
                v["listeners"][1]["port"] = json!(10080);
                v["listeners"][1]["protocol"] = json!("udp");
            },
            "/listeners/1",
        ),
        (
            "no listener",
            |v| v["listeners"][0] = json!("chat"),
            "/listeners/0",
        ),
        ("no array", |v| v["listeners"] = json!({}), "/listeners"),
        (
            "a setting",
            |v| v["listeners"][0]["udp_idle_ms"] = json!(0),
            "/listeners/0/udp_idle_ms",
        ),
        ("no object", |v| v["pools"] = json!([]), "/pools"),
        (
            "the pool default twice",
            |v| v["pools"]["default"] = json!({"backends": []}),
            "/pools/default",
        ),
        (
            "a bad pool name",
            |v| v["pools"]["a/b"] = json!({"backends": []}),
            "/pools/a~1b",
        ),
        (
            "no backends",
            |v| v["pools"]["chat"] = json!({}),
            "/pools/chat/backends",
        ),
        (
            "a rule",
            |v| v["pools"]["chat"]["health"] = json!({"rise": 0}),
            "/pools/chat/health/rise",
        ),
        (
            "no pool at all",
            |v| *v = json!({"listeners": [], "pools": {}}),
            "/pools",
        ),
        (
            "a backend",
            |v| v["pools"]["chat"]["backends"] = json!([{"ip": "x", "port": 1}]),
            "/pools/chat/backends/0/ip",
        ),
    ];
    for (what, change, place) in cases {
        let mut value = extended();
        change(&mut value);
        assert_eq!(places(value.to_string().as_bytes()), [place], "{what}");
    }
}

#[test]
fn either_half_of_the_base_format_may_be_absent_where_the_other_format_has_it() {
    let without = |key: &str, other: &str| {
        let mut value = extended();
        let object = value.as_object_mut().expect("an object");
        object.remove(key);
        object.remove(other);
        places(value.to_string().as_bytes())
    };
    assert_eq!(without("listen", "listeners"), ["/listen"]);
    assert_eq!(without("listen", "none"), [""; 0]);
    // `listen` leads to the pool `default`, which nobody describes.
    assert_eq!(without("backends", "none"), ["/listen/pool"]);
    let mut value = extended();
    value["pools"]["default"] = value
        .as_object_mut()
        .expect("an object")
        .remove("backends")
        .map(|backends| json!({"backends": backends}))
        .expect("BASE has them");
    assert_eq!(places(value.to_string().as_bytes()), [""; 0]);
}

#[test]
fn unknown_keys_of_listeners_and_pools_are_named() {
    let mut value = extended();
    value["listeners"][0]["rotues"] = json!([]);
    value["listeners"][1]["udp_idel_ms"] = json!(1);
    value["pools"]["chat"]["split"] = json!({});
    value["pools"]["chat"]["idle_timeout_ms"] = json!(1);
    let unknown = check_value(&value).unknown_keys.0;
    let places: Vec<String> = unknown.into_iter().map(|fault| fault.place).collect();
    let mut right = [
        "/pools/chat/idle_timeout_ms",
        "/pools/chat/split",
        "/listeners/0/rotues",
        "/listeners/1/udp_idel_ms",
    ];
    let mut places: Vec<&str> = places.iter().map(String::as_str).collect();
    places.sort_unstable();
    right.sort_unstable();
    assert_eq!(places, right);
}

#[test]
fn reports_in_pools_are_not_in_the_digest_and_their_weights_are() {
    let digest = |change: fn(&mut Value)| {
        let mut value = extended();
        change(&mut value);
        check_value(&value).config_digest
    };
    let before = digest(|_| {});
    assert_eq!(
        before,
        digest(|v| v["pools"]["dns"]["backends"][0]["gpu_usage"] = json!(0.5))
    );
    assert_ne!(
        before,
        digest(|v| v["pools"]["dns"]["backends"][0]["weight"] = json!(5))
    );
    // What is called `backends` elsewhere is not one of these.
    assert_ne!(
        before,
        digest(|v| v["listeners"][0]["backends"] = json!([{"gpu_usage": 1}]))
    );
}

#[test]
fn the_base_format_counts_among_the_listeners_and_pools() {
    let listeners = |count: u16| -> Vec<Value> {
        let each = (0..count).map(|at| {
            json!({"name": format!("l{at}"), "host": "127.0.0.1", "port": 1000 + at, "pool": "p0"})
        });
        each.collect()
    };
    let pools = |count: u16| -> Value {
        let each = (0..count).map(|at| (format!("p{at}"), json!({"backends": []})));
        Value::Object(each.collect())
    };
    let of = |base: bool, count: u16| {
        let mut value = json!({"listeners": listeners(count), "pools": pools(count)});
        if base {
            value["listen"] = json!({"host": "127.0.0.1", "port": 80});
            value["backends"] = json!([]);
        }
        places(value.to_string().as_bytes())
    };
    assert_eq!(of(true, 1_023), [""; 0]);
    assert_eq!(of(false, 1_024), [""; 0]);
    assert_eq!(of(true, 1_024), ["/listeners", "/pools"]);
}

#[test]
fn a_key_that_is_null_is_an_absent_one() {
    let mut value = extended();
    value["pools"]["default"] = json!({"backends": []});
    for key in ["backends", "listen"] {
        value[key] = json!(null);
    }
    assert!(check_value(&value).unknown_keys.is_empty());
}

#[test]
fn control_characters_of_a_key_are_escaped() {
    let mut value = extended();
    value["listeners"][0]["a\u{1b}[31m"] = json!(1);
    let unknown = check_value(&value).unknown_keys.to_string();
    assert!(
        unknown.contains("/listeners/0/a\\u{1b}[31m: unknown key"),
        "{unknown}"
    );
}

#[test]
fn a_listener_may_have_several_addresses_and_be_switched_off() {
    let mut value = extended();
    value["listeners"][0]["host"] = json!(["10.0.0.1", "2001:db8::1"]);
    value["listeners"][1]["enabled"] = json!(false);
    let config = check_value(&value).config;
    let addrs: Vec<String> = config.listeners[1]
        .addrs()
        .map(|addr| addr.to_string())
        .collect();
    assert_eq!(addrs, ["10.0.0.1:8000", "[2001:db8::1]:8000"]);
    let enabled: Vec<bool> = config.listeners.iter().map(|one| one.enabled).collect();
    assert_eq!(enabled, [true, true, false]);
    let written = check_value(&config.to_json()).config;
    assert_eq!(written, config);
    for (host, place) in [
        (json!([]), "/listeners/0/host"),
        (json!(["10.0.0.1", "x"]), "/listeners/0/host/1"),
        (json!(["10.0.0.1", 7]), "/listeners/0/host/1"),
        (json!(vec!["10.0.0.1"; MAX_HOSTS + 1]), "/listeners/0/host"),
        (json!(["10.0.0.1", "10.0.0.1"]), "/listeners/0"),
    ] {
        value["listeners"][0]["host"] = host;
        assert_eq!(places(value.to_string().as_bytes()), [place]);
    }
    // What a disabled listener would take belongs to others.
    value["listeners"][0]["host"] = json!("0.0.0.0");
    value["listeners"][0]["port"] = json!(53);
    assert!(
        check_value(&value).config.listeners[1]
            .addrs()
            .any(|addr| addr.port() == 53)
    );
    value["listeners"][1]["enabled"] = json!(true);
    assert_eq!(places(value.to_string().as_bytes()), ["/listeners/1"]);
}

#[test]
fn one_of_all_addresses_beside_a_specific_one_is_refused() {
    let with = |hosts: [Value; 2]| {
        let mut value = extended();
        for (at, host) in hosts.into_iter().enumerate() {
            value["listeners"][at]["host"] = host;
            value["listeners"][at]["port"] = json!(7000);
            value["listeners"][at]["protocol"] = json!("tcp");
        }
        places(value.to_string().as_bytes())
    };
    let refused = ["/listeners/1"];
    for (one, other, are_apart) in [
        ("0.0.0.0", "10.0.0.1", false),
        ("10.0.0.1", "0.0.0.0", false),
        ("::", "10.0.0.1", false),
        ("::", "0.0.0.0", true),
        ("::", "2001:db8::1", false),
        ("10.0.0.1", "10.0.0.1", false),
        ("0.0.0.0", "2001:db8::1", true),
        ("10.0.0.1", "10.0.0.2", true),
    ] {
        let found = with([json!(one), json!(other)]);
        let right: &[&str] = if are_apart { &[] } else { &refused };
        assert_eq!(found, right, "{one} {other}");
    }
    assert_eq!(
        with([json!(["10.0.0.1", "::1"]), json!(["10.0.0.2", "::"])]),
        refused
    );
}
