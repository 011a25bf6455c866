//! `k8s_endpoints.json`, written by discovery or its simulator: `{source, updated_at, backends}`.

use std::collections::BTreeMap;

use contract::config::{MAX_BACKENDS, MAX_FILE_BYTES};
use contract::{Backend, BackendAddr, Faults, parse_object};
use serde_json::Value;

use super::entry::{read_backend, take_backends};

/// One good reading of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovery {
    /// As written; only shown.
    pub updated_at: Option<Value>,
    pub backends: BTreeMap<BackendAddr, Backend>,
    /// What was skipped, and why.
    pub notes: Vec<String>,
    /// Not read from the file but carried over from what is published, until it can be read.
    pub is_carried: bool,
}

impl Discovery {
    /// Whether both are the same but for figures.
    pub fn has_same_state(&self, other: &Discovery) -> bool {
        let state = |backend: &Backend| (backend.weight, backend.enabled, backend.is_warming_up);
        let same =
            |(one, two): (&Backend, &Backend)| (one.addr, state(one)) == (two.addr, state(two));
        self.backends.len() == other.backends.len()
            && self
                .backends
                .values()
                .zip(other.backends.values())
                .all(same)
    }
}

/// Reads the file's bytes.
///
/// # Errors
/// The faults of a document that is no such file at all, or of whose entries not one can be read.
/// Other bad entries are no error but notes.
pub fn read(bytes: &[u8]) -> Result<Discovery, Faults> {
    let document = parse_object(bytes, MAX_FILE_BYTES)?;
    let mut notes = Vec::new();
    let mut backends = BTreeMap::new();
    let items = take_backends(&document)?;
    for (index, item) in items.iter().enumerate() {
        let place = format!("/backends/{index}");
        if backends.len() == MAX_BACKENDS {
            notes.push(format!(
                "{place}: more than {MAX_BACKENDS} backends; the rest is skipped"
            ));
            break;
        }
        let Some((backend, _)) = read_backend(item, &place, &mut notes) else {
            continue;
        };
        if backends.contains_key(&backend.addr) {
            notes.push(format!(
                "{place}: {} a second time; entry skipped",
                backend.addr
            ));
            continue;
        }
        backends.insert(backend.addr, backend);
    }
    // A discovery that began to write something else has not removed every backend.
    if backends.is_empty() && !items.is_empty() {
        let mut faults = Faults::default();
        let found = format!(
            "{} entries, none of them readable: {}",
            items.len(),
            notes[0]
        );
        faults.add("/backends", found, "entries with ip and port");
        return Err(faults);
    }
    Ok(Discovery {
        updated_at: document.get("updated_at").cloned(),
        backends,
        notes: super::bounded(notes),
        is_carried: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> (Vec<String>, usize) {
        let discovery = read(text.as_bytes()).expect("a readable document");
        let addresses = discovery.backends.keys().map(BackendAddr::to_string);
        (addresses.collect(), discovery.notes.len())
    }

    #[test]
    fn a_list_without_a_readable_entry_is_refused_and_an_empty_one_is_not() {
        assert!(read(br#"{"backends": [{"ip": "gpu-1", "port": 9001}]}"#).is_err());
        assert!(read(br#"{"backends": []}"#).is_ok());
    }

    #[test]
    fn a_bad_entry_costs_that_entry_and_is_told() {
        let (read, notes) = addresses(
            r#"{"source": "k8s", "updated_at": 7, "backends": [
                {"ip": "10.0.0.1", "port": 1, "weight": 10},
                {"ip": "gpu-node", "port": 1},
                {"ip": "10.0.0.2", "port": 0},
                {"ip": "10.0.0.3", "port": 1, "weight": "heavy"},
                {"ip": "10.0.0.4", "port": 1, "gpu_usage": 7},
                {"ip": "10.0.0.1", "port": 1, "weight": 99},
                7 ]}"#,
        );
        assert_eq!(read, ["10.0.0.1:1", "10.0.0.4:1"]);
        assert_eq!(notes, 6);
    }

    #[test]
    fn a_document_that_is_none_is_an_error_and_an_empty_list_is_not() {
        let cases = ["", "{", "[]", "{}", "null", r#"{"backends": {}}"#, "\u{0}"];
        for bad in cases {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(addresses(r#"{"backends": []}"#), (vec![], 0));
    }

    #[test]
    fn complaints_are_bounded() {
        let entries = vec!["7"; 1000].join(",");
        let good = r#"{"ip": "10.0.0.1", "port": 1}"#;
        let (_, notes) = addresses(&format!("{{\"backends\": [{good},{entries}]}}"));
        assert_eq!(notes, super::super::MAX_NOTES + 1);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
            let _ = read(&bytes);
        }
    }
}
