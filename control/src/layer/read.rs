//! How a layer is read: of a call, of `settings_runtime.json`, of `control_config.json`, and of a published file.

use std::net::IpAddr;

use contract::{Algorithm, Faults, LocalAddresses, Object, check};
use serde_json::{Map, Value, json};

use super::{BASE_KEYS, DEFAULT_HOST, DEFAULT_PORT, Layer, SERVICES};
use crate::services::{self, Services};

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
