//! The backends at one moment, in counts, and the proxy's status.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::AddAssign;

use contract::status::{AdminState, BackendStatus, OperationalState, Status};
use contract::{BackendKey, Name, RefusalCode};
use serde_json::{Value, json};

use crate::merge::{Place, Row, RowState};
use crate::standing::{Protocol, health_of};

/// How many backends are in which state, each counted once. A backend that takes one of two protocols
/// counts by the one that it does not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: usize,
    pub usable: usize,
    pub disabled: usize,
    pub drained: usize,
    pub weight_0: usize,
    pub expired: usize,
    pub down: usize,
    pub ejected: usize,
    /// Warming up under `warming_share: none`.
    pub warming: usize,
    /// The proxy refuses the entry.
    pub left_out: usize,
    /// The pool is not defined.
    pub no_pool: usize,
    /// No listener leads to the pool.
    pub no_listener: usize,
    /// The proxy does not answer, or does not know it yet.
    pub unknown: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        let Counts {
            total,
            usable,
            disabled,
            drained,
            weight_0,
            expired,
            down,
            ejected,
            warming,
            left_out,
            no_pool,
            no_listener,
            unknown,
        } = more;
        for (sum, more) in [
            (&mut self.total, total),
            (&mut self.usable, usable),
            (&mut self.disabled, disabled),
            (&mut self.drained, drained),
            (&mut self.weight_0, weight_0),
            (&mut self.expired, expired),
            (&mut self.down, down),
            (&mut self.ejected, ejected),
            (&mut self.warming, warming),
            (&mut self.left_out, left_out),
            (&mut self.no_pool, no_pool),
            (&mut self.no_listener, no_listener),
            (&mut self.unknown, unknown),
        ] {
            *sum += more;
        }
    }
}

impl Counts {
    /// Backends that should take traffic and do not.
    pub fn out(&self) -> usize {
        self.expired + self.down + self.ejected + self.left_out
    }

    /// Backends that are not taken out on purpose, in pools that take traffic.
    pub fn wanted(&self) -> usize {
        let on_purpose = self.disabled + self.drained + self.weight_0;
        self.total - on_purpose - self.no_pool - self.no_listener
    }

    pub fn to_json(self) -> Value {
        let Counts {
            total,
            usable,
            disabled,
            drained,
            weight_0,
            expired,
            down,
            ejected,
            warming,
            left_out,
            no_pool,
            no_listener,
            unknown,
        } = self;
        json!({
            "total": total, "usable": usable, "disabled": disabled, "drained": drained,
            "weight_0": weight_0, "expired": expired, "down": down, "ejected": ejected,
            "warming": warming, "left_out": left_out, "no_pool": no_pool,
            "no_listener": no_listener, "unknown": unknown,
        })
    }
}

/// A protocol that the proxy serves in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub protocol: Protocol,
    /// Backends that take new sessions or flows.
    pub usable: usize,
    /// All are out because of their health, and still used.
    pub is_fail_open: bool,
}

/// A wanted listener that is not bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    pub protocol: Option<Protocol>,
    pub value: String,
    pub code: RefusalCode,
}

/// The proxy's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub generation: u64,
    pub unbound: Vec<Unbound>,
    /// Open sessions of a proxy that is stopping.
    pub draining: Option<u64>,
}

/// The backends of one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolPicture {
    pub counts: Counts,
    pub place: Place,
    /// Without TCP if the service uses UDP only; empty if the proxy does not answer.
    pub served: Vec<Served>,
    /// TCP is served, and no backend has ever accepted it, while flows are answered.
    pub is_udp_alone: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// Of all pools together.
    pub counts: Counts,
    /// `None`: it does not answer.
    pub heard: Option<Heard>,
    /// Each that has a backend or that the proxy runs; never empty.
    pub pools: BTreeMap<Name, PoolPicture>,
}

impl Picture {
    /// `left_out` are the entries that the proxy refuses, `led` the pools that listeners lead to.
    pub fn of<'a>(
        rows: &[Row],
        status: Option<&Status>,
        left_out: impl Iterator<Item = &'a BackendKey>,
        led: &BTreeSet<Name>,
    ) -> Picture {
        let left_out: HashSet<&BackendKey> = left_out.collect();
        let backends = status.iter().flat_map(|status| &status.backends);
        let seen: HashMap<BackendKey, &BackendStatus> = backends
            .filter(|backend| backend.configured)
            .filter_map(|backend| Some((backend.key()?, backend)))
            .collect();
        let mut pools: BTreeMap<Name, PoolPicture> = BTreeMap::new();
        for pool in status.iter().flat_map(|status| &status.pools) {
            pools.extend(Name::new(&pool.name).map(|name| (name, PoolPicture::default())));
        }
        for of_pool in rows.chunk_by(|one, next| one.key.pool == next.key.pool) {
            let pool = pools.entry(of_pool[0].key.pool.clone()).or_default();
            if of_pool[0].place == Place::Undefined {
                pool.place = Place::Undefined;
            }
        }
        // The base format has the pool default even if nothing is for it.
        let is_spare = !led.contains(&Name::default()) && pools.len() > 1;
        if is_spare && !rows.iter().any(|row| row.key.pool == Name::default()) {
            pools.remove(&Name::default());
        }
        if pools.is_empty() {
            pools.insert(Name::default(), PoolPicture::default());
        }
        if let Some(status) = status {
            for (pool, picture) in &mut pools {
                picture.served = served(status, pool);
                picture.is_udp_alone = health_of(status, pool).udp_alone;
            }
        }
        for (pool, picture) in &mut pools {
            // A listener that was just removed may still lead to it.
            let is_led = led.contains(pool) || !picture.served.is_empty();
            if picture.place == Place::Led && !is_led {
                picture.place = Place::NoListener;
            }
        }
        for row in rows {
            let of_pool = pools.get_mut(&row.key.pool);
            let PoolPicture {
                counts,
                served,
                place,
                ..
            } = of_pool.expect("the pool of each row has its place");
            counts.total += 1;
            let place = match row.state() {
                RowState::NoPool => &mut counts.no_pool,
                RowState::Expired => &mut counts.expired,
                RowState::Disabled => &mut counts.disabled,
                RowState::Drain if row.is_drained() => &mut counts.drained,
                RowState::Drain => &mut counts.weight_0,
                RowState::NoListener | RowState::Warming | RowState::Ready
                    if left_out.contains(&row.key) =>
                {
                    &mut counts.left_out
                }
                RowState::NoListener | RowState::Warming | RowState::Ready
                    if *place == Place::NoListener =>
                {
                    &mut counts.no_listener
                }
                // A listener that was just removed may still lead there.
                RowState::NoListener | RowState::Warming | RowState::Ready => match seen
                    .get(&row.key)
                {
                    None => &mut counts.unknown,
                    Some(backend) if takes_all(backend, served) => &mut counts.usable,
                    Some(backend) => match backend.operational {
                        OperationalState::Down => &mut counts.down,
                        OperationalState::Ejected => &mut counts.ejected,
                        OperationalState::Warming => &mut counts.warming,
                        // One protocol of two is out.
                        OperationalState::Up | OperationalState::Checking => &mut counts.ejected,
                    },
                },
            };
            *place += 1;
        }
        let mut counts = Counts::default();
        for of_pool in pools.values() {
            counts += of_pool.counts;
        }
        let heard = status.map(|status| Heard {
            generation: status.running.generation,
            unbound: unbound(status),
            draining: status
                .draining
                .then_some(status.totals.counters.sessions_active),
        });
        Picture {
            counts,
            heard,
            pools,
        }
    }
}

/// The candidates of a pool in the configuration that the proxy runs: traffic follows it, not what is wanted.
fn served(status: &Status, pool: &Name) -> Vec<Served> {
    let is_expected = |protocol: &Protocol| protocol.is_expected(status, pool);
    let served = Protocol::ALL.into_iter().filter(is_expected);
    let of = |protocol: Protocol| {
        let backends = status.backends.iter();
        let usable = backends.filter(|backend| {
            let is_in_use = backend.configured && backend.admin == AdminState::Ready;
            backend.pool == pool.as_str() && is_in_use && protocol.is_taken(backend)
        });
        Served {
            protocol,
            usable: usable.count(),
            is_fail_open: protocol.rule(health_of(status, pool)) == Some("fail_open"),
        }
    };
    served.map(of).collect()
}

fn takes_all(backend: &BackendStatus, served: &[Served]) -> bool {
    let mut served = served.iter();
    served.all(|served| served.protocol.is_taken(backend))
}

/// Refused listeners of protocols that no other listener serves.
fn unbound(status: &Status) -> Vec<Unbound> {
    let refusals = status.running.refusals.iter();
    let of_listeners = refusals.filter(|refusal| refusal.code.is_of_listener());
    let unbound = of_listeners.filter_map(|refusal| {
        let protocol = Protocol::ALL
            .into_iter()
            .find(|protocol| refusal.value.ends_with(&format!("/{}", protocol.word())));
        let is_served = match protocol {
            Some(protocol) => protocol.is_served(status),
            None => !status.running.listeners.is_empty(),
        };
        (!is_served).then(|| Unbound {
            protocol,
            value: refusal.value.clone(),
            code: refusal.code,
        })
    });
    unbound.collect()
}
