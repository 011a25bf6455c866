//! State shared by the tasks of the control plane: the model, the logs, and their notifications.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::actor::Actor;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::edits::Edits;
use crate::history::Histories;
use crate::model::Model;
use crate::proxies::Proxies;
use crate::publish::{Digests, end_of};
use crate::registry::{Effect, Registration};
use crate::series::Series;
use crate::settings::Settings;
use crate::sources::listed::Listing;
use crate::verdict::Verdicts;

pub struct Shared {
    /// The settings of the start, for keys that need a restart. The rest is in [`Shared::live`].
    pub settings: Settings,
    live: watch::Sender<Arc<Settings>>,
    /// What is wrong with the present `control_config.json`, in words.
    config_note: Mutex<Option<String>>,
    /// That `edits.jsonl` cannot be written, in words.
    edits_note: Mutex<Option<String>>,
    pub clock: Clock,
    pub audit: Audit,
    pub counters: Counters,
    model: Mutex<Model>,
    history: Mutex<Histories>,
    verdicts: Mutex<Verdicts>,
    series: Mutex<Series>,
    proxies: Mutex<Proxies>,
    edits: Mutex<Edits>,
    /// Notified when the verdict changes, so that it is sent before the next look.
    pub verdict_changed: Notify,
    digests: Mutex<Digests>,
    /// Notified when the model's revision has grown: wakes the publisher.
    pub state_changed: Notify,
    /// Notified when load figures have changed: wakes the telemetry task.
    pub telemetry_changed: Notify,
    /// Figures have changed since the published file was written.
    pub telemetry_dirty: AtomicBool,
    /// The proxy accepts no reports, so only a reload brings it new figures.
    pub reports_undelivered: AtomicBool,
    /// The highest generation that the proxy was ever seen to run.
    pub seen_generation: AtomicU64,
    /// The number of the next call of `POST /api/settings`.
    pub next_call: AtomicU64,
}

/// Since the start; for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    pub heartbeats: AtomicU64,
    pub requests: AtomicU64,
    pub requests_refused: AtomicU64,
    pub published: AtomicU64,
    pub publish_failures: AtomicU64,
    pub signals: AtomicU64,
    pub signal_failures: AtomicU64,
    pub reloads_asked: AtomicU64,
    pub not_applied: AtomicU64,
    pub expired: AtomicU64,
    pub reports_sent: AtomicU64,
}

impl Shared {
    pub fn new(settings: Settings, clock: Clock, audit: Audit, model: Model) -> Shared {
        let live = watch::Sender::new(Arc::new(settings.clone()));
        Shared {
            clock,
            audit,
            counters: Counters::default(),
            next_call: AtomicU64::new(model.next_call()),
            digests: Mutex::new(Digests::at(end_of(&settings.proxy_config_path))),
            model: Mutex::new(model),
            history: Mutex::default(),
            verdicts: Mutex::default(),
            edits: Mutex::default(),
            proxies: Mutex::default(),
            series: Mutex::new(Series::new(settings.history_max_bytes)),
            verdict_changed: Notify::new(),
            live,
            config_note: Mutex::default(),
            edits_note: Mutex::default(),
            state_changed: Notify::new(),
            telemetry_changed: Notify::new(),
            telemetry_dirty: AtomicBool::new(false),
            reports_undelivered: AtomicBool::new(false),
            seen_generation: AtomicU64::new(0),
            settings,
        }
    }

    /// The settings as they are now.
    pub fn live(&self) -> Arc<Settings> {
        self.live.borrow().clone()
    }

    /// Notifies of their changes.
    pub fn watch_live(&self) -> watch::Receiver<Arc<Settings>> {
        self.live.subscribe()
    }

    pub fn set_live(&self, settings: Arc<Settings>) {
        self.live.send_replace(settings);
    }

    pub fn config_note(&self) -> Option<String> {
        let note = self.config_note.lock();
        note.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_config_note(&self, note: Option<String>) {
        let now = self.config_note.lock();
        *now.unwrap_or_else(PoisonError::into_inner) = note;
    }

    pub fn edits_note(&self) -> Option<String> {
        let note = self.edits_note.lock();
        note.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_edits_note(&self, note: Option<String>) {
        let now = self.edits_note.lock();
        *now.unwrap_or_else(PoisonError::into_inner) = note;
    }

    /// Never held across an await, a write or a system call.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model
            .lock()
            .expect("no holder of this lock panics: the model is pure")
    }

    /// Never held across an await, a write or a system call.
    pub fn history(&self) -> MutexGuard<'_, Histories> {
        self.history
            .lock()
            .expect("no holder of this lock panics: it only keeps and copies")
    }

    /// Never held across an await, a write or a system call.
    pub fn verdicts(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts
            .lock()
            .expect("no holder of this lock panics: it only judges and keeps")
    }

    /// Never held across an await, a write or a system call.
    pub fn edits(&self) -> MutexGuard<'_, Edits> {
        self.edits
            .lock()
            .expect("no holder of this lock panics: it only keeps and copies")
    }

    /// Never held across an await, a write or a system call.
    pub fn series(&self) -> MutexGuard<'_, Series> {
        self.series
            .lock()
            .expect("no holder of this lock panics: it only keeps and copies")
    }

    /// Never held across an await, a write or a system call.
    pub fn proxies(&self) -> MutexGuard<'_, Proxies> {
        self.proxies
            .lock()
            .expect("no holder of this lock panics: it only keeps and copies")
    }

    /// Never held across an await or a write.
    pub fn digests(&self) -> MutexGuard<'_, Digests> {
        self.digests
            .lock()
            .expect("no holder of this lock panics: it only keeps and compares")
    }

    /// Takes a registration that changes only load figures, without waiting for disk or proxy; `None` if it
    /// changes more.
    pub fn heartbeat(&self, said: &Registration) -> Option<Effect> {
        use std::sync::atomic::Ordering::Relaxed;
        let now = self.clock.now();
        let effect = {
            let mut model = self.model();
            let policy = model.policy;
            model.registry.heartbeat(said, now, policy)?
        };
        self.counters.heartbeats.fetch_add(1, Relaxed);
        self.audit.count_heartbeat(&said.key);
        if effect == Effect::Telemetry {
            self.ring_telemetry();
        }
        Some(effect)
    }

    /// A list of backends has another content: logs it, and has it published.
    pub fn tell_of_list(&self, place: impl fmt::Display, before: &Listing, now: &Listing) {
        if !now.has_same_state(before) {
            let backends = now.backends.len();
            tracing::info!("list changed file={place} backends={backends}");
        }
        // The publisher finds out whether it is more than figures.
        self.state_changed.notify_one();
        self.ring_telemetry();
    }

    pub fn ring_telemetry(&self) {
        self.telemetry_dirty
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.telemetry_changed.notify_one();
    }

    /// Writes an audit line about an action of control itself.
    pub fn audit_own(&self, part: &'static str, action: &'static str, target: &str, result: &str) {
        self.audit.write(crate::audit::Entry {
            actor: &Actor::Control(part),
            action,
            target,
            old: serde_json::Value::Null,
            new: serde_json::Value::Null,
            note: None,
            before_edit: None,
            result,
        });
    }
}
