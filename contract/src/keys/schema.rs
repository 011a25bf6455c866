//! The table as a JSON Schema (draft 2020-12) of `proxy_config.json`, for editors and other programs.

use serde_json::{Map, Value as Json, json};

use super::{Key, Kind, Place, Topic, Value, topics};
use crate::config::{Algorithm, MAX_HOSTS, MAX_LISTENERS, MAX_POOLS};
use crate::health::MAX_PAYLOAD_BYTES;
use crate::route::{MAX_ROUTES, MAX_SHARE, MAX_SPLIT};

/// The schema of `proxy_config.json`. It knows each key's kind and range; what keys say together, `--check` knows.
pub fn schema() -> Json {
    let mut top = json!({
        "listen": listen(),
        "listeners": { "type": "array", "maxItems": MAX_LISTENERS, "items": listener() },
        "pools": { "type": "object", "maxProperties": MAX_POOLS,
                   "propertyNames": { "$ref": "#/$defs/name" }, "additionalProperties": pool() },
        "backends": { "$ref": "#/$defs/backends" },
        "updated_at": { "type": ["number", "null"], "description": "When it was written, in unix seconds" },
        "generation": { "type": ["integer", "null"], "minimum": 0,
                        "description": "Control's number of this configuration; it only grows" },
    });
    extend(&mut top, algorithm());
    extend(&mut top, keys_of(|_| true));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "proxy_config.json",
        "type": "object",
        "properties": top,
        "additionalProperties": false,
        "anyOf": [{ "required": ["listen"] }, { "required": ["listeners"] }],
        "$defs": {
            "name": { "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,62}$" },
            "share": { "type": ["number", "null"], "minimum": 0, "maximum": 1 },
            "backends": { "type": "array", "maxItems": 20_000, "items": backend() },
        },
    })
}

fn listen() -> Json {
    json!({
        "type": "object",
        "description": "Where the listener `default` accepts",
        "properties": {
            "host": { "type": "string" },
            "port": port(),
            "tcp": { "type": ["boolean", "null"], "default": true },
            "udp": { "type": ["boolean", "null"], "default": true },
        },
        "required": ["host", "port"],
        "additionalProperties": false,
    })
}

fn listener() -> Json {
    let mut properties = json!({
        "name": { "$ref": "#/$defs/name" },
        "host": { "anyOf": [{ "type": "string" },
                            { "type": "array", "minItems": 1, "maxItems": MAX_HOSTS, "items": { "type": "string" } }] },
        "port": port(),
        "enabled": { "type": ["boolean", "null"], "default": true },
        "protocol": { "enum": ["tcp", "udp", "tcp+udp", null], "default": "tcp+udp" },
        "routes": { "type": ["array", "null"], "minItems": 1, "maxItems": MAX_ROUTES, "items": route() },
    });
    extend(&mut properties, target());
    extend(&mut properties, keys_of(|place| place == Place::Listener));
    json!({
        "type": "object",
        "properties": properties,
        "required": ["name", "host", "port"],
        "additionalProperties": false,
    })
}

/// A pool, or several that share.
fn target() -> Json {
    let share = json!({ "type": "integer", "minimum": 0, "maximum": MAX_SHARE });
    json!({
        "pool": { "anyOf": [{ "$ref": "#/$defs/name" }, { "type": "null" }], "default": "default" },
        "split": {
            "type": ["object", "null"], "minProperties": 1, "maxProperties": MAX_SPLIT,
            "propertyNames": { "$ref": "#/$defs/name" }, "additionalProperties": share,
        },
        "split_by": { "enum": ["turn", "source", null], "default": "turn" },
    })
}

fn route() -> Json {
    let texts = |most: usize| json!({ "type": ["array", "null"], "minItems": 1, "maxItems": most, "items": { "type": "string" } });
    let mut properties = json!({ "source": texts(256), "sni": texts(256), "alpn": texts(32) });
    extend(&mut properties, target());
    json!({
        "type": "object",
        "properties": properties,
        "anyOf": [{ "required": ["pool"] }, { "required": ["split"] }],
        "additionalProperties": false,
    })
}

fn pool() -> Json {
    let mut properties = json!({ "backends": { "$ref": "#/$defs/backends" } });
    extend(&mut properties, algorithm());
    extend(&mut properties, keys_of(|place| place == Place::Pool));
    json!({
        "type": "object",
        "properties": properties,
        "required": ["backends"],
        "additionalProperties": false,
    })
}

fn backend() -> Json {
    json!({
        "type": "object",
        "properties": {
            "ip": { "type": "string" },
            "port": port(),
            "weight": { "type": ["integer", "null"], "minimum": 0, "maximum": 1000, "default": 10 },
            "enabled": { "type": ["boolean", "null"], "default": true },
            "is_warming_up": { "type": ["boolean", "null"], "default": false },
            "gpu_usage": { "$ref": "#/$defs/share" },
            "vram_usage": { "$ref": "#/$defs/share" },
            "reported_at_ms": { "type": ["integer", "null"], "minimum": 0 },
            "heartbeat_ms": { "type": ["integer", "null"], "minimum": 1, "maximum": 3_600_000 },
            "max_batch": { "type": ["integer", "null"], "minimum": 1, "maximum": 4096 },
            "batch_window_ms": { "type": ["integer", "null"], "minimum": 0, "maximum": 10_000 },
        },
        "required": ["ip", "port"],
        "additionalProperties": false,
    })
}

fn port() -> Json {
    json!({ "type": "integer", "minimum": 1, "maximum": 65_535 })
}

fn algorithm() -> Json {
    let names: Vec<&str> = Algorithm::ALL.iter().map(|(name, _)| *name).collect();
    json!({ "algorithm": { "enum": or_null(&names), "default": "weighted_round_robin" } })
}

/// The keys that may stand at a place, objects whole.
fn keys_of(may_stand: impl Fn(Place) -> bool) -> Json {
    let mut properties = Map::new();
    for Topic { inside, keys, .. } in topics() {
        let keys = keys.iter().filter(|key| may_stand(key.place));
        let own: Map<String, Json> = keys.flat_map(of_key).collect();
        match inside {
            None => properties.extend(own),
            Some(_) if own.is_empty() => {}
            Some(object) => {
                let object_of = json!({
                    "type": ["object", "null"], "properties": own, "additionalProperties": false,
                });
                properties.insert((*object).to_owned(), object_of);
            }
        }
    }
    properties.into()
}

/// A key, and the other one that says the same in hexadecimal.
fn of_key(key: &Key) -> Vec<(String, Json)> {
    let mut schema = match key.kind {
        Kind::Integer(min, max) => {
            json!({ "type": ["integer", "null"], "minimum": min, "maximum": max })
        }
        Kind::Number(min, max) => {
            json!({ "type": ["number", "null"], "minimum": min, "maximum": max })
        }
        Kind::Choice(names) => json!({ "enum": or_null(names) }),
        Kind::Text => json!({
            "type": ["string", "null"], "minLength": 1, "maxLength": 1024, "pattern": "^[!-~]*$",
        }),
        Kind::Payload(_) => json!({ "type": ["string", "null"], "maxLength": MAX_PAYLOAD_BYTES }),
        Kind::Networks => json!({
            "type": ["array", "null"], "maxItems": 256, "items": { "type": "string" },
        }),
        Kind::StatusRange => json!({
            "type": ["array", "null"], "minItems": 2, "maxItems": 2,
            "items": { "type": "integer", "minimum": 100, "maximum": 599 },
        }),
    };
    schema["description"] = key.meaning.0.into();
    if key.default != Value::None {
        schema["default"] = key.default.to_json();
    }
    let mut all = vec![(key.name.to_owned(), schema.clone())];
    if let Kind::Payload(hex) = key.kind {
        schema["maxLength"] = (2 * MAX_PAYLOAD_BYTES).into();
        schema["pattern"] = "^([0-9a-fA-F]{2})*$".into();
        all.push((hex.to_owned(), schema));
    }
    all
}

/// `null` is the same as an absent key.
fn or_null(names: &[&str]) -> Vec<Json> {
    let names = names.iter().map(|name| json!(name));
    names.chain([Json::Null]).collect()
}

fn extend(object: &mut Json, more: Json) {
    if let (Json::Object(object), Json::Object(more)) = (object, more) {
        object.extend(more);
    }
}
