//! Tells a service of UDP alone by what it answers: every probe and session over TCP fails there, and nothing is
//! wrong.

use proxy_core::backend::{BackendState, LastConnect};
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::snapshot::PoolSnapshot;

/// Whether TCP fails at a pool as it does at a service of UDP alone: all are out for it, or somebody tried,
/// and none has ever accepted a connection, while flows are answered.
pub fn is_udp_alone(pool: &PoolSnapshot, registry: &BackendRegistry) -> bool {
    let protocols = registry.protocols(pool.id);
    if !protocols.is_some_and(|protocols| protocols.seems_to_lack(Protocol::Tcp)) {
        return false;
    }
    let is_out = pool.health(Protocol::Tcp).all_down.is_some();
    takes_flows(pool) && (is_out || pool.backends().iter().any(|backend| has_failed(backend)))
}

/// Whether its last connect failed.
fn has_failed(backend: &BackendState) -> bool {
    match backend.last_over(Protocol::Tcp) {
        LastConnect::Failed | LastConnect::TimedOut => true,
        LastConnect::None
        | LastConnect::Succeeded
        | LastConnect::FlowAnswered
        | LastConnect::FlowRefused => false,
    }
}

/// Whether flows have backends, which some listener takes.
pub fn takes_flows(pool: &PoolSnapshot) -> bool {
    pool.serves(Protocol::Udp) && pool.health(Protocol::Udp).available > 0
}
