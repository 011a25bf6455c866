//! What the proxy answers on its admin socket, and what control reads there.
//!
//! `GET /status` is a [`Status`]; `GET /generation?at_least=N&timeout_ms=T` a [`Running`], held back
//! until generation N runs, has been refused, or T (at most 10,000 ms) has passed;
//! `POST /reload` does what SIGHUP does and answers with the [`Running`] after it; `POST /check`, whose
//! body is a `proxy_config.json`, answers with what the proxy would refuse of it now ([`Trial`]) and
//! changes nothing; `POST /reports` takes [`Reports`]; `GET /metrics` is Prometheus text.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{BackendAddr, BackendKey, DEFAULT_NAME, Name};

pub use crate::backend_state::{AdminState, OperationalState};
pub use crate::cost::{BackendCost, Failed};
pub use crate::health_status::{BackendHealth, HealthStatus, ProtocolHealth};
use crate::name::default_name;
pub use crate::refusal::{Refusal, RefusalCode};
use crate::state_reason::{self, StateReason};

/// Which configuration the proxy runs, and how the last attempt at a newer one ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Running {
    /// The proxy's process id.
    pub pid: u32,
    /// When the process was started, in unix milliseconds: in a container each has the same id. Absent
    /// from older proxies outside of a [`Status`].
    #[serde(default)]
    pub started_at_ms: Option<u64>,
    /// The file's `generation`, or, where the file has none, one more than the one before.
    pub generation: u64,
    /// SHA-256 of the file it came from, in hexadecimal.
    pub digest: String,
    /// [`config_digest`](crate::config_digest()) of that file; absent from older proxies.
    #[serde(default)]
    pub config_digest: Option<String>,
    /// The file that the proxy reads, at the end of any links; absent from older proxies.
    #[serde(default)]
    pub config_path: Option<String>,
    /// Unix milliseconds.
    pub loaded_at_ms: u64,
    /// The last attempt to take a configuration; `None`: none since the start.
    pub last_reload: Option<Reload>,
    /// The addresses that are accepted on now.
    #[serde(default)]
    pub listeners: Vec<ListenerStatus>,
    /// The addresses of the proxy's own host, as seen when the file was last read or a listener that
    /// had to wait was bound.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Parts of the configuration that the proxy refuses; empty when all of it is in force.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
}

/// What `POST /check` answers. The document is read and checked as at a reload, and the addresses to
/// listen on that the proxy does not hold yet are bound and released at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Trial {
    /// Empty where a reload would put all of it in force.
    pub refusals: Vec<Refusal>,
    /// What `--check` refuses besides, and a reload takes, for people.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One attempt to take a new configuration.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Reload {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Whether the configuration was taken.
    pub ok: bool,
    /// The generation that was tried, where the file could be read that far.
    pub generation: Option<u64>,
    /// Why it was refused: every fault with its place.
    pub reason: Option<String>,
}

/// All that the proxy says of itself: `GET /status` on its admin socket.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// What runs.
    #[serde(flatten)]
    pub running: Running,
    /// Since the process started, not reset by reloads.
    pub reloads_ok: u64,
    /// Configurations that were refused.
    pub reloads_refused: u64,
    /// Whether it takes no new sessions and flows, since it ends.
    pub draining: bool,
    /// Of the first pool.
    pub algorithm: String,
    /// Each worker thread.
    pub workers: Vec<WorkerStatus>,
    /// Every backend, pool by pool.
    pub backends: Vec<BackendStatus>,
    /// Of the first pool. Absent from older proxies.
    #[serde(default)]
    pub health: HealthStatus,
    /// Every pool, in the order of the configuration; likewise.
    #[serde(default)]
    pub pools: Vec<PoolStatus>,
    /// What is counted over all listeners.
    pub totals: Totals,
    /// What of the totals came by which listener: those of the configuration, and earlier ones while
    /// they have sessions or flows. Absent from older proxies.
    #[serde(default)]
    pub listener_totals: Vec<ListenerTotals>,
    /// The bounds in force, and how often they were met.
    pub limits: LimitStatus,
}

/// One pool as the proxy sees it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PoolStatus {
    /// The pool.
    pub name: String,
    /// The name of its algorithm.
    pub algorithm: String,
    /// Whether a listener of the configuration leads to it.
    pub tcp: bool,
    /// The same for UDP.
    pub udp: bool,
    /// What health leaves of it.
    pub health: HealthStatus,
}

/// What is counted of one listener.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ListenerTotals {
    /// The listener.
    pub name: String,
    /// How often it has paused since there was no room.
    pub accept_pauses: u64,
    /// Its part of the totals.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What one worker has.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct WorkerStatus {
    /// Open sessions.
    pub sessions_active: u64,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Open UDP flows.
    pub flows_active: u64,
    /// For how long the last reload kept this worker from its sessions and flows, in microseconds.
    #[serde(default)]
    pub reload_stall_us: u64,
}

/// An address that is accepted on.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ListenerStatus {
    /// Absent from older proxies.
    #[serde(default = "default_name")]
    pub name: String,
    /// The address.
    pub addr: SocketAddr,
    /// Whether sessions are accepted there.
    pub tcp: bool,
    /// Whether datagrams are taken there.
    pub udp: bool,
}

/// One backend of one pool as the proxy sees it. A removed backend is listed until its last session ends.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendStatus {
    /// Absent from older proxies.
    #[serde(default = "default_name")]
    pub pool: String,
    /// The backend's address.
    pub ip: IpAddr,
    /// The backend's port.
    pub port: u16,
    /// False once a reload has removed it; it then has sessions to finish.
    pub configured: bool,
    /// What the configuration says.
    pub admin: AdminState,
    /// What its health says.
    pub operational: OperationalState,
    /// The reason for `operational`, in English; the next release removes it, since `reasons` says it.
    pub reason: String,
    /// The reasons for `operational`; empty from older proxies, and from newer ones that have others.
    #[serde(default, deserialize_with = "state_reason::read_known")]
    pub reasons: Vec<StateReason>,
    /// As configured, 0 to 1000.
    pub weight: u16,
    /// The share of new sessions it is given: the weight after algorithm and warm-up.
    pub weight_effective: u32,
    /// Share of the GPU in use by the last report, 0 to 1.
    pub gpu_usage: Option<f64>,
    /// Share of the VRAM in use by the last report, 0 to 1.
    pub vram_usage: Option<f64>,
    /// Unix milliseconds of the last report.
    pub reported_at_ms: Option<u64>,
    /// Probes, failures and ejections.
    #[serde(flatten)]
    pub health: BackendHealth,
    /// What is counted of it.
    #[serde(flatten)]
    pub counters: Counters,
    /// Sessions that it had taken and then failed, by reason; reasons never seen left out. Absent from older
    /// proxies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sessions_failed: BTreeMap<String, u64>,
    /// The same of flows. Refused ones count in `connect_failures`, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flows_failed: BTreeMap<String, u64>,
    /// Mean of recent connects, in microseconds; absent before the first.
    pub connect_latency_us: Option<u64>,
    /// Mean of recent times from the client's first byte to the backend's, in microseconds.
    pub first_byte_latency_us: Option<u64>,
    /// Under `gpu_aware`, the cost that decides its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<BackendCost>,
}

impl BackendStatus {
    /// Which backend it is; `None` if the pool has no valid name.
    pub fn key(&self) -> Option<BackendKey> {
        let pool = match self.pool.as_str() {
            // Without an allocation for each backend.
            DEFAULT_NAME => Name::default(),
            pool => Name::new(pool)?,
        };
        Some(BackendKey::new(pool, BackendAddr::new(self.ip, self.port)))
    }
}

/// Counters of each backend and of the whole. `*_total` and bytes only grow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Counters {
    /// Open sessions.
    pub sessions_active: u64,
    /// Sessions since the proxy started, or has known the backend.
    pub sessions_total: u64,
    /// Open UDP flows.
    pub flows_active: u64,
    /// UDP flows, likewise.
    pub flows_total: u64,
    /// Client to backend, TCP and UDP payload.
    pub bytes_up: u64,
    /// Backend to client.
    pub bytes_down: u64,
    /// Connects refused, unreachable or reset.
    pub connect_failures: u64,
    /// Connects that took too long.
    pub connect_timeouts: u64,
}

/// The answer of `GET /states`: the counters, and a mark that changes when a backend comes, goes or
/// changes its operational state, a generation is loaded, a listener is bound or refused, or a drain
/// begins. Much cheaper than a whole status.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct States {
    /// Changes whenever a state does.
    pub mark: String,
    /// As in a [`Status`]; absent from older proxies.
    #[serde(default)]
    pub totals: Option<Totals>,
    /// Likewise; empty with one pool, which has all of the totals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listener_totals: Vec<ListenerTotals>,
}

/// A histogram of durations.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Timings {
    /// Sum of all latencies, in microseconds.
    pub sum_us: u64,
    /// The upper bound of each bucket, in whole microseconds, and its count; ascending, without empty
    /// buckets.
    pub buckets: Vec<(u64, u64)>,
}

/// What is counted of sessions and flows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Totals {
    /// Those that are counted of each backend, too.
    #[serde(flatten)]
    pub counters: Counters,
    /// Quantiles since the start, in microseconds.
    pub first_byte_p50_us: Option<u64>,
    /// 99 % of the first bytes came sooner, likewise.
    pub first_byte_p99_us: Option<u64>,
    /// The same as counts since the start, so that two readings give the quantiles of the time between.
    #[serde(default)]
    pub first_byte: Timings,
    /// Connects to another backend after one had failed.
    pub connect_retries: u64,
    /// Ended sessions by reason, reasons never seen left out.
    pub sessions_ended: BTreeMap<String, u64>,
    /// Ended flows by reason.
    pub flows_ended: BTreeMap<String, u64>,
    /// Datagrams that could not be forwarded, by reason.
    pub datagrams_dropped: BTreeMap<String, u64>,
}

/// The bounds in force, and how often they were met.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct LimitStatus {
    /// Sessions at once.
    pub max_sessions: u64,
    /// UDP flows at once.
    pub max_flows: u64,
    /// How often accepting paused, at `max_sessions` or because descriptors ran out.
    pub accept_pauses: u64,
    /// Log lines of any kind that were dropped because the log could not keep up.
    pub log_lines_dropped: u64,
}

/// Load figures only: applied at once, without a reload and without a new generation.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Reports {
    /// One for each backend that has reported.
    pub reports: Vec<BackendReport>,
}

/// The load of one backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendReport {
    /// The backend's address.
    pub ip: IpAddr,
    /// The backend's port.
    pub port: u16,
    /// 0..=1.
    pub gpu_usage: Option<f64>,
    /// 0..=1.
    pub vram_usage: Option<f64>,
    /// Unix milliseconds.
    pub reported_at_ms: u64,
}
