//! The past states of each backend: its last transitions, each with its time and reason.
//!
//! In memory, since control started; a bounded number of transitions for each backend that is listed or
//! was listed last. A state shorter than the time between two looks may be missed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use api::v1::Transition as Described;
use contract::status::{AdminState, BackendStatus, OperationalState, Status};
use contract::{BackendKey, StateReason};

use crate::clock::Now;
use crate::merge::{KnownBy, Row, RowState};

/// Transitions that are kept of a backend.
const KEPT: usize = 20;
/// Number of backends that are no longer listed and still kept: those that disappeared last.
const GONE: usize = 1_000;

/// The seen state of a backend: from the proxy if it answers, otherwise from control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operational {
    Seen(OperationalState),
    Expired,
    NoListener,
    Unknown,
}

impl Operational {
    fn word(self) -> &'static str {
        match self {
            Operational::Seen(state) => state.word(),
            Operational::Expired => RowState::Expired.word(),
            Operational::NoListener => RowState::NoListener.word(),
            Operational::Unknown => "unknown",
        }
    }
}

/// The new state of a backend.
#[derive(Debug, Clone)]
struct Transition {
    /// Unix milliseconds.
    at_ms: u64,
    admin: AdminState,
    operational: Operational,
    reason: String,
    reasons: Vec<StateReason>,
}

impl Transition {
    /// As in answers.
    fn described(&self) -> Described {
        Described {
            at_ms: self.at_ms,
            admin: self.admin,
            operational: self.operational.word().into(),
            reason: self.reason.clone(),
            reasons: self.reasons.clone(),
        }
    }
}

/// A backend that was listed.
#[derive(Debug, Default)]
struct Listed {
    /// At the last look.
    known_by: KnownBy,
    /// The oldest first; the first one is the state at control's first look.
    transitions: VecDeque<Transition>,
}

/// A backend that is no longer listed.
#[derive(Debug)]
struct Gone {
    /// Unix milliseconds of the first look that did not find it.
    at_ms: u64,
    was: Listed,
}

#[derive(Debug, Default)]
pub struct Histories {
    of: BTreeMap<BackendKey, Listed>,
    gone: BTreeMap<BackendKey, Gone>,
}

impl Histories {
    /// Keeps the changes. `seen` is the proxy's status, if it gives one. Returns the backends whose
    /// operational state has changed, with the new state; backends that are new here are left out.
    pub fn note(
        &mut self,
        rows: &[Row],
        seen: Option<&Status>,
        now: Now,
    ) -> Vec<(&'static str, BackendKey)> {
        let mut changed = Vec::new();
        let seen = seen.iter().flat_map(|status| &status.backends);
        let seen: HashMap<BackendKey, &BackendStatus> =
            seen.filter_map(|seen| Some((seen.key()?, seen))).collect();
        let mut before = std::mem::take(&mut self.of);
        for row in rows {
            let key = &row.key;
            self.gone.remove(key);
            let mut listed = before.remove(key).unwrap_or_default();
            listed.known_by = row.known_by();
            let kept = &mut listed.transitions;
            let admin = row.admin();
            let seen = seen.get(key).copied();
            let operational = operational(row, seen);
            let last = kept.back().map(|last| (last.admin, last.operational));
            if last.is_some_and(|(_, before)| before != operational) {
                changed.push((operational.word(), key.clone()));
            }
            if last != Some((admin, operational)) {
                let (reason, reasons) = reasons(operational, seen);
                kept.push_back(Transition {
                    at_ms: now.unix_ms,
                    admin,
                    operational,
                    reason,
                    reasons,
                });
            }
            if kept.len() > KEPT {
                kept.pop_front();
            }
            self.of.insert(key.clone(), listed);
        }
        for (key, was) in before {
            let at_ms = now.unix_ms;
            self.gone.insert(key, Gone { at_ms, was });
        }
        self.forget_gone();
        changed
    }

    fn forget_gone(&mut self) {
        while self.gone.len() > GONE {
            let oldest = self.gone.iter().min_by_key(|(_, gone)| gone.at_ms);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| self.gone.remove(&key));
        }
    }

    /// The transitions of one backend, the newest first.
    pub fn of(&self, key: &BackendKey) -> Vec<Described> {
        let listed = self.of.get(key);
        listed.map_or_else(Vec::new, Listed::newest_first)
    }

    /// Since when a backend is no longer listed, its last sources and its transitions; `None` if unknown.
    pub fn gone(&self, key: &BackendKey) -> Option<api::v1::Gone> {
        let Gone { at_ms, was } = self.gone.get(key)?;
        let sources = was.known_by.names().into_iter();
        Some(api::v1::Gone {
            at_ms: Some(*at_ms),
            sources: sources.map(|name| name.to_owned().into()).collect(),
            history: was.newest_first(),
            edits: Vec::new(),
        })
    }
}

impl Listed {
    fn newest_first(&self) -> Vec<Described> {
        let newest = self.transitions.iter().rev();
        newest.map(Transition::described).collect()
    }
}

fn operational(row: &Row, seen: Option<&BackendStatus>) -> Operational {
    match seen {
        _ if row.state() == RowState::Expired => Operational::Expired,
        _ if row.state() == RowState::NoListener => Operational::NoListener,
        Some(seen) => Operational::Seen(seen.operational),
        None => Operational::Unknown,
    }
}

/// The reasons for a state, as text and as codes.
fn reasons(state: Operational, seen: Option<&BackendStatus>) -> (String, Vec<StateReason>) {
    let reason = match (state, seen) {
        (Operational::Seen(_), Some(seen)) => return (seen.reason.clone(), seen.reasons.clone()),
        (Operational::Expired, _) => StateReason::RegistrationExpired,
        (Operational::NoListener, _) => StateReason::NoListener,
        (Operational::Seen(_) | Operational::Unknown, _) => StateReason::NotReported,
    };
    (reason.to_string(), vec![reason])
}

#[cfg(test)]
pub mod tests;
