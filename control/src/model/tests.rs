//! Each mutation, what it changes and when it is refused.

use super::*;
use crate::auth::SecretHash;
use crate::base::lower;
use crate::base::tests::{key, key_in};
use crate::calls::OnRefusal;
use crate::calls::SettingsCall;
use crate::merge::RowState;
use crate::own_addresses::ProxyAddresses;
use crate::registry::{OverrideChange, Remover};
use crate::settings::Settings;
use contract::LocalAddresses;

const NOW: Now = Now {
    monotonic_ms: 0,
    listened_ms: 0,
    unix_ms: 1_730_000_000_000,
};

fn register(key: BackendKey) -> Mutation {
    Mutation::Register(Registration::of(key))
}

/// Discovery knows 10.0.0.1, nothing else is known.
pub fn model() -> Model {
    let said = Said::nothing_of(key(1));
    Model {
        registry: Registry::default(),
        discovered: vec![Discovered::of("k8s", [(key(1), said)].into())],
        statics: Arc::default(),
        runtime_settings: Layer::default(),
        pending: Vec::new(),
        base_settings: Layer::default(),
        revision: 0,
        edits: 0,
        max_registrations: 3,
        policy: ExpiryPolicy {
            ttl_ms: 15_000,
            warmup_ms: 0,
            freeze: true,
        },
        own: OwnAddresses {
            control: vec!["0.0.0.0:8080".parse().expect("a literal")],
            local: LocalAddresses::default(),
            proxy: ProxyAddresses::default(),
        },
        kept: Vec::new(),
        warnings: Vec::new(),
    }
}

fn call(patch: serde_json::Map<String, Value>) -> SettingsCall {
    SettingsCall {
        note: None,
        roll_back: None,
        id: 1,
        patch,
        on_refusal: OnRefusal::RollBack,
        if_revision: None,
    }
}

fn weight(model: &Model, key: &BackendKey) -> Option<u16> {
    let rows = model.rows();
    let row = rows.iter().find(|row| row.key == *key)?;
    Some(row.backend.weight)
}

#[test]
fn a_weight_edit_of_a_discovered_backend_holds_and_can_be_cleared() {
    let mut model = model();
    let set = Mutation::SetOverride(key(1), OverrideChange::Weight(77));
    let change = model.apply(&set, "op", NOW).expect("known");
    assert_eq!(change.new["override"]["weight"], json!(77));
    assert_eq!(change.old, Value::Null);
    assert_eq!(weight(&model, &key(1)), Some(77));
    let clear = Mutation::ClearOverride(key(1));
    assert_eq!(
        model.apply(&clear, "op", NOW).expect("known").effect,
        Effect::State
    );
    assert_eq!(weight(&model, &key(1)), Some(10));
    let again = model.apply(&clear, "op", NOW).expect("known");
    assert_eq!(again.effect, Effect::Unchanged);
}

#[test]
fn heartbeats_that_come_while_an_edit_is_stored_stay() {
    let later = Now {
        monotonic_ms: 14_000,
        listened_ms: 14_000,
        ..NOW
    };
    for edit in [
        Mutation::SetOverride(key(2), OverrideChange::Weight(7)),
        Mutation::ClearOverride(key(2)),
    ] {
        let mut model = model();
        model.apply(&register(key(2)), "2", NOW).expect("free");
        let drain = Mutation::SetOverride(key(2), OverrideChange::Drain(true));
        model.apply(&drain, "op", NOW).expect("known");
        let mut staged = model.clone();
        staged.apply(&edit, "op", NOW).expect("known");
        let beat = model
            .registry
            .heartbeat(&Registration::of(key(2)), later, model.policy);
        assert_eq!(beat, Some(Effect::Unchanged));
        let said = staged.registry.entries[&key(2)].r#override.clone();
        model.take_over(staged, [&edit].into_iter());
        let entry = &model.registry.entries[&key(2)];
        assert_eq!(entry.r#override, said, "{edit:?}");
        let heard = entry.registered.as_ref().expect("registered").heard_at_ms;
        assert_eq!(heard, later.monotonic_ms, "{edit:?}");
    }
}

#[test]
fn what_is_taken_over_is_what_was_staged() {
    let mut model = model();
    let clear = Mutation::ClearOverride(key(1));
    for mutation in [
        register(key(2)),
        Mutation::SetOverride(key(1), OverrideChange::Weight(3)),
        Mutation::Unregister(key(2), Remover::Operator),
        clear,
    ] {
        let mut staged = model.clone();
        staged.apply(&mutation, "op", NOW).expect("known");
        let (entries, edits) = (staged.registry.entries.clone(), staged.edits);
        model.take_over(staged, [&mutation].into_iter());
        assert_eq!((&model.registry.entries, model.edits), (&entries, edits));
    }
}

#[test]
fn settings_that_do_not_go_together_are_refused_together_or_one_after_the_other() {
    let mut model = model();
    let settings = |value: Value| match value {
        Value::Object(map) => Mutation::ChangeSettings(call(map)),
        other => panic!("tests give objects, not {other}"),
    };
    let both = settings(json!({ "listen": { "tcp": false, "udp": false } }));
    let tcp = settings(json!({ "listen": { "tcp": false } }));
    let udp = settings(json!({ "listen": { "udp": false } }));
    assert!(matches!(
        model.apply(&both, "op", NOW),
        Err(Refusal::Faults(_))
    ));
    model.apply(&tcp, "op", NOW).expect("UDP is left");
    let stands = model.runtime_settings.clone();
    let refusal = model.apply(&udp, "op", NOW).expect_err("nothing is left");
    assert!(refusal.to_string().contains("/listen"), "{refusal}");
    assert_eq!(model.runtime_settings, stands);
}

#[test]
fn what_nobody_knows_is_refused() {
    let mut model = model();
    let set = Mutation::SetOverride(key(9), OverrideChange::Weight(77));
    assert!(matches!(
        model.apply(&set, "op", NOW),
        Err(Refusal::UnknownBackend(_))
    ));
    let clear = Mutation::ClearOverride(key(9));
    assert!(matches!(
        model.apply(&clear, "op", NOW),
        Err(Refusal::UnknownBackend(_))
    ));
    for not_registered in [key(9), key(1)] {
        let gone = Mutation::Unregister(not_registered, Remover::Operator);
        let refused = model.apply(&gone, "op", NOW);
        assert!(matches!(refused, Err(Refusal::NotRegistered(_))));
    }
    let acknowledge = Mutation::AcknowledgeExpiry;
    assert!(matches!(
        model.apply(&acknowledge, "op", NOW),
        Err(Refusal::NoFreeze)
    ));
    assert!(model.registry.entries.is_empty());
}

#[test]
fn our_own_addresses_cannot_register() {
    let mut model = model();
    let loopback = |port| lower(BackendAddr::new([127, 0, 0, 1].into(), port));
    for port in [10080, 8080] {
        let refused = model.apply(&register(loopback(port)), "op", NOW);
        assert!(matches!(refused, Err(Refusal::Faults(_))), "{port}");
    }
    model
        .apply(&register(loopback(9001)), "op", NOW)
        .expect("another port");
}

#[test]
fn a_carried_backend_can_be_dropped_and_a_discovered_one_cannot() {
    let mut model = model();
    Arc::make_mut(&mut model.discovered[0].listing).is_carried = true;
    let gone = Mutation::Unregister(key(1), Remover::Operator);
    assert!(model.apply(&gone, "op", NOW).is_ok());
    assert_eq!(weight(&model, &key(1)), None);
}

#[test]
fn settings_by_api_stand_above_the_base_and_bad_ones_change_nothing() {
    let mut model = model();
    let change = |value: Value| match value {
        Value::Object(map) => Mutation::ChangeSettings(call(map)),
        _ => unreachable!("tests give objects"),
    };
    let good = change(json!({"algorithm": "random", "listen": {"port": 7000}}));
    model.apply(&good, "op", NOW).expect("good");
    assert_eq!(model.settings().listen().port(), 7000);
    let bad = change(json!({"algorithm": "fastest", "listen": {"port": 7001}}));
    assert!(matches!(
        model.apply(&bad, "op", NOW),
        Err(Refusal::Faults(_))
    ));
    assert_eq!(model.settings().listen().port(), 7000);
}

fn registered_with(last: u8, owner: Option<&str>) -> Mutation {
    Mutation::Register(Registration {
        owner: owner.map(SecretHash::of),
        ..Registration::of(key(last))
    })
}

#[test]
fn what_has_an_owner_is_refreshed_and_removed_by_its_owner_alone() {
    let mut model = model();
    let apply = |model: &mut Model, mutation: &Mutation| model.apply(mutation, "op", NOW);
    let owned = registered_with(1, Some("secret"));
    apply(&mut model, &owned).expect("nobody has it yet");
    apply(&mut model, &owned).expect("its own");
    let remove = |shown: Option<&str>| {
        let remover = Remover::Backend(shown.map(SecretHash::of));
        Mutation::Unregister(key(1), remover)
    };
    for foreign in [
        registered_with(1, Some("other")),
        registered_with(1, None),
        remove(Some("other")),
        remove(None),
    ] {
        let refused = apply(&mut model, &foreign);
        assert!(matches!(refused, Err(Refusal::NotOwner(_))), "{foreign:?}");
    }
    apply(&mut model, &remove(Some("secret"))).expect("its own");
    apply(&mut model, &registered_with(1, None)).expect("free again");

    // What a base client registered stays its own, and anybody's to remove, as ever.
    let claimed = apply(&mut model, &owned);
    assert!(matches!(claimed, Err(Refusal::HasNoOwner(_))));
    apply(&mut model, &registered_with(1, None)).expect("refreshed");
    apply(&mut model, &remove(None)).expect("removed");
    apply(&mut model, &owned).expect("registered");
    let by_operator = Mutation::Unregister(key(1), Remover::Operator);
    apply(&mut model, &by_operator).expect("an operator may");
}

#[test]
fn an_owner_keeps_an_expired_registration_and_takes_over_an_expired_one_without() {
    let mut model = model();
    for mutation in [registered_with(1, Some("secret")), registered_with(2, None)] {
        model.apply(&mutation, "op", NOW).expect("new");
    }
    let later = Now {
        monotonic_ms: NOW.monotonic_ms + model.policy.ttl_ms,
        listened_ms: NOW.monotonic_ms + model.policy.ttl_ms,
        ..NOW
    };
    let policy = model.policy;
    assert_eq!(model.registry.pass(later, policy).len(), 2, "both expire");
    let base = model.apply(&registered_with(1, None), "op", later);
    assert!(matches!(base, Err(Refusal::NotOwner(_))));
    for mutation in [
        registered_with(1, Some("secret")),
        registered_with(2, Some("secret")),
    ] {
        model
            .apply(&mutation, "op", later)
            .expect("its own, or nobody's");
    }
}

#[test]
fn registrations_are_bounded_in_number() {
    let mut model = model();
    for last in 1..=3 {
        let mutation = registered_with(last, None);
        model.apply(&mutation, "op", NOW).expect("room");
    }
    let refused = model.apply(&registered_with(4, None), "op", NOW);
    assert!(matches!(refused, Err(Refusal::TooMany(3))));
    model
        .apply(&registered_with(3, None), "op", NOW)
        .expect("no new one");
    let gone = Mutation::Unregister(key(3), Remover::Operator);
    model.apply(&gone, "op", NOW).expect("removed");
    model
        .apply(&registered_with(4, None), "op", NOW)
        .expect("room again");
}

#[test]
fn one_address_in_two_pools_has_two_registrations_and_two_overrides() {
    let mut model = model();
    let (one, two) = (key(2), key_in("chat", 2));
    for (key, owner) in [(&one, "one"), (&two, "two")] {
        let said = Registration {
            owner: Some(SecretHash::of(owner)),
            ..Registration::of(key.clone())
        };
        let change = model.apply(&Mutation::Register(said), "op", NOW);
        assert_eq!(change.expect("new").effect, Effect::State, "{key}");
    }
    for (key, set) in [(&one, 7), (&two, 70)] {
        let set = Mutation::SetOverride(key.clone(), OverrideChange::Weight(set));
        let mut staged = model.clone();
        staged.apply(&set, "op", NOW).expect("known");
        model.take_over(staged, [&set].into_iter());
        assert_eq!(set.target(), key.to_string());
    }
    let weights = |model: &Model| [weight(model, &one), weight(model, &two)];
    assert_eq!(weights(&model), [Some(7), Some(70)]);
    let published = model.plan(&model.rows());
    let planned: Vec<_> = published.backends().map(|(key, _)| key).collect();
    assert_eq!(planned, [two.clone(), key(1), one.clone()]);

    let clear = Mutation::ClearOverride(one.clone());
    model.apply(&clear, "op", NOW).expect("known");
    assert_eq!(weights(&model), [Some(10), Some(70)]);
    let foreign = Remover::Backend(Some(SecretHash::of("one")));
    let refused = model.apply(&Mutation::Unregister(two.clone(), foreign), "op", NOW);
    assert!(matches!(refused, Err(Refusal::NotOwner(key)) if key == two));
    let gone = Mutation::Unregister(two.clone(), Remover::Operator);
    model.apply(&gone, "op", NOW).expect("registered");
    assert_eq!(weights(&model), [Some(10), None]);
    assert!(!model.knows(&two) && model.knows(&one));
}

#[test]
fn a_backend_that_is_listed_in_one_pool_is_unknown_in_another() {
    let mut model = model();
    let elsewhere = key_in("chat", 1);
    let set = Mutation::SetOverride(elsewhere.clone(), OverrideChange::Drain(true));
    let refused = model.apply(&set, "op", NOW);
    assert!(matches!(refused, Err(Refusal::UnknownBackend(key)) if key == elsewhere));
    let listed = Said {
        weight: Some(3),
        ..Said::nothing_of(elsewhere.clone())
    };
    model
        .apply(&Mutation::SetStatic(listed), "op", NOW)
        .expect("room");
    model
        .apply(&set, "op", NOW)
        .expect("now it is listed there");
    let drained = |key: &BackendKey| {
        let rows = model.rows();
        let row = rows.iter().find(|row| row.key == *key).expect("listed");
        let source = row.source().to_owned();
        (row.is_drained(), row.backend.weight, source)
    };
    assert_eq!(drained(&key(1)), (false, 10, "k8s".to_owned()));
    assert_eq!(drained(&elsewhere), (true, 3, "runtime".to_owned()));
    let gone = Mutation::RemoveStatic(key(1));
    let refused = model.apply(&gone, "op", NOW);
    assert!(matches!(refused, Err(Refusal::NotStatic(_))));
}

#[test]
fn a_file_whose_listener_is_at_an_address_of_control_is_refused_with_its_place() {
    let root = contract::Root("r".into());
    let file = |proxy: Value| {
        let bytes = json!({ "proxy": proxy }).to_string();
        Settings::read(Some(bytes.as_bytes()), &root).expect("good alone")
    };
    let mut model = model();
    let at = |port: u16| json!({ "chat": { "host": "127.0.0.1", "port": port } });
    let faults = model.configure(&file(json!({ "listeners": at(8080) })));
    let faults = faults.expect_err("control listens there");
    assert_eq!(faults.0[0].place, "/proxy/listeners/chat", "{faults}");
    assert!(
        model.base_settings.services().is_empty(),
        "nothing has changed"
    );
    let good = file(json!({ "listeners": at(8081), "pools": { "p": {} } }));
    model.configure(&good).expect("good");
    // What a new file changes is blamed, and not what it leaves as it is.
    let mut second = at(8081);
    second["a"] = second["chat"].clone();
    let faults = model.configure(&file(json!({ "listeners": second, "pools": { "p": {} } })));
    let faults = faults.expect_err("the address is taken");
    assert_eq!(faults.0[0].place, "/proxy/listeners/a", "{faults}");
}

#[test]
fn a_probe_that_would_reach_the_proxy_itself_is_refused_in_a_call() {
    let call = |pool: &str, port: u16| {
        let health = json!({ "health": { "port": port } });
        let proxy = match pool {
            "" => health,
            pool => json!({ "pools": { pool: health } }),
        };
        let patch = json!({ "listen": { "host": "10.0.0.1", "port": 7000 }, "proxy": proxy });
        let Value::Object(patch) = patch else {
            panic!("an object")
        };
        model().patched_settings(&patch)
    };
    for (pool, place) in [
        ("", "/proxy/health/port"),
        ("default", "/proxy/pools/default/health/port"),
    ] {
        let faults = call(pool, 7000).expect_err("its own listener");
        assert_eq!(faults.0[0].place, place, "{faults}");
        call(pool, 7001).expect("another port");
    }
}

#[test]
fn a_row_says_whether_its_pool_can_take_traffic_but_not_before_what_its_operator_wants() {
    let mut model = model();
    let keys = ["chat", "spare", "missing"].map(|name| key_in(name, 1));
    model.max_registrations = 9;
    for key in keys.iter().chain([&key_in("spare", 2)]) {
        let added = model.apply(&register(key.clone()), "test", NOW);
        added.expect("it is registered");
    }
    let listener = json!({ "host": "10.0.0.9", "port": 8090, "pool": "chat" });
    let proxy = json!({ "listeners": { "chat": listener }, "pools": { "chat": {}, "spare": {} } });
    let Value::Object(patch) = json!({ "proxy": proxy }) else {
        panic!("an object")
    };
    model.runtime_settings = model.patched_settings(&patch).expect("good settings");
    let off = OverrideChange::Enabled(false);
    let change = Mutation::SetOverride(key_in("spare", 2), off);
    model.apply(&change, "test", NOW).expect("it is known");
    let states = |rows: Vec<Row>| rows.iter().map(|row| row.state()).collect::<Vec<_>>();
    let [led, unled, undefined] = [RowState::Ready, RowState::NoListener, RowState::NoPool];
    assert_eq!(states(model.rows_of(&keys)), [led, unled, undefined]);
    let of = |name: &str| {
        let rows = model.rows().into_iter();
        states(rows.filter(|row| row.key.pool.as_str() == name).collect())
    };
    assert_eq!(of("spare"), [unled, RowState::Disabled]);
    assert_eq!([of("default"), of("chat")], [[led], [led]]);
}
