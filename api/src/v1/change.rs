//! Edits of overrides: one patch for each backend, one answer for all of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Part, Published, Sync};

/// A merge patch of an override.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct OverridePatch {
    /// 0 takes no new sessions
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight: Part<u16>,
    /// false: no new sessions and no probes
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub enabled: Part<bool>,
    /// true: no new sessions; open ones finish
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub drain: Part<bool>,
}

/// `PATCH backends/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PatchRequest {
    /// The values.
    #[serde(flatten)]
    pub patch: OverridePatch,
    /// The reason, shown in the audit log and the list of edits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub note: Option<String>,
}

/// The edit of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Edit {
    /// The values.
    #[serde(flatten)]
    pub patch: OverridePatch,
    /// ip:port in the pool default, pool/ip:port in another
    pub id: String,
}

/// `POST changes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Changes {
    /// Each backend once
    #[schemars(length(min = 1, max = 10_000))]
    pub changes: Vec<Edit>,
    /// The reason, shown in the audit log and the list of edits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub note: Option<String>,
}

/// The values of an override; null: not overridden.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct Parts {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub drain: Option<bool>,
}

/// What holds of a backend, and its override
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// The weight in force
    pub weight: u16,
    /// Whether it is enabled
    pub enabled: bool,
    /// Whether it is drained
    pub drain: bool,
    /// The operator's override; null: none
    pub r#override: Option<Parts>,
}

/// What a change did to one backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Change {
    /// ip:port in the pool default, pool/ip:port in another
    pub id: String,
    /// Before the change
    pub old: Diff,
    /// After the change
    pub new: Diff,
}

/// The answer to a change of overrides
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// Stored and published
    pub ok: bool,
    /// Whether nothing was changed, since only the differences were asked for
    pub dry_run: bool,
    /// Each backend of the call
    pub changes: Vec<Change>,
    /// Edits that restore the earlier values; post them as changes
    pub undo: Vec<Edit>,
    /// The result of publishing and of the signal; absent in a dry run
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Sync")]
    pub sync: Option<Sync>,
    /// Why it is not published yet
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub error: Option<String>,
}

impl Changed {
    /// The same, published.
    pub fn published(self, published: Published) -> Changed {
        Changed {
            ok: published.ok,
            sync: Some(published.sync),
            error: published.error,
            ..self
        }
    }
}
