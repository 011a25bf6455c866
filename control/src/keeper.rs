//! The keeper: the one task that changes the model and stores it.
//!
//! A mutation is stored before it is answered, and is not made if it cannot be stored (the model changes
//! only after the file has). Mutations that wait at the same time share one write. Sources are read here
//! too, so that an edit by others and a write by control never overtake each other.

mod discovery;
mod files;
mod journal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bounds::{LineLimit, Verdict};
use contract::Faults;
use contract::publish::PublishError;
use tokio::sync::{mpsc, oneshot};

use crate::actor::Actor;
use crate::audit::Entry;
use crate::clock::Now;
use crate::edits::EditsFile;
use crate::listening;
use crate::model::{Change, Mutation, Refusal};
use crate::registry::{Effect, Passed};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::sources::Source;

pub use files::{Files, load};
use files::{is_in_file, is_overtaken};

/// How many commands wait at most; more wait in their connections.
const QUEUE: usize = 1024;
/// How many mutations share one write at most.
const BATCH: usize = 1024;
/// How often a change is made again because others replaced the file while it was written.
const TRIES: usize = 8;
/// How often time passes for registrations.
const TICK: Duration = listening::TURN;
/// A stall of control of at least this part of the TTL restarts all TTLs.
const STALL_PART: u64 = 4;
/// How often heartbeats are stored, and how soon a failed write is retried.
const STORE_INTERVAL_MS: u64 = 5_000;
/// Up to this number of entries, a batch writes the registry's file whole: other programs read it at once, and
/// it takes no longer than waiting for the disk.
const WHOLE_UP_TO: usize = 1_000;
/// Folding the journal may take a fifth of the time, but waits no longer than this.
const FOLD_REST_PER_WORK: u64 = 4;
const MAX_FOLD_REST_MS: u64 = 800;
/// How often writing a failing audit log is retried.
const AUDIT_INTERVAL: Duration = Duration::from_secs(2);
/// How often the audit log gets its sums.
const SUM_INTERVAL: Duration = Duration::from_secs(60);

/// The file that could not be written, and why.
type WriteError = (PathBuf, Arc<PublishError>);

/// A mutation that was carried out.
#[derive(Debug)]
pub struct Stored {
    pub change: Change,
    /// The model's revision that contains it.
    pub revision: u64,
}

/// A mutation that was not stored, or may be lost.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("nothing was changed: {path} cannot be written: {error}")]
    Store {
        path: PathBuf,
        error: Arc<PublishError>,
    },
    #[error("{path}: {error}")]
    NotLasting {
        path: PathBuf,
        error: Arc<PublishError>,
    },
    #[error("the control server is stopping")]
    Stopping,
}

enum Command {
    Mutate(Box<Request>),
    /// Read the sources again now.
    ReadSources(oneshot::Sender<()>),
    /// Take over the present `control_config.json`.
    Configure(Arc<Settings>, oneshot::Sender<Result<(), Faults>>),
    Stop(oneshot::Sender<()>),
}

struct Request {
    mutation: Mutation,
    actor: Actor,
    reply: oneshot::Sender<Result<Stored, NotStored>>,
}

/// The handle of the keeper for other tasks.
#[derive(Clone)]
pub struct Keeper(mpsc::Sender<Command>);

impl Keeper {
    /// Starts the keeper.
    pub fn start(shared: Arc<Shared>, files: Files, sources: Vec<Source>) -> Keeper {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(Task::new(shared, files, sources).run(receiver));
        Keeper(sender)
    }

    /// Carries out and stores a mutation, and writes its line in the audit log.
    pub async fn mutate(&self, mutation: Mutation, actor: Actor) -> Result<Stored, NotStored> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            mutation,
            actor,
            reply,
        };
        let sent = self.0.send(Command::Mutate(Box::new(request))).await;
        sent.map_err(|_| NotStored::Stopping)?;
        answer.await.map_err(|_| NotStored::Stopping)?
    }

    /// Reads the sources now; returns when the model has their content.
    pub async fn read_sources(&self) {
        let (reply, done) = oneshot::channel();
        if self.0.send(Command::ReadSources(reply)).await.is_ok() {
            // A keeper that stops has nothing more to read.
            let _ = done.await;
        }
    }

    /// Takes over the present `control_config.json`.
    ///
    /// # Errors
    /// Why the proxy would refuse it; nothing has changed then.
    pub async fn configure(&self, settings: Arc<Settings>) -> Result<(), Faults> {
        let (reply, done) = oneshot::channel();
        let sent = self.0.send(Command::Configure(settings, reply)).await;
        // A keeper that stops takes over nothing more.
        match sent {
            Ok(()) => done.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Stores the heartbeats since the last write, and ends.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.0.send(Command::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// The keeper's work itself. A simulation takes its steps one by one.
pub struct Task {
    shared: Arc<Shared>,
    files: Files,
    /// In the order of the model's.
    sources: Vec<Source>,
    /// The registry in memory differs from its file by more than heartbeats.
    dirty: bool,
    /// When the registry was last written or tried, on the monotonic clock.
    stored_at_ms: u64,
    /// How long the journal may grow after that.
    fold_rest_ms: u64,
    /// [`WHOLE_UP_TO`], or what a simulation plays.
    pub whole_up_to: usize,
    /// For expired registrations: a client that can register can let any number of them expire.
    expiry_lines: LineLimit,
    edits_file: EditsFile,
    /// Edits that are not in the file yet.
    new_edits: Vec<serde_json::Value>,
}

impl Task {
    pub fn new(shared: Arc<Shared>, files: Files, sources: Vec<Source>) -> Task {
        let (edits_file, edits) = EditsFile::open(&shared.settings.edits_path);
        *shared.edits() = edits;
        Task {
            edits_file,
            new_edits: Vec::new(),
            stored_at_ms: shared.clock.now().monotonic_ms,
            fold_rest_ms: 0,
            whole_up_to: WHOLE_UP_TO,
            dirty: false,
            expiry_lines: LineLimit::default(),
            shared,
            files,
            sources,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sum = tokio::time::interval(SUM_INTERVAL);
        let mut audit = tokio::time::interval(AUDIT_INTERVAL);
        audit.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                received = commands.recv_many(&mut batch, BATCH) => {
                    if received == 0 || self.take(std::mem::take(&mut batch)).await {
                        return;
                    }
                }
                _ = tick.tick() => self.pass().await,
                _ = audit.tick() => self.shared.audit.retry(),
                _ = sum.tick() => self.shared.audit.sum_up(),
            }
        }
    }

    /// Carries out a batch; true if it contains a stop.
    async fn take(&mut self, batch: Vec<Command>) -> bool {
        let mut requests = Vec::new();
        let mut readers = Vec::new();
        let mut stop = None;
        for command in batch {
            match command {
                Command::Mutate(request) => requests.push(*request),
                Command::ReadSources(reply) => readers.push(reply),
                Command::Configure(settings, reply) => {
                    let configured = self.shared.model().configure(&settings);
                    self.shared.state_changed.notify_one();
                    // When the server stops, the caller may be gone.
                    let _ = reply.send(configured);
                }
                Command::Stop(reply) => stop = Some(reply),
            }
        }
        if !readers.is_empty() {
            self.read_sources().await;
            for reader in readers {
                let _ = reader.send(());
            }
        }
        let (settings, others): (Vec<Request>, Vec<Request>) = requests
            .into_iter()
            .partition(|request| request.mutation.is_of_settings());
        let (statics, registry): (Vec<Request>, Vec<Request>) = others
            .into_iter()
            .partition(|request| request.mutation.is_of_statics());
        if !registry.is_empty() {
            self.mutate_registry(registry).await;
        }
        for request in statics {
            self.mutate_statics(request).await;
        }
        for request in settings {
            self.mutate_settings(request).await;
        }
        self.store_edits().await;
        let Some(reply) = stop else { return false };
        self.store_registry().await;
        self.shared.audit.sum_up();
        let _ = reply.send(());
        true
    }

    pub async fn read_sources(&mut self) {
        self.files.read_settings(&self.shared).await;
        self.files.write_unwritten_settings(&self.shared).await;
        self.files.read_edits(&self.shared).await;
        self.files.read_statics(&self.shared).await;
        discovery::read(&mut self.sources, &self.shared).await;
        if self.edits_file.failing().is_some() {
            self.write_edits().await;
        }
        // A registry file that was removed is written again.
        self.dirty |= self.files.is_registry_missing(&self.shared);
    }

    /// Carries out one mutation, as a batch of one.
    #[cfg(test)]
    pub async fn mutate(&mut self, mutation: Mutation, actor: Actor) -> Result<Stored, NotStored> {
        let (reply, mut answer) = oneshot::channel();
        let request = Request {
            mutation,
            actor,
            reply,
        };
        self.take(vec![Command::Mutate(Box::new(request))]).await;
        answer
            .try_recv()
            .expect("a batch is answered when it is taken")
    }

    async fn mutate_registry(&mut self, requests: Vec<Request>) {
        let mut tries = 1..=TRIES;
        let (staged, outcomes, stored) = loop {
            // An edit by others that we have not seen yet must not be overwritten.
            let is_whole = self.is_written_whole();
            match is_whole {
                true => self.files.read_edits(&self.shared).await,
                false => self.files.read_newer_edits(&self.shared).await,
            }
            // One that was removed is written again, whatever becomes of this batch.
            self.dirty |= self.files.is_registry_missing(&self.shared);
            let now = self.shared.clock.now();
            let touched = requests.iter().map(|request| &request.mutation);
            let touched = touched.flat_map(Mutation::backends).collect();
            let mut staged = match is_whole {
                true => self.shared.model().clone(),
                false => self.shared.model().part(&touched),
            };
            let outcomes: Vec<Result<Change, Refusal>> = requests
                .iter()
                .map(|request| staged.apply(&request.mutation, &request.actor.to_string(), now))
                .collect();
            let changed = requests.iter().zip(&outcomes);
            let changed = changed.filter(|(_, outcome)| changes_state(outcome));
            let changed: Vec<&Mutation> = changed.map(|(request, _)| &request.mutation).collect();
            let stored = match (changed.is_empty(), is_whole) {
                (true, _) => Ok(()),
                (false, true) => self.files.write_registry(staged.clone(), now).await,
                (false, false) => {
                    let keys = changed.into_iter().flat_map(Mutation::backends).collect();
                    self.files.append_to_journal(&staged, &keys, now).await
                }
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcomes, stored);
            }
        };
        if is_in_file(&stored) {
            let done = requests
                .iter()
                .zip(&outcomes)
                .filter(|(_, outcome)| outcome.is_ok())
                .map(|(request, _)| &request.mutation);
            self.shared.model().take_over(staged, done);
            self.dirty |= stored.is_err();
        }
        self.answer(requests, outcomes, stored);
    }

    /// Whether each batch writes the registry's file whole. Of a larger registry, the journal takes the batch.
    fn is_written_whole(&self) -> bool {
        self.shared.model().registry.entries.len() <= self.whole_up_to
    }

    async fn mutate_settings(&mut self, request: Request) {
        let mut tries = 1..=TRIES;
        let (staged, outcome, stored) = loop {
            // As with the registry: an edit that we have not seen yet must not be overwritten.
            self.files.read_settings(&self.shared).await;
            let now = self.shared.clock.now();
            let mut staged = self.shared.model().clone();
            let outcome = staged.apply(&request.mutation, &request.actor.to_string(), now);
            let (settings, pending) = (&staged.runtime_settings, &staged.pending);
            let stored = match outcome.is_ok() {
                true => self.files.write_settings(settings, pending, now).await,
                false => Ok(()),
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcome, stored);
            }
        };
        if outcome.is_ok() && is_in_file(&stored) {
            let mut model = self.shared.model();
            model.runtime_settings = staged.runtime_settings;
            model.pending = staged.pending;
            model.edits = staged.edits;
        }
        self.answer(vec![request], vec![outcome], stored);
    }

    async fn mutate_statics(&mut self, request: Request) {
        let mut tries = 1..=TRIES;
        let (staged, outcome, stored) = loop {
            // As with the registry: an edit that we have not seen yet must not be overwritten.
            self.files.read_statics(&self.shared).await;
            let now = self.shared.clock.now();
            let mut staged = self.shared.model().clone();
            let outcome = match self.files.statics_unread() {
                Some(why) => Err(Refusal::StaticUnread(why.to_owned())),
                None => staged.apply(&request.mutation, &request.actor.to_string(), now),
            };
            let stored = match changes_state(&outcome) {
                true => self.files.write_statics(&mut staged.statics, now).await,
                false => Ok(()),
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcome, stored);
            }
        };
        if changes_state(&outcome) && is_in_file(&stored) {
            let mut model = self.shared.model();
            model.statics = staged.statics;
            model.edits = staged.edits;
            model.warnings = self.files.warnings();
        }
        self.answer(vec![request], vec![outcome], stored);
    }

    fn answer(
        &mut self,
        requests: Vec<Request>,
        outcomes: Vec<Result<Change, Refusal>>,
        stored: Result<(), WriteError>,
    ) {
        let revision = {
            let mut model = self.shared.model();
            model.revision += u64::from(is_in_file(&stored) && outcomes.iter().any(changes_state));
            model.revision
        };
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let answer = match (outcome, &stored) {
                (Err(refusal), _) => Err(NotStored::Refused(refusal)),
                (Ok(change), Ok(())) => Ok(Stored { change, revision }),
                (Ok(_), Err((path, error))) => {
                    let (path, error) = (path.clone(), error.clone());
                    Err(match is_in_file(&stored) {
                        true => NotStored::NotLasting { path, error },
                        false => NotStored::Store { path, error },
                    })
                }
            };
            self.audit(&request, &answer);
            // A client that is gone needs no answer; its mutation is done.
            let _ = request.reply.send(answer);
        }
        self.shared.state_changed.notify_one();
    }

    fn audit(&mut self, request: &Request, answer: &Result<Stored, NotStored>) {
        // Nothing has changed by that: the call itself has its line, and one whose outcome has been
        // decided meanwhile is not rolled back.
        let is_keeping = matches!(request.mutation, Mutation::KeepSettings(_));
        if is_keeping || matches!(answer, Err(NotStored::Refused(Refusal::Settled))) {
            return;
        }
        let (old, new, result) = match answer {
            Ok(stored) => (
                stored.change.old.clone(),
                stored.change.new.clone(),
                "ok".to_owned(),
            ),
            Err(why) => (
                serde_json::Value::Null,
                serde_json::Value::Null,
                why.to_string(),
            ),
        };
        let (action, target) = (request.mutation.action(), request.mutation.target());
        if let Ok(stored) = answer
            && request.mutation.is_edit()
        {
            let (actor, now) = (request.actor.to_string(), self.shared.clock.now());
            let mut is_joined = false;
            if let Some(noted) =
                { self.shared.edits() }.note(&request.mutation, &stored.change, &actor, now)
            {
                is_joined = noted.is_joined;
                self.new_edits.push(noted.edit.to_json());
            }
            if is_joined {
                self.edits_file.replace_next();
            }
            // A call that leaves everything as it was is no edit, and the second step of one is no other.
            if stored.change.old != stored.change.new && !is_joined {
                (self.shared.series().marks).edit(now.unix_ms, &actor, action, &target);
            }
        }
        let before_edit = request.mutation.roll_back();
        let before_edit = before_edit.map(|roll_back| roll_back.before_edit);
        self.shared.audit.write(Entry {
            actor: &request.actor,
            action,
            target: &target,
            old,
            new,
            note: request.mutation.note(),
            before_edit,
            result: &result,
        });
    }

    async fn store_edits(&mut self) {
        if !self.new_edits.is_empty() {
            self.write_edits().await;
        }
    }

    async fn write_edits(&mut self) {
        let new = std::mem::take(&mut self.new_edits);
        let shared = self.shared.clone();
        self.edits_file.write(new, || shared.edits().lines()).await;
        shared.set_edits_note(self.edits_file.failing());
    }

    /// Lets time pass, and stores what is due.
    pub async fn pass(&mut self) {
        let turn = self.shared.clock.turn();
        let now = self.shared.clock.now();
        let passed = {
            let mut model = self.shared.model();
            let policy = model.policy;
            if turn.unheard_ms > 0 && turn.unheard_ms >= policy.ttl_ms / STALL_PART {
                tracing::warn!(
                    "all TTLs restarted unheard_ms={}: control could not listen",
                    turn.unheard_ms
                );
                model.registry.refresh(now);
            }
            let passed = match turn.may_expire {
                true => model.registry.pass(now, policy),
                false => Vec::new(),
            };
            model.revision += u64::from(!passed.is_empty());
            passed
        };
        self.tell_of_left_out(now);
        for event in &passed {
            self.tell(event, now);
        }
        if !passed.is_empty() {
            self.dirty = true;
            self.shared.state_changed.notify_one();
        }
        let since_ms = now.monotonic_ms.saturating_sub(self.stored_at_ms);
        let heard = self.shared.model().registry.updated_at > self.files.registry_updated_at();
        let is_due = since_ms >= STORE_INTERVAL_MS && (self.dirty || heard);
        let is_folding_due = self.files.is_journal_used() && since_ms >= self.fold_rest_ms;
        if !passed.is_empty() || is_due || is_folding_due {
            self.store_registry().await;
        }
    }

    fn tell(&mut self, event: &Passed, now: Now) {
        use std::sync::atomic::Ordering::Relaxed;
        let shared = self.shared.clone();
        let own = |action, target: &str, result: &str| {
            shared.audit_own("expiry", action, target, result);
        };
        match event {
            Passed::Expired(key) => {
                self.shared.counters.expired.fetch_add(1, Relaxed);
                if self.expiry_lines.line(now.monotonic_ms) != Verdict::LeaveOut {
                    tracing::warn!(
                        "registration expired backend={key}: no heartbeat within its TTL"
                    );
                }
                own("expire", &key.to_string(), "no heartbeat within the TTL");
            }
            Passed::Removed(key) => own("remove", &key.to_string(), "expired for ten TTLs"),
            Passed::Warm(key) => own("warm", &key.to_string(), "warm-up is over"),
            Passed::FreezeBegan { silent } => {
                tracing::error!(
                    "mass expiry held back silent={silent}: more than half of the registrations are silent; none \
                     expires for ten TTLs, or until POST /api/expiry/acknowledge"
                );
                let result = format!("silent registrations: {silent}");
                own("freeze_expiry", "registrations", &result);
            }
            Passed::FreezeEnded => own("unfreeze_expiry", "registrations", "ok"),
        }
    }

    fn tell_of_left_out(&mut self, now: Now) {
        if let Some(left_out) = self.expiry_lines.sum_up(now.monotonic_ms) {
            tracing::warn!("registration expired: lines left out left_out={left_out}");
        }
    }

    /// Stores the registry; a failure leaves it dirty, so that it is retried.
    async fn store_registry(&mut self) {
        let now = self.shared.clock.now();
        let mut tries = 1..=TRIES;
        let stored = loop {
            self.files.read_edits(&self.shared).await;
            let model = self.shared.model().clone();
            let stored = self.files.write_registry(model, now).await;
            if !is_overtaken(&stored) || tries.next().is_none() {
                break stored;
            }
        };
        if let (Err((path, error)), false) = (&stored, self.dirty) {
            let path = path.display();
            tracing::error!("{path} cannot be written: {error}; retrying every 5 s");
        }
        self.dirty = stored.is_err();
        self.stored_at_ms = self.shared.clock.now().monotonic_ms;
        let took_ms = self.stored_at_ms.saturating_sub(now.monotonic_ms);
        self.fold_rest_ms = match self.dirty {
            true => STORE_INTERVAL_MS,
            false => (took_ms * FOLD_REST_PER_WORK).min(MAX_FOLD_REST_MS),
        };
    }
}

fn changes_state(outcome: &Result<Change, Refusal>) -> bool {
    outcome
        .as_ref()
        .is_ok_and(|change| change.effect == Effect::State)
}

/// Warns of what is new.
fn warn_once(before: &[String], now: &[String]) {
    for note in now.iter().filter(|note| !before.contains(note)) {
        tracing::warn!("{note}");
    }
}
