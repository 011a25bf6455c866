//! The order of members on the wire, which programs that compare bytes see.

use api::base;
use api::v1::{Backend, Beneath, Fault, Problem};
use serde_json::{Map, Value};

fn row() -> Backend {
    Backend {
        pool: "default".to_owned(),
        ip: [10, 0, 0, 1].into(),
        port: 9001,
        weight: 10,
        gpu_usage: Some(0.5),
        vram_usage: None,
        enabled: true,
        is_warming_up: false,
        last_seen: Some(7),
        source: "runtime".into(),
        sources: vec!["runtime".into()],
        r#override: None,
        without_override: Some(Beneath {
            weight: 3,
            enabled: true,
        }),
        state: "ready".into(),
        published_weight: 10,
        reported_at_ms: None,
        heartbeat_ms: Some(1000),
        owned: false,
        queue: None,
        running: Some(2),
        max_batch: Some(8),
        batch_window_ms: None,
        id: "10.0.0.1:9001".to_owned(),
        expires_at_ms: Some(9000),
        cost: None,
        proxy: None,
    }
}

#[test]
fn rows_keep_the_order_and_the_nulls_of_their_members() {
    let head = r#"{"pool":"default","ip":"10.0.0.1","port":9001,"weight":10,"gpu_usage":0.5,"vram_usage":null,"enabled":true,"is_warming_up":false,"last_seen":7,"source":"runtime","sources":["runtime"],"override":null,"without_override":{"weight":3,"enabled":true},"#;
    let tail = r#""state":"ready","published_weight":10,"reported_at_ms":null,"heartbeat_ms":1000,"owned":false,"queue":null,"running":2,"max_batch":8,"batch_window_ms":null,"#;
    let of_v1 = r#""id":"10.0.0.1:9001","expires_at_ms":9000,"proxy":null}"#;
    let of_base = r#""cost":null,"operational":"up","ready_tcp":true,"ready_udp":null}"#;
    let shown = serde_json::to_string(&row()).expect("JSON");
    assert_eq!(shown, format!("{head}{tail}{of_v1}"));
    let listed = base::Backend {
        ttl_remaining_ms: Some(15_000),
        operational: "up".into(),
        ready_tcp: Some(true),
        ..row().into()
    };
    let listed = serde_json::to_string(&listed).expect("JSON");
    let expected = format!(r#"{head}"ttl_remaining_ms":15000,{tail}{of_base}"#);
    assert_eq!(listed, expected);
    let read: base::Backend = serde_json::from_str(&listed).expect("a row");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), listed);
}

#[test]
fn an_error_of_the_base_api_is_the_problem_in_its_older_form() {
    let fault = contract::Fault {
        place: "/weight".to_owned(),
        found: "-1".to_owned(),
        allowed: "an integer from 0 to 1000".to_owned(),
    };
    let mut problem = Problem {
        r#type: "about:blank".to_owned(),
        title: "Bad Request".to_owned(),
        status: 400,
        detail: "wrong".to_owned(),
        instance: "/api/v1/changes".to_owned(),
        etag: None,
        errors: Some(vec![Fault::from(&fault)]),
        retry_after_s: None,
        gone: None,
        more: Map::new(),
    };
    let text = serde_json::to_string(&problem).expect("JSON");
    assert_eq!(
        text,
        r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"wrong","instance":"/api/v1/changes","errors":[{"pointer":"/weight","detail":"found -1, allowed: an integer from 0 to 1000","found":"-1","allowed":"an integer from 0 to 1000"}]}"#
    );
    problem
        .more
        .insert("rolled_back".to_owned(), Value::Bool(true));
    let refusal = base::Refusal::from(problem);
    let text = serde_json::to_string(&refusal).expect("JSON");
    assert_eq!(
        text,
        r#"{"ok":false,"error":"wrong","faults":[{"place":"/weight","found":"-1","allowed":"an integer from 0 to 1000"}],"rolled_back":true}"#
    );
}
