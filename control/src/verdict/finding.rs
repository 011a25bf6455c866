//! All possible findings, as a closed list of codes, each with its level and typed arguments.

use contract::{Name, RefusalCode};
use serde_json::{Value, json};

use super::picture::Counts;
use crate::standing::Protocol;

/// How bad it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Traffic flows.
    Ok,
    /// Traffic flows, and something is wrong.
    Degraded,
    /// Control cannot tell whether traffic flows.
    Unknown,
    /// New sessions or flows of a protocol are refused, or most of them fail.
    Down,
}

impl From<Level> for api::v1::Level {
    fn from(level: Level) -> api::v1::Level {
        match level {
            Level::Ok => api::v1::Level::Ok,
            Level::Degraded => api::v1::Level::Degraded,
            Level::Unknown => api::v1::Level::Unknown,
            Level::Down => api::v1::Level::Down,
        }
    }
}

impl Level {
    pub const ALL: [Level; 4] = [Level::Ok, Level::Degraded, Level::Unknown, Level::Down];

    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Degraded => "degraded",
            Level::Unknown => "unknown",
            Level::Down => "down",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// Control has not checked yet.
    NotLooked,
    ProxyNotRunning {
        /// The process that is gone, if known.
        pid: Option<u32>,
    },
    /// The proxy runs, but does not answer on its admin socket.
    ProxyStuck {
        pid: Option<u32>,
        silent_ms: u64,
    },
    /// The proxy runs, but has no admin socket.
    ProxyWithoutStatus {
        pid: u32,
    },
    /// Whether the proxy runs is unknown.
    ProxyUnseen {
        why: String,
    },
    /// The proxy is stopping.
    ProxyDraining {
        sessions: u64,
    },
    /// Nothing accepts sessions or flows of this protocol.
    NotListening {
        /// `None`: no listener at all is bound.
        protocol: Option<Protocol>,
        /// The addresses that are wanted.
        values: Vec<String>,
        refusal: Option<RefusalCode>,
    },
    NoBackendKnown {
        refused_per_s: f64,
    },
    NoBackendUsable {
        /// `None`: of all protocols that are served.
        protocol: Option<Protocol>,
        counts: Counts,
        /// Sessions and flows that are refused because of this.
        refused_per_s: f64,
    },
    /// All are out because of their health, and still used.
    FailOpen {
        protocol: Option<Protocol>,
        counts: Counts,
    },
    /// Flows are answered, and no backend has accepted a TCP connection since the proxy started.
    UdpAlone {
        /// Sessions that were tried nevertheless, and failed.
        failed: u64,
        window_s: u64,
    },
    /// Sessions (TCP) or flows (UDP) fail.
    Failing {
        protocol: Protocol,
        is_most: bool,
        share: f64,
        per_s: f64,
        /// The reason of most of them.
        reason: String,
        failed: u64,
        of: u64,
        window_s: u64,
    },
    Refused {
        /// The published generation, if the proxy runs an earlier one because of this.
        generation: Option<u64>,
        running: Option<u64>,
        code: RefusalCode,
        place: String,
        value: String,
        detail: String,
        /// What stays in force.
        kept: Value,
        /// All parts that are refused.
        parts: usize,
    },
    OtherFile {
        proxy: String,
        control: String,
    },
    NotPublished {
        why: String,
    },
    NotApplied {
        published: u64,
        running: Option<u64>,
    },
    /// Settings of a listener are not applied, since they do not fit together.
    ListenerNotApplied {
        listener: Name,
        /// The key that does not fit, a JSON pointer.
        place: String,
        why: String,
        /// What the proxy last accepted of it stays published.
        is_kept: bool,
        /// All listeners of which this is so.
        listeners: usize,
    },
    /// Backends that should take traffic do not.
    BackendsOut {
        counts: Counts,
    },
    /// The pool is not defined: its backends are stored and take no traffic.
    NoPool {
        counts: Counts,
    },
    /// No listener leads to the pool, so it takes no traffic.
    NoListener {
        counts: Counts,
    },
    Serving {
        counts: Counts,
    },
}

/// A finding, and the pool that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// `None`: about the whole.
    pub pool: Option<Name>,
    pub finding: Finding,
}

impl Found {
    pub fn of_whole(finding: Finding) -> Found {
        Found {
            pool: None,
            finding,
        }
    }

    pub fn of_pool(pool: &Name, finding: Finding) -> Found {
        let pool = Some(pool.clone());
        Found { pool, finding }
    }

    /// By pool, level and code, since arguments change with each look.
    pub fn is_same(&self, other: &Found) -> bool {
        let identity = |one: &Found| (one.pool.clone(), one.finding.level(), one.finding.code());
        identity(self) == identity(other)
    }
}

impl Finding {
    pub fn level(&self) -> Level {
        match self {
            Finding::NotLooked
            | Finding::ProxyStuck { .. }
            | Finding::ProxyWithoutStatus { .. }
            | Finding::ProxyUnseen { .. } => Level::Unknown,
            Finding::ProxyNotRunning { .. }
            | Finding::ProxyDraining { .. }
            | Finding::NotListening { .. }
            | Finding::NoBackendKnown { .. }
            | Finding::NoBackendUsable { .. }
            | Finding::Failing { is_most: true, .. } => Level::Down,
            Finding::FailOpen { .. }
            | Finding::UdpAlone { .. }
            | Finding::Failing { is_most: false, .. }
            | Finding::Refused { .. }
            | Finding::OtherFile { .. }
            | Finding::NotPublished { .. }
            | Finding::NotApplied { .. }
            | Finding::ListenerNotApplied { .. }
            | Finding::BackendsOut { .. } => Level::Degraded,
            // A registration may come before its pool, and a pool before its listener.
            Finding::NoPool { .. } | Finding::NoListener { .. } | Finding::Serving { .. } => {
                Level::Ok
            }
        }
    }

    pub fn code(&self) -> &'static str {
        match self {
            Finding::NotLooked => "not_looked",
            Finding::ProxyNotRunning { .. } => "proxy_not_running",
            Finding::ProxyStuck { .. } => "proxy_stuck",
            Finding::ProxyWithoutStatus { .. } => "proxy_without_status",
            Finding::ProxyUnseen { .. } => "proxy_unseen",
            Finding::ProxyDraining { .. } => "proxy_draining",
            Finding::NotListening { .. } => "not_listening",
            Finding::NoBackendKnown { .. } => "no_backend_known",
            Finding::NoBackendUsable { .. } => "no_backend_usable",
            Finding::FailOpen { .. } => "fail_open",
            Finding::UdpAlone { .. } => "udp_alone",
            Finding::Failing { protocol, .. } => match protocol {
                Protocol::Tcp => "sessions_failing",
                Protocol::Udp => "flows_failing",
            },
            Finding::Refused { .. } => "refused",
            Finding::OtherFile { .. } => "other_file",
            Finding::NotPublished { .. } => "not_published",
            Finding::NotApplied { .. } => "not_applied",
            Finding::ListenerNotApplied { .. } => "listener_not_applied",
            Finding::BackendsOut { .. } => "backends_out",
            Finding::NoPool { .. } => "no_pool",
            Finding::NoListener { .. } => "no_listener",
            Finding::Serving { .. } => "serving",
        }
    }

    pub fn args(&self) -> Value {
        let word = |protocol: &Option<Protocol>| protocol.map(Protocol::word);
        match self {
            Finding::NotLooked => json!({}),
            Finding::ProxyNotRunning { pid } => json!({ "pid": pid }),
            Finding::ProxyStuck { pid, silent_ms } => {
                json!({ "pid": pid, "silent_s": silent_ms / 1000 })
            }
            Finding::ProxyWithoutStatus { pid } => json!({ "pid": pid }),
            Finding::ProxyUnseen { why } => json!({ "why": why }),
            Finding::ProxyDraining { sessions } => json!({ "sessions": sessions }),
            Finding::NotListening {
                protocol,
                values,
                refusal,
            } => json!({
                "protocol": word(protocol), "values": values,
                "refusal": refusal.map(RefusalCode::word),
            }),
            Finding::NoBackendKnown { refused_per_s } => {
                json!({ "refused_per_s": rounded(*refused_per_s) })
            }
            Finding::NoBackendUsable {
                protocol,
                counts,
                refused_per_s,
            } => json!({
                "protocol": word(protocol), "backends": counts.to_json(),
                "refused_per_s": rounded(*refused_per_s),
            }),
            Finding::FailOpen { protocol, counts } => {
                json!({ "protocol": word(protocol), "backends": counts.to_json() })
            }
            Finding::UdpAlone { failed, window_s } => {
                json!({ "failed": failed, "window_s": window_s })
            }
            Finding::Failing {
                protocol: _,
                is_most: _,
                share,
                per_s,
                reason,
                failed,
                of,
                window_s,
            } => json!({
                "share": rounded(*share), "per_s": rounded(*per_s), "reason": reason,
                "failed": failed, "of": of, "window_s": window_s,
            }),
            Finding::Refused {
                generation,
                running,
                code,
                place,
                value,
                detail,
                kept,
                parts,
            } => json!({
                "generation": generation, "running": running, "refusal": code.word(),
                "place": place, "value": value, "detail": detail, "kept": kept, "parts": parts,
            }),
            Finding::OtherFile { proxy, control } => json!({ "proxy": proxy, "control": control }),
            Finding::NotPublished { why } => json!({ "why": why }),
            Finding::NotApplied { published, running } => {
                json!({ "published": published, "running": running })
            }
            Finding::ListenerNotApplied {
                listener,
                place,
                why,
                is_kept,
                listeners,
            } => json!({
                "listener": listener.as_str(), "place": place, "why": why, "kept": is_kept,
                "listeners": listeners,
            }),
            Finding::BackendsOut { counts }
            | Finding::NoPool { counts }
            | Finding::NoListener { counts }
            | Finding::Serving { counts } => json!({ "backends": counts.to_json() }),
        }
    }

    /// Whether one that is not about a pool is the verdict of each pool, too.
    pub fn is_of_each_pool(&self) -> bool {
        self.level() >= Level::Unknown || matches!(self, Finding::Failing { .. })
    }
}

/// To four digits after the point: more is noise, and would make each delta of the event stream longer.
pub fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
