//! Making the snapshot of a configuration: within the bounds of this process, and scored before its first session.

use contract::Config;
use proxy_core::registry::BackendRegistry;
use proxy_core::snapshot::Snapshot;
use proxy_engine::clock::monotonic_ms;

use crate::clock::now;
use crate::limits::{Bounds, Limits};

/// The snapshot of `config`. What is learned of backends is kept from the `previous` one.
pub fn build(
    previous: Option<&Snapshot>,
    config: &Config,
    registry: &mut BackendRegistry,
    limits: &Limits,
) -> Snapshot {
    let bounds = limits.bounds(&config.listeners);
    warn_of_lowered_bounds(config, bounds.max_sessions, limits.max_flows(&bounds));
    scored(previous, config, registry, bounds)
}

/// The snapshot of the same configuration, as the health of backends is now.
pub fn rebuild(previous: &Snapshot, config: &Config, registry: &mut BackendRegistry) -> Snapshot {
    let bounds = Bounds {
        max_sessions: previous.max_sessions,
        max_flows_per_worker: previous.max_flows_per_worker,
    };
    scored(Some(previous), config, registry, bounds)
}

/// So that the first sessions go by what is known already.
fn scored(
    previous: Option<&Snapshot>,
    config: &Config,
    registry: &mut BackendRegistry,
    bounds: Bounds,
) -> Snapshot {
    let Bounds {
        max_sessions,
        max_flows_per_worker,
    } = bounds;
    let snapshot = Snapshot::build(
        previous,
        config,
        registry,
        max_sessions,
        max_flows_per_worker,
        monotonic_ms(),
    );
    score(&snapshot);
    snapshot
}

/// Computes all costs anew. Returns in how many microseconds it is worth doing again; `None`: not before something
/// happens.
pub fn score(snapshot: &Snapshot) -> Option<u64> {
    let now = now();
    let next = snapshot.pools.iter().filter_map(|pool| pool.score(now));
    next.min()
}

/// Says where listeners ask for more than all of them together may have.
fn warn_of_lowered_bounds(config: &Config, max_sessions: u64, max_flows: u64) {
    for listener in &config.listeners {
        let bounds = [
            ("max_sessions", listener.settings.max_sessions, max_sessions),
            ("max_flows", listener.settings.max_flows, max_flows),
        ];
        for (key, asked, in_force) in bounds {
            if let Some(asked) = asked.filter(|asked| *asked > in_force) {
                tracing::warn!(
                    "{key} lowered listener={} asked={asked} in_force={in_force}: the descriptor limit \
                     allows no more",
                    listener.name
                );
            }
        }
    }
}
