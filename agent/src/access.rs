//! Credentials for control: token, owner's secret and authorities, from files that are read again.
//!
//! One for all engines of a node, so that each file is checked once and each fault is reported once.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use control_client::arguments as words;
use control_client::{Access, Authorities};

use crate::watched::{Look, MAX_FILE_BYTES, MAX_SECRET_BYTES, Watched, secret};

/// Where the parts of an [`Access`] come from.
#[derive(Debug, Clone, Default)]
pub struct AccessFrom {
    /// From the command line or the environment; it takes precedence over the file.
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub owner_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

pub struct Entrance(Mutex<State>);

struct State {
    /// Grows with each change.
    version: u64,
    token: Option<String>,
    token_file: Option<Watched<String>>,
    owner_file: Option<Watched<String>>,
    ca_file: Option<Watched<Authorities>>,
}

impl Entrance {
    /// # Errors
    /// What is wrong with a file, in words that do not tell a secret.
    pub fn open(from: AccessFrom) -> Result<Entrance, String> {
        let token_file = from.token_file.filter(|_| from.token.is_none());
        let token = |bytes: &[u8]| secret(bytes, words::token);
        let owner = |bytes: &[u8]| secret(bytes, words::owner);
        let token_file = token_file.map(|path| Watched::open(&path, MAX_SECRET_BYTES, token));
        let owner_file = from.owner_file;
        let owner_file = owner_file.map(|path| Watched::open(&path, MAX_SECRET_BYTES, owner));
        let ca_file = from.ca_file;
        let ca_file =
            ca_file.map(|path| Watched::open(&path, MAX_FILE_BYTES, Authorities::from_pem));
        Ok(Entrance(Mutex::new(State {
            version: 0,
            token: from.token,
            token_file: token_file.transpose()?,
            owner_file: owner_file.transpose()?,
            ca_file: ca_file.transpose()?,
        })))
    }

    /// The current credentials, and their version.
    pub fn access(&self) -> (u64, Access) {
        let state = self.lock();
        let token = state.token_file.as_ref().map(|file| file.get().clone());
        let access = Access {
            token: state.token.clone().or(token),
            owner: state.owner_file.as_ref().map(|file| file.get().clone()),
            authorities: state.ca_file.as_ref().map(|file| file.get().clone()),
        };
        (state.version, access)
    }

    /// Reads the files that have changed; after a refusal, all of them. Returns the version.
    pub fn look(&self, is_refused: bool) -> u64 {
        let mut state = self.lock();
        let State {
            version,
            token_file,
            owner_file,
            ca_file,
            ..
        } = &mut *state;
        let looks = [
            token_file.as_mut().map(|file| file.look_at(is_refused)),
            owner_file.as_mut().map(|file| file.look_at(is_refused)),
            ca_file.as_mut().map(|file| file.look_at(is_refused)),
        ];
        for look in looks.into_iter().flatten() {
            match look {
                Look::Same => {}
                Look::Changed => *version += 1,
                Look::Bad(why) => tracing::warn!("{why}; using the last good content"),
            }
        }
        *version
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics that holds the lock")
    }
}
