//! Calls of `POST /api/settings` whose outcome is not known yet.
//!
//! The changes of such a call are stored together with the earlier values, so that neither is lost if control
//! ends before the proxy has accepted or refused them.

use contract::{Faults, Object};
use serde_json::{Map, Value, json};

use crate::changes::RollBack;
use crate::layer::Layer;
use crate::note::take_note;

/// How many calls wait for their outcome at most; the oldest then counts as done.
const MAX_PENDING: usize = 64;

/// What happens to a call that the proxy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRefusal {
    /// The settings are as before the call.
    #[default]
    RollBack,
    /// The settings are kept, and retried.
    KeepTrying,
}

impl OnRefusal {
    const ALL: [(&str, OnRefusal); 2] = [
        ("roll_back", OnRefusal::RollBack),
        ("keep_trying", OnRefusal::KeepTrying),
    ];

    fn word(self) -> &'static str {
        match self {
            OnRefusal::RollBack => "roll_back",
            OnRefusal::KeepTrying => "keep_trying",
        }
    }
}

/// A call: the body of `POST /api/settings`.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsCall {
    /// Unique since the start.
    pub id: u64,
    /// The body without `on_refusal` and `note`.
    pub patch: Map<String, Value>,
    pub on_refusal: OnRefusal,
    /// The number of edits that the call was made for; `None`: any.
    pub if_revision: Option<u64>,
    /// The operator's note.
    pub note: Option<String>,
    pub roll_back: Option<RollBack>,
}

/// A stored call whose outcome is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingCall {
    pub id: u64,
    pub on_refusal: OnRefusal,
    /// The settings by API before the call.
    pub old: Layer,
    /// Those after it.
    pub new: Layer,
}

impl SettingsCall {
    /// Takes `on_refusal` and `note` out of the body; the rest is read when the call is carried out. It is made
    /// for any number of edits.
    ///
    /// # Errors
    /// An invalid `on_refusal` or `note`.
    pub fn read(id: u64, mut body: Map<String, Value>) -> Result<SettingsCall, Faults> {
        let mut faults = Faults::default();
        let mut object = Object::new(&body, "");
        let on_refusal = object.take_choice("on_refusal", &OnRefusal::ALL, &mut faults);
        let note = take_note(&mut object, &mut faults);
        body.remove("on_refusal");
        body.remove("note");
        match faults.is_empty() {
            true => Ok(SettingsCall {
                id,
                patch: body,
                on_refusal: on_refusal.unwrap_or_default(),
                if_revision: None,
                note,
                roll_back: None,
            }),
            false => Err(faults),
        }
    }
}

/// Adds a call, unless it changes nothing.
pub fn add(pending: &mut Vec<PendingCall>, call: PendingCall) {
    if call.old == call.new {
        return;
    }
    if pending.len() == MAX_PENDING {
        pending.remove(0);
    }
    pending.push(call);
}

/// Removes the call; `None` if it is no longer there.
pub fn take(pending: &mut Vec<PendingCall>, id: u64) -> Option<PendingCall> {
    let place = pending.iter().position(|call| call.id == id)?;
    Some(pending.remove(place))
}

/// `pending` of `settings_runtime.json`.
pub fn to_json(pending: &[PendingCall]) -> Value {
    let calls = pending.iter().map(|call| {
        json!({
            "id": call.id, "on_refusal": call.on_refusal.word(),
            "old": call.old.to_json(), "new": call.new.to_json(),
        })
    });
    calls.collect()
}

/// Reads the same. A call that cannot be read counts as done: its settings are kept.
pub fn from_json(value: Option<Value>) -> Vec<PendingCall> {
    let Some(Value::Array(calls)) = value else {
        return Vec::new();
    };
    let read = |call: &Value| {
        let layer = |key: &str| Layer::default().patched(call[key].as_object()?).ok();
        let word = call["on_refusal"].as_str();
        let mut known = OnRefusal::ALL.iter();
        let on_refusal = known.find(|(own, _)| word == Some(*own));
        Some(PendingCall {
            id: call["id"].as_u64()?,
            on_refusal: on_refusal.map_or_else(OnRefusal::default, |(_, known)| *known),
            old: layer("old")?,
            new: layer("new")?,
        })
    };
    let calls = calls.iter().rev().take(MAX_PENDING).rev();
    calls.filter_map(read).collect()
}
