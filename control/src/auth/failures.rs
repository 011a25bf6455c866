//! How often an address may present a wrong token. Pure: time comes as an argument.
//!
//! Each address has a bucket of attempts that fills up again by itself, so no address is limited
//! because of another one. An IPv6 client owns a whole /64, so that counts as one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Wrong tokens in a row before an address has to wait.
const ATTEMPTS: u64 = 10;
/// How long until one more is allowed: 600 an hour, which finds no token of eight characters.
const REFILL_MS: u64 = 6_000;
/// Number of remembered addresses; a further one replaces the one whose failures expire first.
const MAX_ADDRESSES: usize = 4096;

/// For each address, the time until which its failures count: each one adds [`REFILL_MS`].
#[derive(Debug, Default)]
pub struct Failures(HashMap<IpAddr, u64>);

impl Failures {
    pub fn note(&mut self, ip: IpAddr, now_ms: u64) {
        let key = network(ip);
        if !self.0.contains_key(&key) && self.0.len() >= MAX_ADDRESSES {
            self.0.retain(|_, until_ms| *until_ms > now_ms);
            if self.0.len() >= MAX_ADDRESSES {
                let nearest = self.0.iter().min_by_key(|(_, until_ms)| **until_ms);
                let nearest = nearest.map(|(key, _)| *key);
                nearest.map(|key| self.0.remove(&key));
            }
        }
        let until_ms = self.0.entry(key).or_default();
        let longest_ms = now_ms + ATTEMPTS * REFILL_MS;
        *until_ms = ((*until_ms).max(now_ms) + REFILL_MS).min(longest_ms);
    }

    /// How long the address has to wait for its next attempt, in whole seconds; `None`: no wait.
    pub fn wait_s(&self, ip: IpAddr, now_ms: u64) -> Option<u64> {
        let until_ms = *self.0.get(&network(ip))?;
        let free_from_ms = until_ms.saturating_sub((ATTEMPTS - 1) * REFILL_MS);
        (free_from_ms > now_ms).then(|| (free_from_ms - now_ms).div_ceil(1000))
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a literal")
    }

    #[test]
    fn an_address_waits_after_its_attempts_and_no_other_does() {
        let mut failures = Failures::default();
        for _ in 0..ATTEMPTS {
            assert_eq!(failures.wait_s(ip("192.0.2.1"), 1_000), None);
            failures.note(ip("192.0.2.1"), 1_000);
        }
        assert_eq!(failures.wait_s(ip("192.0.2.1"), 1_000), Some(6));
        assert_eq!(failures.wait_s(ip("::ffff:192.0.2.1"), 1_500), Some(6));
        assert_eq!(failures.wait_s(ip("192.0.2.2"), 1_000), None);
        assert_eq!(failures.wait_s(ip("192.0.2.1"), 1_000 + REFILL_MS), None);
        failures.note(ip("192.0.2.1"), 1_000 + REFILL_MS);
        assert!(
            failures
                .wait_s(ip("192.0.2.1"), 1_000 + REFILL_MS)
                .is_some()
        );

        failures.note(ip("2001:db8::1"), 0);
        for last in 2..=ATTEMPTS {
            failures.note(ip(&format!("2001:db8::{last}")), 0);
        }
        assert!(failures.wait_s(ip("2001:db8::ffff"), 0).is_some());
        assert_eq!(failures.wait_s(ip("2001:db8:0:1::1"), 0), None);
    }

    #[test]
    fn memory_is_bounded_whoever_tries() {
        let mut failures = Failures::default();
        for _ in 0..ATTEMPTS {
            failures.note(ip("192.0.2.1"), 0);
        }
        for number in 0..MAX_ADDRESSES as u32 + 500 {
            failures.note(IpAddr::V4(number.into()), 0);
        }
        assert_eq!(failures.0.len(), MAX_ADDRESSES);
        assert!(
            failures.wait_s(ip("192.0.2.1"), 0).is_some(),
            "the worst one stays"
        );
    }
}
