//! Listeners and pools in a layer of settings, and in the head of the published file: each by its name, each a set
//! of keys.
//!
//! In a head, a listener or a pool is one key beside the keys at the top: `listeners/NAME`, `pools/NAME`. So what
//! holds for a key holds for them: layers differ in it, a call that changed it is rolled back, and the proxy's
//! refusal of it keeps its last accepted value. Its value is the object of the file without the name, and without
//! the backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use contract::config::{MAX_LISTENERS, MAX_POOLS};
use contract::{DEFAULT_NAME, Faults, LocalAddresses, Name, check};
use serde_json::{Map, Value, json};

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

/// What a call changes about them.
#[derive(Debug, Default)]
pub struct Patch {
    /// Everything of these kinds is cleared first.
    clears: Vec<Kind>,
    /// `None` clears the whole; a key that is `null` is cleared alone.
    entries: BTreeMap<(Kind, Name), Option<Keys>>,
}

/// A listener of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The key of the head that says so.
    pub key: String,
    pub name: Name,
    pub addr: SocketAddr,
    pub is_tcp: bool,
    pub is_udp: bool,
    /// Where it leads to, as written.
    pub pool: String,
}

impl Listening {
    /// As `protocol` of a listener says it.
    pub fn protocol(&self) -> &'static str {
        match (self.is_tcp, self.is_udp) {
            (true, false) => "tcp",
            (false, true) => "udp",
            (true, true) | (false, false) => "tcp+udp",
        }
    }
}

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
            keys.extend(change.clone());
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
            all.entry(own.clone()).or_default().extend(keys.clone());
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

/// A listener as the file has it.
pub fn with_name(name: &Name, keys: &Keys) -> Value {
    let own = [("name".to_owned(), name.as_str().into())];
    let keys = keys.clone().into_iter().filter(|(key, _)| key != "name");
    Value::Object(own.into_iter().chain(keys).collect())
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

type Entry<'a> = (Result<Name, String>, String, &'a Value);

/// Each entry with its name, or what is there instead, and its step in a JSON pointer.
fn entries(kind: Kind, value: Option<&Value>) -> Vec<Entry<'_>> {
    let named = |text: &str| Name::new(text).ok_or_else(|| format!("the name {text:?}"));
    match value {
        Some(Value::Array(items)) if kind == Kind::Listener => {
            let items = items.iter().enumerate();
            let entries = items.map(|(index, item)| {
                let name = item["name"].as_str().map(named);
                let name = name.unwrap_or_else(|| Err("no name".to_owned()));
                (name, index.to_string(), item)
            });
            entries.collect()
        }
        Some(Value::Object(map)) => {
            let entries = map.iter();
            let step = |name: &str| name.replace('~', "~0").replace('/', "~1");
            entries
                .map(|(name, value)| (named(name), step(name), value))
                .collect()
        }
        Some(_) | None => Vec::new(),
    }
}

/// The keys of a listener or pool that a layer has in another place, so that one value has one place: what `listen`
/// says would not hold where an entry for the listener `default` said otherwise.
fn elsewhere(kind: Kind, name: &Name) -> &'static [&'static str] {
    match kind {
        Kind::Listener if name.as_str() == DEFAULT_NAME => &["host", "port", "protocol"],
        Kind::Listener | Kind::Pool => &[],
    }
}

/// The step in a JSON pointer at which `proxy` speaks of a listener or pool, in an array or by name.
pub fn step_of(proxy: &Keys, kind: Kind, name: &Name) -> Option<String> {
    let mut entries = entries(kind, proxy.get(kind.word())).into_iter();
    entries.find_map(|(own, step, _)| (own.as_ref() == Ok(name)).then_some(step))
}

/// What the contract's check says about these keys in an otherwise good listener or pool. Keys that are `null` have
/// to be known, too.
fn faults_of(kind: Kind, name: &Name, keys: &Keys, place: &str) -> Faults {
    let empty = json!({ "backends": [] });
    let mut pools = Map::from_iter([(DEFAULT_NAME.to_owned(), empty.clone())]);
    let mut listener = json!({ "name": name.as_str(), "host": "127.0.0.1", "port": 1 });
    let mut faults = Faults::default();
    let own = match kind {
        Kind::Listener => {
            if let Some(pool) = keys.get("pool").and_then(Value::as_str) {
                pools.insert(pool.to_owned(), empty);
            }
            let fields = listener.as_object_mut().expect("it is one");
            let required = ["host", "port"];
            let mut keys = keys.clone();
            keys.retain(|key, value| !(value.is_null() && required.contains(&key.as_str())));
            fields.extend(keys);
            "/listeners/0".to_owned()
        }
        Kind::Pool => {
            let mut keys = keys.clone();
            if keys.insert("backends".to_owned(), json!([])).is_some() {
                let allowed = "settings of the pool; backends are registered, listed or discovered";
                faults.add(&format!("{place}/backends"), "a list of backends", allowed);
            }
            pools.insert(name.to_string(), keys.into());
            format!("/pools/{name}")
        }
    };
    let document = json!({ "listeners": [listener], "pools": pools });
    let found = match check(document.to_string().as_bytes(), &LocalAddresses::default()) {
        Ok(checked) => checked.unknown_keys,
        Err(found) => found,
    };
    for fault in found.0 {
        let rest = fault.place.strip_prefix(&own).unwrap_or_default();
        faults.add(&format!("{place}{rest}"), &fault.found, fault.allowed);
    }
    faults
}

/// The listeners of a head, as far as they have an address.
pub fn listening(head: &[(String, Value)]) -> Vec<Listening> {
    let listeners = head.iter().filter_map(|(key, value)| {
        let (name, is_tcp, is_udp) = match part(key) {
            None if key == "listen" => (
                Name::default(),
                value["tcp"] != false,
                value["udp"] != false,
            ),
            Some((Kind::Listener, name)) => {
                (name, value["protocol"] != "udp", value["protocol"] != "tcp")
            }
            None | Some((Kind::Pool, _)) => return None,
        };
        Some(Listening {
            key: key.clone(),
            name,
            addr: addr_of(value)?,
            is_tcp,
            is_udp,
            pool: value["pool"].as_str().unwrap_or(DEFAULT_NAME).to_owned(),
        })
    });
    listeners.collect()
}

/// The entry of the listener `default` in a published file.
pub fn published_default(document: &Keys) -> Option<&Value> {
    let listeners = document.get(Kind::Listener.word())?.as_array()?;
    listeners.iter().find(|one| one["name"] == DEFAULT_NAME)
}

/// Takes from a listener, as the file has it, what a layer has in another place.
pub fn leave_elsewhere(listener: &mut Value) {
    let name = listener["name"].as_str().and_then(Name::new);
    if let (Some(name), Some(keys)) = (name, listener.as_object_mut()) {
        for key in elsewhere(Kind::Listener, &name) {
            keys.shift_remove(*key);
        }
    }
}

/// `host` and `port` of an object.
pub fn addr_of(value: &Value) -> Option<SocketAddr> {
    let host: std::net::IpAddr = value["host"].as_str()?.parse().ok()?;
    let port = value["port"].as_u64()?.try_into().ok()?;
    Some(SocketAddr::new(host.to_canonical(), port))
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

#[cfg(test)]
mod tests;
