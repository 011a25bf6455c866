//! Keeps small requests together, for backends that serve what arrives within a short window in one
//! go: once one was picked, the next sessions follow it while its batch is open.
//!
//! Opt-in: only backends with limits ever open a batch. All workers share the open batch of a pool,
//! one word, since a burst of clients is spread over them. Where two change it at once, one of them
//! picks by cost, which is no worse than without batches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::{Batch, Pool};

use crate::pick::BackendIndex;

/// The batches of one pool, in one snapshot.
#[derive(Debug)]
pub struct Batches {
    /// By backend index.
    limits: Box<[Option<Batch>]>,
    /// The batch begun last, a packed [`Open`]; 0: none yet.
    open: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Open {
    backend: BackendIndex,
    count: u32,
    /// In units of 64 us, modulo 2^32.
    begun: u32,
}

const COUNT_BITS: u32 = 12;
const MAX_COUNT: u32 = (1 << COUNT_BITS) - 1;
const TIME_SHIFT: u32 = 6;

impl Batches {
    /// `None` where no backend has limits.
    pub fn of(pool: &Pool) -> Option<Batches> {
        Batches::with_limits(pool.backends.iter().map(|backend| backend.batch).collect())
    }

    fn with_limits(limits: Box<[Option<Batch>]>) -> Option<Batches> {
        let is_any = limits.iter().any(Option::is_some);
        is_any.then(|| Batches {
            limits,
            open: AtomicU64::new(0),
        })
    }

    /// The backend of the open batch, where one more may join it.
    pub fn join(
        &self,
        now_us: u64,
        may_take: impl Fn(BackendIndex) -> bool,
    ) -> Option<BackendIndex> {
        let packed = self.open.load(Relaxed);
        let open = Open::unpack(packed)?;
        let limits = self
            .limits
            .get(open.backend.0 as usize)
            .copied()
            .flatten()?;
        let age_us = u64::from(time(now_us).wrapping_sub(open.begun)) << TIME_SHIFT;
        let is_open = age_us < u64::from(limits.window_ms) * 1_000
            && open.count < u32::from(limits.max).min(MAX_COUNT);
        if !is_open || !may_take(open.backend) {
            return None;
        }
        let joined = Open {
            count: open.count + 1,
            ..open
        };
        let exchanged = self
            .open
            .compare_exchange(packed, joined.pack(), Relaxed, Relaxed);
        exchanged.ok().map(|_| open.backend)
    }

    /// `backend` was picked by its cost: a batch begins there if it takes batches.
    pub fn begin(&self, backend: BackendIndex, now_us: u64) {
        if self
            .limits
            .get(backend.0 as usize)
            .copied()
            .flatten()
            .is_some()
        {
            let open = Open {
                backend,
                count: 1,
                begun: time(now_us),
            };
            self.open.store(open.pack(), Relaxed);
        }
    }
}

fn time(now_us: u64) -> u32 {
    (now_us >> TIME_SHIFT) as u32
}

impl Open {
    /// Never 0, as the count is at least 1. A backend's index has 20 bits, for a million of them.
    fn pack(self) -> u64 {
        u64::from(self.backend.0) << (32 + COUNT_BITS)
            | u64::from(self.count) << 32
            | u64::from(self.begun)
    }

    fn unpack(packed: u64) -> Option<Open> {
        (packed != 0).then_some(Open {
            backend: BackendIndex((packed >> (32 + COUNT_BITS)) as u32),
            count: (packed >> 32) as u32 & MAX_COUNT,
            begun: packed as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Batches {
        let limits = Batch {
            max: 3,
            window_ms: 10,
        };
        Batches::with_limits([None, Some(limits)].into()).expect("one has limits")
    }

    #[test]
    fn a_batch_takes_what_comes_in_its_window_up_to_its_size() {
        let batches = batches();
        let anyone = |_| true;
        assert_eq!(batches.join(0, anyone), None, "none has begun");
        batches.begin(BackendIndex(1), 1_000);
        assert_eq!(batches.join(1_000, anyone), Some(BackendIndex(1)));
        assert_eq!(
            batches.join(5_000, |_| false),
            None,
            "it is full or failing"
        );
        assert_eq!(batches.join(10_000, anyone), Some(BackendIndex(1)));
        assert_eq!(batches.join(10_000, anyone), None, "three are all");
        batches.begin(BackendIndex(1), 20_000);
        assert_eq!(batches.join(30_500, anyone), None, "the window has passed");
    }

    #[test]
    fn only_backends_with_limits_begin_one() {
        assert!(Batches::with_limits([None, None].into()).is_none());
        let batches = batches();
        batches.begin(BackendIndex(0), 0);
        assert_eq!(batches.join(0, |_| true), None);
    }

    #[test]
    fn a_batch_survives_packing_and_a_wrapping_clock() {
        let open = Open {
            backend: BackendIndex((1 << 20) - 1),
            count: MAX_COUNT,
            begun: u32::MAX,
        };
        assert_eq!(Open::unpack(open.pack()), Some(open));
        let batches = batches();
        let wraps_us = 1_u64 << (32 + TIME_SHIFT);
        batches.begin(BackendIndex(1), wraps_us - 1_000);
        assert_eq!(
            batches.join(wraps_us + 1_000, |_| true),
            Some(BackendIndex(1))
        );
    }
}
