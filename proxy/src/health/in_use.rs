//! Says in the log when the configuration leaves no backend for new sessions or flows, and when it does
//! again: every backend is fine then, and no alarm about health is raised.

use contract::Config;
use proxy_core::health::PROTOCOLS;
use proxy_core::plan::Protocol;
use proxy_core::snapshot::Snapshot;

use super::words;

/// For TCP and for UDP, whether no backend is in use. Only what a listener takes is missed.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoneInUse([bool; 2]);

impl NoneInUse {
    /// Takes note of `config` and the snapshot made of it, and logs what has changed.
    pub fn update(&mut self, config: &Config, snapshot: &Snapshot) {
        for (protocol, was) in PROTOCOLS.into_iter().zip(&mut self.0) {
            let is_taken = config.listeners.iter().any(|listener| match protocol {
                Protocol::Tcp => listener.tcp,
                Protocol::Udp => listener.udp,
            });
            let mut pools = snapshot.pools.iter();
            let is = is_taken && pools.all(|pool| pool.health(protocol).ready == 0);
            let what = words::new_work(protocol);
            match (*was, is) {
                (false, true) => {
                    let count: usize = snapshot.pools.iter().map(|pool| pool.len()).sum();
                    tracing::warn!(
                        "no backend in use protocol={} configured={count}: new {what} are refused; \
                         enable a backend or give it a weight",
                        protocol.word()
                    );
                }
                (true, false) if is_taken => tracing::info!(
                    "a backend is in use again protocol={}: new {what} are served",
                    protocol.word()
                ),
                (true, true) | (false, false) | (true, false) => {}
            }
            *was = is;
        }
    }
}
