//! The schemas of types in the form that readers of the document see.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Of what is written: a member that is always there is required, `null` or not.
pub fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let settings = settings.with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

/// The largest values of Rust's types: no bound of a call.
const MOST_OF_TYPES: [u64; 3] = [u8::MAX as u64, u16::MAX as u64, u32::MAX as u64];

/// Removes what only says how Rust keeps a value, and writes descriptions as phrases in one line.
pub fn clean(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(members) => {
            // A property may have one of these names: then it is a schema.
            for name in ["format", "title"] {
                if members.get(name).is_some_and(Value::is_string) {
                    members.shift_remove(name);
                }
            }
            if members.get("additionalProperties") == Some(&Value::Bool(true)) {
                members.shift_remove("additionalProperties");
            }
            let is_empty = |value: &Value| *value == json!([]) || *value == json!({});
            if members.get("default").is_some_and(is_empty) {
                members.shift_remove("default");
            }
            let is_whole_type = members.get("minimum") == Some(&json!(0));
            let most = members.get("maximum").and_then(Value::as_u64);
            if is_whole_type && most.is_some_and(|most| MOST_OF_TYPES.contains(&most)) {
                members.shift_remove("maximum");
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = phrase(text);
            }
            members.values_mut().for_each(clean);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn phrase(comment: &str) -> String {
    let line = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.strip_suffix('.') {
        // Several sentences keep all their points.
        Some(phrase) if !phrase.contains(". ") => phrase.to_owned(),
        Some(_) | None => line,
    }
}
