//! Each mutation, what it changes and when it is refused.

use super::*;
use contract::{Backend, LocalAddresses, Report};

const NOW: Now = Now {
    monotonic_ms: 0,
    unix_ms: 1_730_000_000_000,
};

fn addr(last: u8) -> BackendAddr {
    BackendAddr::new([10, 0, 0, last].into(), 9001)
}

fn register(addr: BackendAddr) -> Mutation {
    Mutation::Register(Registration::of(addr))
}

/// Discovery knows 10.0.0.1, nothing else is known.
fn model() -> Model {
    let backend = Backend {
        addr: addr(1),
        weight: 10,
        enabled: true,
        is_warming_up: false,
        report: Report::default(),
        batch: None,
    };
    Model {
        registry: Registry::default(),
        discovery: Arc::new(Discovery {
            backends: [(addr(1), backend)].into(),
            ..Discovery::default()
        }),
        runtime_settings: Layer::default(),
        base_settings: Layer::default(),
        revision: 0,
        edits: 0,
        policy: ExpiryPolicy {
            ttl_ms: 15_000,
            warmup_ms: 0,
            freeze: true,
        },
        own: OwnAddresses {
            control: "0.0.0.0:8080".parse().expect("a literal"),
            local: LocalAddresses::default(),
        },
        warnings: Vec::new(),
    }
}

fn weight(model: &Model, addr: BackendAddr) -> Option<u16> {
    let rows = model.rows();
    let row = rows.iter().find(|row| row.backend.addr == addr)?;
    Some(row.backend.weight)
}

#[test]
fn a_weight_edit_of_a_discovered_backend_holds_and_can_be_cleared() {
    let mut model = model();
    let set = Mutation::SetOverride(addr(1), OverrideChange::Weight(77));
    let change = model.apply(&set, "op", NOW).expect("known");
    assert_eq!(change.new["override"]["weight"], json!(77));
    assert_eq!(change.old, Value::Null);
    assert_eq!(weight(&model, addr(1)), Some(77));
    let clear = Mutation::ClearOverride(addr(1));
    assert_eq!(
        model.apply(&clear, "op", NOW).expect("known").effect,
        Effect::State
    );
    assert_eq!(weight(&model, addr(1)), Some(10));
    let again = model.apply(&clear, "op", NOW).expect("known");
    assert_eq!(again.effect, Effect::Unchanged);
}

#[test]
fn what_nobody_knows_is_refused() {
    let mut model = model();
    let set = Mutation::SetOverride(addr(9), OverrideChange::Weight(77));
    assert!(matches!(
        model.apply(&set, "op", NOW),
        Err(Refusal::UnknownBackend(_))
    ));
    let clear = Mutation::ClearOverride(addr(9));
    assert!(matches!(
        model.apply(&clear, "op", NOW),
        Err(Refusal::UnknownBackend(_))
    ));
    for not_registered in [addr(9), addr(1)] {
        let gone = Mutation::Unregister(not_registered);
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
    let loopback = |port| BackendAddr::new([127, 0, 0, 1].into(), port);
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
    Arc::make_mut(&mut model.discovery).is_carried = true;
    let gone = Mutation::Unregister(addr(1));
    assert!(model.apply(&gone, "op", NOW).is_ok());
    assert_eq!(weight(&model, addr(1)), None);
}

#[test]
fn settings_by_api_stand_above_the_base_and_bad_ones_change_nothing() {
    let mut model = model();
    let change = |value: Value| match value {
        Value::Object(map) => Mutation::ChangeSettings(map),
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
