//! The file of the audit log: lines in order, each with its number; rotated when it is full. The
//! writer waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::tail;
use crate::clock::{Clock, Now};

pub struct Log {
    pub path: PathBuf,
    max_bytes: u64,
    files: u64,
    clock: Clock,
    /// The number of the last line; locked while a line is written.
    number: Mutex<u64>,
    /// The same, for readers that wait for the next line.
    last: watch::Sender<u64>,
    lines: AtomicU64,
    failures: AtomicU64,
    /// The last write failed: a full disk is reported once, not for each line.
    failing: Mutex<Option<Failing>>,
}

/// The audit log cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Lines that were lost since then.
    pub lost: u64,
    pub error: String,
}

/// One line, but for its number.
pub struct Line {
    pub at: Now,
    pub actor: String,
    pub action: &'static str,
    pub target: String,
    pub result: String,
    pub more: Map<String, Value>,
}

impl Log {
    pub fn open(path: &Path, max_bytes: u64, files: u64, clock: Clock) -> Log {
        let number = [path.to_owned(), numbered(path, 1)]
            .iter()
            .find_map(|path| last_number(path))
            .unwrap_or(0);
        end_cut_line(path);
        Log {
            path: path.to_owned(),
            max_bytes,
            files,
            clock,
            number: Mutex::new(number),
            last: watch::Sender::new(number),
            lines: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failing: Mutex::default(),
        }
    }

    /// Nothing is written while this lives, as where the disk does not answer.
    #[cfg(test)]
    pub fn hold(&self) -> MutexGuard<'_, u64> {
        lock(&self.number)
    }

    pub fn last(&self) -> &watch::Sender<u64> {
        &self.last
    }

    /// Lines written and lines that could not be, since the start.
    pub fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.lines), load(&self.failures))
    }

    pub fn failing(&self) -> Option<Failing> {
        lock(&self.failing).clone()
    }

    /// Writes a line.
    pub fn write(&self, line: Line) {
        let mut number = lock(&self.number);
        // Before whatever comes behind what was lost.
        self.write_lost(&mut number);
        *number += 1;
        let mut value = json!({
            "time": time_of(line.at.unix_ms), "seq": *number, "actor": line.actor,
            "action": line.action, "target": line.target, "result": line.result,
        });
        value
            .as_object_mut()
            .expect("an object just above")
            .extend(line.more);
        match self.append(one_line(&value).as_bytes()) {
            Ok(()) => {
                self.lines.fetch_add(1, Ordering::Relaxed);
                self.last.send_replace(*number);
            }
            // Readers of the next line keep waiting: there is none to read.
            Err(error) => self.lose(&error.to_string()),
        }
    }

    /// Tries to write again, where lines were lost.
    pub fn retry(&self) {
        self.write_lost(&mut lock(&self.number));
    }

    /// A line is lost.
    pub fn lose(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut failing = lock(&self.failing);
        let failing = failing.get_or_insert_with(|| {
            let path = self.path.display();
            tracing::error!("audit log {path}: {error}; lines are being lost");
            Failing {
                since_ms: self.clock.now().unix_ms,
                lost: 0,
                error: error.to_owned(),
            }
        });
        failing.lost += 1;
    }

    /// The line that says how many were lost; once it is written, none of those is any more.
    fn write_lost(&self, number: &mut u64) {
        let Some(Failing { since_ms, lost, .. }) = self.failing() else {
            return;
        };
        let since = time_of(since_ms);
        let line = json!({
            "time": time_of(self.clock.now().unix_ms), "seq": *number + 1, "actor": "control: audit",
            "action": "lines_lost", "target": "audit log", "result": "ok",
            "since": since, "lost": lost,
        });
        if self.append(one_line(&line).as_bytes()).is_ok() {
            *number += 1;
            self.lines.fetch_add(1, Ordering::Relaxed);
            self.last.send_replace(*number);
            let path = self.path.display();
            tracing::warn!("audit log {path}: writable again; {lost} lines lost since {since}");
            let mut failing = lock(&self.failing);
            // Some may have been lost since.
            *failing = failing.take().filter(|failing| failing.lost > lost);
            if let Some(failing) = failing.as_mut() {
                failing.lost -= lost;
            }
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = match open_to_append(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
                open_to_append(&self.path)?
            }
            opened => opened?,
        };
        let mut length = file.metadata()?.len();
        if length + line.len() as u64 > self.max_bytes {
            self.rotate()?;
            file = open_to_append(&self.path)?;
            length = 0;
        }
        // A disk that filled up in the middle of a line must not spoil the next one.
        file.write_all(line)
            .inspect_err(|_| _ = file.set_len(length))
    }

    /// `audit.log` becomes `audit.log.1`, that one `.2`, and the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        if self.files == 1 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.files - 1).rev() {
            match fs::rename(
                numbered(&self.path, number),
                numbered(&self.path, number + 1),
            ) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

pub fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    path.with_file_name(name)
}

/// A kill may have cut the last line; what we write must not be glued to it. Best effort: a log
/// that cannot be written is reported at the first line.
fn end_cut_line(path: &Path) {
    let last = tail::last_lines(path, 1).unwrap_or_default();
    if !last.is_empty()
        && !last.ends_with('\n')
        && let Ok(mut file) = open_to_append(path)
    {
        let _ = file.write_all(b"\n");
    }
}

/// A line with a larger number is not ours: JSON's readers lose count there, and we never get so far.
const MAX_SEQ: u64 = 1 << 53;

/// The number of the last whole line; a kill may have cut the one after it.
fn last_number(path: &Path) -> Option<u64> {
    const LOOKED_AT: usize = 10;
    let last = tail::last_lines(path, LOOKED_AT).ok()?;
    last.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let seq = line.get("seq")?.as_u64()?;
        (seq <= MAX_SEQ).then_some(seq)
    })
}

/// RFC 3339 in UTC with milliseconds.
pub fn time_of(unix_ms: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms as i64).unwrap_or_default();
    format!("{time:.3}")
}

/// What cannot be seen and changes how the rest is: line and paragraph ends, marks of direction,
/// spaces of no width.
fn is_mark(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

/// The value as one line. JSON escapes what ends a line for most programs; what ends one for a
/// terminal or a browser (C1 controls, U+2028, U+2029, bidirectional marks) is escaped here.
fn one_line(value: &Value) -> String {
    use std::fmt::Write as _;
    let text = value.to_string();
    let mut line = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character.is_control() || is_mark(character) {
            write!(line, "\\u{:04x}", u32::from(character))
                .expect("writing to a String does not fail");
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no holder of these locks panics: they only count and write")
}
