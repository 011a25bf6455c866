//! The health of all backends together: takes results of probes and failures of sessions, keeps the
//! bound on the ejections of each pool, and says when the next probe, and when a new snapshot, is due.
//!
//! Pure: the shell makes the probes, tells the time and installs the snapshots. Whatever happens
//! here costs no more than the backends it happens to; only a new configuration looks at all.

use std::collections::{BTreeSet, HashMap, HashSet};

use contract::health::Health as Rules;
use contract::{BackendAddr, Config};

use super::blame::is_to_blame;
use super::schedule::{Job, Pace, Schedule};
use super::slow_start::step_ms;
use super::standing::{Outcome, Standing};
use super::{PROTOCOLS, subject};
use crate::backend::BackendState;
use crate::ids::{MemberId, PoolId};
use crate::plan::Protocol;
use crate::registry::BackendRegistry;
use crate::snapshot::Snapshot;

/// The least time between two snapshots: changes that come together are one.
pub const MIN_REFRESH_MS: u64 = 50;

/// A snapshot that takes long to build comes less often: building takes a tenth of the time at most.
const REFRESH_SHARE: u64 = 10;

/// How long a backend is excused that is not to blame: the question is not asked again before.
const EXCUSED_MS: u64 = 1_000;
/// So many others of a pool are looked at to see how they fare.
const MOST_COMPARED: usize = 64;

/// A backend has failed as many sessions or flows in a row as are reason to eject it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// The backend.
    pub member: MemberId,
    /// Over which it failed.
    pub protocol: Protocol,
}

/// A backend is out for its health now, or in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The backend.
    pub member: MemberId,
    /// For which it changed.
    pub protocol: Protocol,
    /// Whether it takes new sessions or flows now.
    pub is_available: bool,
}

/// The health of all backends: whom to probe when, which ejection ends when, and when a new snapshot is due.
#[derive(Debug)]
pub struct Watch {
    schedule: Schedule,
    /// Ends of ejections that only wait for their time.
    releases: BTreeSet<(u64, MemberId)>,
    pools: HashMap<PoolId, WatchedPool>,
    /// Something changed that no snapshot shows yet.
    is_stale: bool,
    /// When the last refresh was asked for.
    refreshed_ms: u64,
    /// From one refresh to the next, at least.
    pause_ms: u64,
    /// Not yet taken; as many as came since.
    changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct WatchedPool {
    rules: Rules,
    slow_start_until_ms: u64,
    /// The backends that take new sessions by configuration: those that the bound on ejections is a
    /// share of.
    candidates: Vec<BackendAddr>,
    are_candidates: HashSet<BackendAddr>,
    /// How many candidates are out, a protocol each.
    out: [usize; 2],
    /// Ejections that the bound did not allow.
    spared: u64,
}

impl Watch {
    /// Watches nothing before the first [`configure`](Self::configure).
    pub fn new() -> Watch {
        Watch {
            schedule: Schedule::default(),
            releases: BTreeSet::new(),
            pools: HashMap::new(),
            is_stale: false,
            refreshed_ms: 0,
            pause_ms: MIN_REFRESH_MS,
            changes: Vec::new(),
        }
    }

    /// Goes by this configuration, of which `snapshot` has been built: each backend's standing knows of
    /// it already.
    pub fn configure(
        &mut self,
        config: &Config,
        snapshot: &Snapshot,
        registry: &BackendRegistry,
        now_ms: u64,
    ) {
        let mut targets = Vec::new();
        let mut probed_otherwise = HashSet::new();
        let mut before = std::mem::take(&mut self.pools);
        self.releases.clear();
        let ids = snapshot.pools.iter().map(|pool| pool.id);
        for (at, (pool, id)) in config.pools.iter().zip(ids).enumerate() {
            let is_probed = subject(config, at).is_some();
            let rules = &pool.settings.health;
            let before = before.remove(&id).unwrap_or_default();
            if before.rules.probe != rules.probe {
                probed_otherwise.insert(id);
            }
            let mut watched = WatchedPool {
                rules: rules.clone(),
                spared: before.spared,
                ..WatchedPool::default()
            };
            for backend in &pool.backends {
                let member = MemberId {
                    pool: id,
                    addr: backend.addr,
                };
                if backend.enabled && is_probed {
                    targets.push(member);
                }
                let is_candidate = backend.enabled && backend.weight > 0;
                if is_candidate {
                    watched.candidates.push(backend.addr);
                }
                if let Some(state) = registry.find(member) {
                    self.watch(&mut watched, state, is_candidate);
                }
            }
            watched.are_candidates = watched.candidates.iter().copied().collect();
            self.pools.insert(id, watched);
        }
        let restarts = |member: MemberId| probed_otherwise.contains(&member.pool);
        self.schedule.set_targets(targets, restarts, now_ms);
    }

    /// Takes note of how a backend of the pool `watched` stands.
    fn watch(&mut self, watched: &mut WatchedPool, backend: &BackendState, is_candidate: bool) {
        let slow_start_ms = backend.health().slow_start().end_ms();
        watched.slow_start_until_ms = watched.slow_start_until_ms.max(slow_start_ms);
        let standing = backend.health().standing();
        for protocol in PROTOCOLS {
            let is_out = is_candidate && !standing.is_available(protocol);
            watched.out[protocol as usize] += usize::from(is_out);
        }
        let release = standing.next_release_ms(watched.rules.probe.rise);
        self.releases
            .extend(release.map(|at_ms| (at_ms, backend.id())));
    }

    /// The next probe to make, if one is due.
    pub fn take_due(&mut self, now_ms: u64) -> Option<Job> {
        self.schedule.take_due(now_ms)
    }

    /// When [`Watch::take_due`] has a probe next.
    pub fn next_probe_ms(&self) -> Option<u64> {
        self.schedule.next_due_ms()
    }

    /// A probe has ended.
    pub fn probed(
        &mut self,
        registry: &BackendRegistry,
        job: Job,
        outcome: Outcome,
        now_ms: u64,
        random: &mut fastrand::Rng,
    ) {
        let Some(pool) = self.pools.get(&job.member.pool) else {
            return;
        };
        let probe = &pool.rules.probe;
        let pace = Pace {
            interval_ms: probe.interval_ms,
            jitter_percent: probe.jitter_percent,
        };
        if !self.schedule.ended(job, pace, now_ms, random) {
            return;
        }
        if let Some(backend) = registry.find(job.member) {
            self.change(backend, now_ms, |standing, rules| {
                standing.probed(outcome, &rules.probe, now_ms);
            });
            if let Some(protocol) = backend.health().standing().probes_were_answered_over() {
                backend.protocols().set_answered(protocol);
            }
        }
    }

    /// Ejects a backend that fails its sessions or flows, unless too many are out by then.
    pub fn failing(&mut self, registry: &BackendRegistry, failing: Failing, now_ms: u64) {
        let Failing { member, protocol } = failing;
        let pool = self.pools.get(&member.pool);
        let pool = pool.filter(|pool| pool.are_candidates.contains(&member.addr));
        let (Some(pool), Some(backend)) = (pool, registry.find(member)) else {
            return;
        };
        // No backend has ever answered in this protocol, so no other one would be better.
        if backend.protocols().may_lack(protocol) {
            return;
        }
        let failures = backend.health().failures_in_row(protocol);
        let needed = pool.rules.ejection.failures;
        // It may have answered since, or the rule may have changed.
        if needed == 0 || u64::from(failures) < needed {
            return;
        }
        // Down already, and used since all are: there is nothing to take it out of.
        if !backend.health().standing().is_available(protocol) {
            return;
        }
        let by_itself = u64::from(failures.saturating_sub(match protocol {
            Protocol::Tcp => backend.health().unanswered_in_row(),
            Protocol::Udp => 0,
        }));
        if by_itself < needed && !pool.is_to_blame(registry, backend, now_ms) {
            backend.health().forget_unanswered();
            backend.health().excuse_until(now_ms + EXCUSED_MS);
            backend.forgive_unanswered();
            return;
        }
        let most_out = pool.most_out();
        if pool.out[protocol as usize] >= most_out {
            if let Some(pool) = self.pools.get_mut(&member.pool) {
                pool.spared += 1;
            }
            return;
        }
        backend.health().answered(protocol);
        self.change(backend, now_ms, |standing, rules| {
            standing.eject(protocol, failures, &rules.ejection, now_ms);
        });
    }

    /// Ends what has had its time.
    pub fn run_timers(&mut self, registry: &BackendRegistry, now_ms: u64) {
        while let Some(&(at_ms, member)) = self.releases.first() {
            if at_ms > now_ms {
                return;
            }
            self.releases.pop_first();
            if let Some(backend) = registry.find(member) {
                self.change(backend, now_ms, |_, _| {});
            }
        }
    }

    /// Takes one step of a backend, and all that follows from it for the whole.
    fn change(
        &mut self,
        backend: &BackendState,
        now_ms: u64,
        step: impl FnOnce(&mut Standing, &Rules),
    ) {
        // One that was removed with its pool has nothing to come back to.
        let Some(pool) = self.pools.get_mut(&backend.pool) else {
            return;
        };
        let rise = pool.rules.probe.rise;
        let mut standing = backend.health().standing();
        if let Some(at_ms) = standing.next_release_ms(rise) {
            self.releases.remove(&(at_ms, backend.id()));
        }
        let before = PROTOCOLS.map(|protocol| standing.is_available(protocol));
        step(&mut standing, &pool.rules);
        standing.release(rise, now_ms);
        let after = PROTOCOLS.map(|protocol| standing.is_available(protocol));
        if let Some(at_ms) = standing.next_release_ms(rise) {
            self.releases.insert((at_ms, backend.id()));
        }
        for protocol in PROTOCOLS {
            let at = protocol as usize;
            if before[at] == after[at] {
                continue;
            }
            self.is_stale = true;
            self.changes.push(Change {
                member: backend.id(),
                protocol,
                is_available: after[at],
            });
            if pool.are_candidates.contains(&backend.addr) {
                match after[at] {
                    true => pool.out[at] -= 1,
                    false => pool.out[at] += 1,
                }
            }
        }
        let is_back =
            |protocol: &Protocol| !before[*protocol as usize] && after[*protocol as usize];
        for protocol in PROTOCOLS.into_iter().filter(is_back) {
            // Sessions that were begun before it went out say nothing of it now.
            backend.health().answered(protocol);
            let slow_start = backend.health().slow_start();
            slow_start.begin(now_ms);
            pool.slow_start_until_ms = pool.slow_start_until_ms.max(slow_start.end_ms());
        }
    }

    /// When a new snapshot is due: at once for a change, and step by step while a ramp lasts.
    pub fn next_refresh_ms(&self) -> Option<u64> {
        if self.is_stale {
            return Some(self.refreshed_ms + self.pause_ms);
        }
        let ramping = self.pools.values().filter(|pool| {
            pool.rules.slow_start_ms > 0 && self.refreshed_ms < pool.slow_start_until_ms
        });
        let shortest_ms = ramping
            .map(|pool| step_ms(pool.rules.slow_start_ms))
            .min()?;
        Some(self.refreshed_ms + shortest_ms.max(self.pause_ms))
    }

    /// Whether the caller is to build and install a new snapshot now.
    pub fn take_refresh(&mut self, now_ms: u64) -> bool {
        let is_due = self.next_refresh_ms().is_some_and(|at_ms| at_ms <= now_ms);
        if is_due {
            self.is_stale = false;
            self.refreshed_ms = now_ms;
        }
        is_due
    }

    /// The last refresh took so long.
    pub fn refresh_took(&mut self, took_ms: u64) {
        self.pause_ms = MIN_REFRESH_MS.max(took_ms * REFRESH_SHARE);
    }

    /// When the next thing but a probe is to be done.
    pub fn next_wakeup_ms(&self) -> Option<u64> {
        let release_ms = self.releases.first().map(|(at_ms, _)| *at_ms);
        release_ms.into_iter().chain(self.next_refresh_ms()).min()
    }

    /// What has changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Ejections in a pool that the bound did not allow.
    pub fn spared(&self, pool: PoolId) -> u64 {
        self.pools.get(&pool).map_or(0, |pool| pool.spared)
    }
}

impl WatchedPool {
    /// Whether sessions without an answer are the fault of `backend`, and not of its clients or its
    /// protocol.
    fn is_to_blame(&self, registry: &BackendRegistry, backend: &BackendState, now_ms: u64) -> bool {
        let sources = backend.health().failed_sources().count(now_ms);
        let mut all = self.candidates.iter();
        let place = all.position(|addr| *addr == backend.addr).unwrap_or(0);
        // Not always the same ones, where there are many.
        let (before, from) = self.candidates.split_at(place);
        let others = from.iter().skip(1).chain(before).take(MOST_COMPARED);
        let others = others.filter_map(|addr| {
            registry.find(MemberId {
                pool: backend.pool,
                addr: *addr,
            })
        });
        let others: Vec<_> = others.map(|other| other.record()).collect();
        is_to_blame(&backend.record(), &others, sources)
    }

    /// How many candidates may be out, as far as ejection has a say in it.
    fn most_out(&self) -> usize {
        self.candidates.len() * self.rules.ejection.max_percent as usize / 100
    }
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new()
    }
}
