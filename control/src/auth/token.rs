//! Tokens as control knows them: by their SHA-256 alone.
//!
//! A generated token holds 256 random bits and cannot be guessed, so a plain SHA-256 protects it as well
//! as a slow password hash would, without milliseconds of CPU for each request. A token that a person
//! chose for `control_config.json` may be weak; therefore failed attempts are limited.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Scope;

/// The prefix of generated tokens, so that scanners of leaked secrets find them.
const PREFIX: &str = "wgt_";
const RANDOM_BYTES: usize = 32;

/// A token as its SHA-256, so that comparing takes the same time whatever was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash")
    }
}

impl SecretHash {
    pub fn of(token: &str) -> SecretHash {
        SecretHash(Sha256::digest(token).into())
    }

    /// Reads a token as written in `control_config.json`: the token itself, or `sha256:` and its
    /// digest in hexadecimal.
    pub fn parse(text: &str) -> Option<SecretHash> {
        const SHORTEST: usize = 8;
        if let Some(hex) = text.strip_prefix("sha256:") {
            return SecretHash::of_hex(hex);
        }
        let usable = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| SecretHash::of(text))
    }

    pub fn of_hex(hex: &str) -> Option<SecretHash> {
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(SecretHash(digest))
    }

    pub fn hex(self) -> String {
        hex(&self.0)
    }

    /// A short, constant name of a token, which does not help to guess it.
    pub fn id(self) -> String {
        const DIGITS: usize = 12;
        let mut id = self.hex();
        id.truncate(DIGITS);
        id
    }

    pub fn is(self, other: SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Random bytes in hexadecimal, which every header, cookie and shell takes as it is.
pub fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(hex(&bytes))
}

/// A new token; it is shown once and kept by its hash.
pub fn generate() -> std::io::Result<String> {
    Ok(format!("{PREFIX}{}", random_hex()?))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        hex
    })
}

/// A configured token and its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownToken {
    pub hash: SecretHash,
    pub scope: Scope,
    /// For the audit log.
    pub label: String,
    /// Unix seconds on the wall clock, as the operator meant it.
    pub expires_at: Option<u64>,
    /// Too random to be guessed, so that attempts need no limit.
    pub is_generated: bool,
}

impl KnownToken {
    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expires_at.is_some_and(|end| end <= now_s)
    }
}

/// All configured tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSet(pub Vec<KnownToken>);

impl TokenSet {
    /// All are compared, so that the time taken does not tell which one matched.
    pub fn find<'a>(&'a self, hash: SecretHash) -> Option<&'a KnownToken> {
        let same = |found, known: &'a KnownToken| match known.hash.is(hash) {
            true => Some(known),
            false => found,
        };
        self.0.iter().fold(None, same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_token_is_the_token_that_was_hashed() {
        let hex = contract::digest(b"correct horse");
        let token = SecretHash::parse(&format!("sha256:{hex}")).expect("a digest");
        assert!(token.is(SecretHash::of("correct horse")) && !token.is(SecretHash::of(&hex)));
        assert_eq!(token.hex(), hex);
        for bad in [
            "short",
            "has space in it",
            "sha256:12",
            "sha256:zz",
            "tökenlong",
        ] {
            assert!(SecretHash::parse(bad).is_none(), "{bad}");
        }
        for digit in ["g", "+", "é"] {
            let bad = format!("sha256:{}", digit.repeat(64 / digit.len()));
            assert!(SecretHash::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn generated_tokens_differ_and_are_usable() {
        let (one, two) = (generate().expect("random"), generate().expect("random"));
        assert_ne!(one, two);
        assert!(one.len() == PREFIX.len() + 2 * RANDOM_BYTES && SecretHash::parse(&one).is_some());
    }
}
