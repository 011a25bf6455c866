//! The life of a registration and of an override, in virtual time.

use contract::Batch;

use super::*;
use crate::base::tests::{key, key_in};

const POLICY: ExpiryPolicy = ExpiryPolicy {
    ttl_ms: 15_000,
    warmup_ms: 0,
    freeze: true,
};

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        listened_ms: ms,
        unix_ms: 1_730_000_000_000 + ms,
    }
}

fn said(last: u8) -> Registration {
    Registration::of(key(last))
}

fn with(count: u8, now: Now) -> Registry {
    let mut registry = Registry::default();
    for last in 0..count {
        registry
            .register(&said(last), now, POLICY)
            .expect("not full");
    }
    registry
}

fn live(registry: &Registry) -> usize {
    let live = |entry: &&RegistryEntry| entry.registered.as_ref().is_some_and(|r| !r.is_expired());
    registry.entries.values().filter(live).count()
}

#[test]
fn a_registration_expires_after_its_ttl_and_goes_ten_ttls_later() {
    let mut registry = with(1, at(0));
    assert_eq!(registry.pass(at(14_999), POLICY), []);
    assert_eq!(registry.pass(at(15_000), POLICY), [Passed::Expired(key(0))]);
    assert_eq!(registry.pass(at(164_999), POLICY), []);
    assert_eq!(
        registry.pass(at(165_000), POLICY),
        [Passed::Removed(key(0))]
    );
    assert!(registry.entries.is_empty());
}

#[test]
fn a_heartbeat_renews_the_ttl_and_changes_nothing_else() {
    let mut registry = with(1, at(0));
    let effect = registry.register(&said(0), at(14_000), POLICY);
    assert_eq!(effect.expect("known"), Effect::Unchanged);
    assert_eq!(registry.pass(at(28_999), POLICY), []);
    assert_eq!(registry.pass(at(29_000), POLICY), [Passed::Expired(key(0))]);
}

#[test]
fn new_figures_are_telemetry_and_a_new_weight_is_state() {
    let mut registry = with(1, at(0));
    let mut figures = said(0);
    figures.report.gpu_usage = Some(0.5);
    let effect = |registry: &mut Registry, said: &Registration| {
        registry.register(said, at(1), POLICY).expect("known")
    };
    assert_eq!(effect(&mut registry, &figures), Effect::Telemetry);
    figures.weight = Some(30);
    assert_eq!(effect(&mut registry, &figures), Effect::State);
    figures.weight = None;
    assert_ne!(effect(&mut registry, &figures), Effect::State);
    let kept = registry.entries[&key(0)].registered.as_ref();
    assert_eq!(
        kept.expect("registered").weight,
        Some(30),
        "silence keeps the weight"
    );
}

#[test]
fn how_often_a_backend_reports_is_state() {
    let mut registry = with(1, at(0));
    let mut often = said(0);
    often.report.heartbeat_ms = Some(1_000);
    let beat = |registry: &mut Registry, said: &Registration| {
        registry.register(said, at(1), POLICY).expect("known")
    };
    assert_eq!(beat(&mut registry, &often), Effect::State);
    assert_eq!(beat(&mut registry, &often), Effect::Unchanged);
    assert_eq!(beat(&mut registry, &said(0)), Effect::State);
}

#[test]
fn a_backend_that_comes_back_is_state() {
    let mut registry = with(1, at(0));
    registry.pass(at(15_000), POLICY);
    let effect = registry.register(&said(0), at(16_000), POLICY);
    assert_eq!(effect.expect("known"), Effect::State);
    assert_eq!(live(&registry), 1);
}

#[test]
fn an_override_survives_heartbeats_expiry_and_removal() {
    let mut registry = with(1, at(0));
    let weight = OverrideChange::Weight(7);
    registry
        .set_override(&key(0), weight, "op", at(1))
        .expect("not full");
    let effect = registry.register(&said(0), at(2), POLICY);
    assert_eq!(effect.expect("known"), Effect::Unchanged);
    registry.pass(at(20_000), POLICY);
    registry.pass(at(200_000), POLICY);
    let left = &registry.entries[&key(0)];
    assert!(left.registered.is_none());
    assert_eq!(left.r#override.as_ref().and_then(|o| o.weight), Some(7));
    assert!(registry.clear_override(&key(0), at(200_001)));
    assert!(!registry.clear_override(&key(0), at(200_002)));
    assert!(registry.entries.is_empty());
}

#[test]
fn a_new_registration_warms_for_the_set_time_unless_it_says_otherwise() {
    let policy = ExpiryPolicy {
        warmup_ms: 5_000,
        ..POLICY
    };
    let warming = |registry: &Registry| {
        let registered = registry.entries[&key(0)].registered.as_ref();
        registered.expect("registered").warming.is_on() == Some(true)
    };
    let mut registry = Registry::default();
    registry
        .register(&said(0), at(0), policy)
        .expect("not full");
    registry
        .register(&said(0), at(4_000), policy)
        .expect("not full");
    assert!(warming(&registry), "a heartbeat does not end the warm-up");
    assert_eq!(registry.pass(at(5_000), policy), [Passed::Warm(key(0))]);
    registry
        .register(&said(0), at(6_000), policy)
        .expect("not full");
    assert!(!warming(&registry), "a heartbeat does not begin it anew");

    let mut registry = Registry::default();
    let mut explicit = said(0);
    explicit.is_warming_up = Some(false);
    registry
        .register(&explicit, at(0), policy)
        .expect("not full");
    assert!(!warming(&registry));
}

#[test]
fn a_mass_expiry_is_frozen_for_ten_ttls_at_most() {
    let mut registry = with(6, at(0));
    let passed = registry.pass(at(15_000), POLICY);
    assert_eq!(passed, [Passed::FreezeBegan { silent: 6 }]);
    assert_eq!(registry.pass(at(164_999), POLICY), []);
    assert_eq!(live(&registry), 6);
    let passed = registry.pass(at(165_000), POLICY);
    assert_eq!(passed[0], Passed::FreezeEnded);
    assert_eq!(live(&registry), 0);
}

#[test]
fn an_acknowledged_mass_expiry_is_carried_out_to_its_last_backend() {
    let mut registry = with(4, at(0));
    for last in 4..8 {
        registry
            .register(&said(last), at(5_000), POLICY)
            .expect("not full");
    }
    registry.pass(at(15_000), POLICY);
    assert_eq!(live(&registry), 8);
    assert!(registry.acknowledge_expiry(at(16_000), POLICY));
    registry.pass(at(16_000), POLICY);
    assert_eq!(live(&registry), 4);
    registry.pass(at(20_000), POLICY);
    assert_eq!(live(&registry), 0, "not frozen a second time");
    assert!(!registry.acknowledge_expiry(at(20_001), POLICY));
}

#[test]
fn a_freeze_ends_by_itself_when_most_are_heard_again() {
    let mut registry = with(6, at(0));
    registry.pass(at(15_000), POLICY);
    for last in 0..5 {
        registry
            .register(&said(last), at(16_000), POLICY)
            .expect("known");
    }
    let passed = registry.pass(at(16_100), POLICY);
    assert_eq!(passed, [Passed::FreezeEnded, Passed::Expired(key(5))]);
}

#[test]
fn small_pools_minorities_and_a_switched_off_freeze_expire_plainly() {
    let mut small = with(4, at(0));
    assert_eq!(small.pass(at(15_000), POLICY).len(), 4);

    let mut minority = with(6, at(0));
    for last in 2..6 {
        minority
            .register(&said(last), at(14_000), POLICY)
            .expect("known");
    }
    assert_eq!(minority.pass(at(15_000), POLICY).len(), 2);

    let policy = ExpiryPolicy {
        freeze: false,
        ..POLICY
    };
    let mut off = with(6, at(0));
    assert_eq!(off.pass(at(15_000), policy).len(), 6);
}

#[test]
fn a_reading_said_again_keeps_its_time_and_a_new_one_does_not() {
    let mut registry = Registry::default();
    let mut reported_at = |ms, gpu_usage, report_age_ms| {
        let mut said = said(0);
        said.report.gpu_usage = gpu_usage;
        said.report_age_ms = report_age_ms;
        registry.register(&said, at(ms), POLICY).expect("not full");
        let registered = registry.entries[&key(0)].registered.as_ref();
        registered.expect("just now").report.reported_at_ms
    };
    let fresh = Some(at(1_000).unix_ms);
    assert_eq!(reported_at(1_000, Some(0.5), 0), fresh);
    assert_eq!(reported_at(2_003, Some(0.5), 1_000), fresh, "said again");
    assert_eq!(reported_at(3_000, Some(0.5), 0), Some(at(3_000).unix_ms));
    assert_eq!(reported_at(4_000, Some(0.6), 300), Some(at(3_700).unix_ms));
    assert_eq!(reported_at(5_000, None, 1_300), None, "no figures, no time");
    assert_eq!(reported_at(6_000, Some(0.6), u64::MAX), Some(0));
}

#[test]
fn an_offer_of_batches_is_state_and_counts_of_requests_are_not() {
    let mut registry = with(1, at(0));
    let mut beat = |change: &dyn Fn(&mut Registration)| {
        let mut said = said(0);
        change(&mut said);
        registry.register(&said, at(1), POLICY).expect("not full")
    };
    assert_eq!(
        beat(&|said| said.requests.queue = Some(3)),
        Effect::Unchanged
    );
    let batch = Batch {
        max: 8,
        window_ms: 10,
    };
    assert_eq!(beat(&|said| said.batch = Some(batch)), Effect::State);
    assert_eq!(beat(&|said| said.batch = Some(batch)), Effect::Unchanged);
    assert_eq!(beat(&|_| {}), Effect::State);
}

#[test]
fn one_address_in_two_pools_expires_in_each_by_its_own_heartbeats() {
    let mut registry = with(1, at(0));
    let elsewhere = Registration::of(key_in("chat", 0));
    registry
        .register(&elsewhere, at(0), POLICY)
        .expect("not full");
    assert!(registry.heartbeat(&elsewhere, at(10_000), POLICY).is_some());
    let passed = registry.pass(at(15_000), POLICY);
    assert_eq!(passed, [Passed::Expired(key(0))]);
    let passed = registry.pass(at(25_000), POLICY);
    assert_eq!(passed, [Passed::Expired(key_in("chat", 0))]);
}
