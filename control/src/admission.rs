//! Which addresses may be registered: by network, by port, by kind of address. Pure.
//!
//! A client that can register decides where traffic goes, so addresses that no GPU server has are refused
//! by default: special-purpose addresses ([`special`]), such as the link-local ones where clouds keep
//! their secrets, and this machine's loopback for clients on other machines.

mod special;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use contract::config::MAX_BACKENDS;
use contract::{BackendAddr, Faults, Object};
use ipnet::IpNet;
use serde_json::Value;

/// `registration` of `control_config.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Registrations at once.
    pub max_backends: usize,
    /// `None`: of every network.
    networks: Option<Vec<IpNet>>,
    /// `None`: on every port.
    ports: Option<Vec<RangeInclusive<u16>>>,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            max_backends: MAX_BACKENDS,
            networks: None,
            ports: None,
        }
    }
}

impl Admission {
    /// Reads `{max_backends?, allowed_cidrs?, allowed_ports?}`.
    pub fn read(object: &mut Object, faults: &mut Faults) -> Admission {
        let place = object.pointer("registration");
        let map = match object.take("registration") {
            None => return Admission::default(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                let allowed = "an object {max_backends, allowed_cidrs, allowed_ports}";
                faults.add(&place, other, allowed);
                return Admission::default();
            }
        };
        let mut object = Object::new(map, place);
        let most = MAX_BACKENDS as u64;
        let max = object.take_integer("max_backends", 1, most, faults);
        let allowed = "an array of networks as \"10.0.0.0/8\" or \"2001:db8::/32\"";
        let networks = read_list(&mut object, "allowed_cidrs", allowed, read_network, faults);
        let allowed = "an array of ports as 9001, and of ranges as \"9000-9999\"";
        let ports = read_list(&mut object, "allowed_ports", allowed, read_ports, faults);
        object.unknown_keys(faults);
        Admission {
            max_backends: max.unwrap_or(most) as usize,
            networks,
            ports,
        }
    }

    /// Why `addr` may not be listed: what no GPU server has, unless its network is named.
    pub fn refuse_special(&self, addr: BackendAddr, faults: &mut Faults) {
        let ip = addr.ip();
        let mut networks = self.networks.iter().flatten();
        if let Some(purpose) = special::purpose(ip)
            && !networks.any(|network| network.contains(&ip))
        {
            faults.add("/ip", ip, not_special(purpose));
        }
    }

    /// Why `addr` may not be registered by a client, which may be one of this machine.
    pub fn refuse(&self, addr: BackendAddr, is_local: bool, faults: &mut Faults) {
        let (ip, port) = (addr.ip(), addr.port());
        let networks = self.networks.as_deref();
        if ip.is_loopback() && !is_local {
            let allowed = "an address of another machine: loopback is for clients of this one";
            faults.add("/ip", ip, allowed);
        } else if let Some(networks) = networks
            && !networks.iter().any(|network| network.contains(&ip))
        {
            let words: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let words = words.join(", ");
            let allowed =
                format!("an address of {words}, by \"registration\" of control_config.json");
            faults.add("/ip", ip, allowed);
        } else if networks.is_none()
            && let Some(purpose) = special::purpose(ip)
        {
            faults.add("/ip", ip, not_special(purpose));
        }
        let ports = self.ports.as_deref();
        if let Some(ports) = ports
            && !ports.iter().any(|range| range.contains(&port))
        {
            let words = ports
                .iter()
                .map(|range| match range.start() == range.end() {
                    true => range.start().to_string(),
                    false => format!("{}-{}", range.start(), range.end()),
                });
            let words = words.collect::<Vec<String>>().join(", ");
            let allowed = format!("a port of {words}, by \"registration\" of control_config.json");
            faults.add("/port", port, allowed);
        }
    }
}

fn not_special(purpose: &str) -> String {
    format!("no {purpose} address, unless \"allowed_cidrs\" names its network")
}

/// An array, each item read alone; `None` where the key is absent.
fn read_list<T>(
    object: &mut Object,
    key: &'static str,
    allowed: &str,
    read: impl Fn(&Value) -> Option<T>,
    faults: &mut Faults,
) -> Option<Vec<T>> {
    let place = object.pointer(key);
    let value = object.take(key)?;
    let Value::Array(items) = value else {
        faults.add(&place, value, allowed);
        return None;
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match read(item) {
            Some(one) => list.push(one),
            None => faults.add(&format!("{place}/{index}"), item, allowed),
        }
    }
    Some(list)
}

/// A network of IPv4 addresses that are written as IPv6 ones (`::ffff:10.0.0.0/104`) is one of IPv4,
/// as the addresses are that it is compared with.
fn read_network(item: &Value) -> Option<IpNet> {
    const MAPPED_BITS: u8 = 96;
    let network = item.as_str()?.parse::<IpNet>().ok()?;
    let bits = network.prefix_len().checked_sub(MAPPED_BITS);
    match (network.addr().to_canonical(), bits) {
        (ip @ IpAddr::V4(_), Some(bits)) if network.addr().is_ipv6() => IpNet::new(ip, bits).ok(),
        _ => Some(network),
    }
}

fn read_ports(item: &Value) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(number) = item.as_u64() {
        let one = port(&number.to_string())?;
        return Some(one..=one);
    }
    let (from, to) = item.as_str()?.split_once('-')?;
    let (from, to) = (port(from)?, port(to)?);
    (from <= to).then_some(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Admission, Faults> {
        let document = json!({ "registration": value });
        let map = document.as_object().expect("an object");
        let mut faults = Faults::default();
        let admission = Admission::read(&mut Object::new(map, ""), &mut faults);
        if faults.is_empty() {
            Ok(admission)
        } else {
            Err(faults)
        }
    }

    fn places(admission: &Admission, addr: &str, is_local: bool) -> Vec<String> {
        let addr = BackendAddr(addr.parse().expect("a literal"));
        let mut faults = Faults::default();
        admission.refuse(addr, is_local, &mut faults);
        faults.0.into_iter().map(|fault| fault.place).collect()
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        let cidrs = json!(["::ffff:10.1.0.0/112", "2001:db8::/32", "192.0.2.0/24"]);
        let admission = read(json!({ "allowed_cidrs": cidrs })).expect("networks");
        for good in ["10.1.2.3:1", "[2001:db8::7]:1", "192.0.2.1:1"] {
            assert!(places(&admission, good, false).is_empty(), "{good}");
        }
        assert_eq!(places(&admission, "10.2.0.1:1", false), ["/ip"]);
    }

    #[test]
    fn the_defaults_refuse_what_no_gpu_server_has() {
        let admission = read(json!(null)).expect("absent");
        assert_eq!(admission, Admission::default());
        for good in ["10.0.0.1:9001", "8.8.8.8:1", "[fd00::1]:65535"] {
            assert!(places(&admission, good, false).is_empty(), "{good}");
        }
        for own in ["127.0.0.1:9001", "127.9.9.9:1", "[::1]:9001"] {
            assert!(places(&admission, own, true).is_empty(), "{own}");
            assert_eq!(places(&admission, own, false), ["/ip"], "{own}");
        }
        for bad in ["169.254.169.254:80", "[fe80::1]:80", "[febf::1]:80"] {
            assert_eq!(places(&admission, bad, true), ["/ip"], "{bad}");
        }
    }

    #[test]
    fn named_networks_and_ports_and_no_others_are_allowed() {
        let admission = read(json!({
            "max_backends": 64, "allowed_cidrs": ["10.1.0.0/16", "169.254.7.0/24", "2001:db8::/32"],
            "allowed_ports": [80, "9000-9999"],
        }))
        .expect("good");
        assert_eq!(admission.max_backends, 64);
        for good in ["10.1.2.3:80", "169.254.7.1:9000", "[2001:db8:9::1]:9999"] {
            assert!(places(&admission, good, false).is_empty(), "{good}");
        }
        let cases = [
            ("10.2.0.1:80", vec!["/ip"]),
            ("169.254.8.1:80", vec!["/ip"]),
            ("10.1.0.1:81", vec!["/port"]),
            ("10.2.0.1:8999", vec!["/ip", "/port"]),
            ("127.0.0.1:80", vec!["/ip"]),
        ];
        for (addr, right) in cases {
            assert_eq!(places(&admission, addr, true), right, "{addr}");
        }
    }

    #[test]
    fn each_bad_limit_is_named_by_its_place() {
        let faults = read(json!({
            "max_backends": 0, "allowed_cidrs": ["10.0.0.0/33", "host", 7],
            "allowed_ports": [0, 65536, "9-1", "a-b", "80", -1], "allowed_hosts": [],
        }))
        .expect_err("bad");
        let places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        let mut expected = vec!["/registration/max_backends"];
        let cidrs = ["0", "1", "2"].map(|index| format!("/registration/allowed_cidrs/{index}"));
        let ports = ["0", "1", "2", "3", "4", "5"];
        let ports = ports.map(|index| format!("/registration/allowed_ports/{index}"));
        expected.extend(cidrs.iter().chain(&ports).map(String::as_str));
        expected.push("/registration/allowed_hosts");
        assert_eq!(places, expected);
        assert!(read(json!([])).is_err());
    }
}
