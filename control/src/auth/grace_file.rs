//! `data/grace.json`: whether control last served without tokens, and, if the first tokens came from
//! `control_config.json`, until when registrations of that time can be refreshed without one. For tokens of
//! `token create`, the token file has this time.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::bounded_read::read_file;

const MAX_FILE_BYTES: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Unknown, or with tokens and no grace period.
    WithTokens,
    WithoutTokens,
    /// With tokens, and a grace period until then, in Unix seconds.
    Grace(u64),
}

/// Reads the file; without a readable one there is no grace period.
pub fn read(path: &Path) -> Served {
    let bytes = read_file(path, MAX_FILE_BYTES).ok().flatten();
    let document: Option<Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let document = document.unwrap_or_default();
    match document["grace_until"].as_u64() {
        Some(until_s) => Served::Grace(until_s),
        None if document["without_tokens"] == true => Served::WithoutTokens,
        None => Served::WithTokens,
    }
}

pub fn write(path: &Path, served: Served) -> io::Result<()> {
    let document = match served {
        Served::WithTokens => json!({ "without_tokens": false }),
        Served::WithoutTokens => json!({ "without_tokens": true }),
        Served::Grace(until_s) => json!({ "without_tokens": false, "grace_until": until_s }),
    };
    let text = format!("{document}\n");
    Ok(contract::publish::publish_private(path, text.as_bytes())?)
}
