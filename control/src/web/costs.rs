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

/// By backend; empty where another algorithm is in force.
pub fn costs<'a>(app: &App, status: Option<&'a Status>) -> HashMap<BackendKey, &'a BackendCost> {
    let algorithm = app.shared.model().settings().algorithm();
    let status = status.filter(|_| algorithm == Algorithm::GpuAware);
    let backends = status.into_iter().flat_map(|status| &status.backends);
    let cost_of = backends.filter_map(|backend| Some((backend.key()?, backend.cost.as_ref()?)));
    cost_of.collect()
}
