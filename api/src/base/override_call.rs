//! The base calls that edit one backend's override.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct WeightRequest {
    /// 0 takes no new sessions
    #[schemars(range(min = 0, max = 1000))]
    pub weight: u16,
}

/// `POST enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct EnabledRequest {
    /// false: no new sessions and no probes
    pub enabled: bool,
}

/// `POST drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DrainRequest {
    /// true: no new sessions; open ones finish
    pub drain: bool,
}

/// A value that was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Updated<T> {
    /// The backend and its new value
    pub updated: T,
}

/// A backend and its new weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct WeightUpdated {
    #[schemars(with = "String")]
    pub ip: IpAddr,
    pub port: u16,
    #[schemars(range(min = 0, max = 1000))]
    pub weight: u16,
}

/// A backend and whether it is enabled now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct EnabledUpdated {
    #[schemars(with = "String")]
    pub ip: IpAddr,
    pub port: u16,
    pub enabled: bool,
}

/// A backend and whether it is drained now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)]
pub struct DrainUpdated {
    #[schemars(with = "String")]
    pub ip: IpAddr,
    pub port: u16,
    pub drain: bool,
}

/// An answer that says only what publishing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Nothing {}
