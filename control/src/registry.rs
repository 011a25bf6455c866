//! Registrations, which backends make and which expire, and overrides, which operators make and clear.
//!
//! Pure: time comes as an argument, nothing is read or written here.

mod expiry;
mod overrides;
mod registration;

use std::collections::{BTreeMap, BTreeSet};

use contract::BackendKey;
use contract::config::MAX_BACKENDS;

use crate::auth::SecretHash;
use crate::clock::Now;

pub use expiry::{Freeze, Passed};
pub use overrides::{Override, OverrideChange, OverridePatch, Part};
pub use registration::{ExpiryPolicy, Registered, Registration, Requests, Warming};

#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegistryEntry {
    pub registered: Option<Registered>,
    pub r#override: Option<Override>,
}

/// The effect of a call, by urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Unchanged,
    /// Only gpu and vram figures.
    Telemetry,
    /// Membership, weight or state: to be published at once.
    State,
}

/// The registry would hold more backends than a configuration may.
#[derive(Debug, thiserror::Error)]
#[error("the registry is full: at most {MAX_BACKENDS} backends")]
pub struct Full;

/// The client that wants to remove a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remover {
    /// A backend, with the owner's secret that it sends.
    Backend(Option<SecretHash>),
    /// A client whose token allows editing backends.
    Operator,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    entries: usize,
    registered: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    pub entries: BTreeMap<BackendKey, RegistryEntry>,
    /// What a part of a registry leaves out.
    beyond: Counts,
    /// Unix seconds of the last change.
    pub updated_at: u64,
    pub freeze: Freeze,
}

impl Registry {
    /// The entries of these backends, and how many others there are: enough to change the entries of these
    /// backends without copying thousands of others.
    pub fn part(&self, keys: &BTreeSet<&BackendKey>) -> Registry {
        let entries = keys.iter().filter_map(|&key| {
            let entry = self.entries.get(key)?;
            Some((key.clone(), entry.clone()))
        });
        let mut part = Registry {
            entries: entries.collect(),
            beyond: Counts::default(),
            updated_at: self.updated_at,
            freeze: self.freeze,
        };
        part.beyond = Counts {
            entries: self.len() - part.len(),
            registered: self.count_registered() - part.count_registered(),
        };
        part
    }

    /// Whether no entry is left out.
    pub fn is_whole(&self) -> bool {
        self.beyond.entries == 0
    }

    fn len(&self) -> usize {
        self.entries.len() + self.beyond.entries
    }

    /// How many registrations there are, expired ones included.
    pub fn count_registered(&self) -> usize {
        let entries = self.entries.values();
        let registered = entries.filter(|entry| entry.registered.is_some());
        registered.count() + self.beyond.registered
    }

    /// Takes a heartbeat that changes only load figures; `None` if it changes more and must go through
    /// [`Registry::register`].
    pub fn heartbeat(
        &mut self,
        said: &Registration,
        now: Now,
        policy: ExpiryPolicy,
    ) -> Option<Effect> {
        let entry = self.entries.get_mut(&said.key)?;
        let old = entry.registered.as_ref()?;
        let new = Registered::of(said, Some(old), now, policy);
        if new.state() != old.state() {
            return None;
        }
        let effect = if new.report == old.report {
            Effect::Unchanged
        } else {
            Effect::Telemetry
        };
        entry.registered = Some(new);
        self.updated_at = now.unix_s();
        Some(effect)
    }

    /// Takes a registration, new or not.
    pub fn register(
        &mut self,
        said: &Registration,
        now: Now,
        policy: ExpiryPolicy,
    ) -> Result<Effect, Full> {
        if let Some(effect) = self.heartbeat(said, now, policy) {
            return Ok(effect);
        }
        if self.len() >= MAX_BACKENDS && !self.entries.contains_key(&said.key) {
            return Err(Full);
        }
        let entry = self.entries.entry(said.key.clone()).or_default();
        entry.registered = Some(Registered::of(said, entry.registered.as_ref(), now, policy));
        self.updated_at = now.unix_s();
        Ok(Effect::State)
    }

    /// Whether `owner` may refresh the registration of `key`, or make one.
    pub fn is_open_to(&self, key: &BackendKey, owner: Option<SecretHash>) -> bool {
        let registered = self.registered(key);
        registered.is_none_or(|registered| registered.is_open_to(owner))
    }

    /// Whether `remover` may remove the registration of `key`.
    pub fn may_remove(&self, key: &BackendKey, remover: Remover) -> bool {
        let owner = self.registered(key).and_then(|registered| registered.owner);
        match (owner, remover) {
            (None, _) | (Some(_), Remover::Operator) => true,
            (Some(own), Remover::Backend(shown)) => shown.is_some_and(|shown| own.is(shown)),
        }
    }

    pub fn registered(&self, key: &BackendKey) -> Option<&Registered> {
        self.entries.get(key)?.registered.as_ref()
    }

    /// Removes a registration; an override of the same backend stays. False if there is none.
    pub fn unregister(&mut self, key: &BackendKey, now: Now) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let existed = entry.registered.take().is_some();
        if entry.r#override.is_none() {
            self.entries.remove(key);
        }
        if existed {
            self.updated_at = now.unix_s();
        }
        existed
    }

    pub fn set_override(
        &mut self,
        key: &BackendKey,
        change: OverrideChange,
        actor: &str,
        now: Now,
    ) -> Result<(), Full> {
        if self.len() >= MAX_BACKENDS && !self.entries.contains_key(key) {
            return Err(Full);
        }
        let entry = self.entries.entry(key.clone()).or_default();
        let word = entry.r#override.get_or_insert_default();
        match change {
            OverrideChange::Weight(weight) => word.weight = Some(weight),
            OverrideChange::Enabled(enabled) => word.enabled = Some(enabled),
            OverrideChange::Drain(drain) => word.drain = Some(drain),
        }
        word.at = now.unix_s();
        word.actor = actor.to_owned();
        self.updated_at = now.unix_s();
        Ok(())
    }

    /// Edits an override; false if nothing changes.
    pub fn patch_override(
        &mut self,
        key: &BackendKey,
        patch: OverridePatch,
        actor: &str,
        now: Now,
    ) -> Result<bool, Full> {
        let entry = self.entries.get(key);
        let old = entry.and_then(|entry| entry.r#override.as_ref());
        let Some(word) = patch.of(old) else {
            return Ok(self.clear_override(key, now));
        };
        if Some(&word) == old {
            return Ok(false);
        }
        if entry.is_none() && self.len() >= MAX_BACKENDS {
            return Err(Full);
        }
        let actor = actor.to_owned();
        let at = now.unix_s();
        let word = Override { at, actor, ..word };
        self.entries.entry(key.clone()).or_default().r#override = Some(word);
        self.updated_at = at;
        Ok(true)
    }

    /// Clears an override; false if there is none.
    pub fn clear_override(&mut self, key: &BackendKey, now: Now) -> bool {
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        let existed = entry.r#override.take().is_some();
        if entry.registered.is_none() {
            self.entries.remove(key);
        }
        if existed {
            self.updated_at = now.unix_s();
        }
        existed
    }
}

#[cfg(test)]
mod tests;
