//! Where the listeners of a head listen.

use std::net::SocketAddr;

use contract::{DEFAULT_NAME, Name};
use serde_json::Value;

use super::{Keys, Kind, part};

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

/// `host` and `port` of an object.
pub fn addr_of(value: &Value) -> Option<SocketAddr> {
    let host: std::net::IpAddr = value["host"].as_str()?.parse().ok()?;
    let port = value["port"].as_u64()?.try_into().ok()?;
    Some(SocketAddr::new(host.to_canonical(), port))
}
