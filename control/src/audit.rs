//! The audit log: who did what to what, as one JSON object a line.
//!
//! Every mutation has its line before its answer is sent, refused ones too. What repeats (polling
//! pages, heartbeats that change nothing) has one line at first and then one a minute with a count.
//! A line is one `write` to a file opened for appending, so lines never mix; the file is opened
//! anew each time, so that a log moved away or a disk that recovers needs no restart.

mod tail;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use contract::BackendAddr;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::actor::Actor;
use crate::clock::{Clock, Now};

/// How many different repeated events are counted apart; more share one count.
const MAX_REPEATS: usize = 512;
/// The longest target, and the longest result of what is only noted; a hostile path or Host may be
/// longer.
const LONGEST: usize = 256;
/// The longest result of a mutation: room for what was wrong with it, not for all that was sent.
const LONGEST_RESULT: usize = 1024;

pub struct Audit {
    path: PathBuf,
    max_bytes: u64,
    files: u64,
    clock: Clock,
    inner: Mutex<Inner>,
    /// The number of the last line, for those who wait for the next.
    seq: watch::Sender<u64>,
    lines: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Inner {
    seq: u64,
    repeats: HashMap<Repeated, u64>,
    heartbeats: u64,
    heartbeat_backends: BTreeSet<BackendAddr>,
    /// The last write failed: a full disk is told once and not per line.
    failing: Option<Failing>,
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

/// An event that is listed once and then counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Repeated {
    actor: String,
    action: &'static str,
    target: String,
    result: String,
}

/// What a line says beyond its time and number.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub actor: &'a Actor,
    pub action: &'static str,
    pub target: &'a str,
    pub old: Value,
    pub new: Value,
    /// `ok`, or why not.
    pub result: &'a str,
}

impl Audit {
    pub fn open(path: &Path, max_bytes: u64, files: u64, clock: Clock) -> Audit {
        let seq = [path.to_owned(), numbered(path, 1)]
            .iter()
            .find_map(|path| last_seq(path))
            .unwrap_or(0);
        end_cut_line(path);
        Audit {
            path: path.to_owned(),
            max_bytes,
            files,
            clock,
            inner: Mutex::new(Inner {
                seq,
                ..Inner::default()
            }),
            seq: watch::Sender::new(seq),
            lines: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line now.
    pub fn write(&self, entry: Entry) {
        let mut more = Map::new();
        more.insert("old".into(), entry.old);
        more.insert("new".into(), entry.new);
        let repeated = Repeated {
            actor: entry.actor.to_string(),
            action: entry.action,
            target: shorten(entry.target, LONGEST),
            result: shorten(entry.result, LONGEST_RESULT),
        };
        self.write_line(&mut self.lock(), &repeated, more);
    }

    /// Writes a line the first time, and counts from then on.
    pub fn note(&self, actor: &Actor, action: &'static str, target: &str, result: &str) {
        let mut repeated = Repeated {
            actor: actor.to_string(),
            action,
            target: shorten(target, LONGEST),
            result: shorten(result, LONGEST),
        };
        let mut inner = self.lock();
        if !inner.repeats.contains_key(&repeated) && inner.repeats.len() >= MAX_REPEATS {
            // All that a client may choose, or each of its inventions has a line of its own.
            let fields = [
                &mut repeated.actor,
                &mut repeated.target,
                &mut repeated.result,
            ];
            fields
                .into_iter()
                .for_each(|field| *field = "others".to_owned());
        }
        match inner.repeats.get_mut(&repeated) {
            Some(count) => *count += 1,
            None => {
                self.write_line(&mut inner, &repeated, Map::new());
                inner.repeats.insert(repeated, 0);
            }
        }
    }

    /// Counts a heartbeat that changed nothing but telemetry.
    pub fn count_heartbeat(&self, addr: BackendAddr) {
        let mut inner = self.lock();
        inner.heartbeats += 1;
        inner.heartbeat_backends.insert(addr);
    }

    /// Writes what was counted since the last call: to be called once a minute, and at the end.
    pub fn sum_up(&self) {
        let mut inner = self.lock();
        let counted = std::mem::take(&mut inner.repeats);
        for (repeated, count) in counted {
            if count > 0 {
                let more = Map::from_iter([("repeated".to_owned(), json!(count))]);
                self.write_line(&mut inner, &repeated, more);
                // What goes on repeating stays known, so that it is not listed as new each minute.
                inner.repeats.insert(repeated, 0);
            }
        }
        let heartbeats = std::mem::take(&mut inner.heartbeats);
        let backends = std::mem::take(&mut inner.heartbeat_backends).len();
        if heartbeats > 0 {
            let more = Map::from_iter([
                ("heartbeats".to_owned(), json!(heartbeats)),
                ("backends".to_owned(), json!(backends)),
            ]);
            let repeated = Repeated {
                actor: Actor::Control("registry").to_string(),
                action: "heartbeats",
                target: "backends".to_owned(),
                result: "ok".to_owned(),
            };
            self.write_line(&mut inner, &repeated, more);
        }
    }

    /// The last `lines` lines as one string.
    pub fn tail(&self, lines: usize) -> io::Result<String> {
        tail::last_lines(&self.path, lines)
    }

    /// The lines after number `after`, oldest first; without it the newest ones. As far back as the
    /// tails of this file and of the one before it reach.
    pub fn lines(&self, after: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
        let mut text = tail::last_lines(&self.path, usize::MAX)?;
        let parse = |text: &str| -> Vec<Value> {
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()
        };
        let mut lines = parse(&text);
        let first = lines.first().and_then(|line| line["seq"].as_u64());
        if first.is_none_or(|first| after.is_some_and(|after| after + 1 < first)) {
            text = tail::last_lines(&numbered(&self.path, 1), usize::MAX)?;
            lines.splice(0..0, parse(&text));
        }
        match after {
            Some(after) => {
                lines.retain(|line| line["seq"].as_u64().is_some_and(|seq| seq > after));
                lines.truncate(limit);
            }
            None => drop(lines.drain(..lines.len().saturating_sub(limit))),
        }
        Ok(lines)
    }

    pub fn last_seq(&self) -> u64 {
        *self.seq.borrow()
    }

    /// The number of the last line as it grows.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    /// Lines written and lines that could not be, since the start.
    pub fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.lines), load(&self.failures))
    }

    /// What keeps lines from being written, while something does.
    pub fn failing(&self) -> Option<Failing> {
        self.lock().failing.clone()
    }

    /// The same in words, for those who look for what is not as it should be.
    pub fn warning(&self) -> Option<String> {
        let failing = self.failing()?;
        Some(format!(
            "the audit log cannot be written since {}, {} lines are lost: {}",
            time_of(failing.since_ms),
            failing.lost,
            failing.error
        ))
    }

    /// Tries to write again, where lines were lost: to be called now and then.
    pub fn retry(&self) {
        self.write_lost(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no holder of this lock panics: it only counts and writes")
    }

    /// The line that says how many were lost; once it is written, none is any more.
    fn write_lost(&self, inner: &mut Inner) {
        let Some(failing) = &inner.failing else {
            return;
        };
        let (since, lost) = (time_of(failing.since_ms), failing.lost);
        let seq = inner.seq + 1;
        let line = json!({
            "time": time(self.clock.now()), "seq": seq, "actor": "control: audit",
            "action": "lines_lost", "target": "audit log", "result": "ok",
            "since": since, "lost": lost,
        });
        if self.append(one_line(&line).as_bytes()).is_ok() {
            inner.seq = seq;
            inner.failing = None;
            self.lines.fetch_add(1, Ordering::Relaxed);
            self.seq.send_replace(seq);
            let path = self.path.display();
            tracing::warn!("audit log {path}: written again; {lost} lines since {since} are lost");
        }
    }

    fn write_line(&self, inner: &mut Inner, entry: &Repeated, more: Map<String, Value>) {
        // Before whatever comes behind what was lost.
        self.write_lost(inner);
        inner.seq += 1;
        let mut line = json!({
            "time": time(self.clock.now()), "seq": inner.seq, "actor": entry.actor,
            "action": entry.action, "target": entry.target, "result": entry.result,
        });
        line.as_object_mut()
            .expect("an object just above")
            .extend(more);
        let written = self.append(one_line(&line).as_bytes());
        match &written {
            Ok(()) => {
                self.lines.fetch_add(1, Ordering::Relaxed);
                self.seq.send_replace(inner.seq);
            }
            // Who waits for the next line goes on waiting: there is none to be read.
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let failing = inner.failing.get_or_insert_with(|| {
                    let path = self.path.display();
                    tracing::error!("audit log {path}: {error}; lines are being lost");
                    Failing {
                        since_ms: self.clock.now().unix_ms,
                        lost: 0,
                        error: error.to_string(),
                    }
                });
                failing.lost += 1;
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

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    path.with_file_name(name)
}

/// A kill may have cut the last line; what we write must not be glued to it. Best effort: a log
/// that cannot be written is told at the first line.
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
fn last_seq(path: &Path) -> Option<u64> {
    const LOOKED_AT: usize = 10;
    let last = tail::last_lines(path, LOOKED_AT).ok()?;
    last.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let seq = line.get("seq")?.as_u64()?;
        (seq <= MAX_SEQ).then_some(seq)
    })
}

/// RFC 3339 in UTC with milliseconds.
fn time(now: Now) -> String {
    time_of(now.unix_ms)
}

fn time_of(unix_ms: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms as i64).unwrap_or_default();
    format!("{time:.3}")
}

fn shorten(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
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

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
