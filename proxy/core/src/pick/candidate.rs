//! What tables are built from: the backends that take new sessions, and what their health says.

use contract::BackendAddr;

use super::BackendIndex;

/// A backend that takes new sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub backend: BackendIndex,
    pub addr: BackendAddr,
    pub share: u32,
    /// What counts while it has nothing in flight, where loads are compared: slow start takes
    /// nothing from the first session, or a quiet pool would leave the backend cold.
    pub idle_share: u32,
}

/// What health says of a backend, as a table is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// The part of its share that it gets, up to 1; 0: it is out.
    pub ramp: f64,
    /// Sessions (for TCP) or flows (for UDP) in flight.
    pub load: u64,
}

impl Entry {
    /// Nothing is known against it.
    pub const WELL: Entry = Entry { ramp: 1.0, load: 0 };
}
