//! `config/tokens.json`: the tokens that `control_server token create` makes, by hash.
//!
//! A user who can write this file can grant access, so it must be a regular file of root or of the user
//! that runs control, which no other user can read or write, and reached by no link.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use contract::{Faults, Object, parse_object};
use serde_json::{Map, Value, json};

use super::{KnownToken, Scope, SecretHash, TokenSet};
use crate::bounded_read::open_to_read;

/// The largest file that is read.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Tokens at most: every request compares with all of them.
pub const MAX_TOKENS: usize = 1000;
pub const ALLOWED_NAME: &str = "1 to 64 of the characters A-Z a-z 0-9 . _ -";

/// One token of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    pub name: String,
    pub scope: Scope,
    pub hash: SecretHash,
    /// Unix seconds.
    pub created_at: u64,
    pub expires_at: Option<u64>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenFile {
    pub entries: Vec<TokenEntry>,
    /// Until when registrations from before the first token can be refreshed without one, in Unix seconds.
    pub grace_until: Option<u64>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{path}: {faults}", path = .path.display())]
    Faults { path: PathBuf, faults: Faults },
    #[error("{path}: found {found}, allowed: {allowed}", path = .path.display())]
    Unsafe {
        path: PathBuf,
        found: String,
        allowed: &'static str,
    },
}

impl TokenEntry {
    pub fn id(&self) -> String {
        self.hash.id()
    }

    fn known(&self) -> KnownToken {
        KnownToken {
            hash: self.hash,
            scope: self.scope,
            label: format!("token {} ({})", self.name, self.scope.name()),
            expires_at: self.expires_at,
            is_generated: true,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "id": self.id(), "name": self.name, "scope": self.scope.name(),
            "sha256": self.hash.hex(), "created_at": self.created_at, "expires_at": self.expires_at,
        })
    }
}

pub fn is_name(text: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(usual)
}

pub fn token_set(file: &TokenFile) -> TokenSet {
    TokenSet(file.entries.iter().map(TokenEntry::known).collect())
}

/// Reads the file; `None` if it does not exist.
///
/// # Errors
/// Why the file cannot be trusted, or all its faults.
pub fn read(path: &Path) -> Result<Option<TokenFile>, TokenFileError> {
    let Some(bytes) = read_private(path)? else {
        return Ok(None);
    };
    let file = parse(&bytes).map_err(|faults| TokenFileError::Faults {
        path: path.to_owned(),
        faults,
    })?;
    Ok(Some(file))
}

/// Replaces the file.
pub fn write(path: &Path, file: &TokenFile) -> Result<(), TokenFileError> {
    contract::publish::publish_private(path, &render(file)).map_err(|error| TokenFileError::File {
        path: path.to_owned(),
        error: error.into(),
    })
}

/// Parses the content of the file.
///
/// # Errors
/// All its faults.
pub fn parse(bytes: &[u8]) -> Result<TokenFile, Faults> {
    let document = parse_object(bytes, MAX_FILE_BYTES)?;
    let mut faults = Faults::default();
    let file = read_object(&document, &mut faults);
    match faults.is_empty() {
        true => Ok(file),
        false => Err(faults),
    }
}

pub fn render(file: &TokenFile) -> Vec<u8> {
    let tokens: Vec<Value> = file.entries.iter().map(TokenEntry::to_json).collect();
    let mut document = json!({ "tokens": tokens });
    if let Some(until) = file.grace_until {
        document["grace_until"] = until.into();
    }
    let text = serde_json::to_string_pretty(&document);
    (text.expect("a JSON value has no key that is no string") + "\n").into_bytes()
}

fn read_private(path: &Path) -> Result<Option<Vec<u8>>, TokenFileError> {
    let failed = |error| TokenFileError::File {
        path: path.to_owned(),
        error,
    };
    let file = match open_to_read(path, rustix::fs::OFlags::NOFOLLOW) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    refuse_unsafe(&file, path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that parsing sees that it is too large.
    let mut bounded = file.take(MAX_FILE_BYTES as u64 + 1);
    bounded.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

fn refuse_unsafe(file: &File, path: &Path) -> Result<(), TokenFileError> {
    let metadata = file.metadata().map_err(|error| TokenFileError::File {
        path: path.to_owned(),
        error,
    })?;
    let refuse = |found: String, allowed| {
        Err(TokenFileError::Unsafe {
            path: path.to_owned(),
            found,
            allowed,
        })
    };
    if !metadata.is_file() {
        return refuse("no regular file".to_owned(), "a regular file");
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        let found = format!("owner {}", metadata.uid());
        return refuse(found, "the user that control_server runs as, or root");
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return refuse(format!("mode {mode:03o}"), "600: only its owner");
    }
    Ok(())
}

fn read_object(document: &Map<String, Value>, faults: &mut Faults) -> TokenFile {
    let mut object = Object::new(document, "");
    let grace_until = object.take_integer("grace_until", 0, u64::MAX, faults);
    let list = object.take_required("tokens", "an array of tokens", faults);
    let mut entries = Vec::new();
    match list {
        Some(Value::Array(items)) if items.len() <= MAX_TOKENS => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("/tokens/{index}");
                match item {
                    Value::Object(map) => entries.extend(read_entry(map, &place, faults)),
                    other => faults.add(&place, other, "an object"),
                }
            }
        }
        Some(Value::Array(items)) => {
            let allowed = format!("at most {MAX_TOKENS} tokens");
            faults.add("/tokens", items.len(), allowed);
        }
        Some(other) => faults.add("/tokens", other, "an array of tokens"),
        None => {}
    }
    object.unknown_keys(faults);
    TokenFile {
        entries,
        grace_until,
    }
}

fn read_entry(map: &Map<String, Value>, place: &str, faults: &mut Faults) -> Option<TokenEntry> {
    let mut object = Object::new(map, place);
    let name = object.take_string("name", faults).unwrap_or_default();
    if !is_name(name) {
        faults.add(&format!("{place}/name"), name, ALLOWED_NAME);
    }
    object.take_required("scope", "read, register, write or admin", faults);
    let scope = object.take_choice("scope", &Scope::ALL, faults);
    let hash = object.take_string("sha256", faults);
    let hash = hash.and_then(SecretHash::of_hex);
    if hash.is_none() {
        let allowed = "64 hexadecimal digits";
        faults.add(&format!("{place}/sha256"), "no digest", allowed);
    }
    let created_at = object.take_integer("created_at", 0, u64::MAX, faults);
    let expires_at = object.take_integer("expires_at", 0, u64::MAX, faults);
    // Made from the hash; there for readers.
    object.take("id");
    object.unknown_keys(faults);
    Some(TokenEntry {
        name: name.to_owned(),
        scope: scope?,
        hash: hash?,
        created_at: created_at.unwrap_or(0),
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn entry(name: &str) -> TokenEntry {
        TokenEntry {
            name: name.to_owned(),
            scope: Scope::Write,
            hash: SecretHash::of(name),
            created_at: 7,
            expires_at: Some(9),
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_by_its_owner() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("tokens.json");
        assert_eq!(read(&path).expect("absent"), None);
        for grace_until in [None, Some(3_607)] {
            let file = TokenFile {
                entries: vec![entry("ci"), entry("console")],
                grace_until,
            };
            write(&path, &file).expect("written");
            assert_eq!(read(&path).expect("good"), Some(file));
        }
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains(&SecretHash::of("ci").hex()));
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("tokens.json");
        let file = TokenFile {
            entries: vec![entry("ci")],
            grace_until: None,
        };
        write(&path, &file).expect("written");
        for mode in [0o644, 0o620, 0o660, 0o604] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("set");
            assert!(
                matches!(read(&path), Err(TokenFileError::Unsafe { .. })),
                "{mode:o}"
            );
        }
        let permissions = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, permissions).expect("set");
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(64_101), None).expect("root may");
            assert!(matches!(read(&path), Err(TokenFileError::Unsafe { .. })));
            std::os::unix::fs::chown(&path, Some(0), None).expect("root may");
        }
        let link = temp.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert!(matches!(read(&link), Err(TokenFileError::File { .. })));
        assert!(matches!(
            read(temp.path()),
            Err(TokenFileError::Unsafe { .. })
        ));
    }

    #[test]
    fn each_fault_is_named_by_its_place_and_no_hash_is_told() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("tokens.json");
        let good = entry("ci").to_json();
        let mut bad_scope = good.clone();
        bad_scope["scope"] = "root".into();
        let mut bad_name = good.clone();
        bad_name["name"] = "a b\n".into();
        let mut bad_hash = good.clone();
        bad_hash["sha256"] = "secret".into();
        let text = json!({ "tokens": [good, bad_scope, bad_name, bad_hash, 7], "more": 1 });
        let written = contract::publish::publish_private(&path, text.to_string().as_bytes());
        written.expect("written");
        let Err(TokenFileError::Faults { faults, .. }) = read(&path) else {
            panic!("a bad file was taken");
        };
        let mut places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        places.sort_unstable();
        let expected = [
            "/more",
            "/tokens/1/scope",
            "/tokens/2/name",
            "/tokens/3/sha256",
            "/tokens/4",
        ];
        assert_eq!(places, expected);
        assert!(!faults.to_string().contains("secret"));
    }
}
