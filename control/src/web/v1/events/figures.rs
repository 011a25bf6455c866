//! Which changes of a row can wait. Everything that decides whether a backend serves is sent at once;
//! figures are sent in turns, unless a client asks for that row.
//!
//! 3,000 rows that all change each second are 3 MB of JSON a second as whole fields, and far more
//! than a page can show.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use contract::BackendKey;
use serde_json::{Map, Value};

use super::patch::merge;

/// Each row has its turn once in this number of events.
const TURNS: u64 = 5;
/// Members of a row that are figures.
const OF_ROW: [&str; 8] = [
    "gpu_usage",
    "vram_usage",
    "last_seen",
    "expires_at_ms",
    "reported_at_ms",
    "queue",
    "running",
    "cost",
];
/// Members of `proxy` that are numbers and no figures: new sessions follow them.
const NOT_OF_PROXY: [&str; 2] = ["weight", "weight_effective"];

/// Members of `proxy` that are counts by reason.
const COUNTS_OF_PROXY: [&str; 2] = ["sessions_failed", "flows_failed"];

/// Figures that wait for their turn, by backend.
#[derive(Default)]
pub struct Waiting(HashMap<BackendKey, Value>);

impl Waiting {
    /// What event `number` sends about a row to all clients: everything but figures, and all figures since
    /// the last turn if it is this row's turn.
    pub fn take_turn(
        &mut self,
        key: &BackendKey,
        changed: Option<&Value>,
        number: u64,
    ) -> Option<Value> {
        let (mut told, figures) = changed.map(split).unwrap_or_default();
        match (&told, self.0.get_mut(key)) {
            (Some(Value::Object(told)), Some(waiting)) => supersede(waiting, told),
            // It comes whole.
            (Some(_), Some(_)) => self.forget(key),
            _ => {}
        }
        if let Some(figures) = figures {
            match self.0.get_mut(key) {
                Some(waiting) => merge(waiting, figures),
                None => {
                    self.0.insert(key.clone(), figures);
                }
            }
        }
        if number % TURNS == turn(key)
            && let Some(waiting) = self.0.remove(key)
            && waiting
                .as_object()
                .is_some_and(|members| !members.is_empty())
        {
            match &mut told {
                Some(told) => merge(told, waiting),
                None => told = Some(waiting),
            }
        }
        told
    }

    /// Forgets what waits for a row that is gone or comes whole: its older figures must not follow it.
    pub fn forget(&mut self, key: &BackendKey) {
        self.0.remove(key);
    }
}

/// Removes from the waiting figures what is sent now, so that no older value follows it.
fn supersede(waiting: &mut Value, told: &Map<String, Value>) {
    let Some(waiting) = waiting.as_object_mut() else {
        return;
    };
    for (key, value) in told {
        match (waiting.get_mut(key), value) {
            (Some(waiting), Value::Object(told)) if waiting.is_object() => supersede(waiting, told),
            (Some(_), _) => {
                waiting.remove(key);
            }
            (None, _) => {}
        }
    }
}

fn turn(key: &BackendKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() % TURNS
}

/// Splits the patch of a row into what is sent at once and what can wait. Figures that come whole cannot:
/// the next patch of them may reach a client before their turn, and would change what it does not have.
fn split(patch: &Value) -> (Option<Value>, Option<Value>) {
    let Some(members) = patch.as_object() else {
        return (Some(patch.clone()), None);
    };
    let (mut now, mut later) = (Map::new(), Map::new());
    for (key, value) in members {
        match (key.as_str(), value) {
            ("proxy", Value::Object(seen)) => {
                let is_figure = |(key, value): &(&String, &Value)| {
                    let is_count = value.is_number() || value.is_null();
                    let is_count = is_count && !NOT_OF_PROXY.contains(&key.as_str());
                    is_count || (COUNTS_OF_PROXY.contains(&key.as_str()) && !value.is_array())
                };
                let (figures, rest): (Vec<_>, Vec<_>) = seen.iter().partition(is_figure);
                keep(&mut now, key, rest);
                keep(&mut later, key, figures);
            }
            (figure, value) if OF_ROW.contains(&figure) && !value.is_array() => {
                later.insert(key.clone(), value.clone());
            }
            (_, value) => {
                now.insert(key.clone(), value.clone());
            }
        }
    }
    let some = |members: Map<_, _>| (!members.is_empty()).then_some(Value::Object(members));
    (some(now), some(later))
}

fn keep(into: &mut Map<String, Value>, key: &str, members: Vec<(&String, &Value)>) {
    if members.is_empty() {
        return;
    }
    let members = members.into_iter();
    let members = members.map(|(key, value)| (key.clone(), value.clone()));
    into.insert(key.to_owned(), Value::Object(members.collect()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::patch::{apply, patch};
    use super::*;
    use crate::base::parse_id;

    #[test]
    fn what_serves_is_told_at_once_and_figures_wait_for_their_turn() {
        let key = parse_id("10.0.0.1:80").expect("an id");
        let mut waiting = Waiting::default();
        let its = turn(&key);
        let changed = json!({"enabled": false, "vram_usage": 0.5,
            "proxy": {"operational": "down", "weight_effective": 0, "sessions_total": 7}});
        let told = waiting.take_turn(&key, Some(&changed), its + 1);
        let expected =
            json!({"enabled": false, "proxy": {"operational": "down", "weight_effective": 0}});
        assert_eq!(told, Some(expected));
        let more =
            json!({"proxy": {"sessions_total": 9, "sessions_failed": [{"backend_reset": 1}]}});
        let first = json!({"proxy": {"sessions_failed": [{"backend_reset": 1}]}});
        assert_eq!(
            waiting.take_turn(&key, Some(&more), its + 2),
            Some(first),
            "what comes whole does not wait"
        );
        let another = json!({"proxy": {"sessions_failed": {"backend_reset": 2}}});
        assert_eq!(waiting.take_turn(&key, Some(&another), its + 3), None);
        let all = json!({"vram_usage": 0.5,
            "proxy": {"sessions_total": 9, "sessions_failed": {"backend_reset": 2}}});
        assert_eq!(waiting.take_turn(&key, None, its + TURNS), Some(all));
        assert_eq!(waiting.take_turn(&key, None, its + 2 * TURNS), None);
        let costs = json!({"cost": [{"total": 1.5, "weight": 1}]});
        assert_eq!(
            waiting.take_turn(&key, Some(&costs), its + 1),
            Some(costs.clone())
        );
        let cheaper = json!({"cost": {"total": 1.25}});
        assert_eq!(waiting.take_turn(&key, Some(&cheaper), its + 2), None);
        assert_eq!(
            waiting.take_turn(&key, None, its + TURNS),
            Some(cheaper.clone())
        );
        // A proxy that is gone takes its figures with it.
        waiting.take_turn(&key, Some(&more), its + 1);
        let gone = json!({"proxy": null});
        assert_eq!(
            waiting.take_turn(&key, Some(&gone), its + 2),
            Some(gone.clone())
        );
        assert_eq!(waiting.take_turn(&key, None, its + TURNS), None);
    }

    /// A row as the server may find it, by chance: with or without figures, its proxy, its cost.
    fn some_row(random: &mut fastrand::Rng) -> Value {
        let mut row = json!({"enabled": random.bool(), "vram_usage": random.u8(..3)});
        let figures = json!({"total": random.u8(..3), "weight": 1});
        match random.u8(..4) {
            0 => {}
            1 => row["cost"] = Value::Null,
            _ => row["cost"] = figures,
        }
        let failed = json!({"backend_reset": random.u8(..3)});
        match random.u8(..4) {
            0 => {}
            1 => row["proxy"] = Value::Null,
            2 => row["proxy"] = json!({"sessions_total": random.u8(..3)}),
            _ => row["proxy"] = json!({"sessions_total": 1, "sessions_failed": failed}),
        }
        row
    }

    #[test]
    fn who_takes_each_turn_never_has_parts_of_figures_and_ends_with_the_row() {
        let key = parse_id("10.0.0.1:80").expect("an id");
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut waiting = Waiting::default();
            let mut row = some_row(&mut random);
            let mut known = row.clone();
            for number in 0..30 {
                let now = match random.bool() && number < 25 {
                    true => some_row(&mut random),
                    false => row.clone(),
                };
                let changed = patch(&row, &now);
                row = now;
                if let Some(told) = waiting.take_turn(&key, changed.as_ref(), number) {
                    apply(&mut known, told);
                }
                let cost = &known["cost"];
                assert!(
                    !cost.is_object() || cost.get("weight").is_some(),
                    "seed {seed}, event {number}: {known} of {row}"
                );
            }
            assert_eq!(known, row, "seed {seed}");
        }
    }
}
