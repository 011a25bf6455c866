//! Listeners and pools in layers: merged by name, key by key.

use super::*;
use crate::layer::{Layer, Unusable};
use crate::render::Plan;
use contract::{Faults, LocalAddresses, check};
use proptest::prelude::*;
use serde_json::json;

fn map(value: Value) -> Keys {
    match value {
        Value::Object(map) => map,
        other => panic!("tests give objects, not {other}"),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn layer(proxy: Value) -> Layer {
    let patch = map(json!({ "proxy": proxy }));
    Layer::default().patched(&patch).expect("a good patch")
}

fn patched(layer: &Layer, proxy: Value) -> Layer {
    let patch = map(json!({ "proxy": proxy }));
    layer.patched(&patch).expect("a good patch")
}

fn of_head(layer: &Layer, key: &str) -> Value {
    let mut head = layer.head().into_iter();
    let found = head.find(|(own, _)| own == key);
    found.map_or(Value::Null, |(_, value)| value)
}

fn document(layer: &Layer) -> Keys {
    let bytes = Plan::of_head(layer.head()).render(1, 2);
    check(&bytes, &LocalAddresses::default()).expect("the proxy takes it");
    serde_json::from_slice(&bytes).expect("an object")
}

#[test]
fn layers_merge_by_name_and_the_upper_one_wins_key_by_key() {
    let file = layer(json!({
        "listeners": [
            {"name": "chat", "host": "127.0.0.1", "port": 7001, "pool": "chat", "max_sessions": 5},
            {"name": "dns", "host": "127.0.0.1", "port": 7002, "protocol": "udp"},
        ],
        "pools": {"chat": {"algorithm": "random", "slow_start_ms": 7}, "plain": {}},
    }));
    let api = layer(json!({
        "listeners": {"chat": {"port": 8001}, "code": {"host": "::1", "port": 7003, "pool": "code"}},
        "pools": {"chat": {"algorithm": "gpu_aware"}, "code": {}},
    }));
    let both = api.over(&file);
    let chat = json!({"host": "127.0.0.1", "port": 8001, "pool": "chat", "max_sessions": 5});
    assert_eq!(of_head(&both, "listeners/chat"), chat);
    let pool = json!({"algorithm": "gpu_aware", "slow_start_ms": 7});
    assert_eq!(of_head(&both, "pools/chat"), pool);
    let keys: Vec<String> = both.head().into_iter().map(|(key, _)| key).collect();
    let expected = [
        "listen",
        "algorithm",
        "listeners/chat",
        "listeners/code",
        "listeners/dns",
        "pools/chat",
        "pools/code",
        "pools/plain",
    ];
    assert_eq!(keys, expected);
    let document = document(&both);
    assert_eq!(document["listeners"][1]["name"], "code");
    assert_eq!(document["pools"]["code"], json!({"backends": []}));
    // What is written is read back, as a call, as a stored layer and as a published file.
    let json = map(both.to_json());
    assert_eq!(Layer::default().patched(&json).expect("it is good"), both);
    assert_eq!(Layer::of_published(&document).head(), both.head());
}

#[test]
fn null_clears_a_key_a_whole_listener_or_all_of_them() {
    let api = layer(json!({
        "listeners": [
            {"name": "a", "host": "127.0.0.1", "port": 7001, "max_flows": 5},
            {"name": "b", "host": "127.0.0.1", "port": 7002},
        ],
        "pools": {"chat": {"slow_start_ms": 7}},
    }));
    let one = patched(
        &api,
        json!({"listeners": [{"name": "a", "max_flows": null}]}),
    );
    let a = json!({"host": "127.0.0.1", "port": 7001});
    assert_eq!(of_head(&one, "listeners/a"), a);
    assert!(
        of_head(&one, "listeners/b").is_object(),
        "of which nothing was said"
    );
    let one = patched(&api, json!({"listeners": {"a": null}}));
    assert_eq!(of_head(&one, "listeners/a"), Value::Null);
    assert!(of_head(&one, "listeners/b").is_object());
    let keys = json!({"name": "a", "host": null, "port": null, "max_flows": null});
    assert_eq!(patched(&api, json!({"listeners": [keys]})), one);
    // A pool without settings is a pool with the defaults.
    let one = patched(&api, json!({"pools": {"chat": {"slow_start_ms": null}}}));
    assert_eq!(of_head(&one, "pools/chat"), json!({}));
    for all in [json!({"listeners": null, "pools": null}), Value::Null] {
        assert_eq!(patched(&api, all), Layer::default());
    }
}

#[test]
fn each_fault_is_named_by_its_place() {
    let listener = |more: Value| {
        let mut one = json!({"name": "a", "host": "127.0.0.1", "port": 7001});
        one.as_object_mut().expect("one").extend(map(more));
        json!({"listeners": [{"name": "good", "port": 1}, one]})
    };
    let cases = [
        (json!({"listeners": 7}), "/proxy/listeners"),
        (json!({"listeners": [7]}), "/proxy/listeners/0"),
        (json!({"listeners": [{"port": 1}]}), "/proxy/listeners/0"),
        (json!({"listeners": [{"name": "a"}]}), "/proxy/listeners/0"),
        (json!({"listeners": {"A": {}}}), "/proxy/listeners/A"),
        (listener(json!({"name": "Good"})), "/proxy/listeners/1"),
        (listener(json!({"name": "good"})), "/proxy/listeners/1"),
        (listener(json!({"port": 0})), "/proxy/listeners/1/port"),
        (listener(json!({"host": "a"})), "/proxy/listeners/1/host"),
        (
            listener(json!({"protocol": "sctp"})),
            "/proxy/listeners/1/protocol",
        ),
        (listener(json!({"pool": 7})), "/proxy/listeners/1/pool"),
        (
            listener(json!({"algorithm": "random"})),
            "/proxy/listeners/1/algorithm",
        ),
        (
            listener(json!({"max_sesions": 1})),
            "/proxy/listeners/1/max_sesions",
        ),
        (json!({"pools": []}), "/proxy/pools"),
        (json!({"pools": {"chat": 1}}), "/proxy/pools/chat"),
        (json!({"pools": {"9": {}}}), "/proxy/pools/9"),
        (
            json!({"pools": {"chat": {"backends": []}}}),
            "/proxy/pools/chat/backends",
        ),
        (
            json!({"pools": {"chat": {"algorithm": "x"}}}),
            "/proxy/pools/chat/algorithm",
        ),
        (
            json!({"pools": {"chat": {"udp_idle_ms": 1}}}),
            "/proxy/pools/chat/udp_idle_ms",
        ),
        (
            json!({"pools": {"chat": {"health": {"rise": 0}}}}),
            "/proxy/pools/chat/health/rise",
        ),
        // A name beside the key would rename what the key means.
        (
            json!({"listeners": {"a": {"name": "b", "port": 1}}}),
            "/proxy/listeners/a/name",
        ),
        (
            json!({"listeners": {"a": {"name": null, "port": 1}}}),
            "/proxy/listeners/a/name",
        ),
        (
            json!({"pools": {"chat": {"name": "talk"}}}),
            "/proxy/pools/chat/name",
        ),
        (
            json!({"pools": {"chat": {"name": "chat"}}}),
            "/proxy/pools/chat/name",
        ),
        // `listen` says where the listener default is.
        (
            json!({"listeners": {"default": {"host": "127.0.0.1"}}}),
            "/proxy/listeners/default/host",
        ),
        (
            json!({"listeners": [{"name": "default", "port": null}]}),
            "/proxy/listeners/0/port",
        ),
        (
            json!({"listeners": {"default": {"protocol": "udp", "max_flows": 1}}}),
            "/proxy/listeners/default/protocol",
        ),
        // Clearing what does not exist is a misspelling, too.
        (json!({"no_such_key": null}), "/proxy/no_such_key"),
        (
            listener(json!({"max_sesions": null})),
            "/proxy/listeners/1/max_sesions",
        ),
        (
            json!({"pools": {"chat": {"slow_start": null}}}),
            "/proxy/pools/chat/slow_start",
        ),
        (
            json!({"pools": {"chat": {"backends": null}}}),
            "/proxy/pools/chat/backends",
        ),
    ];
    for (proxy, place) in cases {
        let patch = map(json!({ "proxy": proxy }));
        let faults = Layer::default().patched(&patch).expect_err(place);
        let places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, [place], "{faults}");
    }
}

#[test]
fn a_listener_that_the_layers_do_not_make_is_left_out_alone_and_named() {
    let layers = layer(json!({
        "listeners": [
            {"name": "a", "host": "127.0.0.1", "port": 7001},
            {"name": "b", "host": "127.0.0.1", "port": 7001},
            {"name": "c", "max_flows": 5},
            {"name": "d", "host": "127.0.0.1", "port": 7004, "pool": "gone"},
        ],
    }));
    let (head, unusable) = layers.usable_head();
    let plan = Plan::of_head(head);
    let keys: Vec<String> = plan.listening().into_iter().map(|one| one.key).collect();
    assert_eq!(keys, ["listen", "listeners/a"]);
    let mut why: Vec<String> = unusable
        .into_iter()
        .map(|Unusable { name, why, .. }| format!("{name} {}", why.split(' ').next().unwrap_or("")))
        .collect();
    why.sort();
    let expected = [
        "b /listeners/b:",
        "c /listeners/c/host",
        "d /listeners/d/pool:",
    ];
    assert_eq!(why, expected);
    assert!(plan.check(&LocalAddresses::default()).is_ok());
}

#[test]
fn the_listener_default_may_be_off_where_there_is_another() {
    let off = map(json!({"listen": {"tcp": false, "udp": false}}));
    let alone = Layer::default().patched(&off).expect("words alone");
    let plan = Plan::of_head(alone.head());
    assert!(plan.check(&LocalAddresses::default()).is_err());
    let chat = json!({"listeners": [{"name": "chat", "host": "127.0.0.1", "port": 7001}]});
    let document = document(&patched(&alone, chat));
    assert_eq!(document.get("listen"), None);
    let again = Layer::of_published(&document);
    assert_eq!(
        again.to_json()["listen"],
        json!({"tcp": false, "udp": false})
    );
    assert_eq!(again.in_full()["listen"]["udp"], false);
}

#[test]
fn the_listener_and_the_pool_default_may_have_settings_of_their_own() {
    let mut own = map(json!({"listen": {"port": 7000, "udp": false}}));
    let proxy = json!({
        "listeners": [{"name": "default", "max_sessions": 9}],
        "pools": {"default": {"algorithm": "random"}},
    });
    own.insert("proxy".to_owned(), proxy);
    let layer = Layer::default().patched(&own).expect("good");
    let document = document(&layer);
    let expected = json!([{
        "name": "default", "host": "0.0.0.0", "port": 7000, "protocol": "tcp", "max_sessions": 9,
    }]);
    assert_eq!(document["listeners"], expected);
    assert_eq!(document.get("listen").or(document.get("backends")), None);
    assert_eq!(document["pools"]["default"]["algorithm"], "random");
    let asked = layer.asked(&map(json!({"listen": {"port": 7000}})));
    assert!(asked.contains_key("listeners/default"), "{asked:?}");
}

#[test]
fn in_full_each_listener_and_pool_has_every_value() {
    let layer = layer(json!({
        "idle_timeout_ms": 5,
        "listeners": [{"name": "chat", "host": "127.0.0.1", "port": 7001, "pool": "chat"}],
        "pools": {"chat": {"algorithm": "random"}},
    }));
    let full = layer.in_full();
    let listeners = full["proxy"]["listeners"].as_array().expect("an array");
    assert_eq!(listeners.len(), 1, "default stands in listen");
    assert_eq!(listeners[0]["idle_timeout_ms"], 5);
    assert_eq!(listeners[0]["protocol"], "tcp+udp");
    let pools = full["proxy"]["pools"].as_object().expect("an object");
    assert_eq!(pools.len(), 1);
    assert_eq!(pools["chat"]["algorithm"], "random");
    assert_eq!(pools["chat"]["connect_attempts"], 4);
    assert_eq!(pools["chat"].get("backends"), None);
    assert_eq!(full["listen"]["port"], 10080);
}

#[test]
fn a_call_is_taken_back_by_listener_and_pool() {
    let old = layer(json!({"pools": {"a": {"slow_start_ms": 1}}}));
    let new = patched(
        &old,
        json!({
            "pools": {"a": {"slow_start_ms": 2}, "b": {}},
            "listeners": [{"name": "l", "host": "127.0.0.1", "port": 7001, "pool": "b"}],
        }),
    );
    assert_eq!(new.taken_back(&old, &new), old);
    // What a later call has changed stays.
    let later = patched(&new, json!({"pools": {"a": {"slow_start_ms": 3}}}));
    let back = later.taken_back(&old, &new);
    assert_eq!(of_head(&back, "pools/a"), json!({"slow_start_ms": 3}));
    assert_eq!(of_head(&back, "listeners/l"), Value::Null);
    let changed: Vec<String> = old.differing(&new).into_iter().collect();
    assert_eq!(changed, ["listeners/l", "pools/a", "pools/b"]);
}

#[test]
fn a_published_listener_default_is_read_into_listen() {
    for (protocol, tcp, udp) in [
        ("tcp", Value::Null, json!(false)),
        ("udp", json!(false), Value::Null),
        ("tcp+udp", Value::Null, Value::Null),
    ] {
        let published = map(json!({
            "listeners": [
                {"name": "default", "host": "127.0.0.1", "port": 7009, "protocol": protocol,
                 "max_sessions": 9},
                {"name": "a", "host": "127.0.0.1", "port": 7001},
            ],
            "pools": {"default": {"backends": []}},
        }));
        let read = Layer::of_published(&published);
        assert_eq!(read.listen().port(), 7009);
        let json = read.to_json();
        assert_eq!(
            [&json["listen"]["tcp"], &json["listen"]["udp"]],
            [&tcp, &udp]
        );
        assert_eq!(
            json["proxy"]["listeners"][1],
            json!({"name": "default", "max_sessions": 9})
        );
        let again = Layer::default()
            .patched(&map(json))
            .expect("it is read back");
        assert_eq!(again, read);
        let full = map(read.in_full());
        Layer::default()
            .patched(&full)
            .expect("and so is what is in force");
        let listener = &document(&read)["listeners"][1];
        assert_eq!(
            [&listener["name"], &listener["port"]],
            [&json!("default"), &json!(7009)]
        );
        // Off is off, whatever else is set for it.
        let off = map(json!({"listen": {"tcp": false, "udp": false}}));
        let off = document(&read.patched(&off).expect("another serves"));
        assert_eq!(
            off["listeners"].as_array().map(Vec::len),
            Some(1),
            "{off:?}"
        );
    }
}

#[test]
fn of_a_published_file_only_what_the_settings_file_does_not_say_is_kept() {
    let file = layer(json!({
        "connect_attempts": 3,
        "listeners": [{"name": "a", "host": "127.0.0.1", "port": 7001, "max_flows": 5}],
        "pools": {"plain": {}, "chat": {"slow_start_ms": 7}},
    }));
    let published = |layer: &Layer| Layer::of_published(&document(layer));
    assert_eq!(published(&file).unlike(&file), Layer::default());
    let by_api = json!({
        "algorithm": "random", "listen": {"port": 7000, "udp": false},
        "proxy": {
            "connect_attempts": 2,
            "listeners": [{"name": "a", "port": 7002}, {"name": "b", "host": "::1", "port": 7003}],
            "pools": {"chat": {"connect_attempts": 2}, "new": {}},
        },
    });
    let by_api = Layer::default().patched(&map(by_api)).expect("good");
    let both = by_api.over(&file);
    assert_eq!(published(&both).unlike(&file), by_api);
}

/// Listeners and pools of a few names with a few keys, good alone.
fn any_proxy() -> impl Strategy<Value = Value> {
    let value = |key: &'static str, most: u64| {
        proptest::option::of(1..most).prop_map(move |value| (key, value))
    };
    let listener = (
        value("port", 4),
        value("max_flows", 3),
        value("udp_idle_ms", 3),
    );
    let pool = (value("slow_start_ms", 3), value("connect_attempts", 3));
    let name = "[abc]";
    let keys = |parts: Vec<(&'static str, Option<u64>)>| {
        let set = parts.into_iter();
        let set = set.filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
        Value::Object(set.collect())
    };
    let listeners = proptest::collection::btree_map(name, listener, 0..4);
    let pools = proptest::collection::btree_map(name, pool, 0..4);
    (listeners, pools).prop_map(move |(listeners, pools)| {
        let listeners = listeners.into_iter();
        let listeners = listeners.map(|(name, (a, b, c))| (name, keys(vec![a, b, c])));
        let listeners: Keys = listeners
            .filter(|(_, keys)| keys.as_object().is_some_and(|keys| !keys.is_empty()))
            .collect();
        let pools = pools.into_iter();
        let pools: Keys = pools
            .map(|(name, (a, b))| (name, keys(vec![a, b])))
            .collect();
        json!({ "listeners": listeners, "pools": pools })
    })
}

proptest! {
    #[test]
    fn each_key_comes_from_the_uppermost_layer_that_has_it(
        above in any_proxy(), below in any_proxy(),
    ) {
        let both = layer(above.clone()).over(&layer(below.clone()));
        let merged = |kind: Kind, name: &str, key: &str| {
            both.services().get(kind, &Name::new(name)?)?.get(key).cloned()
        };
        for (kind, key) in [
            (Kind::Listener, "port"), (Kind::Listener, "max_flows"), (Kind::Listener, "udp_idle_ms"),
            (Kind::Pool, "slow_start_ms"), (Kind::Pool, "connect_attempts"),
        ] {
            for name in ["a", "b", "c"] {
                let said = |of: &Value| of[kind.word()][name].get(key).cloned();
                prop_assert_eq!(merged(kind, name, key), said(&above).or_else(|| said(&below)));
            }
        }
        for name in ["a", "b", "c"] {
            let is_there = both.services().get(Kind::Pool, &Name::new(name).expect("a name")).is_some();
            let is_said = [&above, &below].iter().any(|of| of["pools"].get(name).is_some());
            prop_assert_eq!(is_there, is_said);
        }
    }

    #[test]
    fn the_patch_between_two_layers_leads_from_one_to_the_other(
        from in any_proxy(), to in any_proxy(),
    ) {
        let (from, to) = (layer(from), layer(to));
        let of = |layer: &Layer| layer.to_json()["proxy"].as_object().cloned().unwrap_or_default();
        let mut patch = Map::new();
        between(&of(&from), &of(&to), &mut patch);
        prop_assert_eq!(patch.is_empty(), from == to);
        prop_assert_eq!(patched(&from, patch.into()), to);
    }

    #[test]
    fn whatever_the_layers_say_the_proxy_takes_the_usable_head(
        above in any_proxy(), below in any_proxy(),
    ) {
        let both = layer(above).over(&layer(below));
        let (head, unusable) = both.usable_head();
        let plan = Plan::of_head(head);
        prop_assert!(plan.check(&LocalAddresses::default()).is_ok());
        let listed = both.head().iter().filter(|(key, _)| part(key).is_some()).count();
        let usable = plan.head.iter().filter(|(key, _)| part(key).is_some()).count();
        prop_assert_eq!(usable + unusable.len(), listed);
    }
}

#[test]
fn what_says_where_a_listener_leads_takes_the_place_of_what_said_so_below() {
    let below = layer(json!({
        "listeners": [{"name": "l", "host": "127.0.0.1", "port": 1, "protocol": "tcp", "split": {"a": 9, "b": 1},
                       "split_by": "source"}],
        "pools": {"a": {}, "b": {}},
    }));
    let listener = |above: Value| -> Value {
        let above = layer(json!({"listeners": {"l": above}}));
        let services = above.services().over(below.services());
        let keys = services
            .get(Kind::Listener, &name("l"))
            .expect("it is there");
        let target = ["pool", "split", "split_by", "routes"].into_iter();
        let target = target.filter_map(|key| Some((key.to_owned(), keys.get(key)?.clone())));
        Value::Object(target.collect())
    };
    let routes = json!([{"sni": ["a.example"], "pool": "a"}, {"pool": "b"}]);
    for (above, right) in [
        (
            json!({"port": 2}),
            json!({"split": {"a": 9, "b": 1}, "split_by": "source"}),
        ),
        (json!({"pool": "a"}), json!({"pool": "a"})),
        (json!({"split": {"a": 1}}), json!({"split": {"a": 1}})),
        (
            json!({"split_by": "turn"}),
            json!({"split": {"a": 9, "b": 1}, "split_by": "turn"}),
        ),
        (json!({"routes": routes}), json!({"routes": routes})),
    ] {
        assert_eq!(listener(above.clone()), right, "{above}");
    }
    let plan = Plan::of_head(below.head());
    let listening = plan.listening();
    let led = listening
        .iter()
        .find(|one| one.name == name("l"))
        .expect("it listens");
    assert_eq!(led.pools, ["a", "b"]);
}

#[test]
fn a_listener_listens_at_each_of_its_addresses_unless_it_is_off() {
    let layer = layer(json!({
        "listeners": [
            {"name": "a", "host": ["127.0.0.1", "::1"], "port": 1},
            {"name": "b", "host": "127.0.0.2", "port": 1, "enabled": false},
        ],
    }));
    let plan = Plan::of_head(layer.head());
    assert!(plan.check(&LocalAddresses::default()).is_ok());
    let listening = plan.listening().into_iter();
    let listening = listening.filter(|one| one.name != Name::default());
    let addrs: Vec<String> = listening.map(|one| one.addr.to_string()).collect();
    assert_eq!(addrs, ["127.0.0.1:1", "[::1]:1"]);
}

#[test]
fn faults_of_routes_and_splits_have_their_places() {
    let places = |listener: Value| -> Vec<String> {
        let mut listener = listener;
        let address = json!({"name": "l", "host": "127.0.0.1", "port": 1});
        listener
            .as_object_mut()
            .expect("an object")
            .extend(map(address));
        let mut faults = Faults::default();
        let object = map(json!({"listeners": [listener]}));
        Patch::read(&object, "", &mut faults);
        faults.0.into_iter().map(|fault| fault.place).collect()
    };
    assert_eq!(places(json!({"split": {"a": 0}})), ["/listeners/0/split"]);
    assert_eq!(
        places(json!({"split_by": "source"})),
        [""; 0],
        "of a split below"
    );
    assert_eq!(
        places(json!({"routes": [{"sni": ["a.example"], "pool": "x"}]})),
        [""; 0]
    );
    assert_eq!(
        places(json!({"routes": [{"sni": ["*"], "pool": "x"}]})),
        ["/listeners/0/routes/0/sni/0"]
    );
    assert_eq!(
        places(json!({"routes": [{"pool": "x"}], "protocol": "udp"})),
        ["/listeners/0/routes"]
    );
}

#[test]
fn what_stands_in_place_of_a_list_of_backends_is_named() {
    for (found, expected) in [
        (json!([]), "a list of backends"),
        (json!(null), "null"),
        (json!(5), "5"),
    ] {
        let keys = json!({ "backends": found });
        let keys = keys.as_object().expect("an object");
        let name = Name::new("chat").expect("a name");
        let faults = super::entry::faults_of(Kind::Pool, &name, keys, "/pools/chat");
        let said: Vec<&str> = faults.0.iter().map(|fault| fault.found.as_str()).collect();
        assert_eq!(said, [expected]);
    }
}
