//! Edits of a file that lists backends: everything else in it stays as it is written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use contract::config::{MAX_BACKENDS, MAX_FILE_BYTES};
use contract::raw::RawObject;
use contract::{BackendKey, Faults};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::entry::{Said, take_raw_backends};
use super::super::push_items;
use super::{read_item, text_of};
use crate::base::write_pool;

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
