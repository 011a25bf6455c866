//! `GET /api/v1/series`: what was kept, and questions that are faulty.

use serde_json::{Value, json};

use super::harness::{Folder, ask};
use crate::series::STEP_MS;

#[tokio::test]
async fn an_edit_is_a_mark_and_a_registration_none() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let path = "/api/backends/10.0.0.1/9001/weight";
    control
        .good(ask("POST", path).body(&json!({ "weight": 7 })))
        .await;
    control
        .ask(ask("POST", path).body(&json!({ "weight": "many" })))
        .await;
    let (status, series) = control.ask(ask("GET", "/api/v1/series")).await;
    assert_eq!(status, 200, "{series}");
    let marks = series["marks"].as_array().expect("a list").iter();
    let edits: Vec<&Value> = marks.filter(|mark| mark["kind"] == "edit").collect();
    assert_eq!(edits.len(), 1, "{series}");
    assert_eq!(
        (&edits[0]["action"], &edits[0]["target"]),
        (&json!("weight"), &json!("10.0.0.1:9001"))
    );
    assert_eq!(series["step_ms"], json!(STEP_MS));
}

#[tokio::test]
async fn a_faulty_question_is_told_what_is_allowed() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let cases = [
        ("step_ms=7", 400, "5000 or 60000"),
        ("from_ms=soon", 400, "an integer from 0 to "),
        ("from_ms=9&to_ms=8", 400, "an integer from 0 to 8"),
        ("backend=here", 400, "ip:port"),
        ("backend=10.0.0.1:9001", 404, "a backend that was listed"),
        ("from_ms=0&to_ms=0", 200, "\"count\":0"),
        ("from_ms=0", 200, "\"step_ms\":60000"),
    ];
    for (query, right, said) in cases {
        let path = format!("/api/v1/series?{query}");
        let (status, answer) = control.ask(ask("GET", &path)).await;
        assert_eq!(status, right, "{query}: {answer}");
        assert!(answer.to_string().contains(said), "{query}: {answer}");
    }
}
