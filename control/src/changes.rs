//! Edits of several backends as one change, all or none: what the console stages and applies.
//!
//! Pure.

use std::collections::BTreeSet;

use contract::{BackendKey, Faults, Object};
use serde_json::{Map, Value, json};

use crate::base::parse_key;
use crate::merge::Row;
use crate::note::take_note;
use crate::registry::OverridePatch;
use crate::words::many;

/// The most backends of one change.
pub const MAX_EDITS: usize = 10_000;
const ALLOWED_ID: &str = "\"ip:port\" of a backend, an IPv6 address in brackets";

/// A roll back. It consists of two mutations where settings and overrides change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollBack {
    /// Unique since the start.
    pub id: u64,
    /// The edit before which it restores the state.
    pub before_edit: u64,
}

/// Edits that are carried out together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSet {
    pub edits: Vec<(BackendKey, OverridePatch)>,
    /// The number of edits that they were made for (`Model::edits`); `None`: any.
    pub if_revision: Option<u64>,
    /// The operator's note.
    pub note: Option<String>,
    pub roll_back: Option<RollBack>,
}

impl ChangeSet {
    /// Reads `{"changes": [{"id", "weight"?, "enabled"?, "drain"?}, ...], "note"?}`.
    ///
    /// # Errors
    /// All faults of all edits.
    pub fn read(body: &Map<String, Value>, if_revision: Option<u64>) -> Result<ChangeSet, Faults> {
        let allowed = format!("an array of 1 to {MAX_EDITS} edits");
        let mut faults = Faults::default();
        let mut object = Object::new(body, "");
        let items = object.take("changes").and_then(Value::as_array);
        let note = take_note(&mut object, &mut faults);
        object.unknown_keys(&mut faults);
        let items = match items {
            Some(items) if !items.is_empty() && items.len() <= MAX_EDITS => items,
            Some(items) => {
                faults.add("/changes", format!("{} edits", items.len()), allowed);
                return Err(faults);
            }
            None => {
                let found = body
                    .get("changes")
                    .map_or("nothing".to_owned(), Value::to_string);
                faults.add("/changes", found, allowed);
                return Err(faults);
            }
        };
        let mut edits = Vec::with_capacity(items.len());
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("/changes/{index}");
            let Some(map) = item.as_object() else {
                faults.add(&place, item, "an object");
                continue;
            };
            let patch = OverridePatch::read(map, &place, &["id"], &mut faults);
            let said = map.get("id").and_then(Value::as_str).unwrap_or_default();
            let Some(key) = parse_key(said) else {
                faults.add(&format!("{place}/id"), said, ALLOWED_ID);
                continue;
            };
            if !seen.insert(key.clone()) {
                faults.add(&format!("{place}/id"), said, "each backend once");
            }
            edits.push((key, patch));
        }
        match faults.is_empty() {
            true => Ok(ChangeSet {
                edits,
                if_revision,
                note,
                roll_back: None,
            }),
            false => Err(faults),
        }
    }

    /// Its target in the audit log.
    pub fn target(&self) -> String {
        match self.edits.as_slice() {
            [(key, _)] => key.to_string(),
            edits => many(edits.len(), "backend"),
        }
    }
}

/// The current values that an edit changes: for the diff, the audit log and undo.
pub fn describe(row: &Row) -> Value {
    let word = row.r#override.as_ref();
    let drain = word.and_then(|word| word.drain).unwrap_or(false);
    let parts = word
        .map(|word| json!({ "weight": word.weight, "enabled": word.enabled, "drain": word.drain }));
    json!({
        "weight": row.backend.weight, "enabled": row.backend.enabled, "drain": drain,
        "override": parts,
    })
}

/// Old and new values of each backend, and the edits that undo them, from [`describe`]. They name only what
/// differs, so that they take back nothing that somebody edits later.
pub fn diff(old: &Value, new: &Value) -> (Vec<Value>, Vec<Value>) {
    let empty = Map::new();
    let before = old.as_object().unwrap_or(&empty);
    let lines = before
        .iter()
        .map(|(id, old)| json!({ "id": id, "old": old, "new": new[id] }));
    let undo = before.iter().filter_map(|(id, old)| {
        let (old, new) = (&old["override"], &new[id]["override"]);
        let parts = ["weight", "enabled", "drain"].into_iter();
        let mut edit: Map<String, Value> = parts
            .filter(|part| old[part] != new[part])
            .map(|part| (part.to_owned(), old[part].clone()))
            .collect();
        let differs = !edit.is_empty();
        edit.insert("id".to_owned(), id.as_str().into());
        differs.then(|| Value::Object(edit))
    });
    (lines.collect(), undo.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<ChangeSet, String> {
        let body = body.as_object().expect("an object").clone();
        ChangeSet::read(&body, None).map_err(|faults| faults.to_string())
    }

    #[test]
    fn what_undoes_a_change_names_only_what_it_changed() {
        let seen = |weight: Value, drain: Value| json!({ "weight": 1, "override": { "weight": weight, "enabled": null, "drain": drain } });
        let old = json!({ "a": { "weight": 10, "override": null }, "b": seen(5.into(), true.into()), "c": seen(7.into(), Value::Null) });
        let new = json!({ "a": seen(40.into(), Value::Null), "b": { "weight": 10, "override": null }, "c": seen(7.into(), Value::Null) });
        let (lines, undo) = diff(&old, &new);
        assert_eq!(lines.len(), 3);
        let expected =
            json!([{ "id": "a", "weight": null }, { "id": "b", "weight": 5, "drain": true }]);
        assert_eq!(json!(undo), expected);
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let faults = read(json!({"changes": [
            {"id": "10.0.0.1:80"}, {"id": "host:80", "weight": 1}, {"id": "10.0.0.2:80", "weight": 1001},
            {"id": "10.0.0.3:80", "drain": true}, {"id": "10.0.0.3:80", "drain": false}, 7,
            {"id": "[::1]:80", "wieght": 1, "drain": true}]}));
        let text = faults.expect_err("full of faults");
        for place in [
            "/changes/0",
            "/changes/1/id",
            "/changes/2/weight",
            "/changes/4/id",
            "/changes/5",
            "/changes/6/wieght",
        ] {
            assert!(text.contains(place), "{place}: {text}");
        }
        assert!(!text.contains("/changes/3"), "{text}");
        assert!(read(json!({"changes": []})).is_err() && read(json!({})).is_err());
    }
}
