//! What is written is read back the same, and what the proxy would refuse is left out.

use super::*;
use crate::layer::Layer;
use crate::own_addresses::{OwnAddresses, ProxyAddresses};
use contract::BackendAddr;
use contract::{Batch, Report};
use proptest::prelude::*;

fn backend(ip: [u8; 4], port: u16) -> Backend {
    Backend {
        addr: BackendAddr::new(ip.into(), port),
        weight: 10,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    }
}

fn plan(backends: Vec<Backend>) -> Plan {
    Plan {
        head: Layer::default().head(),
        pools: [(Name::default(), backends)].into(),
    }
}

fn of_default(plan: &Plan) -> &[Backend] {
    &plan.pools[&Name::default()]
}

fn own() -> OwnAddresses {
    OwnAddresses {
        control: vec!["0.0.0.0:8080".parse().expect("a literal")],
        local: LocalAddresses(vec![[192, 168, 7, 7].into()]),
        proxy: ProxyAddresses::default(),
    }
}

#[test]
fn the_rendered_file_has_the_base_keys_and_is_read_back_the_same() {
    let mut one = backend([10, 0, 0, 1], 9001);
    one.report.gpu_usage = Some(0.25);
    for plan in [plan(vec![one, backend([10, 0, 0, 2], 1)]), plan(vec![])] {
        let bytes = plan.render(7, 1_730_000_000);
        let checked = check(&bytes, &LocalAddresses::default()).expect("valid");
        assert!(checked.unknown_keys.is_empty());
        assert_eq!(checked.config.generation, Some(7));
        assert_eq!(checked.config.pools[0].backends, of_default(&plan));
        let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else {
            panic!("an object")
        };
        let keys: Vec<&str> = document.keys().map(String::as_str).collect();
        let base = [
            "listen",
            "algorithm",
            "updated_at",
            "generation",
            "backends",
        ];
        assert_eq!(keys, base, "optional keys only where they were set");
        assert_eq!(Layer::of_published(&document).head(), plan.head);
    }
}

#[test]
fn what_the_proxy_would_refuse_is_left_out_alone_and_named() {
    let backends = vec![
        backend([10, 0, 0, 1], 9001),
        backend([127, 0, 0, 1], 10080),
        backend([192, 168, 7, 7], 8080),
        backend([10, 0, 0, 2], 9001),
        backend([10, 0, 0, 1], 9001),
    ];
    let (fitted, left_out) = plan(backends).fit(&own()).expect("fits");
    let kept: Vec<String> = fitted.backends().map(|(key, _)| key.to_string()).collect();
    assert_eq!(kept, ["10.0.0.1:9001", "10.0.0.2:9001"]);
    let out: Vec<String> = left_out.iter().map(|out| out.key.to_string()).collect();
    assert_eq!(
        out,
        ["127.0.0.1:10080", "192.168.7.7:8080", "10.0.0.1:9001"]
    );
}

#[test]
fn a_backend_of_a_pool_that_is_not_defined_is_left_out_and_named() {
    let mut both = plan(vec![backend([10, 0, 0, 1], 9001)]);
    let chat = Name::new("chat").expect("a name");
    let same = vec![backend([10, 0, 0, 1], 9001), backend([127, 0, 0, 1], 10080)];
    both.pools.insert(chat, same);
    let alone = plan(vec![backend([10, 0, 0, 1], 9001)]);
    assert!(!both.has_same_state(&alone));
    let (fitted, left_out) = both.fit(&own()).expect("fits");
    assert!(fitted.has_same_state(&alone));
    assert_eq!(fitted.render(7, 8), alone.render(7, 8));
    let out: Vec<String> = { left_out.iter() }
        .map(|out| format!("{}: {}", out.key, out.why))
        .collect();
    let expected = [
        "chat/10.0.0.1:9001: no pool chat is defined".to_owned(),
        "chat/127.0.0.1:10080: it is the proxy's own listener 0.0.0.0:10080".to_owned(),
    ];
    assert_eq!(out, expected);
}

/// Two services beside `default`, with one address in two pools.
fn several() -> Plan {
    let layer = Layer::default().patched(
        json!({"proxy": {
            "idle_timeout_ms": 9,
            "listeners": [
                {"name": "dns", "host": "127.0.0.1", "port": 7001, "pool": "dns"},
                {"name": "chat", "host": "::1", "port": 7002, "pool": "chat", "protocol": "tcp"},
            ],
            "pools": {"chat": {"algorithm": "gpu_aware"}, "dns": {}},
        }})
        .as_object()
        .expect("an object"),
    );
    let mut plan = Plan::of_head(layer.expect("good").head());
    let name = |name| Name::new(name).expect("a name");
    let in_chat = Backend {
        weight: 3,
        ..backend([10, 0, 0, 1], 9001)
    };
    plan.pools = BTreeMap::from([
        (Name::default(), vec![backend([10, 0, 0, 1], 9001)]),
        (name("chat"), vec![in_chat, backend([10, 0, 0, 2], 9001)]),
        (name("dns"), vec![]),
    ]);
    plan
}

#[test]
fn several_services_are_written_in_the_extended_format_and_read_back_the_same() {
    let plan = several();
    let bytes = plan.render(7, 8);
    let text = String::from_utf8(bytes.clone()).expect("text");
    let checked = check(&bytes, &LocalAddresses::default()).expect(&text);
    assert!(checked.unknown_keys.is_empty());
    let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else {
        panic!("an object: {text}")
    };
    let pools = checked.config.pools.into_iter();
    let pools = pools.map(|pool| (pool.name, pool.backends)).collect();
    let head = Layer::of_published(&document).head();
    assert_eq!(Plan { head, pools }, plan);
    let lines = |start: &str| {
        let lines = text
            .lines()
            .filter(|line| line.trim_start().starts_with(start));
        lines.count()
    };
    assert_eq!((lines("{\"name\""), lines("{\"ip\"")), (2, 3), "{text}");
}

#[test]
fn each_place_of_the_file_is_one_listener_pool_or_backend() {
    let mut plan = several();
    for (place, key) in [
        ("/listen/port", Some("listen")),
        ("/listeners/0", Some("listeners/chat")),
        ("/listeners/1/port", Some("listeners/dns")),
        ("/listeners/2", None),
        ("/listeners", None),
        ("/pools/chat/algorithm", Some("pools/chat")),
        ("/pools/gone", None),
        ("/idle_timeout_ms", Some("idle_timeout_ms")),
        ("", None),
    ] {
        assert_eq!(plan.key_at(place).as_deref(), key, "{place}");
    }
    assert_eq!(plan.place_of("listeners/dns"), "/listeners/1");
    assert_eq!(plan.place_of("listen"), "/listen");
    let at = |place| plan.backend_at(place).map(|key| key.to_string());
    assert_eq!(
        at("/pools/chat/backends/1").as_deref(),
        Some("chat/10.0.0.2:9001")
    );
    assert_eq!(at("/backends/0").as_deref(), Some("10.0.0.1:9001"));
    // A value that is held back comes in where it stood.
    let before = plan.head.clone();
    for key in ["listeners/chat", "pools/chat", "listeners/dns"] {
        let value = plan.value(key).cloned();
        plan.set(key, None);
        plan.set(key, value.as_ref());
        assert_eq!(plan.head, before, "{key}");
    }
}

#[test]
fn in_each_pool_what_the_proxy_would_refuse_is_left_out_alone() {
    let mut plan = several();
    let chat = Name::new("chat").expect("a name");
    let own_listener = backend([127, 0, 0, 1], 7001);
    plan.pools
        .get_mut(&chat)
        .expect("there")
        .insert(0, own_listener);
    let multicast = backend([224, 0, 0, 1], 9001);
    plan.pools.get_mut(&chat).expect("there").push(multicast);
    let (fitted, left_out) = plan.fit(&own()).expect("fits");
    let out: Vec<String> = left_out.iter().map(|out| out.key.to_string()).collect();
    assert_eq!(out, ["chat/127.0.0.1:7001", "chat/224.0.0.1:9001"]);
    assert_eq!(fitted, several());
}

/// Good and bad ones: our own listeners, addresses that are none, batches by halves.
fn any_backend() -> impl Strategy<Value = Backend> {
    let ip = prop_oneof![
        Just([10, 0, 0, 1]),
        Just([10, 0, 0, 2]),
        Just([127, 0, 0, 1]),
        Just([192, 168, 7, 7]),
        Just([224, 0, 0, 1]),
        Just([0, 0, 0, 0]),
    ];
    let port = prop_oneof![Just(9001), Just(8080), Just(10080), Just(0)];
    let share = proptest::option::of(prop_oneof![0.0..=1.0, Just(7.0)]);
    (ip, port, 0u16..2000, any::<bool>(), share).prop_map(|(ip, port, weight, enabled, share)| {
        let mut one = backend(ip, port);
        (one.weight, one.enabled, one.report.gpu_usage) = (weight, enabled, share);
        one
    })
}

proptest! {
    #[test]
    fn whatever_is_merged_the_proxy_takes_what_is_published_and_the_rest_is_named(
        backends in proptest::collection::vec(any_backend(), 0..12),
        generation in any::<u64>(),
    ) {
        // As merge hands them over: each address once.
        let backends: BTreeMap<_, _> = backends.into_iter().map(|one| (one.addr, one)).collect();
        let merged = plan(backends.values().cloned().collect());
        let (fitted, left_out) = merged.fit(&own()).expect("the head is good");
        prop_assert_eq!(fitted.backends().count() + left_out.len(), backends.len());
        let checked = check(&fitted.render(generation, 1), &own().local);
        let config = checked.expect("the proxy takes it").config;
        prop_assert_eq!(config.generation, Some(generation));
        prop_assert_eq!(&config.pools[0].backends[..], of_default(&fitted));
        for out in &left_out {
            let alone = plan(vec![backends[&out.key.addr].clone()]);
            let (fitted, _) = alone.fit(&own()).expect("the head is good");
            prop_assert!(of_default(&fitted).is_empty(), "a good one was left out: {:?}", out);
        }
    }
}

#[test]
fn telemetry_alone_is_the_same_state_and_anything_else_is_not() {
    let before = plan(vec![backend([10, 0, 0, 1], 9001)]);
    let changed = |change: &dyn Fn(&mut Backend)| {
        let mut after = before.clone();
        change(&mut after.pools.get_mut(&Name::default()).expect("there")[0]);
        !before.has_same_state(&after)
    };
    assert!(!changed(&|b| b.report.vram_usage = Some(0.5)));
    assert!(changed(&|b| b.weight = 11));
    assert!(changed(&|b| b.enabled = false));
    assert!(changed(&|b| b.is_warming_up = true));
    let batch = Batch {
        max: 8,
        window_ms: 10,
    };
    assert!(changed(&|b| b.batch = Some(batch)));
    assert!(changed(&|b| b.report.heartbeat_ms = Some(1_000)));
    let mut after = before.clone();
    after.head[1].1 = "random".into();
    assert!(!before.has_same_state(&after));
    assert!(!before.has_same_state(&plan(vec![])));
}
