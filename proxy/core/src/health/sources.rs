//! Who sends what backends fail: told apart by address, an IPv6 client by its /64, since one host may
//! have all of that.
//!
//! Both memories are of fixed size and forget. What they forget makes a failure count less, never
//! more.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xxhash_rust::xxh3::xxh3_64;

/// A client's address, as 32 bits that are never 0. Two that look alike count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(u32);

/// The sources that a backend has failed lately. Workers write it, and only where it fails.
#[derive(Debug, Default)]
pub struct FailedSources([AtomicU64; SLOTS]);

/// The sources that a worker has seen answered lately, by any backend. Its own, so nothing is shared.
#[derive(Debug)]
pub struct AnsweredSources(Box<[Cell<u64>]>);

/// One more than has to be told apart.
const SLOTS: usize = 4;
/// How long a source counts that a backend failed.
const FAILED_S: u64 = 60;
/// Each source has one place, and the last one there is remembered.
const PLACES: usize = 1024;
/// How long a source counts as answered.
const ANSWERED_S: u64 = 600;

impl Source {
    pub fn of(client: IpAddr) -> Source {
        let hash = match client.to_canonical() {
            IpAddr::V4(ip) => xxh3_64(&ip.octets()),
            IpAddr::V6(ip) => xxh3_64(&ip.octets()[..8]),
        };
        Source(hash as u32 | 1)
    }

    /// A source above, a time in seconds below.
    fn at(self, now_s: u64) -> u64 {
        u64::from(self.0) << 32 | now_s & u64::from(u32::MAX)
    }
}

fn is_of(slot: u64, source: Source) -> bool {
    slot >> 32 == u64::from(source.0)
}

/// Whether a slot is in use and younger than `most_s`.
fn is_young(slot: u64, now_s: u64, most_s: u64) -> bool {
    slot != 0 && (now_s as u32).wrapping_sub(slot as u32) <= most_s as u32
}

impl FailedSources {
    /// Takes in one that was failed just now.
    pub fn add(&self, source: Source, now_ms: u64) {
        let now_s = now_ms / 1_000;
        let slots = || self.0.iter().map(|slot| slot.load(Relaxed));
        let known = slots().position(|slot| is_of(slot, source));
        let oldest = || {
            let by_time = slots()
                .enumerate()
                .min_by_key(|(_, slot)| (*slot != 0, *slot as u32));
            by_time.map(|(index, _)| index)
        };
        if let Some(index) = known.or_else(oldest) {
            self.0[index].store(source.at(now_s), Relaxed);
        }
    }

    /// How many there were in the last minute, counted to [`SLOTS`].
    pub fn count(&self, now_ms: u64) -> usize {
        let slots = self.0.iter().map(|slot| slot.load(Relaxed));
        slots
            .filter(|slot| is_young(*slot, now_ms / 1_000, FAILED_S))
            .count()
    }
}

impl AnsweredSources {
    pub fn add(&self, source: Source, now_ms: u64) {
        let now = source.at(now_ms / 1_000);
        let place = &self.0[source.0 as usize / 2 % PLACES];
        if place.get() != now {
            place.set(now);
        }
    }

    pub fn contains(&self, source: Source, now_ms: u64) -> bool {
        let slot = self.0[source.0 as usize / 2 % PLACES].get();
        is_of(slot, source) && is_young(slot, now_ms / 1_000, ANSWERED_S)
    }
}

impl Default for AnsweredSources {
    fn default() -> Self {
        AnsweredSources(vec![Cell::new(0); PLACES].into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(client: &str) -> Source {
        Source::of(client.parse().expect("an address"))
    }

    #[test]
    fn a_host_is_one_source_whatever_address_of_its_own_it_takes() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn failed_sources_are_counted_once_and_for_a_minute() {
        let failed = FailedSources::default();
        let add = |client: &str, now_ms| {
            failed.add(source(client), now_ms);
            failed.count(now_ms)
        };
        assert_eq!(failed.count(0), 0);
        let counts = [("192.0.2.1", 0), ("192.0.2.1", 9_000), ("192.0.2.2", 9_000)];
        assert_eq!(
            counts.map(|(client, now_ms)| add(client, now_ms)),
            [1, 1, 2]
        );
        assert_eq!(add("192.0.2.1", 69_999), 2);
        assert_eq!(add("192.0.2.1", 70_000), 1);
        // As many as one likes: the oldest make room.
        for last in 0..100 {
            add(&format!("198.51.100.{last}"), 70_000);
        }
        assert_eq!(failed.count(70_000), SLOTS);
    }

    #[test]
    fn an_answered_source_is_remembered_for_a_while() {
        let answered = AnsweredSources::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(source);
        answered.add(one, 1_000);
        assert!(answered.contains(one, 600_000) && !answered.contains(other, 1_000));
        assert!(!answered.contains(one, 602_000));
    }
}
