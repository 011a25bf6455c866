//! `backends_runtime.json`: the registry as a file, which others may edit too.
//!
//! An entry is a registration, an override, or both; one that has an `override` and no `last_seen`
//! is an override alone. Its base fields are then only for readers of the base format.
//!
//! Edits by others: entry by entry, a difference from the last known file wins over the state in memory, and
//! counts as a heartbeat. A removed entry removes its registration. An override is removed only by an
//! explicit `"override": null`, so that a tool that knows only the base keys cannot lose one. A file that
//! control wrote itself (`sha256` matches) is a restored backup, whether its time is older or newer, since
//! clocks jump: then entries that it lacks are removed too. An edit made in a copy is still an edit.

use std::collections::BTreeMap;

use contract::config::MAX_WEIGHT;
use contract::raw::{RawObject, read_raw};
use contract::{Backend, BackendKey, Faults, Object, digest};
use serde_json::{Map, Value};

use super::entry::{Said, read_item_value, read_said, take_raw_backends};
use super::journal::{Digests, EntryDigest};
use super::listed::Listed;
use crate::auth::SecretHash;
use crate::base::write_pool;
use crate::clock::Now;
use crate::registry::{Override, Registered, Registry, RegistryEntry, Requests, Warming};

/// The largest file that is read. The maximum number of entries of maximum length is smaller.
pub const MAX_FILE_BYTES: usize = 32 << 20;

/// The entries of one version of the file, each as written there.
pub type FileEntries = BTreeMap<BackendKey, Value>;

/// One good reading of the file.
#[derive(Debug, Default)]
pub struct RuntimeFile {
    pub updated_at: Option<u64>,
    /// It is exactly what control wrote.
    pub is_ours: bool,
    /// Which version of control's it says to be. Somebody who edits entries by hand leaves it as it is.
    pub seal: Option<String>,
    pub entries: FileEntries,
    pub notes: Vec<String>,
}

/// Reads the file's bytes. Bad entries are not an error but notes.
///
/// # Errors
/// The faults of a document that is not such a file.
pub fn read(bytes: &[u8]) -> Result<RuntimeFile, Faults> {
    let document = RawObject::parse(bytes, MAX_FILE_BYTES)?;
    let value = |key| {
        let raw = document.get(key);
        raw.map(|raw| read_raw(raw, "", &mut Faults::default()))
    };
    let mut file = RuntimeFile {
        updated_at: value("updated_at").and_then(|value| value.as_u64()),
        ..RuntimeFile::default()
    };
    for (index, raw) in take_raw_backends(&document)?.iter().enumerate() {
        let place = format!("/backends/{index}");
        let item = read_item_value(raw, &place, &mut file.notes);
        let said = read_said(&item, &place, &mut file.notes).map(|(said, _)| said);
        if let Some(said) = said {
            file.entries.insert(said.key, item);
        }
    }
    let sealed = value("sha256");
    file.seal = sealed.as_ref().and_then(Value::as_str).map(str::to_owned);
    file.is_ours = file.seal == Some(seal(&file.entries, file.updated_at.unwrap_or(0)));
    file.notes = super::bounded(file.notes);
    Ok(file)
}

/// The registry as the file's entries. Base fields that the registry does not set have the values of
/// `listed`.
pub fn entries(registry: &Registry, listed: Listed, now: Now) -> FileEntries {
    let entries = registry.entries.iter();
    entries
        .map(|(key, entry)| (key.clone(), to_json(key, entry, listed, now)))
        .collect()
}

/// The file's bytes, one entry a line, and its seal.
pub fn render(entries: &FileEntries, updated_at: u64) -> (Vec<u8>, String) {
    let sha256 = seal(entries, updated_at);
    let mut text = format!(
        "{{\n  \"source\": \"runtime_register\",\n  \"updated_at\": {updated_at},\n  \
         \"sha256\": \"{sha256}\",\n"
    );
    super::push_backends(&mut text, entries.values());
    (text.into_bytes(), sha256)
}

/// A digest of a version's content, whatever its layout.
fn seal(entries: &FileEntries, updated_at: u64) -> String {
    let mut text = updated_at.to_string();
    for entry in entries.values() {
        text.push('\n');
        text.push_str(&entry.to_string());
    }
    digest(text.as_bytes())
}

fn to_json(key: &BackendKey, entry: &RegistryEntry, listed: Listed, now: Now) -> Value {
    let below = listed.backend(key);
    let mut object = match &entry.registered {
        Some(registered) => registration_json(key, registered, below.as_ref(), now),
        None => {
            let below = below.unwrap_or_else(|| Said::nothing_of(key.clone()).over(None));
            let mut object = below.to_json();
            object["last_seen"] = Value::Null;
            object
        }
    };
    if let Some(word) = &entry.r#override {
        object["override"] = word.to_json();
    }
    write_pool(key, object.as_object_mut().expect("an entry is an object"));
    object
}

/// The base fields are complete, for readers of the base format. Those that the backend has not sent are
/// also in `defaults`, with the same value; a field that is changed by hand counts as sent.
fn registration_json(
    key: &BackendKey,
    registered: &Registered,
    below: Option<&Backend>,
    now: Now,
) -> Value {
    let said = registered.said(key);
    let mut backend = said.over(below);
    backend.enabled &= !registered.is_expired();
    (backend.report, backend.batch) = (said.report, said.batch);
    let mut object = backend.to_json();
    let unsaid = [
        ("weight", said.weight.is_none()),
        ("enabled", said.enabled.is_none()),
        ("is_warming_up", said.is_warming_up.is_none()),
    ];
    let unsaid = unsaid.iter().filter(|(_, is_unsaid)| *is_unsaid);
    let defaults: Map<String, Value> = unsaid
        .map(|(key, _)| ((*key).to_owned(), object[*key].clone()))
        .collect();
    if !defaults.is_empty() {
        object["defaults"] = defaults.into();
    }
    object["last_seen"] = registered.last_seen.into();
    if registered.is_expired() {
        object["expired"] = true.into();
    }
    if let Some(owner) = registered.owner {
        object["owner_sha256"] = owner.hex().into();
    }
    if let Warming::Until(end_ms) = registered.warming {
        let left_ms = end_ms.saturating_sub(now.monotonic_ms);
        object["warms_until"] = (now.unix_ms + left_ms).div_ceil(1000).into();
    }
    object
}

/// Reads one entry back. A live registration gets a full TTL from `now`; an expired one stays
/// expired, since otherwise a restart of control would send traffic to dead servers.
pub fn read_entry(
    value: &Value,
    now: Now,
    warmup_ms: u64,
    notes: &mut Vec<String>,
) -> RegistryEntry {
    let Some((said, map)) = read_said(value, "", notes) else {
        return RegistryEntry::default();
    };
    let word = map.get("override").filter(|word| !word.is_null());
    let word = word.and_then(|word| read_override(word, &said.key, notes));
    let last_seen = map.get("last_seen").and_then(Value::as_f64);
    if word.is_some() && last_seen.is_none() {
        return RegistryEntry {
            registered: None,
            r#override: word,
        };
    }
    let owner = map.get("owner_sha256").and_then(Value::as_str);
    let is_expired = map.get("expired") == Some(&Value::Bool(true));
    let defaults = map.get("defaults");
    let is_default = |key: &str| {
        let default = defaults.and_then(|defaults| defaults.get(key));
        default.is_some() && default == map.get(key)
    };
    let warms_until_ms = map
        .get("warms_until")
        .and_then(Value::as_u64)
        .map(|seconds| seconds.saturating_mul(1000));
    let warming = match warms_until_ms {
        // The wall clock may have jumped while we were away, so the rest is at most a whole warm-up.
        Some(end_ms) if end_ms > now.unix_ms && warmup_ms > 0 => {
            Warming::Until(now.monotonic_ms + (end_ms - now.unix_ms).min(warmup_ms))
        }
        Some(_) => Warming::Unsaid,
        None if is_default("is_warming_up") => Warming::Unsaid,
        None => said.is_warming_up.map_or(Warming::Unsaid, Warming::Said),
    };
    let registered = Registered {
        weight: said.weight.filter(|_| !is_default("weight")),
        // `enabled` of an expired entry is set by control, for readers of the base format.
        enabled: match said.enabled {
            Some(_) if is_default("enabled") => None,
            Some(enabled) => Some(enabled || is_expired),
            None => None,
        },
        warming,
        report: said.report,
        requests: Requests::default(),
        batch: said.batch,
        owner: owner.and_then(SecretHash::of_hex),
        heard_at_ms: now.listened_ms,
        fresh_at_ms: None,
        last_seen: last_seen.map_or(now.unix_s(), |seconds| seconds as u64),
        expired_at_ms: is_expired.then_some(now.listened_ms),
    };
    RegistryEntry {
        registered: Some(registered),
        r#override: word,
    }
}

fn read_override(value: &Value, key: &BackendKey, notes: &mut Vec<String>) -> Option<Override> {
    let Value::Object(map) = value else {
        notes.push(format!(
            "{key}: override: found {value}, allowed: an object"
        ));
        return None;
    };
    let mut faults = Faults::default();
    let mut object = Object::new(map, "/override");
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, &mut faults);
    let word = Override {
        weight: weight.map(|weight| weight as u16),
        enabled: object.take_bool("enabled", &mut faults),
        drain: object.take_bool("drain", &mut faults),
        at: map.get("at").and_then(Value::as_u64).unwrap_or(0),
        actor: map
            .get("actor")
            .and_then(Value::as_str)
            .unwrap_or("file")
            .to_owned(),
    };
    notes.extend(faults.0.iter().map(|fault| format!("{key}: {fault}")));
    let says_something = word.weight.is_some() || word.enabled.is_some() || word.drain.is_some();
    says_something.then_some(word)
}

/// The origin of a version that control did not just write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The known version, or another one, was edited.
    Edited,
    /// Another version that control wrote was restored.
    Restored,
}

/// Takes over what others have changed between `known` and `found`. Returns the backends.
pub fn merge_edits(
    registry: &mut Registry,
    known: &Digests,
    found: &FileEntries,
    origin: Origin,
    now: Now,
    warmup_ms: u64,
    notes: &mut Vec<String>,
) -> Vec<BackendKey> {
    let mut changed = Vec::new();
    for (key, value) in found {
        if known.get(key) == Some(&EntryDigest::of(value)) {
            continue;
        }
        let mut entry = read_entry(value, now, warmup_ms, notes);
        if value.get("override").is_none() && origin == Origin::Edited {
            let ours = registry.entries.remove(key);
            entry.r#override = ours.and_then(|ours| ours.r#override);
        }
        if entry == RegistryEntry::default() {
            registry.entries.remove(key);
        } else {
            registry.entries.insert(key.clone(), entry);
        }
        changed.push(key.clone());
    }
    for key in known.keys().filter(|key| !found.contains_key(key)) {
        let is_gone = match origin {
            Origin::Edited => registry.unregister(key, now),
            Origin::Restored => registry.entries.remove(key).is_some(),
        };
        if is_gone {
            changed.push(key.clone());
        }
    }
    if !changed.is_empty() {
        registry.updated_at = now.unix_s();
    }
    changed
}

#[cfg(test)]
mod tests;
