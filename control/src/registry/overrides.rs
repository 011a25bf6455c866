//! An operator's override of a backend, and edits of it.
//!
//! An edit is a merge patch (RFC 7396): a key sets its part, `null` clears it so that weaker sources decide,
//! and an absent key changes nothing.

use contract::config::MAX_WEIGHT;
use contract::{Faults, Object};
use serde_json::{Map, Value};

/// The parts that an edit may set.
const PARTS: [&str; 3] = ["weight", "enabled", "drain"];

/// An operator's override of a backend; `None` leaves a value to weaker sources.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Override {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub drain: Option<bool>,
    /// Unix seconds of the last change.
    pub at: u64,
    pub actor: String,
}

/// One change to an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideChange {
    Weight(u16),
    Enabled(bool),
    Drain(bool),
}

/// What an edit does to one part of an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

/// An edit of one backend's override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OverridePatch {
    pub weight: Part<u16>,
    pub enabled: Part<bool>,
    pub drain: Part<bool>,
}

impl Override {
    /// An override as in files and answers: only the values that are set.
    pub fn described(&self) -> api::v1::Override {
        api::v1::Override {
            weight: self.weight,
            enabled: self.enabled,
            drain: self.drain,
            at: self.at,
            actor: self.actor.clone(),
        }
    }

    /// As in files and the audit log.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        if let Some(weight) = self.weight {
            object.insert("weight".into(), weight.into());
        }
        if let Some(enabled) = self.enabled {
            object.insert("enabled".into(), enabled.into());
        }
        if let Some(drain) = self.drain {
            object.insert("drain".into(), drain.into());
        }
        object.insert("at".into(), self.at.into());
        object.insert("actor".into(), self.actor.clone().into());
        object.into()
    }
}

impl<T: Copy> Part<T> {
    fn patch(self, old: Option<T>) -> Option<T> {
        match self {
            Part::Keep => old,
            Part::Clear => None,
            Part::Set(value) => Some(value),
        }
    }

    /// `null` in a merge patch clears; an unreadable value is a fault that has been noted already.
    fn read(map: &Map<String, Value>, key: &str, read: Option<T>) -> Part<T> {
        match (map.get(key), read) {
            (Some(Value::Null), _) => Part::Clear,
            (_, Some(value)) => Part::Set(value),
            (_, None) => Part::Keep,
        }
    }
}

impl OverridePatch {
    /// Reads the parts; keys in `also` are read elsewhere.
    pub fn read(
        map: &Map<String, Value>,
        place: &str,
        also: &[&'static str],
        faults: &mut Faults,
    ) -> OverridePatch {
        let mut object = Object::new(map, place);
        for key in also {
            object.take(key);
        }
        let weight = object.take_integer("weight", 0, MAX_WEIGHT, faults);
        let enabled = object.take_bool("enabled", faults);
        let drain = object.take_bool("drain", faults);
        object.unknown_keys(faults);
        if !PARTS.iter().any(|part| map.contains_key(*part)) {
            faults.add(
                place,
                "no edit",
                "at least one of \"weight\", \"enabled\", \"drain\"",
            );
        }
        OverridePatch {
            weight: Part::read(map, "weight", weight.map(|weight| weight as u16)),
            enabled: Part::read(map, "enabled", enabled),
            drain: Part::read(map, "drain", drain),
        }
    }

    /// The override afterwards; `None` if it is then empty.
    pub fn of(self, old: Option<&Override>) -> Option<Override> {
        let mut word = old.cloned().unwrap_or_default();
        word.weight = self.weight.patch(word.weight);
        word.enabled = self.enabled.patch(word.enabled);
        word.drain = self.drain.patch(word.drain);
        let is_empty = word.weight.is_none() && word.enabled.is_none() && word.drain.is_none();
        (!is_empty).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_edit_sets_clears_and_keeps() {
        let edit = json!({ "weight": 5, "drain": null });
        let mut faults = Faults::default();
        let patch = OverridePatch::read(edit.as_object().expect("one"), "", &[], &mut faults);
        assert!(faults.is_empty(), "{faults}");
        assert_eq!(patch.weight, Part::Set(5));
        assert_eq!(patch.enabled, Part::Keep);
        assert_eq!(patch.drain, Part::Clear);
        let old = Override {
            enabled: Some(false),
            drain: Some(true),
            ..Override::default()
        };
        let word = patch.of(Some(&old)).expect("something is left");
        assert_eq!(
            (word.weight, word.enabled, word.drain),
            (Some(5), Some(false), None)
        );
        let clear = OverridePatch {
            drain: Part::Clear,
            ..OverridePatch::default()
        };
        let only_drain = Override {
            drain: Some(true),
            ..Override::default()
        };
        assert_eq!(clear.of(Some(&only_drain)), None);
    }
}
