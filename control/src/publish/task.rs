//! The publisher's loop: look, write, signal, and look again.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use contract::config::MAX_FILE_BYTES;
use contract::reload::{NotSent, send_sighup};
use contract::{Faults, LocalAddresses, digest};
use tokio::sync::{mpsc, watch};

use super::accepted::AcceptedFile;
use super::confirm::{Answer, Question};
use super::digests::end_of;
use super::refusals::{Holds, Incident};
use super::sources::{self, SourcesFile, SourcesOf};
use super::{CROWD, Failure, Found, Outcome, Published, Sent};
use crate::bounded_read::read_file;
use crate::observe::{Proxy, Unknown};
use crate::own_addresses::{OwnAddresses, local_addresses};
use crate::render::{LeftOut, Plan};
use crate::shared::Shared;

/// How long to wait for further changes, to publish them together.
const COALESCE: Duration = Duration::from_millis(8);
/// While a crowd of registrations comes, publishing takes half of the time: as long as the last publish took is
/// waited for more of them, but no longer than this.
const MAX_REST: Duration = Duration::from_millis(500);
/// Shortest interval at which load figures refresh the file.
const REFRESH: Duration = Duration::from_secs(2);
/// How often this host's addresses are checked, and what the proxy runs.
const GLANCE: Duration = Duration::from_secs(1);
/// How many answers of the proxy wait for the publisher at most.
const ANSWERS: usize = 16;

pub struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) proxy: Proxy,
    pub(super) published: Option<Published>,
    pub(super) outcome: watch::Sender<Outcome>,
    /// How many forced publishes have been asked for.
    force: Arc<AtomicU64>,
    pub(super) holds: Holds,
    /// The incidents that were last logged and shown in answers.
    pub(super) told: Vec<Incident>,
    accepted: AcceptedFile,
    sources: SourcesFile,
    /// This host's, as last seen.
    local: Vec<IpAddr>,
    answers: mpsc::Sender<Answer>,
    answered: Option<mpsc::Receiver<Answer>>,
    /// A missing confirmation was logged, and no publish has been confirmed since.
    unconfirmed_is_told: Arc<AtomicBool>,
    /// How often the proxy was looked at since a generation that it does not run was published.
    pub(super) looks_in_vain: u32,
    /// How many looks the proxy has not answered in a row.
    pub(super) unheard: u32,
    pub(super) was_heard: bool,
}

/// [`Plan::fit`] outside the runtime's thread, which 20,000 backends would block.
async fn fit_apart(plan: Plan, own: OwnAddresses) -> Result<(Plan, Vec<LeftOut>), Faults> {
    tokio::task::spawn_blocking(move || plan.fit(&own))
        .await
        .expect("fitting a plan does not panic")
}

/// The configuration that the model wants.
pub(super) struct Wanted {
    pub revision: u64,
    pub plan: Plan,
    /// The sources of its backends.
    pub sources: SourcesOf,
    pub own: OwnAddresses,
}

impl Task {
    pub fn new(
        shared: Arc<Shared>,
        proxy: Proxy,
        found: Found,
        outcome: watch::Sender<Outcome>,
        force: Arc<AtomicU64>,
    ) -> Task {
        let Found {
            published,
            accepted,
            sources,
        } = found;
        let (answers, answered) = mpsc::channel(ANSWERS);
        if let Some(published) = &published {
            let digest = published.config_digest.clone();
            shared.digests().add(published.generation, digest);
        }
        let path = &shared.settings.settings_accepted_path;
        let file = AcceptedFile::at(path, accepted.clone());
        // What is published may not have been seen to run.
        let accepted = accepted.or_else(|| Some(published.as_ref()?.plan.head.clone()));
        Task {
            holds: Holds::new(accepted),
            told: Vec::new(),
            accepted: file,
            sources: SourcesFile::at(&shared.settings.published_sources_path, sources),
            shared,
            proxy,
            published,
            outcome,
            force,
            local: local_addresses(),
            answers,
            answered: Some(answered),
            unconfirmed_is_told: Arc::default(),
            looks_in_vain: 0,
            unheard: 0,
            was_heard: false,
        }
    }

    /// `crowd`: how many registrations wait.
    pub async fn run(mut self, crowd: Arc<AtomicUsize>) {
        let mut answered = self.answered.take().expect("it is run once");
        let interval = Duration::from_secs(self.shared.settings.auto_sync_interval_s);
        let mut verify = tokio::time::interval(interval);
        let mut refresh = tokio::time::interval(REFRESH);
        let mut glance = tokio::time::interval(GLANCE);
        for timer in [&mut verify, &mut refresh, &mut glance] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            timer.tick().await;
        }
        let mut live = self.shared.watch_live();
        self.begin().await;
        let mut took = Duration::ZERO;
        loop {
            tokio::select! {
                Ok(()) = live.changed() => verify = self.shared.live().auto_sync(),
                () = self.shared.state_changed.notified() => {
                    let rest = match crowd.load(Ordering::Relaxed) >= CROWD {
                        true => took.clamp(COALESCE, MAX_REST),
                        false => COALESCE,
                    };
                    tokio::time::sleep(rest).await;
                    let began = Instant::now();
                    self.reconcile().await;
                    took = began.elapsed();
                }
                _ = refresh.tick() => self.refresh().await,
                _ = verify.tick() => self.verify().await,
                _ = glance.tick() => {
                    self.look_at_addresses().await;
                    self.look().await;
                }
                Some(answer) = answered.recv() => self.follow(answer).await,
            }
        }
    }

    /// Publishes the model if its state differs from what is published, or if a caller insists.
    pub async fn reconcile(&mut self) {
        let forced = self.force.load(Ordering::Relaxed);
        let is_forced = forced > self.outcome.borrow().forced;
        if is_forced && !self.holds.incidents().is_empty() {
            self.try_again(true).await;
        }
        let mut wanted = self.wanted();
        // If the proxy refuses a new value, the one that it runs stays in force.
        if self.holds.accepted_head().is_none() && self.has_new_values(&wanted.plan) {
            self.hear().await;
            if let Some(published) = &self.published {
                self.holds.presume(&published.plan);
            }
            wanted = self.wanted();
        }
        let revision = wanted.revision;
        let count = wanted.plan.backends().count();
        let sources = std::mem::take(&mut wanted.sources);
        let fitted = self.fit(wanted).await;
        self.tell_incidents();
        let mut outcome = self.outcome.borrow().clone();
        outcome.merged_count = count;
        match fitted {
            Ok((plan, left_out)) => {
                for out in left_out
                    .iter()
                    .filter(|out| !outcome.left_out.contains(out))
                {
                    tracing::warn!("backend left out backend={}: {}", out.key, out.why);
                }
                outcome.left_out = left_out;
                let published = self.published.as_ref();
                // A refused file is replaced under a new generation, so that the end of the refusal is
                // recognized.
                let is_same = published
                    .is_some_and(|published| published.plan.has_same_state(&plan))
                    && !(is_forced && self.holds.has_refused_file());
                let now_s = self.shared.clock.now().unix_s();
                self.sources.keep_before(&sources, now_s).await;
                if !is_same || is_forced {
                    self.publish(plan, is_same, &mut outcome, revision, forced)
                        .await;
                } else {
                    outcome.failure = None;
                }
                if outcome.failure.is_none() {
                    self.sources.keep(sources, now_s).await;
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

    /// The part of it to publish: with accepted values for refused ones, and without the backends that the
    /// proxy would refuse. If keys have new values, the proxy is first asked whether it would accept them.
    async fn fit(&mut self, wanted: Wanted) -> Result<(Plan, Vec<LeftOut>), Faults> {
        let Wanted { plan, own, .. } = wanted;
        let (mut fitting, mut held) = self.holds.stand_in(plan.clone());
        // Without a replacement, as at a first start, the value is still published: the proxy may be
        // in another network, which control knows only once the proxy has started.
        if self.refuse_before(&fitting, &own) {
            (fitting, held) = self.holds.stand_in(plan.clone());
        }
        if self.has_new_values(&fitting) {
            self.ask_before(&fitting).await;
            (fitting, held) = self.holds.stand_in(plan);
        }
        let pools = fitting.pools.clone();
        let (plan, mut left_out) = match fit_apart(fitting, own.clone()).await {
            Ok(fitted) => fitted,
            // Accepted values of some keys may conflict with the wanted values of others.
            Err(faults) => {
                let head = self.holds.accepted_head().ok_or(faults)?;
                let accepted = Plan { head, pools };
                fit_apart(accepted, own).await?
            }
        };
        left_out.append(&mut held);
        Ok((plan, left_out))
    }

    fn has_new_values(&self, plan: &Plan) -> bool {
        let published = self.published.as_ref();
        published.is_some_and(|published| published.plan.head != plan.head)
    }

    pub(super) fn wanted(&self) -> Wanted {
        let mut model = self.shared.model();
        model.own.local = LocalAddresses(self.local.clone());
        let mut plan = model.plan(&model.rows());
        let unusable = model.unusable_listeners().into_iter();
        let unusable = unusable.map(|one| one.name);
        model.kept = match self.holds.accepted_head() {
            Some(accepted) => plan.keep_accepted(unusable, &accepted),
            None => Vec::new(),
        };
        let rows = model.rows();
        Wanted {
            revision: model.revision,
            plan,
            sources: sources::of_rows(&rows),
            own: model.own.clone(),
        }
    }

    /// An address that has come or gone may be one that was refused.
    async fn look_at_addresses(&mut self) {
        let local = local_addresses();
        if local == self.local {
            return;
        }
        self.local = local;
        self.try_again(false).await;
        self.reconcile().await;
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
            false => current.max(seen).saturating_add(1),
        };
        let started = Instant::now();
        // Kept before it is replaced, so that a crash in between loses nothing.
        self.keep_accepted().await;
        let now_s = self.shared.clock.now().unix_s();
        let head = plan.head.clone();
        self.accepted.prepare(head, generation, now_s).await;
        if let Err(failure) = self.write(plan, generation).await {
            // Logged once, while it lasts.
            if outcome.failure.is_none() {
                tracing::error!("not published: {failure}; retrying");
                let target = self.shared.settings.proxy_config_path.display().to_string();
                self.shared
                    .audit_own("publisher", "publish", &target, &failure.to_string());
            }
            outcome.failure = Some(failure);
            return;
        }
        // An earlier refusal does not concern this.
        let at_ms = self.shared.clock.now().unix_ms;
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
            at_ms,
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
            is_told: self.unconfirmed_is_told.clone(),
            answers: self.answers.clone(),
        };
        tokio::spawn(async move {
            let confirmation = question.ask().await;
            sender.send_replace(Some(confirmation));
        });
    }

    /// Stores what the proxy was last seen to run.
    pub(super) async fn keep_accepted(&mut self) {
        if let Some(head) = self.holds.accepted_head() {
            let generation = self.published.as_ref().map_or(0, |p| p.generation);
            let updated_at = self.shared.clock.now().unix_s();
            self.accepted.keep(head, generation, updated_at).await;
        }
    }

    /// Writes the file; what is published is then known to be `plan`.
    async fn write(&mut self, plan: Plan, generation: u64) -> Result<(), Failure> {
        let updated_at = self.shared.clock.now().unix_s();
        let bytes = plan.render(generation, updated_at);
        let digest = digest(&bytes);
        // Figures alone leave it as it is.
        let same = self.published.as_ref();
        let same = same.filter(|published| published.plan.has_same_state(&plan));
        let same = same.map(|published| published.config_digest.clone());
        // Figures that come from here on are not in these bytes.
        self.shared.telemetry_dirty.store(false, Ordering::Relaxed);
        let path = self.shared.settings.proxy_config_path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let config_digest = same.unwrap_or_else(|| digest_of(&bytes));
            let published = contract::publish(&path, &bytes);
            published
                .map(|()| (config_digest, end_of(&path)))
                .map_err(|error| Failure::Write {
                    path,
                    error: Arc::new(error),
                })
        });
        let written = written.await.expect("publishing a file does not panic");
        let counters = &self.shared.counters;
        match &written {
            Ok((config_digest, path)) => {
                let config_digest = config_digest.clone();
                let mut digests = self.shared.digests();
                digests.move_to(path.clone());
                digests.add(generation, config_digest.clone());
                drop(digests);
                counters.published.fetch_add(1, Ordering::Relaxed);
                self.published = Some(Published {
                    plan,
                    generation,
                    digest,
                    config_digest,
                    updated_at: Some(updated_at),
                });
            }
            Err(_) => _ = counters.publish_failures.fetch_add(1, Ordering::Relaxed),
        }
        written.map(drop)
    }

    /// Makes the proxy read its file: by a signal, or over its admin socket if no signal can be sent, as to
    /// another user's process or one of another container. Returns which way was used, or why neither worked.
    pub(super) async fn tell_proxy(&self) -> Result<String, String> {
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
            // An ordinary case: no proxy is running.
            Err(Unknown::NoSocket { .. }) => Err(not_sent.to_string()),
            Err(unknown @ (Unknown::NoSuchCall { .. } | Unknown::Failed { .. })) => {
                Err(format!("{not_sent}; {unknown}"))
            }
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

    /// Writes new load figures into the file under the same generation.
    pub async fn refresh(&mut self) {
        if !self.shared.telemetry_dirty.load(Ordering::Relaxed) {
            return;
        }
        let wanted = self.wanted();
        let (plan, _) = self.holds.stand_in(wanted.plan);
        self.tell_incidents();
        let Some(published) = &self.published else {
            return;
        };
        let generation = published.generation;
        let plan = match fit_apart(plan, wanted.own).await {
            // A changed state has its own notification.
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
        // A proxy that accepts no reports learns figures only by reading the file.
        if self.shared.reports_undelivered.load(Ordering::Relaxed) {
            let (Ok(told) | Err(told)) = self.tell_proxy().await;
            tracing::debug!("figures written: {told}");
        }
    }

    /// Checks whether the file is still as published and the proxy runs it; corrects what is not.
    pub async fn verify(&mut self) {
        let path = self.shared.settings.proxy_config_path.clone();
        let read = move || (read_file(&path, MAX_FILE_BYTES), end_of(&path));
        let read = tokio::task::spawn_blocking(read).await;
        let (found, path) = read.expect("reading a file does not panic");
        self.shared.digests().move_to(path);
        if let Some(published) = &self.published {
            let is_ours = matches!(&found, Ok(Some(bytes)) if digest(bytes) == published.digest);
            if !is_ours {
                tracing::warn!("proxy_config.json was changed or removed by others; rewriting it");
                // The foreign content may be running or refused, so it is replaced under a new
                // generation.
                let target = self.shared.settings.proxy_config_path.display().to_string();
                self.shared
                    .audit_own("publisher", "file_edit", &target, "written again");
                let seen = &self.shared.seen_generation;
                let theirs = found
                    .ok()
                    .flatten()
                    .and_then(|bytes| contract::config::generation_of(&bytes));
                let latest = published.generation.max(theirs.unwrap_or(0));
                seen.fetch_max(latest, Ordering::Relaxed);
                self.published = None;
            } else if self.holds.has_refused_file() {
                // Another program corrected the file without notifying the proxy.
                let (Ok(told) | Err(told)) = self.tell_proxy().await;
                tracing::info!("proxy_config.json was refused, and is valid again: {told}");
            }
        }
        let running = self.look().await;
        self.try_again(false).await;
        self.reconcile().await;
        if let Some(running) = running {
            self.signal_again(&running).await;
        }
    }
}

/// The digest of a file that was checked before it was written.
fn digest_of(bytes: &[u8]) -> String {
    let document = contract::parse_object(bytes, MAX_FILE_BYTES);
    document.map_or_else(
        |_| String::new(),
        |document| contract::config_digest(&document),
    )
}
