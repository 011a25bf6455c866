//! Precedence when several describe one backend: operator override, then registration, then the static list, then
//! the sources in their order. Each decides only the values that it mentions. Pure; a backend's identity is its pool
//! and its `ip:port`: what is said of it in one pool says nothing of it in another.

use contract::status::AdminState;
use contract::{Backend, BackendKey, Name};

use crate::registry::{Override, Registered, Registry, RegistryEntry, Requests};
use crate::sources::listed::Listed;

/// One backend with everything that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: BackendKey,
    /// As it is published, except for a drain, which publishes weight 0.
    pub backend: Backend,
    pub is_static: bool,
    /// The sources that list it, the strongest first.
    pub discovered_by: Vec<Name>,
    /// Whether its pool can take traffic.
    pub place: Place,
    pub registered: Option<Registered>,
    pub r#override: Option<Override>,
    /// What holds once the override is cleared.
    pub beneath: Beneath,
}

/// Whether a pool can take traffic, by the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// A listener leads to it.
    #[default]
    Led,
    /// It is defined and published, and no listener leads to it.
    NoListener,
    /// It is not defined: its backends are stored and not published.
    Undefined,
}

/// What the sources below an operator's override say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beneath {
    pub weight: u16,
    pub enabled: bool,
}

/// Everything that knows a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownBy {
    is_overridden: bool,
    is_registered: bool,
    is_static: bool,
    discovered_by: Vec<Name>,
}

impl KnownBy {
    /// The strongest first.
    pub fn names(&self) -> Vec<&str> {
        let named = [
            ("override", self.is_overridden),
            ("runtime", self.is_registered),
            ("static", self.is_static),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, is)| is.then_some(name));
        named
            .chain(self.discovered_by.iter().map(Name::as_str))
            .collect()
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
    /// No listener leads to its pool, so it takes no traffic.
    NoListener,
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
            RowState::NoListener => "no_listener",
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

    /// `runtime`, `static` or the name of a source: the strongest that knows it.
    pub fn source(&self) -> &str {
        let is_runtime = self.r#override.is_some() || self.counts_registration();
        match self.discovered_by.first() {
            _ if is_runtime => "runtime",
            _ if self.is_static => "static",
            Some(source) => source.as_str(),
            None => "runtime",
        }
    }

    /// Whether it is listed, so that it needs no heartbeat.
    fn is_listed(&self) -> bool {
        self.is_static || !self.discovered_by.is_empty()
    }

    pub fn known_by(&self) -> KnownBy {
        KnownBy {
            is_overridden: self.r#override.is_some(),
            is_registered: self.registered.is_some(),
            is_static: self.is_static,
            discovered_by: self.discovered_by.clone(),
        }
    }

    pub fn state(&self) -> RowState {
        let expired = self.registered.as_ref().is_some_and(Registered::is_expired);
        if self.place == Place::Undefined {
            RowState::NoPool
        } else if expired && !self.is_listed() {
            RowState::Expired
        } else if !self.backend.enabled {
            RowState::Disabled
        } else if self.published().weight == 0 {
            RowState::Drain
        } else if self.place == Place::NoListener {
            RowState::NoListener
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

/// Every backend that is listed or registered, in the order of keys. An override alone makes no
/// backend. Sources do not say which pools are defined: all count as defined.
pub fn merge(listed: Listed, registry: &Registry) -> Vec<Row> {
    let silent = RegistryEntry::default();
    let mut rows = Vec::with_capacity(registry.entries.len());
    for key in listed.keys() {
        let entry = registry.entries.get(key).unwrap_or(&silent);
        rows.extend(row(key, listed, entry));
    }
    for (key, entry) in &registry.entries {
        if !listed.lists(key) {
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
        // An expired registration is ignored if the backend is listed.
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
        is_static: listed.is_static(key),
        discovered_by: listed.discovered_by(key),
        place: Place::Led,
        registered: entry.registered.clone(),
        r#override: entry.r#override.clone(),
        beneath,
    })
}

#[cfg(test)]
mod tests;
