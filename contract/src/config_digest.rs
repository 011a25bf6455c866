//! A digest of what a `proxy_config.json` asks for. With it, control knows that the proxy runs the
//! published file and not another one of the same generation.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::publish::digest;

/// Keys that change without a change of what is asked for.
const NOT_IN_FILE: [&str; 2] = ["updated_at", "generation"];
const NOT_IN_BACKEND: [&str; 3] = ["gpu_usage", "vram_usage", "reported_at_ms"];

/// SHA-256, in lower-case hexadecimal, of the document without `updated_at`, `generation` and the
/// backends' reports, its keys sorted and its blanks removed. Computed from the document rather than
/// from the checked configuration, so that programs of different versions agree on keys that only one
/// of them knows.
pub fn config_digest(document: &Map<String, Value>) -> String {
    let mut text = String::with_capacity(4096);
    let keys = document
        .iter()
        .filter(|(key, _)| !NOT_IN_FILE.contains(&key.as_str()));
    write_object(&mut text, keys, |text, key, value| match (key, value) {
        ("pools", Value::Object(pools)) => {
            write_object(text, pools.iter(), |text, _, pool| match pool {
                Value::Object(pool) => write_object(text, pool.iter(), write_of_pool),
                other => write_value(text, other),
            });
        }
        _ => write_of_pool(text, key, value),
    });
    digest(text.as_bytes())
}

/// A key of a pool, or of the top of the file, which is the pool `default`.
fn write_of_pool(text: &mut String, key: &str, value: &Value) {
    match (key, value) {
        ("backends", Value::Array(backends)) => write_array(text, backends, write_backend),
        _ => write_value(text, value),
    }
}

fn write_backend(text: &mut String, backend: &Value) {
    match backend {
        Value::Object(backend) => {
            let keys = backend
                .iter()
                .filter(|(key, _)| !NOT_IN_BACKEND.contains(&key.as_str()));
            write_object(text, keys, |text, _, value| write_value(text, value));
        }
        other => write_value(text, other),
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Object(map) => {
            write_object(text, map.iter(), |text, _, value| write_value(text, value));
        }
        Value::Array(items) => write_array(text, items, write_value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

fn write_object<'a>(
    text: &mut String,
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
    mut write: impl FnMut(&mut String, &str, &Value),
) {
    let sorted: BTreeMap<&String, &Value> = entries.collect();
    text.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(key.as_str()).to_string());
        text.push(':');
        write(text, key, value);
    }
    text.push('}');
}

fn write_array(text: &mut String, items: &[Value], mut write: impl FnMut(&mut String, &Value)) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
    text.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(document: Value) -> String {
        match document {
            Value::Object(map) => config_digest(&map),
            _ => panic!("an object"),
        }
    }

    #[test]
    fn times_generation_reports_and_order_of_keys_do_not_change_it() {
        let one = of(json!({
            "listen": {"host": "::", "port": 1}, "updated_at": 1, "generation": 1,
            "backends": [{"ip": "10.0.0.1", "port": 1, "gpu_usage": 0.5, "vram_usage": null}],
        }));
        let two = of(json!({
            "generation": 9, "updated_at": 7.5,
            "backends": [{"reported_at_ms": 3, "port": 1, "ip": "10.0.0.1", "vram_usage": 0.1}],
            "listen": {"port": 1, "host": "::"},
        }));
        assert_eq!(one, two);
    }

    #[test]
    fn everything_else_does() {
        let base = json!({
            "listen": {"host": "::", "port": 1}, "algorithm": "random",
            "backends": [{"ip": "10.0.0.1", "port": 1, "weight": 1}, {"ip": "10.0.0.2", "port": 1}],
        });
        let changed = |pointer: &str, value: Value| {
            let mut document = base.clone();
            *document.pointer_mut(pointer).expect("there") = value;
            of(document)
        };
        let before = of(base.clone());
        assert_ne!(before, changed("/listen/port", json!(2)));
        assert_ne!(before, changed("/algorithm", json!("source_hash")));
        assert_ne!(before, changed("/backends/0/weight", json!(2)));
        assert_ne!(before, changed("/backends", json!([])));
        // Unknown keys count: only one of the two sides may know them.
        assert_ne!(
            before,
            changed("/listen", json!({"host": "::", "port": 1, "new": true}))
        );
    }
}
