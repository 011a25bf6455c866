//! Says in the log when all backends of a pool are out for new sessions or flows, and when one is back.

use contract::health::AllDown;
use proxy_core::health::PROTOCOLS;
use proxy_core::plan::Protocol;
use proxy_core::registry::BackendRegistry;
use proxy_core::snapshot::{PoolSnapshot, Snapshot};

use crate::reasons;
use crate::udp_alone::{is_udp_alone, takes_flows};

/// Says for which pools the rule for all being out comes into force, and for which no more.
pub fn log(before: &Snapshot, after: &Snapshot, registry: &BackendRegistry) {
    for pool in &after.pools {
        let rule = |pool: &PoolSnapshot, protocol| pool.health(protocol).all_down;
        let [tcp, udp] = PROTOCOLS.map(|protocol| rule(pool, protocol).is_some());
        for protocol in PROTOCOLS {
            let was = before.pool(pool.id).and_then(|pool| rule(pool, protocol));
            let is = rule(pool, protocol);
            if was == is {
                continue;
            }
            let (what, name) = (reasons::work_of(protocol), &pool.name);
            let becomes = match is {
                None => {
                    tracing::info!("a backend takes new {what}: all_down is over pool={name}");
                    continue;
                }
                Some(AllDown::Reject) => "are refused (all_down: reject)",
                Some(AllDown::FailOpen) => "go to all of them (all_down: fail_open)",
            };
            if protocol == Protocol::Tcp && is_udp_alone(pool, registry) {
                tracing::warn!(
                    "no backend has accepted a TCP connection so far, and UDP is answered: new {what} \
                     {becomes}. If the service uses UDP only, set \"tcp\": false in \"listen\" pool={name}"
                );
                continue;
            }
            let hint = match protocol {
                Protocol::Tcp if tcp && !udp && takes_flows(pool) => {
                    "; UDP flows are still served. If the service uses UDP only, set \"tcp\": false in \
                     \"listen\""
                }
                Protocol::Tcp | Protocol::Udp => "",
            };
            tracing::error!("all backends are out: new {what} {becomes}{hint} pool={name}");
        }
    }
}
