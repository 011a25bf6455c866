//! What the proxy says each backend costs under `gpu_aware`, for the rows that are listed.

use std::collections::HashMap;
use std::time::Duration;

use contract::status::BackendCost;
use contract::{Algorithm, BackendAddr};

use super::App;

/// A list of backends never waits longer for a proxy that does not answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// By address; empty where another algorithm is in force, or the proxy does not say.
pub async fn costs(app: &App) -> HashMap<BackendAddr, BackendCost> {
    let algorithm = app.shared.model().settings().algorithm();
    if algorithm != Algorithm::GpuAware {
        return HashMap::new();
    }
    let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, app.proxy.status()).await else {
        return HashMap::new();
    };
    let backends = status.backends.into_iter();
    let cost_of = backends.filter_map(|backend| {
        let addr = BackendAddr::new(backend.ip, backend.port);
        Some((addr, backend.cost?))
    });
    cost_of.collect()
}
