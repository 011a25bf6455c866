//! The identity of a backend in its pool, in the words that both planes use.

use std::fmt;

use crate::{BackendAddr, DEFAULT_NAME, Name};

/// A backend in a pool: what overrides, registrations and histories are kept by. The same address in another pool
/// is another backend. Ordered by pool, then by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// The pool that it is a member of.
    pub pool: Name,
    /// Where it accepts.
    pub addr: BackendAddr,
}

impl BackendKey {
    /// The key of `addr` in `pool`.
    pub fn new(pool: Name, addr: BackendAddr) -> BackendKey {
        BackendKey { pool, addr }
    }
}

/// `ip:port` in the pool `default`, as the base formats have it, and `pool/ip:port` in any other.
impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pool.as_str() != DEFAULT_NAME {
            write!(f, "{}/", self.pool)?;
        }
        self.addr.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pool: &str, addr: &str) -> BackendKey {
        let addr = BackendAddr(addr.parse().expect("a literal"));
        BackendKey::new(Name::new(pool).expect("a name"), addr)
    }

    #[test]
    fn a_key_of_the_default_pool_is_written_as_its_address() {
        for (pool, addr, written) in [
            (DEFAULT_NAME, "10.0.0.1:80", "10.0.0.1:80"),
            (DEFAULT_NAME, "[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("chat", "10.0.0.1:80", "chat/10.0.0.1:80"),
            ("chat", "[2001:db8::1]:80", "chat/[2001:db8::1]:80"),
        ] {
            assert_eq!(key(pool, addr).to_string(), written);
        }
    }

    #[test]
    fn one_address_in_two_pools_is_two_backends() {
        let [one, two] = ["chat", "code"].map(|pool| key(pool, "10.0.0.1:80"));
        assert_ne!(one, two);
        assert!(one < two && two < key("code", "10.0.0.2:80"));
        assert!(
            key("chat", "10.0.0.9:80") < two,
            "the pool decides the order first"
        );
    }
}
