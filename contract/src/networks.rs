//! A list of networks, as people write them in a configuration.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::fault::Faults;
use crate::object::Object;

/// The most networks of one list: every one is looked at.
const MAX_NETWORKS: usize = 256;

/// Networks, none of them IPv4 written as IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `ip` lies in one of them, an IPv4-mapped address as the IPv4 one that it is.
    pub fn contain(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// One address or network; `None` where it is neither.
    pub fn parse(text: &str) -> Option<Networks> {
        parse(text).map(|network| Networks::from_iter([network]))
    }

    /// An array of networks under `key`; `None` where that is absent or wrong. Bits beyond the prefix are
    /// ignored.
    pub(crate) fn read(
        object: &mut Object,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Networks> {
        let allowed = format!(
            "an array of at most {MAX_NETWORKS} networks as \"10.0.0.0/8\", \"2001:db8::/32\" or \
             \"10.0.0.1\""
        );
        read_array(object, key, 0, &allowed, faults, parse)
    }

    /// The same for networks that decide something: at least one, and none with bits beyond its prefix, since
    /// nobody knows whether the address or the prefix was meant.
    pub(crate) fn read_exact(
        object: &mut Object,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Networks> {
        let allowed = format!(
            "an array of 1 to {MAX_NETWORKS} networks as \"10.0.0.0/8\", \"2001:db8::/32\" or \
             \"10.0.0.1\", without bits beyond the prefix"
        );
        read_array(object, key, 1, &allowed, faults, parse_exact)
    }
}

fn read_array(
    object: &mut Object,
    key: &'static str,
    least: usize,
    allowed: &str,
    faults: &mut Faults,
    parse: fn(&str) -> Option<IpNet>,
) -> Option<Networks> {
    let place = object.pointer(key);
    let items = match object.take(key)? {
        Value::Array(items) if (least..=MAX_NETWORKS).contains(&items.len()) => items,
        Value::Array(items) => {
            faults.add(&place, format!("{} networks", items.len()), allowed);
            return None;
        }
        other => {
            faults.add(&place, other, allowed);
            return None;
        }
    };
    let mut networks = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().and_then(parse) {
            Some(network) => networks.push(network),
            None => faults.add(&format!("{place}/{index}"), item, allowed),
        }
    }
    Some(Networks::from_iter(networks))
}

fn parse_exact(text: &str) -> Option<IpNet> {
    parse(text).filter(|network| network.addr() == network.network())
}

fn parse(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse().ok(),
    }
}

/// An IPv4-mapped network is one of IPv4.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let mapped = match network {
        IpNet::V6(v6) => v6
            .addr()
            .to_ipv4_mapped()
            .zip(v6.prefix_len().checked_sub(MAPPED_BITS)),
        IpNet::V4(_) => None,
    };
    let mapped = mapped.and_then(|(ip, bits)| Ipv4Net::new(ip, bits).ok());
    mapped.map_or(network, IpNet::V4).trunc()
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Networks {
        Networks(networks.into_iter().map(canonical).collect())
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> (Networks, Vec<String>) {
        let document = json!({ "networks": value });
        let mut faults = Faults::default();
        let map = document.as_object().expect("an object above");
        let networks = Networks::read(&mut Object::new(map, ""), "networks", &mut faults);
        (
            networks.unwrap_or_default(),
            faults.0.into_iter().map(|fault| fault.place).collect(),
        )
    }

    #[test]
    fn an_address_lies_in_a_network_however_the_two_are_written() {
        let list = json!([
            "10.1.0.0/16",
            "::ffff:10.2.0.0/112",
            "192.0.2.7",
            "2001:db8::/32"
        ]);
        let (networks, faults) = read(list);
        assert_eq!(faults, [""; 0]);
        for (ip, lies_in) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.2.3", true),
            ("10.3.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            let ip = ip.parse().expect("an address above");
            assert_eq!(networks.contain(ip), lies_in, "{ip}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place_and_null_is_nothing() {
        let (_, faults) = read(json!(["10.0.0.0/8", "10.0.0.0/33", "host", 7, "::/0"]));
        assert_eq!(faults, ["/networks/1", "/networks/2", "/networks/3"]);
        assert_eq!(read(json!("10.0.0.0/8")).1, ["/networks"]);
        assert_eq!(read(json!(vec!["10.0.0.0/8"; 257])).1, ["/networks"]);
        assert_eq!(read(Value::Null), (Networks::default(), Vec::new()));
    }

    #[test]
    fn written_out_they_are_read_as_the_same() {
        let (networks, _) = read(json!(["10.1.2.3/16", "192.0.2.7", "::ffff:10.0.0.0/104"]));
        let written = serde_json::to_value(&networks).expect("strings");
        assert_eq!(
            written,
            json!(["10.1.0.0/16", "192.0.2.7/32", "10.0.0.0/8"])
        );
        assert_eq!(read(written).0, networks);
    }
}
