//! Values on the command lines, read once and right from then on.
//!
//! Each function is a parser for clap, which prints the option and the value that it was given
//! before the message and exits with 2; so a message here says only what is allowed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::{BackendAddr, Root, parse_backend_ip};

const ALLOWED_BACKEND: &str = "IP:PORT, a unicast address and a port from 1 to 65535, \
                               such as 127.0.0.1:9001 or [::1]:9001";

/// The addresses of one `--backends`, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends(pub Vec<BackendAddr>);

/// Where control answers: `http://HOST[:PORT]`, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(pub String);

/// One address that sessions can be sent to.
pub fn backend(text: &str) -> Result<BackendAddr, String> {
    text.parse::<SocketAddr>()
        .ok()
        .filter(|addr| addr.port() != 0 && parse_backend_ip(&addr.ip().to_string()).is_some())
        .map(|addr| BackendAddr::new(addr.ip(), addr.port()))
        .ok_or_else(|| format!("allowed: {ALLOWED_BACKEND}"))
}

/// Addresses with commas between.
pub fn backends(text: &str) -> Result<Backends, String> {
    let mut seen = HashSet::new();
    let mut addrs = Vec::new();
    for part in text.split(',').map(str::trim) {
        let addr = backend(part).map_err(|_| {
            format!("found {part:?}, allowed: {ALLOWED_BACKEND}, with commas between")
        })?;
        if !seen.insert(addr) {
            return Err(format!(
                "{addr} stands there twice, allowed: each address once"
            ));
        }
        addrs.push(addr);
    }
    Ok(Backends(addrs))
}

/// An address to listen on; port 0 lets the kernel choose.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .ok()
        .filter(|addr| !addr.ip().is_multicast())
        .ok_or_else(|| {
            "allowed: IP:PORT, such as 127.0.0.1:9001; port 0 lets the kernel choose".into()
        })
}

/// A unicast address without a port.
pub fn backend_ip(text: &str) -> Result<std::net::IpAddr, String> {
    parse_backend_ip(text)
        .ok_or_else(|| format!("allowed: {}", contract::address::ALLOWED_BACKEND_IP))
}

/// Seconds from 0.05 to 3600.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.05..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "allowed: seconds from 0.05 to 3600".into())
}

/// A share from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "allowed: a number from 0 to 1".into())
}

/// A name that goes into answers: one line, short.
pub fn name(text: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let fits = (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "allowed: 1 to {LONGEST} bytes without control characters"
        ))
    }
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

/// Plain HTTP only: the simulators stand beside control, or reach it through a tunnel.
pub fn base_url(text: &str) -> Result<BaseUrl, String> {
    let uri = text.parse::<ureq::http::Uri>().ok();
    let plain = uri.filter(|uri| {
        let no_path = matches!(uri.path(), "" | "/") && uri.query().is_none();
        uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && no_path
    });
    match plain {
        Some(_) => Ok(BaseUrl(text.trim_end_matches('/').to_owned())),
        None => Err("allowed: http://HOST[:PORT], such as http://127.0.0.1:8080".into()),
    }
}

/// The contract's folder: as named, or found from the working folder.
pub fn root_or_default(named: Option<PathBuf>) -> Root {
    match named {
        Some(folder) => Root(folder),
        // Without a working folder, relative paths lead nowhere whatever they are.
        None => Root::default_from(&std::env::current_dir().unwrap_or_default()),
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
            backends,
            &[
                "127.0.0.1:1",
                "127.0.0.1:1,127.0.0.1:2",
                "127.0.0.1:1, 127.0.0.1:2",
            ],
            &[
                "",
                ",",
                "127.0.0.1:1,",
                "127.0.0.1:1,127.0.0.1:1",
                "127.0.0.1:1;127.0.0.1:2",
                "127.0.0.1:1,[::ffff:127.0.0.1]:1",
            ],
        );
        check(
            listen,
            &["127.0.0.1:0", "0.0.0.0:9001", "[::]:1"],
            &["9001", ":9001", "224.0.0.1:1"],
        );
        check(
            backend_ip,
            &["127.0.0.1", "::1"],
            &["localhost", "0.0.0.0", "127.0.0.1:1"],
        );
        check(
            seconds,
            &["1", "0.05", "3600"],
            &["0", "-1", "NaN", "inf", "1s", "", "1e9"],
        );
        check(
            share,
            &["0", "1", "0.25"],
            &["-0.1", "1.01", "NaN", "half", ""],
        );
        check(token, &["s3cret=="], &["", "two words", "é"]);
        check(
            name,
            &["gpu-1", "节点 1"],
            &["", "a\nb", "\u{1b}[31m", &"x".repeat(65)],
        );
    }

    #[test]
    fn a_base_is_plain_http_without_a_path() {
        check(
            base_url,
            &[
                "http://127.0.0.1:8080",
                "http://localhost",
                "http://[::1]:8080/",
            ],
            &[
                "",
                "127.0.0.1:8080",
                "https://a:1",
                "http://",
                "http://a/api",
                "http://a?b",
                "ftp://a",
            ],
        );
        let base = base_url("http://localhost:8080/").expect("a base");
        assert_eq!(base.0, "http://localhost:8080");
    }
}
