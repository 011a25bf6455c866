//! The files that backends come from: discovery's, the static list, and the registry's own.
//!
//! All are read tolerantly: a bad entry is reported and does not affect the good ones.

pub mod entry;
pub mod journal;
pub mod listed;
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
