//! `GET events`: server-sent events, first the whole, then once a second the changed fields or, with
//! `?patch=true`, a patch of each row, in which figures of rows that are not named in `rows` come only every
//! few seconds.
//!
//! An outage is sent at once, and a new stream begins with the state at that moment. One look a second
//! serves all listeners, and none is made without listeners. Events are kept for a while, so that a client
//! that reconnects with `Last-Event-ID` gets what it missed; after a longer absence or a restart of control
//! it gets the whole again.

mod figures;
mod patch;
mod told;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::sync::{Notify, watch};

use self::told::{Form, Told};
use super::stream::{Sender, gzip_stream, stream};
use super::view::look;
use crate::web::App;
use crate::web::client::Client;
use crate::web::error::ApiError;
use crate::web::files::takes_gzip;

const PERIOD: Duration = Duration::from_secs(1);
/// Clients at once; a browser's tabs share one.
const MAX_STREAMS: usize = 128;
/// Streams of one token, so that its holder cannot take all streams.
const MAX_OF_ONE: usize = 32;
/// When a client that was refused may ask again.
const RETRY_S: u64 = 2;

pub struct Feed(Arc<Parts>);

struct Parts {
    started_ms: u64,
    told: Mutex<Told>,
    /// The number of the last event.
    last: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    /// How many streams each caller has, by what the audit log calls it.
    listeners: Mutex<HashMap<String, usize>>,
    /// How many of them take whole fields.
    of_fields: AtomicUsize,
    is_looking: AtomicBool,
    /// A client has connected and needs the current state.
    came: Notify,
}

/// Leaves when dropped, however its stream ended.
struct Listener {
    parts: Arc<Parts>,
    by: String,
    form: Form,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if matches!(self.form, Form::Fields) {
            self.parts.of_fields.fetch_sub(1, Ordering::AcqRel);
        }
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
            of_fields: AtomicUsize::new(0),
            is_looking: AtomicBool::new(false),
            came: Notify::new(),
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
    fn listen(&self, client: &Client, form: Form) -> Result<Listener, ApiError> {
        let label = client.grant.as_ref().and_then(|grant| grant.label.clone());
        // Without tokens callers differ by address only.
        let by = label.unwrap_or_else(|| client.ip.to_string());
        let mut listeners = self.0.listeners();
        let all: usize = listeners.values().sum();
        let of_one = listeners.get(&by).copied().unwrap_or(0);
        if all >= MAX_STREAMS || of_one >= MAX_OF_ONE {
            let status = match of_one >= MAX_OF_ONE {
                true => StatusCode::TOO_MANY_REQUESTS,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            let message = format!(
                "{all} event streams are open, {of_one} of them yours; allowed: {MAX_STREAMS} and {MAX_OF_ONE}"
            );
            return Err(ApiError::new(status, message).retry_after(RETRY_S));
        }
        listeners.insert(by.clone(), of_one + 1);
        if matches!(form, Form::Fields) {
            self.0.of_fields.fetch_add(1, Ordering::AcqRel);
        }
        let parts = self.0.clone();
        Ok(Listener { parts, by, form })
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

    /// The number in an event id of this process.
    fn number(&self, id: &str) -> Option<u64> {
        let (started, number) = id.split_once('-')?;
        let is_ours = u64::from_str_radix(started, 16).ok()? == self.started_ms;
        is_ours.then(|| number.parse().ok())?
    }
}

pub async fn events(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let listener = app.feed.listen(&client, Form::read(query.as_deref())?)?;
    let parts = app.feed.0.clone();
    if !parts.is_looking.swap(true, Ordering::AcqRel) {
        tokio::spawn(look_on(app.clone()));
    }
    let said = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = said.and_then(|id| parts.number(id));
    let (sender, response) = match takes_gzip(&headers) {
        true => gzip_stream("text/event-stream"),
        false => stream("text/event-stream"),
    };
    tokio::spawn(async move {
        let may_listen = || {
            let grant = client.grant.as_ref();
            grant.is_some_and(|grant| app.access.is_still_good(grant))
        };
        tell(&listener, sender, after, may_listen).await;
    });
    Ok(response)
}

/// Looks once a second while there are listeners.
async fn look_on(app: App) {
    let parts = app.feed.0.clone();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.shared.verdict_changed.notified() => {}
            () = parts.came.notified() => {}
        }
        if *parts.closing.borrow() {
            return;
        }
        if parts.listeners().is_empty() {
            // The next listener must not get a difference from the last events.
            *parts.told() = Told::default();
            parts.is_looking.store(false, Ordering::Release);
            let came = !parts.listeners().is_empty();
            // A listener may have come in between, and seen this task still running.
            if !came || parts.is_looking.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let view = look(&app).await;
        let at_ms = app.shared.clock.now().unix_ms;
        let number = *parts.last.borrow() + 1;
        let wants_fields = parts.of_fields.load(Ordering::Acquire) > 0;
        let id = parts.id(number);
        parts.told().note(number, &id, view, at_ms, wants_fields);
        parts.last.send_replace(number);
    }
}

/// Writes to one client until it goes, may listen no more, or the server ends.
async fn tell(
    listener: &Listener,
    mut sender: Sender,
    mut after: Option<u64>,
    may_listen: impl Fn() -> bool,
) {
    let parts = &listener.parts;
    let mut last = parts.last.subscribe();
    let mut closing = parts.closing.subscribe();
    if after.is_none() {
        // The last event may be a second old, and older than an edit that this client has made.
        let told = *last.borrow();
        parts.came.notify_one();
        tokio::select! {
            _ = last.wait_for(|number| *number > told) => {}
            () = sender.closed() => return,
            _ = closing.wait_for(|closing| *closing) => return,
        }
    }
    while may_listen() {
        let number = *last.borrow_and_update();
        for event in next_events(listener, after, number) {
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

fn next_events(
    Listener { parts, form, .. }: &Listener,
    after: Option<u64>,
    last: u64,
) -> Vec<Bytes> {
    let told = parts.told();
    if let Some(missed) = after.and_then(|after| told.since(after, last, form)) {
        return missed;
    }
    told.snapshot(&parts.id(last)).into_iter().collect()
}
