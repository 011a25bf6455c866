//! The files that backends come from: discovery's, the static list, and the registry's own.
//!
//! All are read tolerantly: one bad entry costs that entry and is told, never the good ones.

pub mod entry;
pub mod listing;
pub mod runtime;

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
