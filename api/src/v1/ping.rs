//! Pings.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST pings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PingRequest {
    /// The address of a backend, or 127.0.0.1
    pub ip: String,
    /// How many
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u8", range(min = 1, max = 20), extend("default" = 4))]
    pub probes: Option<u64>,
}

/// How a backend is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(missing_docs)]
pub enum Via {
    Icmp,
    Tcp,
}

/// One line of the answer to `POST pings`: the start, each probe, and the summary
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PingLine {
    /// The first line
    Start {
        /// The address
        #[schemars(with = "String")]
        ip: IpAddr,
        /// With ICMP, or by TCP connects where that is not allowed
        via: Via,
        /// How many probes were asked for; null: not said
        probes: Option<u64>,
    },
    /// The result of one probe
    Probe {
        /// From 1
        sequence: u16,
        /// Of a TCP connect
        port: Option<u16>,
        /// null: it failed
        time_ms: Option<f64>,
        /// Why it failed
        error: Option<String>,
    },
    /// The last line
    Summary {
        /// Probes
        sent: usize,
        /// Answers
        received: usize,
        /// null without an answer
        min_ms: Option<f64>,
        /// null without an answer
        avg_ms: Option<f64>,
        /// null without an answer
        max_ms: Option<f64>,
    },
}
