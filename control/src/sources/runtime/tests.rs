//! The registry survives its file, and edits of others survive ours.

use super::super::journal::{Digests, digests};
use super::*;
use crate::base::lower;
use crate::base::tests::{key, key_in};
use crate::registry::ExpiryPolicy;
use crate::registry::{OverrideChange, Registration};
use crate::sources::listed::Discovered;
use contract::{BackendAddr, Batch, Report};
use serde_json::json;

const POLICY: ExpiryPolicy = ExpiryPolicy {
    ttl_ms: 15_000,
    warmup_ms: 20_000,
    freeze: true,
};

fn at(ms: u64) -> Now {
    Now {
        monotonic_ms: ms,
        listened_ms: ms,
        unix_ms: 1_730_000_000_000 + ms,
    }
}

/// No file lists anything.
fn nobody() -> Listed<'static> {
    static NOBODY: BTreeMap<BackendKey, Said> = BTreeMap::new();
    Listed {
        statics: &NOBODY,
        discovered: &[],
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    for last in 1..=2 {
        let said = Registration {
            weight: Some(20),
            report: Report {
                gpu_usage: Some(0.5),
                ..Report::default()
            },
            batch: Some(Batch {
                max: 8,
                window_ms: 10,
            }),
            owner: Some(SecretHash::of("secret")),
            ..Registration::of(key(last))
        };
        registry.register(&said, at(0), POLICY).expect("not full");
    }
    for last in 2..=3 {
        let change = OverrideChange::Weight(7);
        registry
            .set_override(&key(last), change, "op", at(1))
            .expect("not full");
    }
    registry
}

#[test]
fn the_fullest_registry_that_there_may_be_is_read_again() {
    use contract::config::MAX_BACKENDS;
    const LONGEST_IP: u128 = 0x2001_0db8_ffff_ffff_ffff_ffff_ffff_ffff;
    let mut registry = Registry::default();
    let usage = Some(0.123_456_789_012_345_67);
    let actor = format!(
        "2001:db8::ffff with a session of token {} (write)",
        "n".repeat(64)
    );
    for number in 0..MAX_BACKENDS as u128 {
        let ip = (LONGEST_IP - number).to_be_bytes().into();
        let key = lower(BackendAddr::new(ip, 65_535));
        let said = Registration {
            weight: Some(1000),
            is_warming_up: None,
            report: Report {
                gpu_usage: usage,
                vram_usage: usage,
                reported_at_ms: Some(1_730_000_000_000),
                heartbeat_ms: Some(600_000),
            },
            batch: Some(Batch {
                max: 4096,
                window_ms: 10_000,
            }),
            owner: Some(SecretHash::of("secret")),
            ..Registration::of(key.clone())
        };
        registry.register(&said, at(0), POLICY).expect("not full");
        for change in [
            OverrideChange::Weight(1000),
            OverrideChange::Enabled(false),
            OverrideChange::Drain(false),
        ] {
            let done = registry.set_override(&key, change, &actor, at(1));
            done.expect("not full");
        }
    }
    let (bytes, _) = render(&entries(&registry, nobody(), at(2)), 1_730_000_000);
    assert!(bytes.len() < MAX_FILE_BYTES / 2, "{} bytes", bytes.len());
    let file = read(&bytes).expect("our own file");
    assert_eq!((file.entries.len(), file.notes.len()), (MAX_BACKENDS, 0));
}

fn stored(registry: &Registry, now: Now) -> FileEntries {
    let entries = entries(registry, nobody(), now);
    let file = read(&render(&entries, now.unix_s()).0).expect("our own file");
    assert_eq!((file.notes.len(), &file.entries), (0, &entries));
    file.entries
}

fn restored(entries: &FileEntries, now: Now) -> Registry {
    let mut registry = Registry::default();
    let none = Digests::new();
    merge_edits(
        &mut registry,
        &none,
        entries,
        Origin::Edited,
        now,
        POLICY.warmup_ms,
        &mut Vec::new(),
    );
    registry
}

#[test]
fn a_restart_keeps_registrations_and_overrides_and_gives_a_full_ttl() {
    let before = registry();
    let entries = stored(&before, at(10_000));
    let after = restored(&entries, at(0));
    let keys = |registry: &Registry| registry.entries.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&after), keys(&before));
    for (key, entry) in &before.entries {
        let back = &after.entries[key];
        assert_eq!(back.r#override, entry.r#override);
        assert_eq!(back.registered.is_some(), entry.registered.is_some());
        let batch = |entry: &RegistryEntry| entry.registered.as_ref().map(|kept| kept.batch);
        assert_eq!(batch(back), batch(entry));
    }
    let one = after.entries[&key(1)].registered.as_ref().expect("kept");
    assert_eq!(one.owner, Some(SecretHash::of("secret")));
    assert_eq!((one.weight, one.heard_at_ms), (Some(20), 0));
    assert_eq!(one.report.gpu_usage, Some(0.5));
}

#[test]
fn a_restart_never_begins_a_warm_up_anew() {
    let entries = stored(&registry(), at(15_000));
    // A new process: its monotonic clock begins at 0, the wall clock goes on.
    let started = Now {
        monotonic_ms: 0,
        listened_ms: 0,
        unix_ms: at(17_000).unix_ms,
    };
    let mut after = restored(&entries, started);
    assert!(
        after
            .pass(
                Now {
                    monotonic_ms: 2_900,
                    listened_ms: 2_900,
                    ..started
                },
                POLICY
            )
            .is_empty()
    );
    let passed = after.pass(
        Now {
            monotonic_ms: 3_100,
            listened_ms: 3_100,
            ..started
        },
        POLICY,
    );
    assert_eq!(passed.len(), 2, "{passed:?}");
}

#[test]
fn an_expired_registration_stays_expired_over_a_restart() {
    let mut before = registry();
    before.pass(at(15_000), POLICY);
    let entries = stored(&before, at(15_000));
    assert_eq!(entries[&key(1)]["enabled"], json!(false));
    let after = restored(&entries, at(0));
    let one = after.entries[&key(1)].registered.as_ref().expect("kept");
    assert!(one.is_expired() && one.enabled.is_none());
}

#[test]
fn what_others_edit_wins_and_the_rest_stays_ours() {
    let mut ours = registry();
    let known = stored(&ours, at(0));
    ours.entries
        .get_mut(&key(1))
        .and_then(|entry| entry.registered.as_mut())
        .expect("registered")
        .weight = Some(33);
    let mut found = known.clone();
    found.get_mut(&key(2)).expect("there")["weight"] = json!(99);
    found.insert(key(9), json!({"ip": "10.0.0.9", "port": 9001}));
    let changed = merge_edits(
        &mut ours,
        &digests(&known),
        &found,
        Origin::Edited,
        at(5),
        0,
        &mut Vec::new(),
    );
    assert_eq!(changed, [key(2), key(9)]);
    let weight = |last| {
        let entry = &ours.entries[&key(last)];
        entry
            .registered
            .as_ref()
            .map(|registered| registered.weight)
    };
    assert_eq!(
        (weight(1), weight(2), weight(9)),
        (Some(Some(33)), Some(Some(99)), Some(None))
    );
}

#[test]
fn an_override_goes_only_by_an_explicit_null() {
    let kept = |edit: &dyn Fn(&mut FileEntries)| {
        let mut ours = registry();
        let known = stored(&ours, at(0));
        let mut found = known.clone();
        edit(&mut found);
        merge_edits(
            &mut ours,
            &digests(&known),
            &found,
            Origin::Edited,
            at(5),
            0,
            &mut Vec::new(),
        );
        let entry = ours.entries.get(&key(2));
        entry.is_some_and(|entry| entry.r#override.is_some())
    };
    let base_only = json!({"ip": "10.0.0.2", "port": 9001, "weight": 5, "last_seen": 1});
    assert!(kept(&|found| drop(found.insert(key(2), base_only.clone()))));
    assert!(kept(&|found| drop(found.remove(&key(2)))));
    assert!(!kept(
        &|found| found.get_mut(&key(2)).expect("there")["override"] = Value::Null
    ));
}

#[test]
fn what_a_restored_file_does_not_say_goes() {
    let mut registry = registry();
    let backup = entries(&registry, nobody(), at(3));
    let by_itself = key(77);
    for set in [&key(1), &by_itself] {
        let change = OverrideChange::Weight(77);
        registry
            .set_override(set, change, "op", at(4))
            .expect("room");
    }
    let known = entries(&registry, nobody(), at(4));
    let (origin, mut notes) = (Origin::Restored, Vec::new());
    merge_edits(
        &mut registry,
        &digests(&known),
        &backup,
        origin,
        at(3),
        POLICY.warmup_ms,
        &mut notes,
    );
    assert_eq!(entries(&registry, nobody(), at(5)), backup);
    assert!(!registry.entries.contains_key(&by_itself));
}

#[test]
fn one_address_in_two_pools_has_two_entries_and_the_one_of_default_is_as_before() {
    let mut registry = registry();
    let base_file = entries(&registry, nobody(), at(3));
    let said = Registration {
        weight: Some(7),
        ..Registration::of(key_in("chat", 1))
    };
    registry.register(&said, at(0), POLICY).expect("not full");
    let known = entries(&registry, nobody(), at(3));
    assert_eq!(known[&key_in("chat", 1)]["pool"], "chat");
    let mut without = known.clone();
    without.remove(&key_in("chat", 1));
    assert_eq!(without, base_file, "byte for byte as without it");
    let read_back = read(&render(&known, 7).0).expect("readable");
    assert_eq!(read_back.entries, known);
    let mut found = known.clone();
    found.remove(&key(1));
    found.get_mut(&key_in("chat", 1)).expect("there")["weight"] = json!(9);
    for origin in [Origin::Edited, Origin::Restored] {
        let mut registry = registry.clone();
        let changed = merge_edits(
            &mut registry,
            &digests(&known),
            &found,
            origin,
            at(4),
            POLICY.warmup_ms,
            &mut Vec::new(),
        );
        assert_eq!(changed, [key_in("chat", 1), key(1)], "{origin:?}");
        let in_chat = registry.registered(&key_in("chat", 1)).expect("it stays");
        assert_eq!(in_chat.weight, Some(9));
        assert!(registry.registered(&key(1)).is_none());
    }
}

#[test]
fn a_bad_override_is_told_and_costs_only_itself() {
    let mut notes = Vec::new();
    let value = json!({"ip": "10.0.0.2", "port": 9001, "last_seen": 1,
                       "override": {"weight": 5000, "enabled": false}});
    let entry = read_entry(&value, at(0), 0, &mut notes);
    assert_eq!(notes.len(), 1, "{notes:?}");
    let word = entry.r#override.expect("the good half");
    assert_eq!((word.weight, word.enabled), (None, Some(false)));
}

#[test]
fn what_a_backend_has_not_said_is_in_the_file_and_stays_unsaid() {
    let mut registry = Registry::default();
    registry
        .register(&Registration::of(key(1)), at(0), POLICY)
        .expect("not full");
    let found = Said {
        weight: Some(90),
        enabled: Some(false),
        ..Said::nothing_of(key(1))
    };
    let discovered = [Discovered::of("k8s", [(key(1), found)].into())];
    let listed = Listed {
        statics: &BTreeMap::new(),
        discovered: &discovered,
    };
    let mut written = entries(&registry, listed, at(1))[&key(1)].clone();
    assert_eq!(
        (&written["weight"], &written["enabled"]),
        (&json!(90), &json!(false))
    );
    let again = read_entry(&written, at(2), 0, &mut Vec::new());
    let again = again.registered.expect("a registration");
    assert_eq!((again.weight, again.enabled), (None, None));
    written["weight"] = json!(5);
    let edited = read_entry(&written, at(2), 0, &mut Vec::new());
    let edited = edited.registered.expect("a registration");
    assert_eq!(
        (edited.weight, edited.enabled),
        (Some(5), None),
        "an edit counts as said"
    );
}
