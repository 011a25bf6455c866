//! How registrations expire.
//!
//! A registration lives for a TTL that the server sets, counted on the clock of listening
//! ([`crate::listening`]) from what control has heard. When it expires it is disabled, and it is removed ten
//! TTLs later.
//!
//! A mass expiry is more often a fault of control's own network than the death of all servers: with five or
//! more registrations, if more than half would expire within one TTL, nothing expires for ten TTLs, until
//! most are heard again, or until an operator acknowledges it.

use contract::BackendKey;

use super::Registry;
use super::registration::{ExpiryPolicy, Warming};
use crate::clock::Now;

/// After how many TTLs an expired registration is removed.
const REMOVAL_TTLS: u64 = 10;
/// For how many TTLs a mass expiry is held at most.
const FREEZE_TTLS: u64 = 10;
/// From how many registrations on a mass expiry is frozen.
const FREEZE_POPULATION: usize = 5;

/// Whether a mass expiry is being held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freeze {
    #[default]
    Off,
    /// Nothing expires; since when, on the clock of listening.
    Held { since_ms: u64 },
    /// Acknowledged, or held for long enough: what is due expires. At least until then.
    Waived { until_ms: u64 },
}

/// The effect of passing time on a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    Expired(BackendKey),
    Removed(BackendKey),
    Warm(BackendKey),
    /// The mass-expiry freeze began; how many registrations are silent.
    FreezeBegan {
        silent: usize,
    },
    FreezeEnded,
}

impl Registry {
    /// Ends a freeze: due registrations expire at the next [`Registry::pass`]. False if there is none.
    pub fn acknowledge_expiry(&mut self, now: Now, policy: ExpiryPolicy) -> bool {
        let held = matches!(self.freeze, Freeze::Held { .. });
        if held {
            let until_ms = now.listened_ms + policy.ttl_ms;
            self.freeze = Freeze::Waived { until_ms };
        }
        held
    }

    /// Control did not listen for a while: each registration gets a fresh TTL, as after a restart. Only once
    /// until its next heartbeat, so that silent ones expire even if control stalls repeatedly.
    pub fn refresh(&mut self, now: Now) {
        let registered = self
            .entries
            .values_mut()
            .filter_map(|entry| entry.registered.as_mut());
        for registered in registered.filter(|registered| !registered.is_expired()) {
            registered.fresh_at_ms.get_or_insert(now.listened_ms);
        }
    }

    /// Lets time pass: expires, removes and warms what is due. Registrations in a freeze are kept.
    pub fn pass(&mut self, now: Now, policy: ExpiryPolicy) -> Vec<Passed> {
        let mut passed = Vec::new();
        self.pass_freeze(now, policy, &mut passed);
        let is_held = matches!(self.freeze, Freeze::Held { .. });
        for (key, entry) in &mut self.entries {
            let Some(registered) = &mut entry.registered else {
                continue;
            };
            match registered.expired_at_ms {
                Some(at) if now.listened_ms >= at + REMOVAL_TTLS * policy.ttl_ms => {
                    entry.registered = None;
                    passed.push(Passed::Removed(key.clone()));
                }
                None if !is_held && registered.silence_ms(now) >= policy.ttl_ms => {
                    registered.expired_at_ms = Some(now.listened_ms);
                    passed.push(Passed::Expired(key.clone()));
                }
                Some(_) | None => {
                    if matches!(registered.warming, Warming::Until(end) if end <= now.monotonic_ms)
                    {
                        registered.warming = Warming::Unsaid;
                        passed.push(Passed::Warm(key.clone()));
                    }
                }
            }
        }
        self.entries
            .retain(|_, entry| entry.registered.is_some() || entry.r#override.is_some());
        if !passed.is_empty() {
            self.updated_at = now.unix_s();
        }
        passed
    }

    fn pass_freeze(&mut self, now: Now, policy: ExpiryPolicy, passed: &mut Vec<Passed>) {
        let mut population = 0;
        let mut silent = 0;
        let mut any_due = false;
        let registrations = self
            .entries
            .values()
            .filter_map(|entry| entry.registered.as_ref());
        for registered in registrations {
            match registered.expired_at_ms {
                // What expired less than a TTL ago is part of the same event.
                Some(at) if now.listened_ms < at + policy.ttl_ms => {
                    population += 1;
                    silent += 1;
                }
                Some(_) => {}
                None => {
                    population += 1;
                    let silence_ms = registered.silence_ms(now);
                    // Every registration would expire within one TTL if it fell silent now; one
                    // that has been silent for half of it probably will.
                    silent += usize::from(silence_ms >= policy.ttl_ms / 2);
                    any_due |= silence_ms >= policy.ttl_ms;
                }
            }
        }
        let is_mass = policy.freeze && population >= FREEZE_POPULATION && 2 * silent > population;
        let next = match self.freeze {
            Freeze::Off if is_mass && any_due => Freeze::Held {
                since_ms: now.listened_ms,
            },
            Freeze::Held { .. } if !is_mass => Freeze::Off,
            Freeze::Held { since_ms }
                if now.listened_ms >= since_ms + FREEZE_TTLS * policy.ttl_ms =>
            {
                Freeze::Waived {
                    until_ms: now.listened_ms + policy.ttl_ms,
                }
            }
            Freeze::Waived { until_ms } if now.listened_ms >= until_ms && !is_mass => Freeze::Off,
            Freeze::Off | Freeze::Held { .. } | Freeze::Waived { .. } => self.freeze,
        };
        let is_held = |freeze| matches!(freeze, Freeze::Held { .. });
        match (is_held(self.freeze), is_held(next)) {
            (false, true) => passed.push(Passed::FreezeBegan { silent }),
            (true, false) => passed.push(Passed::FreezeEnded),
            (true, true) | (false, false) => {}
        }
        self.freeze = next;
    }
}
