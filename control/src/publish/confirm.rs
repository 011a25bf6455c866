//! Whether the proxy has applied what was published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::status::Running;
use tokio::sync::mpsc;

use super::digests::{OtherFile, Runs};
use super::refusals::Process;
use crate::observe::{Proxy, Unknown};
use crate::shared::Shared;

/// How long the proxy has to confirm.
const WAIT: Duration = Duration::from_secs(1);

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// `None` if unknown.
    pub applied: Option<bool>,
    /// Judged by the digest of what the proxy runs, not only by its generation.
    pub verified: bool,
    /// Why it is not applied, or unknown.
    pub reason: Option<String>,
    /// Measured from before the file was written.
    pub in_ms: Option<u64>,
}

/// What the proxy was last seen to run, and what was published then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The published generation at that time.
    pub generation: u64,
    pub applied: bool,
    pub verified: bool,
    pub reason: Option<String>,
    pub other_file: Option<OtherFile>,
    pub process: Process,
}

impl Seen {
    pub fn of(shared: &Shared, running: &Running, generation: u64) -> Seen {
        let runs = shared.digests().judge(running, generation);
        let still = running.generation;
        let refused = running
            .last_reload
            .as_ref()
            .filter(|reload| !reload.ok && reload.generation.is_none_or(|g| g >= generation));
        let seen = |applied, verified, reason| Seen {
            generation,
            applied,
            verified,
            reason,
            other_file: None,
            process: Process::of(running),
        };
        match runs {
            Runs::Published => seen(true, true, None),
            Runs::Unverified => seen(true, false, None),
            Runs::OtherFile(other) => Seen {
                other_file: Some(other.clone()),
                ..seen(false, true, Some(other.to_string()))
            },
            Runs::Unpublished => {
                let reason = format!(
                    "the proxy runs a configuration of generation {still} that control has not \
                     published"
                );
                seen(false, true, Some(reason))
            }
            Runs::Earlier => {
                let reason = match refused {
                    Some(reload) => format!(
                        "the proxy refused it and still runs generation {still}: {}",
                        reload.reason.as_deref().unwrap_or_default()
                    ),
                    None => format!("the proxy runs generation {still}"),
                };
                seen(false, running.config_digest.is_some(), Some(reason))
            }
        }
    }
}

/// One publish, to be asked about.
pub struct Question {
    pub shared: Arc<Shared>,
    pub proxy: Proxy,
    pub generation: u64,
    pub started: Instant,
    pub signal: Result<(), String>,
    /// A missing confirmation was logged, and no publish has been confirmed since.
    pub is_told: Arc<AtomicBool>,
    /// To the publisher, which follows the proxy's status.
    pub answers: mpsc::Sender<Answer>,
}

/// The proxy's answer about one publish; `None` if it gave none.
pub struct Answer {
    pub generation: u64,
    pub running: Option<Running>,
}

impl Question {
    pub async fn ask(self) -> Confirmation {
        let nothing = |applied, reason: String| Confirmation {
            applied,
            verified: false,
            reason: Some(reason),
            in_ms: None,
        };
        let mut answered = None;
        let confirmation = match &self.signal {
            Err(why) => nothing(Some(false), why.clone()),
            Ok(()) => match self.proxy.generation(self.generation, WAIT).await {
                Ok(running) => {
                    let confirmation = self.judge(&running);
                    answered = Some(running);
                    confirmation
                }
                Err(unknown @ Unknown::NoSocket { .. }) => nothing(None, unknown.to_string()),
                Err(unknown @ (Unknown::NoSuchCall { .. } | Unknown::Failed { .. })) => {
                    nothing(Some(false), unknown.to_string())
                }
            },
        };
        self.tell(&confirmation);
        let answer = Answer {
            generation: self.generation,
            running: answered,
        };
        // A publisher that has ended no longer follows anything.
        let _ = self.answers.send(answer).await;
        confirmation
    }

    fn judge(&self, running: &Running) -> Confirmation {
        let seen = Seen::of(&self.shared, running, self.generation);
        let in_ms = self.started.elapsed().as_millis() as u64;
        let is_refused = running.last_reload.as_ref().is_some_and(|last| !last.ok);
        let reason = match seen.reason {
            Some(runs) if seen.other_file.is_none() && !is_refused => {
                Some(format!("no confirmation within {WAIT:?}: {runs}"))
            }
            reason => reason,
        };
        Confirmation {
            applied: Some(seen.applied),
            verified: seen.verified,
            reason,
            in_ms: seen.applied.then_some(in_ms),
        }
    }

    fn tell(&self, confirmation: &Confirmation) {
        let generation = self.generation;
        let at_ms = self.shared.clock.now().unix_ms;
        {
            let marks = &mut self.shared.series().marks;
            match (confirmation.applied, &confirmation.reason) {
                (Some(true), _) => marks.applied(at_ms, generation),
                (Some(false), Some(reason)) => marks.refused(at_ms, generation, reason),
                (Some(false) | None, _) => {}
            }
        }
        let result = match (confirmation.applied, &confirmation.reason) {
            (Some(true), _) => {
                let in_ms = confirmation.in_ms.unwrap_or_default();
                tracing::info!("applied generation={generation} in_ms={in_ms}");
                self.is_told.store(false, Ordering::Relaxed);
                "applied".to_owned()
            }
            (applied, reason) => {
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    let reason = reason.as_deref().unwrap_or_default();
                    tracing::warn!("not confirmed generation={generation}: {reason}");
                }
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
