//! Says in the log when the configuration leaves no backend of a pool for new sessions or flows, and when
//! it does again: every backend is fine then, and no alarm about health is raised.

use std::collections::HashMap;

use proxy_core::health::PROTOCOLS;
use proxy_core::ids::PoolId;
use proxy_core::snapshot::Snapshot;

use crate::reasons;

/// Of each pool, for TCP and for UDP, whether no backend is in use. Only what a listener takes is missed.
#[derive(Debug, Clone, Default)]
pub struct NoneInUse(HashMap<PoolId, [bool; 2]>);

impl NoneInUse {
    /// Takes note of the snapshot of a new configuration, and logs what has changed.
    pub fn update(&mut self, snapshot: &Snapshot) {
        let before = std::mem::take(&mut self.0);
        for pool in &snapshot.pools {
            let were = before.get(&pool.id).copied().unwrap_or_default();
            let are = PROTOCOLS.map(|protocol| {
                let is_taken = pool.serves(protocol);
                let is = is_taken && pool.health(protocol).ready == 0;
                let what = reasons::work_of(protocol);
                let (name, word) = (&pool.name, protocol.word());
                match (were[protocol as usize], is) {
                    (false, true) => tracing::warn!(
                        "no backend in use protocol={word} configured={} pool={name}: new {what} are \
                         refused; enable a backend or give it a weight",
                        pool.len()
                    ),
                    (true, false) if is_taken => tracing::info!(
                        "a backend is in use again protocol={word} pool={name}: new {what} are served"
                    ),
                    (true, true) | (false, false) | (true, false) => {}
                }
                is
            });
            self.0.insert(pool.id, are);
        }
    }
}
