//! The closed list of mutations, and how each ends.

use contract::config::MAX_BACKENDS;
use contract::{BackendKey, Faults};
use serde_json::Value;

use crate::calls::SettingsCall;
use crate::changes::{ChangeSet, RollBack};
use crate::registry::{Effect, Full, OverrideChange, Registration, Remover};
use crate::sources::entry::Said;

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
