//! The exact Host and Origin, against DNS rebinding and pages of other sites.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

/// The exact host names that control accepts, against DNS rebinding.
#[derive(Debug)]
pub struct Hosts {
    ports: Vec<u16>,
    /// Own addresses, and names of this machine, with ports.
    own: RwLock<Vec<String>>,
    /// The operator's names, with and without ports.
    allowed: RwLock<Vec<String>>,
}

impl Hosts {
    /// `ports` and `own` are the ports and addresses we listen on; `allowed` is the operator's list,
    /// with or without port.
    pub fn new(ports: &[u16], own: &[IpAddr], allowed: &[String]) -> Hosts {
        let hosts = Hosts {
            ports: ports.to_vec(),
            own: RwLock::default(),
            allowed: RwLock::default(),
        };
        hosts.own(own);
        hosts.allow(allowed);
        hosts
    }

    /// Updates the own addresses: they come and go while control listens on all of them.
    pub fn own(&self, own: &[IpAddr]) {
        let literals = own.iter().map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let mut hosts = Vec::new();
        for name in loopback.into_iter().chain(literals) {
            hosts.extend(self.ports.iter().map(|port| format!("{name}:{port}")));
            // A browser omits the default port.
            if self.ports.iter().any(|port| [80, 443].contains(port)) {
                hosts.push(name);
            }
        }
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Replaces the operator's list.
    pub fn allow(&self, allowed: &[String]) {
        let mut hosts = Vec::new();
        for name in allowed {
            let name = name.to_ascii_lowercase();
            hosts.extend(self.ports.iter().map(|port| format!("{name}:{port}")));
            // As a browser asks for it behind a TLS proxy.
            hosts.push(name);
        }
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    pub fn contain(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let is_in = |hosts: &RwLock<Vec<String>>| {
            let hosts = hosts.read().unwrap_or_else(PoisonError::into_inner);
            hosts.contains(&host)
        };
        is_in(&self.own) || is_in(&self.allowed)
    }

    /// Whether a page of this origin is our own page, reached under the same host.
    pub fn is_own_origin(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority == Some(&host.to_ascii_lowercase()) && self.contain(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_hosts_and_our_own_origin_pass() {
        let own = ["192.0.2.7".parse().expect("a literal")];
        let hosts = Hosts::new(&[8080, 8443], &own, &["Console.example".to_owned()]);
        let good = [
            "localhost:8080",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost:8443",
            "192.0.2.7:8080",
            "console.example",
            "console.example:8080",
        ];
        for good in good {
            assert!(hosts.contain(good), "{good}");
            assert!(hosts.is_own_origin(&format!("http://{good}"), good));
        }
        let bad = [
            "",
            "localhost",
            "localhost:80",
            "evil.example:8080",
            "localhost:8080.evil.example",
            "127.0.0.2:8080",
            "x.console.example",
        ];
        for bad in bad {
            assert!(!hosts.contain(bad), "{bad}");
            assert!(!hosts.is_own_origin(&format!("http://{bad}"), bad));
        }
        let later = ["192.0.2.8", "2001:db8::8"].map(|ip| ip.parse().expect("a literal"));
        hosts.own(&later);
        for (host, is_ours) in [
            ("192.0.2.7:8080", false),
            ("192.0.2.8:8080", true),
            ("[2001:db8::8]:8443", true),
            ("127.0.0.1:8080", true),
            ("console.example", true),
        ] {
            assert_eq!(hosts.contain(host), is_ours, "{host}");
        }
        let host = "localhost:8080";
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:3000",
            "localhost:8080",
        ] {
            assert!(!hosts.is_own_origin(origin, host), "{origin}");
        }
    }
}
