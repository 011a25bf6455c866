//! The publisher: makes the file, and through it the proxy, follow the model.
//!
//! A reconciler whose only input is a bell, so that a start, a change and a retry take the same path. A changed
//! state is published at once under a new generation and signalled; load figures refresh the file at most every
//! two seconds, without either. It is the file's only writer. A value that the proxy refuses keeps its last
//! accepted value ([`refusals`]), and everything else is published.

pub mod accepted;
mod confirm;
mod digests;
mod follow;
mod kept_file;
mod refusals;
pub mod sources;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use api::Reload;
use contract::publish::PublishError;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::observe::Proxy;
use crate::render::{Head, LeftOut, Plan};
use crate::shared::Shared;

pub use confirm::{Confirmation, Seen};
pub use digests::{Digests, end_of};
pub use follow::refused_by_control;
pub use kept_file::beside;
pub use refusals::Incident;
pub use task::Task;

/// How long an answer waits for its change to be published.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer waits beyond the proxy's own time-out.
const CONFIRM_PATIENCE: Duration = Duration::from_millis(1_500);
/// So many registrations may wait until they are published; more are answered once they are stored. Fewer than
/// an ordinary number of clients of one program (64), so that a fleet that comes at once is not slowed down by
/// each publish of thousands of backends.
const CROWD: usize = 32;

/// The known content of the file.
#[derive(Debug)]
pub struct Published {
    pub plan: Plan,
    pub generation: u64,
    pub digest: String,
    /// [`config_digest`](contract::config_digest()) of the same.
    pub config_digest: String,
    /// Unix seconds, if the file has them.
    pub updated_at: Option<u64>,
}

/// The content of the publisher's files at a start.
#[derive(Debug, Default)]
pub struct Found {
    /// The published file, if there is a valid one.
    pub published: Option<Published>,
    /// The head that the proxy was last seen to run, if ever.
    pub accepted: Option<Head>,
    /// Where the published backends came from.
    pub sources: sources::SourcesOf,
}

/// How far the publisher has come.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The model's revision that has been dealt with.
    revision: u64,
    /// How many forced publishes have been dealt with.
    forced: u64,
    pub failure: Option<Failure>,
    /// The last publish with a signal.
    pub sent: Option<Arc<Sent>>,
    pub left_out: Vec<LeftOut>,
    pub merged_count: usize,
    /// Of the published file; Unix seconds.
    pub updated_at: Option<u64>,
    pub generation: Option<u64>,
    /// The wanted parts that the proxy refuses.
    pub incidents: Arc<Vec<Incident>>,
    /// What the proxy was last seen to run; `None` if it did not answer.
    pub seen: Option<Seen>,
    /// Why the proxy, which answered before, no longer answers.
    pub silent: Option<String>,
    /// The publisher has processed the proxy's answer about this generation.
    followed: u64,
}

impl Outcome {
    /// Whether the proxy runs what is published; `None` if unknown, or not known yet.
    pub fn applied(&self) -> Option<bool> {
        let sent = self.sent.as_ref();
        let confirmed = sent.and_then(|sent| sent.confirmation.borrow().as_ref()?.applied);
        // What was last seen outlives a publish, and shows what has changed since.
        let is_asked = sent.is_some() && confirmed.is_none();
        match self.seen_of_published() {
            Some(seen) if !is_asked => Some(seen.applied),
            Some(_) | None => confirmed,
        }
    }

    /// What the proxy was last seen to run, if this was for the present publish.
    pub fn seen_of_published(&self) -> Option<&Seen> {
        let seen = self.seen.as_ref();
        seen.filter(|seen| Some(seen.generation) == self.generation)
    }
}

/// Why the last attempt to publish failed; it is retried.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error("{path} cannot be written: {error}")]
    Write {
        path: PathBuf,
        error: Arc<PublishError>,
    },
    #[error("the proxy would refuse it: {0}")]
    Refused(String),
    #[error("not published in time")]
    Slow,
}

/// One publish that was signalled, or should have been.
#[derive(Debug)]
pub struct Sent {
    pub revision: u64,
    forced: u64,
    pub generation: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    pub signalled: bool,
    pub info: String,
    pub confirmation: watch::Receiver<Option<Confirmation>>,
}

/// The handle of the publisher for other tasks.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    outcome: watch::Receiver<Outcome>,
    force: Arc<AtomicU64>,
    /// How many registrations wait until they are published.
    crowd: Arc<AtomicUsize>,
}

impl Publisher {
    /// Starts the publisher; `found` is the content of its files at the start.
    pub fn start(shared: Arc<Shared>, proxy: Proxy, found: Found) -> Publisher {
        let (sender, outcome) = watch::channel(Outcome::default());
        let force = Arc::new(AtomicU64::new(0));
        let task = Task::new(shared.clone(), proxy, found, sender, force.clone());
        let crowd = Arc::new(AtomicUsize::new(0));
        tokio::spawn(task.run(crowd.clone()));
        Publisher {
            shared,
            outcome,
            force,
            crowd,
        }
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome.borrow().clone()
    }

    /// Waits until the first publish has been tried, with whatever result; false if that takes longer than
    /// `patience`.
    pub async fn has_tried(&self, patience: Duration) -> bool {
        let mut outcome = self.outcome.clone();
        // The model's first revision is 1.
        let tried = outcome.wait_for(|outcome| outcome.revision > 0);
        tokio::time::timeout(patience, tried).await.is_ok()
    }

    /// For callers that wait for the next outcome.
    pub fn outcomes(&self) -> watch::Receiver<Outcome> {
        self.outcome.clone()
    }

    /// Publishes and signals even if nothing has changed, and waits for it.
    pub async fn force(&self) -> Settled {
        let ticket = self.force.fetch_add(1, Ordering::Relaxed) + 1;
        let revision = self.shared.model().revision;
        self.shared.state_changed.notify_one();
        self.settle(revision, ticket).await
    }

    /// Waits until `revision` is published and, if it was signalled, confirmed.
    pub async fn settled(&self, revision: u64) -> Settled {
        self.settle(revision, 0).await
    }

    /// The same for a registration, which does not wait in a crowd: thousands that come at once are published
    /// together, and none of them is held up by that.
    pub async fn settled_unless_crowded(&self, revision: u64) -> Settled {
        let place = Place::take(&self.crowd);
        match place.is_in_crowd {
            true => Settled {
                is_batched: true,
                ..Settled::at_once(self)
            },
            false => self.settled(revision).await,
        }
    }

    async fn settle(&self, revision: u64, forced: u64) -> Settled {
        let mut outcome = self.outcome.clone();
        let reached =
            outcome.wait_for(|outcome| outcome.revision >= revision && outcome.forced >= forced);
        let outcome = match tokio::time::timeout(PUBLISH_PATIENCE, reached).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) | Err(_) => {
                return Settled {
                    outcome: Outcome {
                        failure: Some(Failure::Slow),
                        ..self.outcome()
                    },
                    sent: None,
                    confirmation: None,
                    is_batched: false,
                };
            }
        };
        let concerns = |sent: &&Arc<Sent>| sent.revision >= revision && sent.forced >= forced;
        let mut settled = Settled {
            sent: outcome.sent.as_ref().filter(concerns).cloned(),
            outcome,
            confirmation: None,
            is_batched: false,
        };
        let deadline = tokio::time::Instant::now() + CONFIRM_PATIENCE;
        // What the proxy refuses is published again with what it accepted, so the last one counts.
        while let Some(sent) = settled.sent.clone() {
            settled.confirmation = None;
            if settled.outcome.failure.is_some() {
                break;
            }
            let mut receiver = sent.confirmation.clone();
            let followed = async {
                let confirmed = receiver.wait_for(Option::is_some).await.ok()?.clone();
                let done = |outcome: &Outcome| outcome.followed >= sent.generation;
                Some((
                    confirmed,
                    outcome_of(&mut self.outcome.clone(), done).await?,
                ))
            };
            let Ok(Some((confirmed, outcome))) = tokio::time::timeout_at(deadline, followed).await
            else {
                settled.confirmation = sent.confirmation.borrow().clone();
                break;
            };
            settled.confirmation = confirmed;
            settled.outcome = outcome;
            let newer = settled.outcome.sent.as_ref();
            match newer.filter(|newer| newer.generation > sent.generation) {
                Some(newer) => settled.sent = Some(newer.clone()),
                None => break,
            }
        }
        settled
    }
}

/// The place of one registration among those that wait.
struct Place<'a> {
    crowd: &'a AtomicUsize,
    is_in_crowd: bool,
}

impl Place<'_> {
    fn take(crowd: &AtomicUsize) -> Place<'_> {
        let is_in_crowd = crowd.fetch_add(1, Ordering::Relaxed) >= CROWD;
        Place { crowd, is_in_crowd }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.crowd.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn outcome_of(
    outcome: &mut watch::Receiver<Outcome>,
    done: impl FnMut(&Outcome) -> bool,
) -> Option<Outcome> {
    let reached = outcome.wait_for(done).await;
    reached.ok().map(|outcome| outcome.clone())
}

/// The result of a change, for its answer.
pub struct Settled {
    pub outcome: Outcome,
    /// The publish that carried it; `None` if nothing had to be published.
    sent: Option<Arc<Sent>>,
    confirmation: Option<Confirmation>,
    /// The caller does not wait until it is published.
    is_batched: bool,
}

impl Settled {
    /// The current state, for an answer that does not wait.
    pub fn at_once(publisher: &Publisher) -> Settled {
        Settled {
            outcome: publisher.outcome(),
            sent: None,
            confirmation: None,
            is_batched: false,
        }
    }

    /// The `reload` part of an answer.
    pub fn reload(&self) -> Reload {
        let generation = self.outcome.generation;
        let not_sent = |is_sent: Option<bool>, info: &str, reason: Option<String>| Reload {
            ok: is_sent,
            info: info.to_owned(),
            applied: is_sent,
            verified: false,
            generation,
            applied_in_ms: None,
            reason,
        };
        if let Some(failure) = &self.outcome.failure {
            let reason = failure.to_string();
            return not_sent(Some(false), "no signal was sent", Some(reason));
        }
        if self.is_batched {
            let info = "stored; it will be published together with other registrations";
            return not_sent(None, info, Some("batched".to_owned()));
        }
        let Some(sent) = &self.sent else {
            let info = "no reload needed: no backend or setting has changed";
            return not_sent(None, info, None);
        };
        let unknown = Confirmation {
            applied: Some(false),
            verified: false,
            reason: Some("the proxy did not confirm in time".to_owned()),
            in_ms: None,
        };
        let confirmation = self.confirmation.as_ref().unwrap_or(&unknown);
        Reload {
            ok: Some(sent.signalled),
            info: sent.info.clone(),
            applied: confirmation.applied,
            verified: confirmation.verified,
            generation: Some(sent.generation),
            applied_in_ms: confirmation.in_ms,
            reason: confirmation.reason.clone(),
        }
    }

    pub fn was_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// Refusals that concern these keys and values.
    pub fn refused(&self, asked: &Map<String, Value>) -> Vec<Incident> {
        let incidents = self.outcome.incidents.iter();
        let refused = incidents.filter(|incident| {
            let mut asked = asked.iter();
            asked.any(|(key, value)| incident.refuses(key, value))
        });
        refused.cloned().collect()
    }
}
