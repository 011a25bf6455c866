//! The settings of control that the proxy runs by, as calls take and show them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Part, Sync};

/// Only the values to set; null clears a value, so control_config.json decides
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The addresses and protocols of the listener `default`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Listen")]
    pub listen: Option<Listen>,
    /// The algorithm of the pool `default`
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub algorithm: Part<String>,
    /// Optional keys of proxy_config.json, listed in docs/configuration.md
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub proxy: Option<Map<String, Value>>,
}

/// Where the listener `default` accepts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Listen {
    /// An address of this host, 0.0.0.0 or ::
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub host: Part<String>,
    /// The port
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Part<u16>,
    /// Whether it accepts TCP sessions
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub tcp: Part<bool>,
    /// Whether it accepts UDP datagrams
    #[serde(default, skip_serializing_if = "Part::is_keep")]
    pub udp: Part<bool>,
}

/// What happens if the proxy refuses the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OnRefusal {
    #[allow(missing_docs)]
    RollBack,
    #[allow(missing_docs)]
    KeepTrying,
}

/// `POST /api/settings`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    inline,
    description = "Only the values to set; null clears a value, so control_config.json decides"
)]
pub struct SettingsRequest {
    /// The values.
    #[serde(flatten)]
    pub settings: Settings,
    /// What happens if the proxy refuses the call. roll_back (default): the settings are as before, and the answer is
    /// 409. keep_trying: the settings are kept, the last accepted values stay in force, and control tries again every
    /// auto_sync_interval_sec and when an address of this host changes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnRefusal")]
    pub on_refusal: Option<OnRefusal>,
    /// The reason, shown in the audit log and the list of edits
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub note: Option<String>,
}

/// The settings in force and where each comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SettingsInForce")]
pub struct InForce {
    /// The addresses and protocols of the listener `default`
    pub listen: Listen,
    /// The algorithm of the pool `default`
    pub algorithm: String,
    /// Optional keys of proxy_config.json that are set
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub proxy: Option<Map<String, Value>>,
    /// Settings by API; they override control_config.json
    pub by_api: Settings,
    /// Settings in control_config.json; by_api overrides them
    pub by_file: Settings,
    /// Every value, defaults included; a key without a default is absent
    pub in_force: Settings,
    /// Every default
    pub defaults: Settings,
    /// The names of the algorithms
    pub algorithms: Vec<String>,
}

/// A part of the configuration that the proxy refuses. This part keeps its last accepted value; everything else is in
/// force
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyRefusal {
    /// Why the proxy refuses it
    #[schemars(with = "String", extend("enum" = REFUSAL_CODES))]
    pub code: contract::status::RefusalCode,
    /// JSON pointer into proxy_config.json: a top-level key, /backends, or empty for the whole file
    pub place: String,
    /// The refused value, shortened
    pub value: String,
    /// The proxy's own message
    pub detail: String,
    /// Unix milliseconds
    pub since: u64,
    /// The value that stays in force; null if there is none
    pub kept: Option<Value>,
    /// Seconds until control tries again; null if only a restart of the proxy helps
    pub try_again_s: Option<u64>,
    /// The refusal as a sentence, as in warnings
    pub message: String,
}

const REFUSAL_CODES: [&str; 8] = [
    "unreadable",
    "invalid",
    "address_in_use",
    "address_not_available",
    "needs_restart",
    "cannot_bind",
    "own_listener",
    "other",
];

/// Of an answer to `POST /api/settings`: the settings, and what the proxy refuses of them while control keeps trying.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsChanged {
    /// The settings after the call
    pub settings: InForce,
    /// What the proxy refuses
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<ProxyRefusal>")]
    pub refusals: Option<Vec<ProxyRefusal>>,
    /// false, with refusals, if the proxy refuses the values and control keeps trying
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub applied: Option<bool>,
}

/// 409 of `POST /api/settings`: the proxy refused the settings, and they are as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolledBack {
    /// true: the settings are as before
    pub rolled_back: bool,
    /// The settings in force
    pub settings: InForce,
    /// What the proxy refuses
    pub refusals: Vec<ProxyRefusal>,
    /// The result of publishing
    pub sync: Sync,
}
