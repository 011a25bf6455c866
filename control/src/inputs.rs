//! Everything that control reads from other programs, as functions of bytes, for the fuzz targets. Each reads
//! as the server does, and asserts what must hold for accepted input.

use std::collections::BTreeMap;
use std::path::Path;

use contract::{Root, parse_object};
use serde_json::Value;

use crate::actor::Actor;
use crate::audit::{Audit, Entry};
use crate::auth::token_file;
use crate::changes::ChangeSet;
use crate::clock::{Clock, Now};
use crate::merge::merge;
use crate::registry::ExpiryPolicy;
use crate::registry::{Effect, Registry};
use crate::settings::Settings;
use crate::sources::journal::Digests;
use crate::sources::listed::Listed;
use crate::sources::listing;
use crate::sources::runtime::{self, FileEntries, Origin};
use crate::web::body::{MAX_BODY_BYTES, MAX_CHANGES_BYTES};
use crate::web::operations::read_registration;

const NOW: Now = Now {
    monotonic_ms: 1_000_000,
    listened_ms: 1_000_000,
    unix_ms: 1_730_000_000_000,
};
const POLICY: ExpiryPolicy = ExpiryPolicy {
    ttl_ms: 15_000,
    warmup_ms: 0,
    freeze: true,
};

/// `control_config.json`.
pub fn settings(bytes: &[u8]) {
    let root = Root("/nowhere".into());
    if let Err(faults) = Settings::read(Some(bytes), &root) {
        assert!(!faults.is_empty(), "a refusal names at least one fault");
    }
}

/// `k8s_endpoints.json` and `static_backends.json`. Every backend that it yields is one that can be
/// published, and what an edit writes is read again as the same.
pub fn discovery_file(bytes: &[u8]) {
    let Ok(found) = listing::read(bytes) else {
        return;
    };
    let listed = Listed {
        statics: &found.backends,
        discovered: &[],
    };
    let rows = merge(listed, &Registry::default());
    assert_eq!(rows.len(), found.backends.len());
    let written = listing::edited(Some(bytes), &found.backends, 7).expect("it was read");
    let again = listing::read(&written).expect("what we write is such a file");
    assert_eq!(again.backends, found.backends);
}

/// `backends_runtime.json`. What was taken over is written and read again as the same.
pub fn registry_file(bytes: &[u8]) {
    let Ok(file) = runtime::read(bytes) else {
        return;
    };
    let registry = taken_over(&file.entries);
    let nobody = BTreeMap::new();
    let nobody = Listed {
        statics: &nobody,
        discovered: &[],
    };
    let entries = runtime::entries(&registry, nobody, NOW);
    let (written, _) = runtime::render(&entries, 7);
    let again = runtime::read(&written).expect("what we write is such a file");
    assert!(again.notes.is_empty(), "{:?}", again.notes);
    let entries_again = runtime::entries(&taken_over(&again.entries), nobody, NOW);
    assert_eq!(entries, entries_again);
}

fn taken_over(entries: &FileEntries) -> Registry {
    let mut registry = Registry::default();
    let (known, warmup_ms) = (Digests::new(), POLICY.warmup_ms);
    runtime::merge_edits(
        &mut registry,
        &known,
        entries,
        Origin::Edited,
        NOW,
        warmup_ms,
        &mut Vec::new(),
    );
    registry
}

/// `tokens.json`. What was taken over is written and read again as the same.
pub fn token_file(bytes: &[u8]) {
    let Ok(file) = token_file::parse(bytes) else {
        return;
    };
    let again = token_file::parse(&token_file::render(&file));
    assert_eq!(again.expect("what we write is such a file"), file);
}

/// The body of `POST /api/register`. What is taken is unchanged when it is said again.
pub fn registration(bytes: &[u8]) {
    let body = parse_object(bytes, MAX_BODY_BYTES);
    let Ok(Ok((said, _))) = body.map(|body| read_registration(&body, |_, _| {})) else {
        return;
    };
    let mut registry = Registry::default();
    let first = registry
        .register(&said, NOW, POLICY)
        .expect("there is room");
    assert_eq!(first, Effect::State);
    let second = registry
        .register(&said, NOW, POLICY)
        .expect("there is room");
    assert_eq!(second, Effect::Unchanged);
}

/// The body of `POST /api/v1/changes`, whose edits are also those of one weight.
pub fn changes(bytes: &[u8]) {
    let body = parse_object(bytes, MAX_CHANGES_BYTES);
    let Ok(Ok(set)) = body.map(|body| ChangeSet::read(&body, None)) else {
        return;
    };
    let mut registry = Registry::default();
    for (key, patch) in &set.edits {
        let _ = registry.patch_override(key, *patch, "fuzz", NOW);
        let again = registry.patch_override(key, *patch, "fuzz", NOW);
        assert!(
            !again.expect("there was room before"),
            "an edit is made once"
        );
    }
}

/// The audit log as `bytes` at `path`: lines are read whatever the content, and the next written line is
/// complete, the last one, and has a higher number than all before.
pub fn audit_log(bytes: &[u8], path: &Path) {
    std::fs::write(path, bytes).expect("a temporary file");
    let audit = Audit::open(path, 1 << 40, 1, Clock::system());
    let before = audit.last_seq();
    audit.tail(100).expect("it can be read");
    audit.lines(None, 100).expect("it can be read");
    audit.write(Entry {
        actor: &Actor::Control("fuzz"),
        action: "fuzz",
        target: "target",
        old: Value::Null,
        new: Value::Null,
        note: None,
        before_edit: None,
        result: "ok",
    });
    let last = audit.tail(1).expect("it can be read");
    let line: Value = serde_json::from_str(&last).expect("the last line is whole");
    assert_eq!(line["action"], "fuzz");
    assert!(audit.last_seq() > before);
}
