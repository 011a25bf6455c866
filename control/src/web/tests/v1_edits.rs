//! The list of edits, notes, and the way back.

use serde_json::{Value, json};

use super::harness::{Control, Folder, ask};

const A: &str = "10.0.0.1:9001";
const B: &str = "10.0.0.2:9001";

async fn two(folder: &Folder) -> Control {
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    control.register("10.0.0.2").await;
    control
}

async fn edits(control: &Control) -> Vec<Value> {
    let (status, body) = control.ask(ask("GET", "/api/v1/edits")).await;
    assert_eq!(status, 200, "{body}");
    body["edits"].as_array().expect("an array").clone()
}

async fn change(control: &Control, changes: Value, note: &str) {
    let body = json!({ "changes": changes, "note": note });
    control
        .good(
            ask("POST", "/api/v1/changes")
                .header("if-match", "*")
                .body(&body),
        )
        .await;
}

async fn weight(control: &Control, id: &str) -> Value {
    let (_, body) = control.ask(ask("GET", "/api/v1/backends")).await;
    let mut rows = body["backends"].as_array().expect("rows").iter();
    let row = rows.find(|row| row["id"] == id).expect("known");
    row["weight"].clone()
}

async fn algorithm(control: &Control) -> Value {
    let (_, body) = control.ask(ask("GET", "/api/settings")).await;
    body["settings"]["by_api"]["algorithm"].clone()
}

#[tokio::test]
async fn a_bad_change_is_rolled_back_with_all_that_followed() {
    let folder = Folder::new(json!({}));
    let control = two(&folder).await;
    change(
        &control,
        json!([{"id": A, "weight": 50}]),
        "more for the big one",
    )
    .await;
    change(
        &control,
        json!([{"id": A, "weight": 0}, {"id": B, "enabled": false}]),
        "a slip",
    )
    .await;
    let settings = json!({"algorithm": "random", "note": "a try"});
    control
        .good(ask("POST", "/api/settings").body(&settings))
        .await;
    control
        .good(ask("POST", "/api/backends/10.0.0.2/9001/weight").body(&json!({"weight": 7})))
        .await;
    let all = edits(&control).await;
    let notes: Vec<&Value> = all.iter().map(|edit| &edit["note"]).collect();
    assert_eq!(
        notes,
        [
            &Value::Null,
            &json!("a try"),
            &json!("a slip"),
            &json!("more for the big one")
        ]
    );
    assert_eq!(folder.audited("changes")[0]["note"], "more for the big one");

    // First only shown.
    let slip = &all[2]["number"];
    let path = format!("/api/v1/edits/{slip}/roll_back");
    let dry = format!("{path}?dry_run=true");
    let (status, shown) = control.ask(ask("POST", &dry).body(&json!({}))).await;
    assert_eq!(status, 200, "{shown}");
    let ids: Vec<&Value> = shown["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|line| &line["id"])
        .collect();
    assert_eq!(ids, [&json!(A), &json!(B)], "{shown}");
    assert_eq!(shown["settings"]["old"]["algorithm"], "random", "{shown}");
    assert_eq!(weight(&control, A).await, json!(0));
    assert_eq!(edits(&control).await.len(), 4);

    // It needs the tag, and a current one.
    let (status, _) = control.ask(ask("POST", &path).body(&json!({}))).await;
    assert_eq!(status, 428);
    let (_, headers, _) = control.ask_raw(ask("GET", "/api/v1/edits")).await;
    let tag = headers["etag"].to_str().expect("text").to_owned();
    let stale = tag.replace("-4", "-3");
    let (status, _) = control
        .ask(
            ask("POST", &path)
                .header("if-match", &stale)
                .body(&json!({})),
        )
        .await;
    assert_eq!(status, 412, "{tag}");

    let note = json!({"note": "the slip took B out"});
    let done = control
        .good(ask("POST", &path).header("if-match", &tag).body(&note))
        .await;
    assert_eq!(done["dry_run"], json!(false), "{done}");
    assert_eq!(weight(&control, A).await, json!(50));
    assert_eq!(weight(&control, B).await, json!(10));
    assert_eq!(algorithm(&control).await, Value::Null);
    // It is one edit, though it has changed both; in the file, too.
    let all = edits(&control).await;
    assert_eq!(all.len(), 5, "{all:?}");
    assert_eq!(all[0]["note"], "the slip took B out");
    assert_eq!(all[0]["before_edit"], *slip);
    assert_eq!(all[0]["action"], "roll_back");
    assert_eq!(all[0]["settings"]["old"]["algorithm"], "random", "{all:?}");
    let ids = all[0]["overrides"].as_array().expect("both").iter();
    assert_eq!(
        ids.map(|line| &line["id"]).collect::<Vec<_>>(),
        [&json!(A), &json!(B)]
    );
    let stored = std::fs::read_to_string(folder.root.edits()).expect("written");
    let stored: Vec<Value> = { stored.lines() }
        .map(|line| serde_json::from_str(line).expect("whole"))
        .collect();
    assert!(stored.iter().eq(all.iter().rev()), "{stored:?}");
    let lines = folder.audited("changes");
    let line = lines.last().expect("written");
    assert_eq!(
        (&line["before_edit"], &line["note"]),
        (slip, &json!("the slip took B out"))
    );
    let (_, series) = control.ask(ask("GET", "/api/v1/series")).await;
    let marks = series["marks"].as_array().expect("marks").iter();
    assert_eq!(
        marks.filter(|mark| mark["kind"] == "edit").count(),
        5,
        "{series}"
    );

    // And the way back is an edit that can be rolled back.
    let last = &all[0]["number"];
    let path = format!("/api/v1/edits/{last}/roll_back");
    control
        .good(ask("POST", &path).header("if-match", "*").body(&json!({})))
        .await;
    assert_eq!(weight(&control, A).await, json!(0));
    assert_eq!(algorithm(&control).await, json!("random"));
}

#[tokio::test]
async fn settings_that_the_proxy_cannot_take_leave_the_overrides_alone() {
    let folder = Folder::new(json!({}));
    let control = two(&folder).await;
    let settings = json!({"proxy": {"max_sessions": 500}});
    control
        .good(ask("POST", "/api/settings").body(&settings))
        .await;
    change(&control, json!([{"id": A, "weight": 0}]), "x").await;
    let number = edits(&control).await[1]["number"].clone();
    let path = format!("/api/v1/edits/{number}/roll_back");
    // The disk takes the registry and not the settings.
    std::fs::remove_file(folder.root.settings_runtime()).expect("there");
    std::fs::create_dir_all(folder.root.settings_runtime().join("full")).expect("a folder");
    let (status, body) = control
        .ask(ask("POST", &path).header("if-match", "*").body(&json!({})))
        .await;
    assert!(status.is_server_error(), "{status} {body}");
    assert_eq!(weight(&control, A).await, json!(0), "{body}");
    assert_eq!(
        edits(&control).await.len(),
        2,
        "the overrides were never changed"
    );
}

#[tokio::test]
async fn edits_outlive_a_restart_and_bad_calls_change_nothing() {
    let folder = Folder::new(json!({}));
    {
        let control = two(&folder).await;
        change(&control, json!([{"id": A, "weight": 50}]), "kept").await;
    }
    let control = folder.start().await;
    assert_eq!(edits(&control).await[0]["note"], "kept");
    let path = "/api/v1/edits/1/roll_back";
    for (path, body, expected) in [
        ("/api/v1/edits/9/roll_back", json!({}), 404),
        ("/api/v1/edits/x/roll_back", json!({}), 404),
        (path, json!({"note": 5}), 400),
        (path, json!({"note": "x".repeat(201)}), 400),
        (path, json!({"why": "x"}), 400),
    ] {
        let (status, answer) = control
            .ask(ask("POST", path).header("if-match", "*").body(&body))
            .await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
    }
    assert_eq!(edits(&control).await.len(), 1);
    // A backend that is gone is named, and holds nothing up.
    control
        .ask(
            ask("DELETE", "/api/register?ip=10.0.0.1&port=9001")
                .body(&json!({"ip": "10.0.0.1", "port": 9001})),
        )
        .await;
    let done = control
        .good(ask("POST", path).header("if-match", "*").body(&json!({})))
        .await;
    assert_eq!(done["gone"], json!([A]), "{done}");
    assert_eq!(done["settings"], Value::Null, "{done}");
    assert_eq!(done["changes"], json!([]), "{done}");
}

#[tokio::test]
async fn settings_are_rolled_back_by_an_admin_only() {
    let folder = Folder::new(json!({}));
    folder.write_tokens(&[("ops", "write", None), ("boss", "admin", None)]);
    let control = folder.start().await;
    let settings = json!({"algorithm": "random"});
    let as_boss = ask("POST", "/api/settings").header("authorization", "Bearer boss");
    control.good(as_boss.body(&settings)).await;
    for (token, expected) in [("Bearer ops", 403), ("Bearer boss", 200)] {
        let path = "/api/v1/edits/1/roll_back";
        let asked = ask("POST", path)
            .header("authorization", token)
            .header("if-match", "*");
        let (status, body) = control.ask(asked.body(&json!({}))).await;
        assert_eq!(status, expected, "{token}: {body}");
    }
}

/// The console words a roll back in its own language, so no text is made up where nobody has written any.
#[tokio::test]
async fn a_roll_back_without_a_note_names_the_edit_as_a_number() {
    let folder = Folder::new(json!({}));
    let control = two(&folder).await;
    change(&control, json!([{"id": A, "weight": 50}]), "x").await;
    let path = "/api/v1/edits/1/roll_back";
    control
        .good(ask("POST", path).header("if-match", "*").body(&json!({})))
        .await;
    let last = &edits(&control).await[0];
    assert_eq!(
        (&last["note"], &last["before_edit"]),
        (&Value::Null, &json!(1))
    );
    let lines = folder.audited("changes");
    let line = lines.last().expect("written");
    assert_eq!((line.get("note"), &line["before_edit"]), (None, &json!(1)));
}

#[tokio::test]
async fn a_call_that_changes_nothing_is_no_edit() {
    let folder = Folder::new(json!({}));
    let control = two(&folder).await;
    let weight = json!({"weight": 50});
    let settings = json!({"algorithm": "random"});
    let path = "/api/backends/10.0.0.1/9001/weight";
    let mut etag = String::new();
    for times in 1..=3 {
        control.good(ask("POST", path).body(&weight)).await;
        change(&control, json!([{"id": A, "weight": 50}]), "again").await;
        control
            .good(ask("POST", "/api/settings").body(&settings))
            .await;
        let all = edits(&control).await;
        assert_eq!(all.len(), 2, "{times}: {all:?}");
        let (_, series) = control.ask(ask("GET", "/api/v1/series")).await;
        let marks = series["marks"].as_array().expect("marks").iter();
        let count = marks.filter(|mark| mark["kind"] == "edit").count();
        assert_eq!(count, 2, "{times}: {series}");
        let (_, detail) = control
            .ask(ask("GET", "/api/v1/backends/10.0.0.1:9001"))
            .await;
        let lines = detail["edits"].as_array().expect("lines").iter();
        let edits = lines.filter(|line| line["action"] != "register").count();
        assert_eq!(edits, 1, "{times}: {detail}");
        let settings = detail["settings_edits"].as_array().map(Vec::len);
        assert_eq!(settings, Some(1), "{times}: {detail}");
        // Nobody's edit is stale for it.
        let (_, headers, _) = control.ask_raw(ask("GET", "/api/v1/edits")).await;
        let now = headers["etag"].to_str().expect("text").to_owned();
        assert!(times == 1 || now == etag, "{now} {etag}");
        etag = now;
    }
}

#[tokio::test]
async fn edits_that_cannot_be_stored_are_a_warning_until_they_are() {
    let folder = Folder::new(json!({}));
    let control = two(&folder).await;
    let warnings = async || {
        let (_, status) = control.ask(ask("GET", "/api/v1/status")).await;
        status["warnings"].to_string()
    };
    assert!(!warnings().await.contains("edits.jsonl"));
    std::fs::create_dir_all(folder.root.edits().join("full")).expect("a folder");
    change(&control, json!([{"id": A, "weight": 50}]), "x").await;
    let told = warnings().await;
    assert!(told.contains("edits.jsonl cannot be written"), "{told}");
    std::fs::remove_dir_all(folder.root.edits()).expect("there");
    // It is tried again without another edit.
    control
        .good(ask("POST", "/api/sync").body(&json!({})))
        .await;
    assert!(!warnings().await.contains("edits.jsonl"));
    let stored = std::fs::read_to_string(folder.root.edits()).expect("written");
    assert_eq!(stored.lines().count(), 1);
}
