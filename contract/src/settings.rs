//! The optional keys of `proxy_config.json` beyond backends and listeners, their defaults and ranges, in
//! one place: those of the process, of a listener and of a pool. At the top of the file they are the
//! defaults of every listener and every pool.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::fault::Faults;
use crate::health::Health;
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

impl SessionLog {
    const ALL: [(&str, SessionLog); 4] = [
        ("all", SessionLog::All),
        ("failures", SessionLog::Failures),
        ("off", SessionLog::Off),
        ("unlimited", SessionLog::Unlimited),
    ];
}

impl Default for ProcessSettings {
    fn default() -> Self {
        ProcessSettings {
            busy_poll_us: 0,
            drain_timeout_ms: 30_000,
        }
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        ListenerSettings {
            idle_timeout_ms: HOUR_MS,
            half_close_timeout_ms: 600_000,
            udp_idle_ms: 30_000,
            udp_responses: 0,
            udp_peers: Networks::default(),
            max_sessions: None,
            max_flows: None,
            session_log: SessionLog::All,
        }
    }
}

impl Default for ConnectSettings {
    fn default() -> Self {
        ConnectSettings {
            timeout_ms: 2_000,
            attempts: 4,
            backend_gone_timeout_ms: None,
        }
    }
}

const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;

impl ProcessSettings {
    pub(crate) fn read(object: &mut Object, faults: &mut Faults) -> ProcessSettings {
        let default = ProcessSettings::default();
        let mut integer = |key, min, max| object.take_integer(key, min, max, faults);
        let busy_poll_us = integer("busy_poll_us", 0, 10_000);
        let drain_timeout_ms = integer("drain_timeout_ms", 0, WEEK_MS);
        ProcessSettings {
            busy_poll_us: busy_poll_us.unwrap_or(default.busy_poll_us),
            drain_timeout_ms: drain_timeout_ms.unwrap_or(default.drain_timeout_ms),
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
    /// What `object` does not say is as in `default`.
    pub(crate) fn read(
        object: &mut Object,
        default: &ListenerSettings,
        faults: &mut Faults,
    ) -> ListenerSettings {
        let mut integer = |key, min, max| object.take_integer(key, min, max, faults);
        let idle_timeout_ms = integer("idle_timeout_ms", 1, WEEK_MS);
        let half_close_timeout_ms = integer("half_close_timeout_ms", 1, WEEK_MS);
        let udp_idle_ms = integer("udp_idle_ms", 1, HOUR_MS);
        let udp_responses = integer("udp_responses", 0, 1_000_000);
        let max_sessions = integer("max_sessions", 1, 10_000_000);
        let max_flows = integer("max_flows", 1, 10_000_000);
        let session_log = object.take_choice("session_log", &SessionLog::ALL, faults);
        let udp_peers = Networks::read(object, "udp_peers", faults);
        ListenerSettings {
            idle_timeout_ms: idle_timeout_ms.unwrap_or(default.idle_timeout_ms),
            half_close_timeout_ms: half_close_timeout_ms.unwrap_or(default.half_close_timeout_ms),
            udp_idle_ms: udp_idle_ms.unwrap_or(default.udp_idle_ms),
            udp_responses: udp_responses.unwrap_or(default.udp_responses),
            udp_peers: udp_peers.unwrap_or_else(|| default.udp_peers.clone()),
            max_sessions: max_sessions.or(default.max_sessions),
            max_flows: max_flows.or(default.max_flows),
            session_log: session_log.unwrap_or(default.session_log),
        }
    }

    pub(crate) fn to_json(&self) -> Map<String, Value> {
        object_of(self)
    }
}

impl ConnectSettings {
    fn read(
        object: &mut Object,
        default: &ConnectSettings,
        faults: &mut Faults,
    ) -> ConnectSettings {
        let mut integer = |key, min, max| object.take_integer(key, min, max, faults);
        let timeout_ms = integer("connect_timeout_ms", 1, 600_000);
        let attempts = integer("connect_attempts", 1, 8);
        let backend_gone_timeout_ms = integer("backend_gone_timeout_ms", 0, WEEK_MS);
        ConnectSettings {
            timeout_ms: timeout_ms.unwrap_or(default.timeout_ms),
            attempts: attempts.unwrap_or(default.attempts),
            backend_gone_timeout_ms: backend_gone_timeout_ms.or(default.backend_gone_timeout_ms),
        }
    }
}

impl PoolSettings {
    /// What `object` does not say is as in `default`.
    pub(crate) fn read(
        object: &mut Object,
        default: &PoolSettings,
        faults: &mut Faults,
        unknown_keys: &mut Faults,
    ) -> PoolSettings {
        PoolSettings {
            connect: ConnectSettings::read(object, &default.connect, faults),
            health: Health::read(object, &default.health, faults, unknown_keys),
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
