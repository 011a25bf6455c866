//! The keeper's work: batches of commands, each stored before it is answered.

use std::sync::Arc;
use std::time::Duration;

use bounds::LineLimit;
use tokio::sync::mpsc;

use super::{Command, NotStored, Request, Stored, discovery};
use crate::audit::Entry;
use crate::listening;
use crate::model::{Change, Mutation, Refusal};
use crate::registry::Effect;
use crate::shared::Shared;
use crate::sources::Source;
use crate::store::{Part, Store, StoreError, is_overtaken, is_stored};

/// How many mutations share one write at most.
const BATCH: usize = 1024;
/// How often a change is made again because others were faster.
pub(super) const TRIES: usize = 8;
/// How often time passes for registrations.
const TICK: Duration = listening::TURN;
/// How often writing a failing audit log is retried.
const AUDIT_INTERVAL: Duration = Duration::from_secs(2);
/// How often the audit log gets its sums.
const SUM_INTERVAL: Duration = Duration::from_secs(60);

/// The keeper's work itself. A simulation takes its steps one by one.
pub struct Task<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) store: S,
    /// In the order of the model's.
    pub(super) sources: Vec<Source>,
    /// The registry in memory differs from its file by more than heartbeats.
    pub(super) dirty: bool,
    /// When the registry was last written or tried, on the monotonic clock.
    pub(super) stored_at_ms: u64,
    /// How long the journal may grow after that.
    pub(super) fold_rest_ms: u64,
    /// For expired registrations: a client that can register can let any number of them expire.
    pub(super) expiry_lines: LineLimit,
    /// Edits that are not stored yet.
    new_edits: Vec<serde_json::Value>,
    /// The last stored edit has changed since.
    is_edit_changed: bool,
}

impl<S: Store> Task<S> {
    pub fn new(shared: Arc<Shared>, mut store: S, sources: Vec<Source>) -> Task<S> {
        *shared.edits() = store.begin_edits();
        Task {
            new_edits: Vec::new(),
            is_edit_changed: false,
            stored_at_ms: shared.clock.now().monotonic_ms,
            fold_rest_ms: 0,
            dirty: false,
            expiry_lines: LineLimit::default(),
            shared,
            store,
            sources,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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
        self.store.read_all(&self.shared).await;
        discovery::read(&mut self.sources, &self.shared).await;
        if self.store.edits_fault().is_some() {
            self.write_edits().await;
        }
    }

    /// Carries out one mutation, as a batch of one.
    #[cfg(test)]
    pub async fn mutate(
        &mut self,
        mutation: Mutation,
        actor: crate::actor::Actor,
    ) -> Result<Stored, NotStored> {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
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
            self.store.read(Part::Registry, &self.shared).await;
            let now = self.shared.clock.now();
            let touched = requests.iter().map(|request| &request.mutation);
            let touched = touched.flat_map(Mutation::backends).collect();
            let mut staged = {
                let model = self.shared.model();
                match self.store.takes_whole(&model.registry) {
                    true => model.clone(),
                    false => model.part(&touched),
                }
            };
            let outcomes: Vec<Result<Change, Refusal>> = requests
                .iter()
                .map(|request| staged.apply(&request.mutation, &request.actor.to_string(), now))
                .collect();
            let changed = requests.iter().zip(&outcomes);
            let changed = changed.filter(|(_, outcome)| changes_state(outcome));
            let changed: Vec<&Mutation> = changed.map(|(request, _)| &request.mutation).collect();
            let stored = match changed.is_empty() {
                true => Ok(()),
                false => {
                    let touched = changed.into_iter().flat_map(Mutation::backends).collect();
                    self.store.store_registry(&mut staged, &touched, now).await
                }
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcomes, stored);
            }
        };
        if is_stored(&stored) {
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

    async fn mutate_settings(&mut self, request: Request) {
        let mut tries = 1..=TRIES;
        let (staged, outcome, stored) = loop {
            // As with the registry: an edit that we have not seen yet must not be overwritten.
            self.store.read(Part::Settings, &self.shared).await;
            let now = self.shared.clock.now();
            let mut staged = self.shared.model().clone();
            let outcome = staged.apply(&request.mutation, &request.actor.to_string(), now);
            let stored = match outcome.is_ok() {
                true => self.store.store_settings(&mut staged, now).await,
                false => Ok(()),
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcome, stored);
            }
        };
        if outcome.is_ok() && is_stored(&stored) {
            let mut model = self.shared.model();
            model.runtime_settings = staged.runtime_settings;
            model.pending = staged.pending;
            model.edits = staged.edits;
            model.warnings = staged.warnings;
        }
        self.answer(vec![request], vec![outcome], stored);
    }

    async fn mutate_statics(&mut self, request: Request) {
        let mut tries = 1..=TRIES;
        let (staged, outcome, stored) = loop {
            // As with the registry: an edit that we have not seen yet must not be overwritten.
            self.store.read(Part::Statics, &self.shared).await;
            let now = self.shared.clock.now();
            let mut staged = self.shared.model().clone();
            let outcome = match self.store.unread_statics() {
                Some(why) => Err(Refusal::StaticUnread(why.to_owned())),
                None => staged.apply(&request.mutation, &request.actor.to_string(), now),
            };
            let stored = match changes_state(&outcome) {
                true => self.store.store_statics(&mut staged, now).await,
                false => Ok(()),
            };
            if !is_overtaken(&stored) || tries.next().is_none() {
                break (staged, outcome, stored);
            }
        };
        if changes_state(&outcome) && is_stored(&stored) {
            let mut model = self.shared.model();
            model.statics = staged.statics;
            model.edits = staged.edits;
            model.warnings = staged.warnings;
        }
        self.answer(vec![request], vec![outcome], stored);
    }

    fn answer(
        &mut self,
        requests: Vec<Request>,
        outcomes: Vec<Result<Change, Refusal>>,
        stored: Result<(), StoreError>,
    ) {
        let revision = {
            let mut model = self.shared.model();
            model.revision += u64::from(is_stored(&stored) && outcomes.iter().any(changes_state));
            model.revision
        };
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let answer = match (outcome, &stored) {
                (Err(refusal), _) => Err(NotStored::Refused(refusal)),
                (Ok(change), Ok(())) => Ok(Stored { change, revision }),
                (Ok(_), Err(why)) => {
                    let (place, error) = (why.place.clone(), why.error.clone());
                    Err(match why.is_stored() {
                        true => NotStored::NotLasting { place, error },
                        false => NotStored::Store { place, error },
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
            self.is_edit_changed |= is_joined;
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
        let is_changed = std::mem::take(&mut self.is_edit_changed);
        let all = || shared.edits().lines();
        self.store.store_edits(new, is_changed, all).await;
        shared.set_edits_note(self.store.edits_fault());
    }
}

fn changes_state(outcome: &Result<Change, Refusal>) -> bool {
    outcome
        .as_ref()
        .is_ok_and(|change| change.effect == Effect::State)
}
