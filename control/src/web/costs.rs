//! The proxy's status for the listed backends: which are ready, and under `gpu_aware` the cost of each.

use std::collections::HashMap;
use std::time::Duration;

use contract::status::{BackendCost, Status};
use contract::{Algorithm, BackendKey};

use super::App;

/// A list of backends never waits longer for a proxy that does not answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// `None` where the proxy does not say in time.
pub async fn status(app: &App) -> Option<Status> {
    let status = tokio::time::timeout(PATIENCE, app.proxy.status()).await;
    status.ok()?.ok()
}

/// By backend, of the pools whose algorithm goes by costs.
pub fn costs<'a>(app: &App, status: Option<&'a Status>) -> HashMap<BackendKey, &'a BackendCost> {
    let settings = app.shared.model().settings();
    let backends = status.into_iter().flat_map(|status| &status.backends);
    let cost_of = backends.filter_map(|backend| Some((backend.key()?, backend.cost.as_ref()?)));
    let mut goes_by_costs = HashMap::new();
    let cost_of = cost_of.filter(|(key, _)| {
        *goes_by_costs.entry(key.pool.clone()).or_insert_with(|| {
            let algorithm = settings.algorithm_of(&key.pool);
            algorithm == Some(Algorithm::GpuAware.name())
        })
    });
    cost_of.collect()
}
