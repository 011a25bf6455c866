//! What the health of a pool's backends means for the picks of one protocol.

use std::sync::Arc;

use contract::Pool;
use contract::health::AllDown;

use crate::backend::BackendState;
use crate::pick::{Entry, takes_sessions};
use crate::plan::Protocol;

/// The backends of a pool as one protocol may use them.
#[derive(Debug)]
pub struct Roster {
    /// In the order of the configuration.
    pub entries: Vec<Entry>,
    /// What health leaves of them.
    pub health: PoolHealth,
}

/// What health left of a pool for one protocol.
#[derive(Debug, Clone, Copy)]
pub struct PoolHealth {
    /// Backends that take new sessions or flows by configuration.
    pub ready: usize,
    /// Those of them that are not out for their health.
    pub available: usize,
    /// The rule that is in force since none is available.
    pub all_down: Option<AllDown>,
}

impl Roster {
    /// `states` are those of the pool's backends, in order.
    pub fn of(
        pool: &Pool,
        states: &[Arc<BackendState>],
        protocol: Protocol,
        now_ms: u64,
    ) -> Roster {
        let part = |state: &Arc<BackendState>| {
            if state.health().standing().is_available(protocol) {
                state.ramp(now_ms)
            } else {
                0.0
            }
        };
        let mut parts: Vec<f64> = states.iter().map(part).collect();
        let health = PoolHealth::of(pool, &parts);
        if health.all_down == Some(AllDown::FailOpen) {
            parts.fill(1.0);
        }
        let is_ramping = parts.iter().any(|part| *part > 0.0 && *part < 1.0);
        let load = |state: &BackendState| match protocol {
            // Loads bound a ramp and nothing else.
            _ if !is_ramping => 0,
            Protocol::Tcp => state.sessions(),
            Protocol::Udp => state.flows(),
        };
        let entries = parts.iter().zip(states).map(|(&ramp, state)| Entry {
            ramp,
            load: load(state),
        });
        Roster {
            entries: entries.collect(),
            health,
        }
    }
}

impl PoolHealth {
    fn of(pool: &Pool, parts: &[f64]) -> PoolHealth {
        let backends = pool.backends.iter().zip(parts);
        let ready = backends.filter(|(backend, _)| takes_sessions(pool, backend));
        let available = ready.clone().filter(|(_, part)| **part > 0.0).count();
        let ready = ready.count();
        PoolHealth {
            ready,
            available,
            all_down: (ready > 0 && available == 0).then_some(pool.settings.health.all_down),
        }
    }
}
