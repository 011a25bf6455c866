//! What the files that list backends say, and how it goes together.

use std::collections::BTreeMap;

use contract::{Backend, BackendKey};
use serde_json::Value;

use super::entry::Said;

/// One good reading of such a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// As written; only shown.
    pub updated_at: Option<Value>,
    pub backends: BTreeMap<BackendKey, Said>,
    /// Skipped entries and values, with reasons.
    pub notes: Vec<String>,
    /// Not read from the file, but kept from the published backends until the file can be read.
    pub is_carried: bool,
}

/// The backends of both files.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub statics: &'a BTreeMap<BackendKey, Said>,
    pub discovered: &'a BTreeMap<BackendKey, Said>,
}

impl<'a> Listed<'a> {
    /// Each backend once, in no order.
    pub fn keys(self) -> impl Iterator<Item = &'a BackendKey> {
        let statics = self.statics;
        let alone = |key: &&BackendKey| !statics.contains_key(*key);
        statics.keys().chain(self.discovered.keys().filter(alone))
    }

    pub fn is_static(&self, key: &BackendKey) -> bool {
        self.statics.contains_key(key)
    }

    pub fn is_discovered(&self, key: &BackendKey) -> bool {
        self.discovered.contains_key(key)
    }

    /// The backend as the files describe it, the static one above discovery's; `None` if neither
    /// lists it.
    pub fn backend(&self, key: &BackendKey) -> Option<Backend> {
        let discovered = self.discovered.get(key).map(|said| said.over(None));
        match self.statics.get(key) {
            Some(said) => Some(said.over(discovered.as_ref())),
            None => discovered,
        }
    }
}

impl Listing {
    /// Whether both are the same except for figures.
    pub fn has_same_state(&self, other: &Listing) -> bool {
        self.backends.len() == other.backends.len()
            && self
                .backends
                .values()
                .zip(other.backends.values())
                .all(|(one, two)| one.state() == two.state())
    }
}
