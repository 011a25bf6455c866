//! Reading a JSON object field by field, collecting every fault instead of stopping at the first.
//!
//! serde's derive stops at the first fault and names no place. Someone who repairs a configuration
//! needs all faults at once, so documents that people write are read here.

use serde_json::{Map, Value};

use crate::fault::{A_KNOWN_KEY, Faults, INVALID_JSON, UNKNOWN_KEY, pointer_step};
use crate::value::read_value;

/// Parses `bytes` as one JSON object of at most `max_bytes`.
///
/// # Errors
/// One fault: too large, not JSON (with line and column), or JSON that is no object. Or one for each
/// key that its object has twice: which of the two was meant is unknown.
pub fn parse_object(bytes: &[u8], max_bytes: usize) -> Result<Map<String, Value>, Faults> {
    refuse_size(bytes, max_bytes)?;
    let mut faults = Faults::default();
    match read_value(bytes, &mut faults) {
        Ok(_) if !faults.is_empty() => Err(faults),
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            faults.add("", kind(&other), "a JSON object");
            Err(faults)
        }
        Err(error) => Err(not_json(&error)),
    }
}

/// Refuses a document that is too large, empty, or begins with a byte order mark (RFC 8259, section 8.1),
/// which some editors write invisibly.
pub(crate) fn refuse_size(bytes: &[u8], max_bytes: usize) -> Result<(), Faults> {
    let mut faults = Faults::default();
    if bytes.len() > max_bytes {
        let found = format!("{} bytes", bytes.len());
        faults.add("", found, format!("at most {max_bytes} bytes"));
        return Err(faults);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        faults.add("", "an empty document", "a JSON object");
        return Err(faults);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        let allowed = "a JSON object; save the file as UTF-8 without a byte order mark";
        faults.add("", "a byte order mark (EF BB BF)", allowed);
        return Err(faults);
    }
    Ok(())
}

/// The fault of a text that is no JSON.
pub(crate) fn not_json(error: &serde_json::Error) -> Faults {
    let mut faults = Faults::default();
    let place = format!("(line {}, column {})", error.line(), error.column());
    let error = error.to_string();
    // `place` already has it.
    let error = error.split(" at line ").next().unwrap_or_default();
    let found = format!("{INVALID_JSON}{error}");
    faults.add(&place, found, "valid JSON, nested at most 128 levels");
    faults
}

/// One object being read. Each `take_*` call marks its key as known; what is left at
/// [`Object::unknown_keys`] is unknown.
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    place: String,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    /// `place` is the JSON pointer of the object itself: empty for the whole document.
    pub fn new(map: &'a Map<String, Value>, place: impl Into<String>) -> Self {
        Object {
            map,
            place: place.into(),
            known: Vec::new(),
        }
    }

    /// The JSON pointer of `key` in this object.
    pub fn pointer(&self, key: &str) -> String {
        format!("{}{}", self.place, pointer_step(key))
    }

    /// The value under `key`; absent and `null` are the same.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Like [`Object::take`], but absent is a fault.
    pub fn take_required(
        &mut self,
        key: &'static str,
        allowed: &str,
        faults: &mut Faults,
    ) -> Option<&'a Value> {
        let value = self.take(key);
        if value.is_none() {
            let found = if self.map.contains_key(key) {
                "null"
            } else {
                "nothing"
            };
            faults.add(&self.pointer(key), found, allowed);
        }
        value
    }

    /// A whole number within `min..=max`. `10.0` counts as 10.
    pub fn take_integer(
        &mut self,
        key: &'static str,
        min: u64,
        max: u64,
        faults: &mut Faults,
    ) -> Option<u64> {
        let value = self.take(key)?;
        let number = value.as_u64().or_else(|| whole(value.as_f64()?));
        match number {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let allowed = format!("an integer from {min} to {max}");
                faults.add(&self.pointer(key), value, allowed);
                None
            }
        }
    }

    /// Any number.
    pub fn take_number(&mut self, key: &'static str, faults: &mut Faults) -> Option<f64> {
        let value = self.take(key)?;
        if value.as_f64().is_none() {
            faults.add(&self.pointer(key), value, "a number, or null");
        }
        value.as_f64()
    }

    /// A number within 0..=1.
    pub fn take_share(&mut self, key: &'static str, faults: &mut Faults) -> Option<f64> {
        let value = self.take(key)?;
        match value.as_f64() {
            Some(share) if (0.0..=1.0).contains(&share) => Some(share),
            _ => {
                faults.add(&self.pointer(key), value, "a number from 0 to 1, or null");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn take_bool(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.take(key)?;
        if value.as_bool().is_none() {
            faults.add(&self.pointer(key), value, "true or false");
        }
        value.as_bool()
    }

    /// Any string.
    pub fn take_string(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.take(key)?;
        if value.as_str().is_none() {
            faults.add(&self.pointer(key), value, "a string");
        }
        value.as_str()
    }

    /// One of `choices`, each a word and what it means.
    pub fn take_choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        let value = self.take(key)?;
        let choice = value
            .as_str()
            .and_then(|word| choices.iter().find(|choice| choice.0 == word));
        if choice.is_none() {
            let words: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
            let hint = value.as_str().and_then(|word| nearest(word, &words));
            let allowed = format!("one of {}{}", words.join(", "), did_you_mean(hint));
            faults.add(&self.pointer(key), value, allowed);
        }
        choice.map(|choice| choice.1)
    }

    /// Every key that no `take_*` call asked for, as faults that name the nearest known one.
    pub fn unknown_keys(&self, faults: &mut Faults) {
        for key in self
            .map
            .keys()
            .filter(|key| !self.known.contains(&key.as_str()))
        {
            let allowed = match nearest(key, &self.known) {
                Some(known) => format!("{A_KNOWN_KEY}; did you mean {known:?}?"),
                None => format!("one of {}", self.known.join(", ")),
            };
            faults.add(&self.pointer(key), UNKNOWN_KEY, allowed);
        }
    }
}

/// What kind of JSON value this is, in words for a message.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn whole(number: f64) -> Option<u64> {
    let in_range = (0.0..=9_007_199_254_740_992.0).contains(&number);
    (in_range && number.fract() == 0.0).then_some(number as u64)
}

/// The candidate within a third of the word's length in edits (Damerau-Levenshtein), if any.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // A hostile key may be megabytes long, and the distance costs the product of both lengths.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(word, candidate);
    let best = candidates.iter().min_by_key(distance)?;
    (distance(&best) <= word.chars().count().div_ceil(3)).then_some(*best)
}

fn did_you_mean(hint: Option<&str>) -> String {
    hint.map(|word| format!("; did you mean {word:?}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn faults_of(value: Value, read: impl Fn(&mut Object, &mut Faults)) -> Vec<String> {
        let Value::Object(map) = value else {
            panic!("the test gives objects")
        };
        let mut faults = Faults::default();
        let mut object = Object::new(&map, "");
        read(&mut object, &mut faults);
        object.unknown_keys(&mut faults);
        faults
            .0
            .iter()
            .map(|fault| format!("{}|{}", fault.place, fault.allowed))
            .collect()
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let found = faults_of(
            json!({"a": -1, "b": 2.5, "c": "x", "d~/": 1}),
            |object, faults| {
                object.take_integer("a", 0, 9, faults);
                object.take_share("b", faults);
                object.take_bool("c", faults);
            },
        );
        let places: Vec<&str> = found
            .iter()
            .filter_map(|fault| fault.split('|').next())
            .collect();
        assert_eq!(places, ["/a", "/b", "/c", "/d~0~1"]);
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let found = faults_of(json!({"wieght": 1}), |object, faults| {
            object.take_integer("weight", 0, 9, faults);
        });
        assert!(found[0].contains("\"weight\""), "{found:?}");
    }

    #[test]
    fn whole_floats_are_integers_and_others_are_not() {
        let check = |value: Value, expected: Option<u64>| {
            let Value::Object(map) = json!({ "n": value }) else {
                unreachable!("an object above")
            };
            let mut faults = Faults::default();
            let number = Object::new(&map, "").take_integer("n", 0, 1000, &mut faults);
            assert_eq!(number, expected);
            assert_eq!(faults.is_empty(), expected.is_some());
        };
        check(json!(10), Some(10));
        check(json!(10.0), Some(10));
        check(json!(10.5), None);
        check(json!(-1), None);
        check(json!(1e300), None);
        check(json!("10"), None);
        check(json!(true), None);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in [
            "",
            "  \n",
            "[]",
            "3",
            "{",
            "{\"a\":NaN}",
            "\u{0}\u{1}",
            "{} x",
        ] {
            assert!(parse_object(text.as_bytes(), 100).is_err(), "{text:?}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(parse_object(deep.as_bytes(), 1000).is_err());
        assert!(parse_object(&[b' '; 101], 100).is_err());
        let marked = parse_object(b"\xef\xbb\xbf{}", 100).expect_err("named");
        assert!(marked.to_string().contains("byte order mark"), "{marked}");
    }
}
