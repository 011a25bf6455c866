//! `edits.jsonl`: each edit appends a line; when the file has twice as many lines as are kept, it is
//! rewritten.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::Value;

use super::{Edit, Edits, KEPT};
use crate::bounded_read::read_file;

/// The most bytes that are read at a start: a change of all backends is a line of 2 MB.
const MAX_BYTES: usize = 256 << 20;

/// Lines that are named in the log, of those that are left out.
const NAMED: usize = 20;

#[derive(Debug)]
pub struct EditsFile {
    path: PathBuf,
    /// Lines that stand there; `None` where it is to be written whole.
    lines: Option<usize>,
    /// Why it could not be written the last time.
    failing: Option<String>,
}

impl EditsFile {
    /// The file, and what it says. Lines that cannot be read are left out, and named in the log: the list
    /// is shorter then.
    pub fn open(path: &Path) -> (EditsFile, Edits) {
        let bytes = read_file(path, MAX_BYTES).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; ignored", path.display());
            Some(Vec::new())
        });
        let bytes = bytes.unwrap_or_default();
        let mut lines = 0;
        let mut left_out = 0;
        let mut edits = Edits::default();
        let written = bytes.split(|byte| *byte == b'\n').enumerate();
        for (place, line) in written.filter(|(_, line)| !line.is_empty()) {
            lines += 1;
            if let Err(why) = take(&mut edits, line) {
                left_out += 1;
                if left_out <= NAMED {
                    let (path, number) = (path.display(), place + 1);
                    tracing::warn!("{path}: line {number} is left out: {why}");
                }
            }
        }
        if left_out > NAMED {
            let more = left_out - NAMED;
            tracing::warn!("{}: {more} more lines are left out", path.display());
        }
        // A line that a crash has cut must not become one with the next.
        let is_whole = bytes.last().is_none_or(|byte| *byte == b'\n') && left_out == 0;
        let file = EditsFile {
            path: path.to_owned(),
            lines: is_whole.then_some(lines),
            failing: None,
        };
        (file, edits)
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
        self.lines = written.is_ok().then_some(lines);
        let was_failing = self.failing.is_some();
        self.failing = written.err().map(|error| error.to_string());
        match self.failing() {
            Some(why) if !was_failing => tracing::error!("{why}"),
            None if was_failing => tracing::info!("{} is written again", self.path.display()),
            Some(_) | None => {}
        }
    }

    /// A line that stands there is no longer right: the next edit writes the whole file.
    pub fn replace_next(&mut self) {
        self.lines = None;
    }

    /// That it cannot be written, for the list of warnings.
    pub fn failing(&self) -> Option<String> {
        let error = self.failing.as_ref()?;
        let path = self.path.display();
        Some(format!("{path} cannot be written: {error}; retrying"))
    }
}

/// Takes over the edit of a line, or says why it is left out.
fn take(edits: &mut Edits, line: &[u8]) -> Result<(), String> {
    let value = serde_json::from_slice::<Value>(line);
    let value = value.map_err(|error| format!("not JSON: {error}"))?;
    let edit = Edit::from_json(&value).ok_or("not an edit that this version knows")?;
    let (number, last) = (edit.number, edits.last);
    match edits.take(edit) {
        true => Ok(()),
        false => Err(format!("its number {number} does not follow {last}")),
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    // A FIFO in its place would block.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).custom_flags(flags);
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
