//! The optional keys of `proxy_config.json`, their defaults and ranges, in one place.

use std::time::Duration;

use serde::Serialize;

use crate::fault::Faults;
use crate::health::Health;
use crate::networks::Networks;
use crate::object::Object;

/// How the proxy behaves beyond the base format. Serialized, it has the same keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// How long one connect to a backend may take.
    pub connect_timeout_ms: u64,
    /// How many backends one session tries before it fails.
    pub connect_attempts: u64,
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
    /// How long a worker polls for events before it sleeps: less latency at low load for more CPU.
    pub busy_poll_us: u64,
    /// How long a drain after SIGTERM waits for open sessions.
    pub drain_timeout_ms: u64,
    /// How long sessions and answered flows of a removed or disabled backend may continue; absent: until
    /// they end by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_gone_timeout_ms: Option<u64>,
    /// Sessions at once; absent: as many as the descriptor limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u64>,
    /// UDP flows at once; absent: an eighth of the descriptor limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flows: Option<u64>,
    /// Which ended sessions and flows are written to the log.
    pub session_log: SessionLog,
    /// Written by [`Health::to_json`].
    #[serde(skip)]
    pub health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionLog {
    /// Lines that strangers can cause at almost no cost are limited to some a second, and the rest counted.
    All,
    /// The same, and only failures.
    Failures,
    Off,
    /// One line for each session and flow.
    Unlimited,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connect_timeout_ms: 2_000,
            connect_attempts: 4,
            idle_timeout_ms: HOUR_MS,
            half_close_timeout_ms: 600_000,
            udp_idle_ms: 30_000,
            udp_responses: 0,
            udp_peers: Networks::default(),
            busy_poll_us: 0,
            drain_timeout_ms: 30_000,
            backend_gone_timeout_ms: None,
            max_sessions: None,
            max_flows: None,
            session_log: SessionLog::All,
            health: Health::default(),
        }
    }
}

const HOUR_MS: u64 = 3_600_000;
const WEEK_MS: u64 = 7 * 24 * HOUR_MS;

impl Settings {
    pub(crate) fn read(
        object: &mut Object,
        faults: &mut Faults,
        unknown_keys: &mut Faults,
    ) -> Settings {
        let default = Settings::default();
        let mut integer = |key, min, max| object.take_integer(key, min, max, faults);
        let connect_timeout_ms = integer("connect_timeout_ms", 1, 600_000);
        let connect_attempts = integer("connect_attempts", 1, 8);
        let idle_timeout_ms = integer("idle_timeout_ms", 1, WEEK_MS);
        let half_close_timeout_ms = integer("half_close_timeout_ms", 1, WEEK_MS);
        let udp_idle_ms = integer("udp_idle_ms", 1, HOUR_MS);
        let udp_responses = integer("udp_responses", 0, 1_000_000);
        let busy_poll_us = integer("busy_poll_us", 0, 10_000);
        let drain_timeout_ms = integer("drain_timeout_ms", 0, WEEK_MS);
        let backend_gone_timeout_ms = integer("backend_gone_timeout_ms", 0, WEEK_MS);
        let max_sessions = integer("max_sessions", 1, 10_000_000);
        let max_flows = integer("max_flows", 1, 10_000_000);
        let choices = [
            ("all", SessionLog::All),
            ("failures", SessionLog::Failures),
            ("off", SessionLog::Off),
            ("unlimited", SessionLog::Unlimited),
        ];
        let session_log = object.take_choice("session_log", &choices, faults);
        Settings {
            connect_timeout_ms: connect_timeout_ms.unwrap_or(default.connect_timeout_ms),
            connect_attempts: connect_attempts.unwrap_or(default.connect_attempts),
            idle_timeout_ms: idle_timeout_ms.unwrap_or(default.idle_timeout_ms),
            half_close_timeout_ms: half_close_timeout_ms.unwrap_or(default.half_close_timeout_ms),
            udp_idle_ms: udp_idle_ms.unwrap_or(default.udp_idle_ms),
            udp_responses: udp_responses.unwrap_or(default.udp_responses),
            udp_peers: Networks::read(object, "udp_peers", faults),
            busy_poll_us: busy_poll_us.unwrap_or(default.busy_poll_us),
            drain_timeout_ms: drain_timeout_ms.unwrap_or(default.drain_timeout_ms),
            backend_gone_timeout_ms,
            max_sessions,
            max_flows,
            session_log: session_log.unwrap_or(default.session_log),
            health: Health::read(object, faults, unknown_keys),
        }
    }

    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}
