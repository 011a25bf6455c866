//! Registrations, which backends make, and overrides, which operators make.
//!
//! Pure: time comes as an argument, nothing is read or written here. A registration lives for a TTL
//! that the server sets, counted on the clock of listening ([`crate::listening`]) from what control has
//! heard. When it expires it is disabled, and it is removed ten TTLs later. An override has no TTL and is
//! removed only when it is cleared.
//!
//! A mass expiry is more often a fault of control's own network than the death of all servers: with five or
//! more registrations, if more than half would expire within one TTL, nothing expires for ten TTLs, until
//! most are heard again, or until an operator acknowledges it.

use std::collections::{BTreeMap, BTreeSet};

use contract::config::MAX_BACKENDS;
use contract::{BackendKey, Batch, Report};

use crate::auth::SecretHash;
use crate::changes::OverridePatch;
use crate::clock::Now;
use crate::settings::ExpiryPolicy;
use crate::sources::entry::Said;

/// After how many TTLs an expired registration is removed.
const REMOVAL_TTLS: u64 = 10;
/// For how many TTLs a mass expiry is held at most.
const FREEZE_TTLS: u64 = 10;
/// From how many registrations on a mass expiry is frozen.
const FREEZE_POPULATION: usize = 5;

/// Everything that a backend sends about itself, in each registration and heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    pub key: BackendKey,
    /// Absent: as before, or as the files list it.
    pub weight: Option<u16>,
    /// Absent: as the files list it.
    pub enabled: Option<bool>,
    /// Absent: according to `warmup_sec`, or as the files list it.
    pub is_warming_up: Option<bool>,
    pub report: Report,
    /// Age of the figures, if they were not read for this call.
    pub report_age_ms: u64,
    pub requests: Requests,
    pub batch: Option<Batch>,
    pub owner: Option<SecretHash>,
}

#[cfg(test)]
impl Registration {
    /// A registration that sets nothing.
    pub fn of(key: BackendKey) -> Registration {
        Registration {
            key,
            weight: None,
            enabled: None,
            is_warming_up: None,
            report: Report::default(),
            report_age_ms: 0,
            requests: Requests::default(),
            batch: None,
            owner: None,
        }
    }
}

/// The requests that a backend reports; only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    pub queue: Option<u64>,
    pub running: Option<u64>,
}

/// A stored registration. Values that it does not mention are left to the files that list the backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub warming: Warming,
    pub report: Report,
    pub requests: Requests,
    pub batch: Option<Batch>,
    /// The secret that is needed to refresh or remove it.
    pub owner: Option<SecretHash>,
    /// Time of the last heartbeat, on the clock of listening.
    pub heard_at_ms: u64,
    /// When its TTL was restarted since then, after a stall of control, on the same clock.
    pub fresh_at_ms: Option<u64>,
    /// The same on the wall clock, in Unix seconds; only shown.
    pub last_seen: u64,
    /// When its TTL ended, on the clock of listening.
    pub expired_at_ms: Option<u64>,
}

/// Whether a registration is warming up, and what decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warming {
    /// Without an owner's secret.
    Unsaid,
    /// As the backend reports.
    Said(bool),
    /// The server's warm-up of a new registration, until this monotonic millisecond.
    Until(u64),
}

impl Warming {
    /// Whether it is; `None` where the registration does not say.
    pub fn is_on(self) -> Option<bool> {
        match self {
            Warming::Unsaid => None,
            Warming::Said(on) => Some(on),
            Warming::Until(_) => Some(true),
        }
    }
}

/// An operator's override of a backend; `None` leaves a value to weaker sources.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Override {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub drain: Option<bool>,
    /// Unix seconds of the last change.
    pub at: u64,
    pub actor: String,
}

/// One change to an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideChange {
    Weight(u16),
    Enabled(bool),
    Drain(bool),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegistryEntry {
    pub registered: Option<Registered>,
    pub r#override: Option<Override>,
}

/// Whether a mass expiry is being held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    #[default]
    Off,
    /// Nothing expires; since when, on the clock of listening.
    Held { since_ms: u64 },
    /// Acknowledged, or held for long enough: what is due expires. At least until then.
    Waived { until_ms: u64 },
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

/// The effect of passing time on a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    Expired(BackendKey),
    Removed(BackendKey),
    Warm(BackendKey),
    /// The mass-expiry freeze began; how many registrations are silent.
    FreezeBegan {
        silent: usize,
    },
    FreezeEnded,
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
        let new = registered(said, Some(old), now, policy);
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
        entry.registered = Some(registered(said, entry.registered.as_ref(), now, policy));
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

    /// Ends a freeze: due registrations expire at the next [`Registry::pass`]. False if there is none.
    pub fn acknowledge_expiry(&mut self, now: Now, policy: ExpiryPolicy) -> bool {
        let held = matches!(self.freeze, Freeze::Held { .. });
        if held {
            let until_ms = now.listened_ms + policy.ttl_ms;
            self.freeze = Freeze::Waived { until_ms };
        }
        held
    }

    /// Control did not listen for a while: each registration gets a fresh TTL, as after a restart. Only once
    /// until its next heartbeat, so that silent ones expire even if control stalls repeatedly.
    pub fn refresh(&mut self, now: Now) {
        let registered = self
            .entries
            .values_mut()
            .filter_map(|entry| entry.registered.as_mut());
        for registered in registered.filter(|registered| !registered.is_expired()) {
            registered.fresh_at_ms.get_or_insert(now.listened_ms);
        }
    }

    /// Lets time pass: expires, removes and warms what is due. Registrations in a freeze are kept.
    pub fn pass(&mut self, now: Now, policy: ExpiryPolicy) -> Vec<Passed> {
        let mut passed = Vec::new();
        self.pass_freeze(now, policy, &mut passed);
        let is_held = matches!(self.freeze, Freeze::Held { .. });
        for (key, entry) in &mut self.entries {
            let Some(registered) = &mut entry.registered else {
                continue;
            };
            match registered.expired_at_ms {
                Some(at) if now.listened_ms >= at + REMOVAL_TTLS * policy.ttl_ms => {
                    entry.registered = None;
                    passed.push(Passed::Removed(key.clone()));
                }
                None if !is_held && registered.silence_ms(now) >= policy.ttl_ms => {
                    registered.expired_at_ms = Some(now.listened_ms);
                    passed.push(Passed::Expired(key.clone()));
                }
                Some(_) | None => {
                    if matches!(registered.warming, Warming::Until(end) if end <= now.monotonic_ms)
                    {
                        registered.warming = Warming::Unsaid;
                        passed.push(Passed::Warm(key.clone()));
                    }
                }
            }
        }
        self.entries
            .retain(|_, entry| entry.registered.is_some() || entry.r#override.is_some());
        if !passed.is_empty() {
            self.updated_at = now.unix_s();
        }
        passed
    }

    fn pass_freeze(&mut self, now: Now, policy: ExpiryPolicy, passed: &mut Vec<Passed>) {
        let mut population = 0;
        let mut silent = 0;
        let mut any_due = false;
        let registrations = self
            .entries
            .values()
            .filter_map(|entry| entry.registered.as_ref());
        for registered in registrations {
            match registered.expired_at_ms {
                // What expired less than a TTL ago is part of the same event.
                Some(at) if now.listened_ms < at + policy.ttl_ms => {
                    population += 1;
                    silent += 1;
                }
                Some(_) => {}
                None => {
                    population += 1;
                    let silence_ms = registered.silence_ms(now);
                    // Every registration would expire within one TTL if it fell silent now; one
                    // that has been silent for half of it probably will.
                    silent += usize::from(silence_ms >= policy.ttl_ms / 2);
                    any_due |= silence_ms >= policy.ttl_ms;
                }
            }
        }
        let is_mass = policy.freeze && population >= FREEZE_POPULATION && 2 * silent > population;
        let next = match self.freeze {
            Freeze::Off if is_mass && any_due => Freeze::Held {
                since_ms: now.listened_ms,
            },
            Freeze::Held { .. } if !is_mass => Freeze::Off,
            Freeze::Held { since_ms }
                if now.listened_ms >= since_ms + FREEZE_TTLS * policy.ttl_ms =>
            {
                Freeze::Waived {
                    until_ms: now.listened_ms + policy.ttl_ms,
                }
            }
            Freeze::Waived { until_ms } if now.listened_ms >= until_ms && !is_mass => Freeze::Off,
            Freeze::Off | Freeze::Held { .. } | Freeze::Waived { .. } => self.freeze,
        };
        let is_held = |freeze| matches!(freeze, Freeze::Held { .. });
        match (is_held(self.freeze), is_held(next)) {
            (false, true) => passed.push(Passed::FreezeBegan { silent }),
            (true, false) => passed.push(Passed::FreezeEnded),
            (true, true) | (false, false) => {}
        }
        self.freeze = next;
    }
}

impl Registered {
    /// Its values for the backend, without its age.
    pub fn said(&self, key: &BackendKey) -> Said {
        Said {
            key: key.clone(),
            weight: self.weight,
            enabled: self.enabled,
            is_warming_up: self.warming.is_on(),
            report: self.report,
            batch: self.batch,
        }
    }

    fn silence_ms(&self, now: Now) -> u64 {
        let from_ms = self.fresh_at_ms.unwrap_or(self.heard_at_ms);
        now.listened_ms.saturating_sub(from_ms)
    }

    pub fn is_expired(&self) -> bool {
        self.expired_at_ms.is_some()
    }

    /// Until its TTL ends; 0 once expired.
    pub fn ttl_remaining_ms(&self, now: Now, policy: ExpiryPolicy) -> u64 {
        if self.is_expired() {
            return 0;
        }
        policy.ttl_ms.saturating_sub(self.silence_ms(now))
    }

    /// Whether a client with `owner` may refresh it. A registration without an owner cannot be claimed while
    /// it lives: a client of the base format must still be able to refresh it.
    fn is_open_to(&self, owner: Option<SecretHash>) -> bool {
        match (self.owner, owner) {
            (Some(own), Some(shown)) => own.is(shown),
            (Some(_), None) => false,
            (None, Some(_)) => self.is_expired(),
            (None, None) => true,
        }
    }

    /// The values that are published at once when they change, and the owner.
    fn state(&self) -> impl PartialEq + use<> {
        (
            self.weight,
            self.enabled,
            self.warming,
            self.batch,
            self.report.heartbeat_ms,
            self.owner,
            self.is_expired(),
        )
    }
}

fn registered(
    said: &Registration,
    old: Option<&Registered>,
    now: Now,
    policy: ExpiryPolicy,
) -> Registered {
    // A backend that comes back after its TTL has probably been restarted, and is cold again.
    let known = old.filter(|old| !old.is_expired());
    let warming = match (said.is_warming_up, known.map(|old| old.warming)) {
        (Some(said), _) => Warming::Said(said),
        (None, Some(Warming::Until(end))) => Warming::Until(end),
        (None, None) if policy.warmup_ms > 0 => Warming::Until(now.monotonic_ms + policy.warmup_ms),
        (None, Some(Warming::Unsaid | Warming::Said(_)) | None) => Warming::Unsaid,
    };
    Registered {
        weight: said.weight.or(old.and_then(|old| old.weight)),
        enabled: said.enabled,
        warming,
        report: Report {
            reported_at_ms: reported_at_ms(said, known, now),
            ..said.report
        },
        requests: said.requests,
        batch: said.batch,
        owner: said.owner,
        heard_at_ms: now.listened_ms,
        fresh_at_ms: None,
        last_seen: now.unix_s(),
        expired_at_ms: None,
    }
}

/// When the figures were read. Figures with an age that equal those of the previous call are the same reading
/// sent again: it keeps its time, or it would look new each time.
fn reported_at_ms(said: &Registration, known: Option<&Registered>, now: Now) -> Option<u64> {
    let figures = |report: Report| (report.gpu_usage, report.vram_usage);
    if figures(said.report) == (None, None) {
        return None;
    }
    let same = known.filter(|known| figures(known.report) == figures(said.report));
    let before = same.and_then(|known| known.report.reported_at_ms);
    let then = now.unix_ms.saturating_sub(said.report_age_ms);
    Some(before.filter(|_| said.report_age_ms > 0).unwrap_or(then))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
