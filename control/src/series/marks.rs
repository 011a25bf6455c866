//! Events: edits, states, configurations applied and refused. They are the marks on the charts.

use std::collections::{BTreeMap, VecDeque};

use contract::BackendKey;
use serde::Serialize;

/// Marks of a kind that are kept.
pub const MOST: usize = 500;
/// The longest text of a mark, in bytes.
const LONGEST: usize = 200;
/// How many backends a mark names; it counts all of them.
const NAMED: usize = 5;
/// The most bytes that all marks take: four kinds, with their texts and names.
pub const BYTES: u64 = (KINDS * MOST * (size_of::<Mark>() + 3 * LONGEST + NAMED * 48)) as u64;
const KINDS: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Unix milliseconds.
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// An edit of backends or settings.
    Edit {
        actor: String,
        action: &'static str,
        target: String,
    },
    /// Backends changed to a state.
    State {
        to: &'static str,
        count: usize,
        /// The first few of them.
        backends: Vec<String>,
    },
    /// The proxy runs a new generation.
    Applied { generation: u64 },
    /// The proxy does not run a generation, and why.
    Refused { generation: u64, reason: String },
}

#[derive(Debug, Default)]
pub struct Marks {
    /// Each kind separately, so that a storm of states displaces no edits.
    edits: VecDeque<Mark>,
    states: VecDeque<Mark>,
    applied: VecDeque<Mark>,
    refused: VecDeque<Mark>,
}

impl Marks {
    pub fn edit(&mut self, at_ms: u64, actor: &str, action: &'static str, target: &str) {
        let what = What::Edit {
            actor: shortened(actor),
            action,
            target: shortened(target),
        };
        keep(&mut self.edits, at_ms, what);
    }

    /// Backends that changed state at one look: one mark for each state.
    pub fn states(&mut self, at_ms: u64, changed: Vec<(&'static str, BackendKey)>) {
        let mut by_state: BTreeMap<&str, Vec<BackendKey>> = BTreeMap::new();
        for (to, key) in changed {
            by_state.entry(to).or_default().push(key);
        }
        for (to, backends) in by_state {
            let named = backends.iter().take(NAMED);
            let what = What::State {
                to,
                count: backends.len(),
                backends: named.map(ToString::to_string).collect(),
            };
            keep(&mut self.states, at_ms, what);
        }
    }

    pub fn applied(&mut self, at_ms: u64, generation: u64) {
        keep(&mut self.applied, at_ms, What::Applied { generation });
    }

    pub fn refused(&mut self, at_ms: u64, generation: u64, reason: &str) {
        let reason = shortened(reason);
        keep(
            &mut self.refused,
            at_ms,
            What::Refused { generation, reason },
        );
    }

    /// The marks of a time, the oldest first.
    pub fn between(&self, from_ms: u64, to_ms: u64) -> Vec<Mark> {
        let all = [&self.edits, &self.states, &self.applied, &self.refused];
        let all = all.into_iter().flatten();
        let within = all.filter(|mark| (from_ms..=to_ms).contains(&mark.at_ms));
        let mut marks: Vec<Mark> = within.cloned().collect();
        marks.sort_by_key(|mark| mark.at_ms);
        marks
    }
}

fn keep(marks: &mut VecDeque<Mark>, at_ms: u64, what: What) {
    if marks.len() == MOST {
        marks.pop_front();
    }
    marks.push_back(Mark { at_ms, what });
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::parse_id;

    #[test]
    fn a_storm_of_states_drives_no_edit_out() {
        let mut marks = Marks::default();
        marks.edit(5, "10.0.0.9", "weight", &"ü".repeat(LONGEST));
        let key = parse_id("10.0.0.1:80").expect("an id");
        for at_ms in 10..2_000 {
            marks.states(at_ms, vec![("down", key.clone()); 9]);
        }
        marks.applied(1_999, 8);
        marks.refused(7, 6, "no");
        let kept = marks.between(0, 1_999);
        assert_eq!(kept.len(), 1 + MOST + 1 + 1);
        let What::Edit { target, .. } = &kept[0].what else {
            panic!("the oldest is the edit: {:?}", kept[0]);
        };
        assert_eq!(target.len(), LONGEST);
        assert_eq!(kept[1].at_ms, 7);
        let What::State {
            count, backends, ..
        } = &kept[2].what
        else {
            panic!("then states: {:?}", kept[2]);
        };
        assert_eq!((*count, backends.len()), (9, NAMED));
        assert_eq!(marks.between(7, 7).len(), 1);
    }
}
