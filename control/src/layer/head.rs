//! What a layer makes of `proxy_config.json`, and how it is written.

use std::collections::{BTreeMap, BTreeSet};

use contract::{DEFAULT_NAME, LocalAddresses, Name, check};
use serde_json::{Map, Value, json};

use super::{BASE_KEYS, Layer, SERVICES};
use crate::render::{Head, Plan};
use crate::services::{self, Kind, Services};

/// A listener that is in no file, since the layers together do not make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unusable {
    pub name: Name,
    /// The key that does not fit, a JSON pointer with the name of the listener.
    pub place: String,
    pub why: String,
}

impl Layer {
    /// The head of `proxy_config.json`, base keys first: always the algorithm, and `listen` unless the listener
    /// `default` is among the named ones, or is switched off and there is another.
    pub fn head(&self) -> Head {
        let default = self.services.get(Kind::Listener, &Name::default());
        // What is off is off, whatever else is set for it.
        let default = default.filter(|_| !self.is_off());
        let mut head = Vec::new();
        if default.is_none() && !(self.is_off() && self.services.has_other_listener()) {
            head.push(("listen".to_owned(), self.listen_json()));
        }
        head.push(("algorithm".to_owned(), self.algorithm().name().into()));
        head.extend(self.optional.clone());
        let key = Kind::Listener.key(DEFAULT_NAME);
        let others = self
            .services
            .head()
            .filter_map(|(own, value)| match own == key {
                true => Some((own, self.named_default(default?).into())),
                false => Some((own, value)),
            });
        head.extend(others);
        head
    }

    /// The head without the listeners that the layers together do not make, and these: one without an address, for
    /// a pool that is not defined, or at the address of another.
    pub fn usable_head(&self) -> (Head, Vec<Unusable>) {
        let mut plan = Plan::of_head(self.head());
        let mut unusable = Vec::new();
        if self.services.is_empty() {
            return (plan.head, unusable);
        }
        // Each round takes one at least.
        while let Err(faults) = check(&plan.render(0, 0), &LocalAddresses::default()) {
            let mut found: BTreeMap<String, Unusable> = BTreeMap::new();
            for fault in &faults.0 {
                let key = plan.key_at(&fault.place).unwrap_or_default();
                if let Some((Kind::Listener, name)) = services::part(&key) {
                    let fault = plan.by_name(fault);
                    found.entry(key).or_insert(Unusable {
                        name,
                        why: fault.to_string(),
                        place: fault.place,
                    });
                }
            }
            if found.is_empty() {
                break;
            }
            for (key, one) in found {
                plan.set(&key, None);
                unusable.push(one);
            }
        }
        (plan.head, unusable)
    }

    /// Whether it says that the listener `default` takes nothing.
    fn is_off(&self) -> bool {
        (self.tcp, self.udp) == (Some(false), Some(false))
    }

    fn listen_json(&self) -> Value {
        let addr = self.listen();
        let mut listen = json!({ "host": addr.ip(), "port": addr.port() });
        for (key, value) in [("tcp", self.tcp), ("udp", self.udp)] {
            if let Some(value) = value {
                listen[key] = value.into();
            }
        }
        listen
    }

    /// The listener `default` with settings of its own: `listen` says where it is.
    fn named_default(&self, set: &Map<String, Value>) -> Map<String, Value> {
        let addr = self.listen();
        let host_and_port = [
            ("host".to_owned(), json!(addr.ip())),
            ("port".to_owned(), addr.port().into()),
        ];
        let mut keys = Map::from_iter(host_and_port);
        let protocol = match (self.tcp.unwrap_or(true), self.udp.unwrap_or(true)) {
            (true, false) => Some("tcp"),
            (false, true) => Some("udp"),
            (true, true) | (false, false) => None,
        };
        if let Some(protocol) = protocol {
            keys.insert("protocol".to_owned(), protocol.into());
        }
        keys.extend(set.clone());
        keys
    }

    /// What holds with this layer above the defaults: the shape of [`Layer::read`] with every value
    /// written out. A key without a default is absent.
    pub fn in_full(&self) -> Value {
        let base = Layer {
            services: Services::default(),
            // No file has a listener that takes nothing.
            tcp: self.tcp.filter(|_| !self.is_off()),
            ..self.clone()
        };
        // Layers are checked when they are taken in; one that is not says what it says.
        let Some(mut all) = checked_in_full(base.head()) else {
            return self.to_json();
        };
        let mut listen = all.remove("listen").unwrap_or_default();
        let algorithm = all.remove("algorithm");
        all.retain(|key, _| !BASE_KEYS.contains(&key.as_str()));
        if self.is_off() {
            listen["tcp"] = false.into();
        }
        if !self.services.is_empty() {
            let (head, _) = self.usable_head();
            let named: BTreeSet<String> = head.iter().map(|(key, _)| key.clone()).collect();
            all.extend(services_in_full(head, &named));
        }
        json!({ "listen": listen, "algorithm": algorithm, "proxy": all })
    }

    /// The layer in the shape that [`Layer::read`] reads: only what is set.
    pub fn to_json(&self) -> Value {
        let mut listen = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            value.map(|value| listen.insert(key.to_owned(), value));
        };
        set("host", self.host.map(|host| json!(host)));
        set("port", self.port.map(|port| json!(port)));
        set("tcp", self.tcp.map(Value::Bool));
        set("udp", self.udp.map(Value::Bool));
        let mut object = Map::new();
        if !listen.is_empty() {
            object.insert("listen".into(), listen.into());
        }
        if let Some(algorithm) = self.algorithm {
            object.insert("algorithm".into(), algorithm.name().into());
        }
        let mut proxy = self.optional.clone();
        self.services.write(&mut proxy);
        if !proxy.is_empty() {
            object.insert("proxy".into(), proxy.into());
        }
        Value::Object(object)
    }
}

/// The file of this head with every value written out; `None` where the proxy would refuse it.
fn checked_in_full(head: Head) -> Option<Map<String, Value>> {
    let bytes = Plan::of_head(head).render(0, 0);
    let checked = check(&bytes, &LocalAddresses::default()).ok()?;
    match checked.config.to_json() {
        Value::Object(all) => Some(all),
        _ => None,
    }
}

/// Its `listeners` and `pools` as far as they are `named`, without backends.
fn services_in_full(head: Head, named: &BTreeSet<String>) -> Map<String, Value> {
    let mut all = checked_in_full(head).unwrap_or_default();
    all.retain(|key, _| SERVICES.contains(&key.as_str()));
    if let Some(Value::Array(listeners)) = all.get_mut("listeners") {
        listeners.retain(|one| {
            let name = one["name"].as_str().unwrap_or_default();
            named.contains(&Kind::Listener.key(name))
        });
        for one in listeners.iter_mut() {
            services::leave_elsewhere(one);
        }
    }
    if let Some(Value::Object(pools)) = all.get_mut("pools") {
        pools.retain(|name, _| named.contains(&Kind::Pool.key(name)));
        for pool in pools.values_mut().filter_map(Value::as_object_mut) {
            pool.shift_remove("backends");
        }
    }
    all
}
