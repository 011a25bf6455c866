//! What is read of a file, what is refused, and what an edit of it writes.

use super::*;
use crate::base::parse_id;
use crate::base::tests::key_in;
use crate::sources::entry::Said;
use contract::BackendKey;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

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
    let schema = include_str!("../../../../docs/schemas/backends.schema.json");
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
    let before =
        b"{\"updated_at\": 8, \"backends\": [\n    {\"ip\": \"10.0.0.1\", \"port\": 9001}\n  ]}";
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
    assert_eq!(notes, crate::sources::MAX_NOTES + 1);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
        let _ = read(&bytes);
        let _ = complaints(&bytes);
        let _ = edited(Some(&bytes), &BTreeMap::new(), 1);
    }
}
