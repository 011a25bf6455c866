//! JSON with the text of each value as it is written, for files that other programs write: a fault in
//! one value does not affect the others, and foreign values can be written back byte for byte.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::fault::{Faults, pointer_step};
use crate::object::{kind, not_json, refuse_size};
use crate::value::read_value;

/// The keys of one object in their order, each with its value as it is written.
#[derive(Debug)]
pub struct RawObject<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// Parses `bytes` as one JSON object of at most `max_bytes`. The values are well-formed JSON, and are
    /// not examined further.
    ///
    /// # Errors
    /// As in [`parse_object`](crate::parse_object), but repeated keys inside values are allowed.
    pub fn parse(bytes: &'a [u8], max_bytes: usize) -> Result<RawObject<'a>, Faults> {
        refuse_size(bytes, max_bytes)?;
        let whole: &RawValue = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
        let mut faults = Faults::default();
        let Ok(object) = serde_json::from_str::<RawObject>(whole.get()) else {
            let found = serde_json::from_str(whole.get()).unwrap_or(Value::Null);
            faults.add("", kind(&found), "a JSON object");
            return Err(faults);
        };
        for key in object.repeated() {
            faults.add(&pointer_step(key), "a key given twice", "each key once");
        }
        match faults.is_empty() {
            true => Ok(object),
            false => Err(faults),
        }
    }

    fn repeated(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let keys = self.0.iter().map(|(key, _)| key.as_str());
        keys.filter(|key| !seen.insert(*key)).collect()
    }

    /// The value of `key`, as it stands in the text.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(own, _)| own == key);
        found.map(|(_, value)| *value)
    }
}

/// The items of an array; `None` where the value is something else.
pub fn raw_items(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// The value of the text. In an object, a key that is repeated or whose value cannot be read, such as the
/// number `1e400`, is a fault and left out. Any other value that cannot be read becomes its text.
pub fn read_raw(raw: &RawValue, place: &str, faults: &mut Faults) -> Value {
    let mut repeated = Faults::default();
    match read_value(raw.get().as_bytes(), &mut repeated) {
        Ok(value) if repeated.is_empty() => return value,
        Ok(_) | Err(_) => {}
    }
    let Ok(object) = serde_json::from_str::<RawObject>(raw.get()) else {
        return raw.get().into();
    };
    let mut map = Map::new();
    let repeated = object.repeated();
    let place = |key: &str| format!("{place}{}", pointer_step(key));
    for key in &repeated {
        faults.add(&place(key), "a key given twice", "each key once");
    }
    for (key, raw) in &object.0 {
        if repeated.contains(key.as_str()) {
            continue;
        }
        match serde_json::from_str(raw.get()) {
            Ok(value) => _ = map.insert(key.clone(), value),
            Err(error) => {
                let found = format!("{} ({error})", raw.get());
                faults.add(&place(key), found, "a value that can be read");
            }
        }
    }
    map.into()
}

impl<'de> serde::Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &RawValue>()? {
                    entries.push(entry);
                }
                Ok(RawObject(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_that_cannot_be_read_costs_itself_alone() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"a": [{{"x": 1e400, "y": 2}}, {{"z": 1, "z": 2, "y": {{"b": 1, "b": 2}}}}, {deep}, 1e400, 7]}}"#
        );
        let object = RawObject::parse(text.as_bytes(), 10_000).expect("an object");
        let items = raw_items(object.get("a").expect("there")).expect("an array");
        let mut faults = Faults::default();
        let read: Vec<Value> = items
            .iter()
            .map(|item| read_raw(item, "/a", &mut faults))
            .collect();
        let expected = [
            json!({"y": 2}),
            json!({"y": {"b": 2}}),
            json!(deep),
            json!("1e400"),
        ];
        assert_eq!(read[..4], expected);
        let places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["/a/x", "/a/z"]);
        assert_eq!(items[0].get(), r#"{"x": 1e400, "y": 2}"#);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in [
            "",
            "  \n",
            "[]",
            "3",
            "1e400",
            "{",
            "{\"a\":NaN}",
            "\u{0}\u{1}",
            "{} x",
            "{\"a\": 1, \"a\": 2}",
        ] {
            assert!(RawObject::parse(text.as_bytes(), 100).is_err(), "{text:?}");
        }
        assert!(RawObject::parse(&[b' '; 101], 100).is_err());
        assert!(RawObject::parse(b"{\"a\": \"\xff\"}", 100).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_parse_object_takes_is_read_the_same(text in "\\{[\\[\\]{}:,\"a-c0-9.eE \\-]{0,40}\\}") {
            let Ok(map) = crate::parse_object(text.as_bytes(), 100) else {
                return Ok(());
            };
            let raw = RawObject::parse(text.as_bytes(), 100).expect("an object");
            let mut faults = Faults::default();
            let read = raw.0.iter().map(|(key, raw)| (key.clone(), read_raw(raw, "", &mut faults)));
            proptest::prop_assert_eq!(read.collect::<Map<String, Value>>(), map);
            proptest::prop_assert!(faults.is_empty());
        }
    }
}
