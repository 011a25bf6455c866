//! What a configuration asks for with each listener.

use std::collections::HashMap;

use contract::{Checked, Name};
use proxy_core::plan::{Endpoint, endpoints_of};

/// What the configuration asks for with one listener.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: Name,
    /// JSON pointer of the listener in the file.
    pub place: String,
    pub endpoints: Vec<Endpoint>,
}

impl Wanted {
    /// All that a file asks for.
    pub fn of(checked: &Checked) -> Vec<Wanted> {
        let listeners = checked.config.listeners.iter();
        let wanted = listeners.map(|listener| Wanted {
            name: listener.name.clone(),
            place: checked.place_of(&listener.name).to_owned(),
            endpoints: endpoints_of(listener).collect(),
        });
        wanted.collect()
    }
}

/// For which listener each endpoint is asked for.
pub fn names(wanted: &[Wanted]) -> HashMap<Endpoint, Name> {
    let each = wanted.iter().flat_map(|listener| {
        let endpoints = listener.endpoints.iter();
        endpoints.map(|endpoint| (*endpoint, listener.name.clone()))
    });
    each.collect()
}
