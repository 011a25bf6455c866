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

/// The sources that a worker has seen answered lately, and how backends fare with each. Its own, so
/// nothing is shared.
#[derive(Debug)]
pub struct AnsweredSources(Box<[Place]>);

/// One source.
#[derive(Debug, Default)]
struct Place {
    /// Of the last answer.
    answered: Cell<u64>,
    /// Of backends, told apart by their number.
    sessions: [Cell<Sessions>; BACKENDS],
}

/// The last ones of a source with a backend, or with some that share its place.
#[derive(Debug, Clone, Copy, Default)]
struct Sessions {
    answered: u8,
    unanswered: u8,
}

/// One more than has to be told apart.
const SLOTS: usize = 4;
/// How long a source counts that a backend failed.
const FAILED_S: u64 = 60;
/// Each source has one place, and the last one there is remembered.
const PLACES: usize = 1024;
/// How long a source counts as answered.
const ANSWERED_S: u64 = 600;
/// So many backends are told apart in what they do for a source.
const BACKENDS: usize = 16;
/// So many sessions of a source with a backend are remembered: with more, each counts half.
const MOST_SESSIONS: u8 = 16;
/// A backend serves a source that it answers so many times for each time that it does not.
const SERVED: u8 = 7;

impl Source {
    /// The source of a client: a hash of its IPv4 address, or of the /64 of its IPv6 address.
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
    /// Takes in one that was failed just now. Returns whether it was not in here already.
    pub fn add(&self, source: Source, now_ms: u64) -> bool {
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
        known.is_none()
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
    /// The backend of this `number` has answered a session or flow of `source`.
    pub fn answered(&self, source: Source, number: usize, now_ms: u64) {
        let place = self.place_of(source);
        if !self.is_known(source, now_ms) {
            place
                .sessions
                .iter()
                .for_each(|one| one.set(Sessions::default()));
        }
        let now = source.at(now_ms / 1_000);
        if place.answered.get() != now {
            place.answered.set(now);
        }
        place.count(number, |sessions| sessions.answered += 1);
    }

    /// It has ended a session of `source` without an answer. Forgotten where `source` is not known: who
    /// is never answered takes no place.
    pub fn unanswered(&self, source: Source, number: usize, now_ms: u64) {
        if self.is_known(source, now_ms) {
            let place = self.place_of(source);
            place.count(number, |sessions| sessions.unanswered += 1);
        }
    }

    /// Whether some backend has answered `source` lately.
    pub fn is_known(&self, source: Source, now_ms: u64) -> bool {
        let slot = self.place_of(source).answered.get();
        is_of(slot, source) && is_young(slot, now_ms / 1_000, ANSWERED_S)
    }

    /// Whether `source` can tell that the backend of this `number` fails it: some other one serves it.
    /// Where it has met no other one, as under `source_hash`, any answer will do.
    pub fn can_tell_of(&self, source: Source, number: usize, now_ms: u64) -> bool {
        if !self.is_known(source, now_ms) {
            return false;
        }
        let sessions = self.place_of(source).sessions.iter().enumerate();
        let others = sessions.filter(|(at, _)| *at != number % BACKENDS);
        let others = others.map(|(_, sessions)| sessions.get());
        let mut met = others.filter(|other| other.answered + other.unanswered > 0);
        met.clone().next().is_none() || met.any(Sessions::is_served)
    }

    fn place_of(&self, source: Source) -> &Place {
        &self.0[source.0 as usize / 2 % PLACES]
    }
}

impl Place {
    fn count(&self, number: usize, one_more: impl FnOnce(&mut Sessions)) {
        let place = &self.sessions[number % BACKENDS];
        let mut sessions = place.get();
        if sessions.answered + sessions.unanswered >= MOST_SESSIONS {
            sessions.answered /= 2;
            sessions.unanswered /= 2;
        }
        one_more(&mut sessions);
        place.set(sessions);
    }
}

impl Sessions {
    fn is_served(self) -> bool {
        self.answered > 0 && self.answered >= SERVED * self.unanswered
    }
}

impl Default for AnsweredSources {
    fn default() -> Self {
        let places = std::iter::repeat_with(Place::default);
        AnsweredSources(places.take(PLACES).collect())
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
        answered.answered(one, 0, 1_000);
        assert!(answered.is_known(one, 600_000) && !answered.is_known(other, 1_000));
        assert!(!answered.is_known(one, 602_000));
    }

    #[test]
    fn a_source_can_tell_of_a_backend_while_another_one_serves_it() {
        let sources = AnsweredSources::default();
        let client = source("192.0.2.1");
        let can_tell_of = |number| sources.can_tell_of(client, number, 0);
        sources.unanswered(client, 0, 0);
        assert!(!can_tell_of(0), "nobody has answered it");
        sources.answered(client, 0, 0);
        assert!(can_tell_of(0) && can_tell_of(1));
        (0..9).for_each(|_| sources.unanswered(client, 0, 0));
        assert!(can_tell_of(0), "it has met no other one");
        assert!(!can_tell_of(1), "its sessions fail wherever they go");
        sources.answered(client, 2, 0);
        assert!(can_tell_of(0) && can_tell_of(1) && !can_tell_of(2));
        sources.unanswered(client, 2, 0);
        assert!(!can_tell_of(0), "garbage for all");
        (0..6).for_each(|_| sources.answered(client, 2, 0));
        assert!(can_tell_of(0), "now and then");
        sources.answered(client, 1, 700_000);
        assert!(sources.can_tell_of(client, 0, 700_000), "begun anew");
    }

    #[test]
    fn the_last_sessions_count() {
        let sources = AnsweredSources::default();
        let client = source("192.0.2.1");
        (0..5_000).for_each(|_| sources.answered(client, 1, 0));
        assert!(sources.can_tell_of(client, 0, 0));
        (0..8).for_each(|_| sources.unanswered(client, 1, 0));
        assert!(!sources.can_tell_of(client, 0, 0));
    }
}
