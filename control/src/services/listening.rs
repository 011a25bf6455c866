//! Where the listeners of a head listen.

use std::net::{IpAddr, SocketAddr};

use contract::{DEFAULT_NAME, Name};
use serde_json::Value;

use super::{Keys, Kind, part};

/// One address of a listener of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The key of the head that says so.
    pub key: String,
    pub name: Name,
    pub addr: SocketAddr,
    pub is_tcp: bool,
    pub is_udp: bool,
    /// Where it leads to, as written, each once.
    pub pools: Vec<String>,
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

/// The enabled listeners of a head, once for each address, as far as they have one.
pub fn listening(head: &[(String, Value)]) -> Vec<Listening> {
    let enabled = head.iter().filter(|(_, value)| value["enabled"] != false);
    let listeners = enabled.filter_map(|(key, value)| {
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
        let at = move |addr| Listening {
            key: key.clone(),
            name: name.clone(),
            addr,
            is_tcp,
            is_udp,
            pools: pools_of(value),
        };
        Some(addrs_of(value).into_iter().map(at))
    });
    listeners.flatten().collect()
}

/// The pools that the object of a listener names, in order: by `pool`, `split` or `routes`.
pub fn pools_of(listener: &Value) -> Vec<String> {
    let of_target = |target: &Value| -> Vec<String> {
        match (&target["pool"], &target["split"]) {
            (Value::String(pool), _) => vec![pool.clone()],
            (_, Value::Object(split)) => split.keys().cloned().collect(),
            _ => Vec::new(),
        }
    };
    let mut pools = match &listener["routes"] {
        Value::Array(routes) => routes.iter().flat_map(of_target).collect(),
        _ => of_target(listener),
    };
    if pools.is_empty() && listener["routes"].is_null() {
        pools.push(DEFAULT_NAME.to_owned());
    }
    pools.sort();
    pools.dedup();
    pools
}

/// The entry of the listener `default` in a published file.
pub fn published_default(document: &Keys) -> Option<&Value> {
    let listeners = document.get(Kind::Listener.word())?.as_array()?;
    listeners.iter().find(|one| one["name"] == DEFAULT_NAME)
}

/// `host` and `port` of an object that has one address.
pub fn addr_of(value: &Value) -> Option<SocketAddr> {
    match &*addrs_of(value) {
        [addr] => Some(*addr),
        _ => None,
    }
}

/// `host` and `port` of an object; `host` may be several.
fn addrs_of(value: &Value) -> Vec<SocketAddr> {
    let port = value["port"].as_u64().and_then(|port| port.try_into().ok());
    let Some(port) = port else {
        return Vec::new();
    };
    let hosts = match &value["host"] {
        Value::Array(hosts) => hosts.as_slice(),
        host => std::slice::from_ref(host),
    };
    let hosts = hosts
        .iter()
        .filter_map(|host| host.as_str()?.parse::<IpAddr>().ok());
    hosts
        .map(|host| SocketAddr::new(host.to_canonical(), port))
        .collect()
}
