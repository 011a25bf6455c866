//! Precedence when several sources describe one backend: operator override, then registration, then the
//! static list, then discovery. Each source decides only the values that it mentions. Pure; a backend's identity is
//! its pool and its `ip:port`: what is said of it in one pool says nothing of it in another.

use contract::status::AdminState;
use contract::{Backend, BackendKey};

use crate::registry::{Override, Registered, Registry, RegistryEntry, Requests};
use crate::sources::listed::Listed;

/// One backend with everything that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: BackendKey,
    /// As it is published, except for a drain, which publishes weight 0.
    pub backend: Backend,
    pub discovered: bool,
    pub is_static: bool,
    /// Whether its pool is defined; what is in another is stored and not published.
    pub has_pool: bool,
    pub registered: Option<Registered>,
    pub r#override: Option<Override>,
    /// What holds once the override is cleared.
    pub beneath: Beneath,
}

/// What the sources below an operator's override say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beneath {
    pub weight: u16,
    pub enabled: bool,
}

/// The sources that know a backend, in the order of [`KnownBy::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownBy([bool; 4]);

impl KnownBy {
    /// The strongest first.
    const NAMES: [&'static str; 4] = ["override", "runtime", "static", "k8s"];

    pub fn names(self) -> Vec<&'static str> {
        let named = Self::NAMES.into_iter().zip(self.0);
        named.filter_map(|(name, is)| is.then_some(name)).collect()
    }
}

/// The administrative and operational state of a row in one word, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Its pool is not defined.
    NoPool,
    Expired,
    Disabled,
    Drain,
    Warming,
    Ready,
}

impl RowState {
    pub fn word(self) -> &'static str {
        match self {
            RowState::NoPool => "no_pool",
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
        let weight = match self.is_drained() {
            true => 0,
            false => self.backend.weight,
        };
        Backend {
            weight,
            ..self.backend.clone()
        }
    }

    /// Whether an operator drains it; a weight of 0 has the same effect without this flag.
    pub fn is_drained(&self) -> bool {
        let word = self.r#override.as_ref();
        word.and_then(|word| word.drain).unwrap_or(false)
    }

    /// `runtime`, `static` or `k8s`: the strongest source.
    pub fn source(&self) -> &'static str {
        if self.r#override.is_some() || self.counts_registration() || !self.is_listed() {
            "runtime"
        } else if self.is_static {
            "static"
        } else {
            "k8s"
        }
    }

    /// Whether a file lists it, so that it needs no heartbeat.
    fn is_listed(&self) -> bool {
        self.discovered || self.is_static
    }

    /// All sources that know this backend, the strongest first.
    pub fn sources(&self) -> Vec<&'static str> {
        self.known_by().names()
    }

    pub fn known_by(&self) -> KnownBy {
        KnownBy([
            self.r#override.is_some(),
            self.registered.is_some(),
            self.is_static,
            self.discovered,
        ])
    }

    pub fn state(&self) -> RowState {
        let expired = self.registered.as_ref().is_some_and(Registered::is_expired);
        if !self.has_pool {
            RowState::NoPool
        } else if expired && !self.is_listed() {
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

    /// The requests that it last reported; none once it has expired.
    pub fn requests(&self) -> Requests {
        let registered = self.registered.as_ref();
        let live = registered.filter(|registered| !registered.is_expired());
        live.map(|registered| registered.requests)
            .unwrap_or_default()
    }

    /// Its state according to operator, registration and files.
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

/// Every backend that a file lists or a registration knows, in the order of keys. An override alone makes no
/// backend. Sources do not say which pools are defined: all count as defined.
pub fn merge(listed: Listed, registry: &Registry) -> Vec<Row> {
    let silent = RegistryEntry::default();
    let mut rows = Vec::with_capacity(listed.discovered.len() + registry.entries.len());
    for key in listed.keys() {
        let entry = registry.entries.get(key).unwrap_or(&silent);
        rows.extend(row(key, listed, entry));
    }
    for (key, entry) in &registry.entries {
        if !listed.is_static(key) && !listed.is_discovered(key) {
            rows.extend(row(key, listed, entry));
        }
    }
    rows.sort_unstable_by(|one, two| one.key.cmp(&two.key));
    rows
}

/// The keys of all rows, in their order.
pub fn keys<'a>(listed: Listed<'a>, registry: &'a Registry) -> Vec<&'a BackendKey> {
    let registered = registry.entries.iter();
    let registered = registered.filter(|(_, entry)| entry.registered.is_some());
    let mut keys: Vec<&BackendKey> = registered
        .map(|(key, _)| key)
        .chain(listed.keys())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The row of one backend; `None` if no source knows it.
pub fn merge_one(key: &BackendKey, listed: Listed, registry: &Registry) -> Option<Row> {
    let silent = RegistryEntry::default();
    let entry = registry.entries.get(key).unwrap_or(&silent);
    row(key, listed, entry)
}

fn row(key: &BackendKey, listed: Listed, entry: &RegistryEntry) -> Option<Row> {
    let below = listed.backend(key);
    let registered = entry.registered.as_ref();
    let is_expired = registered.is_some_and(Registered::is_expired);
    let mut backend = match (registered, &below) {
        // An expired registration is ignored if a file lists the backend.
        (Some(_), Some(below)) if is_expired => below.clone(),
        (Some(registered), below) => registered.said(key).over(below.as_ref()),
        (None, Some(below)) => below.clone(),
        (None, None) => return None,
    };
    let is_dead = is_expired && below.is_none();
    let beneath = Beneath {
        weight: backend.weight,
        enabled: backend.enabled && !is_dead,
    };
    if let Some(word) = &entry.r#override {
        backend.weight = word.weight.unwrap_or(backend.weight);
        backend.enabled = word.enabled.unwrap_or(backend.enabled);
    }
    // Expired, and in no other source. An operator's "enabled" says that it may serve, not that it
    // is alive.
    if is_dead {
        backend.enabled = false;
    }
    Some(Row {
        key: key.clone(),
        backend,
        discovered: listed.is_discovered(key),
        is_static: listed.is_static(key),
        has_pool: true,
        registered: entry.registered.clone(),
        r#override: entry.r#override.clone(),
        beneath,
    })
}

#[cfg(test)]
mod tests;
