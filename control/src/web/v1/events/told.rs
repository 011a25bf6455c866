//! The recent events, in the form that each client asks for.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use api::v1::Status;
use api::v1::event::{Delta, Snapshot};
use axum::body::Bytes;
use contract::{BackendKey, Faults};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::figures::Waiting;
use super::patch::patch;
use crate::base::parse_key;
use crate::web::v1::query::Query;
use crate::web::v1::view::View;

/// How many events are kept for clients that reconnect.
const KEPT_EVENTS: usize = 300;
const KEPT_BYTES: usize = 16 << 20;
/// Rows that a client can name.
const MAX_ROWS: usize = 500;

/// The form of changes that a client asks for.
pub enum Form {
    Fields,
    Patches(Rows),
}

/// Whose figures come with each event.
pub enum Rows {
    All,
    Named(Vec<BackendKey>),
}

#[derive(Default)]
pub struct Told {
    view: Option<View>,
    events: VecDeque<Event>,
    bytes: usize,
    waiting: Waiting,
    /// The patch of each row that changed, of the last event.
    rows: BTreeMap<BackendKey, String>,
}

/// One event as it is kept.
struct Event {
    number: u64,
    /// `None` if no client takes fields.
    fields: Option<Bytes>,
    /// Without the rows that a client named, and without its end.
    patches: String,
}

impl Form {
    /// # Errors
    /// All faults of the query.
    pub fn read(query: Option<&str>) -> Result<Form, Faults> {
        let mut query = Query::new(query);
        let is_patch = query.flag("patch");
        let rows = query.text("rows").map(|text| read_rows(&text));
        let form = match (is_patch, rows) {
            (false, None) => Form::Fields,
            (true, None) => Form::Patches(Rows::All),
            (true, Some(Ok(keys))) => Form::Patches(Rows::Named(keys)),
            (true, Some(Err(found))) => {
                let allowed =
                    format!("at most {MAX_ROWS} backends as ip:port, separated by commas");
                query.faults.add("?rows", found, allowed);
                Form::Fields
            }
            (false, Some(_)) => {
                query
                    .faults
                    .add("?rows", "rows without patches", "rows with patch=true");
                Form::Fields
            }
        };
        query.end()?;
        Ok(form)
    }
}

/// The backends, or what is wrong with them.
fn read_rows(text: &str) -> Result<Vec<BackendKey>, String> {
    let addrs = text.split(',').filter(|addr| !addr.is_empty());
    let addrs = addrs.map(|text| parse_key(text).ok_or_else(|| text.to_owned()));
    let keys: Vec<BackendKey> = addrs.collect::<Result<_, String>>()?;
    match keys.len() {
        count if count > MAX_ROWS => Err(format!("{count} backends")),
        _ => Ok(keys),
    }
}

impl Told {
    /// Keeps event `number`: how `now` differs from the state of the event before.
    pub fn note(&mut self, number: u64, id: &str, now: View, at_ms: u64, wants_fields: bool) {
        if let Some(before) = self.view.take() {
            let fields = wants_fields.then(|| event(id, "delta", &delta(&before, &now, at_ms)));
            let patches = self.patches(number, id, &before, &now, at_ms);
            self.keep(Event {
                number,
                fields,
                patches,
            });
        }
        self.view = Some(now);
    }

    /// A patched event, with the turns of rows, up to the end of its rows.
    fn patches(&mut self, number: u64, id: &str, before: &View, now: &View, at_ms: u64) -> String {
        let mut text = head(id, before, now, at_ms);
        self.rows.clear();
        for key in gone(before, now) {
            self.waiting.forget(key);
        }
        for (key, row) in &now.rows {
            let Some(old) = before.rows.get(key) else {
                // A patch of nothing is all of it.
                if let Some(whole) = patch(&json!({}), &json!(row)) {
                    push_row(&mut text, &row_text(key, whole));
                }
                continue;
            };
            // Most rows are as they were, and need no value to say so.
            let changed = match old == row {
                true => None,
                false => patch(&json!(old), &json!(row)),
            };
            if let Some(turn) = self.waiting.take_turn(key, changed.as_ref(), number) {
                push_row(&mut text, &row_text(key, turn));
            }
            if let Some(changed) = changed {
                self.rows.insert(key.clone(), row_text(key, changed));
            }
        }
        text
    }

    fn keep(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > KEPT_EVENTS || self.bytes > KEPT_BYTES {
            let Some(dropped) = self.events.pop_front() else {
                return;
            };
            self.bytes -= dropped.bytes();
        }
    }

    /// The whole as last sent, as event `id`; `None` before the first look.
    pub fn snapshot(&self, id: &str) -> Option<Bytes> {
        let view = self.view.as_ref()?;
        let whole = Snapshot {
            etag: view.etag.clone(),
            status: &view.status,
            backends: view.rows.values().collect(),
        };
        Some(event(id, "snapshot", &whole))
    }

    /// What follows event `after`; `None` where that is not kept any more.
    pub fn since(&self, after: u64, last: u64, form: &Form) -> Option<Vec<Bytes>> {
        let missed = self.events.iter().filter(|event| event.number > after);
        let missed: Option<Vec<Bytes>> = missed.map(|event| self.text(event, last, form)).collect();
        missed.filter(|missed| after <= last && missed.len() as u64 == last - after)
    }

    fn text(&self, event: &Event, last: u64, form: &Form) -> Option<Bytes> {
        let rows = match form {
            Form::Fields => return event.fields.clone(),
            Form::Patches(rows) => rows,
        };
        let mut text = event.patches.clone();
        // What an earlier event said of named rows comes with their turn.
        if event.number == last {
            let named: Vec<&String> = match rows {
                Rows::All => self.rows.values().collect(),
                Rows::Named(keys) => keys.iter().filter_map(|key| self.rows.get(key)).collect(),
            };
            named.into_iter().for_each(|row| push_row(&mut text, row));
        }
        text.push_str("]}\n\n");
        Some(text.into())
    }
}

impl Event {
    fn bytes(&self) -> usize {
        self.patches.len() + self.fields.as_ref().map_or(0, Bytes::len)
    }
}

/// A patched event up to its first row.
fn head(id: &str, before: &View, now: &View, at_ms: u64) -> String {
    let status = patch(&json!(before.status), &json!(now.status)).unwrap_or_else(|| json!({}));
    let gone: Vec<String> = gone(before, now).map(ToString::to_string).collect();
    let (etag, gone) = (json!(now.etag), json!(gone));
    format!(
        "id: {id}\nevent: delta\ndata: {{\"at_ms\":{at_ms},\"etag\":{etag},\"status\":{status},\"gone\":{gone},\"backends\":["
    )
}

/// The patch of a row; one that comes whole has its id in it.
fn row_text(key: &BackendKey, changed: Value) -> String {
    match changed {
        Value::Object(members) => with_id(key, members).to_string(),
        whole => whole.to_string(),
    }
}

fn push_row(text: &mut String, row: &str) {
    let comma = if text.ends_with('[') { "" } else { "," };
    let _ = write!(text, "{comma}{row}");
}

fn gone<'a>(before: &'a View, now: &'a View) -> impl Iterator<Item = &'a BackendKey> {
    let known = before.rows.keys();
    known.filter(|key| !now.rows.contains_key(key))
}

fn event(id: &str, kind: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("an event has only text as keys");
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").into()
}

/// Of each backend only the fields that changed.
fn delta<'a>(before: &View, now: &'a View, at_ms: u64) -> Delta<&'a Status, Value> {
    let rows = now
        .rows
        .iter()
        .filter_map(|(key, row)| match before.rows.get(key) {
            Some(old) if old == row => None,
            Some(old) => {
                let changed = changed_fields(&json!(old), &json!(row))?;
                Some(with_id(key, changed))
            }
            None => Some(json!(row)),
        });
    Delta {
        at_ms,
        etag: now.etag.clone(),
        status: &now.status,
        backends: rows.collect(),
        gone: gone(before, now).map(ToString::to_string).collect(),
    }
}

fn with_id(key: &BackendKey, mut changed: Map<String, Value>) -> Value {
    changed.insert("id".to_owned(), key.to_string().into());
    changed.into()
}

fn changed_fields(old: &Value, new: &Value) -> Option<Map<String, Value>> {
    let new = new.as_object()?;
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(key.as_str()) != Some(value));
    let mut changed: BTreeMap<String, Value> = changed
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // A part that the proxy tells no more must not stay on the page.
    let lost = old
        .as_object()?
        .keys()
        .filter(|key| !new.contains_key(key.as_str()));
    changed.extend(lost.map(|key| (key.clone(), Value::Null)));
    (!changed.is_empty()).then(|| changed.into_iter().collect())
}
