//! The state of control, and the closed list of its mutations.
//!
//! Pure: every change is a [`Mutation`] and goes through [`Model::apply`]; storing it is the
//! keeper's work, publishing it the publisher's.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::config::MAX_BACKENDS;
use contract::{BackendAddr, BackendKey, DEFAULT_NAME, Faults, Name, check_strictly};
use serde_json::{Value, json};

use crate::blame::{as_called, file_as_call, in_file};
use crate::calls::{self, PendingCall, SettingsCall};
use crate::changes::{self, ChangeSet, RollBack};
use crate::clock::Now;
use crate::layer::{Layer, Unusable, services_patch};
use crate::merge::{Row, merge, merge_one};
use crate::registry::{
    Effect, ExpiryPolicy, Full, Override, OverrideChange, Registration, Registry, RegistryEntry,
    Remover,
};
use crate::render::{Head, OwnAddresses, Plan};
use crate::services::{self, Kind, Listening};
use crate::settings::Settings;
use crate::sources::entry::Said;
use crate::sources::listing::{Listed, Listing};

/// Everything that a client may change.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    Register(Registration),
    Unregister(BackendKey, Remover),
    SetOverride(BackendKey, OverrideChange),
    ClearOverride(BackendKey),
    /// Adds a backend to the static list, or changes its entry.
    SetStatic(Said),
    RemoveStatic(BackendKey),
    /// Edits of overrides, all or none.
    Change(ChangeSet),
    ChangeSettings(SettingsCall),
    /// The proxy refuses the changes of this call.
    RollBackSettings(u64),
    /// The outcome of this call is known, or was reported as unknown.
    KeepSettings(u64),
    AcknowledgeExpiry,
}

/// Why a mutation was refused; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Faults(#[from] Faults),
    #[error("no backend {0} is registered, listed or discovered")]
    UnknownBackend(BackendKey),
    #[error("backend {0} has no registration")]
    NotRegistered(BackendKey),
    #[error("backend {0} is not in the static list")]
    NotStatic(BackendKey),
    #[error("the static list is full: at most {MAX_BACKENDS} backends")]
    StaticFull,
    #[error(
        "the static list cannot be read, so nothing was changed in it: {0}; repair the file first"
    )]
    StaticUnread(String),
    #[error("the change was made for revision {expected}; the current revision is {current}")]
    Stale { expected: u64, current: u64 },
    #[error("no mass expiry is being held back")]
    NoFreeze,
    #[error("{0} has another owner: \"owner\" must be the one that it was registered with")]
    NotOwner(BackendKey),
    #[error(
        "{0} was registered without \"owner\": leave it out, or remove the registration first and \
         register again with it"
    )]
    HasNoOwner(BackendKey),
    #[error(
        "all {0} registrations are in use (\"max_backends\" of \"registration\" in control_config.json)"
    )]
    TooMany(usize),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("the outcome of this call is already known")]
    Settled,
}

/// What a mutation changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub effect: Effect,
    /// For the audit log.
    pub old: Value,
    pub new: Value,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub registry: Registry,
    pub discovery: Arc<Listing>,
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
    /// What is wrong with the sources, in words.
    pub warnings: Vec<String>,
}

impl Mutation {
    /// Its action in the audit log.
    pub fn action(&self) -> &'static str {
        match self {
            Mutation::Register(_) => "register",
            Mutation::Unregister(..) => "unregister",
            Mutation::SetOverride(_, OverrideChange::Weight(_)) => "weight",
            Mutation::SetOverride(_, OverrideChange::Enabled(_)) => "enabled",
            Mutation::SetOverride(_, OverrideChange::Drain(_)) => "drain",
            Mutation::ClearOverride(_) => "clear_override",
            Mutation::SetStatic(_) => "set_static",
            Mutation::RemoveStatic(_) => "remove_static",
            Mutation::Change(_) => "changes",
            Mutation::ChangeSettings(_) => "settings",
            Mutation::RollBackSettings(_) => "roll_back_settings",
            Mutation::KeepSettings(_) => "keep_settings",
            Mutation::AcknowledgeExpiry => "acknowledge_expiry",
        }
    }

    /// Its target in the audit log.
    pub fn target(&self) -> String {
        match self {
            Mutation::Register(said) => said.key.to_string(),
            Mutation::SetStatic(said) => said.key.to_string(),
            Mutation::Unregister(key, _)
            | Mutation::SetOverride(key, _)
            | Mutation::ClearOverride(key)
            | Mutation::RemoveStatic(key) => key.to_string(),
            Mutation::Change(set) => set.target(),
            Mutation::ChangeSettings(_)
            | Mutation::RollBackSettings(_)
            | Mutation::KeepSettings(_)
            | Mutation::AcknowledgeExpiry => "proxy".to_owned(),
        }
    }

    /// The operator's note.
    pub fn note(&self) -> Option<&str> {
        self.note_and_roll_back().0
    }

    /// The roll back that it is a part of.
    pub fn roll_back(&self) -> Option<RollBack> {
        self.note_and_roll_back().1
    }

    fn note_and_roll_back(&self) -> (Option<&str>, Option<RollBack>) {
        match self {
            Mutation::Change(set) => (set.note.as_deref(), set.roll_back),
            Mutation::ChangeSettings(call) => (call.note.as_deref(), call.roll_back),
            Mutation::Register(_)
            | Mutation::Unregister(..)
            | Mutation::SetOverride(..)
            | Mutation::ClearOverride(_)
            | Mutation::SetStatic(_)
            | Mutation::RemoveStatic(_)
            | Mutation::RollBackSettings(_)
            | Mutation::KeepSettings(_)
            | Mutation::AcknowledgeExpiry => (None, None),
        }
    }

    /// Whether it is an edit by a person, not a change by a backend.
    pub fn is_edit(&self) -> bool {
        match self {
            Mutation::SetOverride(..)
            | Mutation::ClearOverride(_)
            | Mutation::SetStatic(_)
            | Mutation::RemoveStatic(_)
            | Mutation::Change(_)
            | Mutation::ChangeSettings(_)
            | Mutation::RollBackSettings(_) => true,
            Mutation::Register(_)
            | Mutation::Unregister(..)
            | Mutation::KeepSettings(_)
            | Mutation::AcknowledgeExpiry => false,
        }
    }

    /// Whether it changes settings, not backends.
    pub fn is_of_settings(&self) -> bool {
        matches!(
            self,
            Mutation::ChangeSettings(_) | Mutation::RollBackSettings(_) | Mutation::KeepSettings(_)
        )
    }

    /// Whether it changes the static list, which has a file of its own.
    pub fn is_of_statics(&self) -> bool {
        matches!(self, Mutation::SetStatic(_) | Mutation::RemoveStatic(_))
    }

    /// The backends whose entries in the registry it may touch.
    pub fn backends(&self) -> Vec<&BackendKey> {
        match self {
            Mutation::Register(said) => vec![&said.key],
            Mutation::Unregister(key, _)
            | Mutation::SetOverride(key, _)
            | Mutation::ClearOverride(key) => vec![key],
            Mutation::Change(set) => set.edits.iter().map(|(key, _)| key).collect(),
            Mutation::SetStatic(_)
            | Mutation::RemoveStatic(_)
            | Mutation::ChangeSettings(_)
            | Mutation::RollBackSettings(_)
            | Mutation::KeepSettings(_)
            | Mutation::AcknowledgeExpiry => Vec::new(),
        }
    }
}

impl Model {
    /// The settings of all layers.
    pub fn settings(&self) -> Layer {
        self.runtime_settings.over(&self.base_settings)
    }

    /// The rows of these backends; those that no source knows have none.
    pub fn rows_of(&self, keys: &[BackendKey]) -> Vec<Row> {
        let defined = self.pools();
        let rows = keys.iter().filter_map(|key| {
            let row = merge_one(key, self.listed(), &self.registry)?;
            let has_pool = defined.contains(&key.pool);
            Some(Row { has_pool, ..row })
        });
        rows.collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        let defined = self.pools();
        let mut rows = merge(self.listed(), &self.registry);
        for of_pool in rows.chunk_by_mut(|one, next| one.key.pool == next.key.pool) {
            let has_pool = defined.contains(&of_pool[0].key.pool);
            for row in of_pool {
                row.has_pool = has_pool;
            }
        }
        rows
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

    /// The backends that the files list.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            statics: &self.statics.backends,
            discovered: &self.discovery.backends,
        }
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
            discovery: self.discovery.clone(),
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
        self.discovery = staged.discovery;
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

    /// The settings by API with `patch` applied, if the proxy accepts all layers together: a value that is
    /// valid alone may conflict with the others.
    fn patched_settings(&self, patch: &serde_json::Map<String, Value>) -> Result<Layer, Faults> {
        let patched = self.runtime_settings.patched(patch)?;
        self.refuse_clearing_of_file(patch)?;
        let plan = self.check_settings(&patched, patch)?;
        let asked = patched.over(&self.base_settings).asked(patch);
        let mut faults = self.conflicts_with_control(&plan, |key| asked.contains_key(key));
        faults.0.extend(self.own_probes(&plan, &asked).0);
        match faults.is_empty() {
            true => Ok(patched),
            false => Err(as_called(faults, &plan, patch)),
        }
    }

    /// The listeners of `plan` at an address of control, of those that `is_of_call` names.
    fn conflicts_with_control(&self, plan: &Plan, is_of_call: impl Fn(&str) -> bool) -> Faults {
        let mut faults = Faults::default();
        for listening in plan.listening() {
            let control = self.own.control_at(&listening);
            if let Some(control) = control.filter(|_| is_of_call(&listening.key)) {
                let addr = listening.addr;
                let found = format!("{addr}, where the control server listens ({control})");
                let allowed = "an address and port that the control server does not listen on";
                faults.add(&format!("/{}", listening.key), found, allowed);
            }
        }
        faults
    }

    /// Each `health.port` of the call at which a probe would reach the proxy itself.
    fn own_probes(&self, plan: &Plan, asked: &serde_json::Map<String, Value>) -> Faults {
        let has_port = |value: &Value| value["port"].is_u64();
        let is_probe = |(key, value): (&String, &Value)| match services::part(key) {
            Some((Kind::Pool, _)) => has_port(&value["health"]),
            Some((Kind::Listener, _)) => false,
            None => key == "health" && has_port(value),
        };
        let mut faults = Faults::default();
        if !asked.iter().any(is_probe) {
            return faults;
        }
        let mut with_backends = self.plan(&self.rows());
        with_backends.head = plan.head.clone();
        let Ok((with_backends, _)) = with_backends.fit(&self.own) else {
            return faults;
        };
        let bytes = with_backends.render(0, 0);
        let Err(found) = check_strictly(&bytes, &self.own.of_proxy()) else {
            return faults;
        };
        let of_probes = found.0.into_iter().filter(|one| {
            let is_asked = plan
                .key_at(&one.place)
                .is_some_and(|key| asked.contains_key(&key));
            is_asked && one.place.ends_with("/health/port")
        });
        faults.0.extend(of_probes);
        faults
    }

    /// A call takes off what calls have set. A listener or pool of `control_config.json` alone would stay, so a
    /// call that clears it as a whole is refused rather than answered as if it were gone.
    fn refuse_clearing_of_file(
        &self,
        patch: &serde_json::Map<String, Value>,
    ) -> Result<(), Faults> {
        let patch = services_patch(patch);
        let mut faults = Faults::default();
        let (by_api, by_file) = (
            self.runtime_settings.services(),
            self.base_settings.services(),
        );
        for kind in Kind::ALL {
            for name in patch.cleared(kind) {
                if by_api.get(kind, name).is_none() && by_file.get(kind, name).is_some() {
                    let place = format!("/proxy/{}", kind.key(name.as_str()));
                    let allowed = "null for what was set by API; take this one out of the file, \
                                   and have control read it again";
                    faults.add(&place, "null, and control_config.json defines it", allowed);
                }
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults),
        }
    }

    /// All layers together with these settings by API. Faults are placed as `body` has them.
    fn check_settings(
        &self,
        by_api: &Layer,
        body: &serde_json::Map<String, Value>,
    ) -> Result<Plan, Faults> {
        let plan = Plan::of_head(by_api.over(&self.base_settings).head());
        match plan.check(&self.own.of_proxy()) {
            Ok(()) => Ok(plan),
            Err(faults) => Err(as_called(faults, &plan, body)),
        }
    }

    /// Undoes the changes of a call, as far as they still apply.
    fn roll_back(&mut self, id: u64) -> Result<Effect, Refusal> {
        let call = calls::take(&mut self.pending, id).ok_or(Refusal::Settled)?;
        let back = self.runtime_settings.taken_back(&call.old, &call.new);
        self.check_settings(&back, &serde_json::Map::new())?;
        // A later call that is rolled back too must not bring the refused values again.
        for later in &mut self.pending {
            later.old = later.old.taken_back(&call.old, &call.new);
        }
        let is_same = back == self.runtime_settings;
        self.runtime_settings = back;
        Ok(if is_same {
            Effect::Unchanged
        } else {
            Effect::State
        })
    }

    /// Calls whose values the proxy was seen to run have their outcome, even if it could not be stored.
    pub fn drop_accepted(&mut self, accepted: &[(String, Value)]) {
        let base = &self.base_settings;
        self.pending.retain(|call| {
            let new = call.new.over(base).head();
            let mut changed = call.old.differing(&call.new).into_iter();
            let value = |head: &[(String, Value)], key: &str| {
                let found = head.iter().find(|(own, _)| own == key);
                found.map(|(_, value)| value.clone())
            };
            accepted.is_empty() || changed.any(|key| value(&new, &key) != value(accepted, &key))
        });
    }

    /// The number of the next call: above those that wait.
    pub fn next_call(&self) -> u64 {
        let ids = self.pending.iter().map(|call| call.id);
        ids.max().map_or(0, |id| id.saturating_add(1))
    }

    /// Takes over the present `control_config.json`.
    ///
    /// # Errors
    /// Why the proxy would refuse it together with the settings by API; nothing has changed then.
    pub fn configure(&mut self, settings: &Settings) -> Result<(), Faults> {
        if self.base_settings != settings.proxy {
            let plan = Plan::of_head(self.runtime_settings.over(&settings.proxy).head());
            let changed = self.base_settings.differing(&settings.proxy);
            let body = file_as_call(&changed, &settings.proxy);
            let placed = |faults| in_file(as_called(faults, &plan, &body));
            plan.check(&self.own.of_proxy()).map_err(placed)?;
            let default = Kind::Listener.key(DEFAULT_NAME);
            let faults = self.conflicts_with_control(&plan, |key| {
                changed.contains(key) || key == default && changed.contains("listen")
            });
            if !faults.is_empty() {
                return Err(placed(faults));
            }
            self.base_settings = settings.proxy.clone();
            self.revision += 1;
        }
        self.policy = settings.expiry;
        self.max_registrations = settings.admission.max_backends;
        Ok(())
    }

    fn drop_carried(&mut self, key: &BackendKey) -> bool {
        let mut was_carried = false;
        for listing in [&mut self.discovery, &mut self.statics] {
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
        registered || listed.is_static(key) || listed.is_discovered(key)
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
