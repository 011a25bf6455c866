//! The files that list backends: `k8s_endpoints.json`, written by discovery or its simulator, and
//! `static_backends.json`, written by operators and by the API. Both have one format,
//! `{updated_at?, backends: [{ip, port, weight?, enabled?, is_warming_up?, ...}]}`; a schema of it
//! stands in `docs/schemas/backends.schema.json`.

use std::collections::BTreeMap;

use contract::config::{MAX_BACKENDS, MAX_FILE_BYTES};
use contract::{Backend, BackendAddr, Faults, parse_object};
use serde_json::{Map, Value, json};

use super::entry::{Said, read_said_and_unknown, take_backends};

/// One good reading of such a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// As written; only shown.
    pub updated_at: Option<Value>,
    pub backends: BTreeMap<BackendAddr, Said>,
    /// What was skipped, and why.
    pub notes: Vec<String>,
    /// Not read from the file but carried over from what is published, until it can be read.
    pub is_carried: bool,
}

/// The backends of both files.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub statics: &'a BTreeMap<BackendAddr, Said>,
    pub discovered: &'a BTreeMap<BackendAddr, Said>,
}

impl Listed<'_> {
    pub fn is_static(&self, addr: BackendAddr) -> bool {
        self.statics.contains_key(&addr)
    }

    pub fn is_discovered(&self, addr: BackendAddr) -> bool {
        self.discovered.contains_key(&addr)
    }

    /// Each address once, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = BackendAddr> {
        let alone = |addr: &&BackendAddr| !self.statics.contains_key(*addr);
        let discovered = self.discovered.keys().filter(alone);
        let mut all: Vec<BackendAddr> = self.statics.keys().chain(discovered).copied().collect();
        all.sort();
        all.into_iter()
    }

    /// The backend as the files describe it, the static one above discovery's; `None` where neither
    /// lists it.
    pub fn backend(&self, addr: BackendAddr) -> Option<Backend> {
        let discovered = self.discovered.get(&addr).map(|said| said.over(None));
        match self.statics.get(&addr) {
            Some(said) => Some(said.over(discovered.as_ref())),
            None => discovered,
        }
    }
}

impl Listing {
    /// Whether both are the same but for figures.
    pub fn has_same_state(&self, other: &Listing) -> bool {
        self.backends.len() == other.backends.len()
            && self
                .backends
                .values()
                .zip(other.backends.values())
                .all(|(one, two)| one.state() == two.state())
    }
}

/// Reads the file's bytes.
///
/// # Errors
/// The faults of a document that is no such file at all, or of whose entries not one can be read.
/// Other bad entries are no error but notes.
pub fn read(bytes: &[u8]) -> Result<Listing, Faults> {
    let mut listing = read_with_all_notes(bytes)?.0;
    listing.notes = super::bounded(listing.notes);
    Ok(listing)
}

/// Everything that can be said against the file's bytes, for who wrote it: faults and notes of each
/// entry, and each key that nobody reads.
pub fn complaints(bytes: &[u8]) -> Vec<String> {
    match read_with_all_notes(bytes) {
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
        Ok((listing, unknown)) => {
            let unknown = unknown.0.iter().map(ToString::to_string);
            listing.notes.into_iter().chain(unknown).collect()
        }
    }
}

/// The file as JSON. Some editors begin a text with a byte order mark, which is skipped.
///
/// # Errors
/// The faults of a document that is no JSON object.
pub fn document(bytes: &[u8]) -> Result<Map<String, Value>, Faults> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    parse_object(text, MAX_FILE_BYTES)
}

fn read_with_all_notes(bytes: &[u8]) -> Result<(Listing, Faults), Faults> {
    let document = document(bytes)?;
    let mut notes = Vec::new();
    let mut unknown = Faults::default();
    let mut backends = BTreeMap::new();
    let items = take_backends(&document)?;
    for (index, item) in items.iter().enumerate() {
        let place = format!("/backends/{index}");
        if backends.len() == MAX_BACKENDS {
            notes.push(format!(
                "{place}: more than {MAX_BACKENDS} backends; the others are skipped"
            ));
            break;
        }
        let Some((said, _, unread)) = read_said_and_unknown(item, &place, &mut notes) else {
            continue;
        };
        unknown.0.extend(unread.0);
        if backends.contains_key(&said.addr) {
            notes.push(format!(
                "{place}: {} a second time; entry skipped",
                said.addr
            ));
            continue;
        }
        backends.insert(said.addr, said);
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
    let listing = Listing {
        updated_at: document.get("updated_at").cloned(),
        backends,
        notes,
        is_carried: false,
    };
    Ok((listing, unknown))
}

/// The file again, with the backends of `listing`: entries that say the same stay as they are
/// written, and so does everything that is none of ours.
pub fn edited(
    document: &Map<String, Value>,
    listing: &BTreeMap<BackendAddr, Said>,
    updated_at: u64,
) -> Map<String, Value> {
    let mut left: BTreeMap<BackendAddr, &Said> =
        listing.iter().map(|(addr, said)| (*addr, said)).collect();
    let mut entries = Vec::new();
    let items = document.get("backends").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        let read = read_said_and_unknown(item, "", &mut Vec::new());
        let Some((before, map, _)) = read else {
            // Nobody's to throw away.
            entries.push(item.clone());
            continue;
        };
        match left.remove(&before.addr) {
            Some(said) if *said == before => entries.push(item.clone()),
            Some(said) => entries.push(rewritten(map, said)),
            None => {}
        }
    }
    let nothing = Map::new();
    entries.extend(left.into_values().map(|said| rewritten(&nothing, said)));
    let mut document = document.clone();
    document.insert("updated_at".into(), updated_at.into());
    document.insert("backends".into(), entries.into());
    document
}

/// The entry with what `said` mentions; other keys of it stay.
fn rewritten(map: &Map<String, Value>, said: &Said) -> Value {
    let mut entry = map.clone();
    let ours = [
        ("ip", Some(json!(said.addr.ip()))),
        ("port", Some(said.addr.port().into())),
        ("weight", said.weight.map(Value::from)),
        ("enabled", said.enabled.map(Value::from)),
        ("is_warming_up", said.is_warming_up.map(Value::from)),
    ];
    for (key, value) in ours {
        match value {
            Some(value) => _ = entry.insert(key.to_owned(), value),
            None => _ = entry.remove(key),
        }
    }
    entry.into()
}

/// The file's bytes, one backend a line.
pub fn render(document: &Map<String, Value>) -> Vec<u8> {
    let mut text = String::from("{\n");
    for (key, value) in document.iter().filter(|(key, _)| *key != "backends") {
        text.push_str(&format!("  {}: {value},\n", Value::from(key.as_str())));
    }
    let items = document.get("backends").and_then(Value::as_array);
    super::push_backends(&mut text, items.into_iter().flatten());
    text.into_bytes()
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
        assert_eq!(read, ["10.0.0.1:1", "10.0.0.3:1", "10.0.0.4:1"]);
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
    fn a_byte_order_mark_is_skipped() {
        let text = "\u{feff}{\"backends\": [{\"ip\": \"10.0.0.1\", \"port\": 1}]}";
        assert_eq!(addresses(text), (vec!["10.0.0.1:1".to_owned()], 0));
    }

    #[test]
    fn a_check_names_every_fault_and_each_key_that_nobody_reads() {
        let text = r#"{"backends": [{"ip": "10.0.0.1", "port": 1, "wieght": 3},
            {"ip": "gpu-1", "port": 1}, {"ip": "10.0.0.2", "port": 1, "weight": 2000}]}"#;
        let found = complaints(text.as_bytes());
        let places = ["/backends/1/ip", "/backends/2/weight", "/backends/0/wieght"];
        assert_eq!(found.len(), 3, "{found:?}");
        for (one, place) in found.iter().zip(places) {
            assert!(one.starts_with(place), "{one}");
        }
        assert!(found[2].contains("\"weight\""), "the nearest key is named");
        assert_eq!(complaints(b"[]").len(), 1);
    }

    #[test]
    fn the_schema_describes_what_is_read() {
        let schema = include_str!("../../../docs/schemas/backends.schema.json");
        let schema: Value = serde_json::from_str(schema).expect("JSON");
        let backend = &schema["$defs"]["backend"];
        let described = backend["properties"].as_object().expect("properties");
        let mut entry: Map<String, Value> = described
            .keys()
            .map(|key| (key.clone(), Value::Null))
            .collect();
        (entry["ip"], entry["port"]) = (json!("10.0.0.1"), json!(1));
        let file = json!({ "backends": [entry] }).to_string();
        assert_eq!(complaints(file.as_bytes()), Vec::<String>::new());
        for (key, property) in described {
            let (min, max) = (&property["minimum"], &property["maximum"]);
            for (bound, beyond) in [(min, -1.0), (max, 1.0)] {
                let Some(bound) = bound.as_f64() else {
                    continue;
                };
                let mut entry = json!({ "ip": "10.0.0.1", "port": 1, key: bound });
                if key == "max_batch" {
                    entry["batch_window_ms"] = json!(1);
                } else if key == "batch_window_ms" {
                    entry["max_batch"] = json!(1);
                }
                let count = |entry: &Value| {
                    complaints(json!({ "backends": [entry] }).to_string().as_bytes()).len()
                };
                assert_eq!(count(&entry), 0, "{key}: {bound}");
                entry[key] = json!(bound + beyond);
                assert_eq!(count(&entry), 1, "{key}: {bound} and beyond");
            }
        }
        let most = schema["properties"]["backends"]["maxItems"].as_u64();
        assert_eq!(most, Some(MAX_BACKENDS as u64));
    }

    #[test]
    fn an_edit_leaves_everything_else_as_it_is_written() {
        let text = br#"{"owner": "ops", "backends": [
            {"ip": "10.0.0.1", "port": "1", "rack": 7}, {"ip": "gpu-1", "port": 1},
            {"ip": "10.0.0.2", "port": 1, "weight": 3, "rack": 8}, {"ip": "10.0.0.3", "port": 1}]}"#;
        let document = parse_object(text, 10_000).expect("an object");
        let mut listing = read(text).expect("readable").backends;
        let at = |text: &str| BackendAddr(text.parse().expect("an address"));
        listing.remove(&at("10.0.0.3:1"));
        listing.get_mut(&at("10.0.0.2:1")).expect("listed").weight = Some(4);
        let added = Said {
            addr: at("10.0.0.4:1"),
            ..listing[&at("10.0.0.1:1")].clone()
        };
        listing.insert(added.addr, added);
        let written = render(&edited(&document, &listing, 9));
        let expected = serde_json::json!({"owner": "ops", "updated_at": 9, "backends": [
            {"ip": "10.0.0.1", "port": "1", "rack": 7}, {"ip": "gpu-1", "port": 1},
            {"ip": "10.0.0.2", "port": 1, "weight": 4, "rack": 8}, {"ip": "10.0.0.4", "port": 1}]});
        let found: Value = serde_json::from_slice(&written).expect("JSON");
        assert_eq!(found, expected);
        assert_eq!(read(&written).expect("readable").backends, listing);
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
            let _ = complaints(&bytes);
        }
    }
}
