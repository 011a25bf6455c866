//! What is known of each proxy that serves what operators say.
//!
//! Control publishes to one of them, that of its own node, and looks at it twice a second. A proxy of another node
//! follows by that node's control, which would say here what it knows (`docs/adr/0026`); today there is none.

use api::v1::OfProxy;
use contract::Name;

use crate::verdict::Level;

/// The name of this node's proxy.
const LOCAL: &str = "local";

/// What is known of one proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The generation that its control published last; each control counts its own.
    pub published: Option<u64>,
    /// The generation that it runs; `None` if it does not answer.
    pub generation: Option<u64>,
    /// Whether it runs what is published; `None` if unknown.
    pub applied: Option<bool>,
    /// Whether traffic flows there: the worst that its control has found, and the code of that.
    pub level: Level,
    pub code: &'static str,
}

/// All proxies by name, this node's first.
#[derive(Debug, Default)]
pub struct Proxies(Vec<(Name, Known)>);

impl Proxies {
    /// What the last look at this node's proxy found.
    pub fn note_local(&mut self, known: Known) {
        let name = Name::new(LOCAL).expect("it is a name");
        self.0 = vec![(name, known)];
    }

    /// As in answers; empty until the first look.
    pub fn list(&self) -> Vec<OfProxy> {
        let proxies = self.0.iter().map(|(name, known)| OfProxy {
            name: name.to_string(),
            is_local: name.as_str() == LOCAL,
            published_generation: known.published,
            generation: known.generation,
            applied: known.applied,
            level: known.level.into(),
            code: known.code.to_owned(),
        });
        proxies.collect()
    }
}
