//! The task that keeps the figures.

use std::sync::Arc;
use std::time::Duration;

use super::{Fleet, STEP_MS};
use crate::observe::Proxy;
use crate::shared::Shared;

/// Keeps a moment every [`STEP_MS`] for as long as control runs. A whole status is read once a minute.
pub async fn run(shared: Arc<Shared>, proxy: Proxy) {
    let mut tick = tokio::time::interval(Duration::from_millis(STEP_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let rows = shared.model().rows();
        let fleet = Fleet::of(&rows);
        let unix_ms = shared.clock.now().unix_ms;
        let max_bytes = shared.live().history_max_bytes;
        let ended = {
            let mut series = shared.series();
            series.set_max_bytes(max_bytes);
            series.step(unix_ms, fleet)
        };
        let Some(began_ms) = ended else { continue };
        // Where it is not heard, the minute stays a gap.
        if let Ok(status) = proxy.status().await {
            let process = (status.running.pid, status.running.started_at_ms);
            let mut series = shared.series();
            series.minute(began_ms, process, &status.backends);
        }
    }
}
