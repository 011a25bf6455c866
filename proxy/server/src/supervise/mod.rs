//! The proxy as a whole: starts the workers, takes new configurations, knows what runs.
//!
//! One at a time and never on a worker's thread: a reload reads, checks, binds and builds here, and
//! a worker only swaps a pointer. A file that is wrong leaves everything as it was; a listener that
//! cannot be bound leaves the listener as it was, and all else is applied.

mod all_down;
pub mod bound;
pub mod listeners;
mod none_in_use;
mod refusals;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use contract::status::{ListenerStatus, Refusal, Reload, Running, Trial};
use contract::{Checked, Config, LocalAddresses, Skipped};
use proxy_core::backend::{BackendRegistry, BackendState};
use proxy_core::health::watch::{Failing, Watch};
use proxy_core::plan::{Endpoint, Protocol};
use proxy_core::score::Now;
use proxy_core::snapshot::Snapshot;
use proxy_engine::clock::monotonic_ms;
use proxy_engine::{Command, ScoringBell, WorkerCounters, Workers, session_log};
use tokio::sync::{mpsc, watch};

use crate::clock::{now, unix_ms};
use crate::config_file::{self, ConfigFile, ConfigFileError, Loaded};
use crate::limits::Limits;
use crate::sandbox::Confinement;

use self::bound::Bound;
use self::listeners::{Change, Listeners, Wanted};
use self::none_in_use::NoneInUse;
use crate::log::sessions as session_lines;

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

/// What changes with a reload.
pub struct State {
    pub config: Config,
    pub snapshot: Arc<Snapshot>,
    pub registry: BackendRegistry,
    pub watch: Watch,
    listeners: Listeners,
    /// What the file says, for as long as it [`is_judged_again`]: `config` lacks the backends that are a
    /// listener of ours by now.
    file: Option<Checked>,
    /// Backends of the file that are not in `config`.
    skipped: Vec<Skipped>,
    none_in_use: NoneInUse,
    /// Of the last file, where that was refused as a whole.
    of_file: Vec<Refusal>,
    pub reloads_ok: u64,
    pub reloads_refused: u64,
    pub is_draining: bool,
}

/// What the workers are told of a new snapshot, and the one that it replaces.
struct Told {
    commands: Vec<Vec<Command>>,
    replaced: Arc<Snapshot>,
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
            mut listeners,
            sockets,
        } = bound;
        warn_of_unknown_keys(&file);
        let kept = is_judged_again(&listeners).then(|| file.checked.clone());
        let Checked {
            config,
            config_digest,
            skipped,
            ..
        } = file.checked;
        let mut registry = BackendRegistry::new(worker_count);
        let generation = config.generation.unwrap_or(1);
        let snapshot = Arc::new(build(None, &config, &mut registry, &limits));
        let mut watch = Watch::new();
        watch.configure(&config, &snapshot, &registry, monotonic_ms());
        let max_sessions = snapshot.max_sessions;
        let max_flows = snapshot.max_flows_per_worker * worker_count;
        let backends = backend_count(&config);
        let (ended, entries) = session_log::entries();
        let session_lines = session_lines::start(entries)?;
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
            digest: file.digest,
            config_digest: Some(config_digest),
            config_path: Some(found_at.display().to_string()),
            loaded_at_ms: unix_ms(),
            last_reload: None,
            listeners: listeners.status(),
            addresses: file.addresses.0,
            refusals: Vec::new(),
        };
        let listen = listeners::words(&running.listeners);
        let commands = listeners.accept_on(sockets);
        let mut none_in_use = NoneInUse::default();
        none_in_use.update(&snapshot);
        let supervisor = Supervisor {
            config_path,
            confinement,
            workers,
            limits,
            running: watch::Sender::new(running),
            state: Mutex::new(State {
                config,
                snapshot,
                registry,
                watch,
                listeners,
                file: kept,
                skipped,
                none_in_use,
                of_file: Vec::new(),
                reloads_ok: 0,
                reloads_refused: 0,
                is_draining: false,
            }),
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
        score(&snapshot)
    }

    /// Takes the configuration that the file now holds, or keeps the one that runs.
    pub async fn reload(&self) {
        if self.state().is_draining {
            tracing::warn!("reload ignored: the proxy is draining");
            return;
        }
        let at_ms = unix_ms();
        let Loaded { found_at, file } = config_file::load(&self.config_path);
        let found_at = found_at.map(|path| path.display().to_string());
        let file = file.and_then(|file| file.held_by(&self.limits, &self.config_path));
        match file {
            Ok(file) => self.apply(file, found_at, at_ms).await,
            Err(error) => self.refuse(&error, found_at, at_ms),
        }
    }

    /// Keeps what runs, and says why.
    fn refuse(&self, error: &ConfigFileError, found_at: Option<String>, at_ms: u64) {
        let hint = self.hint(error);
        let reason = hint
            .as_ref()
            .map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"));
        tracing::error!("reload config refused: {reason}");
        let refusals = {
            let mut state = self.state();
            state.reloads_refused += 1;
            state.of_file = refusals::of_file(error, hint.as_deref(), at_ms);
            state.refusals(&self.confinement)
        };
        self.running.send_modify(|running| {
            refusals::update(&mut running.refusals, refusals);
            // One that cannot be read is where the last one was, as far as anybody knows.
            running.config_path = found_at.or(running.config_path.take());
            running.last_reload = Some(Reload {
                at_ms,
                ok: false,
                generation: error.generation(),
                reason: Some(reason),
            });
        });
    }

    /// Whether a file is refused for what the process gave up at its start.
    fn hint(&self, error: &ConfigFileError) -> Option<String> {
        let hint = self.confinement.of_reading();
        hint.filter(|_| error.is_forbidden())
    }

    /// Carries a checked file out.
    async fn apply(&self, file: ConfigFile, found_at: Option<String>, at_ms: u64) {
        warn_of_unknown_keys(&file);
        let ConfigFile {
            checked,
            digest,
            addresses,
        } = file;
        let config_digest = checked.config_digest.clone();
        let backends = backend_count(&checked.config);
        let before = self.running.borrow().generation;
        let generation = checked.config.generation.unwrap_or(before + 1);
        let told = {
            let mut state = self.state();
            state.of_file.clear();
            let change = state.listeners.change_to(Wanted::of(&checked));
            state.install(change, checked, &addresses, &self.limits)
        };
        let (listeners, refusals) = self.carry_out(told).await;
        self.state().reloads_ok += 1;
        let listen = listeners::words(&listeners);
        let mut is_new = false;
        self.running.send_modify(|running| {
            is_new = running.listeners != listeners;
            running.generation = generation;
            running.digest = digest;
            running.config_digest = Some(config_digest);
            running.config_path = found_at;
            running.loaded_at_ms = unix_ms();
            running.listeners = listeners;
            running.addresses = addresses.0;
            // Whoever waits for this generation learns of these with it.
            refusals::update(&mut running.refusals, refusals);
            running.last_reload = Some(Reload {
                at_ms,
                ok: true,
                generation: Some(generation),
                reason: None,
            });
        });
        let listen = match is_new {
            true => format!(" listen={listen}"),
            false => String::new(),
        };
        tracing::info!("reload config success generation={generation} backends={backends}{listen}");
        self.close_unused().await;
    }

    /// Tries again to listen where that was not possible.
    pub async fn try_listeners(&self) {
        let told = {
            let mut state = self.state();
            if !state.is_trying(&self.confinement) {
                return;
            }
            let change = state.listeners.retry();
            change.map(|change| {
                let addresses = config_file::local_addresses();
                let checked = state.file.take();
                let checked = checked.expect("kept for as long as a listener is tried");
                let told = state.install(change, checked, &addresses, &self.limits);
                (told, addresses)
            })
        };
        let Some((told, addresses)) = told else {
            // Why it is refused may have changed.
            return self.tell_refusals();
        };
        let (listeners, refusals) = self.carry_out(told).await;
        tracing::info!("listening listen={}", listeners::words(&listeners));
        self.running.send_modify(|running| {
            running.listeners = listeners;
            running.addresses = addresses.0;
            refusals::update(&mut running.refusals, refusals);
        });
    }

    /// Judges the backends again where this host's addresses are others than when the file was read: one
    /// of them may have become a listener of ours, or be none any more.
    pub async fn look_at_addresses(&self) {
        if !self.state().is_watching_addresses() {
            return;
        }
        let addresses = config_file::local_addresses();
        // A host without any has failed to say.
        let is_known = !addresses.0.is_empty();
        if !is_known || is_same_set(&addresses.0, &self.running.borrow().addresses) {
            return;
        }
        let told = {
            let mut state = self.state();
            state.file.take().and_then(|checked| {
                let open = state.listeners.addresses();
                let (_, skipped) = checked.while_listening(&open, &addresses);
                if skipped == state.skipped {
                    state.file = Some(checked);
                    return None;
                }
                let change = state.listeners.no_change();
                Some(state.install(change, checked, &addresses, &self.limits))
            })
        };
        if let Some(told) = told {
            self.carry_out(told).await;
        }
        let refusals = self.state().refusals(&self.confinement);
        self.running.send_modify(|running| {
            running.addresses = addresses.0;
            refusals::update(&mut running.refusals, refusals);
        });
    }

    /// Has the workers take over what was installed. Returns what is then accepted on and refused.
    async fn carry_out(&self, told: Told) -> (Vec<ListenerStatus>, Vec<Refusal>) {
        let Told { commands, replaced } = told;
        self.workers.tell_each(commands).await;
        self.scoring_bell().ring();
        // The last reference, so that no worker has to free what may be large.
        drop(replaced);
        let state = self.state();
        (state.listeners.status(), state.refusals(&self.confinement))
    }

    /// Shows what is refused now.
    fn tell_refusals(&self) {
        let refusals = self.state().refusals(&self.confinement);
        self.running
            .send_if_modified(|running| refusals::update(&mut running.refusals, refusals));
    }

    /// What would be refused of a file that holds `bytes`. Nothing that runs changes.
    pub fn try_out(&self, bytes: &[u8]) -> Trial {
        let path = Path::new("the document");
        let file = config_file::check(path, bytes);
        let refusals = match file.and_then(|file| file.held_by(&self.limits, path)) {
            Ok(file) => {
                let state = self.state();
                let wanted = Wanted::of(&file.checked);
                let now_ms = unix_ms();
                let listeners = &state.listeners;
                let mut refusals = listeners.try_out(&wanted, &self.confinement, now_ms);
                // Where it would be bound, nothing else is accepted on.
                let kept = match refusals.is_empty() {
                    true => Vec::new(),
                    false => state.listeners.addresses(),
                };
                let (_, skipped) = file.checked.while_listening(&kept, &file.addresses);
                refusals.extend(refusals::of_skipped(&skipped, now_ms));
                refusals
            }
            Err(error) => refusals::of_file(&error, None, unix_ms()),
        };
        Trial {
            refusals: refusals::dated(&self.running.borrow().refusals, refusals),
            warnings: config_file::warnings(bytes, &config_file::local_addresses()),
        }
    }

    /// Has the workers route by what is known of the backends' health now. No reload: the generation
    /// stays.
    pub async fn refresh(&self) {
        let (commands, replaced) = {
            let mut state = self.state();
            let State {
                config,
                snapshot,
                registry,
                ..
            } = &mut *state;
            let new = Snapshot::build(
                Some(snapshot),
                config,
                registry,
                snapshot.max_sessions,
                snapshot.max_flows_per_worker,
                monotonic_ms(),
            );
            score(&new);
            let replaced = std::mem::replace(snapshot, Arc::new(new));
            all_down::log(&replaced, snapshot, registry);
            let install = |_| vec![Command::Install(Arc::clone(snapshot))];
            let commands = (0..self.workers.count()).map(install).collect();
            (commands, replaced)
        };
        self.workers.tell_each(commands).await;
        self.scoring_bell().ring();
        // The last reference, so that no worker has to free what may be large.
        drop(replaced);
    }

    /// Probes at once.
    pub fn most_probes(&self) -> usize {
        self.limits.probes() as usize
    }

    /// Whether something waits for [`Supervisor::close_unused`], [`Supervisor::try_listeners`] or
    /// [`Supervisor::look_at_addresses`].
    pub fn needs_sweep(&self) -> bool {
        let state = self.state();
        let is_trying = state.is_trying(&self.confinement);
        state.listeners.has_retired() || is_trying || state.is_watching_addresses()
    }

    /// Closes retired endpoints that nobody needs any more.
    pub async fn close_unused(&self) {
        let unused = self.state().listeners.take_unused();
        if !unused.is_empty() {
            let close = || unused.iter().copied().map(Command::Close).collect();
            self.workers.tell_all(close).await;
        }
    }

    /// Takes no new sessions and flows, and returns once the open ones have ended or the drain
    /// deadline has passed.
    pub async fn drain(&self) {
        const POLL: Duration = Duration::from_millis(20);
        let (open, timeout) = {
            let mut state = self.state();
            state.is_draining = true;
            let open = state.listeners.take_all();
            (open, state.config.process.drain_timeout())
        };
        let end = |endpoint: &Endpoint| match endpoint.protocol {
            Protocol::Tcp => Command::Close(*endpoint),
            Protocol::Udp => Command::Retire(*endpoint),
        };
        let end = || open.iter().map(end).collect();
        let all_ended = async {
            self.workers.tell_all(end).await;
            // Who waits to be accepted is, in the turn that closes the listener; only then is it
            // known that nothing is in flight.
            self.reach_workers().await;
            while self.in_flight() > 0 {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(timeout, all_ended).await.is_err() {
            tracing::warn!("drain deadline passed open={}", self.in_flight());
        }
    }

    fn in_flight(&self) -> u64 {
        let of_workers = self.counters().map(|counters| counters.all.in_flight());
        of_workers.sum()
    }

    /// Returns once every worker has turned.
    pub async fn reach_workers(&self) {
        self.workers.tell_all(Vec::new).await;
    }

    /// Ends every session and flow, and the workers with them; returns when the last line of a session is
    /// written.
    pub async fn stop(&self) {
        self.workers.stop().await;
        let lines = self.session_lines.lock();
        if let Some(lines) = lines.unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has nothing more to write.
            let _ = lines.join();
        }
    }
}

impl State {
    /// Takes a report of `backend` into account at once.
    pub fn score_report(&self, backend: &BackendState, now: Now) {
        if let Some(pool) = self.snapshot.pool(backend.pool)
            && let Some(index) = pool.index_of(backend.addr)
        {
            pool.score_report(index, now);
        }
    }

    /// Takes `checked` over, on the listeners that `change` leaves.
    fn install(
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
        let snapshot = build(previous, &self.config, &mut self.registry, limits);
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

    fn is_watching_addresses(&self) -> bool {
        !self.is_draining && self.listeners.take_all_addresses() && self.file.is_some()
    }

    fn is_trying(&self, confinement: &Confinement) -> bool {
        !self.is_draining && self.listeners.is_trying(confinement)
    }

    fn refusals(&self, confinement: &Confinement) -> Vec<Refusal> {
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

fn is_same_set(one: &[IpAddr], other: &[IpAddr]) -> bool {
    let contains = |all: &[IpAddr], some: &[IpAddr]| some.iter().all(|addr| all.contains(addr));
    contains(one, other) && contains(other, one)
}

fn build(
    previous: Option<&Snapshot>,
    config: &Config,
    registry: &mut BackendRegistry,
    limits: &Limits,
) -> Snapshot {
    let bounds = limits.bounds(&config.listeners);
    warn_of_lowered_bounds(config, bounds.max_sessions, limits.max_flows(&bounds));
    let snapshot = Snapshot::build(
        previous,
        config,
        registry,
        bounds.max_sessions,
        bounds.max_flows_per_worker,
        monotonic_ms(),
    );
    // So that the first sessions go by what is known already.
    score(&snapshot);
    snapshot
}

fn score(snapshot: &Snapshot) -> Option<u64> {
    let now = now();
    let next = snapshot.pools.iter().filter_map(|pool| pool.score(now));
    next.min()
}

/// Says where listeners ask for more than all of them together may have.
fn warn_of_lowered_bounds(config: &Config, max_sessions: u64, max_flows: u64) {
    for listener in &config.listeners {
        let bounds = [
            ("max_sessions", listener.settings.max_sessions, max_sessions),
            ("max_flows", listener.settings.max_flows, max_flows),
        ];
        for (key, asked, in_force) in bounds {
            if let Some(asked) = asked.filter(|asked| *asked > in_force) {
                tracing::warn!(
                    "{key} lowered listener={} asked={asked} in_force={in_force}: the descriptor limit \
                     allows no more",
                    listener.name
                );
            }
        }
    }
}

fn warn_of_unknown_keys(file: &ConfigFile) {
    let unknown_keys = &file.checked.unknown_keys;
    if !unknown_keys.is_empty() {
        // One line, however many backends carry such a key.
        tracing::warn!("unknown keys ignored: {unknown_keys}");
    }
}

fn backend_count(config: &Config) -> usize {
    config.pools.iter().map(|pool| pool.backends.len()).sum()
}

#[cfg(test)]
mod tests;
