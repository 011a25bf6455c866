//! How files, calls and ids name a backend: the only file that knows that an address alone is one of the pool
//! `default`.
//!
//! Inside, a backend is known by its pool and its address ([`BackendKey`]). Entries and bodies name the pool as
//! `pool` beside `ip` and `port` ([`read_key`], [`write_pool`]), ids as `pool/ip:port` ([`parse_key`]). In the pool
//! `default`, both are as in the base format. Paths of the base API and its list have that pool alone ([`lower`],
//! [`raise`]).

use contract::config::read_backend_addr;
use contract::{BackendAddr, BackendKey, DEFAULT_NAME, Faults, Name, Object, parse_backend_ip};
use serde_json::{Map, Value};

pub const ALLOWED_POOL: &str =
    "the name of a pool: 1 to 63 of a-z, 0-9, - and _, beginning with a letter";

/// The backend that an address means in a base format.
pub fn lower(addr: BackendAddr) -> BackendKey {
    BackendKey::new(Name::default(), addr)
}

/// The address that a base format names the backend by; `None` if it is in another pool.
pub fn raise(key: &BackendKey) -> Option<BackendAddr> {
    (key.pool.as_str() == DEFAULT_NAME).then_some(key.addr)
}

/// Reads `ip` and `port`, which are required, and `pool`.
pub fn read_key(object: &mut Object, faults: &mut Faults) -> Option<BackendKey> {
    let addr = read_backend_addr(object, faults);
    let pool = match object.take("pool") {
        None => Name::default(),
        Some(value) => {
            let pool = value.as_str().and_then(Name::new);
            if pool.is_none() {
                faults.add(&object.pointer("pool"), value, ALLOWED_POOL);
            }
            pool?
        }
    };
    Some(BackendKey::new(pool, addr?))
}

/// Adds the pool to an entry, unless it is `default`.
pub fn write_pool(key: &BackendKey, entry: &mut Map<String, Value>) {
    if raise(key).is_none() {
        entry.insert("pool".to_owned(), key.pool.as_str().into());
    }
}

/// The backend that an `ip:port` means.
pub fn parse_id(text: &str) -> Option<BackendKey> {
    parse_addr(text).map(lower)
}

/// The backend that was written as a [`BackendKey`] is shown.
pub fn parse_key(text: &str) -> Option<BackendKey> {
    let Some((pool, addr)) = text.split_once('/') else {
        return parse_id(text);
    };
    // Each backend has one way to be written.
    let pool = Name::new(pool).filter(|pool| pool.as_str() != DEFAULT_NAME)?;
    Some(BackendKey::new(pool, parse_addr(addr)?))
}

/// The pool and the index of the backend at a place in `proxy_config.json`, a JSON pointer.
pub fn backend_at(place: &str) -> Option<(Name, usize)> {
    let mut steps = place.strip_prefix('/')?.split('/');
    let pool = match steps.next()? {
        "backends" => Name::default(),
        "pools" => {
            let pool = Name::new(steps.next()?)?;
            steps.next().filter(|step| *step == "backends")?;
            pool
        }
        _ => return None,
    };
    Some((pool, steps.next()?.parse().ok()?))
}

fn parse_addr(text: &str) -> Option<BackendAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let ip = bare.unwrap_or(ip);
    if bare.is_some() != ip.contains(':') {
        return None;
    }
    let is_plain = port.bytes().all(|digit| digit.is_ascii_digit()) && !port.starts_with('0');
    let port = port.parse::<u16>().ok().filter(|_| is_plain)?;
    Some(BackendAddr::new(parse_backend_ip(ip)?, port))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::net::IpAddr;

    /// 10.0.0.`last`:9001 in the pool `default`.
    pub fn key(last: u8) -> BackendKey {
        lower(BackendAddr::new([10, 0, 0, last].into(), 9001))
    }

    /// The same address in another pool.
    pub fn key_in(pool: &str, last: u8) -> BackendKey {
        let pool = Name::new(pool).expect("a name");
        BackendKey { pool, ..key(last) }
    }

    #[test]
    fn an_id_is_written_as_it_is_shown() {
        for good in ["10.0.0.1:80", "[2001:db8::1]:65535"] {
            assert_eq!(parse_id(good).expect(good).to_string(), good);
        }
        for bad in [
            "",
            "10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1:+5",
            "10.0.0.1:05",
            "10.0.0.1:70000",
            "2001:db8::1:80",
            "[10.0.0.1]:80",
            "a:1",
            "chat/10.0.0.1:80",
            "default/10.0.0.1:80",
        ] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written_in_every_pool() {
        for good in ["10.0.0.1:80", "chat/10.0.0.1:80", "chat/[2001:db8::1]:80"] {
            assert_eq!(parse_key(good).expect(good).to_string(), good);
        }
        for bad in [
            "/10.0.0.1:80",
            "default/10.0.0.1:80",
            "Chat/10.0.0.1:80",
            "a/b/10.0.0.1:80",
        ] {
            assert_eq!(parse_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_names_the_pool_of_its_backend() {
        for (place, expected) in [
            ("/backends/3", Some(("default", 3))),
            ("/backends/0/weight", Some(("default", 0))),
            ("/pools/chat/backends/7/ip", Some(("chat", 7))),
            ("/backends", None),
            ("/backends/x", None),
            ("/pools/chat/algorithm", None),
            ("/pools/Chat/backends/1", None),
            ("/pools/chat", None),
            ("/listen/port", None),
            ("", None),
        ] {
            let found = backend_at(place);
            let found = found.as_ref().map(|(pool, index)| (pool.as_str(), *index));
            assert_eq!(found, expected, "{place}");
        }
    }

    #[test]
    fn an_entry_names_its_pool_unless_it_is_default() {
        for pool in [Value::Null, DEFAULT_NAME.into(), "chat".into()] {
            let entry = json!({ "ip": "10.0.0.1", "port": 80, "pool": pool });
            let entry = entry.as_object().expect("an object");
            let mut faults = Faults::default();
            let key = read_key(&mut Object::new(entry, ""), &mut faults).expect("a key");
            assert_eq!(key.pool.as_str(), pool.as_str().unwrap_or(DEFAULT_NAME));
            let mut written = Map::new();
            write_pool(&key, &mut written);
            assert_eq!(written.get("pool"), (pool == "chat").then_some(&pool));
        }
        for bad in [json!("Chat"), json!(""), json!(7), json!(["chat"])] {
            let entry = json!({ "ip": "10.0.0.1", "port": 80, "pool": bad });
            let entry = entry.as_object().expect("an object");
            let mut faults = Faults::default();
            assert_eq!(read_key(&mut Object::new(entry, ""), &mut faults), None);
            assert_eq!(faults.0[0].place, "/pool");
        }
    }

    #[test]
    fn only_the_default_pool_has_a_place_in_a_base_path() {
        let key = parse_id("10.0.0.1:80").expect("an id");
        assert_eq!(lower(key.addr), key);
        assert_eq!(raise(&key), Some(key.addr));
        let other = parse_key("chat/10.0.0.1:80").expect("a key");
        assert_eq!((other.addr, raise(&other)), (key.addr, None));
    }

    proptest! {
        #[test]
        fn every_key_is_read_back_as_it_was_written(
            pool in "[a-z][a-z0-9_-]{0,62}",
            ip in any::<IpAddr>(),
            port in 1..=u16::MAX,
        ) {
            prop_assume!(parse_backend_ip(&ip.to_string()).is_some());
            let pool = Name::new(&pool).expect("a name");
            let key = BackendKey::new(pool, BackendAddr::new(ip, port));
            prop_assert_eq!(parse_key(&key.to_string()), Some(key));
        }

        #[test]
        fn whatever_text_is_read_means_one_backend(text in "[a-z/:.0-9\\[\\]]{0,24}|\\PC{0,24}") {
            let _ = backend_at(&text);
            if let Some(key) = parse_key(&text) {
                prop_assert_eq!(parse_key(&key.to_string()), Some(key.clone()));
                prop_assert_eq!(parse_id(&text).is_some(), raise(&key).is_some());
            }
        }
    }
}
