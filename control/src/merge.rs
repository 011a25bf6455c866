//! Who wins where several say something of one backend: operator override, then registration, then
//! discovery. Pure; a backend's identity is its `ip:port`.

use std::collections::BTreeMap;

use contract::status::AdminState;
use contract::{Backend, BackendAddr, Report};

use crate::registry::{Override, Registered, Registry, RegistryEntry, Requests};

/// One backend with everything that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As it is published, but for a drain, which publishes weight 0.
    pub backend: Backend,
    pub discovered: bool,
    pub registered: Option<Registered>,
    pub r#override: Option<Override>,
}

/// The administrative and operational state of a row in one word, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    Expired,
    Disabled,
    Drain,
    Warming,
    Ready,
}

impl RowState {
    pub fn word(self) -> &'static str {
        match self {
            RowState::Expired => "expired",
            RowState::Disabled => "disabled",
            RowState::Drain => "drain",
            RowState::Warming => "warming",
            RowState::Ready => "ready",
        }
    }
}

impl Row {
    /// The entry for `proxy_config.json`.
    pub fn published(&self) -> Backend {
        let drained = self
            .r#override
            .as_ref()
            .and_then(|word| word.drain)
            .unwrap_or(false);
        Backend {
            weight: if drained { 0 } else { self.backend.weight },
            ..self.backend.clone()
        }
    }

    /// `k8s` or `runtime`: who has the word.
    pub fn source(&self) -> &'static str {
        let runtime = self.r#override.is_some() || self.counts_registration() || !self.discovered;
        if runtime { "runtime" } else { "k8s" }
    }

    /// Everyone who knows this backend, the strongest first.
    pub fn sources(&self) -> Vec<&'static str> {
        let known = [
            (self.r#override.is_some(), "override"),
            (self.registered.is_some(), "runtime"),
            (self.discovered, "k8s"),
        ];
        known
            .into_iter()
            .filter_map(|(known, name)| known.then_some(name))
            .collect()
    }

    pub fn state(&self) -> RowState {
        let expired = self.registered.as_ref().is_some_and(Registered::is_expired);
        if expired && !self.discovered {
            RowState::Expired
        } else if !self.backend.enabled {
            RowState::Disabled
        } else if self.published().weight == 0 {
            RowState::Drain
        } else if self.backend.is_warming_up {
            RowState::Warming
        } else {
            RowState::Ready
        }
    }

    /// What it last said of its own requests; nothing once it has expired.
    pub fn requests(&self) -> Requests {
        let registered = self.registered.as_ref();
        let live = registered.filter(|registered| !registered.is_expired());
        live.map(|registered| registered.requests)
            .unwrap_or_default()
    }

    /// What operator, registration or discovery want of it.
    pub fn admin(&self) -> AdminState {
        if !self.backend.enabled {
            AdminState::Disabled
        } else if self.published().weight == 0 {
            AdminState::Drain
        } else {
            AdminState::Ready
        }
    }

    fn counts_registration(&self) -> bool {
        self.registered
            .as_ref()
            .is_some_and(|registered| !registered.is_expired())
    }
}

/// Every backend that discovery or a registration knows, in the order of addresses. An override
/// alone makes no backend.
pub fn merge(discovered: &BTreeMap<BackendAddr, Backend>, registry: &Registry) -> Vec<Row> {
    let silent = RegistryEntry::default();
    let mut rows = Vec::with_capacity(discovered.len() + registry.entries.len());
    for backend in discovered.values() {
        let entry = registry.entries.get(&backend.addr).unwrap_or(&silent);
        rows.extend(row(backend.addr, Some(backend), entry));
    }
    for (addr, entry) in &registry.entries {
        if !discovered.contains_key(addr) {
            rows.extend(row(*addr, None, entry));
        }
    }
    rows.sort_by_key(|row| row.backend.addr);
    rows
}

/// The row of one backend; `None` where nobody knows it.
pub fn merge_one(
    addr: BackendAddr,
    discovered: &BTreeMap<BackendAddr, Backend>,
    registry: &Registry,
) -> Option<Row> {
    let silent = RegistryEntry::default();
    let entry = registry.entries.get(&addr).unwrap_or(&silent);
    row(addr, discovered.get(&addr), entry)
}

fn row(addr: BackendAddr, discovered: Option<&Backend>, entry: &RegistryEntry) -> Option<Row> {
    let mut backend = match (&entry.registered, discovered) {
        (Some(registered), _) if !registered.is_expired() => {
            of_registration(addr, registered, discovered)
        }
        (_, Some(discovered)) => discovered.clone(),
        (Some(registered), None) => of_registration(addr, registered, None),
        (None, None) => return None,
    };
    if let Some(word) = &entry.r#override {
        backend.weight = word.weight.unwrap_or(backend.weight);
        backend.enabled = word.enabled.unwrap_or(backend.enabled);
    }
    // Expired, and nobody else vouches for it. An operator's "enabled" says that it may serve, not
    // that it lives.
    let expired = entry
        .registered
        .as_ref()
        .is_some_and(Registered::is_expired);
    if expired && discovered.is_none() {
        backend.enabled = false;
    }
    Some(Row {
        backend,
        discovered: discovered.is_some(),
        registered: entry.registered.clone(),
        r#override: entry.r#override.clone(),
    })
}

fn of_registration(
    addr: BackendAddr,
    registered: &Registered,
    discovered: Option<&Backend>,
) -> Backend {
    let own = registered.report;
    let has_figures = own.gpu_usage.is_some() || own.vram_usage.is_some();
    Backend {
        addr,
        weight: registered.weight,
        enabled: registered.enabled,
        is_warming_up: registered.warming.is_on(),
        // A registration without figures leaves discovery's standing; two half reports never mix.
        report: match discovered {
            Some(discovered) if !has_figures => Report {
                heartbeat_ms: own.heartbeat_ms.or(discovered.report.heartbeat_ms),
                ..discovered.report
            },
            Some(_) | None => own,
        },
        batch: registered.batch,
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
