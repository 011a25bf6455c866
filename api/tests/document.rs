//! `openapi.json` is what the types and the table of operations say.
//! `WICKETGATE_WRITE=1 cargo test -p api --test document` writes it again.

use std::path::Path;

use api::document::{DOCUMENT, generate};
use serde_json::Value;

#[test]
fn the_committed_document_is_generated() {
    let expected = generate();
    if std::env::var_os("WICKETGATE_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        std::fs::write(path, &expected).expect("the file can be written");
        return;
    }
    let mut lines = DOCUMENT.lines().zip(expected.lines());
    let differs = lines.find(|(one, other)| one != other);
    assert!(
        DOCUMENT == expected,
        "openapi.json is not as the types have it: {differs:?}; \
         WICKETGATE_WRITE=1 cargo test -p api --test document writes it"
    );
}

/// Every place of a value, with what is there.
fn visit(value: &Value, place: &str, seen: &mut dyn FnMut(&str, &Value)) {
    seen(place, value);
    match value {
        Value::Array(items) => {
            for item in items {
                visit(item, &format!("{place}/-"), seen);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                visit(value, &format!("{place}/{key}"), seen);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_schema_is_used() {
    let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    let mut named = Vec::new();
    visit(&document, "", &mut |_, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            named.push(reference.to_owned());
        }
    });
    let mut unused: Vec<&String> = schemas.keys().collect();
    for reference in named {
        let name = reference
            .strip_prefix("#/components/schemas/")
            .expect("a schema");
        assert!(schemas.contains_key(name), "{reference}");
        unused.retain(|schema| *schema != name);
    }
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn every_schema_and_parameter_is_described() {
    let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .expect("schemas")
    {
        assert!(schema["description"].is_string(), "{name}");
        for (key, member) in schema["properties"].as_object().into_iter().flatten() {
            let is_known = ["weight", "enabled", "drain", "code"].contains(&key.as_str());
            let is_described = member["description"].is_string() || is_known;
            assert!(is_described, "{name}/{key}");
        }
    }
}
