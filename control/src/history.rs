//! What state each backend was in: its last transitions, each with its time and reason.
//!
//! In memory and from when control looks on; so many transitions a backend, of backends that are
//! listed. What lasts for less than the time between two looks may be missed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use contract::BackendAddr;
use contract::status::{AdminState, BackendStatus, OperationalState, Status};
use serde_json::{Value, json};

use crate::clock::Now;
use crate::merge::{Row, RowState};
use crate::observe::Proxy;
use crate::shared::Shared;
use crate::standing::{Seen, Trouble};

/// How often control looks while nobody else asks the proxy for its status.
const PERIOD: Duration = Duration::from_secs(1);
/// Transitions that are kept of a backend.
const KEPT: usize = 20;

/// What is seen of a backend: the proxy's word, where there is one, or control's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operational {
    Seen(OperationalState),
    Expired,
    Unknown,
}

impl Operational {
    fn word(self) -> &'static str {
        match self {
            Operational::Seen(state) => state.word(),
            Operational::Expired => "expired",
            Operational::Unknown => "unknown",
        }
    }
}

/// The state that a backend came into.
#[derive(Debug, Clone)]
struct Transition {
    /// Unix milliseconds.
    at_ms: u64,
    admin: AdminState,
    operational: Operational,
    reason: String,
}

impl Transition {
    fn to_json(&self) -> Value {
        json!({
            "at_ms": self.at_ms, "admin": self.admin, "operational": self.operational.word(),
            "reason": self.reason,
        })
    }
}

#[derive(Debug, Default)]
pub struct Histories {
    /// The oldest transition first; the first one is what was found when control began to look.
    of: BTreeMap<BackendAddr, VecDeque<Transition>>,
    /// On the monotonic clock.
    looked_at_ms: Option<u64>,
    /// Why no backend takes anything new; `None` where some do.
    trouble: Option<Trouble>,
}

impl Histories {
    /// Keeps what has changed. `seen` is what the proxy says of itself, where it says anything.
    pub fn note(&mut self, rows: &[Row], seen: Option<&Status>, now: Now) {
        let seen = seen.iter().flat_map(|status| &status.backends);
        let seen: HashMap<BackendAddr, &BackendStatus> = seen
            .map(|seen| (BackendAddr::new(seen.ip, seen.port), seen))
            .collect();
        let mut before = std::mem::take(&mut self.of);
        for row in rows {
            let addr = row.backend.addr;
            let mut kept = before.remove(&addr).unwrap_or_default();
            let admin = row.admin();
            let (operational, reason) = operational(row, seen.get(&addr).copied());
            let last = kept.back().map(|last| (last.admin, last.operational));
            if last != Some((admin, operational)) {
                kept.push_back(Transition {
                    at_ms: now.unix_ms,
                    admin,
                    operational,
                    reason: reason.to_owned(),
                });
            }
            if kept.len() > KEPT {
                kept.pop_front();
            }
            self.of.insert(addr, kept);
        }
        self.looked_at_ms = Some(now.monotonic_ms);
    }

    /// The transitions of one backend, the newest first.
    pub fn of(&self, addr: BackendAddr) -> Vec<Value> {
        let kept = self.of.get(&addr).into_iter().flatten().rev();
        kept.map(Transition::to_json).collect()
    }

    /// Why no backend takes new sessions or flows.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    fn is_due(&self, now: Now) -> bool {
        let half = PERIOD.as_millis() as u64 / 2;
        self.looked_at_ms
            .is_none_or(|looked_at_ms| now.monotonic_ms >= looked_at_ms + half)
    }
}

/// The state of a backend, and why it is so.
fn operational<'a>(row: &Row, seen: Option<&'a BackendStatus>) -> (Operational, &'a str) {
    match seen {
        _ if row.state() == RowState::Expired => (Operational::Expired, "its registration ran out"),
        Some(seen) => (Operational::Seen(seen.operational), &seen.reason),
        None => (Operational::Unknown, "the proxy says nothing of it"),
    }
}

/// Keeps what has changed, and tells where backends begin or cease to take anything new.
pub fn note(shared: &Shared, rows: &[Row], seen: Option<&Status>) {
    let now = shared.clock.now();
    let (before, trouble) = {
        let mut history = shared.history();
        history.note(rows, seen, now);
        let trouble = Seen::of(seen).trouble(rows, history.trouble.as_ref());
        let before = std::mem::replace(&mut history.trouble, trouble.clone());
        (before, trouble)
    };
    match (before, trouble) {
        (None, Some(trouble)) => tracing::warn!("{}", trouble.text()),
        // Whether it takes anything is the proxy's to say.
        (Some(Trouble::NoneInUse(_)), None) => tracing::info!("a backend is in use again"),
        (Some(Trouble::AllOut(_)), None) => {
            tracing::info!("backends take new sessions and flows again");
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// Looks on for as long as the server runs; whoever reads the live view looks in our place. A whole
/// status of many backends costs both of us milliseconds, so it is read where something is new.
pub async fn run(shared: Arc<Shared>, proxy: Proxy) {
    let mut seen_last = None;
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !shared.history().is_due(shared.clock.now()) {
            continue;
        }
        // An older proxy tells no states, and is asked for everything.
        let states = proxy.states().await.ok();
        let is_now = states.map(|states| (states, shared.model().revision));
        if is_now.is_some() && is_now == seen_last {
            continue;
        }
        let seen = proxy.status().await;
        seen_last = is_now.filter(|_| seen.is_ok());
        if let Err(unknown) = &seen {
            tracing::debug!("no states seen: {unknown}");
        }
        let rows = shared.model().rows();
        note(&shared, &rows, seen.as_ref().ok());
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
