//! Changes of listeners and pools: how a call says them, and what is wrong with them.

use std::collections::BTreeMap;

use contract::{Faults, Name};
use serde_json::{Map, Value};

use super::entry::{elsewhere, entries, faults_of};
use super::{Keys, Kind};

/// What a call changes about them.
#[derive(Debug, Default)]
pub struct Patch {
    /// Everything of these kinds is cleared first.
    pub(super) clears: Vec<Kind>,
    /// `None` clears the whole; a key that is `null` is cleared alone.
    pub(super) entries: BTreeMap<(Kind, Name), Option<Keys>>,
}

impl Patch {
    /// Reads `listeners` and `pools` of the object at `place`: listeners are an array or, as pools, an object by
    /// name.
    pub fn read(object: &Keys, place: &str, faults: &mut Faults) -> Patch {
        let mut patch = Patch::default();
        for kind in Kind::ALL {
            patch.read_kind(kind, object, place, faults);
        }
        patch
    }

    /// The names of `kind` that are cleared as a whole.
    pub fn cleared(&self, kind: Kind) -> impl Iterator<Item = &Name> {
        let entries = self.entries.iter();
        let cleared = entries.filter(move |((own, _), keys)| *own == kind && keys.is_none());
        cleared.map(|((_, name), _)| name)
    }

    /// Whether everything of `kind` is cleared.
    pub fn clears(&self, kind: Kind) -> bool {
        self.clears.contains(&kind)
    }

    /// The keys of a head that it is about.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        let entries = self.entries.keys();
        entries.map(|(kind, name)| kind.key(name.as_str()))
    }

    fn read_kind(&mut self, kind: Kind, object: &Keys, place: &str, faults: &mut Faults) {
        let word = kind.word();
        let place = format!("{place}/{word}");
        let value = match object.get(word) {
            None => return,
            Some(Value::Null) => return self.clears.push(kind),
            Some(value) => value,
        };
        let count = match (kind, value) {
            (Kind::Listener, Value::Array(items)) => items.len(),
            (_, Value::Object(map)) => map.len(),
            (Kind::Listener, other) => {
                let allowed = "an array of listeners with their names, or an object by name";
                return faults.add(&place, other, allowed);
            }
            (Kind::Pool, other) => return faults.add(&place, other, "an object of pools by name"),
        };
        if count > kind.most() {
            let allowed = format!("at most {} {word}", kind.most());
            return faults.add(&place, format!("{count} {word}"), allowed);
        }
        for (name, step, value) in entries(kind, Some(value)) {
            let place = format!("{place}/{step}");
            let name = match name {
                Ok(name) => name,
                Err(found) => {
                    let allowed = "a name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter";
                    faults.add(&place, found, allowed);
                    continue;
                }
            };
            let keys = match value {
                Value::Null => None,
                Value::Object(keys) => Some(keys),
                other => {
                    faults.add(&place, other, "an object");
                    continue;
                }
            };
            let keys = keys.map(|keys| {
                let mut keys = keys.clone();
                // In an array, it is the name. Under a name, a second one would rename what the first one means.
                if kind == Kind::Listener
                    && let Some(own) = keys.shift_remove("name")
                    && own != name.as_str()
                {
                    let allowed = format!("{:?}, or no name: the key is the name", name.as_str());
                    faults.add(&format!("{place}/name"), &own, allowed);
                }
                for key in elsewhere(kind, &name) {
                    if let Some(value) = keys.shift_remove(*key) {
                        let allowed = "no host, port or protocol: the listener default stays at \"listen\", \
                                       in control_config.json at default_listen_host and default_listen_port";
                        faults.add(&format!("{place}/{key}"), &value, allowed);
                    }
                }
                keys
            });
            if let Some(keys) = &keys {
                faults.0.extend(faults_of(kind, &name, keys, &place).0);
                let has_others = value
                    .as_object()
                    .is_some_and(|all| all.keys().any(|key| key != "name"));
                if kind == Kind::Listener && !has_others {
                    let allowed = "host and port, or a key to change";
                    faults.add(&place, "nothing but a name", allowed);
                }
            }
            if self.entries.insert((kind, name), keys).is_some() {
                faults.add(&place, "the same name again", "each name once");
            }
        }
    }
}

/// The patch that leads from one layer's `proxy` to another's, beside the keys at the top.
pub fn between(from: &Keys, to: &Keys, patch: &mut Keys) {
    for kind in Kind::ALL {
        let of = |object: &Keys| {
            let mut none = Faults::default();
            let read = Patch::read(object, "", &mut none).entries.into_iter();
            read.filter_map(|((own, name), keys)| (own == kind).then_some((name, keys?)))
                .collect::<BTreeMap<Name, Keys>>()
        };
        let (from, to) = (of(from), of(to));
        let mut changed = Map::new();
        for name in from.keys().filter(|name| !to.contains_key(*name)) {
            changed.insert(name.to_string(), Value::Null);
        }
        let none = Map::new();
        for (name, keys) in &to {
            let before = from.get(name);
            if before == Some(keys) {
                continue;
            }
            let before = before.unwrap_or(&none);
            let mut change = keys.clone();
            change.retain(|key, value| before.get(key) != Some(value));
            let lost = before.keys().filter(|key| !keys.contains_key(*key));
            change.extend(lost.map(|key| (key.clone(), Value::Null)));
            changed.insert(name.to_string(), change.into());
        }
        patch.remove(kind.word());
        if !changed.is_empty() {
            patch.insert(kind.word().to_owned(), changed.into());
        }
    }
}
