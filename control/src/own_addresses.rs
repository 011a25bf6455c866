//! The addresses of this host, of control and of the proxy, which no backend may have.

use std::net::{IpAddr, SocketAddr};

use contract::config::is_own_listener;
use contract::status::Running;
use contract::{BackendAddr, LocalAddresses};

use crate::services::Listening;

/// Addresses that no backend may have, since sessions to them would loop back.
#[derive(Debug, Clone)]
pub struct OwnAddresses {
    /// Where control listens: through the proxy, any client would reach it from loopback.
    pub control: Vec<SocketAddr>,
    /// The addresses of control's host.
    pub local: LocalAddresses,
    pub proxy: ProxyAddresses,
}

/// The proxy's own addresses as it reports them, since it may be in another container or network
/// namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The addresses of its host; empty if it does not report them.
    pub addresses: Vec<IpAddr>,
    pub listeners: Vec<SocketAddr>,
}

impl ProxyAddresses {
    pub fn of(running: &Running) -> ProxyAddresses {
        let listeners = running.listeners.iter().map(|listener| listener.addr);
        let mut addresses: Vec<IpAddr> =
            running.addresses.iter().map(IpAddr::to_canonical).collect();
        addresses.sort();
        addresses.dedup();
        ProxyAddresses {
            addresses,
            listeners: listeners.collect(),
        }
    }
}

impl OwnAddresses {
    /// The addresses of the proxy's host; those of control's if the proxy does not report them.
    pub fn of_proxy(&self) -> LocalAddresses {
        match self.proxy.addresses.is_empty() {
            true => self.local.clone(),
            false => LocalAddresses(self.proxy.addresses.clone()),
        }
    }

    /// Why `addr` cannot be a backend of a proxy with these listeners.
    pub fn refuse(&self, addr: BackendAddr, listening: &[Listening]) -> Option<String> {
        let local = self.of_proxy();
        let wanted = listening.iter().map(|one| &one.addr);
        let mut listeners = wanted.chain(&self.proxy.listeners);
        if let Some(listen) = listeners.find(|listen| is_own_listener(addr, **listen, &local)) {
            return Some(format!("it is the proxy's own listener {listen}"));
        }
        let mut control = self.control.iter();
        if let Some(control) = control.find(|own| is_own_listener(addr, **own, &self.local)) {
            return Some(format!("it is the control server's own address {control}"));
        }
        None
    }

    /// The address of control that conflicts with this listener.
    pub fn control_at(&self, listening: &Listening) -> Option<SocketAddr> {
        if !listening.is_tcp || !self.shares_network() {
            return None;
        }
        let mut control = self.control.iter();
        { control.find(|own| overlaps(**own, listening.addr)) }.copied()
    }

    /// Whether control and the proxy see the same addresses, as far as the proxy reports them.
    fn shares_network(&self) -> bool {
        let mut own = self
            .local
            .0
            .iter()
            .filter(|ip| !ip.is_loopback())
            .peekable();
        self.proxy.addresses.is_empty()
            || own.peek().is_none()
            || own.any(|ip| self.proxy.addresses.contains(&ip.to_canonical()))
    }
}

/// Whether two sockets cannot both listen on these. `::` takes IPv4 too.
fn overlaps(one: SocketAddr, two: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), two.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one.port() == two.port() && (a == b || covers(a, b) || covers(b, a))
}

/// The addresses of this host; none where they cannot be read.
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(if_addrs::Interface::ip).collect()
}
