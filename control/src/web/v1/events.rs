//! `GET events`: the whole as server-sent events, first once, then once a second what changed.
//!
//! An outage is told at once. One look a second serves all who listen, and none is made while nobody does. What was told stays
//! a while, so that a client that comes back with `Last-Event-ID` gets what it missed; one that was
//! away for longer, or from before a restart, gets the whole again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use contract::BackendAddr;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::stream::{Sender, stream};
use super::view::{View, look};
use crate::web::App;
use crate::web::error::ApiError;
use crate::web::guard::Client;

const PERIOD: Duration = Duration::from_secs(1);
/// What is kept for those who come back.
const KEPT_EVENTS: usize = 300;
const KEPT_BYTES: usize = 16 << 20;
/// Clients at once; a browser's tabs share one.
const MAX_STREAMS: usize = 128;
/// Those of one token, so that whoever holds one cannot keep all others from seeing anything.
const MAX_OF_ONE: usize = 32;

pub struct Feed(Arc<Parts>);

struct Parts {
    started_ms: u64,
    told: Mutex<Told>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    /// How many streams each caller has, by what the audit log calls it.
    listeners: Mutex<HashMap<String, usize>>,
    is_looking: AtomicBool,
}

#[derive(Default)]
struct Told {
    view: Option<View>,
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

/// Leaves when dropped, however its stream ended.
struct Listener {
    parts: Arc<Parts>,
    by: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.parts.listeners();
        if let Some(count) = listeners.get_mut(&self.by) {
            *count -= 1;
            if *count == 0 {
                listeners.remove(&self.by);
            }
        }
    }
}

impl Feed {
    pub fn new(started_ms: u64) -> Feed {
        Feed(Arc::new(Parts {
            started_ms,
            told: Mutex::default(),
            last: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            listeners: Mutex::default(),
            is_looking: AtomicBool::new(false),
        }))
    }

    /// When this process started: what tells its tags and event ids from an earlier one's.
    pub fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// Ends every stream, so that the server's end need not wait for them.
    pub fn close(&self) {
        self.0.closing.send_replace(true);
    }

    pub fn closing(&self) -> watch::Receiver<bool> {
        self.0.closing.subscribe()
    }

    #[cfg(test)]
    pub fn is_unheard(&self) -> bool {
        self.0.listeners().is_empty()
    }

    /// A place for one more stream of `client`, where there is one.
    fn listen(&self, client: &Client) -> Result<Listener, ApiError> {
        let label = client.grant.as_ref().and_then(|grant| grant.label.clone());
        // Without tokens all are the same one.
        let most = match label {
            Some(_) => MAX_OF_ONE,
            None => MAX_STREAMS,
        };
        let by = label.unwrap_or_default();
        let mut listeners = self.0.listeners();
        let all: usize = listeners.values().sum();
        let of_one = listeners.get(&by).copied().unwrap_or(0);
        if all >= MAX_STREAMS || of_one >= most {
            let message = format!(
                "{all} event streams are open, {of_one} of them yours; allowed: {MAX_STREAMS} and {most}"
            );
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        listeners.insert(by.clone(), of_one + 1);
        let parts = self.0.clone();
        Ok(Listener { parts, by })
    }
}

impl Parts {
    fn told(&self) -> MutexGuard<'_, Told> {
        let told = self.told.lock();
        told.expect("no holder of this lock panics: it only keeps and copies")
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        let listeners = self.listeners.lock();
        listeners.expect("no holder of this lock panics: it only counts")
    }

    fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.started_ms)
    }

    /// The number of an event id of ours.
    fn number(&self, id: &str) -> Option<u64> {
        let (started, number) = id.split_once('-')?;
        let is_ours = u64::from_str_radix(started, 16).ok()? == self.started_ms;
        is_ours.then(|| number.parse().ok())?
    }
}

pub async fn events(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let listener = app.feed.listen(&client)?;
    let parts = app.feed.0.clone();
    if !parts.is_looking.swap(true, Ordering::AcqRel) {
        tokio::spawn(look_on(app.clone()));
    }
    let said = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = said.and_then(|id| parts.number(id));
    let (sender, response) = stream("text/event-stream");
    tokio::spawn(async move {
        let may_listen = || {
            let grant = client.grant.as_ref();
            grant.is_some_and(|grant| app.access.is_still_good(grant))
        };
        tell(&parts, sender, after, may_listen).await;
        drop(listener);
    });
    Ok(response)
}

/// Looks once a second while somebody listens.
async fn look_on(app: App) {
    let parts = app.feed.0.clone();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.shared.verdict_changed.notified() => {}
        }
        if *parts.closing.borrow() {
            return;
        }
        if parts.listeners().is_empty() {
            // What stands when somebody comes back is not what was told last.
            *parts.told() = Told::default();
            parts.is_looking.store(false, Ordering::Release);
            let came = !parts.listeners().is_empty();
            // Somebody may have come in between, and seen us still looking.
            if !came || parts.is_looking.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let view = look(&app).await;
        let at_ms = app.shared.clock.now().unix_ms;
        let number = *parts.last.borrow() + 1;
        {
            let mut told = parts.told();
            if let Some(before) = &told.view {
                let event = event(&parts, "delta", number, &delta(before, &view, at_ms));
                told.keep(number, event);
            }
            told.view = Some(view);
        }
        parts.last.send_replace(number);
    }
}

impl Told {
    fn keep(&mut self, number: u64, event: Bytes) {
        self.bytes += event.len();
        self.events.push_back((number, event));
        while self.events.len() > KEPT_EVENTS || self.bytes > KEPT_BYTES {
            let Some((_, gone)) = self.events.pop_front() else {
                return;
            };
            self.bytes -= gone.len();
        }
    }

    /// What follows event `after`; `None` where that is not kept any more.
    fn since(&self, after: u64, last: u64) -> Option<Vec<Bytes>> {
        let missed = self.events.iter().filter(|(number, _)| *number > after);
        let missed: Vec<Bytes> = missed.map(|(_, event)| event.clone()).collect();
        (after <= last && missed.len() as u64 == last - after).then_some(missed)
    }
}

/// Writes to one client until it goes, may listen no more, or the server ends.
async fn tell(
    parts: &Parts,
    sender: Sender,
    mut after: Option<u64>,
    may_listen: impl Fn() -> bool,
) {
    let mut last = parts.last.subscribe();
    let mut closing = parts.closing.subscribe();
    while may_listen() {
        let number = *last.borrow_and_update();
        for event in next_events(parts, after, number) {
            if sender.send(event).await.is_err() {
                return;
            }
            after = Some(number);
        }
        tokio::select! {
            changed = last.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            _ = closing.wait_for(|closing| *closing) => return,
        }
    }
}

fn next_events(parts: &Parts, after: Option<u64>, last: u64) -> Vec<Bytes> {
    let told = parts.told();
    if let Some(missed) = after.and_then(|after| told.since(after, last)) {
        return missed;
    }
    let Some(view) = &told.view else {
        return Vec::new();
    };
    let rows: Vec<&Value> = view.rows.values().collect();
    let whole = json!({ "etag": view.etag, "status": view.status, "backends": rows });
    vec![event(parts, "snapshot", last, &whole)]
}

fn event(parts: &Parts, kind: &str, number: u64, data: &Value) -> Bytes {
    let id = parts.id(number);
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").into()
}

/// Of each backend only the fields that changed.
fn delta(before: &View, now: &View, at_ms: u64) -> Value {
    let rows = now
        .rows
        .iter()
        .filter_map(|(addr, row)| match before.rows.get(addr) {
            Some(old) => {
                let changed = changed_fields(old, row)?;
                Some(with_id(addr, changed))
            }
            None => Some(row.clone()),
        });
    let rows: Vec<Value> = rows.collect();
    let gone = before
        .rows
        .keys()
        .filter(|addr| !now.rows.contains_key(addr));
    let gone: Vec<String> = gone.map(BackendAddr::to_string).collect();
    json!({
        "at_ms": at_ms, "etag": now.etag, "status": now.status, "backends": rows, "gone": gone,
    })
}

fn with_id(addr: &BackendAddr, mut changed: Map<String, Value>) -> Value {
    changed.insert("id".to_owned(), addr.to_string().into());
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
