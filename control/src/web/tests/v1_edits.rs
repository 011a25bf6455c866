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
    let all = edits(&control).await;
    assert_eq!(all[0]["note"], "the slip took B out");

    // And the way back is an edit that can be rolled back.
    assert_eq!(all[1]["settings"]["old"]["algorithm"], "random", "{all:?}");
    let last = &all[1]["number"];
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
