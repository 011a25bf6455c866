//! The proxy as a whole: starts the workers, takes new configurations, knows what runs.
//!
//! One at a time and never on a worker's thread: a reload reads, checks, binds and builds here, and
//! a worker only swaps a pointer. What fails leaves everything as it was.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::status::{ListenerStatus, Reload, Running};
use contract::{BackendAddr, Config, Settings};
use proxy_core::backend::BackendRegistry;
use proxy_core::health::watch::{Failing, Watch};
use proxy_core::plan::{Endpoint, Plan, Protocol, endpoints, plan};
use proxy_core::score::Now;
use proxy_core::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};

use crate::clock::monotonic_ms;
use crate::config_file::{self, ConfigFile, ConfigFileError};
use crate::health;
use crate::limits::Limits;
use crate::listen::{self, BindError};
use crate::ready::{Bound, BoundSockets};
use crate::sandbox::Confinement;
use crate::scoring;
use crate::worker::ScoringBell;
use crate::worker::counters::WorkerCounters;
use crate::worker::mailbox::Command;
use crate::workers::Workers;

/// Why a new configuration was not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

pub struct Supervisor {
    config_path: PathBuf,
    confinement: Confinement,
    workers: Workers,
    limits: Limits,
    pub started_at_ms: u64,
    running: watch::Sender<Running>,
    state: Mutex<State>,
}

/// A retired TCP listener stays for so long: the kernel resets those whose handshake is under way when
/// it closes, though to some of them they are connected.
const HANDSHAKES_TAKE_MS: u64 = 1_000;

/// What changes with a reload.
pub struct State {
    pub config: Config,
    pub snapshot: Arc<Snapshot>,
    pub registry: BackendRegistry,
    pub watch: Watch,
    /// Flows of each endpoint over all workers. The workers hold it too for as long as their sockets
    /// are open, retired ones included.
    flows: HashMap<Endpoint, Arc<AtomicU64>>,
    open: Vec<Endpoint>,
    /// Endpoints that the configuration has given up but may ask for again, and since when
    /// (monotonic, milliseconds).
    retired: HashMap<Endpoint, u64>,
    pub reloads_ok: u64,
    pub reloads_refused: u64,
    pub is_draining: bool,
}

/// Unix milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

impl Supervisor {
    /// Starts the workers, each on a core of its own if `is_pinned`, on what was bound. `reports` is
    /// where they tell of failing backends.
    pub fn start(
        bound: Bound,
        is_pinned: bool,
        confinement: Confinement,
        reports: mpsc::Sender<Failing>,
    ) -> std::io::Result<Supervisor> {
        let Bound {
            config_path,
            file,
            limits,
            worker_count,
            sockets,
        } = bound;
        warn_of_unknown_keys(&file);
        let config = file.checked.config;
        let config_digest = file.checked.config_digest;
        let mut registry = BackendRegistry::new(worker_count);
        let generation = config.generation.unwrap_or(1);
        let snapshot = Arc::new(build(0, &config, &mut registry, &limits));
        let mut watch = Watch::new();
        watch.configure(&config, &registry, monotonic_ms());
        let max_sessions = snapshot.max_sessions;
        let max_flows = snapshot.max_flows_per_worker * worker_count;
        let backends = backend_count(&config);
        let workers = Workers::start(
            worker_count,
            is_pinned,
            &snapshot,
            limits.pipes_per_worker(),
            reports,
        )?;
        let running = Running {
            pid: std::process::id(),
            generation,
            digest: file.digest,
            config_digest: Some(config_digest),
            config_path: Some(config_path.display().to_string()),
            loaded_at_ms: unix_ms(),
            last_reload: None,
            listeners: listener_status(&config),
            addresses: file.addresses,
            refusals: Vec::new(),
        };
        let supervisor = Supervisor {
            config_path,
            confinement,
            workers,
            limits,
            started_at_ms: unix_ms(),
            running: watch::Sender::new(running),
            state: Mutex::new(State {
                open: endpoints(&config.listeners),
                config,
                snapshot,
                registry,
                watch,
                flows: HashMap::new(),
                retired: HashMap::new(),
                reloads_ok: 0,
                reloads_refused: 0,
                is_draining: false,
            }),
        };
        let commands = supervisor.state().accept_on(sockets, worker_count);
        // Nobody knows of the proxy yet, so nobody waits for this.
        supervisor.workers.send(commands);
        tracing::info!(
            "serving generation={generation} backends={backends} workers={worker_count} \
             max_sessions={max_sessions} max_flows={max_flows}"
        );
        Ok(supervisor)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let loaded = config_file::load(&self.config_path);
        let mut tried = match &loaded {
            Ok(file) => file.checked.config.generation,
            Err(error) => error.generation(),
        };
        let outcome = match loaded {
            Ok(file) => self.apply(file).await,
            Err(error) => Err(ReloadError::Config(error)),
        };
        let refusal = match outcome {
            Ok(generation) => {
                tried = Some(generation);
                None
            }
            Err(error) => {
                let reason = self.explain(&error);
                tracing::error!("reload config refused: {reason}");
                self.state().reloads_refused += 1;
                Some(reason)
            }
        };
        let reload = Reload {
            at_ms,
            ok: refusal.is_none(),
            generation: tried,
            reason: refusal,
        };
        self.running
            .send_modify(|running| running.last_reload = Some(reload));
    }

    /// What was refused, and whether that is for what the process gave up at its start.
    fn explain(&self, error: &ReloadError) -> String {
        let hint = match error {
            ReloadError::Config(error) if error.is_forbidden() => self.confinement.of_reading(),
            ReloadError::Bind(error) if error.is_forbidden() => self.confinement.of_binding(),
            ReloadError::Config(_) | ReloadError::Bind(_) => None,
        };
        hint.map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))
    }

    /// Carries a checked file out. Returns the generation that now runs.
    async fn apply(&self, file: ConfigFile) -> Result<u64, ReloadError> {
        warn_of_unknown_keys(&file);
        let config = file.checked.config;
        let config_digest = file.checked.config_digest;
        let listeners = listener_status(&config);
        let backends = backend_count(&config);
        let before = self.running.borrow().generation;
        let generation = config.generation.unwrap_or(before + 1);
        let (commands, replaced) = {
            let mut state = self.state();
            let replaced = Arc::clone(&state.snapshot);
            let worker_count = self.workers.count();
            let commands = state.listen(&config, worker_count, &self.limits)?;
            state.config = config;
            let State {
                config,
                registry,
                watch,
                ..
            } = &mut *state;
            watch.configure(config, registry, monotonic_ms());
            health::log_all_down(&replaced, &state.snapshot);
            (commands, replaced)
        };
        self.workers.tell_each(commands).await;
        self.scoring_bell().ring();
        // The last reference, so that no worker has to free what may be large.
        drop(replaced);
        self.state().reloads_ok += 1;
        self.running.send_modify(|running| {
            running.generation = generation;
            running.digest = file.digest;
            running.config_digest = Some(config_digest);
            running.loaded_at_ms = unix_ms();
            running.listeners = listeners;
            running.addresses = file.addresses;
        });
        tracing::info!("reload config success generation={generation} backends={backends}");
        self.close_unused().await;
        Ok(generation)
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
                snapshot.epoch + 1,
                config,
                registry,
                snapshot.max_sessions,
                snapshot.max_flows_per_worker,
                monotonic_ms(),
            );
            score(&new);
            let replaced = std::mem::replace(snapshot, Arc::new(new));
            health::log_all_down(&replaced, snapshot);
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

    /// Whether sockets wait for [`Supervisor::close_unused`].
    pub fn has_retired(&self) -> bool {
        !self.state().retired.is_empty()
    }

    /// Closes retired endpoints: UDP when the last flow has ended, TCP when who was on the way there
    /// has come.
    pub async fn close_unused(&self) {
        let unused = {
            let mut state = self.state();
            let State { retired, flows, .. } = &mut *state;
            let now_ms = monotonic_ms();
            let is_unused = |endpoint: &Endpoint, since_ms: &mut u64| match endpoint.protocol {
                Protocol::Tcp => now_ms >= *since_ms + HANDSHAKES_TAKE_MS,
                Protocol::Udp => {
                    let count = flows.get(endpoint);
                    count.is_none_or(|count| count.load(Relaxed) == 0)
                }
            };
            let unused = retired.extract_if(is_unused);
            let unused: Vec<Endpoint> = unused.map(|(endpoint, _)| endpoint).collect();
            flows.retain(|_, count| Arc::strong_count(count) > 1);
            unused
        };
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
            let mut open = std::mem::take(&mut state.open);
            open.extend(state.retired.drain().map(|(endpoint, _)| endpoint));
            (open, state.config.settings.drain_timeout())
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
            tracing::warn!("drain deadline passed with {} open", self.in_flight());
        }
    }

    fn in_flight(&self) -> u64 {
        let of_worker = |counters: &WorkerCounters| {
            counters.sessions_active.load(Relaxed) + counters.flows_active.load(Relaxed)
        };
        self.counters().map(of_worker).sum()
    }

    /// Returns once every worker has turned.
    pub async fn reach_workers(&self) {
        self.workers.tell_all(Vec::new).await;
    }

    /// Ends every session and flow, and the workers with them.
    pub async fn stop(&self) {
        self.workers.stop().await;
    }
}

impl State {
    /// Takes a report of `addr` into account at once.
    pub fn score_report(&self, addr: BackendAddr, now: Now) {
        for pool in &self.snapshot.pools {
            if let Some(index) = pool.index_of(addr) {
                pool.score_report(index, now);
            }
        }
    }

    /// Opens what `config` listens on and this process does not yet, builds the new snapshot, and
    /// returns each worker's commands. Either all is bound or nothing changes.
    fn listen(
        &mut self,
        config: &Config,
        worker_count: usize,
        limits: &Limits,
    ) -> Result<Vec<Vec<Command>>, BindError> {
        let wanted = endpoints(&config.listeners);
        let Plan {
            open,
            keep: _,
            close,
        } = plan(&self.open, &wanted);
        let (revive, open): (Vec<Endpoint>, Vec<Endpoint>) = open
            .into_iter()
            .partition(|endpoint| self.retired.contains_key(endpoint));
        let mut bound = Vec::new();
        for endpoint in open {
            let is_ours = self.holds_port_of(endpoint);
            bound.push((endpoint, listen::bind(endpoint, worker_count, is_ours)?));
        }
        // Nothing can fail from here on.
        let epoch = self.snapshot.epoch + 1;
        self.snapshot = Arc::new(build(epoch, config, &mut self.registry, limits));
        for endpoint in &revive {
            self.retired.remove(endpoint);
        }
        let now_ms = monotonic_ms();
        self.retired
            .extend(close.iter().map(|endpoint| (*endpoint, now_ms)));
        self.open = wanted;

        let mut commands = self.accept_on(bound, worker_count);
        for commands in &mut commands {
            commands.extend(revive.iter().copied().map(Command::Revive));
            commands.push(Command::Install(Arc::clone(&self.snapshot)));
            commands.extend(close.iter().copied().map(Command::Retire));
        }
        Ok(commands)
    }

    /// Each worker's commands to accept on what was bound, and the counts that go with it.
    fn accept_on(&mut self, sockets: BoundSockets, worker_count: usize) -> Vec<Vec<Command>> {
        let mut commands: Vec<Vec<Command>> = (0..worker_count).map(|_| Vec::new()).collect();
        for (endpoint, sockets) in sockets {
            let flows = Arc::new(AtomicU64::new(0));
            self.flows.insert(endpoint, Arc::clone(&flows));
            for (commands, socket) in commands.iter_mut().zip(sockets) {
                commands.push(Command::Open {
                    endpoint,
                    socket,
                    flows: Arc::clone(&flows),
                });
            }
        }
        commands
    }

    /// Whether a worker of ours still has a socket on the port, be it a retired one.
    fn holds_port_of(&self, endpoint: Endpoint) -> bool {
        self.flows.iter().any(|(ours, count)| {
            let is_open = Arc::strong_count(count) > 1;
            let same_port = ours.addr.port() == endpoint.addr.port();
            is_open && same_port && ours.protocol == endpoint.protocol
        })
    }
}

fn build(epoch: u64, config: &Config, registry: &mut BackendRegistry, limits: &Limits) -> Snapshot {
    let bounds = limits.bounds(&config.settings);
    let max_flows = limits.max_flows(&bounds);
    warn_of_lowered_bounds(&config.settings, bounds.max_sessions, max_flows);
    let snapshot = Snapshot::build(
        epoch,
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
    let now = scoring::now();
    let next = snapshot.pools.iter().filter_map(|pool| pool.score(now));
    next.min()
}

fn warn_of_lowered_bounds(settings: &Settings, max_sessions: u64, max_flows: u64) {
    let bounds = [
        ("/max_sessions", settings.max_sessions, max_sessions),
        ("/max_flows", settings.max_flows, max_flows),
    ];
    for (place, asked, in_force) in bounds {
        if let Some(asked) = asked.filter(|asked| *asked > in_force) {
            tracing::warn!(
                "{place}: found {asked}, in force {in_force}: the descriptor limit allows no more"
            );
        }
    }
}

fn warn_of_unknown_keys(file: &ConfigFile) {
    let unknown_keys = &file.checked.unknown_keys;
    if !unknown_keys.is_empty() {
        // One line, however many backends carry such a key.
        tracing::warn!("ignored: {unknown_keys}");
    }
}

fn listener_status(config: &Config) -> Vec<ListenerStatus> {
    let status = |listener: &contract::Listener| ListenerStatus {
        addr: listener.addr,
        tcp: listener.tcp,
        udp: listener.udp,
    };
    config.listeners.iter().map(status).collect()
}

fn backend_count(config: &Config) -> usize {
    config.pools.iter().map(|pool| pool.backends.len()).sum()
}
