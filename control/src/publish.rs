//! The publisher: brings the file, and through it the proxy, to what the model says.
//!
//! A reconciler: it takes no input but a bell, so that a start, a change and a retry are the same
//! path. A changed state is published at once under a new generation and signalled; figures alone
//! refresh the file every two seconds at most, without either. It is the file's only writer.

mod confirm;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use contract::{LocalAddresses, digest};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::observe::Proxy;
use crate::render::{LeftOut, Plan};
use crate::shared::Shared;

pub use confirm::Confirmation;

/// How long changes that come together are waited for.
const COALESCE: Duration = Duration::from_millis(8);
/// How often figures alone refresh the file at most.
const REFRESH: Duration = Duration::from_secs(2);
/// How long an answer waits for its change to be published.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer waits beyond the proxy's own time-out.
const CONFIRM_PATIENCE: Duration = Duration::from_millis(1_500);

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
}

/// Why the last attempt to publish failed; it is tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    #[error("{path} cannot be written: {error}")]
    Write {
        path: PathBuf,
        error: Arc<std::io::Error>,
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

/// What others hold of the publisher.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    outcome: watch::Receiver<Outcome>,
    force: Arc<AtomicU64>,
}

struct Published {
    plan: Plan,
    generation: u64,
    digest: String,
}

struct Task {
    shared: Arc<Shared>,
    proxy: Proxy,
    published: Option<Published>,
    outcome: watch::Sender<Outcome>,
    force: Arc<AtomicU64>,
}

impl Publisher {
    /// Starts the publisher; `published` is what the file said at the start.
    pub fn start(
        shared: Arc<Shared>,
        proxy: Proxy,
        published: Option<(Plan, u64, String)>,
    ) -> Publisher {
        let (sender, outcome) = watch::channel(Outcome::default());
        let force = Arc::new(AtomicU64::new(0));
        let published = published.map(|(plan, generation, digest)| Published {
            plan,
            generation,
            digest,
        });
        let task = Task {
            shared: shared.clone(),
            proxy,
            published,
            outcome: sender,
            force: force.clone(),
        };
        tokio::spawn(task.run());
        Publisher {
            shared,
            outcome,
            force,
        }
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome.borrow().clone()
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
                };
            }
        };
        let concerns = |sent: &&Arc<Sent>| sent.revision >= revision && sent.forced >= forced;
        let sent = outcome.sent.as_ref().filter(concerns).cloned();
        let mut confirmation = None;
        if let (Some(sent), None) = (&sent, &outcome.failure) {
            let mut receiver = sent.confirmation.clone();
            let confirmed = receiver.wait_for(Option::is_some);
            if let Ok(Ok(confirmed)) = tokio::time::timeout(CONFIRM_PATIENCE, confirmed).await {
                confirmation = confirmed.clone();
            }
        }
        Settled {
            outcome,
            sent,
            confirmation,
        }
    }
}

/// What became of a change, for its answer.
pub struct Settled {
    pub outcome: Outcome,
    /// The publish that carried it; `None` where nothing had to be published.
    sent: Option<Arc<Sent>>,
    confirmation: Option<Confirmation>,
}

impl Settled {
    /// What stands, for an answer that waits for nothing.
    pub fn at_once(publisher: &Publisher) -> Settled {
        Settled {
            outcome: publisher.outcome(),
            sent: None,
            confirmation: None,
        }
    }

    /// The `reload` part of an answer.
    pub fn reload_json(&self) -> Value {
        let Some(sent) = &self.sent else {
            return json!({
                "ok": null, "info": "no reload needed: nothing but figures can have changed",
                "applied": null, "generation": self.outcome.generation, "applied_in_ms": null,
                "reason": null,
            });
        };
        let unknown = Confirmation {
            applied: Some(false),
            reason: Some("no confirmation in time".to_owned()),
            in_ms: None,
        };
        let confirmation = self.confirmation.as_ref().unwrap_or(&unknown);
        json!({
            "ok": sent.signalled, "info": sent.info, "applied": confirmation.applied,
            "generation": sent.generation, "applied_in_ms": confirmation.in_ms,
            "reason": confirmation.reason,
        })
    }

    pub fn was_sent(&self) -> bool {
        self.sent.is_some()
    }
}

impl Task {
    async fn run(mut self) {
        let interval = Duration::from_secs(self.shared.settings.auto_sync_interval_s);
        let mut verify = tokio::time::interval(interval);
        let mut refresh = tokio::time::interval(REFRESH);
        for timer in [&mut verify, &mut refresh] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            timer.tick().await;
        }
        self.reconcile().await;
        loop {
            tokio::select! {
                () = self.shared.state_changed.notified() => {
                    tokio::time::sleep(COALESCE).await;
                    self.reconcile().await;
                }
                _ = refresh.tick() => self.refresh().await,
                _ = verify.tick() => self.verify().await,
            }
        }
    }

    /// Publishes the model if its state is not what is published, or if somebody insists.
    async fn reconcile(&mut self) {
        let forced = self.force.load(Ordering::Relaxed);
        let local = LocalAddresses(local_addresses());
        let (revision, plan, listen, own) = {
            let mut model = self.shared.model();
            model.own.local = local;
            let rows = model.rows();
            let plan = model.plan(&rows);
            let listen = model.settings().listen();
            (model.revision, plan, listen, model.own.clone())
        };
        let mut outcome = self.outcome.borrow().clone();
        outcome.merged_count = plan.backends.len();
        let is_forced = forced > outcome.forced;
        match plan.fit(listen, &own) {
            Ok((plan, left_out)) => {
                for out in left_out
                    .iter()
                    .filter(|out| !outcome.left_out.contains(out))
                {
                    tracing::warn!("left out of the configuration: {}: {}", out.addr, out.why);
                }
                outcome.left_out = left_out;
                let published = self.published.as_ref();
                let is_same =
                    published.is_some_and(|published| published.plan.has_same_state(&plan));
                if !is_same || is_forced {
                    self.publish(plan, is_same, &mut outcome, revision, forced)
                        .await;
                } else {
                    outcome.failure = None;
                }
            }
            Err(faults) => {
                tracing::error!("not published: {faults}");
                outcome.failure = Some(Failure::Refused(faults.to_string()));
            }
        }
        outcome.revision = revision;
        outcome.forced = forced;
        outcome.generation = self
            .published
            .as_ref()
            .map(|published| published.generation);
        self.outcome.send_replace(outcome);
    }

    async fn publish(
        &mut self,
        plan: Plan,
        is_same: bool,
        outcome: &mut Outcome,
        revision: u64,
        forced: u64,
    ) {
        let seen = self.shared.seen_generation.load(Ordering::Relaxed);
        let current = self
            .published
            .as_ref()
            .map_or(0, |published| published.generation);
        let generation = if is_same {
            current
        } else {
            current.max(seen) + 1
        };
        let started = Instant::now();
        let signal = match self.write(plan, generation, true, outcome).await {
            Ok(signal) => signal.expect("a signal was asked for"),
            Err(failure) => {
                // Told once, while it lasts.
                if outcome.failure.is_none() {
                    tracing::error!("not published: {failure}; tried again");
                    let target = self.shared.settings.proxy_config_path.display().to_string();
                    self.shared
                        .audit_own("publisher", "publish", &target, &failure.to_string());
                }
                outcome.failure = Some(failure);
                return;
            }
        };
        outcome.failure = None;
        let (signalled, info) = match &signal {
            Ok(pid) => (true, format!("sent SIGHUP to pid={pid}")),
            Err(why) => (false, why.clone()),
        };
        let backends = outcome.merged_count - outcome.left_out.len();
        tracing::info!("published generation={generation} backends={backends}: {info}");
        let (sender, confirmation) = watch::channel(None);
        outcome.sent = Some(Arc::new(Sent {
            revision,
            forced,
            generation,
            at_ms: self.shared.clock.now().unix_ms,
            signalled,
            info,
            confirmation,
        }));
        let question = confirm::Question {
            shared: self.shared.clone(),
            proxy: self.proxy.clone(),
            generation,
            started,
            signal: signal.map(drop),
        };
        tokio::spawn(async move {
            let confirmation = question.ask().await;
            sender.send_replace(Some(confirmation));
        });
    }

    /// Writes the file, and signals if asked; what is published is then known to be `plan`.
    async fn write(
        &mut self,
        plan: Plan,
        generation: u64,
        with_signal: bool,
        outcome: &mut Outcome,
    ) -> Result<Option<Result<i32, String>>, Failure> {
        use Ordering::Relaxed;
        let updated_at = self.shared.clock.now().unix_s();
        let bytes = plan.render(generation, updated_at);
        let digest = digest(&bytes);
        let counters = &self.shared.counters;
        self.shared.telemetry_dirty.store(false, Relaxed);
        let settings = &self.shared.settings;
        let path = settings.proxy_config_path.clone();
        let (pid_file, names) = (
            settings.proxy_pid_path.clone(),
            settings.proxy_process_names.clone(),
        );
        // Both are system calls that a slow disk may hold up, and their order matters.
        let written = tokio::task::spawn_blocking(move || {
            contract::publish(&path, &bytes).map_err(|error| Failure::Write {
                path,
                error: Arc::new(error),
            })?;
            Ok(with_signal.then(|| {
                contract::reload::send_sighup(&pid_file, &names).map_err(|why| why.to_string())
            }))
        });
        let signal = written.await.expect("writing and signalling do not panic");
        match &signal {
            Ok(signal) => {
                counters.published.fetch_add(1, Relaxed);
                match signal {
                    Some(Ok(_)) => _ = counters.signals.fetch_add(1, Relaxed),
                    Some(Err(_)) => _ = counters.signal_failures.fetch_add(1, Relaxed),
                    None => {}
                }
                outcome.updated_at = Some(updated_at);
                self.published = Some(Published {
                    plan,
                    generation,
                    digest,
                });
            }
            Err(_) => _ = counters.publish_failures.fetch_add(1, Relaxed),
        }
        signal
    }

    /// Brings new figures into the file under the same generation.
    async fn refresh(&mut self) {
        if !self.shared.telemetry_dirty.load(Ordering::Relaxed) {
            return;
        }
        let (plan, listen, own) = {
            let model = self.shared.model();
            let rows = model.rows();
            (
                model.plan(&rows),
                model.settings().listen(),
                model.own.clone(),
            )
        };
        let Some(published) = &self.published else {
            return;
        };
        let generation = published.generation;
        let plan = match plan.fit(listen, &own) {
            // A changed state comes with a bell of its own.
            Ok((plan, _)) if published.plan.has_same_state(&plan) => plan,
            Ok(_) | Err(_) => return,
        };
        // A proxy that takes no reports learns of figures only by reading the file.
        let with_signal = self.shared.reports_undelivered.load(Ordering::Relaxed);
        let mut outcome = self.outcome.borrow().clone();
        match self
            .write(plan, generation, with_signal, &mut outcome)
            .await
        {
            Ok(_) => _ = self.outcome.send_replace(outcome),
            Err(failure) => {
                self.shared.telemetry_dirty.store(true, Ordering::Relaxed);
                tracing::debug!("figures not written: {failure}");
            }
        }
    }

    /// Looks whether the file is still ours and the proxy runs it; puts right what is not.
    async fn verify(&mut self) {
        let path = self.shared.settings.proxy_config_path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let found = read.expect("reading a file does not panic");
        if let Some(published) = &self.published {
            let is_ours = matches!(&found, Ok(bytes) if digest(bytes) == published.digest);
            if !is_ours {
                tracing::warn!("proxy_config.json was changed or removed by others; written anew");
                // Whatever was there may be running, so it is replaced under a new generation.
                let target = self.shared.settings.proxy_config_path.display().to_string();
                self.shared
                    .audit_own("publisher", "file_edit", &target, "written anew");
                let seen = &self.shared.seen_generation;
                seen.fetch_max(published.generation, Ordering::Relaxed);
                self.published = None;
            }
        }
        self.reconcile().await;
        self.signal_again().await;
    }

    /// A proxy that was starting, or lost a signal, gets another one.
    async fn signal_again(&mut self) {
        let Some(published) = &self.published else {
            return;
        };
        let Ok(running) = self.proxy.generation(0, Duration::ZERO).await else {
            return;
        };
        let tried = running
            .last_reload
            .as_ref()
            .and_then(|reload| reload.generation);
        if running.generation >= published.generation || tried == Some(published.generation) {
            return;
        }
        let settings = &self.shared.settings;
        let (pid_file, names) = (
            settings.proxy_pid_path.clone(),
            settings.proxy_process_names.clone(),
        );
        let signal =
            tokio::task::spawn_blocking(move || contract::reload::send_sighup(&pid_file, &names));
        let signal = signal.await.expect("signalling does not panic");
        let (ours, theirs) = (published.generation, running.generation);
        tracing::warn!(
            "the proxy runs generation {theirs}, published is {ours}; signal: {signal:?}"
        );
    }
}

/// The addresses of this host; none where they cannot be read.
pub fn local_addresses() -> Vec<std::net::IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(if_addrs::Interface::ip).collect()
}
