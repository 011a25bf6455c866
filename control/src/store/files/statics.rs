//! `static_backends.json`, the operators' static list: reading it and editing it.

use std::path::Path;
use std::sync::Arc;

use contract::config::MAX_FILE_BYTES;
use contract::digest;
use contract::publish::PublishError;

use crate::bounded_read::find_apart;
use crate::clock::Now;
use crate::file_version::warn_once;
use crate::model::Model;
use crate::shared::Shared;
use crate::sources::file::ListingFile;
use crate::sources::listed::Listing;
use crate::sources::listing;
use crate::store::{StoreError, is_stored};

#[derive(Debug)]
pub struct StaticsFile {
    file: ListingFile,
}

impl StaticsFile {
    pub fn at(path: &Path) -> StaticsFile {
        StaticsFile {
            file: ListingFile::at(path, "static_backends.json", "the static list"),
        }
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What is wrong with it, in words.
    pub fn notes(&self) -> &[String] {
        self.file.notes()
    }

    /// Why it cannot be edited: what cannot be read must not be overwritten.
    pub fn unread(&self) -> Option<&str> {
        self.file.unread()
    }

    /// Reads it at the start. False if it could not be read.
    pub fn begin(&mut self, model: &mut Model) -> bool {
        let found = self.file.find_now();
        // Without listed backends the file may be missing.
        let is_missing = found == Ok(None);
        let new = self.file.take(found, &model.statics);
        let is_read = is_missing || new.is_some();
        model.statics = new.map(Arc::new).unwrap_or_default();
        is_read
    }

    /// Notes that published backends are kept in its place.
    pub fn note_carried(&mut self, listing: &Listing) {
        self.file.note_carried(listing);
    }

    /// Takes over what others have written into the static list, and has it published.
    pub async fn read(&mut self, shared: &Shared) {
        let found = self.file.find().await;
        let held = shared.model().statics.clone();
        if found == Ok(None) && !held.backends.is_empty() {
            return self.write_missing(shared).await;
        }
        let warned = self.file.notes().to_vec();
        let new = self.file.take(found, &held).map(Arc::new);
        let mut model = shared.model();
        if let Some(new) = &new {
            model.statics = new.clone();
            model.revision += 1;
        }
        drop(model);
        if let Some(new) = new {
            shared.tell_of_list(self.file.path().display(), &held, &new);
        }
        warn_once(&warned, self.file.notes());
    }

    /// The static list was removed, but its content is known: it is written again, as the registry is.
    async fn write_missing(&mut self, shared: &Shared) {
        let (mut listing, now) = (shared.model().statics.clone(), shared.clock.now());
        let warned = self.file.notes().to_vec();
        self.file.forget();
        match self.write(&mut listing, now).await {
            Ok(()) => {
                tracing::warn!("static_backends.json was removed; restored");
                self.file.set_notes(Vec::new());
            }
            Err(StoreError { place, error }) => {
                let note = format!("{place} cannot be written: {error}; retrying");
                self.file.set_notes(vec![note]);
            }
        };
        warn_once(&warned, self.file.notes());
    }

    /// Writes `static_backends.json`: the present file with the backends of `listing`.
    pub async fn write(&mut self, listing: &mut Arc<Listing>, now: Now) -> Result<(), StoreError> {
        let path = self.file.path().to_owned();
        let failed = |error: PublishError| StoreError::at(path.display(), error);
        let unread = |why: String| failed(std::io::Error::other(why).into());
        let (found, _) = find_apart(path.clone(), MAX_FILE_BYTES).await;
        let before = found.map_err(unread)?;
        // Only over what `listing` was made of.
        if !self.file.is_last_read(before.as_deref()) {
            return Err(failed(PublishError::Overtaken));
        }
        let edited = listing::edited(before.as_deref(), &listing.backends, now.unix_s());
        let bytes = edited.map_err(|why| unread(why.to_string()))?;
        let new_digest = digest(&bytes);
        let read = listing::read(&bytes);
        let written = super::write(path.clone(), bytes, self.file.version()).await;
        if is_stored(&written) {
            if let Ok(read) = read {
                *listing = Arc::new(read);
            }
            // Earlier faults may be fixed, or be at another place.
            self.file.note_written(new_digest, &listing.notes);
        }
        written
    }
}
