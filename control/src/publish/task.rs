//! The publisher's loop: look, write, signal, and look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use contract::{LocalAddresses, digest};
use tokio::sync::watch;

use super::confirm::Question;
use super::{Failure, Outcome, Sent, local_addresses};
use crate::observe::Proxy;
use crate::render::Plan;
use crate::shared::Shared;

/// How long changes that come together are waited for.
const COALESCE: Duration = Duration::from_millis(8);
/// How often figures alone refresh the file at most.
const REFRESH: Duration = Duration::from_secs(2);

/// What the file is known to say.
pub struct Published {
    pub plan: Plan,
    pub generation: u64,
    pub digest: String,
}

pub struct Task {
    pub shared: Arc<Shared>,
    pub proxy: Proxy,
    pub published: Option<Published>,
    pub outcome: watch::Sender<Outcome>,
    /// How many forced publishes have been asked for.
    pub force: Arc<AtomicU64>,
}

impl Task {
    pub async fn run(mut self) {
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
        let question = Question {
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
        let is_asked = |sent: &Arc<Sent>| sent.confirmation.borrow().is_none();
        if self.outcome.borrow().sent.as_ref().is_some_and(is_asked) {
            return;
        }
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
