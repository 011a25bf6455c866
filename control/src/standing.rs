//! Whether backends take new sessions and flows, and the incident that none of them does. Pure.
//!
//! *Ready* is said of a backend that is in use (admin ready, not expired) and that the proxy gives new
//! sessions (TCP) or flows (UDP). Where the proxy is not heard, it is not known.

use std::collections::HashMap;

use contract::BackendAddr;
use contract::status::{AdminState, BackendStatus, Status};

use crate::merge::{Row, RowState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    fn what_is_new(self) -> &'static str {
        match self {
            Protocol::Tcp => "new TCP sessions",
            Protocol::Udp => "new UDP flows",
        }
    }

    fn is_served(self, status: &Status) -> bool {
        let mut listeners = status.running.listeners.iter();
        listeners.any(|listener| match self {
            Protocol::Tcp => listener.tcp,
            Protocol::Udp => listener.udp,
        })
    }

    fn is_taken(self, backend: &BackendStatus) -> bool {
        match self {
            Protocol::Tcp => backend.health.takes_sessions,
            Protocol::Udp => backend.health.takes_flows,
        }
    }

    /// The rule for all being out, while it is in force.
    fn rule(self, status: &Status) -> Option<&str> {
        let health = match self {
            Protocol::Tcp => &status.health.tcp,
            Protocol::Udp => &status.health.udp,
        };
        health.all_down_in_force.as_deref()
    }
}

/// What the proxy says of its backends at one moment.
pub struct Seen<'a> {
    /// `None`: the proxy is not heard.
    status: Option<&'a Status>,
    backends: HashMap<BackendAddr, &'a BackendStatus>,
}

impl<'a> Seen<'a> {
    pub fn of(status: Option<&'a Status>) -> Seen<'a> {
        let backends = status.iter().flat_map(|status| &status.backends);
        let backends = backends.filter(|backend| backend.configured);
        let by_address =
            backends.map(|backend| (BackendAddr::new(backend.ip, backend.port), backend));
        Seen {
            status,
            backends: by_address.collect(),
        }
    }

    /// The proxy's word for the state of a backend, or control's.
    pub fn operational(&self, row: &Row) -> &'static str {
        match self.backends.get(&row.backend.addr) {
            _ if row.state() == RowState::Expired => "expired",
            Some(backend) => backend.operational.word(),
            None => "unknown",
        }
    }

    /// Whether a backend is ready; `None` where the proxy is not heard or does not serve the protocol.
    pub fn is_ready(&self, row: &Row, protocol: Protocol) -> Option<bool> {
        let status = self.status?;
        protocol.is_served(status).then(|| {
            let backend = self.backends.get(&row.backend.addr);
            let is_taken = |backend: &&BackendStatus| {
                backend.admin == AdminState::Ready && protocol.is_taken(backend)
            };
            is_in_use(row) && backend.is_some_and(is_taken)
        })
    }

    /// How many are ready; `None` as above.
    pub fn count_ready(&self, rows: &[Row], protocol: Protocol) -> Option<usize> {
        let status = self.status?;
        let ready = rows
            .iter()
            .filter(|row| self.is_ready(row, protocol) == Some(true));
        protocol.is_served(status).then(|| ready.count())
    }

    /// What keeps all new sessions or flows from a backend that is ready. Where the proxy is not heard,
    /// or knows none of them, what it said `before` of its backends stands.
    pub fn trouble(&self, rows: &[Row], before: Option<&Trouble>) -> Option<Trouble> {
        let in_use: Vec<&Row> = rows.iter().filter(|row| is_in_use(row)).collect();
        if in_use.is_empty() {
            return Some(Trouble::NoneInUse(none_in_use(rows)));
        }
        // A backend that is left out, or that the proxy has yet to hear of, does not count.
        let is_known = |row: &&&Row| self.backends.contains_key(&row.backend.addr);
        let known = in_use.iter().filter(is_known).count();
        let Some(status) = self.status.filter(|_| known > 0) else {
            return before
                .filter(|before| matches!(before, Trouble::AllOut(_)))
                .cloned();
        };
        let is_out = |protocol: &Protocol| self.count_ready(rows, *protocol) == Some(0);
        let out: Vec<String> = Protocol::ALL
            .into_iter()
            .filter(is_out)
            .map(|protocol| {
                let what = protocol.what_is_new();
                match protocol.rule(status) {
                    Some("fail_open") => format!("{what} go to all of them (all_down: fail_open)"),
                    Some(_) | None => format!("{what} are refused"),
                }
            })
            .collect();
        (!out.is_empty()).then(|| {
            Trouble::AllOut(format!(
                "all {known} backends in use are out: {}",
                out.join(", ")
            ))
        })
    }
}

/// Why no backend takes anything new, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Operators, registrations and discovery leave none.
    NoneInUse(String),
    /// The proxy leaves none, for their health.
    AllOut(String),
}

impl Trouble {
    pub fn text(&self) -> &str {
        match self {
            Trouble::NoneInUse(text) | Trouble::AllOut(text) => text,
        }
    }
}

/// Whether operator, registration and discovery want it to be used.
pub fn is_in_use(row: &Row) -> bool {
    row.admin() == AdminState::Ready && row.state() != RowState::Expired
}

fn none_in_use(rows: &[Row]) -> String {
    let count = |state| rows.iter().filter(|row| row.state() == state).count();
    match rows.len() {
        0 => "no backend is in use: none is known".to_owned(),
        all => format!(
            "no backend is in use: of {all}, {} are drained, {} disabled, {} expired",
            count(RowState::Drain),
            count(RowState::Disabled),
            count(RowState::Expired)
        ),
    }
}
