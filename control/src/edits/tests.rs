//! What can be rolled back, and to what.

use serde_json::{Value, json};

use super::*;
use crate::base::tests::{key, key_in};
use crate::changes::ChangeSet;
use crate::sources::entry::Said;

const NOW: Now = Now {
    monotonic_ms: 0,
    listened_ms: 0,
    unix_ms: 1_700_000_000_000,
};

fn change(old: Value, new: Value) -> Change {
    Change {
        effect: crate::registry::Effect::State,
        old,
        new,
    }
}

fn of(edits: Vec<Edit>) -> Edits {
    let mut all = Edits::default();
    edits.into_iter().for_each(|edit| assert!(all.take(edit)));
    all
}

fn set(ids: &[&str], note: Option<&str>) -> Mutation {
    let edits = ids
        .iter()
        .map(|id| (parse_key(id).expect("an id"), OverridePatch::default()));
    Mutation::Change(ChangeSet {
        edits: edits.collect(),
        if_revision: None,
        note: note.map(str::to_owned),
        roll_back: None,
    })
}

fn weights(of: &[(&str, Option<u16>)]) -> Value {
    let line = |weight: Option<u16>| json!({ "override": { "weight": weight, "enabled": null, "drain": null } });
    let lines = of
        .iter()
        .map(|(id, weight)| ((*id).to_owned(), line(*weight)));
    Value::Object(lines.collect())
}

#[test]
fn an_edit_is_read_as_it_was_written() {
    let mut edits = Edits::default();
    let (a, b) = ("10.0.0.1:80", "[2001:db8::1]:80");
    let changed = change(
        weights(&[(a, None), (b, Some(1))]),
        weights(&[(a, Some(5)), (b, None)]),
    );
    edits
        .note(
            &set(&[a, b], Some("maintenance")),
            &changed,
            "127.0.0.1",
            NOW,
        )
        .expect("an edit");
    let settings = Mutation::RollBackSettings(1);
    let changed = change(
        json!({"algorithm": "random"}),
        json!({"listen": {"port": 80}}),
    );
    edits
        .note(&settings, &changed, "control: publisher", NOW)
        .expect("an edit");
    let written = edits.lines();
    let read: Vec<Edit> = written
        .iter()
        .map(|line| Edit::from_json(line).expect("read"))
        .collect();
    assert_eq!(of(read).lines(), written);
    assert_eq!(written[0]["note"], "maintenance");
    // What has changed nothing is none.
    let same = weights(&[(a, Some(5))]);
    assert_eq!(
        edits.note(&set(&[a], None), &change(same.clone(), same), "x", NOW),
        None
    );
}

#[test]
fn the_last_fifty_are_kept_and_their_numbers_go_on() {
    let mut edits = Edits::default();
    let a = "10.0.0.1:80";
    for weight in 0..60_u16 {
        let changed = change(
            weights(&[(a, Some(weight))]),
            weights(&[(a, Some(weight + 1))]),
        );
        edits
            .note(&set(&[a], None), &changed, "x", NOW)
            .expect("an edit");
    }
    assert_eq!(
        (edits.kept.len(), edits.kept[0].number, edits.last),
        (KEPT, 11, 60)
    );
    let read: Vec<Edit> = edits.kept.iter().cloned().collect();
    assert_eq!(of(read).last, 60);
}

#[test]
fn a_patch_between_two_layers_leads_from_one_to_the_other() {
    let layers = [
        json!({}),
        json!({"algorithm": "random", "listen": {"port": 80, "udp": false}}),
        json!({"listen": {"host": "127.0.0.1", "port": 81}, "proxy": {"max_sessions": 5}}),
        json!({"proxy": {"idle_timeout_ms": 1000, "health": {"probe": "off"}}}),
    ];
    for from in &layers {
        for to in &layers {
            let (from, to) = (layer(from).expect("good"), layer(to).expect("good"));
            assert_eq!(from.patched(&between(&from, &to)).expect("good"), to);
        }
    }
}

#[test]
fn one_address_in_two_pools_is_rolled_back_in_each_by_itself() {
    let mut model = crate::model::tests::model();
    let mut edits = Edits::default();
    let (one, two) = (key(1), key_in("chat", 1));
    let listed = Said::nothing_of(two.clone());
    model
        .apply(&Mutation::SetStatic(listed), "op", NOW)
        .expect("room");
    let mut make = |weights: [(&BackendKey, u16); 2]| {
        let edit = |(key, weight): (&BackendKey, u16)| {
            let weight = Part::Set(weight);
            let patch = OverridePatch {
                weight,
                ..OverridePatch::default()
            };
            (key.clone(), patch)
        };
        let set = Mutation::Change(ChangeSet {
            edits: weights.map(edit).to_vec(),
            if_revision: None,
            note: None,
            roll_back: None,
        });
        let change = model.apply(&set, "op", NOW).expect("both are known");
        edits.note(&set, &change, "op", NOW).expect("an edit");
    };
    make([(&one, 1), (&two, 100)]);
    make([(&one, 2), (&two, 100)]);
    make([(&one, 3), (&two, 300)]);
    // As they are after a restart.
    let read = edits
        .kept
        .iter()
        .map(|edit| Edit::from_json(&edit.to_json()));
    let read = of(read
        .map(|edit| edit.expect("read as it was written"))
        .collect());
    assert_eq!(read.kept, edits.kept);
    let back = |number| {
        let back = read.way_back(number, &model).expect("kept").overrides;
        let weights = back.into_iter().map(|(key, patch)| (key, patch.weight));
        weights.collect::<Vec<_>>()
    };
    let set = |key: &BackendKey, weight| (key.clone(), Part::Set(weight));
    assert_eq!(back(3), [set(&two, 100), set(&one, 2)]);
    assert_eq!(back(2), [set(&two, 100), set(&one, 1)]);
    let cleared = [&two, &one].map(|key| (key.clone(), Part::Clear));
    assert_eq!(back(1), cleared);
}

#[tokio::test]
async fn a_file_that_was_cut_or_has_foreign_lines_gives_what_can_be_read_and_is_written_whole() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("edits.jsonl");
    let (mut file, mut edits) = EditsFile::open(&path);
    let a = "10.0.0.1:80";
    let edit = async |file: &mut EditsFile, edits: &mut Edits, weight: u16| {
        let changed = change(
            weights(&[(a, Some(weight))]),
            weights(&[(a, Some(weight + 1))]),
        );
        let line = edits
            .note(&set(&[a], None), &changed, "x", NOW)
            .expect("an edit")
            .edit
            .to_json();
        file.write(vec![line], || edits.lines()).await;
    };
    for weight in 0..3 {
        edit(&mut file, &mut edits, weight).await;
    }
    let text = std::fs::read_to_string(&path).expect("written");
    assert_eq!(text.lines().count(), 3);
    std::fs::write(&path, format!("hello\n{}", &text[..text.len() - 10])).expect("cut");
    let (mut file, mut edits) = EditsFile::open(&path);
    assert_eq!((edits.kept.len(), edits.last), (2, 2));
    edit(&mut file, &mut edits, 7).await;
    let (_, edits) = EditsFile::open(&path);
    let numbers: Vec<u64> = edits.kept.iter().map(|edit| edit.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    // A FIFO in its place holds nobody up.
    let (mut file, mut edits) = EditsFile::open(&path);
    edit(&mut file, &mut edits, 8).await;
    std::fs::remove_file(&path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("coreutils").success());
    let patience = std::time::Duration::from_secs(30);
    let written = tokio::time::timeout(patience, edit(&mut file, &mut edits, 9));
    written.await.expect("no wait");
    assert!(file.failing().is_some(), "a warning");
    std::fs::remove_file(&path).expect("removed");
    edit(&mut file, &mut edits, 10).await;
    assert_eq!(EditsFile::open(&path).1.lines(), edits.lines());
    // It does not grow without end.
    let (mut file, mut edits) = EditsFile::open(&path);
    for weight in 0..230 {
        edit(&mut file, &mut edits, weight).await;
    }
    let text = std::fs::read_to_string(&path).expect("written");
    assert!(text.lines().count() <= 2 * KEPT, "{}", text.lines().count());
    assert_eq!(EditsFile::open(&path).1.lines(), edits.lines());
}

/// A number names one edit, whatever stands in the file; each line that is left out is a shorter list.
#[tokio::test]
async fn a_file_with_wrong_numbers_or_kinds_gives_no_number_twice() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("edits.jsonl");
    let part = json!({"weight": 1, "enabled": null, "drain": null});
    let line = |number: Value| {
        json!({
            "number": number, "at_ms": 7, "actor": "x", "action": "changes", "target": "backends",
            "note": null, "before_edit": null, "settings": null,
            "overrides": [{"id": "10.0.0.1:80", "old": part, "new": part}],
        })
    };
    let with = |key: &str, value: Value| {
        let mut line = line(json!(9));
        line[key] = value;
        line.to_string()
    };
    let bad_part = |part: Value| {
        with(
            "overrides",
            json!([{"id": "10.0.0.1:80", "old": part, "new": {}}]),
        )
    };
    let written = [
        line(json!(5)).to_string(),
        line(json!(5)).to_string(),
        line(json!(3)).to_string(),
        line(json!(u64::MAX)).to_string(),
        line(json!(u64::MAX - 1)).to_string(),
        line(json!(-1)).to_string(),
        line(json!(6.5)).to_string(),
        line(json!("7")).to_string(),
        line(json!(0)).to_string(),
        with("action", json!("paint")),
        with("colour", json!("red")),
        with("at_ms", json!(u64::MAX)),
        with("before_edit", json!("last")),
        bad_part(json!({"weight": 70_000})),
        bad_part(json!({"weight": "1"})),
        bad_part(json!({"colour": "red"})),
        bad_part(json!(3)),
        with("settings", json!({"old": {}, "new": {"colour": 1}})),
        "[]".to_owned(),
        line(json!(8)).to_string(),
        line(json!(7)).to_string(),
        line(json!(9)).to_string()[..40].to_owned(),
    ];
    std::fs::write(&path, written.join("\n")).expect("written");
    let (mut file, mut edits) = EditsFile::open(&path);
    let numbers = |edits: &Edits| -> Vec<u64> { edits.kept.iter().map(|e| e.number).collect() };
    assert_eq!(numbers(&edits), [5, 8]);
    let a = "10.0.0.1:80";
    let changed = change(weights(&[(a, Some(1))]), weights(&[(a, Some(2))]));
    let noted = edits.note(&set(&[a], None), &changed, "x", NOW);
    let new = noted.expect("an edit").edit.to_json();
    assert_eq!(new["number"], json!(9));
    file.write(vec![new], || edits.lines()).await;
    assert_eq!(numbers(&EditsFile::open(&path).1), [5, 8, 9]);
}
