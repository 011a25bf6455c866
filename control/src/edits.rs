//! The last edits by people, each with the values before and after it: what can be rolled back.
//!
//! Only edits of overrides and settings are kept; the static list is the operator's own file. They are in
//! `data/edits.jsonl`, one JSON object a line, the oldest first.

mod file;

use std::collections::{BTreeMap, VecDeque};

use contract::BackendKey;
use serde_json::{Map, Value, json};

use crate::base::parse_key;
use crate::changes::RollBack;
use crate::clock::Now;
use crate::layer::Layer;
use crate::model::{Change, Model, Mutation};
use crate::registry::{OverridePatch, Part};
use crate::services;

pub use file::EditsFile;

/// How many are kept.
const KEPT: usize = 50;
/// How many overrides they may change together: a change of all backends is thousands.
const KEPT_OVERRIDES: usize = 100_000;
/// The largest number of an edit that is read: any later one can be written as JSON without loss.
const MAX_NUMBER: u64 = 1 << 52;
/// The largest time that is read, in Unix milliseconds: that of a JavaScript `Date`.
const MAX_AT_MS: u64 = 8_640_000_000_000_000;
/// The action of an edit that is a roll back.
const ROLL_BACK: &str = "roll_back";
/// The actions that are read. An edit of another kind is one of a later version, with a meaning that is not
/// known.
const ACTIONS: [&str; 8] = [
    ROLL_BACK,
    "weight",
    "enabled",
    "drain",
    "clear_override",
    "changes",
    "settings",
    "roll_back_settings",
];
const MEMBERS: [&str; 9] = [
    "number",
    "at_ms",
    "actor",
    "action",
    "target",
    "note",
    "before_edit",
    "overrides",
    "settings",
];

/// The values of an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    weight: Option<u16>,
    enabled: Option<bool>,
    drain: Option<bool>,
}

/// One edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Grows by one with each.
    pub number: u64,
    at_ms: u64,
    actor: String,
    action: String,
    target: String,
    note: Option<String>,
    /// Of a roll back: the edit before which it restores the state.
    before_edit: Option<u64>,
    what: What,
}

/// What became of a mutation in the list.
#[derive(Debug, PartialEq)]
pub struct Noted<'a> {
    pub edit: &'a Edit,
    /// It was added to the edit that the same roll back had begun.
    pub is_joined: bool,
}

/// What an edit changed: before and after.
#[derive(Debug, Clone, PartialEq)]
struct What {
    overrides: BTreeMap<BackendKey, (Parts, Parts)>,
    settings: Option<(Layer, Layer)>,
}

#[derive(Debug, Default)]
pub struct Edits {
    kept: VecDeque<Edit>,
    last: u64,
    /// The roll back that the newest edit belongs to.
    under_way: Option<RollBack>,
}

/// The changes that restore the state before an edit.
#[derive(Debug, PartialEq)]
pub struct WayBack {
    pub before_edit: u64,
    /// Whole overrides; those of backends that are no longer known are left out, and named in `gone`.
    pub overrides: Vec<(BackendKey, OverridePatch)>,
    pub gone: Vec<BackendKey>,
    /// A patch of the settings by API; empty if they do not change.
    pub settings: Map<String, Value>,
}

impl Parts {
    /// `None` where there is anything but `{"weight"?, "enabled"?, "drain"?}`.
    fn read(value: &Value) -> Option<Parts> {
        let parts = Parts::of(value);
        let known = parts.to_json();
        let mut members = value.as_object()?.iter();
        let is_known = |(key, value): (&String, &Value)| known.get(key) == Some(value);
        members.all(is_known).then_some(parts)
    }

    /// Takes `{"weight"?, "enabled"?, "drain"?}`; anything else is empty.
    fn of(value: &Value) -> Parts {
        let weight = value["weight"].as_u64();
        Parts {
            weight: weight.and_then(|weight| u16::try_from(weight).ok()),
            enabled: value["enabled"].as_bool(),
            drain: value["drain"].as_bool(),
        }
    }

    fn to_json(self) -> Value {
        json!({ "weight": self.weight, "enabled": self.enabled, "drain": self.drain })
    }

    /// The edit that leads to exactly this.
    fn patch(self) -> OverridePatch {
        fn part<T>(value: Option<T>) -> Part<T> {
            value.map_or(Part::Clear, Part::Set)
        }
        OverridePatch {
            weight: part(self.weight),
            enabled: part(self.enabled),
            drain: part(self.drain),
        }
    }
}

impl What {
    /// `None` if the mutation cannot be rolled back, or has changed nothing.
    fn of(mutation: &Mutation, change: &Change) -> Option<What> {
        let (old, new) = (&change.old, &change.new);
        let mut overrides = BTreeMap::new();
        let mut settings = None;
        match mutation {
            Mutation::SetOverride(key, _) | Mutation::ClearOverride(key) => {
                let parts = |value: &Value| Parts::of(&value["override"]);
                overrides.insert(key.clone(), (parts(old), parts(new)));
            }
            Mutation::Change(set) => {
                for (key, _) in &set.edits {
                    let id = key.to_string();
                    let parts = |value: &Value| Parts::of(&value[&id]["override"]);
                    overrides.insert(key.clone(), (parts(old), parts(new)));
                }
            }
            Mutation::ChangeSettings(_) | Mutation::RollBackSettings(_) => {
                settings = Some((layer(old)?, layer(new)?));
            }
            Mutation::Register(_)
            | Mutation::Unregister(..)
            | Mutation::SetStatic(_)
            | Mutation::RemoveStatic(_)
            | Mutation::KeepSettings(_)
            | Mutation::AcknowledgeExpiry => return None,
        }
        overrides.retain(|_, (old, new)| old != new);
        settings = settings.filter(|(old, new)| old != new);
        let is_empty = overrides.is_empty() && settings.is_none();
        (!is_empty).then_some(What {
            overrides,
            settings,
        })
    }
}

fn layer(value: &Value) -> Option<Layer> {
    Layer::default().patched(value.as_object()?).ok()
}

impl Edit {
    pub fn to_json(&self) -> Value {
        let overrides = self.what.overrides.iter().map(|(key, (old, new))| {
            json!({ "id": key.to_string(), "old": old.to_json(), "new": new.to_json() })
        });
        let settings = self.what.settings.as_ref();
        let settings =
            settings.map(|(old, new)| json!({ "old": old.to_json(), "new": new.to_json() }));
        json!({
            "number": self.number, "at_ms": self.at_ms, "actor": self.actor, "action": self.action,
            "target": self.target, "note": self.note, "before_edit": self.before_edit,
            "overrides": overrides.collect::<Vec<Value>>(), "settings": settings,
        })
    }

    /// `None` where it cannot be read, or says more than is known here.
    fn from_json(value: &Value) -> Option<Edit> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let number = |key: &str, most| value[key].as_u64().filter(|number| *number <= most);
        let mut members = value.as_object()?.keys();
        if !members.all(|key| MEMBERS.contains(&key.as_str())) {
            return None;
        }
        let before_edit = match &value["before_edit"] {
            Value::Null => None,
            _ => Some(number("before_edit", MAX_NUMBER)?),
        };
        let overrides = value["overrides"].as_array()?.iter().map(|line| {
            let key = parse_key(line["id"].as_str()?)?;
            Some((
                key,
                (Parts::read(&line["old"])?, Parts::read(&line["new"])?),
            ))
        });
        let settings = match &value["settings"] {
            Value::Null => None,
            both => Some((layer(&both["old"])?, layer(&both["new"])?)),
        };
        Some(Edit {
            number: number("number", MAX_NUMBER)?,
            at_ms: number("at_ms", MAX_AT_MS)?,
            actor: text("actor")?,
            action: text("action").filter(|action| ACTIONS.contains(&action.as_str()))?,
            target: text("target")?,
            note: text("note"),
            before_edit,
            what: What {
                overrides: overrides.collect::<Option<_>>()?,
                settings,
            },
        })
    }
}

impl Edits {
    /// Takes over an edit of a file, where the oldest come first. False if its number does not grow: it is
    /// left out, since a number names one edit.
    fn take(&mut self, edit: Edit) -> bool {
        let grows = edit.number > self.last;
        if grows {
            self.last = edit.number;
            self.keep(edit);
        }
        grows
    }

    fn keep(&mut self, edit: Edit) {
        self.kept.push_back(edit);
        let overrides = |edits: &VecDeque<Edit>| -> usize {
            edits.iter().map(|edit| edit.what.overrides.len()).sum()
        };
        while self.kept.len() > KEPT
            || (self.kept.len() > 1 && overrides(&self.kept) > KEPT_OVERRIDES)
        {
            self.kept.pop_front();
        }
    }

    /// Keeps and returns the changes of a mutation, if it can be rolled back. The overrides of a roll back
    /// that has changed settings just before are added to the same edit, so that one roll back undoes both.
    pub fn note(
        &mut self,
        mutation: &Mutation,
        change: &Change,
        actor: &str,
        now: Now,
    ) -> Option<Noted<'_>> {
        let what = What::of(mutation, change)?;
        let roll_back = mutation.roll_back();
        let is_joined = roll_back.is_some() && roll_back == self.under_way;
        self.under_way = roll_back;
        if let (true, Some(begun)) = (is_joined, self.kept.back_mut()) {
            begun.what.overrides.extend(what.overrides);
            let edit = self.kept.back()?;
            return Some(Noted { edit, is_joined });
        }
        self.last += 1;
        let edit = Edit {
            number: self.last,
            at_ms: now.unix_ms,
            actor: actor.to_owned(),
            action: roll_back
                .map_or(mutation.action(), |_| ROLL_BACK)
                .to_owned(),
            target: mutation.target(),
            note: mutation.note().map(str::to_owned),
            before_edit: roll_back.map(|roll_back| roll_back.before_edit),
            what,
        };
        self.keep(edit);
        let edit = self.kept.back()?;
        Some(Noted {
            edit,
            is_joined: false,
        })
    }

    /// The oldest first.
    pub fn lines(&self) -> Vec<Value> {
        self.kept.iter().map(Edit::to_json).collect()
    }

    /// The changes that restore the state before edit `number`; `None` if it is not kept.
    pub fn way_back(&self, number: u64, model: &Model) -> Option<WayBack> {
        self.kept.iter().find(|edit| edit.number == number)?;
        let mut parts: BTreeMap<BackendKey, Parts> = BTreeMap::new();
        let mut settings = model.runtime_settings.clone();
        let undone = self.kept.iter().rev();
        for edit in undone.take_while(|edit| edit.number >= number) {
            for (key, (old, _)) in &edit.what.overrides {
                parts.insert(key.clone(), *old);
            }
            if let Some((old, new)) = &edit.what.settings {
                settings = settings.taken_back(old, new);
            }
        }
        let (known, gone): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|(key, _)| model.knows(key));
        Some(WayBack {
            before_edit: number,
            overrides: known
                .into_iter()
                .map(|(key, parts)| (key, parts.patch()))
                .collect(),
            gone: gone.into_iter().map(|(key, _)| key).collect(),
            settings: between(&model.runtime_settings, &settings),
        })
    }
}

/// The body of `POST /api/settings` that leads from one to the other.
fn between(from: &Layer, to: &Layer) -> Map<String, Value> {
    let (from, to) = (from.to_json(), to.to_json());
    let empty = Map::new();
    let members = |value: &Value| value.as_object().unwrap_or(&empty).clone();
    let changed = |from: &Value, to: &Value| {
        let (from, to) = (members(from), members(to));
        let lost = from.keys().filter(|key| !to.contains_key(*key));
        let lost: Vec<(String, Value)> = lost.map(|key| (key.clone(), Value::Null)).collect();
        let new = to
            .into_iter()
            .filter(|(key, value)| from.get(key) != Some(value));
        new.chain(lost).collect::<Map<String, Value>>()
    };
    let mut patch = changed(&from, &to);
    for group in ["listen", "proxy"] {
        if patch.contains_key(group) {
            let mut changed = changed(&from[group], &to[group]);
            if group == "proxy" {
                services::between(&members(&from[group]), &members(&to[group]), &mut changed);
            }
            patch.insert(group.to_owned(), changed.into());
        }
    }
    patch
}

#[cfg(test)]
mod tests;
