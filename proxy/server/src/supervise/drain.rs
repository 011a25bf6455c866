//! The end of the process: no new sessions, then none at all.

use std::sync::PoisonError;
use std::time::Duration;

use proxy_core::plan::{Endpoint, Protocol};
use proxy_engine::Command;

use super::Supervisor;

impl Supervisor {
    /// Takes no new sessions and flows, and returns once the open ones have ended or the drain
    /// deadline has passed.
    pub async fn drain(&self) {
        const POLL: Duration = Duration::from_millis(20);
        let (open, timeout) = {
            let mut state = self.state();
            state.is_draining = true;
            let open = state.listeners.take_all();
            (open, state.config.process.drain_timeout())
        };
        let end = |endpoint: &Endpoint| match endpoint.protocol {
            Protocol::Tcp => Command::Close(*endpoint),
            Protocol::Udp => Command::Retire(*endpoint),
        };
        let end = || open.iter().map(end).collect();
        let all_ended = async {
            self.workers.tell_all(end).await;
            // Who waits to be accepted is, in the turn that closes the listener; only then is it
            // known that nothing is in flight.
            self.reach_workers().await;
            while self.in_flight() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(timeout, all_ended).await.is_err() {
            tracing::warn!("drain deadline passed open={}", self.in_flight());
        }
    }

    fn in_flight(&self) -> u64 {
        let of_workers = self.counters().map(|counters| counters.all.in_flight());
        of_workers.sum()
    }

    /// Returns once every worker has turned.
    pub async fn reach_workers(&self) {
        self.workers.tell_all(Vec::new).await;
    }

    /// Ends every session and flow, and the workers with them; returns when the last line of a session is
    /// written.
    pub async fn stop(&self) {
        self.workers.stop().await;
        let lines = self.session_lines.lock();
        if let Some(lines) = lines.unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has nothing more to write.
            let _ = lines.join();
        }
    }
}
