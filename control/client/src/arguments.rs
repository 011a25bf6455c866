//! Values on the command lines of programs that talk to control, read once and right from then on.
//!
//! Each function is a parser for clap, which prints the option and the value that it was given
//! before the message and exits with 2; so a message here says only what is allowed.

use std::net::SocketAddr;
use std::time::Duration;

use contract::{BackendAddr, OWNER_BYTES, parse_backend_ip};

/// What [`backend`] takes, in words for a message.
pub const ALLOWED_BACKEND: &str = "IP:PORT, a unicast address and a port from 1 to 65535, \
                               such as 127.0.0.1:9001 or [::1]:9001";

/// URL of the control server: `http://HOST[:PORT]` or `https://...`, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(pub String);

impl BaseUrl {
    /// Whether both URLs name the same server, in whatever form.
    pub fn is_same(&self, other: &BaseUrl) -> bool {
        let place = |base: &BaseUrl| {
            let uri: ureq::http::Uri = base.0.parse().ok()?;
            let scheme = uri.scheme_str()?.to_owned();
            let usual = if scheme == "https" { 443 } else { 80 };
            let host = uri.host()?.to_ascii_lowercase();
            Some((scheme, host, uri.port_u16().unwrap_or(usual)))
        };
        place(self) == place(other)
    }
}

/// The first repeated value.
pub fn given_twice(bases: &[BaseUrl]) -> Option<&BaseUrl> {
    let mut numbered = bases.iter().enumerate();
    let twice = numbered.find(|(index, base)| bases[..*index].iter().any(|one| one.is_same(base)));
    twice.map(|(_, base)| base)
}

/// One address that sessions can be sent to.
pub fn backend(text: &str) -> Result<BackendAddr, String> {
    text.parse::<SocketAddr>()
        .ok()
        .filter(|addr| addr.port() != 0 && parse_backend_ip(&addr.ip().to_string()).is_some())
        .map(|addr| BackendAddr::new(addr.ip(), addr.port()))
        .ok_or_else(|| format!("allowed: {ALLOWED_BACKEND}"))
}

/// Seconds from 0.05 to 3600.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.05..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "allowed: seconds from 0.05 to 3600".into())
}

/// A bearer token, as a header can carry it (RFC 6750, section 2.1).
pub fn token(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("allowed: visible ASCII characters without spaces".into())
    }
}

/// The secret by which a registration is refreshed and removed.
pub fn owner(text: &str) -> Result<String, String> {
    match OWNER_BYTES.contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("allowed: a secret of 16 to 256 bytes".into()),
    }
}

/// The address of the control server, without a path.
pub fn base_url(text: &str) -> Result<BaseUrl, String> {
    let uri = text.parse::<ureq::http::Uri>().ok();
    let authority = uri.as_ref().and_then(|uri| uri.authority());
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            "allowed: a URL without USER:PASSWORD@; control knows its callers by a token".into(),
        );
    }
    let base = uri.filter(|uri| {
        let no_path = matches!(uri.path(), "" | "/") && uri.query().is_none();
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && no_path
    });
    match base {
        Some(_) => Ok(BaseUrl(text.trim_end_matches('/').to_owned())),
        None => Err("allowed: http://HOST[:PORT] or https://HOST[:PORT], \
                     such as http://127.0.0.1:8080"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T>(parse: impl Fn(&str) -> Result<T, String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(parse(text).is_ok(), "{text:?} should be taken");
        }
        for text in bad {
            let refused = parse(text).err();
            let message = refused.unwrap_or_else(|| panic!("{text:?} should be refused"));
            assert!(message.contains("allowed: "), "{message}");
        }
    }

    #[test]
    fn a_bad_value_is_answered_with_what_is_allowed() {
        check(
            backend,
            &["127.0.0.1:1", "10.0.0.11:65535", "[::1]:9001"],
            &[
                "",
                "127.0.0.1",
                "127.0.0.1:0",
                "127.0.0.1:65536",
                "0.0.0.0:9001",
                "gpu-1:9001",
                "224.0.0.1:9001",
                "::1:9001",
                "10.0.0.1:9001 ",
            ],
        );
        check(
            seconds,
            &["1", "0.05", "3600"],
            &["0", "-1", "NaN", "inf", "1s", "", "1e9"],
        );
        check(token, &["s3cret=="], &["", "two words", "é"]);
        check(owner, &["sixteen bytes ok"], &["", "fifteen bytes !"]);
    }

    #[test]
    fn a_base_is_http_or_https_without_a_path() {
        check(
            base_url,
            &[
                "http://127.0.0.1:8080",
                "http://localhost",
                "http://[::1]:8080/",
                "https://control.example:8443",
            ],
            &[
                "",
                "127.0.0.1:8080",
                "http://",
                "http://a/api",
                "http://a?b",
                "ftp://a",
                "http://user:pass@a:8080",
                "http://user@a",
            ],
        );
        let bases = |urls: [&str; 2]| urls.map(|url| base_url(url).expect("a base"));
        for twice in [
            ["http://a:8080", "http://A:8080/"],
            ["http://a", "http://a:80"],
            ["https://[::1]", "https://[::1]:443"],
        ] {
            assert!(given_twice(&bases(twice)).is_some(), "{twice:?}");
        }
        for both in [["http://a:8080", "http://a"], ["http://a:443", "https://a"]] {
            assert_eq!(given_twice(&bases(both)), None, "{both:?}");
        }
        let base = base_url("http://localhost:8080/").expect("a base");
        assert_eq!(base.0, "http://localhost:8080");
    }
}
