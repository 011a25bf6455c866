//! The files that list backends: `k8s_endpoints.json`, written by discovery or its simulator, and
//! `static_backends.json`, written by operators and by the API. Both have one format,
//! `{updated_at?, backends: [{ip, port, pool?, weight?, enabled?, is_warming_up?, ...}]}`; its schema
//! is `docs/schemas/backends.schema.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use contract::config::{MAX_BACKENDS, MAX_FILE_BYTES};
use contract::raw::{RawObject, read_raw};
use contract::{Backend, BackendKey, Faults};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::entry::{Said, read_item_value, read_said_and_unknown, take_raw_backends};
use super::push_items;
use crate::base::write_pool;
use crate::words::counted;

/// One good reading of such a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// As written; only shown.
    pub updated_at: Option<Value>,
    pub backends: BTreeMap<BackendKey, Said>,
    /// Skipped entries and values, with reasons.
    pub notes: Vec<String>,
    /// Not read from the file, but kept from the published backends until the file can be read.
    pub is_carried: bool,
}

/// The backends of both files.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub statics: &'a BTreeMap<BackendKey, Said>,
    pub discovered: &'a BTreeMap<BackendKey, Said>,
}

impl<'a> Listed<'a> {
    /// Each backend once, in no order.
    pub fn keys(self) -> impl Iterator<Item = &'a BackendKey> {
        let statics = self.statics;
        let alone = |key: &&BackendKey| !statics.contains_key(*key);
        statics.keys().chain(self.discovered.keys().filter(alone))
    }

    pub fn is_static(&self, key: &BackendKey) -> bool {
        self.statics.contains_key(key)
    }

    pub fn is_discovered(&self, key: &BackendKey) -> bool {
        self.discovered.contains_key(key)
    }

    /// The backend as the files describe it, the static one above discovery's; `None` if neither
    /// lists it.
    pub fn backend(&self, key: &BackendKey) -> Option<Backend> {
        let discovered = self.discovered.get(key).map(|said| said.over(None));
        match self.statics.get(key) {
            Some(said) => Some(said.over(discovered.as_ref())),
            None => discovered,
        }
    }
}

impl Listing {
    /// Whether both are the same except for figures.
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

/// The file's bytes with the backends of `listing`. Unchanged entries stay as written, and so do entries that
/// reading skips, unless their backend was removed, and everything else in the file. `None`: there is no file
/// yet.
///
/// # Errors
/// The faults of a document that is not such a file.
pub fn edited(
    before: Option<&[u8]>,
    listing: &BTreeMap<BackendKey, Said>,
    updated_at: u64,
) -> Result<Vec<u8>, Faults> {
    const NEW: &str = "{\n  \"backends\": []\n}\n";
    let before = before.unwrap_or(NEW.as_bytes());
    let document = RawObject::parse(text_of(before), MAX_FILE_BYTES)?;
    let items = take_raw_backends(&document)?;
    let backends = document.get("backends").map_or("", RawValue::get);
    let mut edits = vec![(place_in(before, backends), edited_items(&items, listing))];
    match document.get("updated_at") {
        Some(raw) => edits.push((place_in(before, raw.get()), updated_at.to_string())),
        None => {
            let brace = before.iter().position(|byte| *byte == b'{').unwrap_or(0);
            let line = format!("\n  \"updated_at\": {updated_at},");
            edits.push((brace + 1..brace + 1, line));
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut written = Vec::with_capacity(before.len());
    let mut copied = 0;
    for (place, text) in edits {
        written.extend_from_slice(&before[copied..place.start]);
        written.extend_from_slice(text.as_bytes());
        copied = place.end;
    }
    written.extend_from_slice(&before[copied..]);
    Ok(written)
}

/// The position of `part` within `whole`.
fn place_in(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// The array, one entry a line.
fn edited_items(items: &[&RawValue], listing: &BTreeMap<BackendKey, Said>) -> String {
    let mut left: BTreeMap<&BackendKey, &Said> = listing.iter().collect();
    let mut read = BTreeSet::new();
    let mut entries = Vec::new();
    for item in items {
        let as_written = Cow::Borrowed(item.get());
        let Some((before, _)) = read_item(item, "", &mut Vec::new()) else {
            // A foreign entry must not be dropped.
            entries.push(as_written);
            continue;
        };
        let key = &before.key;
        let is_skipped = read.len() == MAX_BACKENDS || read.contains(key);
        if is_skipped {
            // A remaining entry of a removed backend would bring it back.
            let is_removed = read.contains(key) && !listing.contains_key(key);
            entries.extend((!is_removed).then_some(as_written));
            continue;
        }
        read.insert(key.clone());
        match left.remove(key) {
            Some(said) if *said == before => entries.push(as_written),
            Some(said) => entries.push(rewritten(item, &before, said).into()),
            None => {}
        }
    }
    let added = left.into_values();
    entries.extend(
        added.map(|said| lines_of(Vec::new(), &Said::nothing_of(said.key.clone()), said).into()),
    );
    let mut text = String::from("[");
    push_items(&mut text, entries.iter());
    text
}

/// The entry with the values that `said` changes; everything else stays as written.
fn rewritten(item: &RawValue, before: &Said, said: &Said) -> String {
    let object = serde_json::from_str::<RawObject>(item.get());
    let entries = object.map(|object| object.0).unwrap_or_default();
    let entries = entries.into_iter();
    let entries = entries.map(|(key, raw)| (key, Cow::Borrowed(raw.get())));
    lines_of(entries.collect(), before, said)
}

fn lines_of(mut entries: Vec<(String, Cow<str>)>, before: &Said, said: &Said) -> String {
    let (ip, port) = (said.key.addr.ip(), said.key.addr.port());
    let mut address = Map::from_iter([
        ("ip".to_owned(), json!(ip)),
        ("port".to_owned(), port.into()),
    ]);
    write_pool(&said.key, &mut address);
    for (key, value) in address {
        if !entries.iter().any(|(own, _)| *own == key) {
            entries.push((key, value.to_string().into()));
        }
    }
    let values = [
        (
            "weight",
            before.weight.map(Value::from),
            said.weight.map(Value::from),
        ),
        (
            "enabled",
            before.enabled.map(Value::from),
            said.enabled.map(Value::from),
        ),
        (
            "is_warming_up",
            before.is_warming_up.map(Value::from),
            said.is_warming_up.map(Value::from),
        ),
    ];
    for (key, before, now) in values {
        if before == now {
            continue;
        }
        let place = entries.iter().position(|(own, _)| own == key);
        // A repeated key has no value; the new value replaces both.
        entries.retain(|(own, _)| own != key);
        if let Some(now) = now {
            let place = place.unwrap_or(entries.len());
            entries.insert(place, (key.to_owned(), now.to_string().into()));
        }
    }
    let entries = entries.iter();
    let entries: Vec<String> = entries
        .map(|(key, text)| format!("{}:{text}", Value::from(key.as_str())))
        .collect();
    format!("{{{}}}", entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::parse_id;
    use crate::base::tests::key_in;
    use serde_json::Map;

    fn addresses(text: &str) -> (Vec<String>, usize) {
        let discovery = read(text.as_bytes()).expect("a readable document");
        let addresses = discovery.backends.keys().map(BackendKey::to_string);
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
        // Where no entry is readable, too, which is one fault of the file for a running server.
        let none = r#"{"backends": [{"ip": "gpu-1", "port": 0}, {"ip": "gpu-2", "port": 1}]}"#;
        let found = complaints(none.as_bytes());
        let places = ["/backends/0/ip", "/backends/0/port", "/backends/1/ip"];
        assert_eq!(found.len(), 3, "{found:?}");
        for (one, place) in found.iter().zip(places) {
            assert!(one.starts_with(place), "{one}");
        }
        assert_eq!(read(none.as_bytes()).expect_err("a fault").0.len(), 1);
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
        let text = "\u{feff}{\"owner\": 123456789012345678901234567890.10,  \"updated_at\":1,
  \"backends\": [
            {\"ip\": \"10.0.0.1\", \"port\": \"1\", \"rack\": 1e400}, {\"ip\": \"gpu-1\", \"port\": 1},
            {\"ip\": \"10.0.0.2\", \"rack\": 1.50, \"port\": 1, \"weight\": 3}, 7,
            {\"ip\": \"10.0.0.1\",  \"port\": 1, \"a second\": \"time\"},
            {\"ip\": \"10.0.0.3\", \"port\": 1}, {\"ip\": \"10.0.0.3\", \"port\": 1, \"weight\": 9},
            {\"ip\": \"10.0.0.5\", \"port\": 1, \"weight\": 1, \"weight\": 2}], \"after\": 1e999 }\r\n";
        let mut listing = read(text.as_bytes()).expect("readable").backends;
        let at = |text: &str| parse_id(text).expect("an id");
        listing.remove(&at("10.0.0.3:1"));
        listing.get_mut(&at("10.0.0.2:1")).expect("listed").weight = Some(4);
        listing.get_mut(&at("10.0.0.5:1")).expect("listed").weight = Some(5);
        let added = Said {
            enabled: Some(false),
            ..Said::nothing_of(at("10.0.0.4:1"))
        };
        listing.insert(added.key.clone(), added);
        let written = edited(Some(text.as_bytes()), &listing, 9).expect("readable");
        let expected = "\u{feff}{\"owner\": 123456789012345678901234567890.10,  \"updated_at\":9,
  \"backends\": [
    {\"ip\": \"10.0.0.1\", \"port\": \"1\", \"rack\": 1e400},
    {\"ip\": \"gpu-1\", \"port\": 1},
    {\"ip\":\"10.0.0.2\",\"rack\":1.50,\"port\":1,\"weight\":4},
    7,
    {\"ip\": \"10.0.0.1\",  \"port\": 1, \"a second\": \"time\"},
    {\"ip\":\"10.0.0.5\",\"port\":1,\"weight\":5},
    {\"ip\":\"10.0.0.4\",\"port\":1,\"enabled\":false}
  ], \"after\": 1e999 }\r\n";
        assert_eq!(String::from_utf8_lossy(&written), expected);
        assert_eq!(read(&written).expect("readable").backends, listing);
    }

    #[test]
    fn a_backend_of_another_pool_is_written_with_it_and_its_address_stays_as_it_is() {
        let before = b"{\"updated_at\": 8, \"backends\": [\n    {\"ip\": \"10.0.0.1\", \"port\": 9001}\n  ]}";
        let mut listing = read(before).expect("readable").backends;
        let elsewhere = Said {
            weight: Some(7),
            ..Said::nothing_of(key_in("chat", 1))
        };
        listing.insert(elsewhere.key.clone(), elsewhere);
        let written = edited(Some(before), &listing, 8).expect("readable");
        let expected = "{\"updated_at\": 8, \"backends\": [\n    {\"ip\": \"10.0.0.1\", \"port\": 9001},\n    \
                        {\"ip\":\"10.0.0.1\",\"port\":9001,\"pool\":\"chat\",\"weight\":7}\n  ]}";
        assert_eq!(String::from_utf8_lossy(&written), expected);
        assert_eq!(read(&written).expect("readable").backends, listing);
        listing.remove(&key_in("chat", 1));
        let again = edited(Some(&written), &listing, 8).expect("readable");
        assert_eq!(
            String::from_utf8_lossy(&again),
            String::from_utf8_lossy(before)
        );
    }

    #[test]
    fn a_new_file_has_the_backends_alone() {
        let one = Said::nothing_of(parse_id("10.0.0.1:1").expect("an id"));
        let listing = BTreeMap::from([(one.key.clone(), one)]);
        let written = edited(None, &listing, 9).expect("a new file");
        let expected = "{\n  \"updated_at\": 9,\n  \"backends\": [\n    {\"ip\":\"10.0.0.1\",\"port\":1}\n  ]\n}\n";
        assert_eq!(String::from_utf8_lossy(&written), expected);
        let emptied = edited(Some(&written), &BTreeMap::new(), 10).expect("readable");
        let expected = "{\n  \"updated_at\": 10,\n  \"backends\": []\n}\n";
        assert_eq!(String::from_utf8_lossy(&emptied), expected);
    }

    #[test]
    fn a_number_that_cannot_be_read_costs_itself_alone() {
        let text = r#"{"updated_at": 1e400, "backends": [{"ip": "10.0.0.1", "port": 1, "weight": 1e400, "enabled": false},
            {"ip": "10.0.0.2", "port": 1e400}, 1e400, {"ip": "10.0.0.3", "port": 1, "rack": 1e400}]}"#;
        let listing = read(text.as_bytes()).expect("readable");
        assert_eq!(listing.backends.len(), 2);
        let first = listing.backends.values().next().expect("the first");
        assert_eq!((first.weight, first.enabled), (None, Some(false)));
        assert_eq!(listing.notes.len(), 5, "{:?}", listing.notes);
        assert!(listing.notes[0].starts_with("/backends/0/weight: found 1e400"));
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
            let _ = edited(Some(&bytes), &BTreeMap::new(), 1);
        }
    }
}
