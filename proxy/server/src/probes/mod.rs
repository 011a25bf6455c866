//! The shell around the health of backends: makes the probes, takes what workers report, and has
//! new snapshots installed. All decisions are the core's ([`proxy_core::health::watch`]).
//!
//! A task of the main thread, so no worker ever waits for a probe. With nothing to probe and nothing
//! failing it sleeps for ever.

mod probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::health::Outcome;
use proxy_core::health::schedule::Job;
use proxy_core::health::watch::{Change, Failing};
use proxy_core::ids::MemberId;
use proxy_core::registry::BackendRegistry;
use proxy_engine::clock::monotonic_ms;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::probe::Closing;
use crate::reasons;
use crate::supervise::Supervisor;
use crate::supervise::state::State;

/// Reports of workers that wait, at most; one that finds no room comes again with the next failures.
const MOST_REPORTS: usize = 1024;

/// How workers report to [`keep_watch`].
pub fn reports() -> (mpsc::Sender<Failing>, mpsc::Receiver<Failing>) {
    mpsc::channel(MOST_REPORTS)
}

/// Probes under way, and connections of ended ones that are being closed.
type Probes = JoinSet<Option<Probed>>;

/// A probe that has ended.
struct Probed {
    job: Job,
    outcome: Outcome,
    closing: Option<Closing>,
}

/// Watches over all backends, for ever.
pub async fn keep_watch(supervisor: Arc<Supervisor>, mut reports: mpsc::Receiver<Failing>) {
    let mut reloads = supervisor.running();
    let mut probes = Probes::new();
    let mut random = fastrand::Rng::new();
    loop {
        let is_refresh_due = run_timers(&mut supervisor.state());
        if is_refresh_due {
            let begun_ms = monotonic_ms();
            supervisor.refresh().await;
            let took_ms = monotonic_ms() - begun_ms;
            supervisor.state().watch.refresh_took(took_ms);
        }
        start_due_probes(&supervisor, &mut probes);
        let has_room = probes.len() < supervisor.most_probes();
        let wakeup_ms = next_wakeup_ms(&supervisor.state(), has_room);
        tokio::select! {
            biased;
            // What a reload changes has been taken over by then; it only has to be acted on.
            changed = reloads.changed() => if changed.is_err() { return },
            Some(failing) = reports.recv() => {
                let State { watch, registry, .. } = &mut *supervisor.state();
                watch.failing(registry, failing, monotonic_ms());
            }
            Some(ended) = probes.join_next() => if let Ok(Some(probed)) = ended {
                let Probed { job, outcome, closing } = probed;
                if let Some(closing) = closing {
                    // Nobody waits for it, but its descriptor counts as that of a probe.
                    probes.spawn(async {
                        closing.run().await;
                        None
                    });
                }
                let State { watch, registry, .. } = &mut *supervisor.state();
                if let Outcome::OwnListener(listener) = outcome {
                    warn_of_own_listener(registry, job.member, listener);
                }
                watch.probed(registry, job, outcome, monotonic_ms(), &mut random);
            },
            () = sleep_until(wakeup_ms) => {}
        }
    }
}

/// Does what is due, and returns whether a new snapshot is.
fn run_timers(state: &mut State) -> bool {
    let now_ms = monotonic_ms();
    state.watch.run_timers(&state.registry, now_ms);
    let mut changes = state.watch.take_changes();
    changes.retain(|change| {
        let pool = state.snapshot.pool(change.member.pool);
        pool.is_some_and(|pool| pool.serves(change.protocol))
    });
    let belong_together = |one: &Change, next: &Change| {
        (one.member, one.is_available) == (next.member, next.is_available)
    };
    changes
        .chunk_by(belong_together)
        .for_each(|together| log(state, together));
    state.watch.take_refresh(now_ms)
}

fn start_due_probes(supervisor: &Supervisor, probes: &mut Probes) {
    let mut state = supervisor.state();
    let now_ms = monotonic_ms();
    while probes.len() < supervisor.most_probes() {
        let Some(job) = state.watch.take_due(now_ms) else {
            return;
        };
        let snapshot = Arc::clone(&state.snapshot);
        let Some(pool) = snapshot.pool(job.member.pool) else {
            continue;
        };
        let rules = pool.settings.health.probe.clone();
        let target = probe::target(job.member.addr, &rules);
        let own = probe::own_listener(target, rules.kind, &state.config.listeners);
        probes.spawn(async move {
            let (outcome, closing) = match own {
                Some(listener) => (Outcome::OwnListener(listener), None),
                None => probe::probe(target, &rules).await,
            };
            let probed = Probed {
                job,
                outcome,
                closing,
            };
            Some(probed)
        });
    }
}

/// Told once, not with each probe that is not made.
fn warn_of_own_listener(registry: &BackendRegistry, member: MemberId, listener: SocketAddr) {
    let addr = member.addr;
    let last = registry
        .find(member)
        .and_then(|backend| backend.health().standing().last_probe());
    let outcome = Outcome::OwnListener(listener);
    if last.is_none_or(|last| last.outcome != outcome) {
        tracing::warn!(
            "backend {addr} is not probed: health.port leads to the proxy's own listener {listener}"
        );
    }
}

/// When there is something to do that no event tells of.
fn next_wakeup_ms(state: &State, has_room: bool) -> Option<u64> {
    let probe_ms = state.watch.next_probe_ms().filter(|_| has_room);
    probe_ms
        .into_iter()
        .chain(state.watch.next_wakeup_ms())
        .min()
}

async fn sleep_until(at_ms: Option<u64>) {
    match at_ms {
        None => std::future::pending().await,
        Some(at_ms) => {
            let wait_ms = at_ms.saturating_sub(monotonic_ms());
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}

/// One line for a backend, be it about one protocol or both.
fn log(state: &State, changes: &[Change]) {
    let [
        Change {
            member,
            is_available,
            ..
        },
        ..,
    ] = *changes
    else {
        return;
    };
    let pool = state.registry.pool_name(member.pool);
    let (Some(backend), Some(pool)) = (state.registry.find(member), pool) else {
        return;
    };
    let addr = member.addr;
    let what: Vec<String> = changes
        .iter()
        .map(|change| reasons::work_of(change.protocol).to_string())
        .collect();
    let what = what.join(" and ");
    let rules = match state.snapshot.pool(member.pool) {
        Some(pool) => &pool.settings.health,
        None => return,
    };
    let why = reasons::why(backend, rules, monotonic_ms());
    if is_available {
        tracing::info!("backend {addr} takes new {what} again: {why} pool={pool}");
    } else {
        tracing::warn!("backend {addr} takes no new {what}: {why} pool={pool}");
    }
}
