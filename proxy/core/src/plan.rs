//! What a reload changes about the listeners: open, keep, close. Pure; the shell carries it out.

use std::net::SocketAddr;

use contract::Listener;

/// The protocol that a socket listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Sessions.
    Tcp,
    /// Flows.
    Udp,
}

impl Protocol {
    /// The word in logs, metrics and addresses.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// One bound address: what a listener of the configuration needs for each of its protocols. Which
/// listener that is, and which pool stands behind it, may change while it stays open (`docs/adr/0016`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address and port to bind.
    pub addr: SocketAddr,
    /// The kind of socket.
    pub protocol: Protocol,
}

/// What a listener needs.
pub fn endpoints_of(listener: &Listener) -> impl Iterator<Item = Endpoint> {
    let protocols = [
        listener.tcp.then_some(Protocol::Tcp),
        listener.udp.then_some(Protocol::Udp),
    ];
    let addrs = listener.addrs().filter(|_| listener.enabled);
    addrs.flat_map(move |addr| {
        let protocols = protocols.into_iter().flatten();
        protocols.map(move |protocol| Endpoint { addr, protocol })
    })
}

/// The endpoints of a configuration, each address and protocol once.
pub fn endpoints(listeners: &[Listener]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = listeners.iter().flat_map(endpoints_of).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

/// What a reload does to the endpoints, each in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be bound.
    pub open: Vec<Endpoint>,
    /// Already bound, and still needed.
    pub keep: Vec<Endpoint>,
    /// To be retired.
    pub close: Vec<Endpoint>,
}

/// The steps from the endpoints `old` to `new`. New ones are opened before old ones are closed.
pub fn plan(old: &[Endpoint], new: &[Endpoint]) -> Plan {
    Plan {
        open: new
            .iter()
            .filter(|endpoint| !old.contains(endpoint))
            .copied()
            .collect(),
        keep: new
            .iter()
            .filter(|endpoint| old.contains(endpoint))
            .copied()
            .collect(),
        close: old
            .iter()
            .filter(|endpoint| !new.contains(endpoint))
            .copied()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
        let endpoint = (1u16..6, any::<bool>()).prop_map(|(port, tcp)| Endpoint {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        });
        proptest::collection::btree_set(endpoint, 0..8).prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn applying_the_plan_gives_the_new_endpoints(old in any_endpoints(), new in any_endpoints()) {
            let steps = plan(&old, &new);
            let mut open: BTreeSet<Endpoint> = old.iter().copied().collect();
            for endpoint in &steps.open {
                prop_assert!(open.insert(*endpoint), "opened twice");
            }
            for endpoint in &steps.close {
                prop_assert!(open.remove(endpoint), "closed what was not open");
            }
            prop_assert_eq!(open.into_iter().collect::<Vec<_>>(), new);
            prop_assert!(steps.keep.iter().all(|endpoint| old.contains(endpoint)));
        }
    }

    fn listener(name: &str, pool: usize) -> Listener {
        let name = contract::Name::new(name).expect("a name");
        Listener::new(name, SocketAddr::from(([0, 0, 0, 0], 80)), pool)
    }

    #[test]
    fn nothing_changes_between_equal_configurations() {
        let endpoints = endpoints(&[listener("default", 0)]);
        assert_eq!(endpoints.len(), 2);
        let plan = plan(&endpoints, &endpoints);
        assert!(plan.open.is_empty() && plan.close.is_empty());
    }

    #[test]
    fn a_listener_with_another_pool_or_name_keeps_its_sockets() {
        let before = endpoints(&[listener("a", 0)]);
        for after in [listener("a", 1), listener("b", 0)] {
            let plan = plan(&before, &endpoints(std::slice::from_ref(&after)));
            assert!(plan.open.is_empty() && plan.close.is_empty(), "{after:?}");
            assert_eq!(plan.keep, before);
        }
    }
}
