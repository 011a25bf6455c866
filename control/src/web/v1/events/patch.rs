//! The difference between two JSON values, as a patch.
//!
//! An object holds its changed members; a plain value (`null` too) replaces the old one. A list, or an object
//! that has lost a member or was not an object before, is sent whole in a list of one, so that it can be
//! distinguished from a patch. A JSON Merge Patch (RFC 7396) cannot say `null`, which rows are full of.

use serde_json::{Map, Value};

/// `None` where nothing differs.
pub fn patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Some(before), Some(now)) = (old.as_object(), new.as_object()) else {
        return Some(whole(new));
    };
    if before.keys().any(|key| !now.contains_key(key)) {
        return Some(whole(new));
    }
    let changed = now.iter().filter_map(|(key, value)| {
        let changed = match before.get(key) {
            Some(old) => patch(old, value)?,
            None => whole(value),
        };
        Some((key.clone(), changed))
    });
    Some(Value::Object(changed.collect()))
}

fn whole(value: &Value) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) => Value::Array(vec![value.clone()]),
        plain => plain.clone(),
    }
}

/// One patch for two that follow each other.
pub fn merge(earlier: &mut Value, later: Value) {
    match (earlier, later) {
        (Value::Object(members), Value::Object(later)) => merge_members(members, later),
        (Value::Array(wholes), later @ Value::Object(_)) => {
            if let [value] = &mut wholes[..] {
                apply(value, later);
            }
        }
        (earlier, later) => *earlier = later,
    }
}

fn merge_members(members: &mut Map<String, Value>, later: Map<String, Value>) {
    for (key, value) in later {
        match members.get_mut(&key) {
            Some(earlier) => merge(earlier, value),
            None => {
                members.insert(key, value);
            }
        }
    }
}

/// What a client makes of a value and its patch.
pub fn apply(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(members), Value::Object(changed)) => {
            for (key, patch) in changed {
                apply(members.entry(key).or_insert(Value::Null), patch);
            }
        }
        (value, Value::Array(mut whole)) => *value = whole.pop().unwrap_or_default(),
        (value, plain) => *value = plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_makes_the_new_value_of_the_old_one_and_two_patches_make_one() {
        let values = [
            json!({}),
            json!({"a": 1, "b": {"c": 2, "d": null}, "e": [1, 2]}),
            json!({"a": null, "b": {"c": 2, "d": {"f": 3}}, "e": [1]}),
            json!({"a": [], "b": {"d": {"f": 4, "g": {}}}, "e": {"h": 1}}),
            json!({"b": null, "e": {"h": 2, "i": [[{}]]}}),
            json!(null),
            json!([{"a": 1}]),
        ];
        for first in &values {
            for second in &values {
                let between = patch(first, second);
                assert_eq!(between.is_none(), first == second);
                let mut made = first.clone();
                between
                    .iter()
                    .for_each(|patch| apply(&mut made, patch.clone()));
                assert_eq!(&made, second, "of {first}");
                for third in &values {
                    let (Some(mut both), Some(later)) = (between.clone(), patch(second, third))
                    else {
                        continue;
                    };
                    merge(&mut both, later);
                    let mut made = first.clone();
                    apply(&mut made, both);
                    assert_eq!(&made, third, "of {first} by {second}");
                }
            }
        }
    }

    #[test]
    fn only_what_changed_is_in_a_patch() {
        let old = json!({"id": "a", "proxy": {"sessions": 1, "reason": "", "ended": {"x": 1}}});
        let new = json!({"id": "a", "proxy": {"sessions": 2, "reason": "", "ended": {"x": 1}}});
        assert_eq!(patch(&old, &new), Some(json!({"proxy": {"sessions": 2}})));
        let lost = json!({"id": "a", "proxy": {"sessions": 1, "reason": "", "ended": {}}});
        assert_eq!(patch(&old, &lost), Some(json!({"proxy": {"ended": [{}]}})));
    }
}
