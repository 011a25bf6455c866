//! Sessions of the console, each with its token. In memory only, so that a restart
//! ends them; bounded in number, in idle time and in age. Pure: time and ids come as arguments.

use std::collections::HashMap;

use super::SecretHash;

/// Maximum number of sessions; a further one ends the one that was silent for longest.
const MAX_SESSIONS: usize = 1024;
/// Sessions of one token, so that its holder cannot end all other sessions by signing in.
const MAX_OF_ONE: usize = 64;
/// A session without requests ends after this time.
const MAX_IDLE_MS: u64 = 8 * 3_600_000;
/// Every session ends after this time.
pub const MAX_AGE_MS: u64 = 24 * 3_600_000;

/// A session's id as its SHA-256: memory does not reveal a cookie, and the time of a look-up does not depend on
/// the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    pub fn of(id: &str) -> SessionKey {
        use sha2::{Digest as _, Sha256};
        SessionKey(Sha256::digest(id).into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Session {
    token: SecretHash,
    began_ms: u64,
    used_ms: u64,
}

impl Session {
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.began_ms + MAX_AGE_MS || now_ms >= self.used_ms + MAX_IDLE_MS
    }
}

#[derive(Debug, Default)]
pub struct Sessions(HashMap<SessionKey, Session>);

impl Sessions {
    pub fn begin(&mut self, key: SessionKey, token: SecretHash, now_ms: u64) {
        self.0.retain(|_, session| !session.is_over(now_ms));
        self.make_room(MAX_OF_ONE, |session| session.token == token);
        self.make_room(MAX_SESSIONS, |_| true);
        let session = Session {
            token,
            began_ms: now_ms,
            used_ms: now_ms,
        };
        self.0.insert(key, session);
    }

    /// Among the sessions selected by `counts`, ends the one that was silent for longest if there are `most`.
    fn make_room(&mut self, most: usize, counts: impl Fn(&Session) -> bool) {
        let counted = || self.0.iter().filter(|(_, session)| counts(session));
        if counted().count() < most {
            return;
        }
        let silent = counted().min_by_key(|(_, session)| session.used_ms);
        let silent = silent.map(|(key, _)| *key);
        silent.map(|key| self.0.remove(&key));
    }

    /// The token of a session; this call keeps the session alive.
    pub fn uses(&mut self, key: SessionKey, now_ms: u64) -> Option<SecretHash> {
        let session = self.0.get_mut(&key)?;
        if session.is_over(now_ms) {
            self.0.remove(&key);
            return None;
        }
        session.used_ms = now_ms;
        Some(session.token)
    }

    /// The same for an open event stream: it shows that the page is open, not that it is used.
    pub fn looks(&self, key: SessionKey, now_ms: u64) -> Option<SecretHash> {
        let session = self.0.get(&key)?;
        (!session.is_over(now_ms)).then_some(session.token)
    }

    /// False if there is no such session.
    pub fn end(&mut self, key: SessionKey) -> bool {
        self.0.remove(&key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> SessionKey {
        SessionKey::of(&number.to_string())
    }

    #[test]
    fn a_session_ends_by_silence_and_by_age() {
        let token = SecretHash::of("a token");
        let mut sessions = Sessions::default();
        sessions.begin(key(1), token, 0);
        assert_eq!(sessions.uses(key(1), MAX_IDLE_MS - 1), Some(token));
        let silent = 2 * MAX_IDLE_MS - 1;
        assert_eq!(sessions.looks(key(1), silent), None);
        assert_eq!(sessions.uses(key(1), silent), None);
        assert_eq!(sessions.uses(key(1), 0), None, "it does not come back");

        sessions.begin(key(2), token, 0);
        let busy = (0..MAX_AGE_MS).step_by(MAX_IDLE_MS as usize / 2);
        for now_ms in busy {
            assert!(sessions.uses(key(2), now_ms).is_some(), "{now_ms}");
        }
        assert_eq!(sessions.uses(key(2), MAX_AGE_MS), None);
        assert_eq!(sessions.uses(key(3), 0), None, "never begun");
    }

    #[test]
    fn one_too_many_ends_the_most_silent_one() {
        let token = |number: usize| SecretHash::of(&number.to_string());
        let mut sessions = Sessions::default();
        for number in 0..MAX_SESSIONS {
            sessions.begin(key(number), token(number), number as u64);
        }
        assert!(sessions.uses(key(0), 5_000).is_some());
        sessions.begin(key(MAX_SESSIONS), token(MAX_SESSIONS), 5_000);
        assert_eq!(sessions.0.len(), MAX_SESSIONS);
        assert_eq!(sessions.looks(key(1), 5_000), None);
        assert!(sessions.looks(key(0), 5_000).is_some());
    }
    #[test]
    fn who_signs_in_again_and_again_ends_no_sessions_but_those_of_the_same_token() {
        let mut sessions = Sessions::default();
        sessions.begin(key(0), SecretHash::of("an operator's"), 0);
        for number in 1..=MAX_SESSIONS {
            sessions.begin(key(number), SecretHash::of("a reader's"), number as u64);
        }
        assert!(sessions.looks(key(0), 5_000).is_some());
        assert_eq!(sessions.0.len(), 1 + MAX_OF_ONE);
        assert!(sessions.looks(key(MAX_SESSIONS), 5_000).is_some());
    }
}
