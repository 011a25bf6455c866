//! The audit log: who did what to what, as one JSON object a line.
//!
//! Every mutation has its line before its answer is sent, refused ones too. What repeats (polling
//! pages, heartbeats that change nothing) has one line at first and then one a minute with a count.
//! A line is one `write` to a file opened for appending, so lines never mix. The file is opened again for
//! each line, so a log that was moved or a disk that recovers needs no restart. In the server a separate
//! thread writes ([`Audit::write_apart`]), so that a disk that does not respond blocks nothing else.

mod log;
mod queue;
mod tail;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use contract::BackendKey;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::actor::Actor;
use crate::clock::Clock;

pub use log::Failing;
use log::{Line, Log, numbered, time_of};
use queue::{Job, Queue};

/// How many different repeated events are counted apart; more share one count.
const MAX_REPEATS: usize = 512;
/// The maximum length of a target, and of the result of an event that changed nothing; a hostile path or Host
/// may be longer.
const LONGEST: usize = 256;
/// The maximum length of a mutation's result: room for its faults, not for everything that was sent.
const LONGEST_RESULT: usize = 1024;

pub struct Audit {
    log: Arc<Log>,
    clock: Clock,
    inner: Mutex<Inner>,
    /// The queue of the writing thread, if there is one.
    queue: OnceLock<Queue>,
}

#[derive(Default)]
struct Inner {
    repeats: HashMap<Repeated, u64>,
    heartbeats: u64,
    heartbeat_backends: BTreeSet<BackendKey>,
}

/// An event that is listed once and then counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Repeated {
    actor: String,
    action: &'static str,
    target: String,
    result: String,
}

/// The content of a line, without its time and number.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub actor: &'a Actor,
    pub action: &'static str,
    pub target: &'a str,
    pub old: Value,
    pub new: Value,
    /// The operator's note.
    pub note: Option<&'a str>,
    /// Of a roll back: the edit before which it restores the state.
    pub before_edit: Option<u64>,
    /// `ok`, or why not.
    pub result: &'a str,
}

impl Audit {
    pub fn open(path: &Path, max_bytes: u64, files: u64, clock: Clock) -> Audit {
        Audit {
            log: Arc::new(Log::open(path, max_bytes, files, clock.clone())),
            clock,
            inner: Mutex::default(),
            queue: OnceLock::new(),
        }
    }

    /// From now on a separate thread writes; [`Audit::settle`] waits until a line is written.
    ///
    /// # Errors
    /// No thread can be started; lines are then still written by the caller.
    pub fn write_apart(&self) -> io::Result<()> {
        let queue = Queue::start(self.log.clone())?;
        // If a thread writes already, it continues.
        let _ = self.queue.set(queue);
        Ok(())
    }

    /// Waits until all lines so far are written or lost; only briefly if the disk does not respond.
    pub async fn settle(&self) {
        if let Some(queue) = self.queue.get() {
            queue.settle().await;
        }
    }

    pub fn path(&self) -> &Path {
        &self.log.path
    }

    /// Writes one line.
    pub fn write(&self, entry: Entry) {
        let mut more = Map::new();
        more.insert("old".into(), entry.old);
        more.insert("new".into(), entry.new);
        if let Some(note) = entry.note {
            more.insert("note".into(), note.into());
        }
        if let Some(number) = entry.before_edit {
            more.insert("before_edit".into(), number.into());
        }
        let repeated = Repeated {
            actor: entry.actor.to_string(),
            action: entry.action,
            target: shorten(entry.target, LONGEST),
            result: shorten(entry.result, LONGEST_RESULT),
        };
        self.write_line(&repeated, more);
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
            // Without the parts that a client chooses: otherwise each invented value would get its own line.
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
                self.write_line(&repeated, Map::new());
                inner.repeats.insert(repeated, 0);
            }
        }
    }

    /// Counts a heartbeat that changed nothing but telemetry.
    pub fn count_heartbeat(&self, key: &BackendKey) {
        let mut inner = self.lock();
        inner.heartbeats += 1;
        inner.heartbeat_backends.insert(key.clone());
    }

    /// Writes what was counted since the last call: to be called once a minute, and at the end.
    pub fn sum_up(&self) {
        let mut inner = self.lock();
        let counted = std::mem::take(&mut inner.repeats);
        for (repeated, count) in counted {
            if count > 0 {
                let more = Map::from_iter([("repeated".to_owned(), json!(count))]);
                self.write_line(&repeated, more);
                // Events that still repeat stay known, so that they are not listed as new each minute.
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
            self.write_line(&repeated, more);
        }
    }

    /// The last `lines` lines as one string.
    pub fn tail(&self, lines: usize) -> io::Result<String> {
        tail::last_lines(self.path(), lines)
    }

    /// The lines after number `after`, oldest first; without it the newest ones. As far back as the
    /// tails of this file and of the one before it reach.
    pub fn lines(&self, after: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
        let mut text = tail::last_lines(self.path(), usize::MAX)?;
        let parse = |text: &str| -> Vec<Value> {
            text.lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect()
        };
        let mut lines = parse(&text);
        let first = lines.first().and_then(|line| line["seq"].as_u64());
        if first.is_none_or(|first| after.is_some_and(|after| after + 1 < first)) {
            text = tail::last_lines(&numbered(self.path(), 1), usize::MAX)?;
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
        *self.log.last().borrow()
    }

    /// The number of the last line as it grows.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.log.last().subscribe()
    }

    /// Lines written and lines that could not be, since the start.
    pub fn counts(&self) -> (u64, u64) {
        self.log.counts()
    }

    /// What prevents writing, while something does.
    pub fn failing(&self) -> Option<Failing> {
        self.log.failing()
    }

    /// The same in words, for the list of warnings.
    pub fn warning(&self) -> Option<String> {
        if let Some(waiting) = self.queue.get().and_then(Queue::stuck) {
            return Some(format!(
                "the audit log's disk does not respond; lines waiting to be written: {waiting}"
            ));
        }
        let failing = self.failing()?;
        Some(format!(
            "the audit log cannot be written since {}, lines lost: {}: {}",
            time_of(failing.since_ms),
            failing.lost,
            failing.error
        ))
    }

    /// Retries writing after lines were lost; call it now and then.
    pub fn retry(&self) {
        match self.queue.get() {
            Some(queue) if self.failing().is_some() => queue.push(&self.log, Job::Retry),
            Some(_) => {}
            None => self.log.retry(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no holder of this lock panics: it only counts")
    }

    fn write_line(&self, entry: &Repeated, more: Map<String, Value>) {
        let line = Line {
            at: self.clock.now(),
            actor: entry.actor.clone(),
            action: entry.action,
            target: entry.target.clone(),
            result: entry.result.clone(),
            more,
        };
        match self.queue.get() {
            Some(queue) => queue.push(&self.log, Job::Write(line)),
            None => self.log.write(line),
        }
    }
}

fn shorten(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

#[cfg(test)]
mod tests;
