//! From merged rows to the bytes of `proxy_config.json`, checked as the proxy will check them.
//!
//! Pure. An entry that the proxy would refuse is left out and named; it never affects the good ones. With nothing
//! but the listener and the pool `default`, the file is in the base format, else in the extended one.

mod fit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use contract::{Backend, BackendKey, DEFAULT_NAME, Fault, Faults, LocalAddresses, Name, check};
use serde_json::{Map, Value, json};

use crate::base::backend_at;
use crate::services::{self, Kind, Listening, with_name};
use crate::sources::{push_backends, push_items};

pub use fit::LeftOut;

/// Everything of the file but backends, `updated_at` and `generation`: the keys at the top in file order, then each
/// listener and each pool ([`services`]).
pub type Head = Vec<(String, Value)>;

/// What is to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub head: Head,
    /// The backends of each pool.
    pub pools: BTreeMap<Name, Vec<Backend>>,
}

impl Plan {
    /// A plan without backends.
    pub fn of_head(head: Head) -> Plan {
        let pools = BTreeMap::new();
        Plan { head, pools }
    }

    /// Gives listeners that the settings do not make the value that the proxy last accepted, and the pools that it leads
    /// to, where the rest lets them stand: what serves goes on, also when control starts on settings that do not fit.
    /// What was kept is the answer.
    pub fn keep_accepted(&mut self, unusable: impl Iterator<Item = Name>, accepted: &Head) -> Head {
        let before: BTreeSet<String> = self.head.iter().map(|(key, _)| key.clone()).collect();
        let accepted = Plan::of_head(accepted.clone());
        for name in unusable {
            let key = Kind::Listener.key(name.as_str());
            let Some(listener) = accepted.value(&key) else {
                continue;
            };
            let mut with = Plan::of_head(self.head.clone());
            with.set(&key, Some(listener));
            for pool in services::pools_of(listener) {
                let pool = Kind::Pool.key(&pool);
                if with.value(&pool).is_none() {
                    with.set(&pool, accepted.value(&pool));
                }
            }
            if check(&with.render(0, 0), &LocalAddresses::default()).is_ok() {
                self.head = with.head;
            }
        }
        let kept = self.head.iter().filter(|(key, _)| !before.contains(key));
        kept.cloned().collect()
    }

    /// All backends, by pool.
    pub fn backends(&self) -> impl Iterator<Item = (BackendKey, &Backend)> {
        let pools = self.pools.iter();
        pools.flat_map(|(pool, backends)| {
            let key = |backend: &Backend| BackendKey::new(pool.clone(), backend.addr);
            backends.iter().map(move |backend| (key(backend), backend))
        })
    }

    pub fn backend(&self, key: &BackendKey) -> Option<&Backend> {
        let mut of_pool = self.pools.get(&key.pool)?.iter();
        of_pool.find(|backend| backend.addr == key.addr)
    }

    /// The backend at a place in the rendered file, a JSON pointer.
    pub fn backend_at(&self, place: &str) -> Option<BackendKey> {
        let (pool, index) = backend_at(place)?;
        let addr = self.pools.get(&pool)?.get(index)?.addr;
        Some(BackendKey::new(pool, addr))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&BackendKey) -> bool) {
        for (pool, backends) in &mut self.pools {
            backends.retain(|backend| keep(&BackendKey::new(pool.clone(), backend.addr)));
        }
    }

    /// The listeners of the head.
    pub fn listening(&self) -> Vec<Listening> {
        services::listening(&self.head)
    }

    /// Whether the head defines this pool.
    pub fn has_pool(&self, pool: &Name) -> bool {
        pool.as_str() == DEFAULT_NAME || self.value(&Kind::Pool.key(pool.as_str())).is_some()
    }

    /// The key of the head at a place in the rendered file, a JSON pointer.
    pub fn key_at(&self, place: &str) -> Option<String> {
        let mut steps = place.strip_prefix('/')?.split('/');
        let first = steps.next()?.replace("~1", "/").replace("~0", "~");
        let key = match (first.as_str(), steps.next()) {
            ("listeners", Some(index)) => {
                let (key, _) = self.named(Kind::Listener).nth(index.parse().ok()?)?;
                key.to_owned()
            }
            ("pools", Some(name)) => Kind::Pool.key(name),
            (_, _) => first,
        };
        self.value(&key).is_some().then_some(key)
    }

    /// A fault of the rendered file with the name of its listener in place of the index.
    pub fn by_name(&self, fault: &Fault) -> Fault {
        let mut named = fault.clone();
        if let Some(key) = self.key_at(&fault.place)
            && let Some((Kind::Listener, _)) = services::part(&key)
        {
            let rest: Vec<&str> = fault.place.splitn(4, '/').skip(3).collect();
            let rest = rest.iter().map(|rest| format!("/{rest}"));
            named.place = format!("/{key}{}", rest.collect::<String>());
        }
        named
    }

    /// The place in the rendered file of a key of the head.
    pub fn place_of(&self, key: &str) -> String {
        let mut listeners = self.named(Kind::Listener);
        match listeners.position(|(own, _)| own == key) {
            Some(index) => format!("/listeners/{index}"),
            None => format!("/{key}"),
        }
    }

    fn named(&self, kind: Kind) -> impl Iterator<Item = (&str, &Value)> {
        let named = self.head.iter();
        let named =
            named.filter(move |(key, _)| services::part(key).is_some_and(|(own, _)| own == kind));
        named.map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key of the head.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let found = self.head.iter().find(|(own, _)| own == key);
        found.map(|(_, value)| value)
    }

    /// Sets a key of the head; `None` removes the key.
    pub fn set(&mut self, key: &str, value: Option<&Value>) {
        let place = self.head.iter().position(|(own, _)| own == key);
        match (place, value) {
            (Some(place), Some(value)) => self.head[place].1 = value.clone(),
            (Some(place), None) => _ = self.head.remove(place),
            // Listeners and pools stay in their order, behind the keys at the top.
            (None, Some(value)) => {
                let part = services::part(key);
                let after = |(own, _): &(String, Value)| match (services::part(own), &part) {
                    (Some(own), Some(part)) => own > *part,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                let place = self.head.iter().position(after);
                let place = place.unwrap_or(self.head.len());
                self.head.insert(place, (key.to_owned(), value.clone()));
            }
            (None, None) => {}
        }
    }

    /// Whether both are the same except for load figures. The report interval is not one of them: the proxy
    /// learns it only from the file.
    pub fn has_same_state(&self, other: &Plan) -> bool {
        fn states(plan: &Plan) -> impl Iterator<Item = impl PartialEq> {
            let heartbeat = |b: &Backend| (b.batch, b.report.heartbeat_ms);
            let backends = plan.backends();
            backends.map(move |(key, b)| (key, b.weight, b.enabled, b.is_warming_up, heartbeat(b)))
        }
        self.head == other.head && states(self).eq(states(other))
    }

    /// The file's bytes: base keys first, one listener or backend a line. Backends of a pool that the head does
    /// not define have no place: [`Plan::fit`] leaves them out.
    pub fn render(&self, generation: u64, updated_at: u64) -> Vec<u8> {
        const WRITTEN: &str = "writing to a String does not fail";
        let mut text = String::from("{\n");
        let numbers = [("updated_at", updated_at), ("generation", generation)];
        let numbers = numbers.map(|(key, value)| (key.to_owned(), json!(value)));
        let top = { self.head.iter() }.filter(|(key, _)| services::part(key).is_none());
        for (key, value) in top.chain(&numbers) {
            let key = Value::from(key.as_str());
            writeln!(text, "  {key}: {value},").expect(WRITTEN);
        }
        let mut listeners = self.named(Kind::Listener).peekable();
        if listeners.peek().is_some() {
            text.push_str("  \"listeners\": [");
            let listeners = listeners.filter_map(|(key, value)| {
                let (_, name) = services::part(key)?;
                Some(with_name(&name, value.as_object()?))
            });
            push_items(&mut text, listeners);
            text.push_str(",\n");
        }
        let pools: Vec<String> = { self.named(Kind::Pool) }
            .filter_map(|(key, value)| {
                let (_, name) = services::part(key)?;
                Some(self.pool_text(&name, value.as_object()?))
            })
            .collect();
        let has_base = self.value(&Kind::Pool.key(DEFAULT_NAME)).is_none();
        if !pools.is_empty() {
            let end = if has_base { "," } else { "\n}" };
            let pools = pools.join(",\n");
            writeln!(text, "  \"pools\": {{\n{pools}\n  }}{end}").expect(WRITTEN);
        }
        if has_base {
            let backends = self.pools.get(&Name::default()).into_iter().flatten();
            push_backends(&mut text, backends.map(Backend::to_json));
        }
        text.into_bytes()
    }

    /// Whether the proxy would take the head.
    ///
    /// # Errors
    /// The faults, each at the name of its listener or pool.
    pub fn check(&self, local: &LocalAddresses) -> Result<(), Faults> {
        let checked = check(&self.render(0, 0), local);
        let named = |faults: Faults| Faults(faults.0.iter().map(|one| self.by_name(one)).collect());
        checked.map(drop).map_err(named)
    }

    /// A member of `pools`, as deep as it stands there.
    fn pool_text(&self, name: &Name, keys: &Map<String, Value>) -> String {
        let mut text = format!("    \"{name}\": {{\n");
        for (key, value) in keys {
            let key = Value::from(key.as_str());
            writeln!(text, "      {key}: {value},").expect("writing to a String does not fail");
        }
        let backends = self.pools.get(name).into_iter().flatten();
        let mut items = String::new();
        push_items(&mut items, backends.map(Backend::to_json));
        text.push_str("      \"backends\": [");
        text.push_str(&items.replace('\n', "\n    "));
        text.push_str("\n    }");
        text
    }
}

#[cfg(test)]
mod tests;
