//! `openapi.json`: the table of operations and the schemas of their types, as OpenAPI 3.1.

mod base;
mod operation;
mod schemas;
mod v1;

use serde_json::{Map, Value, json};

pub use operation::{Need, Operation};

use operation::{Form, Parameter, Shape};
use schemas::{clean, generator};

/// The document as it is served. A test compares it with [`generate`].
pub const DOCUMENT: &str = include_str!("../../openapi.json");

const ABOUT: &str = "Programs register and refresh backends with POST /api/register. Under /api/v1, lists have cursors, \
    writes name the revision that they were made for (If-Match), and errors are problem documents (RFC 9457) whose \
    `errors` give the JSON pointer of each fault. The older paths answer {ok: false, error, faults}. Send a token as \
    Authorization: Bearer, or sign in with it; `security` names the scope that each call needs. Without tokens, \
    control serves only clients on this machine. docs/api.md describes the calls.";

/// Every call under `/api/`.
pub fn operations() -> Vec<Operation> {
    let mut all = base::operations();
    all.extend(v1::operations());
    all
}

/// The text of `openapi.json`.
pub fn generate() -> String {
    let mut generator = generator();
    // Types that no operation names by itself.
    generator.subschema_for::<crate::base::Refusal>();
    generator.subschema_for::<crate::v1::Problem>();
    let mut paths = Map::new();
    for operation in operations() {
        let item = paths
            .entry(operation.path)
            .or_insert_with(|| Map::new().into());
        item[operation.method.to_lowercase()] = described(&operation, &mut generator);
    }
    let mut schemas = Value::Object(generator.take_definitions(true));
    clean(&mut schemas);
    let whole = json!({
        "openapi": "3.1.0",
        "info": { "title": "Wicketgate control plane", "version": "1", "description": ABOUT },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "A token of control_server token create, or of control_config.json",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "wicketgate_session_8080",
                    "description": "Set by POST /api/v1/session; the name ends with control's port. Calls that \
                                    change something also need control's own Origin",
                },
            },
            "schemas": schemas,
        },
    });
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&whole, &mut serializer).expect("a value is written to memory");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn described(operation: &Operation, generator: &mut schemars::SchemaGenerator) -> Value {
    let mut item = json!({ "summary": operation.summary });
    if let Some(description) = operation.description {
        item["description"] = description.into();
    }
    item["security"] = match operation.need {
        Need::Nothing => json!([{}]),
        need => json!([{ "token": [need.scope()] }, { "session": [need.scope()] }, {}]),
    };
    if !operation.parameters.is_empty() {
        item["parameters"] = operation
            .parameters
            .iter()
            .map(Parameter::describe)
            .collect();
    }
    if let Some(request) = operation.request {
        let schema = schema(request, generator);
        let content = json!({ "application/json": { "schema": schema } });
        item["requestBody"] = json!({ "required": true, "content": content });
    }
    let mut responses = Map::new();
    let answer = &operation.answer;
    let schema_of_answer = schema(answer.shape, generator);
    let mut good = json!({ "description": answer.description });
    if let Some((name, description)) = answer.header {
        let text = json!({ "type": "string" });
        good["headers"] = json!({ name: { "description": description, "schema": text } });
    }
    good["content"] = json!({ answer.content_type: { "schema": schema_of_answer } });
    responses.insert("200".to_owned(), good);
    let mut refusals = operation.refusals.clone();
    refusals.sort_by_key(|refusal| refusal.status);
    for refusal in refusals {
        let usual: Shape = match operation.form() {
            Form::Base => |generator| generator.subschema_for::<crate::base::Refusal>(),
            Form::V1 => |generator| generator.subschema_for::<crate::v1::Problem>(),
        };
        let shape = refusal.shape.unwrap_or(usual);
        let content_type = match operation.form() {
            Form::Base => "application/json",
            Form::V1 => "application/problem+json",
        };
        let content = json!({ content_type: { "schema": schema(shape, generator) } });
        let described = json!({ "description": refusal.words, "content": content });
        responses.insert(refusal.status.to_string(), described);
    }
    item["responses"] = responses.into();
    item
}

fn schema(shape: Shape, generator: &mut schemars::SchemaGenerator) -> Value {
    let mut schema = shape(generator).to_value();
    clean(&mut schema);
    schema
}
