//! Where a URL's host is. ureq starts a thread for each call to bound the look-up in time; an address
//! needs neither, and most URLs of a node's own programs are addresses.

use std::net::{IpAddr, SocketAddr};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

/// A client that looks up names only.
pub fn http_agent(config: Config) -> Agent {
    Agent::with_parts(
        config,
        DefaultConnector::default(),
        NamesOnly(DefaultResolver::default()),
    )
}

#[derive(Debug)]
struct NamesOnly(DefaultResolver);

impl Resolver for NamesOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let Some(addr) = address(uri) else {
            return self.0.resolve(uri, config, timeout);
        };
        let mut found = self.empty();
        found.push(addr);
        Ok(found)
    }
}

/// The address and port of an HTTP URL whose host is an address.
fn address(uri: &Uri) -> Option<SocketAddr> {
    let usual = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host()?;
    // RFC 3986, section 3.2.2: an IPv6 address is in brackets.
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip: IpAddr = match bare {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => IpAddr::V4(host.parse().ok()?),
    };
    Some(SocketAddr::new(ip, uri.port_u16().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_looked_up() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/api", Some("127.0.0.1:8080")),
            ("http://10.0.0.1/", Some("10.0.0.1:80")),
            ("https://10.0.0.1/", Some("10.0.0.1:443")),
            ("https://[2001:db8::1]:9/", Some("[2001:db8::1]:9")),
            ("http://[::1]/", Some("[::1]:80")),
            ("http://localhost:8080/", None),
            ("http://10.0.0/", None),
            ("ftp://10.0.0.1/", None),
        ] {
            let uri: Uri = url.parse().expect("a URL");
            let found = address(&uri).map(|addr| addr.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
