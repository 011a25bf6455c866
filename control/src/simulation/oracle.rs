//! What control has answered, in the simplest words, and what follows from that.

use std::collections::BTreeMap;

use contract::{Backend, BackendAddr, Config, Name};

use crate::base::{lower, raise};
use crate::clock::Now;
use crate::model::Model;
use crate::registry::ExpiryPolicy;
use crate::registry::{Override, Registered};
use contract::config::DEFAULT_WEIGHT;

/// After how many TTLs an expired registration is gone, and for how long a freeze may hold.
const TTLS: u64 = 10;

#[derive(Debug, Clone)]
pub struct Registration {
    pub weight: Option<u16>,
    /// On the clock of listening, as are the others.
    pub heard_at_ms: u64,
    /// When it was given another TTL, behind a stall.
    pub fresh_at_ms: Option<u64>,
    /// When it was first seen to be silent for a TTL.
    pub due_at_ms: Option<u64>,
    pub expired_at_ms: Option<u64>,
}

/// Weight and enabled, where they are mentioned.
pub type Listed = (Option<u16>, Option<bool>);

/// Weight, enabled, drain.
pub type Word = (Option<u16>, Option<bool>, Option<bool>);

/// Listeners and pools beside `default`, each by its number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Services {
    /// Port and pool of each.
    pub listeners: [Option<(u16, usize)>; 3],
    /// `slow_start_ms` of each.
    pub pools: [Option<u64>; 2],
}

impl Services {
    /// Whether each listener has a pool that is defined, and a port of its own.
    pub fn fit(&self) -> bool {
        let listeners: Vec<(u16, usize)> = self.listeners.iter().flatten().copied().collect();
        let mut ports: Vec<u16> = listeners.iter().map(|(port, _)| *port).collect();
        ports.sort();
        ports.dedup();
        let mut pools = listeners.iter().map(|(_, pool)| self.pools[*pool]);
        ports.len() == listeners.len() && pools.all(|pool| pool.is_some())
    }

    /// Those of a file.
    pub fn published(config: &Config) -> Services {
        let mut services = Services::default();
        let number = |name: &Name| name.as_str()[1..].parse::<usize>().ok();
        for listener in &config.listeners {
            let pool = listener.routes.only_pool();
            let pool = pool.and_then(|at| number(&config.pools[*at].name));
            if let Some((own, pool)) = number(&listener.name).zip(pool) {
                services.listeners[own] = Some((listener.port, pool));
            }
        }
        for pool in &config.pools {
            if let Some(own) = number(&pool.name) {
                services.pools[own] = Some(pool.settings.health.slow_start_ms);
            }
        }
        services
    }
}

#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// The last good version of discovery's file: weight and enabled.
    pub discovered: BTreeMap<BackendAddr, (u16, bool)>,
    /// What the static list mentions: weight and enabled.
    pub statics: BTreeMap<BackendAddr, Listed>,
    pub registered: BTreeMap<BackendAddr, Registration>,
    pub overrides: BTreeMap<BackendAddr, Word>,
    pub algorithm: Option<&'static str>,
    pub services: Services,
    /// The port to listen on that was asked for last and not rolled back.
    pub port: Option<u16>,
    /// The one before, while it is not known what becomes of the last.
    pub port_before: Option<Option<u16>>,
    /// Where the proxy was last seen to listen.
    pub accepted_port: Option<u16>,
}

/// The port where nobody has asked for one.
pub const DEFAULT_PORT: u16 = 10_080;

impl Oracle {
    pub fn knows(&self, addr: BackendAddr) -> bool {
        self.registered.contains_key(&addr) || self.listed(addr).is_some()
    }

    /// Weight and enabled as the files list it, the static list above discovery.
    fn listed(&self, addr: BackendAddr) -> Option<(u16, bool)> {
        let discovered = self.discovered.get(&addr).copied();
        let Some((weight, enabled)) = self.statics.get(&addr) else {
            return discovered;
        };
        let (below_weight, below_enabled) = discovered.unwrap_or((DEFAULT_WEIGHT, true));
        Some((
            weight.unwrap_or(below_weight),
            enabled.unwrap_or(below_enabled),
        ))
    }

    /// A new process has heard nobody yet, and gives each that had not expired a full TTL.
    pub fn restart(&mut self, now: Now) {
        for registration in self.registered.values_mut() {
            registration.heard_at_ms = now.listened_ms;
            registration.fresh_at_ms = None;
            registration.due_at_ms = None;
            registration.expired_at_ms = registration.expired_at_ms.map(|_| now.listened_ms);
        }
    }

    /// Behind a stall all have another TTL, once until they are heard again.
    pub fn stalled(&mut self, now: Now) {
        for registration in self.registered.values_mut() {
            if registration.expired_at_ms.is_none() {
                registration.fresh_at_ms.get_or_insert(now.listened_ms);
            }
        }
    }

    /// Time has passed, and `may_wait`: behind a stall what is due may be so for a turn. Follows what the model did to registrations, where that was allowed.
    pub fn pass(&mut self, model: &Model, now: Now, policy: ExpiryPolicy, may_wait: bool) {
        let ttl_ms = policy.ttl_ms;
        let entries = &model.registry.entries;
        self.registered.retain(|addr, registration| {
            let held = entries
                .get(&lower(*addr))
                .and_then(|entry| entry.registered.as_ref());
            let from_ms = registration.fresh_at_ms.unwrap_or(registration.heard_at_ms);
            let silence_ms = now.listened_ms - from_ms;
            match (registration.expired_at_ms, held) {
                (None, None) => panic!("{addr} is gone and had not expired"),
                (None, Some(held)) => {
                    let is_expired = held.expired_at_ms.is_some();
                    let is_due = silence_ms >= ttl_ms;
                    assert!(!is_expired || is_due, "{addr} expired too soon");
                    let due_at_ms = *registration.due_at_ms.get_or_insert(now.listened_ms);
                    let held_ms = now.listened_ms - due_at_ms;
                    let may_be_held = policy.freeze && held_ms < TTLS * ttl_ms;
                    assert!(
                        is_expired || !is_due || may_be_held || may_wait,
                        "{addr} should have expired"
                    );
                    registration.due_at_ms = is_due.then_some(due_at_ms);
                    registration.expired_at_ms = held.expired_at_ms;
                    true
                }
                (Some(at), None) => {
                    assert!(
                        now.listened_ms >= at + TTLS * ttl_ms,
                        "{addr} is gone too soon"
                    );
                    false
                }
                (Some(at), Some(_)) => {
                    assert!(
                        may_wait || now.listened_ms < at + TTLS * ttl_ms,
                        "{addr} should be gone"
                    );
                    true
                }
            }
        });
    }

    /// What the model holds is what was answered, no more and no less.
    pub fn assert_holds(&self, model: &Model) {
        let registry = &model.registry.entries;
        let held: BTreeMap<_, _> = registry
            .iter()
            .filter_map(|(key, entry)| Some((raise(key)?, describe(entry.registered.as_ref()?))))
            .collect();
        let answered: BTreeMap<_, _> = self
            .registered
            .iter()
            .map(|(addr, one)| {
                (
                    *addr,
                    (one.weight, one.heard_at_ms, one.expired_at_ms.is_some()),
                )
            })
            .collect();
        assert_eq!(held, answered, "registrations: held, answered");
        let held: BTreeMap<_, _> = registry
            .iter()
            .filter_map(|(key, entry)| Some((raise(key)?, word(entry.r#override.as_ref()?))))
            .collect();
        assert_eq!(held, self.overrides, "overrides: held, answered");
        let found = model.discovered[0].listing.backends.values();
        let found: BTreeMap<_, _> = found
            .map(|one| {
                (
                    one.key.addr,
                    (
                        one.weight.unwrap_or(DEFAULT_WEIGHT),
                        one.enabled.unwrap_or(true),
                    ),
                )
            })
            .collect();
        assert_eq!(found, self.discovered, "discovery: held, last good");
        let listed = model.statics.backends.values();
        let listed: BTreeMap<_, _> = listed
            .map(|one| (one.key.addr, (one.weight, one.enabled)))
            .collect();
        assert_eq!(listed, self.statics, "static list: held, answered");
    }

    /// Address, weight and enabled of each backend that is to be published: an operator's word above
    /// a live registration above what files list, and the expired do not serve.
    pub fn published(&self) -> Vec<(BackendAddr, u16, bool)> {
        let mut addresses: Vec<_> = self
            .registered
            .keys()
            .chain(self.statics.keys())
            .chain(self.discovered.keys())
            .collect();
        addresses.sort();
        addresses.dedup();
        let one = |addr: &BackendAddr| {
            let registered = self.registered.get(addr);
            let live = registered.filter(|one| one.expired_at_ms.is_none());
            let listed = self.listed(*addr);
            let (mut weight, mut enabled) = match (live, listed, registered) {
                (Some(live), Some((weight, enabled)), _) => {
                    (live.weight.unwrap_or(weight), enabled)
                }
                (Some(live), None, _) => (live.weight.unwrap_or(DEFAULT_WEIGHT), true),
                (None, Some(listed), _) => listed,
                (None, None, Some(expired)) => (expired.weight.unwrap_or(DEFAULT_WEIGHT), true),
                (None, None, None) => unreachable!("somebody knows it"),
            };
            if let Some((word_weight, word_enabled, drain)) = self.overrides.get(addr) {
                weight = if *drain == Some(true) {
                    0
                } else {
                    word_weight.unwrap_or(weight)
                };
                enabled = word_enabled.unwrap_or(enabled);
            }
            let nobody_vouches = live.is_none() && listed.is_none();
            (*addr, weight, enabled && !nobody_vouches)
        };
        addresses.into_iter().map(one).collect()
    }
}

fn describe(held: &Registered) -> (Option<u16>, u64, bool) {
    (held.weight, held.heard_at_ms, held.is_expired())
}

fn word(held: &Override) -> Word {
    (held.weight, held.enabled, held.drain)
}

/// A published backend as [`Oracle::published`] describes it.
pub fn published(backend: &Backend) -> (BackendAddr, u16, bool) {
    (backend.addr, backend.weight, backend.enabled)
}
