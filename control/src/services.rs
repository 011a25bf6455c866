//! Listeners and pools in a layer of settings, and in the head of the published file: each by its name, each a set
//! of keys.
//!
//! In a head, a listener or a pool is one key beside the keys at the top: `listeners/NAME`, `pools/NAME`. So what
//! holds for a key holds for them: layers differ in it, a call that changed it is rolled back, and the proxy's
//! refusal of it keeps its last accepted value. Its value is the object of the file without the name, and without
//! the backends.

mod entry;
mod listening;
mod patch;

use std::collections::{BTreeMap, BTreeSet};

use contract::config::{MAX_LISTENERS, MAX_POOLS};
use contract::{DEFAULT_NAME, Name};
use serde_json::{Map, Value};

use entry::{elsewhere, entries, faults_of};

pub use entry::{leave_elsewhere, step_of};
pub use listening::{Listening, addr_of, listening, pools_of, published_default};
pub use patch::{Patch, between};

type Keys = Map<String, Value>;

/// The two kinds of things that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Listener,
    Pool,
}

/// What one layer says about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services(BTreeMap<(Kind, Name), Keys>);

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Listener, Kind::Pool];

    /// The key of `proxy_config.json` that has them.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Listener => "listeners",
            Kind::Pool => "pools",
        }
    }

    fn most(self) -> usize {
        match self {
            Kind::Listener => MAX_LISTENERS,
            Kind::Pool => MAX_POOLS,
        }
    }

    /// The key of a head.
    pub fn key(self, name: &str) -> String {
        format!("{}/{name}", self.word())
    }
}

/// The listener or pool that a key of a head is about; `None` for a key at the top.
pub fn part(key: &str) -> Option<(Kind, Name)> {
    let (word, name) = key.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    Some((kind, Name::new(name)?))
}

impl Services {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a listener beside `default`.
    pub fn has_other_listener(&self) -> bool {
        let mut names = self.names(Kind::Listener).into_iter();
        names.any(|name| name.as_str() != DEFAULT_NAME)
    }

    pub fn names(&self, kind: Kind) -> BTreeSet<Name> {
        let own = self.0.keys().filter(|(own, _)| *own == kind);
        own.map(|(_, name)| name.clone()).collect()
    }

    pub fn get(&self, kind: Kind, name: &Name) -> Option<&Keys> {
        self.0.get(&(kind, name.clone()))
    }

    /// What a valid published file says. Keys that this build does not know are left out, and so are backends,
    /// which are no settings, and where the listener `default` is, which is said in `listen`.
    pub fn of_published(document: &Keys) -> Services {
        let mut patch = Patch::default();
        for kind in Kind::ALL {
            for (name, place, value) in entries(kind, document.get(kind.word())) {
                let (Ok(name), Value::Object(keys)) = (name, value) else {
                    continue;
                };
                let mut known = keys.clone();
                known.retain(|key, value| {
                    let one = Map::from_iter([(key.clone(), value.clone())]);
                    let of_others = [&["name", "backends"][..], elsewhere(kind, &name)].concat();
                    let is_own = !of_others.contains(&key.as_str()) && !value.is_null();
                    is_own && faults_of(kind, &name, &one, &place).is_empty()
                });
                patch.entries.insert((kind, name), Some(known));
            }
        }
        Services::default().patched(&patch)
    }

    pub fn patched(&self, patch: &Patch) -> Services {
        let mut all = self.0.clone();
        all.retain(|(kind, _), _| !patch.clears.contains(kind));
        for (own, change) in &patch.entries {
            let Some(change) = change else {
                all.remove(own);
                continue;
            };
            let keys = all.entry(own.clone()).or_default();
            write_over(keys, change);
            keys.retain(|_, value| !value.is_null());
            // A pool without keys has the defaults; a listener without keys says nothing.
            if own.0 == Kind::Listener && keys.is_empty() {
                all.remove(own);
            }
        }
        Services(all)
    }

    /// These where they speak, `below` where they are silent.
    pub fn over(&self, below: &Services) -> Services {
        let mut all = below.0.clone();
        for (own, keys) in &self.0 {
            write_over(all.entry(own.clone()).or_default(), keys);
        }
        Services(all)
    }

    /// Those that `other` does not set.
    pub fn beyond(&self, other: &Services) -> Services {
        let mut all = self.0.clone();
        all.retain(|own, keys| {
            let Some(set) = other.0.get(own) else {
                return true;
            };
            keys.retain(|key, _| !set.contains_key(key));
            !keys.is_empty()
        });
        Services(all)
    }

    /// Those of which `other` does not say the same.
    pub fn unlike(&self, other: &Services) -> Services {
        let mut all = self.0.clone();
        all.retain(|own, keys| {
            let Some(set) = other.0.get(own) else {
                return true;
            };
            keys.retain(|key, value| set.get(key) != Some(value));
            !keys.is_empty()
        });
        Services(all)
    }

    /// The keys of a head of which the two say something else.
    pub fn differing<'a>(&'a self, other: &'a Services) -> impl Iterator<Item = String> + 'a {
        let both = self.0.keys().chain(other.0.keys());
        let differing = both.filter(|own| self.0.get(*own) != other.0.get(*own));
        differing.map(|(kind, name)| kind.key(name.as_str()))
    }

    /// The value of a key of a head, of a listener or a pool.
    pub fn value(&self, key: &str) -> Option<&Keys> {
        self.0.get(&part(key)?)
    }

    /// Sets the same; `None` removes it.
    pub fn set(&mut self, key: &str, keys: Option<&Keys>) {
        match (part(key), keys) {
            (Some(own), Some(keys)) => _ = self.0.insert(own, keys.clone()),
            (Some(own), None) => _ = self.0.remove(&own),
            (None, _) => {}
        }
    }

    /// As keys of a head: listeners before pools, each in the order of names.
    pub fn head(&self) -> impl Iterator<Item = (String, Value)> {
        let parts = self.0.iter();
        parts.map(|((kind, name), keys)| (kind.key(name.as_str()), keys.clone().into()))
    }

    /// Adds `listeners` and `pools` in the shape that [`Patch::read`] reads; nothing where none is said.
    pub fn write(&self, object: &mut Keys) {
        let of = |kind| self.0.iter().filter(move |((own, _), _)| *own == kind);
        let listeners = of(Kind::Listener).map(|((_, name), keys)| with_name(name, keys));
        let listeners: Vec<Value> = listeners.collect();
        if !listeners.is_empty() {
            object.insert(Kind::Listener.word().to_owned(), listeners.into());
        }
        let pools = of(Kind::Pool).map(|((_, name), keys)| (name.to_string(), keys.clone().into()));
        let pools: Keys = pools.collect();
        if !pools.is_empty() {
            object.insert(Kind::Pool.word().to_owned(), pools.into());
        }
    }
}

/// The keys of a listener that say where it leads; each of the first three takes the place of the others.
const TARGET: [&str; 4] = ["pool", "split", "routes", "split_by"];

/// Writes `above` over `keys`. Where it says where a listener leads, what `keys` said of that goes.
fn write_over(keys: &mut Keys, above: &Keys) {
    let says = |key: &str| above.get(key).is_some_and(|value| !value.is_null());
    if TARGET[..3].iter().any(|key| says(key)) {
        keys.retain(|key, _| !TARGET.contains(&key.as_str()));
    }
    keys.extend(above.clone());
}

/// A listener as the file has it.
pub fn with_name(name: &Name, keys: &Keys) -> Value {
    let own = [("name".to_owned(), name.as_str().into())];
    let keys = keys.clone().into_iter().filter(|(key, _)| key != "name");
    Value::Object(own.into_iter().chain(keys).collect())
}

#[cfg(test)]
mod tests;
