//! The last edits by people, and rolling back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::change::{self, Parts};
use crate::{Published, Sync};

/// `GET edits`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edits {
    /// The newest first
    pub edits: Vec<Edit>,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Edit {
    /// Grows by one with each edit
    pub number: u64,
    /// Unix milliseconds
    pub at_ms: u64,
    /// The actor, as in the audit log
    pub actor: String,
    /// As in the audit log
    pub action: String,
    /// What was changed
    pub target: String,
    /// The reason that was given
    pub note: Option<String>,
    /// Of a roll back: the edit before which it restores the state
    pub before_edit: Option<u64>,
    /// The overrides that changed
    pub overrides: Vec<OverrideEdit>,
    /// The settings by API that changed
    pub settings: Option<SettingsDiff>,
}

/// An override before and after an edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct OverrideEdit {
    /// ip:port in the pool default, pool/ip:port in another
    pub id: String,
    /// Before the edit
    pub old: Parts,
    /// After the edit
    pub new: Parts,
}

/// Before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct OldAndNew<T> {
    /// Before the edit
    pub old: T,
    /// After the edit
    pub new: T,
}

/// The settings by API before and after.
pub type SettingsDiff = OldAndNew<Map<String, Value>>;

/// `POST edits/{number}/roll_back`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RollBackRequest {
    /// The reason, shown in the audit log and the list of edits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub note: Option<String>,
}

/// The answer to a roll back
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolledBack {
    /// Stored and published
    pub ok: bool,
    /// Whether nothing was changed, since only the differences were asked for
    pub dry_run: bool,
    /// Each backend whose override changes
    pub changes: Vec<change::Change>,
    /// Edits that restore the earlier values; post them as changes
    pub undo: Vec<change::Edit>,
    /// null: the settings do not change
    pub settings: Option<SettingsDiff>,
    /// The tag that the difference is based on
    pub etag: String,
    /// Backends that are no longer known; their overrides are left out
    pub gone: Vec<String>,
    /// The result of publishing and of the signal; absent in a dry run
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sync")]
    pub sync: Option<Sync>,
    /// Why it is not published yet
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}

impl RolledBack {
    /// The same, carried out and published.
    pub fn published(self, published: Published) -> RolledBack {
        RolledBack {
            ok: published.ok,
            sync: Some(published.sync),
            error: published.error,
            ..self
        }
    }
}
