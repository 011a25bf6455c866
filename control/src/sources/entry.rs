//! One backend of a source file.

use contract::config::{DEFAULT_WEIGHT, MAX_WEIGHT, read_backend_addr, read_report};
use contract::{Backend, Batch, Faults, Object, Report};
use serde_json::{Map, Value};

/// Reads one entry, or says why it cannot be used. A bad figure costs only the figures: a backend
/// whose exporter is confused still serves.
pub fn read_backend<'a>(
    value: &'a Value,
    place: &str,
    notes: &mut Vec<String>,
) -> Option<(Backend, &'a Map<String, Value>)> {
    let Value::Object(map) = value else {
        notes.push(format!("{place}: found {value}, allowed: an object"));
        return None;
    };
    let mut object = Object::new(map, place);
    let mut faults = Faults::default();
    let addr = read_backend_addr(&mut object, &mut faults);
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, &mut faults);
    let enabled = object.take_bool("enabled", &mut faults);
    let is_warming_up = object.take_bool("is_warming_up", &mut faults);
    let mut bad_figures = Faults::default();
    let report = read_report(&mut object, &mut bad_figures);
    let batch = Batch::read(&mut object, &mut bad_figures);
    notes.extend(
        faults
            .0
            .iter()
            .map(|fault| format!("{fault}; entry skipped")),
    );
    let addr = addr.filter(|_| faults.is_empty())?;
    notes.extend(
        bad_figures
            .0
            .iter()
            .map(|fault| format!("{fault}; taken as unknown")),
    );
    let backend = Backend {
        addr,
        weight: weight.map_or(DEFAULT_WEIGHT, |weight| weight as u16),
        enabled: enabled.unwrap_or(true),
        is_warming_up: is_warming_up.unwrap_or(false),
        report: if bad_figures.is_empty() {
            report
        } else {
            Report::default()
        },
        batch,
    };
    Some((backend, map))
}

/// The `backends` of a source document.
///
/// # Errors
/// A fault where there is no such array.
pub fn take_backends(document: &Map<String, Value>) -> Result<&[Value], Faults> {
    match document.get("backends") {
        Some(Value::Array(items)) => Ok(items),
        other => {
            let mut faults = Faults::default();
            let found = other.map_or("nothing".to_owned(), Value::to_string);
            faults.add("/backends", found, "an array, maybe empty");
            Err(faults)
        }
    }
}
