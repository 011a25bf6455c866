//! One backend of a source file.

use std::borrow::Cow;

use contract::config::{DEFAULT_WEIGHT, MAX_WEIGHT, read_report};
use contract::raw::{RawObject, raw_items, read_raw};
use contract::{Backend, BackendKey, Batch, Faults, Name, Object, Report};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::read_key;

/// The values of one source for a backend. Values that it does not mention are left to weaker sources, or
/// to the contract's default.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub key: BackendKey,
    pub weight: Option<u16>,
    pub enabled: Option<bool>,
    pub is_warming_up: Option<bool>,
    pub report: Report,
    pub batch: Option<Batch>,
}

impl Said {
    /// All values of a published backend.
    pub fn all_of(pool: &Name, backend: &Backend) -> Said {
        Said {
            key: BackendKey::new(pool.clone(), backend.addr),
            weight: Some(backend.weight),
            enabled: Some(backend.enabled),
            is_warming_up: Some(backend.is_warming_up),
            report: backend.report,
            batch: backend.batch,
        }
    }

    /// A source that knows only that it exists.
    pub fn nothing_of(key: BackendKey) -> Said {
        Said {
            key,
            weight: None,
            enabled: None,
            is_warming_up: None,
            report: Report::default(),
            batch: None,
        }
    }

    /// The backend as this source and the weaker ones describe it together.
    pub fn over(&self, below: Option<&Backend>) -> Backend {
        let own = self.report;
        let has_figures = own.gpu_usage.is_some() || own.vram_usage.is_some();
        Backend {
            addr: self.key.addr,
            weight: self
                .weight
                .unwrap_or_else(|| below.map_or(DEFAULT_WEIGHT, |below| below.weight)),
            enabled: self
                .enabled
                .unwrap_or_else(|| below.is_none_or(|below| below.enabled)),
            is_warming_up: self
                .is_warming_up
                .unwrap_or_else(|| below.is_some_and(|below| below.is_warming_up)),
            // Without figures of this source, those of weaker ones apply; two partial reports never mix.
            report: match below {
                Some(below) if !has_figures => Report {
                    heartbeat_ms: own.heartbeat_ms.or(below.report.heartbeat_ms),
                    ..below.report
                },
                Some(_) | None => own,
            },
            batch: self.batch.or(below.and_then(|below| below.batch)),
        }
    }

    /// The values that are published at once when they change: all but the figures.
    pub fn state(&self) -> impl PartialEq + use<> {
        (
            self.key.clone(),
            self.weight,
            self.enabled,
            self.is_warming_up,
            self.batch,
        )
    }
}

/// Reads one entry, or reports why it cannot be used. It needs an address, and where it names a pool, a name. Any
/// other bad value affects only itself: its default applies, and a backend with a faulty exporter still serves.
pub fn read_said<'a>(
    value: &'a Value,
    place: &str,
    notes: &mut Vec<String>,
) -> Option<(Said, &'a Map<String, Value>)> {
    let (said, map, _) = read_said_and_unknown(value, place, notes)?;
    Some((said, map))
}

/// Reads one entry as [`read_said`] does, and its unknown keys.
pub fn read_said_and_unknown<'a>(
    value: &'a Value,
    place: &str,
    notes: &mut Vec<String>,
) -> Option<(Said, &'a Map<String, Value>, Faults)> {
    let Value::Object(map) = value else {
        notes.push(format!("{place}: found {value}, allowed: an object"));
        return None;
    };
    let typed = out_of_strings(map, place, notes);
    let mut object = Object::new(&typed, place);
    let mut faults = Faults::default();
    let key = read_key(&mut object, &mut faults);
    notes.extend(named(&faults, "entry skipped"));
    let key = key?;
    let mut faults = Faults::default();
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, &mut faults);
    let said = Said {
        key,
        weight: weight.map(|weight| weight as u16),
        enabled: object.take_bool("enabled", &mut faults),
        is_warming_up: object.take_bool("is_warming_up", &mut faults),
        report: read_report(&mut object, &mut faults),
        batch: Batch::read(&mut object, &mut faults),
    };
    notes.extend(named(&faults, "value ignored"));
    let mut unknown = Faults::default();
    object.unknown_keys(&mut unknown);
    Some((said, map, unknown))
}

fn named(faults: &Faults, outcome: &str) -> impl Iterator<Item = String> {
    let faults = faults.0.iter();
    faults
        .map(move |fault| format!("{fault}; {outcome}"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Scripts write numbers as strings, and booleans as strings or numbers. The meaning is clear, so the value
/// is used, and reported.
fn out_of_strings<'a>(
    map: &'a Map<String, Value>,
    place: &str,
    notes: &mut Vec<String>,
) -> Cow<'a, Map<String, Value>> {
    const NUMBERS: [&str; 8] = [
        "port",
        "weight",
        "gpu_usage",
        "vram_usage",
        "reported_at_ms",
        "heartbeat_ms",
        "max_batch",
        "batch_window_ms",
    ];
    const FLAGS: [&str; 2] = ["enabled", "is_warming_up"];
    let mut typed = Cow::Borrowed(map);
    let numbers = NUMBERS.map(|key| (key, map.get(key).and_then(number_in)));
    let flags = FLAGS.map(|key| (key, map.get(key).and_then(flag_in)));
    for (key, meant) in numbers.into_iter().chain(flags) {
        if let Some(meant) = meant {
            let found = &map[key];
            notes.push(format!("{place}/{key}: found {found}, taken as {meant}"));
            typed.to_mut().insert(key.to_owned(), meant);
        }
    }
    typed
}

fn number_in(value: &Value) -> Option<Value> {
    let text = value.as_str()?.trim();
    let number: serde_json::Number = text.parse().ok()?;
    Some(number.into())
}

fn flag_in(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Some(true.into()),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Some(false.into()),
        Value::Number(number) if number.as_u64() == Some(1) => Some(true.into()),
        Value::Number(number) if number.as_u64() == Some(0) => Some(false.into()),
        _ => None,
    }
}

/// An entry as JSON. An unreadable value affects only itself.
pub fn read_item_value(raw: &RawValue, place: &str, notes: &mut Vec<String>) -> Value {
    let mut faults = Faults::default();
    let value = read_raw(raw, place, &mut faults);
    notes.extend(named(&faults, "value ignored"));
    value
}

/// The `backends` of a source document, each as it is written.
///
/// # Errors
/// A fault if there is no such array.
pub fn take_raw_backends<'a>(document: &RawObject<'a>) -> Result<Vec<&'a RawValue>, Faults> {
    let found = document.get("backends");
    found.and_then(raw_items).ok_or_else(|| {
        let mut faults = Faults::default();
        let found = found.map_or("nothing", RawValue::get);
        faults.add("/backends", found, "an array, which may be empty");
        faults
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(entry: Value) -> (Option<Said>, Vec<String>) {
        let mut notes = Vec::new();
        let said = read_said(&entry, "/backends/0", &mut notes).map(|(said, _)| said);
        (said, notes)
    }

    #[test]
    fn numbers_in_strings_count_and_are_told() {
        let entry = json!({
            "ip": "10.0.0.1", "port": "9001", "weight": " 90 ", "gpu_usage": "0.5",
            "enabled": "False", "is_warming_up": 1,
        });
        let (said, notes) = read(entry);
        let said = said.expect("an entry");
        assert_eq!(said.key.to_string(), "10.0.0.1:9001");
        assert_eq!((said.weight, said.enabled), (Some(90), Some(false)));
        assert_eq!(said.is_warming_up, Some(true));
        assert_eq!(said.report.gpu_usage, Some(0.5));
        assert_eq!(notes.len(), 5);
        assert!(notes[0].contains("/backends/0/port: found \"9001\", taken as 9001"));
    }

    #[test]
    fn a_value_out_of_range_costs_itself_and_not_the_backend() {
        for (key, value) in [
            ("weight", json!(2000)),
            ("weight", json!("heavy")),
            ("weight", json!(-1)),
            ("weight", json!(1e300)),
            ("enabled", json!("maybe")),
            ("enabled", json!(7)),
            ("vram_usage", json!("NaN")),
            ("vram_usage", json!(-0.5)),
            ("heartbeat_ms", json!([])),
            ("max_batch", json!(8)),
        ] {
            let entry = json!({ "ip": "10.0.0.1", "port": 1, "gpu_usage": 0.25, key: value });
            let (said, notes) = read(entry);
            let said = said.expect("the backend stays");
            let backend = said.over(None);
            assert_eq!((backend.weight, backend.enabled), (10, true), "{key}");
            assert_eq!(backend.report.gpu_usage, Some(0.25), "{key}");
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert!(notes[0].ends_with("value ignored"));
        }
    }

    #[test]
    fn an_entry_of_a_pool_that_has_no_name_is_none() {
        let (said, _) = read(json!({ "ip": "10.0.0.1", "port": 1, "pool": "chat" }));
        assert_eq!(said.expect("an entry").key.to_string(), "chat/10.0.0.1:1");
        // Its traffic would go to another service.
        let (said, notes) = read(json!({ "ip": "10.0.0.1", "port": 1, "pool": "Chat" }));
        assert!(
            said.is_none() && notes[0].starts_with("/backends/0/pool"),
            "{notes:?}"
        );
    }

    #[test]
    fn an_entry_without_an_address_is_none() {
        for (ip, port) in [
            (json!("gpu-1"), json!(1)),
            (json!("10.0.0.1"), json!(0)),
            (json!("10.0.0.1"), json!("0x1f")),
            (json!(7), json!(1)),
            (json!("224.0.0.1"), json!(1)),
        ] {
            let (said, notes) = read(json!({ "ip": ip, "port": port }));
            assert!(said.is_none());
            assert!(notes[0].ends_with("entry skipped"), "{notes:?}");
        }
    }

    #[test]
    fn what_a_source_does_not_mention_is_left_to_the_one_below() {
        let (below, _) = read(json!({
            "ip": "10.0.0.1", "port": 1, "weight": 90, "enabled": false, "is_warming_up": true,
            "max_batch": 8, "batch_window_ms": 10, "gpu_usage": 0.25,
        }));
        let below = below.expect("an entry").over(None);
        let (silent, _) = read(json!({"ip": "10.0.0.1", "port": 1}));
        assert_eq!(silent.expect("an entry").over(Some(&below)), below);
        let (said, _) = read(json!({
            "ip": "10.0.0.1", "port": 1, "weight": 0, "enabled": true, "vram_usage": 0.5,
        }));
        let both = said.expect("an entry").over(Some(&below));
        assert_eq!((both.weight, both.enabled), (0, true));
        let figures = (both.report.gpu_usage, both.report.vram_usage);
        assert_eq!(figures, (None, Some(0.5)), "two half reports never mix");
    }
}
