//! Which backends are well enough for new sessions and flows, and how fast they come back.
//!
//! Two sources, both of them pure here: active probes ([`Standing::probed`]) and what sessions and
//! flows meet ([`Health::failed`], then [`Standing::eject`]). [`watch`] ties them together for all
//! backends: whom to probe when ([`schedule`]), how many may be ejected, when a new snapshot is due.
//! [`roster`] says what of it counts for one pool and protocol.
//!
//! Each protocol has its own verdict, see [`Standing::speaks_for`]. Open sessions are not touched
//! by any of this: a connection tells by itself.
//!
//! [`Health`] is what a [`BackendState`](crate::backend::BackendState) holds, so all of this is kept
//! by backend identity over every reload (invariant 1). Workers count in it; the main thread judges.

mod ejection;
pub mod roster;
pub mod schedule;
mod slow_start;
mod standing;
pub mod watch;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::health::{Health as Rules, ProbeKind};
use contract::{Backend, Config, Listener};

pub use slow_start::SlowStart;
pub use standing::{LastProbe, Outcome, ProbeFailure, Standing, Verdict};

use crate::plan::Protocol;

/// Both protocols, each at its place in what is kept by protocol.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The health of one backend.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures in a row, a protocol each. Written by the workers.
    streaks: [AtomicU32; 2],
    /// A new snapshot moves the flows that this backend has.
    moves_flows: AtomicBool,
    slow_start: SlowStart,
    /// Nobody but the main thread locks it.
    standing: Mutex<Standing>,
}

impl Health {
    /// A worker counts a session or flow that this backend failed. Returns whether there are now so
    /// many in a row that it should be ejected; asked anew after as many more.
    pub fn failed(&self, protocol: Protocol, failures_to_eject: u64) -> bool {
        let in_row = self.streaks[protocol as usize].fetch_add(1, Relaxed) + 1;
        failures_to_eject > 0 && u64::from(in_row).is_multiple_of(failures_to_eject)
    }

    /// A worker counts an answer. Written only when it changes something, so that the line stays
    /// shared between cores.
    pub fn answered(&self, protocol: Protocol) {
        let streak = &self.streaks[protocol as usize];
        if streak.load(Relaxed) != 0 {
            streak.store(0, Relaxed);
        }
    }

    pub fn failures_in_row(&self, protocol: Protocol) -> u32 {
        self.streaks[protocol as usize].load(Relaxed)
    }

    /// Whether flows leave this backend at their next datagram.
    pub fn moves_flows(&self) -> bool {
        self.moves_flows.load(Relaxed)
    }

    pub(crate) fn set_moves_flows(&self, moves: bool) {
        self.moves_flows.store(moves, Relaxed);
    }

    pub fn slow_start(&self) -> &SlowStart {
        &self.slow_start
    }

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

/// A plain TCP probe runs only for listeners that take TCP, and a UDP probe only for those that take
/// UDP: else it would tell of something that nobody asked for. The other kinds are there only where
/// somebody wrote them down, and then they are meant.
pub fn subject(config: &Config) -> Subject {
    let any = |takes: fn(&Listener) -> bool| config.listeners.iter().any(takes);
    match config.settings.health.probe.kind {
        ProbeKind::Off => None,
        ProbeKind::Tcp => any(|listener| listener.tcp).then_some(Protocol::Tcp),
        ProbeKind::SendExpect | ProbeKind::Http => Some(Protocol::Tcp),
        ProbeKind::Udp => any(|listener| listener.udp).then_some(Protocol::Udp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
