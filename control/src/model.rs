//! The state of control, and the closed list of its mutations.
//!
//! Pure: every change is a [`Mutation`] and goes through [`Model::apply`]; storing it is the
//! keeper's work, publishing it the publisher's.

mod mutation;
mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::config::MAX_BACKENDS;
use contract::{BackendAddr, BackendKey, Faults, Name};
use serde_json::{Value, json};

use crate::calls::{self, PendingCall};
use crate::changes::{self, ChangeSet};
use crate::clock::Now;
use crate::layer::{Layer, Unusable};
use crate::merge::{Place, Row, merge, merge_one};
use crate::own_addresses::OwnAddresses;
use crate::registry::{Effect, ExpiryPolicy, Override, Registration, Registry, RegistryEntry};
use crate::render::{Head, Plan};
use crate::services::{self, Kind, Listening};
use crate::settings::Settings;
use crate::sources::entry::Said;
use crate::sources::listed::{Discovered, Listed, Listing};

pub use mutation::{Change, Mutation, Refusal};

#[derive(Debug, Clone)]
pub struct Model {
    pub registry: Registry,
    /// What the sources say, the strongest first.
    pub discovered: Vec<Discovered>,
    /// The backends that operators list.
    pub statics: Arc<Listing>,
    /// Settings by API.
    pub runtime_settings: Layer,
    /// Calls that changed them and whose outcome is unknown, the oldest first.
    pub pending: Vec<PendingCall>,
    /// Settings by `control_config.json`.
    pub base_settings: Layer,
    /// Grows with every change that must be published at once.
    pub revision: u64,
    /// Grows with every edit by people, but not with changes by backends and discovery: it detects edits that
    /// would overwrite another person's.
    pub edits: u64,
    pub policy: ExpiryPolicy,
    /// Registrations at once.
    pub max_registrations: usize,
    pub own: OwnAddresses,
    /// Listeners and pools that are published as the proxy last accepted them, since the settings do not make them.
    pub kept: Head,
    /// What is wrong with what is stored, in words.
    pub warnings: Vec<String>,
}

impl Model {
    /// Before anything is known.
    pub fn new(settings: &Settings, own: OwnAddresses) -> Model {
        Model {
            registry: Registry::default(),
            discovered: Vec::new(),
            statics: Arc::default(),
            runtime_settings: Layer::default(),
            pending: Vec::new(),
            base_settings: settings.proxy.clone(),
            revision: 1,
            edits: 0,
            policy: settings.expiry,
            max_registrations: settings.admission.max_backends,
            own,
            kept: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The settings of all layers.
    pub fn settings(&self) -> Layer {
        self.runtime_settings.over(&self.base_settings)
    }

    /// The rows of these backends; those that no source knows have none.
    pub fn rows_of(&self, keys: &[BackendKey]) -> Vec<Row> {
        let place_of = self.places();
        let rows = keys.iter().filter_map(|key| {
            let row = merge_one(key, self.listed(), &self.registry)?;
            let place = place_of(&key.pool);
            Some(Row { place, ..row })
        });
        rows.collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        let place_of = self.places();
        let mut rows = merge(self.listed(), &self.registry);
        for of_pool in rows.chunk_by_mut(|one, next| one.key.pool == next.key.pool) {
            let place = place_of(&of_pool[0].key.pool);
            for row in of_pool {
                row.place = place;
            }
        }
        rows
    }

    /// Whether a pool can take traffic.
    fn places(&self) -> impl Fn(&Name) -> Place {
        let defined = self.pools();
        let led: BTreeSet<String> = self
            .listening()
            .into_iter()
            .flat_map(|one| one.pools)
            .collect();
        move |pool| match defined.contains(pool) {
            true if led.contains(pool.as_str()) => Place::Led,
            true => Place::NoListener,
            false => Place::Undefined,
        }
    }

    /// The pools that are defined, by the settings or as kept.
    pub fn pools(&self) -> BTreeSet<Name> {
        let mut pools = self.settings().pools();
        let kept = self.kept.iter().filter_map(|(key, _)| services::part(key));
        pools.extend(kept.filter_map(|(kind, name)| (kind == Kind::Pool).then_some(name)));
        pools
    }

    /// The listeners that are published, by the settings or as kept.
    pub fn listening(&self) -> Vec<Listening> {
        let mut listening = services::listening(&self.settings().usable_head().0);
        listening.extend(services::listening(&self.kept));
        listening
    }

    /// The backends that are listed.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            statics: &self.statics.backends,
            discovered: &self.discovered,
        }
    }

    /// What is wrong with what is stored and with the sources, in words.
    pub fn warnings(&self) -> Vec<String> {
        let faults = self.discovered.iter().flat_map(|source| &source.faults);
        self.warnings.iter().chain(faults).cloned().collect()
    }

    /// The configuration to be published, before anything is left out.
    pub fn plan(&self, rows: &[Row]) -> Plan {
        // Rows are in the order of pools.
        let pools = rows.chunk_by(|one, next| one.key.pool == next.key.pool);
        let pools = pools.map(|rows| {
            let pool = rows[0].key.pool.clone();
            (pool, rows.iter().map(Row::published).collect())
        });
        Plan {
            head: self.settings().usable_head().0,
            pools: pools.collect(),
        }
    }

    /// The listeners that the layers together do not make. What the proxy last accepted of them stays published.
    pub fn unusable_listeners(&self) -> Vec<Unusable> {
        self.settings().usable_head().1
    }

    /// Carries out a mutation in memory.
    ///
    /// # Errors
    /// Why it is refused; the model is then unchanged.
    pub fn apply(&mut self, mutation: &Mutation, actor: &str, now: Now) -> Result<Change, Refusal> {
        let old = self.describe(mutation);
        let effect = match mutation {
            Mutation::Register(said) => {
                self.refuse_own_address(said.key.addr)?;
                self.refuse_registration(said)?;
                let effect = self.registry.register(said, now, self.policy)?;
                // It has registered again, so its TTL counts.
                self.drop_carried(&said.key);
                effect
            }
            Mutation::Unregister(key, remover) => {
                if !self.registry.may_remove(key, *remover) {
                    return Err(Refusal::NotOwner(key.clone()));
                }
                self.unregister(key, now)?
            }
            Mutation::SetOverride(key, change) => {
                if !self.knows(key) {
                    return Err(Refusal::UnknownBackend(key.clone()));
                }
                self.registry.set_override(key, *change, actor, now)?;
                Effect::State
            }
            Mutation::ClearOverride(key) => {
                if !self.knows(key) && !self.registry.entries.contains_key(key) {
                    return Err(Refusal::UnknownBackend(key.clone()));
                }
                match self.registry.clear_override(key, now) {
                    true => Effect::State,
                    false => Effect::Unchanged,
                }
            }
            Mutation::SetStatic(said) => self.set_static(said)?,
            Mutation::RemoveStatic(key) => {
                let removed = Arc::make_mut(&mut self.statics).backends.remove(key);
                removed.ok_or_else(|| Refusal::NotStatic(key.clone()))?;
                Effect::State
            }
            Mutation::Change(set) => self.change(set, actor, now)?,
            Mutation::ChangeSettings(call) => {
                self.is_made_for(call.if_revision)?;
                let new = self.patched_settings(&call.patch)?;
                let old = std::mem::replace(&mut self.runtime_settings, new.clone());
                let (id, on_refusal) = (call.id, call.on_refusal);
                let pending = PendingCall {
                    id,
                    on_refusal,
                    old,
                    new,
                };
                calls::add(&mut self.pending, pending);
                Effect::State
            }
            Mutation::RollBackSettings(id) => self.roll_back(*id)?,
            Mutation::KeepSettings(id) => {
                calls::take(&mut self.pending, *id).ok_or(Refusal::Settled)?;
                Effect::Unchanged
            }
            Mutation::AcknowledgeExpiry => {
                if !self.registry.acknowledge_expiry(now, self.policy) {
                    return Err(Refusal::NoFreeze);
                }
                Effect::State
            }
        };
        let new = self.describe(mutation);
        let is_edit = effect == Effect::State && mutation.is_edit() && old != new;
        self.edits += u64::from(is_edit);
        Ok(Change { effect, old, new })
    }

    /// A copy on which mutations of these backends can be tried.
    pub fn part(&self, keys: &BTreeSet<&BackendKey>) -> Model {
        Model {
            registry: self.registry.part(keys),
            discovered: self.discovered.clone(),
            statics: self.statics.clone(),
            runtime_settings: self.runtime_settings.clone(),
            pending: self.pending.clone(),
            base_settings: self.base_settings.clone(),
            own: self.own.clone(),
            kept: self.kept.clone(),
            warnings: Vec::new(),
            ..*self
        }
    }

    /// Takes over the changes that these mutations made in `staged`, a [`Model::part`] of this. Heartbeats since
    /// the copy stay: operators and backends set different values.
    pub fn take_over<'a>(&mut self, staged: Model, done: impl Iterator<Item = &'a Mutation>) {
        let entries = &mut self.registry.entries;
        for mutation in done {
            for key in mutation.backends() {
                let new = staged.registry.entries.get(key).cloned();
                let mut new = new.unwrap_or_default();
                if mutation.is_edit() {
                    let heard = entries.remove(key).and_then(|entry| entry.registered);
                    new.registered = heard;
                }
                match new == RegistryEntry::default() {
                    true => _ = entries.remove(key),
                    false => _ = entries.insert(key.clone(), new),
                }
            }
        }
        self.edits = staged.edits;
        self.registry.updated_at = self.registry.updated_at.max(staged.registry.updated_at);
        self.registry.freeze = staged.registry.freeze;
        self.discovered = staged.discovered;
    }

    fn set_static(&mut self, said: &Said) -> Result<Effect, Refusal> {
        self.refuse_own_address(said.key.addr)?;
        let backends = &self.statics.backends;
        let before = backends.get(&said.key);
        if before.is_none() && backends.len() >= MAX_BACKENDS {
            return Err(Refusal::StaticFull);
        }
        let said = Said {
            // The API takes no figures: those in the file stay.
            report: before.map(|before| before.report).unwrap_or_default(),
            batch: before.and_then(|before| before.batch),
            ..said.clone()
        };
        if before == Some(&said) {
            return Ok(Effect::Unchanged);
        }
        let backends = &mut Arc::make_mut(&mut self.statics).backends;
        backends.insert(said.key.clone(), said);
        Ok(Effect::State)
    }

    /// Removes a registration, or a backend that is only in the last published file because no source that
    /// could drop it has been read.
    fn unregister(&mut self, key: &BackendKey, now: Now) -> Result<Effect, Refusal> {
        let was_registered = self.registry.unregister(key, now);
        let was_carried = self.drop_carried(key);
        if was_registered || was_carried {
            Ok(Effect::State)
        } else {
            Err(Refusal::NotRegistered(key.clone()))
        }
    }

    /// Refuses what was made for other edits than those that stand; `None` is made for any.
    fn is_made_for(&self, if_revision: Option<u64>) -> Result<(), Refusal> {
        match if_revision {
            Some(expected) if expected != self.edits => Err(Refusal::Stale {
                expected,
                current: self.edits,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// All edits or none: everything that may be refused is checked before the first edit.
    fn change(&mut self, set: &ChangeSet, actor: &str, now: Now) -> Result<Effect, Refusal> {
        self.is_made_for(set.if_revision)?;
        let mut faults = Faults::default();
        for (index, (key, _)) in set.edits.iter().enumerate() {
            if !self.knows(key) {
                let place = format!("/changes/{index}/id");
                faults.add(&place, key, "a registered, listed or discovered backend");
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let mut registry = self.registry.clone();
        let mut changed = false;
        for (key, patch) in &set.edits {
            changed |= registry.patch_override(key, *patch, actor, now)?;
        }
        self.registry = registry;
        Ok(if changed {
            Effect::State
        } else {
            Effect::Unchanged
        })
    }

    fn drop_carried(&mut self, key: &BackendKey) -> bool {
        let mut was_carried = false;
        let discovered = self.discovered.iter_mut();
        let discovered = discovered.map(|source| &mut source.listing);
        for listing in discovered.chain([&mut self.statics]) {
            if listing.is_carried && listing.backends.contains_key(key) {
                Arc::make_mut(listing).backends.remove(key);
                was_carried = true;
            }
        }
        was_carried
    }

    /// Whether a registration or a file names this backend.
    pub fn knows(&self, key: &BackendKey) -> bool {
        let entry = self.registry.entries.get(key);
        let registered = entry.is_some_and(|entry| entry.registered.is_some());
        let listed = self.listed();
        registered || listed.lists(key)
    }

    /// Whether a registration or a file names a backend of this pool.
    pub fn has_backend_in(&self, pool: &Name) -> bool {
        let listed = self.listed().keys();
        let entries = self.registry.entries.iter();
        let registered = entries.filter(|(_, entry)| entry.registered.is_some());
        let mut keys = listed.chain(registered.map(|(key, _)| key));
        keys.any(|key| key.pool == *pool)
    }

    /// Why a backend of this pool is not published, if the pool is not defined.
    pub fn note_of_pool(&self, pool: &Name) -> Option<String> {
        (!self.pools().contains(pool)).then(|| {
            format!("no pool {pool} is defined: the backend is stored, and published once it is")
        })
    }

    fn refuse_own_address(&self, addr: BackendAddr) -> Result<(), Faults> {
        let listening = services::listening(&self.settings().head());
        let Some(why) = self.own.refuse(addr, &listening) else {
            return Ok(());
        };
        let found = format!("{addr}: {why}");
        let mut faults = Faults::default();
        let allowed = "an address that neither the proxy nor the control server listens on";
        faults.add("/ip", found, allowed);
        Err(faults)
    }

    fn refuse_registration(&self, said: &Registration) -> Result<(), Refusal> {
        if !self.registry.is_open_to(&said.key, said.owner) {
            let registered = self.registry.registered(&said.key);
            let has_owner = registered.is_some_and(|registered| registered.owner.is_some());
            return Err(match has_owner {
                true => Refusal::NotOwner(said.key.clone()),
                false => Refusal::HasNoOwner(said.key.clone()),
            });
        }
        let is_new = self.registry.registered(&said.key).is_none();
        match is_new && self.registry.count_registered() >= self.max_registrations {
            true => Err(Refusal::TooMany(self.max_registrations)),
            false => Ok(()),
        }
    }

    /// The values that a mutation concerns, at this moment: old before it, new after it.
    fn describe(&self, mutation: &Mutation) -> Value {
        let key = match mutation {
            Mutation::ChangeSettings(_) | Mutation::RollBackSettings(_) => {
                return self.runtime_settings.to_json();
            }
            Mutation::KeepSettings(_) | Mutation::AcknowledgeExpiry => return Value::Null,
            Mutation::Change(set) => return self.describe_change(set),
            Mutation::SetStatic(Said { key, .. }) | Mutation::RemoveStatic(key) => {
                let said = self.statics.backends.get(key);
                return said.map(static_json).unwrap_or_default();
            }
            Mutation::Register(said) => &said.key,
            Mutation::Unregister(key, _)
            | Mutation::SetOverride(key, _)
            | Mutation::ClearOverride(key) => key,
        };
        let Some(entry) = self.registry.entries.get(key) else {
            return Value::Null;
        };
        let registered = entry.registered.as_ref().map(|registered| {
            json!({
                "weight": registered.weight, "enabled": registered.enabled,
                "is_warming_up": registered.warming.is_on(), "expired": registered.is_expired(),
            })
        });
        json!({ "registered": registered, "override": entry.r#override.as_ref().map(Override::to_json) })
    }

    fn describe_change(&self, set: &ChangeSet) -> Value {
        let described = set.edits.iter().filter_map(|(key, _)| {
            let row = merge_one(key, self.listed(), &self.registry)?;
            Some((key.to_string(), changes::describe(&row)))
        });
        Value::Object(described.collect())
    }
}

/// A backend's values in the static list, for answers and the audit log.
pub fn static_json(said: &Said) -> Value {
    json!({ "weight": said.weight, "enabled": said.enabled, "is_warming_up": said.is_warming_up })
}

#[cfg(test)]
pub mod tests;
