//! The optional keys of `proxy_config.json` beyond backends and listeners: those of the process, of a
//! listener and of a pool. At the top of the file they are the defaults of every listener and every pool.
//! Ranges and defaults are in [`crate::keys`].

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::fault::Faults;
use crate::health::Health;
use crate::keys::{Reader, by_default};
use crate::networks::Networks;
use crate::object::Object;

/// How the process behaves. Serialized, it has the same keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessSettings {
    /// How long a worker polls for events before it sleeps: less latency at low load for more CPU.
    pub busy_poll_us: u64,
    /// How long a drain after SIGTERM waits for open sessions.
    pub drain_timeout_ms: u64,
}

/// How the sessions and flows of a listener behave. Serialized, it has the same keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerSettings {
    /// How long a session may be silent both ways. One hour: a long prefill is silent.
    pub idle_timeout_ms: u64,
    /// How long a session with one direction closed may be silent.
    pub half_close_timeout_ms: u64,
    /// How long a session may take to say what a route asks for (TLS' server name and protocols).
    pub preface_timeout_ms: u64,
    /// What becomes of a session that does not say so in TLS.
    pub on_not_tls: OnNotTls,
    /// How long a UDP flow lives without a datagram either way.
    pub udp_idle_ms: u64,
    /// A UDP flow ends when each of its datagrams has had this number of answers, as suits DNS; 0: only
    /// when idle.
    pub udp_responses: u64,
    /// Networks of other balancers, which would treat answers as datagrams of clients: their datagrams
    /// start no flow.
    #[serde(skip_serializing_if = "Networks::is_empty")]
    pub udp_peers: Networks,
    /// Sessions at once; absent: as many as the descriptor limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u64>,
    /// UDP flows at once; absent: an eighth of the descriptor limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flows: Option<u64>,
    /// Which ended sessions and flows are written to the log.
    pub session_log: SessionLog,
}

/// How the backends of a pool are connected to and judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSettings {
    /// Connects, and what happens to the sessions of a backend that is gone.
    pub connect: ConnectSettings,
    /// Probes, ejection and slow start.
    pub health: Health,
}

/// How a session finds a backend, and how long it may stay with one that is gone. Serialized, it has the
/// same keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectSettings {
    /// How long one connect to a backend may take.
    #[serde(rename = "connect_timeout_ms")]
    pub timeout_ms: u64,
    /// How many backends one session tries before it fails.
    #[serde(rename = "connect_attempts")]
    pub attempts: u64,
    /// How long sessions and answered flows of a removed or disabled backend may continue; absent: until
    /// they end by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_gone_timeout_ms: Option<u64>,
}

/// Which ended sessions and flows are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionLog {
    /// Lines that strangers can cause at almost no cost are limited to some a second, and the rest counted.
    All,
    /// The same, and only failures.
    Failures,
    /// None.
    Off,
    /// One line for each session and flow.
    Unlimited,
}

/// What becomes of a session at a listener whose routes ask for TLS, if it does not begin with a ClientHello, or with
/// one that is too long or comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNotTls {
    /// It takes the first route that asks for no TLS and matches.
    Default,
    /// It is reset.
    Refuse,
}

impl OnNotTls {
    pub(crate) const ALL: [(&str, OnNotTls); 2] =
        [("default", OnNotTls::Default), ("refuse", OnNotTls::Refuse)];
}

impl SessionLog {
    pub(crate) const ALL: [(&str, SessionLog); 4] = [
        ("all", SessionLog::All),
        ("failures", SessionLog::Failures),
        ("off", SessionLog::Off),
        ("unlimited", SessionLog::Unlimited),
    ];
}

impl Default for ProcessSettings {
    fn default() -> Self {
        by_default(ProcessSettings::read)
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        by_default(|object, faults| ListenerSettings::read(object, None, faults))
    }
}

impl Default for ConnectSettings {
    fn default() -> Self {
        by_default(|object, faults| ConnectSettings::read(object, None, faults))
    }
}

impl ProcessSettings {
    pub(crate) fn read(object: &mut Object, faults: &mut Faults) -> ProcessSettings {
        let mut keys = Reader::new(object, faults);
        ProcessSettings {
            busy_poll_us: keys.integer("busy_poll_us", None),
            drain_timeout_ms: keys.integer("drain_timeout_ms", None),
        }
    }

    /// [`drain_timeout_ms`](Self::drain_timeout_ms) as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        object_of(self)
    }
}

impl ListenerSettings {
    /// What `object` does not say is as in `top`, if there is one.
    pub(crate) fn read(
        object: &mut Object,
        top: Option<&ListenerSettings>,
        faults: &mut Faults,
    ) -> ListenerSettings {
        let mut keys = Reader::new(object, faults);
        ListenerSettings {
            idle_timeout_ms: keys.integer("idle_timeout_ms", top.map(|top| top.idle_timeout_ms)),
            half_close_timeout_ms: keys.integer(
                "half_close_timeout_ms",
                top.map(|top| top.half_close_timeout_ms),
            ),
            preface_timeout_ms: keys
                .integer("preface_timeout_ms", top.map(|top| top.preface_timeout_ms)),
            on_not_tls: keys.choice("on_not_tls", &OnNotTls::ALL, top.map(|top| top.on_not_tls)),
            udp_idle_ms: keys.integer("udp_idle_ms", top.map(|top| top.udp_idle_ms)),
            udp_responses: keys.integer("udp_responses", top.map(|top| top.udp_responses)),
            udp_peers: keys.networks("udp_peers", top.map(|top| &top.udp_peers)),
            max_sessions: keys.integer_if_any("max_sessions", top.and_then(|top| top.max_sessions)),
            max_flows: keys.integer_if_any("max_flows", top.and_then(|top| top.max_flows)),
            session_log: keys.choice(
                "session_log",
                &SessionLog::ALL,
                top.map(|top| top.session_log),
            ),
        }
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        object_of(self)
    }
}

impl ConnectSettings {
    fn read(
        object: &mut Object,
        top: Option<&ConnectSettings>,
        faults: &mut Faults,
    ) -> ConnectSettings {
        let mut keys = Reader::new(object, faults);
        ConnectSettings {
            timeout_ms: keys.integer("connect_timeout_ms", top.map(|top| top.timeout_ms)),
            attempts: keys.integer("connect_attempts", top.map(|top| top.attempts)),
            backend_gone_timeout_ms: keys.integer_if_any(
                "backend_gone_timeout_ms",
                top.and_then(|top| top.backend_gone_timeout_ms),
            ),
        }
    }
}

impl PoolSettings {
    /// What `object` does not say is as in `top`, if there is one.
    pub(crate) fn read(
        object: &mut Object,
        top: Option<&PoolSettings>,
        faults: &mut Faults,
        unknown_keys: &mut Faults,
    ) -> PoolSettings {
        PoolSettings {
            connect: ConnectSettings::read(object, top.map(|top| &top.connect), faults),
            health: Health::read(object, top.map(|top| &top.health), faults, unknown_keys),
        }
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut object = object_of(&self.connect);
        object.extend(self.health.to_json());
        object
    }
}

fn object_of(settings: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(object)) => object,
        _ => unreachable!("settings are structs of numbers, words and lists of words"),
    }
}
