//! The publisher's loop: look, write, signal, and look again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use contract::config::MAX_FILE_BYTES;
use contract::reload::{NotSent, send_sighup};
use contract::{LocalAddresses, digest};
use tokio::sync::watch;

use super::confirm::Question;
use super::{Failure, Outcome, Published, Sent, local_addresses};
use crate::observe::{Proxy, Unknown};
use crate::render::{OwnAddresses, Plan};
use crate::settings::read_file;
use crate::shared::Shared;

/// How long changes that come together are waited for.
const COALESCE: Duration = Duration::from_millis(8);
/// How often figures alone refresh the file at most.
const REFRESH: Duration = Duration::from_secs(2);

pub struct Task {
    pub shared: Arc<Shared>,
    pub proxy: Proxy,
    pub published: Option<Published>,
    pub outcome: watch::Sender<Outcome>,
    /// How many forced publishes have been asked for.
    pub force: Arc<AtomicU64>,
}

/// What the model asks for.
struct Wanted {
    revision: u64,
    plan: Plan,
    listen: SocketAddr,
    own: OwnAddresses,
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
        let mut live = self.shared.watch_live();
        self.reconcile().await;
        loop {
            tokio::select! {
                Ok(()) = live.changed() => verify = self.shared.live().auto_sync(),
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
    pub async fn reconcile(&mut self) {
        let forced = self.force.load(Ordering::Relaxed);
        self.shared.model().own.local = LocalAddresses(local_addresses());
        let Wanted {
            revision,
            plan,
            listen,
            own,
        } = self.wanted();
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
                outcome.left_out.clear();
                outcome.failure = Some(Failure::Refused(faults.to_string()));
            }
        }
        outcome.revision = revision;
        outcome.forced = forced;
        outcome.generation = self.published.as_ref().map(|p| p.generation);
        outcome.updated_at = self.published.as_ref().and_then(|p| p.updated_at);
        self.outcome.send_replace(outcome);
    }

    fn wanted(&self) -> Wanted {
        let model = self.shared.model();
        Wanted {
            revision: model.revision,
            plan: model.plan(&model.rows()),
            listen: model.settings().listen(),
            own: model.own.clone(),
        }
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
        let current = self.published.as_ref().map_or(0, |p| p.generation);
        let generation = match is_same {
            true => current,
            false => current.max(seen) + 1,
        };
        let started = Instant::now();
        if let Err(failure) = self.write(plan, generation).await {
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
        let told = self.tell_proxy().await;
        outcome.failure = None;
        let (signalled, info) = match &told {
            Ok(way) => (true, way.clone()),
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
            signal: told.map(drop),
        };
        tokio::spawn(async move {
            let confirmation = question.ask().await;
            sender.send_replace(Some(confirmation));
        });
    }

    /// Writes the file; what is published is then known to be `plan`.
    async fn write(&mut self, plan: Plan, generation: u64) -> Result<(), Failure> {
        let updated_at = self.shared.clock.now().unix_s();
        let bytes = plan.render(generation, updated_at);
        let digest = digest(&bytes);
        // Figures that come from here on are not in these bytes.
        self.shared.telemetry_dirty.store(false, Ordering::Relaxed);
        let path = self.shared.settings.proxy_config_path.clone();
        let written = tokio::task::spawn_blocking(move || {
            contract::publish(&path, &bytes).map_err(|error| Failure::Write {
                path,
                error: Arc::new(error),
            })
        });
        let written = written.await.expect("publishing a file does not panic");
        let counters = &self.shared.counters;
        match &written {
            Ok(()) => {
                counters.published.fetch_add(1, Ordering::Relaxed);
                self.published = Some(Published {
                    plan,
                    generation,
                    digest,
                    updated_at: Some(updated_at),
                });
            }
            Err(_) => _ = counters.publish_failures.fetch_add(1, Ordering::Relaxed),
        }
        written
    }

    /// Has the proxy read its file: by a signal, or over its admin socket where none can be sent, as
    /// to another user's process or one of another container. Says which way, or why neither.
    async fn tell_proxy(&self) -> Result<String, String> {
        let not_sent = match self.signal().await {
            Ok(pid) => return Ok(format!("sent SIGHUP to pid={pid}")),
            Err(not_sent) => not_sent,
        };
        match self.proxy.reload().await {
            Ok(running) => {
                let counters = &self.shared.counters;
                counters.reloads_asked.fetch_add(1, Ordering::Relaxed);
                let pid = running.pid;
                Ok(format!(
                    "asked for a reload over proxy.sock, pid={pid}; no signal: {not_sent}"
                ))
            }
            // An ordinary case: there is just nobody.
            Err(Unknown::NoSocket { .. }) => Err(not_sent.to_string()),
            Err(unknown @ Unknown::Failed { .. }) => Err(format!("{not_sent}; {unknown}")),
        }
    }

    async fn signal(&self) -> Result<i32, NotSent> {
        let settings = &self.shared.settings;
        let pid_file = settings.proxy_pid_path.clone();
        let names = self.shared.live().proxy_process_names.clone();
        let signal = tokio::task::spawn_blocking(move || send_sighup(&pid_file, &names));
        let signal = signal.await.expect("signalling does not panic");
        let counters = &self.shared.counters;
        let counter = match &signal {
            Ok(_) => &counters.signals,
            Err(_) => &counters.signal_failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        signal
    }

    /// Brings new figures into the file under the same generation.
    pub async fn refresh(&mut self) {
        if !self.shared.telemetry_dirty.load(Ordering::Relaxed) {
            return;
        }
        let wanted = self.wanted();
        let Some(published) = &self.published else {
            return;
        };
        let generation = published.generation;
        let plan = match wanted.plan.fit(wanted.listen, &wanted.own) {
            // A changed state comes with a bell of its own.
            Ok((plan, _)) if published.plan.has_same_state(&plan) => plan,
            Ok(_) | Err(_) => return,
        };
        if let Err(failure) = self.write(plan, generation).await {
            self.shared.telemetry_dirty.store(true, Ordering::Relaxed);
            tracing::debug!("figures not written: {failure}");
            return;
        }
        let updated_at = self.published.as_ref().and_then(|p| p.updated_at);
        self.outcome
            .send_modify(|outcome| outcome.updated_at = updated_at);
        // A proxy that takes no reports learns of figures only by reading the file.
        if self.shared.reports_undelivered.load(Ordering::Relaxed) {
            let told = self.tell_proxy().await;
            tracing::debug!("figures written: {told:?}");
        }
    }

    /// Looks whether the file is still ours and the proxy runs it; puts right what is not.
    pub async fn verify(&mut self) {
        let path = self.shared.settings.proxy_config_path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(&path, MAX_FILE_BYTES)).await;
        let found = read.expect("reading a file does not panic");
        if let Some(published) = &self.published {
            let is_ours = matches!(&found, Ok(Some(bytes)) if digest(bytes) == published.digest);
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
    async fn signal_again(&self) {
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
        let told = self.tell_proxy().await;
        let (ours, theirs) = (published.generation, running.generation);
        tracing::warn!("the proxy runs generation {theirs}, published is {ours}: {told:?}");
    }
}
