//! A backend's own registration: what it sends, and what is kept of it.

use contract::{BackendKey, Batch, Report};

use crate::auth::SecretHash;
use crate::clock::Now;
use crate::sources::entry::Said;

/// Everything that a backend sends about itself, in each registration and heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    pub key: BackendKey,
    /// Absent: as before, or as the files list it.
    pub weight: Option<u16>,
    /// Absent: as the files list it.
    pub enabled: Option<bool>,
    /// Absent: according to `warmup_sec`, or as the files list it.
    pub is_warming_up: Option<bool>,
    pub report: Report,
    /// Age of the figures, if they were not read for this call.
    pub report_age_ms: u64,
    pub requests: Requests,
    pub batch: Option<Batch>,
    pub owner: Option<SecretHash>,
}

#[cfg(test)]
impl Registration {
    /// A registration that sets nothing.
    pub fn of(key: BackendKey) -> Registration {
        Registration {
            key,
            weight: None,
            enabled: None,
            is_warming_up: None,
            report: Report::default(),
            report_age_ms: 0,
            requests: Requests::default(),
            batch: None,
            owner: None,
        }
    }
}

/// The requests that a backend reports; only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    pub queue: Option<u64>,
    pub running: Option<u64>,
}

/// A stored registration. Values that it does not mention are left to the files that list the backend.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub warming: Warming,
    pub report: Report,
    pub requests: Requests,
    pub batch: Option<Batch>,
    /// The secret that is needed to refresh or remove it.
    pub owner: Option<SecretHash>,
    /// Time of the last heartbeat, on the clock of listening.
    pub heard_at_ms: u64,
    /// When its TTL was restarted since then, after a stall of control, on the same clock.
    pub fresh_at_ms: Option<u64>,
    /// The same on the wall clock, in Unix seconds; only shown.
    pub last_seen: u64,
    /// When its TTL ended, on the clock of listening.
    pub expired_at_ms: Option<u64>,
}

/// Whether a registration is warming up, and what decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warming {
    /// Without an owner's secret.
    Unsaid,
    /// As the backend reports.
    Said(bool),
    /// The server's warm-up of a new registration, until this monotonic millisecond.
    Until(u64),
}

impl Warming {
    /// Whether it is; `None` where the registration does not say.
    pub fn is_on(self) -> Option<bool> {
        match self {
            Warming::Unsaid => None,
            Warming::Said(on) => Some(on),
            Warming::Until(_) => Some(true),
        }
    }
}

/// How long a registration lives without a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryPolicy {
    pub ttl_ms: u64,
    /// Warm-up of a new registration that does not send `is_warming_up`; 0: none.
    pub warmup_ms: u64,
    /// Whether a mass expiry is held back, with an alarm, instead of carried out.
    pub freeze: bool,
}

impl Registered {
    /// What is kept of a registration; `old` is the one that it follows.
    pub(super) fn of(
        said: &Registration,
        old: Option<&Registered>,
        now: Now,
        policy: ExpiryPolicy,
    ) -> Registered {
        // A backend that comes back after its TTL has probably been restarted, and is cold again.
        let known = old.filter(|old| !old.is_expired());
        let warming = match (said.is_warming_up, known.map(|old| old.warming)) {
            (Some(said), _) => Warming::Said(said),
            (None, Some(Warming::Until(end))) => Warming::Until(end),
            (None, None) if policy.warmup_ms > 0 => {
                Warming::Until(now.monotonic_ms + policy.warmup_ms)
            }
            (None, Some(Warming::Unsaid | Warming::Said(_)) | None) => Warming::Unsaid,
        };
        Registered {
            weight: said.weight.or(old.and_then(|old| old.weight)),
            enabled: said.enabled,
            warming,
            report: Report {
                reported_at_ms: reported_at_ms(said, known, now),
                ..said.report
            },
            requests: said.requests,
            batch: said.batch,
            owner: said.owner,
            heard_at_ms: now.listened_ms,
            fresh_at_ms: None,
            last_seen: now.unix_s(),
            expired_at_ms: None,
        }
    }

    /// Its values for the backend, without its age.
    pub fn said(&self, key: &BackendKey) -> Said {
        Said {
            key: key.clone(),
            weight: self.weight,
            enabled: self.enabled,
            is_warming_up: self.warming.is_on(),
            report: self.report,
            batch: self.batch,
        }
    }

    pub(super) fn silence_ms(&self, now: Now) -> u64 {
        let from_ms = self.fresh_at_ms.unwrap_or(self.heard_at_ms);
        now.listened_ms.saturating_sub(from_ms)
    }

    pub fn is_expired(&self) -> bool {
        self.expired_at_ms.is_some()
    }

    /// Until its TTL ends; 0 once expired.
    pub fn ttl_remaining_ms(&self, now: Now, policy: ExpiryPolicy) -> u64 {
        if self.is_expired() {
            return 0;
        }
        policy.ttl_ms.saturating_sub(self.silence_ms(now))
    }

    /// Whether a client with `owner` may refresh it. A registration without an owner cannot be claimed while
    /// it lives: a client of the base format must still be able to refresh it.
    pub(super) fn is_open_to(&self, owner: Option<SecretHash>) -> bool {
        match (self.owner, owner) {
            (Some(own), Some(shown)) => own.is(shown),
            (Some(_), None) => false,
            (None, Some(_)) => self.is_expired(),
            (None, None) => true,
        }
    }

    /// The values that are published at once when they change, and the owner.
    pub(super) fn state(&self) -> impl PartialEq + use<> {
        (
            self.weight,
            self.enabled,
            self.warming,
            self.batch,
            self.report.heartbeat_ms,
            self.owner,
            self.is_expired(),
        )
    }
}

/// When the figures were read. Figures with an age that equal those of the previous call are the same reading
/// sent again: it keeps its time, or it would look new each time.
fn reported_at_ms(said: &Registration, known: Option<&Registered>, now: Now) -> Option<u64> {
    let figures = |report: Report| (report.gpu_usage, report.vram_usage);
    if figures(said.report) == (None, None) {
        return None;
    }
    let same = known.filter(|known| figures(known.report) == figures(said.report));
    let before = same.and_then(|known| known.report.reported_at_ms);
    let then = now.unix_ms.saturating_sub(said.report_age_ms);
    Some(before.filter(|_| said.report_age_ms > 0).unwrap_or(then))
}
