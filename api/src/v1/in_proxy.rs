//! What the proxy says of itself and of each backend, without what the answer around it says already.

use std::collections::BTreeMap;

use contract::StateReason;
use contract::state_reason::read_known;
use contract::status::{
    AdminState, BackendCost, BackendHealth, BackendStatus, Counters, HealthStatus, LimitStatus,
    ListenerTotals, OperationalState, PoolStatus, Running, Status, Totals, WorkerStatus,
};
use serde::{Deserialize, Serialize};

/// A backend's status in the proxy: [`BackendStatus`] without its address and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InProxy {
    pub pool: String,
    pub configured: bool,
    pub admin: AdminState,
    pub operational: OperationalState,
    pub reason: String,
    #[serde(default, deserialize_with = "read_known")]
    pub reasons: Vec<StateReason>,
    pub weight: u16,
    pub weight_effective: u32,
    pub gpu_usage: Option<f64>,
    pub vram_usage: Option<f64>,
    pub reported_at_ms: Option<u64>,
    #[serde(flatten)]
    pub health: BackendHealth,
    #[serde(flatten)]
    pub counters: Counters,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sessions_failed: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flows_failed: BTreeMap<String, u64>,
    pub connect_latency_us: Option<u64>,
    pub first_byte_latency_us: Option<u64>,
}

impl InProxy {
    /// The status and the cost, which a row gives beside it.
    pub fn new(status: BackendStatus) -> (InProxy, Option<BackendCost>) {
        let BackendStatus {
            pool,
            ip: _,
            port: _,
            configured,
            admin,
            operational,
            reason,
            reasons,
            weight,
            weight_effective,
            gpu_usage,
            vram_usage,
            reported_at_ms,
            health,
            counters,
            sessions_failed,
            flows_failed,
            connect_latency_us,
            first_byte_latency_us,
            cost,
        } = status;
        let seen = InProxy {
            pool,
            configured,
            admin,
            operational,
            reason,
            reasons,
            weight,
            weight_effective,
            gpu_usage,
            vram_usage,
            reported_at_ms,
            health,
            counters,
            sessions_failed,
            flows_failed,
            connect_latency_us,
            first_byte_latency_us,
        };
        (seen, cost)
    }
}

/// The proxy's own status: [`Status`] without its backends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Proxy {
    pub version: String,
    #[serde(flatten)]
    pub running: Running,
    pub reloads_ok: u64,
    pub reloads_refused: u64,
    pub draining: bool,
    pub algorithm: String,
    pub workers: Vec<WorkerStatus>,
    #[serde(default)]
    pub health: HealthStatus,
    #[serde(default)]
    pub pools: Vec<PoolStatus>,
    pub totals: Totals,
    #[serde(default)]
    pub listener_totals: Vec<ListenerTotals>,
    pub limits: LimitStatus,
}

/// The proxy's status and its backends, apart.
pub fn take_apart(status: Status) -> (Proxy, Vec<BackendStatus>) {
    let Status {
        version,
        running,
        reloads_ok,
        reloads_refused,
        draining,
        algorithm,
        workers,
        backends,
        health,
        pools,
        totals,
        listener_totals,
        limits,
    } = status;
    let proxy = Proxy {
        version,
        running,
        reloads_ok,
        reloads_refused,
        draining,
        algorithm,
        workers,
        health,
        pools,
        totals,
        listener_totals,
        limits,
    };
    (proxy, backends)
}
