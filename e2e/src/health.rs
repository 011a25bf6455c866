//! What the tests of health have in common.

use std::net::SocketAddr;

use contract::status::{BackendStatus, OperationalState};
use serde_json::{Value, json};
use testkit::{LONG, Proxy, until};

/// Settings with quick probes: `probe` is set above them.
pub fn quick_probes(probe: Value) -> Value {
    let mut health = json!({ "interval_ms": 40, "timeout_ms": 1_000, "rise": 2, "fall": 3 });
    for (key, value) in probe.as_object().into_iter().flatten() {
        health[key] = value.clone();
    }
    json!({ "health": health })
}

/// Awaits that a backend is in `state`, and returns its row.
#[track_caller]
pub fn await_state(proxy: &Proxy, addr: SocketAddr, state: OperationalState) -> BackendStatus {
    until(&format!("{addr} is {}", state.word()), LONG, || {
        let row = proxy.backend(addr);
        (row.operational == state).then_some(row)
    })
}

/// Awaits that so many more probes of a backend have ended.
#[track_caller]
pub fn await_probes(proxy: &Proxy, addr: SocketAddr, more: u64) {
    let enough = proxy.backend(addr).health.probes_total + more;
    until(&format!("{more} more probes of {addr}"), LONG, || {
        (proxy.backend(addr).health.probes_total >= enough).then_some(())
    });
}
