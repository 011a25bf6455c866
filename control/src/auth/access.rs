//! Access as it changes while the server runs: tokens that are created and revoked, sessions that begin and
//! end, addresses that try wrong tokens.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use contract::BackendKey;

use super::failures::Failures;
use super::grace::Grace;
use super::grace_file::{self, Served};
use super::sessions::{MAX_AGE_MS, Sessions};
use super::token::random_hex;
use super::token_file::{self, TokenFileError};
use super::token_uses::{self, TokenUses};
use super::{
    Caller, Denied, Grant, KnownToken, Need, Proof, Scope, SecretHash, SessionKey, Shown, TokenSet,
};
use crate::clock::{Clock, Now};
use crate::file_version::LastRead;

/// Start of the session cookie's name; the port follows, since cookies do not distinguish ports.
pub const SESSION_COOKIE: &str = "wicketgate_session_";

/// How long registrations can be refreshed without a token after the first one of `control_config.json`.
const GRACE_OF_CONFIG_S: u64 = 3_600;
/// The value in the token file after an operator has ended it.
pub const GRACE_IS_OVER: u64 = 0;

pub struct Access {
    clock: Clock,
    file: PathBuf,
    tokens: Mutex<Tokens>,
    grace: Mutex<Grace>,
    grace_file: PathBuf,
    last_read: LastRead,
    sessions: Mutex<Sessions>,
    failures: Mutex<Failures>,
    uses_file: PathBuf,
    uses: Mutex<Uses>,
}

#[derive(Debug, Default)]
struct Tokens {
    /// The tokens of `control_config.json`.
    configured: TokenSet,
    /// The tokens of the token file as last read; `None` if there was no file.
    of_file: Option<TokenSet>,
    /// The grace period in that file.
    grace_of_file: Option<u64>,
    /// All tokens; `None` if none is configured: protected mode.
    all: Option<Arc<TokenSet>>,
}

impl Tokens {
    /// Applies the configured tokens and those of the file.
    fn take_effect(&mut self) -> Vec<TokenChange> {
        let configured = self.configured.clone();
        // A file without tokens still requires tokens, and so does a file that disappears while we run:
        // neither the end of the last token nor a moved file may open access to every user of this
        // machine.
        let new = match &self.of_file {
            None if configured.0.is_empty() && self.all.is_none() => None,
            None => Some(configured),
            Some(of_file) => {
                let mut all = configured;
                all.0.extend(of_file.0.iter().cloned());
                Some(all)
            }
        };
        let changes = changes(self.all.as_deref(), new.as_ref());
        self.all = new.map(Arc::new);
        changes
    }
}

/// When tokens were last used, and whether this is stored.
#[derive(Debug, Default)]
struct Uses {
    last: TokenUses,
    is_new: bool,
}

/// A new session.
#[derive(Debug)]
pub struct SignedIn {
    /// The value of the cookie.
    pub id: String,
    pub max_age_s: u64,
    pub grant: Grant,
}

/// The effect of a change of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenChange {
    Added(String),
    Removed(String),
}

impl Access {
    /// # Errors
    /// A token file that cannot be used: which callers to admit is then unknown.
    pub fn open(
        file: &Path,
        uses_file: &Path,
        configured: TokenSet,
        clock: Clock,
    ) -> Result<Access, TokenFileError> {
        let access = Access {
            clock,
            file: file.to_owned(),
            tokens: Mutex::new(Tokens {
                configured,
                ..Tokens::default()
            }),
            grace: Mutex::default(),
            grace_file: uses_file.with_file_name("grace.json"),
            last_read: LastRead::none_of(&[file]),
            sessions: Mutex::default(),
            failures: Mutex::default(),
            uses: Mutex::new(Uses {
                last: token_uses::read(uses_file),
                is_new: false,
            }),
            uses_file: uses_file.to_owned(),
        };
        access.reload()?;
        Ok(access)
    }

    /// Applies changed tokens of `control_config.json` at once, independent of the token file.
    pub fn configure(&self, configured: TokenSet) -> Vec<TokenChange> {
        let mut tokens = lock(&self.tokens);
        tokens.configured = configured;
        let changes = tokens.take_effect();
        self.follow_need(&tokens);
        changes
    }

    /// The first tokens begin a grace period, whatever their source. It ends when its time is over, when no
    /// token is left, or when an operator ends it.
    fn follow_need(&self, tokens: &Tokens) {
        let served = grace_file::read(&self.grace_file);
        let is_over = tokens.grace_of_file == Some(GRACE_IS_OVER);
        let now = match (&tokens.all, served) {
            (None, _) => Served::WithoutTokens,
            (Some(all), _) if all.0.is_empty() || is_over => Served::WithTokens,
            // The token file has its own setting for its tokens.
            (Some(_), Served::WithoutTokens) if tokens.of_file.is_some() => Served::WithTokens,
            (Some(_), Served::WithoutTokens) => {
                Served::Grace(self.clock.now().unix_s() + GRACE_OF_CONFIG_S)
            }
            (Some(_), served) => served,
        };
        if now != served
            && let Err(error) = grace_file::write(&self.grace_file, now)
        {
            let path = self.grace_file.display();
            tracing::warn!("{path}: {error}: the grace period for tokens may be lost at a restart");
        }
        let of_file = tokens.grace_of_file.filter(|_| !is_over);
        let of_config = match now {
            Served::Grace(until_s) => Some(until_s),
            Served::WithTokens | Served::WithoutTokens => None,
        };
        let has_tokens = tokens.all.as_ref().is_some_and(|all| !all.0.is_empty());
        let until_s = of_file.max(of_config).filter(|_| has_tokens);
        lock(&self.grace).last_until(until_s);
    }

    /// Whether the token file has changed since it was last read, or could not be read. A check costs
    /// microseconds.
    pub fn is_file_unread(&self) -> bool {
        self.last_read.is_outdated()
    }

    /// Reads the token file again; sessions of tokens that are gone end with them.
    ///
    /// # Errors
    /// Why the file cannot be used; the last known tokens stay valid.
    pub fn reload(&self) -> Result<Vec<TokenChange>, TokenFileError> {
        let is_unread = |error: &TokenFileError| matches!(error, TokenFileError::File { .. });
        let read = || token_file::read(&self.file);
        let file = self.last_read.note(read, is_unread)?;
        let mut tokens = lock(&self.tokens);
        tokens.grace_of_file = file.as_ref().and_then(|file| file.grace_until);
        tokens.of_file = file.as_ref().map(token_file::token_set);
        let changes = tokens.take_effect();
        self.follow_need(&tokens);
        Ok(changes)
    }

    /// Stores when tokens were last used, if that has changed. Call it now and then.
    ///
    /// # Errors
    /// The file cannot be written; the next call retries.
    pub fn store_uses(&self) -> std::io::Result<()> {
        let last = {
            let mut uses = lock(&self.uses);
            if !std::mem::take(&mut uses.is_new) {
                return Ok(());
            }
            let tokens = self.all_tokens().unwrap_or_default();
            let ids: Vec<String> = tokens.0.iter().map(|known| known.hash.id()).collect();
            uses.last.retain(|id, _| ids.contains(id));
            uses.last.clone()
        };
        let written = token_uses::write(&self.uses_file, &last);
        lock(&self.uses).is_new |= written.is_err();
        written
    }

    fn all_tokens(&self) -> Option<Arc<TokenSet>> {
        lock(&self.tokens).all.clone()
    }

    fn note_use(&self, hash: SecretHash, now: Now) {
        let mut uses = lock(&self.uses);
        let before = uses.last.insert(hash.id(), now.unix_s());
        uses.is_new |= before != Some(now.unix_s());
    }

    pub fn needs_tokens(&self) -> bool {
        lock(&self.tokens).all.is_some()
    }

    /// Registrations that exist when tokens are first needed can be refreshed without one for a while. Returns
    /// until when, and their number, if this begins now; call it after each [`Access::reload`] and
    /// [`Access::configure`].
    pub fn begin_grace(
        &self,
        registered: impl IntoIterator<Item = BackendKey>,
    ) -> Option<(u64, usize)> {
        let now_s = self.clock.now().unix_s();
        lock(&self.grace).begin(now_s, registered)
    }

    /// Whether registrations may be refreshed without a token.
    pub fn has_grace(&self) -> bool {
        let now_s = self.clock.now().unix_s();
        lock(&self.grace).ends_at_s(now_s).is_some()
    }

    /// Whether this registration may.
    pub fn is_in_grace(&self, key: &BackendKey) -> bool {
        let now_s = self.clock.now().unix_s();
        lock(&self.grace).covers(key, now_s)
    }

    /// Decides on a request; on success returns the caller's proof, which may be empty if none is needed.
    pub fn judge(&self, caller: &Caller, need: Need) -> Result<Option<Grant>, Denied> {
        let tokens = self.all_tokens();
        let Some(tokens) = tokens else {
            let local = Grant {
                scope: Scope::Admin,
                proof: Proof::Local,
                label: None,
            };
            return match caller.is_local() {
                true => Ok(Some(local)),
                false => Err(Denied::Protected),
            };
        };
        let grant = match self.prove(&tokens, caller) {
            Err(_) if need == Need::Nothing => return Ok(None),
            proved => proved?,
        };
        if grant.scope.allows(need) {
            Ok(Some(grant))
        } else {
            Err(Denied::LesserToken(need))
        }
    }

    /// Whether an earlier grant is still valid: for answers that stay open, such as event streams.
    pub fn is_still_good(&self, grant: &Grant) -> bool {
        let now = self.clock.now();
        let tokens = self.all_tokens();
        let hash = match grant.proof {
            Proof::Local => return tokens.is_none(),
            Proof::Token(hash) => Some(hash),
            Proof::Session(key) => lock(&self.sessions).looks(key, now.monotonic_ms),
        };
        let Some((tokens, hash)) = tokens.zip(hash) else {
            return false;
        };
        let known = tokens.find(hash);
        known.is_some_and(|known| !known.is_expired(now.unix_s()))
    }

    /// Begins a session of the console.
    ///
    /// # Errors
    /// Why this token starts no session.
    pub fn sign_in(&self, ip: IpAddr, token: &str) -> Result<SignedIn, Denied> {
        let tokens = self.all_tokens();
        let now = self.clock.now();
        let known = self.known(tokens.as_deref(), ip, token, now)?;
        // A token that may only register can read nothing, so a console would be useless.
        if !known.scope.allows(Need::Read) {
            return Err(Denied::LesserToken(Need::Read));
        }
        let id = random_hex().expect("the kernel has random bytes once it is up");
        let key = SessionKey::of(&id);
        lock(&self.sessions).begin(key, known.hash, now.monotonic_ms);
        Ok(SignedIn {
            id,
            max_age_s: MAX_AGE_MS / 1000,
            grant: session_grant(&known, key),
        })
    }

    /// Whether there is a session with this id; checking does not keep it alive.
    pub fn has_session(&self, id: &str) -> bool {
        let now_ms = self.clock.now().monotonic_ms;
        let key = SessionKey::of(id);
        lock(&self.sessions).looks(key, now_ms).is_some()
    }

    /// False if there is no such session.
    pub fn sign_out(&self, key: SessionKey) -> bool {
        lock(&self.sessions).end(key)
    }

    fn prove(&self, tokens: &TokenSet, caller: &Caller) -> Result<Grant, Denied> {
        let now = self.clock.now();
        match caller.shown {
            Shown::Nothing => Err(Denied::NoToken),
            Shown::Bearer(token) => {
                let known = self.known(Some(tokens), caller.ip, token, now)?;
                Ok(Grant {
                    scope: known.scope,
                    proof: Proof::Token(known.hash),
                    label: Some(known.label),
                })
            }
            Shown::Session(id) => {
                let key = SessionKey::of(id);
                let hash = lock(&self.sessions).uses(key, now.monotonic_ms);
                let known = hash.and_then(|hash| tokens.find(hash));
                let known = known.filter(|known| !known.is_expired(now.unix_s()));
                let known = known.ok_or(Denied::SessionOver)?;
                self.note_use(known.hash, now);
                Ok(session_grant(known, key))
            }
        }
    }

    /// The presented token. An address with too many wrong tokens has to wait, unless it presents one that
    /// cannot have been guessed: other clients may share the attacker's address.
    fn known(
        &self,
        tokens: Option<&TokenSet>,
        ip: IpAddr,
        shown: &str,
        now: Now,
    ) -> Result<KnownToken, Denied> {
        let found = tokens.and_then(|tokens| tokens.find(SecretHash::of(shown)));
        let mut failures = lock(&self.failures);
        let wait_s = failures.wait_s(ip, now.monotonic_ms);
        let judged = match (found, wait_s) {
            (Some(known), None | Some(_)) if known.is_generated => {
                match known.is_expired(now.unix_s()) {
                    false => Ok(known.clone()),
                    true => Err(Denied::ExpiredToken),
                }
            }
            (Some(_) | None, Some(retry_after_s)) => Err(Denied::TooManyFailures { retry_after_s }),
            (Some(known), None) => Ok(known.clone()),
            (None, None) => {
                failures.note(ip, now.monotonic_ms);
                Err(Denied::WrongToken)
            }
        };
        if let Ok(known) = &judged {
            self.note_use(known.hash, now);
        }
        judged
    }
}

fn session_grant(known: &KnownToken, key: SessionKey) -> Grant {
    Grant {
        scope: known.scope,
        proof: Proof::Session(key),
        label: Some(format!("a session of {}", known.label)),
    }
}

fn changes(old: Option<&TokenSet>, new: Option<&TokenSet>) -> Vec<TokenChange> {
    let all = |set: Option<&TokenSet>| set.map_or(Vec::new(), |set| set.0.clone());
    let (old, new) = (all(old), all(new));
    let missing_in = |others: &[KnownToken], one: &KnownToken| {
        !others.iter().any(|other| other.hash == one.hash)
    };
    let added = new.iter().filter(|known| missing_in(&old, known));
    let removed = old.iter().filter(|known| missing_in(&new, known));
    let added = added.map(|known| TokenChange::Added(known.label.clone()));
    let removed = removed.map(|known| TokenChange::Removed(known.label.clone()));
    added.chain(removed).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no holder of these locks panics: they only look up and keep")
}

#[cfg(test)]
mod tests;
