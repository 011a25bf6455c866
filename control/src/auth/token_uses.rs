//! `data/token_uses.json`: when each token was last used, for `token list`. It is written every ten
//! seconds at most and may be lost; no decision depends on it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::bounded_read::read_file;

/// More than [`super::token_file::MAX_TOKENS`] lines need.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Unix seconds by the token's id.
pub type TokenUses = BTreeMap<String, u64>;

/// Reads the file; empty if it cannot be read.
pub fn read(path: &Path) -> TokenUses {
    let bytes = read_file(path, MAX_FILE_BYTES).ok().flatten();
    let document: Option<Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let uses = document
        .as_ref()
        .and_then(|document| document["last_used"].as_object());
    let uses = uses.into_iter().flatten();
    uses.filter_map(|(id, at)| Some((id.clone(), at.as_u64()?)))
        .collect()
}

pub fn write(path: &Path, uses: &TokenUses) -> io::Result<()> {
    let text = json!({ "last_used": uses }).to_string();
    Ok(contract::publish::publish_private(path, text.as_bytes())?)
}
