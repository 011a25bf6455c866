//! What changes with a reload, and with the health of backends: the configuration in force, its snapshot and its
//! listeners. Held under one lock, never over a wait.

use std::sync::Arc;

use contract::status::Refusal;
use contract::{Checked, Config, LocalAddresses, Skipped};
use proxy_core::backend::BackendState;
use proxy_core::health::watch::Watch;
use proxy_core::registry::BackendRegistry;
use proxy_core::score::Now;
use proxy_core::snapshot::Snapshot;
use proxy_engine::Command;
use proxy_engine::clock::monotonic_ms;

use super::listeners::Listeners;
use super::listeners::change::Change;
use super::none_in_use::NoneInUse;
use super::{all_down, refusals, snapshots};
use crate::clock::unix_ms;
use crate::limits::Limits;
use crate::sandbox::Confinement;

/// What a reload changes.
pub struct State {
    pub config: Config,
    pub snapshot: Arc<Snapshot>,
    pub registry: BackendRegistry,
    pub watch: Watch,
    pub(super) listeners: Listeners,
    /// What the file says, for as long as it [`is_judged_again`]: `config` lacks the backends that are a
    /// listener of ours by now.
    pub(super) file: Option<Checked>,
    /// Backends of the file that are not in `config`.
    pub(super) skipped: Vec<Skipped>,
    none_in_use: NoneInUse,
    /// Of the last file, where that was refused as a whole.
    pub(super) of_file: Vec<Refusal>,
    pub reloads_ok: u64,
    pub reloads_refused: u64,
    pub is_draining: bool,
}

/// What the workers are told of a new snapshot, and the one that it replaces.
pub struct Told {
    pub commands: Vec<Vec<Command>>,
    pub replaced: Arc<Snapshot>,
}

impl State {
    /// What begins with `checked`, on the `listeners` that were bound for it.
    pub fn new(
        checked: Checked,
        listeners: Listeners,
        worker_count: usize,
        limits: &Limits,
    ) -> State {
        let file = is_judged_again(&listeners).then(|| checked.clone());
        let Checked {
            config, skipped, ..
        } = checked;
        let mut registry = BackendRegistry::new(worker_count);
        let snapshot = snapshots::build(None, &config, &mut registry, limits);
        let mut watch = Watch::new();
        watch.configure(&config, &snapshot, &registry, monotonic_ms());
        let mut none_in_use = NoneInUse::default();
        none_in_use.update(&snapshot);
        State {
            config,
            snapshot: Arc::new(snapshot),
            registry,
            watch,
            listeners,
            file,
            skipped,
            none_in_use,
            of_file: Vec::new(),
            reloads_ok: 0,
            reloads_refused: 0,
            is_draining: false,
        }
    }

    /// Takes a report of `backend` into account at once.
    pub fn score_report(&self, backend: &BackendState, now: Now) {
        if let Some(pool) = self.snapshot.pool(backend.pool)
            && let Some(index) = pool.index_of(backend.addr)
        {
            pool.score_report(index, now);
        }
    }

    /// Routes by the health of backends as it is known now.
    pub fn refresh(&mut self) -> Told {
        let new = snapshots::rebuild(&self.snapshot, &self.config, &mut self.registry);
        let replaced = std::mem::replace(&mut self.snapshot, Arc::new(new));
        all_down::log(&replaced, &self.snapshot, &self.registry);
        let change = self.listeners.no_change();
        let commands = change.after(|| Command::Install(Arc::clone(&self.snapshot)));
        Told { commands, replaced }
    }

    /// Takes `checked` over, on the listeners that `change` leaves.
    pub fn install(
        &mut self,
        change: Change,
        checked: Checked,
        addresses: &LocalAddresses,
        limits: &Limits,
    ) -> Told {
        let retired = self.listeners.retired();
        let mut given_up = Vec::new();
        if !retired.is_empty() {
            let (_, skipped) = checked.while_listening(&retired, addresses);
            let taken: Vec<_> = skipped.iter().map(|skipped| skipped.listen).collect();
            given_up = self.listeners.give_up(&taken);
        }
        let open = self.listeners.addresses();
        (self.config, self.skipped) = checked.while_listening(&open, addresses);
        self.file = is_judged_again(&self.listeners).then_some(checked);
        let previous = Some(&*self.snapshot);
        let snapshot = snapshots::build(previous, &self.config, &mut self.registry, limits);
        let replaced = std::mem::replace(&mut self.snapshot, Arc::new(snapshot));
        let (config, snapshot) = (&self.config, &self.snapshot);
        self.watch
            .configure(config, snapshot, &self.registry, monotonic_ms());
        all_down::log(&replaced, &self.snapshot, &self.registry);
        self.none_in_use.update(&self.snapshot);
        let install = || Command::Install(Arc::clone(&self.snapshot));
        let mut commands = change.after(install);
        for of_worker in &mut commands {
            of_worker.splice(0..0, given_up.iter().copied().map(Command::Close));
        }
        Told { commands, replaced }
    }

    /// Whether an address that this host gains may change what is in force.
    pub fn is_watching_addresses(&self) -> bool {
        !self.is_draining && self.listeners.take_all_addresses() && self.file.is_some()
    }

    /// Whether a listener that is refused is tried again.
    pub fn is_trying(&self, confinement: &Confinement) -> bool {
        !self.is_draining && self.listeners.is_trying(confinement)
    }

    /// What is refused now.
    pub fn refusals(&self, confinement: &Confinement) -> Vec<Refusal> {
        let now_ms = unix_ms();
        let of_listeners = self.listeners.refusals(confinement, now_ms);
        let of_skipped = refusals::of_skipped(&self.skipped, now_ms);
        let all = self.of_file.iter().cloned();
        all.chain(of_listeners).chain(of_skipped).collect()
    }
}

/// Whether the file may come to mean something else without a reload: a listener may still be bound, or
/// a backend become one of ours.
fn is_judged_again(listeners: &Listeners) -> bool {
    !listeners.is_settled() || listeners.take_all_addresses()
}
