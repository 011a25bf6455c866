//! `GET /api/v1/backends/{id}`: who says what of one backend, its states, its edits.

use serde_json::{Value, json};

use super::harness::{Control, Folder, ask, until};
use crate::base::parse_id;

const ID: &str = "10.0.0.1:9001";

async fn detail(control: &Control) -> Value {
    let path = format!("/api/v1/backends/{ID}");
    let (status, detail) = control.ask(ask("GET", &path)).await;
    assert_eq!(status, 200, "{detail}");
    detail
}

#[tokio::test]
async fn each_layer_says_its_own_weight() {
    let folder = Folder::new(json!({}));
    let discovered = json!({ "source": "k8s", "updated_at": 1, "backends": [
        { "ip": "10.0.0.1", "port": 9001, "weight": 30 }] });
    folder.write(folder.root.k8s_endpoints(), &discovered);
    let control = folder.start().await;
    let layers = detail(&control).await["layers"].clone();
    assert_eq!(layers["discovery"]["weight"], json!(30));
    assert_eq!(
        (&layers["registration"], &layers["override"]),
        (&Value::Null, &Value::Null)
    );

    let body = json!({ "ip": "10.0.0.1", "port": 9001, "weight": 20 });
    control.good(ask("POST", "/api/register").body(&body)).await;
    let path = "/api/backends/10.0.0.1/9001/weight";
    control
        .good(ask("POST", path).body(&json!({"weight": 7})))
        .await;
    let now = detail(&control).await;
    let weights = ["override", "registration", "discovery"]
        .map(|layer| now["layers"][layer]["weight"].clone());
    assert_eq!(weights, [json!(7), json!(20), json!(30)]);
    assert_eq!(now["backend"]["weight"], json!(7));
}

#[tokio::test]
async fn its_states_are_kept_also_while_nobody_asks() {
    let folder = Folder::new(json!({ "runtime_ttl_sec": 15 }));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let states = || {
        control
            .app
            .shared
            .history()
            .of(&parse_id(ID).expect("an id"))
            .len()
    };
    control.pass_ms(1_000);
    until("the first look", || states() == 1).await;
    let path = "/api/backends/10.0.0.1/9001/enabled";
    control
        .good(ask("POST", path).body(&json!({"enabled": false})))
        .await;
    control.pass_ms(1_000);
    until("the second state", || states() == 2).await;
    let history = detail(&control).await["history"].clone();
    let words = |at: usize| [&history[at]["admin"], &history[at]["operational"]];
    assert_eq!(words(0), ["disabled", "unknown"], "the newest first");
    assert_eq!(words(1), ["ready", "unknown"]);
    assert!(history[0]["at_ms"].as_u64() > history[1]["at_ms"].as_u64());
}

#[tokio::test]
async fn its_edits_are_its_own_lines_and_its_part_of_wider_ones() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for ip in ["10.0.0.1", "10.0.0.2"] {
        control.register(ip).await;
    }
    let other = "/api/backends/10.0.0.2/9001/weight";
    control
        .good(ask("POST", other).body(&json!({"weight": 3})))
        .await;
    let body = json!({ "changes": [
        { "id": ID, "weight": 70 }, { "id": "10.0.0.2:9001", "weight": 70 }] });
    control
        .good(
            ask("POST", "/api/v1/changes")
                .body(&body)
                .header("if-match", "*"),
        )
        .await;
    let edits = detail(&control).await["edits"].clone();
    let edits = edits.as_array().expect("an array");
    let actions: Vec<&Value> = edits.iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["changes", "register"], "{edits:?}");
    assert_eq!(edits[0]["new"]["weight"], json!(70));
    assert_eq!(edits[0]["old"]["weight"], json!(10));
    assert!(!edits[0].to_string().contains("10.0.0.2"), "{}", edits[0]);
}

#[tokio::test]
async fn changes_of_settings_are_told_with_it_and_refused_ones_are_not() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let set = async |body: Value| {
        control
            .ask(ask("POST", "/api/settings").body(&body))
            .await
            .0
    };
    assert_eq!(set(json!({"algorithm": "random"})).await, 200);
    assert_eq!(set(json!({"algorithm": "fastest"})).await, 400);
    let told = detail(&control).await;
    let edits = told["settings_edits"].as_array().expect("an array");
    assert_eq!(edits.len(), 1, "{edits:?}");
    assert_eq!(edits[0]["new"]["algorithm"], json!("random"), "{edits:?}");
    assert_eq!(told["edits"].as_array().map(Vec::len), Some(1), "{told}");
}
