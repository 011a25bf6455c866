//! The note of an operator on an edit.

use contract::{Faults, Object};
use serde_json::Value;

/// The longest note, in characters.
const MAX_NOTE: usize = 200;

/// Takes `note`, the operator's reason for the change.
pub fn take_note(object: &mut Object, faults: &mut Faults) -> Option<String> {
    match object.take("note") {
        None | Some(Value::Null) => None,
        Some(Value::String(note)) if note.chars().count() <= MAX_NOTE => {
            let note = note.trim();
            (!note.is_empty()).then(|| note.to_owned())
        }
        Some(other) => {
            let found = match other {
                Value::String(note) => format!("a text of {} characters", note.chars().count()),
                other => other.to_string(),
            };
            faults.add(
                "/note",
                found,
                format!("a text of at most {MAX_NOTE} characters"),
            );
            None
        }
    }
}
