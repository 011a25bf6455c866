//! One listener or pool as files and calls say it: its name, what is wrong with it, and what has another place.

use contract::{DEFAULT_NAME, Faults, LocalAddresses, Name, check};
use serde_json::{Map, Value, json};

use super::listening::pools_of;
use super::{Keys, Kind};

pub(super) type Entry<'a> = (Result<Name, String>, String, &'a Value);

/// Each entry with its name, or what is there instead, and its step in a JSON pointer.
pub(super) fn entries(kind: Kind, value: Option<&Value>) -> Vec<Entry<'_>> {
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
pub(super) fn elsewhere(kind: Kind, name: &Name) -> &'static [&'static str] {
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
pub(super) fn faults_of(kind: Kind, name: &Name, keys: &Keys, place: &str) -> Faults {
    let empty = json!({ "backends": [] });
    let mut pools = Map::from_iter([(DEFAULT_NAME.to_owned(), empty.clone())]);
    let mut listener = json!({ "name": name.as_str(), "host": "127.0.0.1", "port": 1 });
    let mut faults = Faults::default();
    let own = match kind {
        Kind::Listener => {
            let named = pools_of(&keys.clone().into());
            pools.extend(named.into_iter().map(|pool| (pool, empty.clone())));
            if keys.get("routes").is_some_and(|routes| !routes.is_null()) {
                listener["protocol"] = "tcp".into();
            }
            if keys.get("split_by").is_some_and(|by| !by.is_null()) && !keys.contains_key("split") {
                listener["split"] = json!({ DEFAULT_NAME: 1 });
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
            if let Some(found) = keys.insert("backends".to_owned(), json!([])) {
                let allowed = "settings of the pool; backends are registered, listed or discovered";
                let place = format!("{place}/backends");
                match found {
                    Value::Array(_) => faults.add(&place, "a list of backends", allowed),
                    other => faults.add(&place, &other, allowed),
                }
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

/// Takes from a listener, as the file has it, what a layer has in another place.
pub fn leave_elsewhere(listener: &mut Value) {
    let name = listener["name"].as_str().and_then(Name::new);
    if let (Some(name), Some(keys)) = (name, listener.as_object_mut()) {
        for key in elsewhere(Kind::Listener, &name) {
            keys.shift_remove(*key);
        }
    }
}
