//! Laws of precedence, on random inputs, and the cases that people meet.

use super::*;
use crate::base::tests::{key, key_in};
use crate::clock::Now;
use crate::registry::ExpiryPolicy;
use crate::registry::{OverrideChange, Registration};
use crate::sources::entry::Said;
use crate::sources::listed::Discovered;
use contract::Report;
use proptest::prelude::*;
use std::collections::BTreeMap;

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

/// What a source may say of weight and enabled.
type Word = (Option<u16>, Option<bool>);

fn any_word() -> impl Strategy<Value = Word> {
    let weight = proptest::option::of(0u16..=1000);
    (weight, proptest::option::of(any::<bool>()))
}

fn listed((weight, enabled): Word) -> Said {
    Said {
        weight,
        enabled,
        report: Report {
            gpu_usage: Some(0.25),
            ..Report::default()
        },
        ..Said::nothing_of(key(1))
    }
}

fn said((weight, enabled): Word) -> Registration {
    Registration {
        weight,
        enabled,
        ..Registration::of(key(1))
    }
}

/// The one row of what these sources say of one backend.
fn merged(
    discovery: Option<Said>,
    fixed: Option<Said>,
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
            .set_override(&key(1), *change, "op", at(1))
            .expect("not full");
    }
    let of = |said: Option<Said>| {
        said.map(|said| (said.key.clone(), said))
            .into_iter()
            .collect()
    };
    let listed = Listed {
        statics: &of(fixed),
        discovered: &[Discovered::of("k8s", of(discovery))],
    };
    let mut rows = merge(listed, &registry);
    assert!(rows.len() <= 1);
    rows.pop()
}

proptest! {
    #[test]
    fn the_strongest_that_mentions_a_value_decides_it(
        discovery in proptest::option::of(any_word()),
        fixed in proptest::option::of(any_word()),
        registration in proptest::option::of((any_word(), any::<bool>())),
        word in any_word(),
        drain in proptest::option::of(any::<bool>()),
    ) {
        let changes: Vec<OverrideChange> = [
            word.0.map(OverrideChange::Weight),
            word.1.map(OverrideChange::Enabled),
            drain.map(OverrideChange::Drain),
        ].into_iter().flatten().collect();
        let row = merged(
            discovery.map(listed),
            fixed.map(listed),
            registration.map(|(word, expired)| (said(word), expired)),
            &changes,
        );
        let is_listed = discovery.is_some() || fixed.is_some();
        let is_expired = registration.is_some_and(|(_, expired)| expired);
        if !is_listed && registration.is_none() {
            prop_assert!(row.is_none(), "an override alone makes no backend");
            return Ok(());
        }
        let counts = registration.filter(|(_, expired)| !expired || !is_listed);
        let words = [Some(word), counts.map(|(word, _)| word), fixed, discovery];
        let mentioned = || words.iter().flatten();
        let weight = mentioned().find_map(|(weight, _)| *weight).unwrap_or(10);
        let enabled = mentioned().find_map(|(_, enabled)| *enabled).unwrap_or(true);
        let published = row.expect("known").published();
        let expected = if drain == Some(true) { 0 } else { weight };
        prop_assert_eq!(published.weight, expected);
        prop_assert_eq!(published.enabled, enabled && (is_listed || !is_expired));
    }
}

#[test]
fn an_edit_of_a_discovered_backend_reads_as_runtime() {
    let row = merged(Some(listed((None, None))), None, None, &[]).expect("known");
    assert_eq!((row.source(), row.known_by().names()), ("k8s", vec!["k8s"]));
    let edit = [OverrideChange::Weight(3)];
    let row = merged(Some(listed((None, None))), None, None, &edit).expect("known");
    assert_eq!(
        (row.source(), row.known_by().names()),
        ("runtime", vec!["override", "k8s"])
    );
}

#[test]
fn when_a_registration_expires_discovery_counts_again() {
    let row = merged(
        Some(listed((Some(10), None))),
        None,
        Some((said((Some(99), None)), true)),
        &[],
    );
    let row = row.expect("known");
    assert_eq!((row.backend.weight, row.source()), (10, "k8s"));
    assert_eq!(row.state(), RowState::Ready);
}

#[test]
fn a_registration_without_figures_leaves_those_of_discovery() {
    let row = merged(
        Some(listed((Some(10), None))),
        None,
        Some((said((Some(99), None)), false)),
        &[],
    );
    let row = row.expect("known");
    assert_eq!(
        (row.backend.weight, row.backend.report.gpu_usage),
        (99, Some(0.25))
    );
}

#[test]
fn what_a_registration_does_not_mention_is_as_discovery_has_it() {
    let silent = (Registration::of(key(1)), false);
    let found = listed((Some(90), Some(false)));
    let row = merged(Some(found.clone()), None, Some(silent.clone()), &[]).expect("known");
    assert_eq!((row.backend.weight, row.backend.enabled), (90, false));
    assert_eq!(row.known_by().names(), ["runtime", "k8s"]);
    let fixed = listed((Some(7), None));
    let row = merged(Some(found), Some(fixed), Some(silent), &[]).expect("known");
    assert_eq!((row.backend.weight, row.backend.enabled), (7, false));
}

#[test]
fn a_static_backend_needs_no_heartbeat_and_says_so() {
    let fixed = listed((Some(7), None));
    let row = merged(None, Some(fixed.clone()), None, &[]).expect("known");
    assert_eq!(
        (row.source(), row.known_by().names()),
        ("static", vec!["static"])
    );
    let expired = (said((Some(99), None)), true);
    let row = merged(None, Some(fixed), Some(expired), &[]).expect("known");
    assert_eq!((row.backend.weight, row.state()), (7, RowState::Ready));
    assert_eq!(row.source(), "static");
}

#[test]
fn each_state_has_its_word() {
    let check =
        |registration: (Registration, bool), word: &[OverrideChange], expected: RowState| {
            let row = merged(None, None, Some(registration), word).expect("known");
            assert_eq!(row.state(), expected, "{}", expected.word());
        };
    check((said((Some(10), Some(true))), false), &[], RowState::Ready);
    check((said((Some(0), Some(true))), false), &[], RowState::Drain);
    check(
        (said((Some(10), Some(false))), false),
        &[],
        RowState::Disabled,
    );
    check((said((Some(10), Some(true))), true), &[], RowState::Expired);
    check(
        (said((Some(10), Some(true))), false),
        &[OverrideChange::Drain(true)],
        RowState::Drain,
    );
    let mut warming = said((Some(10), Some(true)));
    warming.is_warming_up = Some(true);
    check((warming, false), &[], RowState::Warming);
}

#[test]
fn what_a_source_says_in_one_pool_says_nothing_in_another() {
    let in_pools = |weights: [(&str, u16); 2]| -> BTreeMap<BackendKey, Said> {
        let said = weights.map(|(pool, weight)| {
            let said = Said {
                weight: Some(weight),
                ..Said::nothing_of(key_in(pool, 1))
            };
            (said.key.clone(), said)
        });
        said.into()
    };
    let mut registry = Registry::default();
    let said = Registration {
        weight: Some(5),
        ..Registration::of(key_in("code", 1))
    };
    registry.register(&said, at(0), POLICY).expect("not full");
    registry
        .set_override(&key_in("chat", 1), OverrideChange::Drain(true), "op", at(1))
        .expect("not full");
    let (statics, discovered) = (
        in_pools([("chat", 2), ("embed", 4)]),
        in_pools([("chat", 9), ("code", 9)]),
    );
    let listed = Listed {
        statics: &statics,
        discovered: &[Discovered::of("k8s", discovered)],
    };
    let rows = merge(listed, &registry);
    let seen = rows.iter().map(|row| {
        assert_eq!(merge_one(&row.key, listed, &registry).as_ref(), Some(row));
        let weight = row.published().weight;
        (
            row.key.to_string(),
            row.backend.weight,
            weight,
            row.source(),
        )
    });
    let expected = [
        ("chat/10.0.0.1:9001".to_owned(), 2, 0, "runtime"),
        ("code/10.0.0.1:9001".to_owned(), 5, 5, "runtime"),
        ("embed/10.0.0.1:9001".to_owned(), 4, 4, "static"),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[test]
fn sources_go_by_their_order_and_each_decides_what_it_mentions() {
    let said = |last: u8, weight: Option<u16>, enabled: Option<bool>| {
        let said = Said {
            weight,
            enabled,
            ..Said::nothing_of(key(last))
        };
        (said.key.clone(), said)
    };
    let strong = [said(1, None, Some(false)), said(2, Some(3), None)];
    let weak = [said(1, Some(90), Some(true)), said(3, Some(4), None)];
    let listed = Listed {
        statics: &BTreeMap::new(),
        discovered: &[
            Discovered::of("east", strong.into()),
            Discovered::of("west", weak.into()),
        ],
    };
    let registry = Registry::default();
    let rows = merge(listed, &registry);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            assert_eq!(merge_one(&row.key, listed, &registry).as_ref(), Some(row));
            let names = row.known_by().names().join(",");
            (row.backend.weight, row.backend.enabled, row.source(), names)
        })
        .collect();
    let expected = [
        (90, false, "east", "east,west".to_owned()),
        (3, true, "east", "east".to_owned()),
        (4, true, "west", "west".to_owned()),
    ];
    assert_eq!(seen, expected);
    let keys = keys(listed, &registry);
    assert_eq!(keys, [&key(1), &key(2), &key(3)], "each once");
}
