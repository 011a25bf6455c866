//! Who may do what: tokens, protected mode, and the exact Host and Origin. Pure.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::actor::TokenUse;

/// A token as its SHA-256, so that comparing takes the same time whatever was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads a token as it stands in `control_config.json`: the token itself, or `sha256:` and its
    /// digest in hexadecimal.
    pub fn parse(text: &str) -> Option<Token> {
        const SHORTEST: usize = 8;
        if let Some(hex) = text.strip_prefix("sha256:") {
            return digest_of_hex(hex).map(Token);
        }
        let usable = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Token(Sha256::digest(text).into()))
    }

    fn is(&self, shown: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0.ct_eq(&shown).into()
    }
}

fn digest_of_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The configured tokens; a stronger one does what a weaker one may.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub read: Option<Token>,
    pub register: Option<Token>,
    pub write: Option<Token>,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The page itself, which then asks for a token, and `/livez`.
    Nothing,
    Read,
    Register,
    Write,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "protected mode: no tokens are configured, so only clients on this machine are served. \
         Set \"tokens\": {{\"read\", \"register\", \"write\"}} and \"allowed_hosts\" in \
         control/config/control_config.json and restart control_server, or tunnel: \
         ssh -L 8080:127.0.0.1:8080 this-machine"
    )]
    Protected,
    #[error("a token is needed: send it as \"Authorization: Bearer TOKEN\"")]
    NoToken,
    #[error("this is none of the configured tokens")]
    WrongToken,
    #[error("this token does not allow that: a {} token is needed", need_word(*.0))]
    LesserToken(Need),
}

fn need_word(need: Need) -> &'static str {
    match need {
        Need::Nothing | Need::Read => "read",
        Need::Register => "register",
        Need::Write => "write",
    }
}

/// Where a request comes from, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub ip: IpAddr,
    /// It came through a forwarding proxy, so `ip` is not its origin.
    pub forwarded: bool,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
}

/// Decides on a request; on success, which token was used.
pub fn authorize(tokens: Option<&Tokens>, caller: Caller, need: Need) -> Result<TokenUse, Denied> {
    let Some(tokens) = tokens else {
        let is_local = caller.ip.to_canonical().is_loopback() && !caller.forwarded;
        return is_local.then_some(TokenUse::None).ok_or(Denied::Protected);
    };
    if need == Need::Nothing {
        return Ok(TokenUse::None);
    }
    let shown = caller.bearer.ok_or(Denied::NoToken)?;
    let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(shown));
    // All are compared, so that the time taken does not tell which one matched.
    let known = (is(&tokens.write), is(&tokens.register), is(&tokens.read));
    let token = match known {
        (true, _, _) => TokenUse::Write,
        (_, true, _) => TokenUse::Register,
        (_, _, true) => TokenUse::Read,
        (false, false, false) => return Err(Denied::WrongToken),
    };
    let suffices = match need {
        Need::Nothing => true,
        Need::Read => token == TokenUse::Read || token == TokenUse::Write,
        Need::Register => token == TokenUse::Register || token == TokenUse::Write,
        Need::Write => token == TokenUse::Write,
    };
    if suffices {
        Ok(token)
    } else {
        Err(Denied::LesserToken(need))
    }
}

/// The exact names that we answer to, against DNS rebinding.
#[derive(Debug, Clone)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// `own` are the addresses we listen on; `allowed` is the operator's list, with or without port.
    pub fn new(port: u16, own: &[IpAddr], allowed: &[String]) -> Hosts {
        let literals = own.iter().map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let mut hosts = Vec::new();
        for name in loopback.into_iter().chain(literals) {
            hosts.push(format!("{name}:{port}"));
            if port == 80 {
                hosts.push(name);
            }
        }
        for name in allowed {
            let name = name.to_ascii_lowercase();
            // Behind a TLS proxy the browser names no port.
            hosts.push(format!("{name}:{port}"));
            hosts.push(name);
        }
        Hosts(hosts)
    }

    pub fn contain(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.0.contains(&host)
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

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn caller(ip: IpAddr, forwarded: bool, bearer: Option<&str>) -> Caller<'_> {
        Caller {
            ip,
            forwarded,
            bearer,
        }
    }

    #[test]
    fn until_tokens_are_configured_only_loopback_is_served() {
        let ask = |ip, forwarded, need| authorize(None, caller(ip, forwarded, None), need);
        assert_eq!(ask(LOOPBACK, false, Need::Write), Ok(TokenUse::None));
        let mapped = "::ffff:127.0.0.1".parse().expect("a literal");
        assert_eq!(ask(mapped, false, Need::Write), Ok(TokenUse::None));
        for need in [Need::Nothing, Need::Read, Need::Register, Need::Write] {
            assert_eq!(ask(REMOTE, false, need), Err(Denied::Protected));
            assert_eq!(ask(LOOPBACK, true, need), Err(Denied::Protected));
        }
    }

    #[test]
    fn each_token_opens_what_it_is_for() {
        let tokens = Tokens {
            read: Token::parse("read-token"),
            register: Token::parse("register-token"),
            write: Token::parse("write-token"),
        };
        let ask = |bearer, need| authorize(Some(&tokens), caller(LOOPBACK, false, bearer), need);
        use Need::{Nothing, Read, Register, Write};
        assert_eq!(ask(None, Nothing), Ok(TokenUse::None));
        for need in [Read, Register, Write] {
            assert_eq!(ask(None, need), Err(Denied::NoToken));
            assert_eq!(ask(Some("nonsense"), need), Err(Denied::WrongToken));
            assert_eq!(ask(Some(""), need), Err(Denied::WrongToken));
            assert_eq!(ask(Some("write-token"), need), Ok(TokenUse::Write));
        }
        let read = |need| ask(Some("read-token"), need);
        assert_eq!(read(Read), Ok(TokenUse::Read));
        assert_eq!(read(Register), Err(Denied::LesserToken(Register)));
        assert_eq!(read(Write), Err(Denied::LesserToken(Write)));
        let register = |need| ask(Some("register-token"), need);
        assert_eq!(register(Register), Ok(TokenUse::Register));
        assert_eq!(register(Read), Err(Denied::LesserToken(Read)));
        assert_eq!(register(Write), Err(Denied::LesserToken(Write)));
    }

    #[test]
    fn a_hashed_token_is_the_token_that_was_hashed() {
        let hex = contract::digest(b"correct horse");
        let token = Token::parse(&format!("sha256:{hex}")).expect("a digest");
        assert!(token.is("correct horse") && !token.is(&hex));
        for bad in [
            "short",
            "has space in it",
            "sha256:12",
            "sha256:zz",
            "tökenlong",
        ] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
        assert!(Token::parse(&format!("sha256:{}", "g".repeat(64))).is_none());
    }

    #[test]
    fn only_exact_hosts_and_our_own_origin_pass() {
        let own = ["192.0.2.7".parse().expect("a literal")];
        let hosts = Hosts::new(8080, &own, &["Console.example".to_owned()]);
        let good = [
            "localhost:8080",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
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
