//! What operators' static list and the sources say of backends, and how it goes together. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Backend, BackendKey, Name};
use serde_json::Value;

use super::entry::Said;

/// One good reading of such a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// As written; only shown.
    pub updated_at: Option<Value>,
    pub backends: BTreeMap<BackendKey, Said>,
    /// Skipped entries and values, with reasons.
    pub notes: Vec<String>,
    /// Not read from its source, but kept from the published backends until the source can be read.
    pub is_carried: bool,
}

/// What one source last said. Several sources are kept in the order of their precedence, the strongest first.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Its name in answers and files.
    pub name: Name,
    pub listing: Arc<Listing>,
    /// What is wrong with it, in words.
    pub faults: Vec<String>,
}

impl Discovered {
    /// A source that has said nothing yet.
    pub fn nothing_by(name: Name) -> Discovered {
        Discovered {
            name,
            listing: Arc::default(),
            faults: Vec::new(),
        }
    }

    /// One source that lists these backends.
    #[cfg(test)]
    pub fn of(name: &str, backends: BTreeMap<BackendKey, Said>) -> Discovered {
        Discovered {
            listing: Arc::new(Listing {
                backends,
                ..Listing::default()
            }),
            ..Discovered::nothing_by(Name::new(name).expect("a name"))
        }
    }
}

/// All backends that are listed: by operators, and by the sources.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub statics: &'a BTreeMap<BackendKey, Said>,
    /// The strongest first.
    pub discovered: &'a [Discovered],
}

impl<'a> Listed<'a> {
    /// Each backend once, in no order.
    pub fn keys(self) -> impl Iterator<Item = &'a BackendKey> {
        let sources = self.discovered.iter().enumerate();
        let discovered = sources.flat_map(move |(place, source)| {
            let stronger = Listed {
                discovered: &self.discovered[..place],
                ..self
            };
            let keys = source.listing.backends.keys();
            keys.filter(move |key| !stronger.lists(key))
        });
        self.statics.keys().chain(discovered)
    }

    pub fn lists(&self, key: &BackendKey) -> bool {
        self.is_static(key) || self.discovered(key).is_some()
    }

    pub fn is_static(&self, key: &BackendKey) -> bool {
        self.statics.contains_key(key)
    }

    /// What the strongest source that lists it says of a backend.
    pub fn discovered(&self, key: &BackendKey) -> Option<&'a Said> {
        let mut said = self.discovered.iter();
        said.find_map(|source| source.listing.backends.get(key))
    }

    /// The sources that list a backend, the strongest first.
    pub fn discovered_by(&self, key: &BackendKey) -> Vec<Name> {
        let sources = self.discovered.iter();
        let listing = sources.filter(|source| source.listing.backends.contains_key(key));
        listing.map(|source| source.name.clone()).collect()
    }

    /// The backend as operators and sources describe it together; `None` if none lists it.
    pub fn backend(&self, key: &BackendKey) -> Option<Backend> {
        let sources = self.discovered.iter().rev();
        let discovered = sources.filter_map(|source| source.listing.backends.get(key));
        let weakest_first = discovered.chain(self.statics.get(key));
        weakest_first.fold(None, |below, said| Some(said.over(below.as_ref())))
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
