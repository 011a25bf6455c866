//! The proxy's settings as layers: API above `control_config.json` above the built-in defaults. A
//! layer holds only values that were set explicitly. Values that control finds in the published file at its
//! very first start count as set by API from then on.
//!
//! The optional keys are not listed here: the contract's own `check` reads them, so a key added there works
//! here at once. Listeners and pools are merged by name, key by key ([`services`]).

mod head;
mod read;

use std::collections::BTreeSet;
use std::net::IpAddr;

use contract::{Algorithm, DEFAULT_NAME, Name};
use serde_json::{Map, Value};

use crate::services::{self, Kind, Services};

pub use head::Unusable;
pub use read::{of_proxy, services_patch, take_ip};

/// The address that the proxy listens on by default.
const DEFAULT_HOST: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 10080;

/// The keys of `proxy_config.json` that are not optional settings.
const BASE_KEYS: [&str; 7] = [
    "listen",
    "listeners",
    "pools",
    "algorithm",
    "updated_at",
    "generation",
    "backends",
];

/// The keys of listeners and pools, which are no optional keys either.
const SERVICES: [&str; 2] = ["listeners", "pools"];

/// What one place says about the proxy; `None` and absent keys leave it to the layer below.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    pub host: Option<IpAddr>,
    pub port: Option<u16>,
    tcp: Option<bool>,
    udp: Option<bool>,
    pub algorithm: Option<Algorithm>,
    /// Optional keys of `proxy_config.json`, checked.
    optional: Map<String, Value>,
    services: Services,
}

impl Layer {
    /// This layer where it speaks, `below` where it is silent.
    pub fn over(&self, below: &Layer) -> Layer {
        let mut optional = below.optional.clone();
        optional.extend(self.optional.clone());
        Layer {
            host: self.host.or(below.host),
            port: self.port.or(below.port),
            tcp: self.tcp.or(below.tcp),
            udp: self.udp.or(below.udp),
            algorithm: self.algorithm.or(below.algorithm),
            optional,
            services: self.services.over(&below.services),
        }
    }

    /// The keys of `proxy_config.json` of which the two say something else.
    pub fn differing(&self, other: &Layer) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        if self.own_listen() != other.own_listen() {
            keys.insert("listen".to_owned());
        }
        if self.algorithm != other.algorithm {
            keys.insert("algorithm".to_owned());
        }
        let optional = self.optional.keys().chain(other.optional.keys());
        let differing = optional.filter(|key| self.optional.get(*key) != other.optional.get(*key));
        keys.extend(differing.cloned());
        keys.extend(self.services.differing(&other.services));
        keys
    }

    /// This layer without the changes of a call from `old` to `new`, as far as they still apply. `listen` is
    /// one key: half an address is useless.
    pub fn taken_back(&self, old: &Layer, new: &Layer) -> Layer {
        let mut back = self.clone();
        for key in old.differing(new) {
            match key.as_str() {
                "listen" if self.own_listen() == new.own_listen() => {
                    (back.host, back.port, back.tcp, back.udp) = old.own_listen();
                }
                "algorithm" if self.algorithm == new.algorithm => back.algorithm = old.algorithm,
                "listen" | "algorithm" => {}
                key if services::part(key).is_some() => {
                    let is_as_called = self.services.value(key) == new.services.value(key);
                    let value = if is_as_called { old } else { self };
                    back.services.set(key, value.services.value(key));
                }
                key if self.optional.get(key) == new.optional.get(key) => {
                    match old.optional.get(key) {
                        Some(value) => _ = back.optional.insert(key.to_owned(), value.clone()),
                        None => _ = back.optional.remove(key),
                    }
                }
                _ => {}
            }
        }
        back
    }

    fn own_listen(&self) -> (Option<IpAddr>, Option<u16>, Option<bool>, Option<bool>) {
        (self.host, self.port, self.tcp, self.udp)
    }

    /// The keys of `proxy_config.json` that a patch is about, with the values they have here.
    pub fn asked(&self, patch: &Map<String, Value>) -> Map<String, Value> {
        let proxy = patch.get("proxy").and_then(Value::as_object);
        let named: BTreeSet<String> = services_patch(patch).keys().collect();
        let default = Kind::Listener.key(DEFAULT_NAME);
        let is_asked = |key: &str| match key {
            "listen" | "algorithm" => patch.contains_key(key),
            // `listen` says where it is, too.
            _ if key == default && patch.contains_key("listen") => true,
            _ if services::part(key).is_some() => named.contains(key),
            _ => proxy.is_some_and(|proxy| proxy.contains_key(key)),
        };
        let head = self.head().into_iter();
        head.filter(|(key, _)| is_asked(key)).collect()
    }

    /// The values of this layer that `other` does not set.
    pub fn beyond(&self, other: &Layer) -> Layer {
        fn pick<T>(own: Option<T>, other: Option<T>) -> Option<T> {
            if other.is_some() { None } else { own }
        }
        let mut optional = self.optional.clone();
        optional.retain(|key, _| !other.optional.contains_key(key));
        Layer {
            host: pick(self.host, other.host),
            port: pick(self.port, other.port),
            tcp: pick(self.tcp, other.tcp),
            udp: pick(self.udp, other.udp),
            algorithm: pick(self.algorithm, other.algorithm),
            optional,
            services: self.services.beyond(&other.services),
        }
    }

    /// The values of this layer that would not hold without it, with `below` above the defaults.
    pub fn unlike(&self, below: &Layer) -> Layer {
        fn pick<T: PartialEq>(own: Option<T>, below: T) -> Option<T> {
            own.filter(|own| *own != below)
        }
        let mut optional = self.optional.clone();
        optional.retain(|key, value| below.optional.get(key) != Some(value));
        Layer {
            host: pick(self.host, below.listen().ip()),
            port: pick(self.port, below.listen().port()),
            tcp: pick(self.tcp, below.tcp.unwrap_or(true)),
            udp: pick(self.udp, below.udp.unwrap_or(true)),
            algorithm: pick(self.algorithm, below.algorithm()),
            optional,
            services: self.services.unlike(&below.services),
        }
    }

    /// What it says about listeners and pools.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The listen address once all layers are stacked.
    pub fn listen(&self) -> std::net::SocketAddr {
        let default = DEFAULT_HOST.parse().expect("DEFAULT_HOST is a literal");
        (
            self.host.unwrap_or(default),
            self.port.unwrap_or(DEFAULT_PORT),
        )
            .into()
    }

    /// Whether both say the same beside listen address and algorithm.
    pub fn has_same_optional(&self, other: &Layer) -> bool {
        self.optional == other.optional && self.services == other.services
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm.unwrap_or(Algorithm::WeightedRoundRobin)
    }

    /// The pools that are defined.
    pub fn pools(&self) -> BTreeSet<Name> {
        let mut pools = self.services.names(Kind::Pool);
        pools.insert(Name::default());
        pools
    }

    /// The name of a pool's algorithm; `None` where the pool is not defined.
    pub fn algorithm_of(&self, pool: &Name) -> Option<&str> {
        let set = self.services.get(Kind::Pool, pool);
        if set.is_none() && *pool != Name::default() {
            return None;
        }
        let own = set.and_then(|keys| keys.get("algorithm")?.as_str());
        Some(own.unwrap_or(self.algorithm().name()))
    }
}

#[cfg(test)]
mod tests;
