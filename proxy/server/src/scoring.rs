//! Keeps the costs of `gpu_aware` up to date, on the main thread: about every 100 ms while somebody
//! is busy, rarely while only time changes them, and else not at all.

use std::convert::Infallible;
use std::time::Duration;

use proxy_core::score::TICK_US;

use crate::supervise::Supervisor;

/// Scores for ever.
pub async fn keep_scored(supervisor: &Supervisor) -> Infallible {
    let bell = supervisor.scoring_bell();
    loop {
        bell.fall_asleep();
        match supervisor.score() {
            None => bell.rung().await,
            Some(next_us) if next_us <= TICK_US => {
                bell.stay_awake();
                tokio::time::sleep(Duration::from_micros(next_us)).await;
            }
            Some(next_us) => {
                let next = Duration::from_micros(next_us);
                // Whichever comes first: it is scored again.
                let _ = tokio::time::timeout(next, bell.rung()).await;
            }
        }
    }
}
