//! `backends_runtime.journal`: changes of the registry that `backends_runtime.json` does not hold yet.
//!
//! A line is a batch of changes that were made together, in JSON:
//! `{"after": SEAL, "updated_at": SECONDS, "backends": [{"was": DIGEST or null, "now": ENTRY}, {"was": DIGEST, "key": ID}]}`.
//! `after` is the `sha256` that the JSON file states: a line counts only for the version that it was written after, so a
//! journal that is put back later changes nothing. It is absent, and any version will do, where the file states none.
//! `now` is the entry as the JSON file will hold it; one without `now` is gone. `was` is the digest of the entry
//! in the JSON file at that time, null if it had none: a change counts only while the JSON file still holds that
//! entry. So somebody's edit of an entry there wins, and a change that is in the JSON file already is not made
//! again. A line that was cut off by a crash was never answered.

use std::collections::BTreeMap;

use contract::{BackendKey, digest};
use serde_json::{Map, Value, json};

use super::entry::read_said;
use crate::base::parse_key;

/// Digests of the entries of one version of the JSON file.
pub type Digests = BTreeMap<BackendKey, EntryDigest>;

/// The first 64 bits of a SHA-256 of an entry, whatever the order of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryDigest(u64);

/// One changed entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub key: BackendKey,
    /// The entry in the JSON file when it was changed.
    pub was: Option<EntryDigest>,
    /// As the JSON file is to hold it; `None`: it is gone.
    pub now: Option<Value>,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq)]
pub struct Journal {
    /// The last record of each backend.
    pub records: BTreeMap<BackendKey, Record>,
    pub updated_at: u64,
    /// Lines that were written after another version of the JSON file.
    pub others: usize,
    pub notes: Vec<String>,
}

impl EntryDigest {
    pub fn of(entry: &Value) -> EntryDigest {
        let mut text = String::new();
        write_sorted(entry, &mut text);
        let hex = digest(text.as_bytes());
        EntryDigest::of_hex(&hex[..16]).expect("a digest is hexadecimal")
    }

    fn of_hex(hex: &str) -> Option<EntryDigest> {
        u64::from_str_radix(hex, 16).ok().map(EntryDigest)
    }

    fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Digests of all entries.
pub fn digests(entries: &BTreeMap<BackendKey, Value>) -> Digests {
    let entries = entries.iter();
    entries
        .map(|(key, entry)| (key.clone(), EntryDigest::of(entry)))
        .collect()
}

/// The line of one batch, with its end. `after` is what the JSON file states.
pub fn line(records: &[Record], updated_at: u64, after: Option<&str>) -> String {
    let records: Vec<Value> = records
        .iter()
        .map(|Record { key, was, now }| {
            let was = was.map(EntryDigest::hex);
            match now {
                Some(now) => json!({ "was": was, "now": now }),
                None => json!({ "was": was, "key": key.to_string() }),
            }
        })
        .collect();
    let mut line = json!({ "updated_at": updated_at, "backends": records });
    if let Some(after) = after {
        line["after"] = after.into();
    }
    format!("{line}\n")
}

/// Reads a journal beside a JSON file that states `seal`. A line that is none is left out: each record says for itself
/// whether it counts.
pub fn read(bytes: &[u8], seal: Option<&str>) -> Journal {
    let mut journal = Journal::default();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (index, line) in lines.enumerate() {
        let Some((records, updated_at, after)) = read_line(line) else {
            // The last line is cut off by a crash, which is no news.
            if line.ends_with(b"\n") {
                let place = index + 1;
                journal.notes.push(format!(
                    "line {place} is not a valid batch of changes, and is ignored"
                ));
            }
            continue;
        };
        if after.zip(seal).is_some_and(|(after, seal)| after != seal) {
            journal.others += 1;
            continue;
        }
        journal.updated_at = journal.updated_at.max(updated_at);
        let records = records.into_iter();
        (journal.records).extend(records.map(|record| (record.key.clone(), record)));
    }
    journal.notes = super::bounded(journal.notes);
    journal
}

/// What it changes, when, and after which version.
fn read_line(line: &[u8]) -> Option<(Vec<Record>, u64, Option<String>)> {
    let line = line.strip_suffix(b"\n")?;
    let line: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let records = line.get("backends")?.as_array()?.iter().map(read_record);
    let records: Option<Vec<Record>> = records.collect();
    let after = line.get("after").and_then(Value::as_str);
    let updated_at = line.get("updated_at")?.as_u64()?;
    Some((records?, updated_at, after.map(str::to_owned)))
}

fn read_record(value: &Value) -> Option<Record> {
    let was = match value.get("was")? {
        Value::Null => None,
        was => Some(EntryDigest::of_hex(was.as_str()?)?),
    };
    let now = value.get("now").cloned();
    let key = match &now {
        Some(entry) => read_said(entry, "", &mut Vec::new())?.0.key,
        None => parse_key(value.get("key")?.as_str()?)?,
    };
    Some(Record { key, was, now })
}

/// As JSON with the keys of each object in order.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in members {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tests::{key, key_in};

    fn record(key: BackendKey, was: Option<u64>, weight: u64) -> Record {
        let mut now = json!({ "ip": key.addr.ip(), "port": key.addr.port(), "weight": weight });
        if key.pool.as_str() != "default" {
            now["pool"] = key.pool.as_str().into();
        }
        let (was, now) = (was.map(EntryDigest), Some(now));
        Record { key, was, now }
    }

    #[test]
    fn the_last_record_of_each_backend_counts() {
        let gone = |key: BackendKey, was| Record {
            key,
            was: Some(EntryDigest(was)),
            now: None,
        };
        let first = [record(key(1), None, 5), record(key_in("chat", 1), None, 6)];
        let second = [record(key(1), Some(7), 8), gone(key(2), 9)];
        let text = line(&first, 3, None) + &line(&second, 2, Some("s"));
        let read = read(text.as_bytes(), Some("s"));
        let expected = [first[1].clone(), second[0].clone(), second[1].clone()];
        let expected = expected.map(|record| (record.key.clone(), record));
        assert_eq!(read.records, BTreeMap::from(expected));
        assert_eq!((read.updated_at, read.notes), (3, Vec::<String>::new()));
    }

    #[test]
    fn a_line_counts_only_for_the_version_that_it_was_written_after() {
        let batch = |last: u8| [record(key(last), None, 5)];
        let text = line(&batch(1), 3, Some("old")) + &line(&batch(2), 4, Some("s"));
        let text = text + &line(&batch(3), 5, None);
        let of = |seal| {
            let read = read(text.as_bytes(), seal);
            (read.records.len(), read.others, read.updated_at)
        };
        assert_eq!(of(Some("s")), (2, 1, 5));
        assert_eq!(of(Some("old")), (2, 1, 5));
        assert_eq!(of(Some("other")), (1, 2, 5));
        assert_eq!(of(None), (3, 0, 5), "another program has written the file");
    }

    #[test]
    fn a_line_that_was_cut_off_counts_for_nothing_wherever_it_was_cut() {
        let whole = line(&[record(key(1), None, 5)], 3, None);
        let cut = line(&[record(key(1), None, 6), record(key(2), None, 6)], 4, None);
        for end in 0..cut.len() {
            let text = whole.clone() + &cut[..end];
            let read = read(text.as_bytes(), Some("s"));
            assert_eq!(read.records.len(), 1, "cut at {end}");
            assert_eq!(read.records[&key(1)], record(key(1), None, 5));
            assert_eq!(read.notes, Vec::<String>::new());
        }
    }

    #[test]
    fn a_line_that_is_no_batch_is_left_out_with_a_note() {
        for bad in [
            "{}",
            "null",
            "[1]",
            r#"{"updated_at": 1, "backends": [{}]}"#,
        ] {
            let text = line(&[record(key(1), None, 5)], 3, None) + bad + "\n";
            let text = text + &line(&[record(key(2), None, 5)], 3, None);
            let read = read(text.as_bytes(), Some("s"));
            assert_eq!(read.records.len(), 2, "{bad}");
            assert_eq!(
                read.notes,
                ["line 2 is not a valid batch of changes, and is ignored"]
            );
        }
    }

    #[test]
    fn a_digest_is_of_the_content_whatever_the_order_of_its_keys() {
        let digest = |text: &str| EntryDigest::of(&serde_json::from_str(text).expect("JSON"));
        let one = digest(r#"{"ip": "10.0.0.1", "override": {"weight": 1, "at": 2}}"#);
        assert_eq!(
            one,
            digest(r#"{"override": {"at": 2, "weight": 1}, "ip": "10.0.0.1"}"#)
        );
        assert_ne!(
            one,
            digest(r#"{"override": {"at": 2, "weight": 2}, "ip": "10.0.0.1"}"#)
        );
    }
}
