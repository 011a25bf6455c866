//! JSON with repeated keys reported: `serde_json::Value` silently takes the last of two equal keys; here
//! each such key is a fault with its place.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::fault::{Faults, pointer_step};

/// How many repeated keys are reported; a document can hold millions.
const MAX_REPEATED: usize = 100;

/// Reads one JSON document and nothing after it, nested at most 128 deep.
pub(crate) fn read_value(bytes: &[u8], repeated: &mut Faults) -> serde_json::Result<Value> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { repeated }.deserialize(&mut document)?;
    document.end()?;
    Ok(value)
}

/// Reads one value. Places of faults are relative to it, and each container adds its own step on
/// the way out, so that a document without faults costs no pointer.
struct Reader<'a> {
    repeated: &'a mut Faults,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let inside = self.repeated.0.len();
            let repeated = &mut *self.repeated;
            let Some(item) = access.next_element_seed(Reader { repeated })? else {
                return Ok(Value::Array(items));
            };
            add_step(self.repeated, inside, || format!("/{}", items.len()));
            items.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let inside = self.repeated.0.len();
            let repeated = &mut *self.repeated;
            let value = access.next_value_seed(Reader { repeated })?;
            add_step(self.repeated, inside, || pointer_step(&key));
            if map.contains_key(&key) && self.repeated.0.len() < MAX_REPEATED {
                let place = pointer_step(&key);
                self.repeated
                    .add(&place, "a key given twice", "each key once");
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Puts `step` before the places of the faults from `first` on.
fn add_step(faults: &mut Faults, first: usize, step: impl Fn() -> String) {
    for fault in &mut faults.0[first..] {
        fault.place.insert_str(0, &step());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn repeated(text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        read_value(text.as_bytes(), &mut faults).expect("JSON");
        faults.0.into_iter().map(|fault| fault.place).collect()
    }

    #[test]
    fn a_key_given_twice_is_named_by_its_place() {
        assert!(repeated(r#"{"a": {"b": 1}, "b": [{"b": 1}, {"b": 2}]}"#).is_empty());
        assert_eq!(repeated(r#"{"a": 1, "a": 2}"#), ["/a"]);
        let deep = r#"{"a": [0, {"b/c": {"d": 1, "d": 1}}], "e": 1, "e": 1}"#;
        assert_eq!(repeated(deep), ["/a/1/b~1c/d", "/e"]);
    }

    #[test]
    fn no_document_makes_more_faults_than_the_bound() {
        let text = format!("{{{}\"a\":1}}", "\"a\":{\"b\":1,\"b\":1},".repeat(1_000));
        assert_eq!(repeated(&text).len(), MAX_REPEATED);
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(text in "[\\[\\]{}:,\"a-c0-9.eE \\-]{0,40}") {
            let plain = serde_json::from_str::<Value>(&text);
            let ours = read_value(text.as_bytes(), &mut Faults::default());
            proptest::prop_assert_eq!(ours.ok(), plain.ok());
        }
    }
}
