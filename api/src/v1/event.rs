//! `GET events`: the whole, and then what changed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Backend, Status};

/// The first event of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot<S = Status, R = Backend> {
    /// The tag of the current edits, for If-Match.
    pub etag: String,
    /// As `GET status`.
    pub status: S,
    /// Every backend.
    pub backends: Vec<R>,
}

/// What has changed since the event before. With `patch=true` the status and each backend are patches; without it
/// the status is whole, and each backend has its changed members and its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta<S = Map<String, Value>, R = Map<String, Value>> {
    /// Time of this state, in unix milliseconds.
    pub at_ms: u64,
    /// The tag of the current edits, for If-Match.
    pub etag: String,
    /// The status, or its patch.
    pub status: S,
    /// The backends that changed.
    pub backends: Vec<R>,
    /// The ids of those that are no longer listed.
    pub gone: Vec<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The whole.
    Snapshot(Box<Snapshot>),
    /// What changed.
    Delta(Delta),
}
