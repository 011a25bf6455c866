//! Whether the proxy has applied what was published.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use contract::status::Running;

use crate::observe::{Proxy, Unknown};
use crate::shared::Shared;

/// How long the proxy has to confirm.
const WAIT: Duration = Duration::from_secs(1);

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `None` where it cannot be known.
    pub applied: Option<bool>,
    /// Why it is not, or not known.
    pub reason: Option<String>,
    /// From before the file was written.
    pub in_ms: Option<u64>,
}

/// One publish, to be asked about.
pub struct Question {
    pub shared: Arc<Shared>,
    pub proxy: Proxy,
    pub generation: u64,
    pub started: Instant,
    pub signal: Result<(), String>,
}

impl Question {
    pub async fn ask(self) -> Confirmation {
        let not_applied = |reason: String| Confirmation {
            applied: Some(false),
            reason: Some(reason),
            in_ms: None,
        };
        let confirmation = match &self.signal {
            Err(why) => not_applied(why.clone()),
            Ok(()) => match self.proxy.generation(self.generation, WAIT).await {
                Ok(running) => self.judge(running),
                Err(unknown @ Unknown::NoSocket { .. }) => Confirmation {
                    applied: None,
                    reason: Some(unknown.to_string()),
                    in_ms: None,
                },
                Err(unknown @ Unknown::Failed { .. }) => not_applied(unknown.to_string()),
            },
        };
        self.tell(&confirmation);
        confirmation
    }

    fn judge(&self, running: Running) -> Confirmation {
        let seen = &self.shared.seen_generation;
        seen.fetch_max(running.generation, Ordering::Relaxed);
        if running.generation >= self.generation {
            return Confirmation {
                applied: Some(true),
                reason: None,
                in_ms: Some(self.started.elapsed().as_millis() as u64),
            };
        }
        let refused = running
            .last_reload
            .filter(|reload| !reload.ok && reload.generation.is_none_or(|g| g >= self.generation));
        let still = running.generation;
        let reason = match refused {
            Some(reload) => format!(
                "the proxy refused it and still runs generation {still}: {}",
                reload.reason.unwrap_or_default()
            ),
            None => format!("no confirmation within {WAIT:?}: the proxy runs generation {still}"),
        };
        Confirmation {
            applied: Some(false),
            reason: Some(reason),
            in_ms: None,
        }
    }

    fn tell(&self, confirmation: &Confirmation) {
        let generation = self.generation;
        let result = match (confirmation.applied, &confirmation.reason) {
            (Some(true), _) => {
                let in_ms = confirmation.in_ms.unwrap_or_default();
                tracing::info!("applied generation={generation} in_ms={in_ms}");
                "applied".to_owned()
            }
            (applied, reason) => {
                if applied == Some(false) {
                    let counters = &self.shared.counters;
                    counters.not_applied.fetch_add(1, Ordering::Relaxed);
                }
                reason.clone().unwrap_or_default()
            }
        };
        let target = format!("generation {generation}");
        self.shared
            .audit_own("publisher", "publish", &target, &result);
    }
}
