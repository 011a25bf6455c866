//! `published_sources.json`: which sources each published backend came from.
//!
//! If control starts without `k8s_endpoints.json`, it keeps the published backends, since discovery may not have
//! written yet. With this file it recognizes backends that only the static list or the registry had, and no
//! longer has. A backend that the file does not name was published by another program.

use std::collections::BTreeMap;
use std::path::Path;

use contract::config::MAX_FILE_BYTES;
use contract::{BackendKey, Faults, Name, Object, parse_object};
use serde_json::json;

use super::kept_file::KeptFile;
use crate::base::{read_key, write_pool};
use crate::bounded_read::read_file;
use crate::merge::Row;
use crate::sources::push_backends;

/// The words for what is no source of discovery.
const RUNTIME: &str = "runtime";
const STATIC: &str = "static";

/// What lists one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    pub runtime: bool,
    pub r#static: bool,
    /// The names of the sources.
    pub discovered_by: Vec<Name>,
}

pub type SourcesOf = BTreeMap<BackendKey, Sources>;

/// The file, and what it is known to say.
#[derive(Debug)]
pub struct SourcesFile {
    file: KeptFile,
    known: SourcesOf,
}

impl Sources {
    fn of(row: &Row) -> Sources {
        Sources {
            runtime: row.registered.is_some(),
            r#static: row.is_static,
            discovered_by: row.discovered_by.clone(),
        }
    }

    /// In the words of `GET /api/backends`.
    fn words(&self) -> Vec<&str> {
        let words = [(self.runtime, RUNTIME), (self.r#static, STATIC)];
        let named = words
            .into_iter()
            .filter_map(|(is, word)| is.then_some(word));
        let discovered_by = self.discovered_by.iter().map(Name::as_str);
        named.chain(discovered_by).collect()
    }
}

pub fn of_rows(rows: &[Row]) -> SourcesOf {
    rows.iter()
        .map(|row| (row.key.clone(), Sources::of(row)))
        .collect()
}

/// The content of the file; empty if it is missing or cannot be read.
pub fn read(path: &Path) -> SourcesOf {
    let parse = |bytes: Vec<u8>| parse(&bytes).map_err(|faults| faults.to_string());
    let found = match read_file(path, MAX_FILE_BYTES) {
        Ok(None) => return SourcesOf::new(),
        Ok(Some(bytes)) => parse(bytes),
        Err(error) => Err(error.to_string()),
    };
    found.unwrap_or_else(|why| {
        tracing::warn!("{}: {why}; ignored", path.display());
        SourcesOf::new()
    })
}

fn parse(bytes: &[u8]) -> Result<SourcesOf, Faults> {
    let document = parse_object(bytes, MAX_FILE_BYTES)?;
    let items = document.get("backends").and_then(|items| items.as_array());
    let entries = items.into_iter().flatten().filter_map(|item| {
        let mut object = Object::new(item.as_object()?, "");
        let key = read_key(&mut object, &mut Faults::default())?;
        let words = item.get("sources")?.as_array()?;
        let words = || words.iter().filter_map(|word| word.as_str());
        let sources = words().filter(|word| ![RUNTIME, STATIC].contains(word));
        let sources = Sources {
            runtime: words().any(|word| word == RUNTIME),
            r#static: words().any(|word| word == STATIC),
            discovered_by: sources.filter_map(Name::new).collect(),
        };
        Some((key, sources))
    });
    Ok(entries.collect())
}

fn render(known: &SourcesOf, updated_at: u64) -> Vec<u8> {
    let mut text = format!("{{\n  \"updated_at\": {updated_at},\n");
    let entries = known.iter().map(|(key, sources)| {
        let addr = key.addr;
        let mut entry = json!({"ip": addr.ip(), "port": addr.port(), "sources": sources.words()});
        write_pool(key, entry.as_object_mut().expect("it is one"));
        entry
    });
    push_backends(&mut text, entries);
    text.into_bytes()
}

impl SourcesFile {
    /// The file at `path`, which says `known`.
    pub fn at(path: &Path, known: SourcesOf) -> SourcesFile {
        SourcesFile {
            file: KeptFile::at(path),
            known,
        }
    }

    /// Has the file name the backends that are about to be published, and still those that are
    /// published until then: a crash in between makes neither unknown.
    pub async fn keep_before(&mut self, wanted: &SourcesOf, updated_at: u64) {
        let gone = self
            .known
            .iter()
            .filter(|(key, _)| !wanted.contains_key(key));
        let mut both: SourcesOf = gone
            .map(|(key, sources)| (key.clone(), sources.clone()))
            .collect();
        both.extend(
            wanted
                .iter()
                .map(|(key, sources)| (key.clone(), sources.clone())),
        );
        self.keep(both, updated_at).await;
    }

    /// Has the file name the published backends and no other. A failure holds up no publish: it is
    /// logged once, and tried again at the next call.
    pub async fn keep(&mut self, wanted: SourcesOf, updated_at: u64) {
        if self.known == wanted {
            return;
        }
        if self.file.write(render(&wanted, updated_at)).await {
            self.known = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::parse_key;

    #[test]
    fn what_is_written_is_read_back() {
        let sources = |runtime, r#static, discovered_by: &[&str]| Sources {
            runtime,
            r#static,
            discovered_by: discovered_by
                .iter()
                .copied()
                .filter_map(Name::new)
                .collect(),
        };
        let key = |id| parse_key(id).expect("an id");
        let known = SourcesOf::from([
            (key("10.0.0.1:1"), sources(true, false, &[])),
            (
                key("10.0.0.2:1"),
                sources(false, true, &["k8s", "k8s-east"]),
            ),
            (key("chat/10.0.0.1:1"), sources(false, false, &["k8s"])),
            (key("[2001:db8::7]:9001"), sources(true, true, &[])),
        ]);
        assert_eq!(parse(&render(&known, 7)).expect("readable"), known);
    }

    #[test]
    fn what_is_no_such_file_names_nothing() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("published_sources.json");
        assert_eq!(read(&path), SourcesOf::new());
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"backends": [7, {"ip": "10.0.0.1", "port": 1}, {"ip": "gpu-1", "port": 1, "sources": []}]}"#,
        ] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(read(&path), SourcesOf::new(), "{text}");
        }
    }
}
