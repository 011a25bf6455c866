//! Batching: a backend reports that it serves small requests together.

use serde_json::Value;

use crate::fault::Faults;
use crate::object::Object;

/// The most requests of one batch.
pub const MAX_BATCH: u64 = 4096;
/// The longest that a batch may stay open.
pub const MAX_BATCH_WINDOW_MS: u64 = 10_000;

/// A backend serves the requests that arrive within `window_ms` of the first one together, up to `max`
/// of them. Written as `max_batch` and `batch_window_ms`, both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// 1..=[`MAX_BATCH`].
    pub max: u16,
    /// 0..=[`MAX_BATCH_WINDOW_MS`]; 0: no wait.
    pub window_ms: u16,
}

impl Batch {
    /// Reads `max_batch` and `batch_window_ms`; both are optional, but one without the other is a fault.
    pub fn read(object: &mut Object, faults: &mut Faults) -> Option<Batch> {
        const KEYS: [&str; 2] = ["max_batch", "batch_window_ms"];
        let given = KEYS.map(|key| object.take(key).is_some());
        match given {
            [true, false] => {
                object.take_required(KEYS[1], "an integer, beside max_batch", faults);
            }
            [false, true] => {
                object.take_required(KEYS[0], "an integer, beside batch_window_ms", faults);
            }
            [true, true] | [false, false] => {}
        }
        let max = object.take_integer(KEYS[0], 1, MAX_BATCH, faults);
        let window_ms = object.take_integer(KEYS[1], 0, MAX_BATCH_WINDOW_MS, faults);
        Some(Batch {
            max: max? as u16,
            window_ms: window_ms? as u16,
        })
    }

    /// Sets the keys that [`Batch::read`] reads.
    pub fn write(self, entry: &mut Value) {
        entry["max_batch"] = self.max.into();
        entry["batch_window_ms"] = self.window_ms.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is read of an entry, and the places of its faults.
    fn read(entry: Value) -> (Option<Batch>, Vec<String>) {
        let mut faults = Faults::default();
        let map = entry.as_object().expect("the test gives objects");
        let batch = Batch::read(&mut Object::new(map, ""), &mut faults);
        let places = faults.0.into_iter().map(|fault| fault.place);
        (batch, places.collect())
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (max, window_ms) in [(1, 0), (8, 10), (4096, 10_000)] {
            let batch = Batch { max, window_ms };
            let mut entry = json!({});
            batch.write(&mut entry);
            assert_eq!(read(entry), (Some(batch), vec![]));
        }
        assert_eq!(read(json!({})), (None, vec![]));
    }

    #[test]
    fn each_bad_value_and_each_half_is_named_by_its_place() {
        for (entry, place) in [
            (
                json!({ "max_batch": 0, "batch_window_ms": 5 }),
                "/max_batch",
            ),
            (
                json!({ "max_batch": 4097, "batch_window_ms": 5 }),
                "/max_batch",
            ),
            (
                json!({ "max_batch": 8, "batch_window_ms": 10_001 }),
                "/batch_window_ms",
            ),
            (
                json!({ "max_batch": 8, "batch_window_ms": -1 }),
                "/batch_window_ms",
            ),
            (json!({ "max_batch": 8 }), "/batch_window_ms"),
            (json!({ "batch_window_ms": 8 }), "/max_batch"),
        ] {
            assert_eq!(read(entry.clone()), (None, vec![place.into()]), "{entry}");
        }
    }
}
