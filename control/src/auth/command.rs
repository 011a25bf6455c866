//! `control_server token create, list, revoke`. A running server picks up changes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use contract::Root;

use super::access::GRACE_IS_OVER;
use super::token::generate;
use super::token_file::{self, ALLOWED_NAME, MAX_TOKENS, TokenEntry, TokenFileError, is_name};
use super::token_uses::TokenUses;
use super::{Scope, SecretHash, first_token, token_uses};
use crate::clock::rfc3339;
use crate::settings::SettingsFile;

/// How long registrations from before the first token can be refreshed without one.
const DEFAULT_GRACE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it; only its hash is stored, so it cannot be shown again
    Create {
        /// What the token may do: read; register (backends only); write (read, register and edit);
        /// admin (also settings)
        #[arg(long)]
        scope: Scope,
        /// How long the token is valid: a number with s, m, h, d or w [default: no limit]
        #[arg(long, value_parser = parse_ttl)]
        ttl: Option<Duration>,
        /// Its name in lists and in the audit log [default: the scope]
        #[arg(long, value_parser = parse_name)]
        name: Option<String>,
        /// Only with the first token: how long programs on this machine may still refresh existing
        /// registrations without one [default: 1h]; 0, also with a later token: end this at once
        #[arg(long, value_parser = parse_grace)]
        grace: Option<Duration>,
    },
    /// List the tokens without their secrets; the last use is accurate to ten seconds
    List,
    /// Revoke a token and end the sessions that were started with it
    Revoke {
        /// Its id or name
        token: String,
    },
}

impl ValueEnum for Scope {
    fn value_variants<'a>() -> &'a [Scope] {
        const ALL: [Scope; 4] = [Scope::Read, Scope::Register, Scope::Write, Scope::Admin];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

/// Why a command failed; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    #[error(transparent)]
    File(#[from] TokenFileError),
    #[error("{path}: {error}", path = .path.display())]
    Folder { path: PathBuf, error: io::Error },
    #[error("no random bytes: {0}")]
    Random(io::Error),
    #[error("output: {0}")]
    Output(#[from] io::Error),
    #[error("all {MAX_TOKENS} tokens are in use; revoke one first")]
    Full,
    #[error("no token has the id or the name {0:?}; \"control_server token list\" shows all")]
    Unknown(String),
    #[error(
        "--grace applies to the first token, and a token exists already. Only --grace 0 is allowed now: \
         it ends a grace period that still runs. No token was created"
    )]
    NotFirst,
    #[error("several tokens have the name {0:?}; use an id instead")]
    Ambiguous(String),
}

/// Carries out a command on the token file.
pub fn run(command: TokenCommand, root: &Root, now_s: u64) -> Result<(), TokenCommandError> {
    let path = &root.tokens();
    // Two commands at a time must not overwrite each other's change.
    let _only_one = lock_folder_of(path)?;
    let found = token_file::read(path)?;
    let is_first = found.is_none() && !has_configured_tokens(root);
    let mut file = found.unwrap_or_default();
    let still_counts = |until: &u64| now_s < *until || *until == GRACE_IS_OVER;
    file.grace_until = file.grace_until.filter(still_counts);
    let entries = &mut file.entries;
    let mut out = io::stdout().lock();
    match command {
        TokenCommand::Create {
            scope,
            ttl,
            name,
            grace,
        } => {
            if entries.len() >= MAX_TOKENS {
                return Err(TokenCommandError::Full);
            }
            if !is_first && grace.is_some_and(|grace| !grace.is_zero()) {
                return Err(TokenCommandError::NotFirst);
            }
            let token = generate().map_err(TokenCommandError::Random)?;
            let entry = TokenEntry {
                name: name.unwrap_or_else(|| scope.name().to_owned()),
                scope,
                hash: SecretHash::of(&token),
                created_at: now_s,
                expires_at: ttl.map(|ttl| now_s + ttl.as_secs()),
            };
            eprintln!("{}", line(&entry, now_s));
            entries.push(entry);
            if is_first {
                let until = now_s + grace.unwrap_or(DEFAULT_GRACE).as_secs();
                file.grace_until = (until > now_s).then_some(until);
                eprint!("{}", first_token::consequences(root, file.grace_until));
            } else if grace.is_some() {
                file.grace_until = Some(GRACE_IS_OVER);
                eprintln!("From now on, refreshing a registration needs a token.");
            } else if let Some(until) = file.grace_until.filter(|until| now_s < *until) {
                eprintln!(
                    "Until {}, programs on this machine can refresh registrations from before the first \
                     token without one (--grace 0 ends that).",
                    rfc3339(until)
                );
            }
            token_file::write(path, &file)?;
            writeln!(out, "{token}")?;
        }
        TokenCommand::List => {
            let uses = token_uses::read(&root.token_uses());
            write!(out, "{}", table(entries, &uses, now_s))?;
        }
        TokenCommand::Revoke { token } => {
            let index = find(entries, &token)?;
            let gone = entries.remove(index);
            if entries.is_empty() {
                file.grace_until = None;
            }
            token_file::write(path, &file)?;
            writeln!(out, "revoked {}", line(&gone, now_s))?;
        }
    }
    Ok(())
}

fn find(entries: &[TokenEntry], named: &str) -> Result<usize, TokenCommandError> {
    if let Some(index) = entries.iter().position(|entry| entry.id() == named) {
        return Ok(index);
    }
    let mut called = (0..entries.len()).filter(|index| entries[*index].name == named);
    match (called.next(), called.next()) {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => Err(TokenCommandError::Ambiguous(named.to_owned())),
        (None, _) => Err(TokenCommandError::Unknown(named.to_owned())),
    }
}

fn line(entry: &TokenEntry, now_s: u64) -> String {
    let end = match entry.expires_at {
        None => "does not expire".to_owned(),
        Some(end) if end <= now_s => format!("expired {}", rfc3339(end)),
        Some(end) => format!("expires {}", rfc3339(end)),
    };
    let (id, name, scope) = (entry.id(), &entry.name, entry.scope.name());
    format!(
        "{id}  {scope:8}  {name}  created {}, {end}",
        rfc3339(entry.created_at)
    )
}

/// All tokens, a line each below a line of names.
fn table(entries: &[TokenEntry], uses: &TokenUses, now_s: u64) -> String {
    const NAMES: [&str; 6] = ["ID", "NAME", "SCOPE", "CREATED", "EXPIRES", "LAST USED"];
    let row = |entry: &TokenEntry| {
        let expires = match entry.expires_at {
            None => "never".to_owned(),
            Some(end) if end <= now_s => format!("expired {}", rfc3339(end)),
            Some(end) => rfc3339(end),
        };
        let used = uses
            .get(&entry.id())
            .map_or("never".to_owned(), |at| rfc3339(*at));
        let (id, name) = (entry.id(), entry.name.clone());
        let (scope, created) = (entry.scope.name().to_owned(), rfc3339(entry.created_at));
        [id, name, scope, created, expires, used]
    };
    let rows = std::iter::once(NAMES.map(str::to_owned)).chain(entries.iter().map(row));
    let rows: Vec<[String; 6]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        table += line.trim_end();
        table.push('\n');
    }
    table
}

/// Whether `control_config.json` has tokens; an unreadable one is reported by the next start.
fn has_configured_tokens(root: &Root) -> bool {
    SettingsFile::at(root)
        .read()
        .is_ok_and(|settings| !settings.tokens.0.is_empty())
}

fn lock_folder_of(path: &Path) -> Result<File, TokenCommandError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error| TokenCommandError::Folder {
        path: folder.to_owned(),
        error,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let opened = File::open(folder).map_err(failed)?;
    rustix::fs::flock(&opened, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    Ok(opened)
}

fn parse_name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("found {text:?}, allowed: {ALLOWED_NAME}")),
    }
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => parse_ttl(text),
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    const LONGEST_S: u64 = 100 * 365 * 86_400;
    let refused = || format!("found {text:?}, allowed: a number with s, m, h, d or w, as in 90d");
    let unit_at = text.len() - text.chars().next_back().map_or(0, char::len_utf8);
    let (number, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    let seconds = number.checked_mul(unit_s).ok_or_else(refused)?;
    match seconds {
        1..=LONGEST_S => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "found {text:?}, allowed: from 1s to {}d",
            LONGEST_S / 86_400
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90d", 7_776_000),
            ("12h", 43_200),
            ("1w", 604_800),
            ("5s", 5),
        ] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "d",
            "90",
            "0d",
            "-1d",
            "1.5h",
            "1y",
            "9日",
            "99999999999999999999d",
            "99999d",
        ] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_id_or_by_a_name_that_only_it_has() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = Root(temp.path().to_owned());
        let path = root.tokens();
        let create = |name: &str| TokenCommand::Create {
            scope: Scope::Read,
            ttl: None,
            name: Some(name.to_owned()),
            grace: None,
        };
        for name in ["one", "two", "two"] {
            run(create(name), &root, 7).expect("made");
        }
        let revoke = |token: &str| {
            let token = token.to_owned();
            run(TokenCommand::Revoke { token }, &root, 7)
        };
        revoke("one").expect("revoked");
        assert!(matches!(revoke("one"), Err(TokenCommandError::Unknown(_))));
        assert!(matches!(
            revoke("two"),
            Err(TokenCommandError::Ambiguous(_))
        ));
        let read = || {
            token_file::read(&path)
                .expect("good")
                .expect("there")
                .entries
        };
        let left = read();
        assert_eq!((left.len(), left[0].created_at), (2, 7));
        revoke(&left[0].id()).expect("revoked");
        assert_eq!(read().len(), 1);
    }

    #[test]
    fn tokens_are_listed_below_the_names_of_their_columns() {
        let entry = |name: &str, expires_at| TokenEntry {
            name: name.to_owned(),
            scope: Scope::Read,
            hash: SecretHash::of(name),
            created_at: 0,
            expires_at,
        };
        let entries = [
            entry("a", None),
            entry("wall-display", Some(60)),
            entry("b", Some(7_200)),
        ];
        let uses = TokenUses::from([(entries[1].id(), 30)]);
        let table = table(&entries, &uses, 3_600);
        let lines: Vec<&str> = table.lines().collect();
        let column = |name: &str| lines[0].find(name).expect("a column");
        let cell = |line: usize, name: &str| lines[line][column(name)..].split("  ").next();
        assert_eq!(lines.len(), 4, "{table}");
        assert_eq!(cell(1, "NAME"), Some("a"));
        assert_eq!(cell(2, "NAME"), Some("wall-display"));
        assert_eq!(cell(1, "EXPIRES"), Some("never"));
        assert_eq!(cell(2, "EXPIRES"), Some("expired 1970-01-01T00:01:00Z"));
        assert_eq!(cell(3, "EXPIRES"), Some("1970-01-01T02:00:00Z"));
        assert_eq!(cell(1, "LAST USED"), Some("never"));
        assert_eq!(cell(2, "LAST USED"), Some("1970-01-01T00:00:30Z"));
        assert_eq!(super::table(&[], &uses, 0).lines().count(), 1);
    }

    #[test]
    fn the_first_token_alone_begins_a_grace_which_is_forgotten_when_it_is_over() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = Root(temp.path().to_owned());
        let read = || {
            let file = token_file::read(&root.tokens()).expect("good");
            file.expect("there").grace_until
        };
        let create = |grace_s: Option<u64>, now_s: u64| {
            let command = TokenCommand::Create {
                scope: Scope::Read,
                ttl: None,
                name: Some(format!("at-{now_s}")),
                grace: grace_s.map(Duration::from_secs),
            };
            run(command, &root, now_s).map(|()| read())
        };
        let made = |grace_s, now_s| create(grace_s, now_s).expect("made");
        let refused = |grace_s, now_s| {
            let refused = create(grace_s, now_s).expect_err("not the first one");
            assert!(matches!(refused, TokenCommandError::NotFirst));
        };
        assert_eq!(made(None, 100), Some(3_700));
        refused(Some(7_200), 200);
        assert_eq!(made(None, 300), Some(3_700), "this is the second one");
        assert_eq!(made(Some(0), 400), Some(GRACE_IS_OVER));
        assert_eq!(made(None, 500), Some(GRACE_IS_OVER));
        std::fs::remove_file(root.tokens()).expect("it was there");
        assert_eq!(made(Some(60), 100), Some(160));
        assert_eq!(made(None, 160), None, "it is over");
        std::fs::remove_file(root.tokens()).expect("it was there");
        assert_eq!(made(None, 100), Some(3_700));
        let token = "at-100".to_owned();
        run(TokenCommand::Revoke { token }, &root, 200).expect("revoked");
        assert_eq!(read(), None, "no token is left");
        assert_eq!(made(None, 300), None, "nor is this the first one");
        std::fs::remove_file(root.tokens()).expect("it was there");
        assert_eq!(made(Some(0), 4_000), None);
        std::fs::remove_file(root.tokens()).expect("it was there");
        let config = r#"{"tokens": {"write": "long-enough"}}"#;
        std::fs::create_dir_all(root.0.join("config")).expect("made");
        std::fs::write(root.control_config(), config).expect("written");
        refused(Some(3_600), 5_000);
        assert_eq!(made(None, 5_000), None, "there was one before");
    }
}
