//! Values on the simulators' command lines beside those that `control_client` reads.
//!
//! Each function is a parser for clap, which prints the option and the value that it was given
//! before the message and exits with 2; so a message here says only what is allowed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use contract::{BackendAddr, Name, Root, parse_backend_ip};
use control_client::arguments::{ALLOWED_BACKEND, backend};

/// The addresses of one `--backends`, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends(pub Vec<BackendAddr>);

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
                "{addr} is listed twice, allowed: each address once"
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

/// The name of a pool.
pub fn pool(text: &str) -> Result<Name, String> {
    let allowed = "allowed: 1 to 63 of a-z, 0-9, - and _, beginning with a letter";
    Name::new(text).ok_or_else(|| allowed.to_owned())
}

/// A unicast address without a port.
pub fn backend_ip(text: &str) -> Result<std::net::IpAddr, String> {
    parse_backend_ip(text)
        .ok_or_else(|| format!("allowed: {}", contract::address::ALLOWED_BACKEND_IP))
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
            share,
            &["0", "1", "0.25"],
            &["-0.1", "1.01", "NaN", "half", ""],
        );
        check(
            name,
            &["gpu-1", "节点 1"],
            &["", "a\nb", "\u{1b}[31m", &"x".repeat(65)],
        );
    }
}
