//! Where operators' words and registrations are kept: the registry, the static list, the settings by API, and the list
//! of edits. The keeper is the only one in this process that changes them.
//!
//! Others may change what is stored too. Therefore a change has three steps: the model is brought up to what is
//! stored ([`Store::read`]), the change is made on a copy, and the copy is stored only over what was read. If others
//! were faster, [`StoreError::is_overtaken`], the change is made again. Files compare versions for this; any other
//! store needs a compare-and-swap (`docs/adr/0026`).

pub mod files;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use contract::BackendKey;
use contract::publish::PublishError;
use serde_json::Value;

use crate::clock::Now;
use crate::edits::Edits;
use crate::model::Model;
use crate::registry::Registry;
use crate::shared::Shared;

/// What is read and stored by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Registry,
    Statics,
    Settings,
}

/// Why something was not stored, or may be lost.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// Where, for people: a path.
    pub place: String,
    pub error: Arc<PublishError>,
}

impl StoreError {
    pub fn at(place: impl ToString, error: impl Into<PublishError>) -> StoreError {
        StoreError {
            place: place.to_string(),
            error: Arc::new(error.into()),
        }
    }

    /// It is stored, though a power failure may lose it.
    pub fn is_stored(&self) -> bool {
        matches!(*self.error, PublishError::NotLasting(_))
    }

    /// Others have stored something since the last reading, which must be read first.
    pub fn is_overtaken(&self) -> bool {
        matches!(*self.error, PublishError::Overtaken)
    }
}

/// Whether it is stored, even if a power failure may lose it.
pub fn is_stored(stored: &Result<(), StoreError>) -> bool {
    stored.as_ref().err().is_none_or(StoreError::is_stored)
}

/// Whether others were faster.
pub fn is_overtaken(stored: &Result<(), StoreError>) -> bool {
    stored.as_ref().is_err_and(StoreError::is_overtaken)
}

/// One place where all of this is kept.
///
/// Reading takes over what others have stored: it changes the model, counts it as an edit of people, and says so in the
/// log. It waits for no peer: a store that hears of changes over a connection takes over what it has heard. Storing
/// waits until the change is safe. A store that numbers its changes sets `edits` of the staged model.
pub trait Store: Send + 'static {
    /// The list of edits that is stored. Asked for once, at the start.
    fn begin_edits(&mut self) -> Edits;

    /// Takes over what others have stored in any part, and stores what is missing there.
    fn read_all(&mut self, shared: &Shared) -> impl Future<Output = ()> + Send;

    /// Takes over what others have stored in one part, before a change of it.
    fn read(&mut self, part: Part, shared: &Shared) -> impl Future<Output = ()> + Send;

    /// Whether a batch of registrations and overrides is tried on a copy of the whole model, and not only of the entries
    /// that it touches.
    fn takes_whole(&self, registry: &Registry) -> bool;

    /// Stores the entries that a batch has touched.
    fn store_registry(
        &mut self,
        staged: &mut Model,
        touched: &BTreeSet<&BackendKey>,
        now: Now,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores all entries, heartbeats included.
    fn store_whole_registry(
        &mut self,
        model: Model,
        now: Now,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether heartbeats are not stored yet, or entries were removed from the store.
    fn is_behind(&self, registry: &Registry) -> bool;

    /// Whether batches are stored in a form that [`Store::store_whole_registry`] should soon replace.
    fn is_unmerged(&self) -> bool;

    /// Why the static list cannot be changed now: what cannot be read must not be overwritten.
    fn unread_statics(&self) -> Option<&str>;

    /// Stores the static list, and the model's `statics` are as stored.
    fn store_statics(
        &mut self,
        staged: &mut Model,
        now: Now,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the settings by API, and the calls whose outcome is unknown.
    fn store_settings(
        &mut self,
        staged: &mut Model,
        now: Now,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores new edits, the last of `all`. A failure undoes no edit: it is logged once, and the next call stores all
    /// that are missing. `is_changed`: the last stored one has changed.
    fn store_edits(
        &mut self,
        new: Vec<Value>,
        is_changed: bool,
        all: impl FnOnce() -> Vec<Value> + Send,
    ) -> impl Future<Output = ()> + Send;

    /// That edits cannot be stored, in words.
    fn edits_fault(&self) -> Option<String>;
}
