//! Which backends are well enough for new sessions and flows, and how fast they come back.
//!
//! Two sources, both of them pure here: active probes ([`Standing::probed`]) and what sessions and
//! flows meet ([`Health::failed`], then [`Standing::eject`]). [`watch`] ties them together for all
//! backends: whom to probe when ([`schedule`]), how many may be ejected, when a new snapshot is due.
//! [`blame`] whose fault it is where sessions stay without an answer, of which [`sources`] keeps the
//! clients. [`roster`] says what of it counts for one pool and protocol.
//!
//! Each protocol has its own verdict, see [`Standing::speaks_for`]. Open sessions are not touched
//! by any of this: a connection tells by itself.
//!
//! [`Health`] is what a [`BackendState`](crate::backend::BackendState) holds, so all of this is kept
//! by backend identity over every reload (invariant 1). Workers count in it; the main thread judges.

pub mod blame;
mod ejection;
pub mod roster;
pub mod schedule;
mod slow_start;
pub mod sources;
mod standing;
pub mod watch;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::health::{Health as Rules, ProbeKind};
use contract::{Backend, Config, Listener};

pub use slow_start::SlowStart;
pub use standing::{LastProbe, Outcome, Standing, Verdict};

use crate::plan::Protocol;
use blame::{ENOUGH_SOURCES, Tally};
use sources::{FailedSources, Source};

/// Both protocols, each at its place in what is kept by protocol.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The health of one backend.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures in a row, a protocol each. Written by the workers.
    streaks: [AtomicU32; 2],
    /// How many of those of TCP are sessions that the backend ended without an answer.
    unanswered: AtomicU32,
    failed_sources: FailedSources,
    /// Until then, sessions without an answer are not its fault.
    excused_until_ms: AtomicU64,
    /// A new snapshot moves the flows that this backend has.
    moves_flows: AtomicBool,
    slow_start: SlowStart,
    /// Nobody but the main thread locks it.
    standing: Mutex<Standing>,
}

/// What a session without an answer is for its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Not its fault, as far as is known.
    Ignored,
    /// Its fault.
    Failure,
    /// A failure, with which there are so many in a row that it may have to be ejected.
    OneTooMany,
}

impl Health {
    /// A worker counts a session or flow that this backend failed. Returns whether there are now so
    /// many in a row that it should be ejected; asked again after as many more.
    pub fn failed(&self, protocol: Protocol, failures_to_eject: u64) -> bool {
        let in_row = self.streaks[protocol as usize].fetch_add(1, Relaxed) + 1;
        failures_to_eject > 0 && u64::from(in_row).is_multiple_of(failures_to_eject)
    }

    /// A worker counts a session of `source` that the backend ended without an answer, also in its
    /// `tally`. It is a failure only where others serve that source (`can_tell`) or several sources meet
    /// it, and then once a source: of a few strangers, it may be the right answer to what they send,
    /// however much that is.
    pub(crate) fn left_unanswered(
        &self,
        source: Source,
        can_tell: bool,
        tally: &Tally,
        failures_to_eject: u64,
        now_ms: u64,
    ) -> Unanswered {
        let is_new = self.failed_sources.add(source, now_ms);
        let are_enough = self.failed_sources.count(now_ms) >= ENOUGH_SOURCES;
        if !(can_tell || are_enough && is_new) {
            return Unanswered::Ignored;
        }
        tally.unanswered();
        if now_ms < self.excused_until_ms.load(Relaxed) {
            return Unanswered::Ignored;
        }
        self.unanswered.fetch_add(1, Relaxed);
        match self.failed(Protocol::Tcp, failures_to_eject) {
            true => Unanswered::OneTooMany,
            false => Unanswered::Failure,
        }
    }

    /// A worker counts an answer. Written only when it changes something, so that the line stays
    /// shared between cores.
    pub fn answered(&self, protocol: Protocol) {
        let streak = &self.streaks[protocol as usize];
        if streak.load(Relaxed) != 0 {
            streak.store(0, Relaxed);
            if protocol == Protocol::Tcp {
                self.unanswered.store(0, Relaxed);
            }
        }
    }

    /// Consecutive sessions or flows that this backend failed.
    pub fn failures_in_row(&self, protocol: Protocol) -> u32 {
        self.streaks[protocol as usize].load(Relaxed)
    }

    /// Takes the unanswered ones off those in a row: they were not its fault.
    pub(crate) fn forget_unanswered(&self) {
        let count = self.unanswered.swap(0, Relaxed);
        let less = |in_row: u32| Some(in_row.saturating_sub(count));
        // `less` never declines.
        let _ = self.streaks[Protocol::Tcp as usize].fetch_update(Relaxed, Relaxed, less);
    }

    /// Of those in a row over TCP, the sessions that it ended without an answer.
    pub fn unanswered_in_row(&self) -> u32 {
        self.unanswered.load(Relaxed)
    }

    /// Sources whose sessions failed in the current streak.
    pub fn failed_sources(&self) -> &FailedSources {
        &self.failed_sources
    }

    pub(crate) fn excuse_until(&self, at_ms: u64) {
        self.excused_until_ms.store(at_ms, Relaxed);
    }

    /// Whether flows leave this backend at their next datagram.
    pub fn moves_flows(&self) -> bool {
        self.moves_flows.load(Relaxed)
    }

    pub(crate) fn set_moves_flows(&self, moves: bool) {
        self.moves_flows.store(moves, Relaxed);
    }

    /// How far its slow start has come.
    pub fn slow_start(&self) -> &SlowStart {
        &self.slow_start
    }

    /// What probes and ejections say. Only the main thread may call it: no worker waits for a lock.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a configuration says of this backend: `None` where it is not in it. The same
    /// configuration twice is as good as once.
    pub fn configure(
        &self,
        backend: Option<&Backend>,
        rules: &Rules,
        subject: Subject,
        now_ms: u64,
    ) {
        let is_enabled = backend.is_some_and(|backend| backend.enabled);
        let is_warming = backend.is_some_and(|backend| backend.is_warming_up);
        let begins = self.standing().configure(is_enabled, is_warming, subject);
        self.slow_start.set_length(rules.slow_start_ms);
        if begins {
            self.slow_start.begin(now_ms);
        }
        if !is_enabled {
            PROTOCOLS
                .into_iter()
                .for_each(|protocol| self.answered(protocol));
        }
    }
}

/// What the verdict of a probe is about; `None`: none runs.
pub type Subject = Option<Protocol>;

/// The listeners that lead to a pool of `config`, which stands at `pool` there.
pub fn listeners_of(config: &Config, pool: usize) -> impl Iterator<Item = &Listener> {
    let all = config.listeners.iter();
    let enabled = all.filter(|listener| listener.enabled);
    enabled.filter(move |listener| listener.routes.pools().any(|one| *one == pool))
}

/// Of the pool that stands at `pool` in `config`.
///
/// A plain TCP probe runs only for listeners that take TCP, and a UDP probe only for those that take
/// UDP: else it would tell of something that nobody asked for. The other kinds are there only where
/// somebody wrote them down, and then they are meant.
pub fn subject(config: &Config, pool: usize) -> Subject {
    let any = |takes: fn(&Listener) -> bool| listeners_of(config, pool).any(takes);
    match config.pools[pool].settings.health.probe.kind {
        ProbeKind::Off => None,
        ProbeKind::Tcp => any(|listener| listener.tcp).then_some(Protocol::Tcp),
        ProbeKind::SendExpect | ProbeKind::Http => Some(Protocol::Tcp),
        ProbeKind::Udp => any(|listener| listener.udp).then_some(Protocol::Udp),
    }
}

/// Whether any of `listeners` takes `protocol`: else nothing that is known of it concerns anybody.
pub fn is_served<'a>(
    mut listeners: impl Iterator<Item = &'a Listener>,
    protocol: Protocol,
) -> bool {
    listeners.any(|listener| match protocol {
        Protocol::Tcp => listener.tcp,
        Protocol::Udp => listener.udp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    #[test]
    fn strangers_count_from_the_third_on_and_not_while_a_backend_is_excused() {
        let health = Health::default();
        let tally = Tally::default();
        let of = |last, now_ms| health.left_unanswered(source(last), false, &tally, 9, now_ms);
        let few = [1, 2, 1, 2, 1].map(|last| of(last, 0));
        assert_eq!(few, [Unanswered::Ignored; 5]);
        assert_eq!(of(3, 0), Unanswered::Failure);
        assert_eq!(of(3, 0), Unanswered::Ignored, "once");
        health.excuse_until(1_000);
        assert_eq!(of(4, 999), Unanswered::Ignored);
        assert_eq!(of(5, 1_000), Unanswered::Failure);
        assert_eq!(
            of(6, 61_001),
            Unanswered::Ignored,
            "the others are long gone"
        );
    }

    #[test]
    fn what_was_not_its_fault_leaves_what_was_in_the_row() {
        let health = Health::default();
        let tally = Tally::default();
        let unanswered = || health.left_unanswered(source(1), true, &tally, 4, 0);
        assert!(!health.failed(Protocol::Tcp, 4));
        let ends = [unanswered(), unanswered(), unanswered()];
        let expected = [
            Unanswered::Failure,
            Unanswered::Failure,
            Unanswered::OneTooMany,
        ];
        assert_eq!((ends, health.unanswered_in_row()), (expected, 3));
        health.forget_unanswered();
        assert_eq!(health.failures_in_row(Protocol::Tcp), 1);
        health.answered(Protocol::Tcp);
        assert_eq!(health.failures_in_row(Protocol::Tcp), 0);
    }

    #[test]
    fn only_failures_in_a_row_ask_for_ejection() {
        let health = Health::default();
        let fails = |count: u32| -> Vec<bool> {
            (0..count)
                .map(|_| health.failed(Protocol::Tcp, 3))
                .collect()
        };
        assert_eq!(fails(2), [false, false]);
        health.answered(Protocol::Tcp);
        assert_eq!(fails(3), [false, false, true]);
        // Asked again only after as many more.
        assert_eq!(fails(3), [false, false, true]);
        assert_eq!(health.failures_in_row(Protocol::Tcp), 6);
        assert_eq!(health.failures_in_row(Protocol::Udp), 0);
        assert!(!(0..100).any(|_| health.failed(Protocol::Udp, 0)));
    }
}
