//! Laws of precedence, on random inputs, and the cases that people meet.

use super::*;
use crate::clock::Now;
use crate::registry::{OverrideChange, Registration};
use crate::settings::ExpiryPolicy;
use proptest::prelude::*;

const POLICY: ExpiryPolicy = ExpiryPolicy {
    ttl_ms: 1_000,
    warmup_ms: 0,
    freeze: false,
};

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        listened_ms: ms,
        unix_ms: ms,
    }
}

fn addr(last: u8) -> BackendAddr {
    BackendAddr::new([10, 0, 0, last].into(), 9001)
}

fn discovered(weight: u16, enabled: bool) -> Backend {
    Backend {
        addr: addr(1),
        weight,
        enabled,
        is_warming_up: false,
        report: Report {
            gpu_usage: Some(0.25),
            ..Report::default()
        },
        batch: None,
    }
}

fn said(weight: u16, enabled: bool) -> Registration {
    Registration {
        weight: Some(weight),
        enabled,
        ..Registration::of(addr(1))
    }
}

/// The one row of these three words on one backend.
fn merged(
    discovery: Option<Backend>,
    registration: Option<(Registration, bool)>,
    word: &[OverrideChange],
) -> Option<Row> {
    let mut registry = Registry::default();
    if let Some((said, is_expired)) = registration {
        registry.register(&said, at(0), POLICY).expect("not full");
        registry.pass(at(if is_expired { 1_000 } else { 1 }), POLICY);
    }
    for change in word {
        registry
            .set_override(addr(1), *change, "op", at(1))
            .expect("not full");
    }
    let discovery = discovery.map(|backend| (backend.addr, backend));
    let mut rows = merge(&discovery.into_iter().collect(), &registry);
    assert!(rows.len() <= 1);
    rows.pop()
}

proptest! {
    #[test]
    fn override_beats_registration_beats_discovery(
        discovery in proptest::option::of((0u16..=1000, any::<bool>())),
        registration in proptest::option::of((0u16..=1000, any::<bool>(), any::<bool>())),
        weight in proptest::option::of(0u16..=1000),
        enabled in proptest::option::of(any::<bool>()),
        drain in proptest::option::of(any::<bool>()),
    ) {
        let word: Vec<OverrideChange> = [
            weight.map(OverrideChange::Weight),
            enabled.map(OverrideChange::Enabled),
            drain.map(OverrideChange::Drain),
        ].into_iter().flatten().collect();
        let row = merged(
            discovery.map(|(weight, enabled)| discovered(weight, enabled)),
            registration.map(|(weight, enabled, expired)| (said(weight, enabled), expired)),
            &word,
        );
        let live = registration.filter(|(_, _, expired)| !expired);
        let base = live.map(|(weight, enabled, _)| (weight, enabled)).or(discovery);
        match (base, registration) {
            (None, None) => prop_assert!(row.is_none(), "an override alone makes no backend"),
            (None, Some((registered_weight, _, _))) => {
                let published = row.expect("an expired one stays listed").published();
                prop_assert!(!published.enabled);
                let expected = if drain == Some(true) { 0 } else { weight.unwrap_or(registered_weight) };
                prop_assert_eq!(published.weight, expected);
            }
            (Some((base_weight, base_enabled)), _) => {
                let published = row.expect("known").published();
                prop_assert_eq!(published.enabled, enabled.unwrap_or(base_enabled));
                let expected = if drain == Some(true) { 0 } else { weight.unwrap_or(base_weight) };
                prop_assert_eq!(published.weight, expected);
            }
        }
    }
}

#[test]
fn an_edit_of_a_discovered_backend_reads_as_runtime() {
    let row = merged(Some(discovered(10, true)), None, &[]).expect("known");
    assert_eq!((row.source(), row.sources()), ("k8s", vec!["k8s"]));
    let edit = [OverrideChange::Weight(3)];
    let row = merged(Some(discovered(10, true)), None, &edit).expect("known");
    assert_eq!(
        (row.source(), row.sources()),
        ("runtime", vec!["override", "k8s"])
    );
}

#[test]
fn when_a_registration_expires_discovery_counts_again() {
    let row = merged(
        Some(discovered(10, true)),
        Some((said(99, true), true)),
        &[],
    );
    let row = row.expect("known");
    assert_eq!((row.backend.weight, row.source()), (10, "k8s"));
    assert_eq!(row.state(), RowState::Ready);
}

#[test]
fn a_registration_without_figures_leaves_those_of_discovery() {
    let row = merged(
        Some(discovered(10, true)),
        Some((said(99, true), false)),
        &[],
    );
    let row = row.expect("known");
    assert_eq!(
        (row.backend.weight, row.backend.report.gpu_usage),
        (99, Some(0.25))
    );
}

#[test]
fn each_state_has_its_word() {
    let check =
        |registration: (Registration, bool), word: &[OverrideChange], expected: RowState| {
            let row = merged(None, Some(registration), word).expect("known");
            assert_eq!(row.state(), expected, "{}", expected.word());
        };
    check((said(10, true), false), &[], RowState::Ready);
    check((said(0, true), false), &[], RowState::Drain);
    check((said(10, false), false), &[], RowState::Disabled);
    check((said(10, true), true), &[], RowState::Expired);
    check(
        (said(10, true), false),
        &[OverrideChange::Drain(true)],
        RowState::Drain,
    );
    let mut warming = said(10, true);
    warming.is_warming_up = Some(true);
    check((warming, false), &[], RowState::Warming);
}
