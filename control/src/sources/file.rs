//! A file that lists backends: its last known state, and what is wrong with it.

use std::path::{Path, PathBuf};

use contract::config::MAX_FILE_BYTES;
use contract::digest;

use super::listed::Listing;
use super::listing;
use crate::bounded_read::{Found, find, find_apart};
use crate::file_version::FileVersion;

#[derive(Debug)]
pub struct ListingFile {
    path: PathBuf,
    /// Its name and the one who writes it, for messages.
    name: &'static str,
    speaker: &'static str,
    digest: Option<String>,
    /// Its version when it was last read.
    version: Option<FileVersion>,
    /// Why it could not be read the last time.
    unread: Option<String>,
    notes: Vec<String>,
}

impl ListingFile {
    pub fn at(path: &Path, name: &'static str, speaker: &'static str) -> ListingFile {
        ListingFile {
            path: path.to_owned(),
            name,
            speaker,
            digest: None,
            version: None,
            unread: None,
            notes: Vec::new(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version when it was last read.
    pub fn version(&self) -> Option<FileVersion> {
        self.version
    }

    /// What is wrong with it, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub fn set_notes(&mut self, notes: Vec<String>) {
        self.notes = notes;
    }

    /// Why it could not be read the last time.
    pub fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }

    /// The present content, outside the runtime's thread.
    pub async fn find(&mut self) -> Found {
        let found;
        (found, self.version) = find_apart(self.path.clone(), MAX_FILE_BYTES).await;
        found
    }

    /// The present content, for a start.
    pub fn find_now(&self) -> Found {
        find(&self.path, MAX_FILE_BYTES)
    }

    /// Reads what was found. `None`: the list that is held still counts, since the content is the same, or because
    /// of a fault, which is noted.
    pub fn take(&mut self, found: Found, held: &Listing) -> Option<Listing> {
        let read = match found {
            Ok(Some(bytes)) => {
                let digest = Some(digest(&bytes));
                if digest == self.digest {
                    return None;
                }
                let read = listing::read(&bytes).map_err(|faults| faults.to_string());
                if read.is_ok() {
                    self.digest = digest;
                }
                read
            }
            // Without such a file there is nothing to warn of.
            Ok(None) if held.backends.is_empty() => {
                self.forget();
                self.notes.clear();
                return None;
            }
            Ok(None) => Err("the file does not exist".to_owned()),
            Err(why) => Err(why),
        };
        let name = self.name;
        match read {
            Ok(read) => {
                self.name_notes(&read.notes);
                self.unread = None;
                Some(read)
            }
            Err(why) => {
                self.digest = None;
                let note = format!(
                    "{name}: {why}; keeping the last valid backends of {}",
                    self.speaker
                );
                self.notes = vec![note];
                self.unread = Some(format!("{name}: {why}"));
                None
            }
        }
    }

    /// Whether these bytes are what was last read.
    pub fn is_last_read(&self, bytes: Option<&[u8]>) -> bool {
        bytes.map(digest) == self.digest
    }

    /// The content with this digest was written, and has these notes.
    pub fn note_written(&mut self, digest: String, notes: &[String]) {
        self.digest = Some(digest);
        self.name_notes(notes);
    }

    /// Whatever was read of it counts for nothing.
    pub fn forget(&mut self) {
        self.digest = None;
        self.unread = None;
    }

    fn name_notes(&mut self, notes: &[String]) {
        let named = |note: &String| format!("{}: {note}", self.name);
        self.notes = notes.iter().map(named).collect();
    }

    /// Notes that published backends stay until it can be read.
    pub fn note_carried(&mut self, listing: &Listing) {
        let kept = listing.backends.len();
        if listing.is_carried && kept > 0 {
            let name = self.name;
            self.notes = vec![format!(
                "{name} cannot be read; keeping {kept} published backends until it can"
            )];
        }
    }
}
