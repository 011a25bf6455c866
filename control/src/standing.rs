//! Whether backends take new sessions and flows. Pure.
//!
//! A backend is *ready* if it is in use (admin ready, not expired) and the proxy gives it new sessions (TCP) or
//! flows (UDP). If the proxy does not answer, this is unknown.

use std::collections::HashMap;

use contract::status::{AdminState, BackendStatus, HealthStatus, Status};
use contract::{BackendKey, Name};

use crate::merge::{Row, RowState};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub const ALL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    pub fn is_served(self, status: &Status) -> bool {
        let mut listeners = status.running.listeners.iter();
        listeners.any(|listener| match self {
            Protocol::Tcp => listener.tcp,
            Protocol::Udp => listener.udp,
        })
    }

    /// Whether a listener that leads to `pool` accepts the protocol, and some backend may serve it: TCP is not
    /// expected of a service that seems to use UDP only.
    pub fn is_expected(self, status: &Status, pool: &Name) -> bool {
        let is_missed = match self {
            Protocol::Tcp => !health_of(status, pool).udp_alone,
            Protocol::Udp => true,
        };
        is_missed && self.leads_to(status, pool) && self.is_served(status)
    }

    fn leads_to(self, status: &Status, pool: &Name) -> bool {
        let pools = &status.pools;
        match pools.iter().find(|one| one.name == pool.as_str()) {
            // What a listener that has just been removed still accepts goes to the only pool, too.
            Some(_) if pools.len() == 1 => true,
            Some(one) => match self {
                Protocol::Tcp => one.tcp,
                Protocol::Udp => one.udp,
            },
            // An older proxy has one pool and does not name it.
            None => pools.is_empty(),
        }
    }

    pub fn is_taken(self, backend: &BackendStatus) -> bool {
        match self {
            Protocol::Tcp => backend.health.takes_sessions,
            Protocol::Udp => backend.health.takes_flows,
        }
    }

    /// The rule that applies while all backends of a pool are out.
    pub fn rule(self, health: &HealthStatus) -> Option<&str> {
        let health = match self {
            Protocol::Tcp => &health.tcp,
            Protocol::Udp => &health.udp,
        };
        health.all_down_in_force.as_deref()
    }
}

/// The health of a pool according to the proxy.
pub fn health_of<'a>(status: &'a Status, pool: &Name) -> &'a HealthStatus {
    let found = status.pools.iter().find(|one| one.name == pool.as_str());
    found.map_or(&status.health, |found| &found.health)
}

/// The proxy's status of its backends at one moment.
pub struct Seen<'a> {
    /// `None`: the proxy does not answer.
    status: Option<&'a Status>,
    backends: HashMap<BackendKey, &'a BackendStatus>,
}

impl<'a> Seen<'a> {
    pub fn of(status: Option<&'a Status>) -> Seen<'a> {
        let backends = status.iter().flat_map(|status| &status.backends);
        let backends = backends.filter(|backend| backend.configured);
        let keyed = backends.filter_map(|backend| Some((backend.key()?, backend)));
        Seen {
            status,
            backends: keyed.collect(),
        }
    }

    /// The proxy's status, if it answers.
    pub fn status(&self) -> Option<&'a Status> {
        self.status
    }

    /// The state of a backend from the proxy, or else from control.
    pub fn operational(&self, row: &Row) -> &'static str {
        match self.backends.get(&row.key) {
            _ if is_out_by_itself(row) => row.state().word(),
            Some(backend) => backend.operational.word(),
            None => "unknown",
        }
    }

    /// Whether a backend is ready; `None` if the proxy does not answer or the protocol is not expected.
    pub fn is_ready(&self, row: &Row, protocol: Protocol) -> Option<bool> {
        let status = self.status?;
        protocol.is_expected(status, &row.key.pool).then(|| {
            let backend = self.backends.get(&row.key);
            let is_taken = |backend: &&BackendStatus| {
                backend.admin == AdminState::Ready && protocol.is_taken(backend)
            };
            // Whether a listener leads there is the proxy's to say: one that was just removed still may.
            let is_wanted = is_in_use(row) || row.state() == RowState::NoListener;
            is_wanted && backend.is_some_and(is_taken)
        })
    }

    /// How many of a pool's rows are ready; `None` as above.
    pub fn count_ready(&self, pool: &Name, rows: &[Row], protocol: Protocol) -> Option<usize> {
        let status = self.status?;
        let ready = rows
            .iter()
            .filter(|row| self.is_ready(row, protocol) == Some(true));
        protocol.is_expected(status, pool).then(|| ready.count())
    }
}

/// Whether operator, registration and discovery want it to be used, in a pool that a listener leads to.
pub fn is_in_use(row: &Row) -> bool {
    row.admin() == AdminState::Ready && !is_out_by_itself(row)
}

/// Whether it takes nothing whatever the proxy says of it.
fn is_out_by_itself(row: &Row) -> bool {
    match row.state() {
        RowState::NoPool | RowState::Expired | RowState::NoListener => true,
        RowState::Disabled | RowState::Drain | RowState::Warming | RowState::Ready => false,
    }
}
