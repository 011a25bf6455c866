//! The proxy's settings as layers: API above `control_config.json` above the built-in defaults. A
//! layer holds only values that were set explicitly. Values that control finds in the published file at its
//! very first start count as set by API from then on.
//!
//! The optional keys are not listed here: the contract's own `check` reads them, so a key added there works
//! here at once. Listeners and pools are merged by name, key by key ([`services`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use contract::{Algorithm, DEFAULT_NAME, Faults, LocalAddresses, Name, Object, check};
use serde_json::{Map, Value, json};

use crate::render::{Head, Plan};
use crate::services::{self, Kind, Services};

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

/// A listener that is in no file, since the layers together do not make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unusable {
    pub name: Name,
    /// The key that does not fit, a JSON pointer with the name of the listener.
    pub place: String,
    pub why: String,
}

impl Layer {
    /// Reads `{listen?: {host?, port?, tcp?, udp?}, algorithm?, proxy?: {...}}`: the body of
    /// `POST /api/settings` and the content of `settings_runtime.json`.
    pub fn read(object: &mut Object, faults: &mut Faults) -> Layer {
        let mut layer = Layer {
            algorithm: object.take_choice("algorithm", &Algorithm::ALL, faults),
            ..Layer::default()
        };
        let place = object.pointer("listen");
        match object.take("listen") {
            Some(Value::Object(map)) => layer.read_listen(map, &place, faults),
            Some(other) => faults.add(&place, other, "an object {host, port, tcp, udp}"),
            None => {}
        }
        (layer.optional, layer.services) = read_proxy(object, faults);
        layer
    }

    fn read_listen(&mut self, map: &Map<String, Value>, place: &str, faults: &mut Faults) {
        let mut listen = Object::new(map, place);
        self.host = take_ip(&mut listen, "host", faults);
        let port = listen.take_integer("port", 1, 65535, faults);
        self.port = port.map(|port| port as u16);
        self.tcp = listen.take_bool("tcp", faults);
        self.udp = listen.take_bool("udp", faults);
        listen.unknown_keys(faults);
    }

    /// What a valid published file says. Keys that this build does not know are left out.
    pub fn of_published(document: &Map<String, Value>) -> Layer {
        let mut faults = Faults::default();
        let mut layer = Layer::read(&mut Object::new(document, ""), &mut faults);
        for (key, value) in document {
            if BASE_KEYS.contains(&key.as_str()) {
                continue;
            }
            let one = Map::from_iter([(key.clone(), value.clone())]);
            if faults_of_optional(&one).is_empty() {
                layer.optional.insert(key.clone(), value.clone());
            }
        }
        layer.services = Services::of_published(document);
        if !document.contains_key("listen") {
            layer.listen_as(services::published_default(document));
        }
        layer
    }

    /// Where the listener `default` of a published file is that has no `listen`.
    fn listen_as(&mut self, default: Option<&Value>) {
        let Some((default, addr)) = default.and_then(|one| Some((one, services::addr_of(one)?)))
        else {
            (self.tcp, self.udp) = (Some(false), Some(false));
            return;
        };
        (self.host, self.port) = (Some(addr.ip()), Some(addr.port()));
        let is_off = |other: &str| (default["protocol"] == other).then_some(false);
        (self.tcp, self.udp) = (is_off("udp"), is_off("tcp"));
    }

    /// This layer with `patch` written over it: a key that is `null` in the patch is cleared.
    ///
    /// # Errors
    /// The faults of the patch.
    pub fn patched(&self, patch: &Map<String, Value>) -> Result<Layer, Faults> {
        let mut faults = Faults::default();
        let mut object = Object::new(patch, "");
        let new = Layer::read(&mut object, &mut faults);
        object.unknown_keys(&mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let cleared = |pointer: &str| {
            let mut steps = pointer.split('/');
            let first = steps.next().and_then(|key| patch.get(key));
            match (first, steps.next()) {
                (Some(Value::Object(inner)), Some(key)) => {
                    inner.get(key).is_some_and(Value::is_null)
                }
                (first, _) => first.is_some_and(Value::is_null),
            }
        };
        fn pick<T>(new: Option<T>, old: Option<T>, cleared: bool) -> Option<T> {
            if cleared { None } else { new.or(old) }
        }
        let mut optional = self.optional.clone();
        optional.extend(new.optional);
        optional.retain(|key, _| !cleared(&format!("proxy/{key}")));
        let services = match patch.get("proxy") {
            Some(Value::Null) => Services::default(),
            _ => self.services.patched(&services_patch(patch)),
        };
        Ok(Layer {
            host: pick(new.host, self.host, cleared("listen/host")),
            port: pick(new.port, self.port, cleared("listen/port")),
            tcp: pick(new.tcp, self.tcp, cleared("listen/tcp")),
            udp: pick(new.udp, self.udp, cleared("listen/udp")),
            algorithm: pick(new.algorithm, self.algorithm, cleared("algorithm")),
            optional,
            services,
        })
    }

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

/// Reads an address literal to listen on, in its canonical form: `::ffff:127.0.0.1` is `127.0.0.1`.
pub fn take_ip(object: &mut Object, key: &'static str, faults: &mut Faults) -> Option<IpAddr> {
    let value = object.take(key)?;
    let ip = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let ip = ip.map(|ip| ip.to_canonical());
    let ip = ip.filter(|ip| !ip.is_multicast());
    if ip.is_none() {
        let allowed = "an IPv4 or IPv6 address, 0.0.0.0 or :: for all";
        faults.add(&object.pointer(key), value, allowed);
    }
    ip
}

/// Reads `proxy`: the optional keys of `proxy_config.json`, listeners and pools.
fn read_proxy(object: &mut Object, faults: &mut Faults) -> (Map<String, Value>, Services) {
    let place = object.pointer("proxy");
    let Some(value) = object.take("proxy") else {
        return Default::default();
    };
    let Value::Object(map) = value else {
        faults.add(
            &place,
            value,
            "an object of optional keys of proxy_config.json",
        );
        return Default::default();
    };
    let patch = services::Patch::read(map, &place, faults);
    let mut map = map.clone();
    map.retain(|key, _| !SERVICES.contains(&key.as_str()));
    // A key that is cleared has to be known, too.
    let found = faults_of_optional(&map);
    map.retain(|_, value| !value.is_null());
    for fault in &found.0 {
        let place = format!("{place}{}", fault.place);
        faults.add(&place, &fault.found, fault.allowed.clone());
    }
    (map, Services::default().patched(&patch))
}

/// What a patch of a layer changes about listeners and pools, its faults aside.
pub fn services_patch(patch: &Map<String, Value>) -> services::Patch {
    let proxy = patch.get("proxy").and_then(Value::as_object);
    let mut none = Faults::default();
    proxy.map_or_else(services::Patch::default, |proxy| {
        services::Patch::read(proxy, "", &mut none)
    })
}

/// A layer of nothing but `proxy`.
pub fn of_proxy(object: &mut Object, faults: &mut Faults) -> Layer {
    let (optional, services) = read_proxy(object, faults);
    Layer {
        optional,
        services,
        ..Layer::default()
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

/// What the contract's check says about these keys in an otherwise good file.
fn faults_of_optional(map: &Map<String, Value>) -> Faults {
    let mut document = map.clone();
    let mut faults = Faults::default();
    for key in BASE_KEYS {
        if document.remove(key).is_some() {
            let place = format!("/{key}");
            faults.add(&place, "a base key", "an optional key of proxy_config.json");
        }
    }
    document.insert(
        "listen".into(),
        json!({"host": DEFAULT_HOST, "port": DEFAULT_PORT}),
    );
    document.insert("backends".into(), json!([]));
    let bytes = Value::Object(document).to_string();
    match check(bytes.as_bytes(), &LocalAddresses::default()) {
        Ok(checked) => faults.0.extend(checked.unknown_keys.0),
        Err(more) => faults.0.extend(more.0),
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("tests give objects, not {other}"),
        }
    }

    fn layer(value: Value) -> Layer {
        Layer::default().patched(&map(value)).expect("a good patch")
    }

    #[test]
    fn the_upper_layer_wins_key_by_key() {
        let above = layer(json!({"algorithm": "random", "proxy": {"connect_attempts": 2}}));
        let below = layer(json!({
            "algorithm": "source_hash", "listen": {"host": "127.0.0.1", "port": 7000},
            "proxy": {
                "connect_attempts": 3, "warming_share": "none", "health": {"probe": "off"},
            },
        }));
        let both = above.over(&below);
        assert_eq!(both.algorithm(), Algorithm::Random);
        assert_eq!(both.listen().to_string(), "127.0.0.1:7000");
        let head = Map::from_iter(both.head());
        assert_eq!(head["connect_attempts"], json!(2));
        assert_eq!(head["warming_share"], json!("none"));
        assert_eq!(head["health"], json!({"probe": "off"}));
        assert_eq!(layer(both.to_json()), both);
    }

    #[test]
    fn in_full_every_value_is_there_set_or_by_default() {
        let set = layer(json!({
            "listen": {"port": 7000}, "proxy": {"connect_attempts": 2, "health": {"rise": 5}},
        }));
        let (full, defaults) = (set.in_full(), Layer::default().in_full());
        assert_eq!(full["listen"]["port"], 7000);
        assert_eq!(full["listen"]["tcp"], true, "a default");
        assert_eq!(full["algorithm"], "weighted_round_robin");
        let changed = |key: &str, part: &str| {
            let [full, default] = [&full, &defaults].map(|of| of["proxy"][key].pointer(part));
            full != default
        };
        assert_eq!(full["proxy"]["connect_attempts"], 2);
        assert!(changed("connect_attempts", ""));
        assert!(changed("health", "/rise"));
        assert!(!changed("health", "/fall"));
        assert!(!changed("connect_timeout_ms", ""));
        assert!(defaults["proxy"]["gpu_aware"]["vram_soft"].is_number());
        for key in BASE_KEYS {
            assert_eq!(full["proxy"].get(key), None, "{key}");
        }
    }

    #[test]
    fn a_listen_host_is_kept_in_its_canonical_form() {
        for (host, right) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:0.0.0.0", "0.0.0.0"),
        ] {
            let one = layer(json!({"listen": {"host": host}}));
            assert_eq!(one.to_json(), json!({"listen": {"host": right}}));
        }
        let multicast = map(json!({"listen": {"host": "::ffff:224.0.0.1"}}));
        assert!(Layer::default().patched(&multicast).is_err());
    }

    #[test]
    fn nothing_set_means_the_documented_defaults_and_no_optional_key() {
        let head = Map::from_iter(Layer::default().head());
        let expected = json!({
            "listen": {"host": "0.0.0.0", "port": 10080}, "algorithm": "weighted_round_robin",
        });
        assert_eq!(Value::Object(head), expected);
    }

    #[test]
    fn null_clears_a_key_and_silence_keeps_it() {
        let start = layer(json!({"algorithm": "random", "listen": {"host": "::1", "port": 7}}));
        let patch = map(json!({"algorithm": null, "listen": {"port": null}}));
        let left = start.patched(&patch).expect("a good patch");
        assert_eq!(left.to_json(), json!({"listen": {"host": "::1"}}));
        let patch = map(json!({"listen": null}));
        let left = start.patched(&patch).expect("a good patch");
        assert_eq!(left.to_json(), json!({"algorithm": "random"}));
    }

    #[test]
    fn each_bad_setting_is_named_by_its_place() {
        let cases = [
            (json!({"algorithm": "fastest"}), "/algorithm"),
            (json!({"listen": 7}), "/listen"),
            (json!({"listen": {"host": "example.org"}}), "/listen/host"),
            (json!({"listen": {"port": 0}}), "/listen/port"),
            (json!({"listen": {"prot": 1}}), "/listen/prot"),
            (json!({"proxy": []}), "/proxy"),
            (
                json!({"proxy": {"connect_attempts": 0}}),
                "/proxy/connect_attempts",
            ),
            (
                json!({"proxy": {"conect_attempts": 1}}),
                "/proxy/conect_attempts",
            ),
            (json!({"proxy": {"backends": []}}), "/proxy/backends"),
            (
                json!({"proxy": {"health": {"probe": "icmp"}}}),
                "/proxy/health/probe",
            ),
            (
                json!({"proxy": {"ejection": {"failure": 1}}}),
                "/proxy/ejection/failure",
            ),
            (json!({"algoritm": "random"}), "/algoritm"),
        ];
        for (patch, place) in cases {
            let faults = Layer::default().patched(&map(patch)).expect_err(place);
            let places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
            assert_eq!(places, [place]);
        }
    }

    #[test]
    fn a_published_file_keeps_what_it_says_explicitly() {
        let published = map(json!({
            "listen": {"host": "127.0.0.1", "port": 7000, "udp": false}, "algorithm": "random",
            "updated_at": 1, "generation": 4, "backends": [], "idle_timeout_ms": 5, "newer": true,
        }));
        let expected = json!({
            "listen": {"host": "127.0.0.1", "port": 7000, "udp": false}, "algorithm": "random",
            "proxy": {"idle_timeout_ms": 5},
        });
        assert_eq!(Layer::of_published(&published).to_json(), expected);
    }
}
