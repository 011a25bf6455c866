//! Where backends come from, besides people and registrations, and the formats of the files that name backends:
//! discovery's, the static list, and the registry's own.
//!
//! All files are read tolerantly: a bad entry is reported and does not affect the good ones.

pub mod entry;
pub mod file;
pub mod journal;
pub mod listed;
pub mod listing;
pub mod runtime;

use std::path::Path;

use contract::Name;

use file::ListingFile;
use listed::Listing;

/// A source of backends. Each has a name, and its own list and faults; the order of the model's list of sources is
/// their precedence.
///
/// The keeper reads all sources at the start, when a source rings, and every `auto_sync_interval_sec`. A reading waits for
/// no peer: a source that hears of changes over a connection answers with what it last heard, and rings when it
/// hears more.
#[derive(Debug)]
pub enum Source {
    /// `k8s_endpoints.json`.
    File { name: Name, file: ListingFile },
}

impl Source {
    /// The file of discovery.
    pub fn discovery_file(path: &Path) -> Source {
        Source::File {
            name: Name::new("k8s").expect("it is a name"),
            file: ListingFile::at(path, "k8s_endpoints.json", "discovery"),
        }
    }

    /// Its name in answers and files. It says which published backends are its own, so it stays the same over restarts.
    pub fn name(&self) -> &Name {
        match self {
            Source::File { name, .. } => name,
        }
    }

    /// Where it is, for the log.
    pub fn place(&self) -> String {
        match self {
            Source::File { file, .. } => file.path().display().to_string(),
        }
    }

    /// The file whose changes ring for it, if any.
    pub fn watched(&self) -> Option<&Path> {
        match self {
            Source::File { file, .. } => Some(file.path()),
        }
    }

    /// What is wrong with it, in words, as of the last reading.
    pub fn faults(&self) -> &[String] {
        match self {
            Source::File { file, .. } => file.notes(),
        }
    }

    /// Its list at the start of control. `None`: it is not known yet, so the backends that were published from it
    /// stay.
    pub fn begin(&mut self) -> Option<Listing> {
        match self {
            Source::File { file, .. } => file.take(file.find_now(), &Listing::default()),
        }
    }

    /// Notes that published backends are kept in the place of its own list.
    pub fn note_carried(&mut self, listing: &Listing) {
        match self {
            Source::File { file, .. } => file.note_carried(listing),
        }
    }

    /// Its present list. `None`: `held`, its last one, still counts.
    pub async fn read(&mut self, held: &Listing) -> Option<Listing> {
        match self {
            Source::File { file, .. } => {
                let found = file.find().await;
                file.take(found, held)
            }
        }
    }
}

/// How many complaints about one file are kept; the rest are counted.
const MAX_NOTES: usize = 20;

/// Cuts a list of complaints to what a person reads.
fn bounded(mut notes: Vec<String>) -> Vec<String> {
    let more = notes.len().saturating_sub(MAX_NOTES);
    notes.truncate(MAX_NOTES);
    if more > 0 {
        notes.push(format!("and {more} more"));
    }
    notes
}

/// Ends the text of a file with its `backends`, one a line.
pub fn push_backends(text: &mut String, backends: impl Iterator<Item = impl std::fmt::Display>) {
    text.push_str("  \"backends\": [");
    push_items(text, backends);
    text.push_str("\n}\n");
}

/// The items of an array and its end, one a line.
pub fn push_items(text: &mut String, items: impl Iterator<Item = impl std::fmt::Display>) {
    let mut is_empty = true;
    for item in items {
        text.push_str(if is_empty { "\n    " } else { ",\n    " });
        text.push_str(&item.to_string());
        is_empty = false;
    }
    text.push_str(if is_empty { "]" } else { "\n  ]" });
}
