//! The parts of the wanted configuration that the proxy refuses, and what is published in their place.
//!
//! Pure. It acts on codes and places, never on text. A refused top-level key keeps the last value
//! that the proxy was seen to run, a refused backend is left out, and everything else is as wanted.
//! Each refused part is an incident until it is over.

use std::collections::{BTreeMap, BTreeSet};

use api::ProxyRefusal;
use contract::status::{Reload, Running};
use contract::{Backend, BackendKey, Refusal, RefusalCode};
use serde_json::Value;

use crate::base::raise;
use crate::render::{Head, LeftOut, Plan};
use crate::services::{self, Kind};

/// The keys that stay in the file even if no value of them was ever accepted: without them it would be none.
const ALWAYS_THERE: [&str; 2] = ["listen", "algorithm"];
/// The maximum length of the joined faults of one part.
const LONGEST_DETAIL: usize = 1_000;

/// One run of the proxy. In a container each has the same id; an older proxy does not report its start
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub started_at_ms: Option<u64>,
}

/// A part that can be refused alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A key of the head: one at the top of `proxy_config.json`, a listener or a pool.
    Key(String),
    Backend(BackendKey),
    /// The refusal names no part, and only backends differ from what the proxy runs.
    Whole,
    /// The published file, changed by another program.
    File,
}

/// A part that the proxy refuses, until the refusal is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    pub part: Part,
    pub code: RefusalCode,
    /// The refused value, shortened.
    pub value: String,
    /// The proxy's message, for people.
    pub detail: String,
    /// Unix milliseconds.
    pub since: u64,
    /// What is published in its place; `None`: nothing.
    pub kept: Option<Value>,
    /// It is published once more, since the proxy cannot be asked whether it would accept it now.
    is_on_trial: bool,
    /// What was refused: the key's value, or the backend's entry.
    wanted: Value,
    /// The proxy that refused it; `None`: control refused it.
    process: Option<Process>,
}

/// The incidents, and the accepted value of each key.
#[derive(Debug, Default)]
pub struct Holds {
    incidents: Vec<Incident>,
    /// `None` until a proxy was seen to run something; nothing is assumed.
    accepted: Option<BTreeMap<String, Value>>,
}

impl Process {
    pub fn of(running: &Running) -> Process {
        Process {
            pid: running.pid,
            started_at_ms: running.started_at_ms,
        }
    }
}

impl Part {
    /// JSON pointer of the part; for a backend without its index, since entries move.
    pub fn place(&self) -> String {
        match self {
            Part::Key(key) => format!("/{key}"),
            Part::Backend(key) => match raise(key) {
                Some(_) => "/backends".to_owned(),
                None => format!("/pools/{}/backends", key.pool),
            },
            Part::Whole | Part::File => String::new(),
        }
    }

    fn value_in(&self, plan: &Plan) -> Value {
        match self {
            Part::Key(key) => plan.value(key).cloned().unwrap_or_default(),
            Part::Backend(key) => plan.backend(key).map(entry).unwrap_or_default(),
            Part::Whole | Part::File => Value::Null,
        }
    }
}

impl Incident {
    /// Whether control retries while `process` runs.
    pub fn is_tried_again(&self, process: Option<Process>) -> bool {
        let needs_restart = self.code == RefusalCode::NeedsRestart;
        !needs_restart || (process.is_some() && self.process != process)
    }

    /// As in answers; retried every `interval_s`.
    pub fn described(&self, interval_s: u64) -> ProxyRefusal {
        let is_tried_again = self.is_tried_again(self.process);
        ProxyRefusal {
            code: self.code,
            place: self.part.place(),
            value: self.value.clone(),
            detail: self.detail.clone(),
            since: self.since,
            kept: self.kept.clone(),
            try_again_s: is_tried_again.then_some(interval_s),
            message: self.describe(),
        }
    }

    /// In one sentence, for warnings and reasons.
    pub fn describe(&self) -> String {
        let (place, code) = (self.part.place(), self.code.word());
        if self.part == Part::File {
            let detail = &self.detail;
            return format!(
                "another program changed proxy_config.json, and the proxy refuses the file ({code}, \
                 {detail}) and keeps its running configuration; control rewrites the file \
                 every auto_sync_interval_sec"
            );
        }
        let place = if place.is_empty() { "(top)" } else { &place };
        let kept = match (&self.part, &self.kept) {
            (Part::Backend(_), _) => "; the entry is left out".to_owned(),
            (_, Some(kept)) if *kept != self.wanted => format!("; {} stays in force", short(kept)),
            (Part::Key(_) | Part::Whole | Part::File, _) => String::new(),
        };
        let next = match self.code {
            RefusalCode::NeedsRestart => {
                "; control does not retry: restart the proxy with --keep-bind, or choose another port"
            }
            _ => "",
        };
        let detail = match self.detail.is_empty() {
            true => String::new(),
            false => format!(", {}", self.detail),
        };
        let value = &self.value;
        format!("the proxy refuses {place} {value} ({code}{detail}){kept}{next}")
    }

    /// The value in force in its place, if it differs.
    pub fn stays(&self) -> Option<&Value> {
        self.kept.as_ref().filter(|kept| **kept != self.wanted)
    }

    pub fn is_of_backend(&self) -> bool {
        matches!(self.part, Part::Backend(_))
    }

    /// The key and its value, if a key was refused.
    pub fn refuses(&self, key: &str, value: &Value) -> bool {
        matches!(&self.part, Part::Key(own) if own == key) && self.wanted == *value
    }
}

impl Holds {
    /// What the proxy is known to have accepted at a start.
    pub fn new(accepted: Option<Head>) -> Holds {
        Holds {
            incidents: Vec::new(),
            accepted: accepted.map(|head| head.into_iter().collect()),
        }
    }

    /// The proxy may run `published`, before it was ever heard.
    pub fn presume(&mut self, published: &Plan) {
        if self.accepted.is_none() && self.incidents.is_empty() {
            self.accepted = Some(published.head.iter().cloned().collect());
        }
    }

    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// The accepted value of each key, for a plan whose own cannot be published.
    pub fn accepted_head(&self) -> Option<Head> {
        let accepted = self.accepted.as_ref()?;
        let is_listener = |key: &String| {
            key == "listen" || matches!(services::part(key), Some((Kind::Listener, _)))
        };
        let is_whole = accepted.contains_key("algorithm") && accepted.keys().any(is_listener);
        is_whole.then(|| accepted.clone().into_iter().collect())
    }

    /// `wanted` with accepted values in place of refused ones. Incidents of parts that are no longer wanted
    /// are over.
    pub fn stand_in(&mut self, wanted: Plan) -> (Plan, Vec<LeftOut>) {
        if self.incidents.is_empty() {
            return (wanted, Vec::new());
        }
        let entries: BTreeMap<BackendKey, &Backend> = wanted.backends().collect();
        self.incidents.retain(|incident| match &incident.part {
            Part::Key(key) => wanted.value(key).unwrap_or(&Value::Null) == &incident.wanted,
            Part::Backend(key) => entries
                .get(key)
                .is_some_and(|b| entry(b) == incident.wanted),
            Part::Whole | Part::File => true,
        });
        self.without(wanted, |one| !one.is_on_trial)
    }

    /// `plan` without the refused parts that `is_held` names.
    fn without(&self, mut plan: Plan, is_held: impl Fn(&Incident) -> bool) -> (Plan, Vec<LeftOut>) {
        let mut out = BTreeMap::new();
        for incident in self.incidents.iter().filter(|one| is_held(one)) {
            match (&incident.part, &self.accepted) {
                (Part::Key(key), Some(accepted)) => {
                    let accepted = accepted.get(key);
                    // Each accepted file has these: without them none was accepted yet.
                    if accepted.is_some() || !ALWAYS_THERE.contains(&key.as_str()) {
                        plan.set(key, accepted);
                    }
                }
                (Part::Backend(key), _) => _ = out.insert(key.clone(), incident.describe()),
                (Part::Key(_), None) | (Part::Whole | Part::File, _) => {}
            }
        }
        plan.retain(|key| !out.contains_key(key));
        let left_out = out.into_iter().map(|(key, why)| LeftOut { key, why });
        (plan, left_out.collect())
    }

    /// `process`, or control itself, refuses these of `plan`.
    pub fn refuse(&mut self, plan: &Plan, refusals: &[Refusal], process: Option<Process>) {
        let mut found: BTreeMap<Part, Incident> = BTreeMap::new();
        for refusal in refusals {
            for part in self.parts(plan, &refusal.place) {
                if let Some(incident) = found.get_mut(&part) {
                    // TCP and UDP of one address mostly fail for the same reason.
                    let is_new = !incident.detail.contains(&refusal.detail);
                    if is_new && incident.detail.len() < LONGEST_DETAIL {
                        incident.detail = format!("{}; {}", incident.detail, refusal.detail);
                    }
                    continue;
                }
                let accepted = self.accepted.as_ref();
                let kept = match &part {
                    Part::Key(key) => accepted.and_then(|accepted| accepted.get(key)).cloned(),
                    Part::Backend(_) | Part::Whole | Part::File => None,
                };
                let incident = Incident {
                    code: refusal.code,
                    value: refusal.value.clone(),
                    detail: refusal.detail.clone(),
                    since: refusal.since,
                    kept,
                    is_on_trial: false,
                    wanted: part.value_in(plan),
                    process,
                    part: part.clone(),
                };
                found.insert(part, incident);
            }
        }
        for (part, mut incident) in found {
            if self.is_stand_in(&part, &incident.wanted) {
                self.drop_stand_in(&part);
                continue;
            }
            match self.incidents.iter_mut().find(|old| old.part == part) {
                Some(old) => {
                    let is_same = old.code == incident.code && old.wanted == incident.wanted;
                    if is_same {
                        incident.since = old.since;
                    }
                    *old = incident;
                }
                None => self.incidents.push(incident),
            }
        }
    }

    /// Whether `value` replaces another one that is refused.
    fn is_stand_in(&self, part: &Part, value: &Value) -> bool {
        let mut incidents = self.incidents.iter();
        incidents
            .any(|one| one.part == *part && one.wanted != *value && one.kept == Some(value.clone()))
    }

    /// Drops a replacement that is refused too: otherwise the two would alternate forever.
    fn drop_stand_in(&mut self, part: &Part) {
        if let (Part::Key(key), Some(accepted)) = (part, &mut self.accepted) {
            accepted.remove(key);
        }
        for incident in self.incidents.iter_mut().filter(|one| one.part == *part) {
            incident.kept = None;
        }
    }

    /// `process` runs what is published, and has since refused the file that another program changed.
    pub fn refuse_file(&mut self, reload: &Reload, refusals: &[Refusal], process: Process) {
        if self.has_refused_file() {
            return;
        }
        self.incidents.push(Incident {
            part: Part::File,
            code: { refusals.first() }.map_or(RefusalCode::Invalid, |refusal| refusal.code),
            value: "proxy_config.json".to_owned(),
            detail: reload.reason.clone().unwrap_or_default(),
            since: reload.at_ms,
            kept: None,
            is_on_trial: false,
            wanted: Value::Null,
            process: Some(process),
        });
    }

    pub fn has_refused_file(&self) -> bool {
        { self.incidents.iter() }.any(|incident| incident.part == Part::File)
    }

    /// The proxy runs `plan` but for `refusals`.
    pub fn accept(&mut self, plan: &Plan, refusals: &[Refusal], process: Process) {
        self.refuse(plan, refusals, Some(process));
        let refused = self.parts_of(plan, refusals);
        self.incidents.retain(|incident| {
            let is_published =
                incident.part == Part::Whole || incident.part.value_in(plan) == incident.wanted;
            refused.contains(&incident.part) || !is_published
        });
        let accepted = self.accepted.get_or_insert_default();
        let is_refused = |key: &str| refused.contains(&Part::Key(key.to_owned()));
        accepted.retain(|key, _| is_refused(key) || plan.value(key).is_some());
        for (key, value) in plan.head.iter().filter(|(key, _)| !is_refused(key)) {
            accepted.insert(key.clone(), value.clone());
        }
    }

    /// `wanted` with the refused parts that are due for a retry, and the list of these.
    pub fn candidate(&self, wanted: Plan, process: Option<Process>) -> (Plan, BTreeSet<Part>) {
        let incidents = { self.incidents.iter() }.filter(|one| one.part != Part::File);
        let tried = incidents.filter(|one| one.is_tried_again(process));
        let tried: BTreeSet<Part> = tried.map(|incident| incident.part.clone()).collect();
        let (plan, _) = self.without(wanted, |incident| !tried.contains(&incident.part));
        (plan, tried)
    }

    /// Of `tried`, only `refusals` would be refused now.
    pub fn tried(
        &mut self,
        plan: &Plan,
        tried: &BTreeSet<Part>,
        refusals: &[Refusal],
        process: Option<Process>,
    ) {
        let refused = self.parts_of(plan, refusals);
        self.incidents
            .retain(|incident| !tried.contains(&incident.part) || refused.contains(&incident.part));
        self.refuse(plan, refusals, process);
    }

    /// For a proxy that cannot be asked: `tried` is published once more, and held again if it is refused. The
    /// incidents last meanwhile. True if this publishes something.
    pub fn publish_again(&mut self, tried: &BTreeSet<Part>) -> bool {
        let incidents = self.incidents.iter_mut();
        let tried = incidents.filter(|incident| tried.contains(&incident.part));
        let mut has_parts = false;
        for incident in tried {
            incident.is_on_trial = true;
            has_parts |= incident.part != Part::Whole;
        }
        has_parts
    }

    fn parts_of(&self, plan: &Plan, refusals: &[Refusal]) -> BTreeSet<Part> {
        let places = refusals.iter().map(|refusal| refusal.place.as_str());
        places.flat_map(|place| self.parts(plan, place)).collect()
    }

    /// The parts of `plan` that a refusal at `place` concerns. If it names none: every key whose value has not
    /// been accepted yet.
    fn parts(&self, plan: &Plan, place: &str) -> Vec<Part> {
        if let Some(key) = plan.backend_at(place) {
            return vec![Part::Backend(key)];
        }
        if let Some(key) = plan.key_at(place) {
            return vec![Part::Key(key)];
        }
        let none = BTreeMap::new();
        let accepted = self.accepted.as_ref().unwrap_or(&none);
        let keys = plan.head.iter().map(|(key, _)| key).chain(accepted.keys());
        let differs = |key: &&String| plan.value(key) != accepted.get(*key);
        let keys: BTreeSet<&String> = keys.filter(differs).collect();
        match keys.is_empty() || self.accepted.is_none() {
            true => vec![Part::Whole],
            false => keys.into_iter().cloned().map(Part::Key).collect(),
        }
    }
}

/// A backend's entry without its load figures, which do not count as a change.
fn entry(backend: &Backend) -> Value {
    let mut entry = backend.to_json();
    if let Value::Object(entry) = &mut entry {
        for figure in ["gpu_usage", "vram_usage", "reported_at_ms"] {
            entry.remove(figure);
        }
    }
    entry
}

/// A key's value for a sentence: an address as one.
fn short(value: &Value) -> String {
    const LONGEST: usize = 80;
    match services::addr_of(value) {
        Some(addr) => addr.to_string(),
        None => value.to_string().chars().take(LONGEST).collect(),
    }
}

#[cfg(test)]
mod tests;
