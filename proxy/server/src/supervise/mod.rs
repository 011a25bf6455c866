//! The proxy as a whole: starts the workers, takes new configurations, knows what runs.
//!
//! One at a time and never on a worker's thread: a reload reads, checks, binds and builds here, and
//! a worker only swaps a pointer. A file that is wrong leaves everything as it was; a listener that
//! cannot be bound leaves the listener as it was, and all else is applied.

mod all_down;
pub mod bound;
mod drain;
pub mod listeners;
mod none_in_use;
mod refusals;
mod reload;
mod snapshots;
pub mod state;
mod sweep;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use contract::status::{ListenerStatus, Refusal, Running};
use proxy_core::health::watch::Failing;
use proxy_engine::{ScoringBell, WorkerCounters, Workers, session_log};
use tokio::sync::{mpsc, watch};

use self::bound::Bound;
use self::listeners::status::words;
use self::state::{State, Told};
use crate::clock::unix_ms;
use crate::config_file::{ConfigFile, backend_count};
use crate::limits::Limits;
use crate::log::sessions;
use crate::sandbox::Confinement;

/// One for the process. Each file of this module has a part of what it does.
pub struct Supervisor {
    config_path: PathBuf,
    confinement: Confinement,
    workers: Workers,
    limits: Limits,
    running: watch::Sender<Running>,
    state: Mutex<State>,
    /// Writes the lines of ended sessions; taken at the end.
    session_lines: Mutex<Option<JoinHandle<()>>>,
}

impl Supervisor {
    /// Starts the workers, each on a core of its own if `is_pinned`, on what was bound. `reports` is
    /// where they tell of failing backends.
    pub fn start(
        bound: Bound,
        is_pinned: bool,
        confinement: Confinement,
        reports: &mpsc::Sender<Failing>,
    ) -> std::io::Result<Supervisor> {
        let Bound {
            config_path,
            found_at,
            file,
            limits,
            worker_count,
            listeners,
            sockets,
        } = bound;
        file.log_unknown_keys();
        let ConfigFile {
            checked,
            digest,
            addresses,
        } = file;
        let config_digest = checked.config_digest.clone();
        let generation = checked.config.generation.unwrap_or(1);
        let mut state = State::new(checked, listeners, worker_count, &limits);
        let snapshot = Arc::clone(&state.snapshot);
        let max_sessions = snapshot.max_sessions;
        let max_flows = snapshot.max_flows_per_worker * worker_count;
        let backends = backend_count(&state.config);
        let (ended, entries) = session_log::entries();
        let session_lines = sessions::start(entries)?;
        let workers = Workers::start(
            worker_count,
            is_pinned,
            &snapshot,
            limits.pipes_per_worker(),
            reports,
            &ended,
        )?;
        let running = Running {
            pid: std::process::id(),
            started_at_ms: Some(unix_ms()),
            generation,
            digest,
            config_digest: Some(config_digest),
            config_path: Some(found_at.display().to_string()),
            loaded_at_ms: unix_ms(),
            last_reload: None,
            listeners: state.listeners.status(),
            addresses: addresses.0,
            refusals: Vec::new(),
        };
        let listen = words(&running.listeners);
        let commands = state.listeners.accept_on(sockets);
        let supervisor = Supervisor {
            config_path,
            confinement,
            workers,
            limits,
            running: watch::Sender::new(running),
            state: Mutex::new(state),
            session_lines: Mutex::new(Some(session_lines)),
        };
        // Nobody knows of the proxy yet, so nobody waits for this.
        supervisor.workers.send(commands);
        tracing::info!(
            "serving generation={generation} listen={listen} backends={backends} \
             workers={worker_count} max_sessions={max_sessions} max_flows={max_flows}"
        );
        supervisor.tell_refusals();
        Ok(supervisor)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// What runs, and its changes.
    pub fn running(&self) -> watch::Receiver<Running> {
        self.running.subscribe()
    }

    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.workers.counters()
    }

    pub fn scoring_bell(&self) -> &ScoringBell {
        self.workers.scoring_bell()
    }

    /// Computes all costs anew. Returns in how many microseconds it is worth doing again; `None`: not
    /// before something happens.
    pub fn score(&self) -> Option<u64> {
        let snapshot = Arc::clone(&self.state().snapshot);
        snapshots::score(&snapshot)
    }

    /// Probes at once.
    pub fn most_probes(&self) -> usize {
        self.limits.probes() as usize
    }

    /// Has the workers route by what is known of the backends' health now. No reload: the generation
    /// stays.
    pub async fn refresh(&self) {
        let told = self.state().refresh();
        self.tell(told).await;
    }

    async fn tell(&self, told: Told) {
        let Told { commands, replaced } = told;
        self.workers.tell_each(commands).await;
        self.scoring_bell().ring();
        // The last reference, so that no worker has to free what may be large.
        drop(replaced);
    }

    /// Has the workers take over what was installed. Returns what is then accepted on and refused.
    async fn carry_out(&self, told: Told) -> (Vec<ListenerStatus>, Vec<Refusal>) {
        self.tell(told).await;
        let state = self.state();
        (state.listeners.status(), state.refusals(&self.confinement))
    }

    /// Shows what is refused now.
    fn tell_refusals(&self) {
        let refusals = self.state().refusals(&self.confinement);
        self.running
            .send_if_modified(|running| refusals::update(&mut running.refusals, refusals));
    }
}

#[cfg(test)]
mod tests;
