//! `edits.jsonl`: each edit appends a line; when the file has twice as many lines as are kept, it is
//! rewritten.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Edit, Edits, KEPT};
use crate::settings::read_file;

/// The most bytes that are read at a start: a change of all backends is a line of 2 MB.
const MAX_BYTES: usize = 256 << 20;

#[derive(Debug)]
pub struct EditsFile {
    path: PathBuf,
    /// Lines that stand there; `None` where it is to be written whole.
    lines: Option<usize>,
    /// That it cannot be written was logged, and has not been put right since.
    is_told: bool,
}

impl EditsFile {
    /// The file, and what it says. Lines that cannot be read are left out: the history is shorter then.
    pub fn open(path: &Path) -> (EditsFile, Edits) {
        let bytes = read_file(path, MAX_BYTES).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; ignored", path.display());
            Some(Vec::new())
        });
        let bytes = bytes.unwrap_or_default();
        let mut lines = 0;
        let mut unread = 0;
        let mut edits = Vec::new();
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            lines += 1;
            let value = serde_json::from_slice::<Value>(line).ok();
            match value.as_ref().and_then(Edit::from_json) {
                Some(edit) => edits.push(edit),
                None => unread += 1,
            }
        }
        if unread > 0 {
            tracing::warn!("{}: {unread} lines cannot be read; ignored", path.display());
        }
        // A line that a crash has cut must not become one with the next.
        let is_whole = bytes.last().is_none_or(|byte| *byte == b'\n') && unread == 0;
        let file = EditsFile {
            path: path.to_owned(),
            lines: is_whole.then_some(lines),
            is_told: false,
        };
        (file, Edits::of(edits))
    }

    /// Writes `new`, the last of `all`. A failure undoes no edit: it is logged once, and all that is
    /// kept is written with the next one.
    pub async fn write(&mut self, new: Vec<Value>, all: impl FnOnce() -> Vec<Value>) {
        let path = self.path.clone();
        let more = self.lines.map(|lines| lines + new.len());
        let more = more.filter(|lines| *lines <= 2 * KEPT);
        let (lines, written) = match more {
            Some(lines) => {
                let append = move || append(&path, &text(&new));
                (lines, tokio::task::spawn_blocking(append).await)
            }
            None => {
                let all = all();
                let lines = all.len();
                let replace = move || {
                    contract::publish(&path, text(&all).as_bytes()).map_err(io::Error::other)
                };
                (lines, tokio::task::spawn_blocking(replace).await)
            }
        };
        let written = written.expect("writing a file does not panic");
        if let Err(error) = &written
            && !self.is_told
        {
            let path = self.path.display();
            tracing::error!("{path} cannot be written: {error}; retrying with the next edit");
        }
        self.is_told = written.is_err();
        self.lines = written.is_ok().then_some(lines);
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
