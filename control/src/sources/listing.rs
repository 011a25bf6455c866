//! The files that list backends: `k8s_endpoints.json`, written by discovery or its simulator, and
//! `static_backends.json`, written by operators and by the API. Both have one format,
//! `{updated_at?, backends: [{ip, port, pool?, weight?, enabled?, is_warming_up?, ...}]}`; its schema
//! is `docs/schemas/backends.schema.json`.

mod edit;

use std::collections::BTreeMap;

use contract::Faults;
use contract::config::{MAX_BACKENDS, MAX_FILE_BYTES};
use contract::raw::{RawObject, read_raw};
use serde_json::value::RawValue;

use super::entry::{Said, read_item_value, read_said_and_unknown, take_raw_backends};
use super::listed::Listing;
use crate::words::counted;

pub use edit::edited;

/// Reads the file's bytes.
///
/// # Errors
/// The faults of a document that is not such a file, or has no readable entry. Other bad entries are not an error
/// but notes.
pub fn read(bytes: &[u8]) -> Result<Listing, Faults> {
    let Reading {
        mut listing,
        entries,
        unknown: _,
    } = read_with_all_notes(bytes)?;
    // Discovery that starts to write another format has not removed every backend.
    if listing.backends.is_empty() && entries > 0 {
        let mut faults = Faults::default();
        let found = format!(
            "{}, none of them readable: {}",
            counted(entries, "entry", "entries"),
            listing.notes[0]
        );
        faults.add("/backends", found, "entries with ip and port");
        return Err(faults);
    }
    listing.notes = super::bounded(listing.notes);
    Ok(listing)
}

/// What a file says, whether or not any entry is readable.
struct Reading {
    listing: Listing,
    unknown: Faults,
    /// How many there are.
    entries: usize,
}

/// All complaints about the file's bytes, for its author: faults and notes of each entry, and each unknown
/// key.
pub fn complaints(bytes: &[u8]) -> Vec<String> {
    match read_with_all_notes(bytes) {
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
        Ok(Reading {
            listing, unknown, ..
        }) => {
            let unknown = unknown.0.iter().map(ToString::to_string);
            listing.notes.into_iter().chain(unknown).collect()
        }
    }
}

/// Some editors begin a text with a byte order mark, which is skipped.
fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Reads one entry as written; its address is missing if it is skipped.
fn read_item(raw: &RawValue, place: &str, notes: &mut Vec<String>) -> Option<(Said, Faults)> {
    let item = read_item_value(raw, place, notes);
    let (said, _, unknown) = read_said_and_unknown(&item, place, notes)?;
    Some((said, unknown))
}

fn read_with_all_notes(bytes: &[u8]) -> Result<Reading, Faults> {
    let document = RawObject::parse(text_of(bytes), MAX_FILE_BYTES)?;
    let mut notes = Vec::new();
    let mut unknown = Faults::default();
    let mut backends = BTreeMap::new();
    let items = take_raw_backends(&document)?;
    for (index, item) in items.iter().enumerate() {
        let place = format!("/backends/{index}");
        if backends.len() == MAX_BACKENDS {
            notes.push(format!(
                "{place}: more than {MAX_BACKENDS} backends; the others are skipped"
            ));
            break;
        }
        let Some((said, unread)) = read_item(item, &place, &mut notes) else {
            continue;
        };
        unknown.0.extend(unread.0);
        if backends.contains_key(&said.key) {
            notes.push(format!(
                "{place}: {} a second time; entry skipped",
                said.key
            ));
            continue;
        }
        backends.insert(said.key.clone(), said);
    }
    let updated_at = document.get("updated_at");
    let listing = Listing {
        updated_at: updated_at.map(|raw| read_raw(raw, "", &mut Faults::default())),
        backends,
        notes,
        is_carried: false,
    };
    Ok(Reading {
        listing,
        unknown,
        entries: items.len(),
    })
}

#[cfg(test)]
mod tests;
