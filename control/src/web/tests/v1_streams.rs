//! What `/api/v1` says bit by bit: events with resume, the audit log by number, pings.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::harness::{Folder, ask, until};

const DEADLINE: Duration = Duration::from_secs(10);

struct Event {
    id: String,
    kind: String,
    data: Value,
}

/// The next event of a stream; each comes as one piece.
async fn next(body: &mut Body) -> Event {
    let frame = tokio::time::timeout(DEADLINE, body.frame())
        .await
        .expect("in time");
    let bytes = frame
        .expect("open")
        .expect("whole")
        .into_data()
        .expect("data");
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
    };
    let data = serde_json::from_str(&field("data: ")).expect("JSON");
    Event {
        id: field("id: "),
        kind: field("event: "),
        data,
    }
}

#[tokio::test]
async fn event_streams_are_bounded_and_one_token_never_takes_all() {
    let folder = Folder::new(json!({}));
    folder.write_tokens(&["a", "b", "c", "d", "e"].map(|name| (name, "read", None)));
    let control = folder.start().await;
    let open = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let asked = ask("GET", "/api/v1/events").header("authorization", &bearer);
        control.respond(asked).await
    };
    let mut held = Vec::new();
    for token in ["a", "b", "c", "d"] {
        for _ in 0..32 {
            held.push(open(token).await);
            assert_eq!(held.last().expect("just pushed").status(), 200, "{token}");
        }
        assert_eq!(open(token).await.status(), 503, "{token} has enough");
    }
    assert_eq!(open("e").await.status(), 503, "there are enough");
    held.clear();
    until("the places are free again", || {
        control.app.feed.is_unheard()
    })
    .await;
    assert_eq!(open("e").await.status(), 200);
}

#[tokio::test]
async fn events_begin_with_the_whole_go_on_with_changes_and_resume() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let mut stream = control.open(ask("GET", "/api/v1/events")).await;
    let first = next(&mut stream).await;
    assert_eq!(
        (first.kind.as_str(), &first.data["backends"][0]["weight"]),
        ("snapshot", &json!(10))
    );

    control
        .good(ask("POST", "/api/backends/10.0.0.1/9001/weight").body(&json!({"weight": 33})))
        .await;
    control.register("10.0.0.2").await;
    let mut seen = Vec::new();
    let mut last_id = first.id.clone();
    while seen.len() < 2 {
        let event = next(&mut stream).await;
        assert_eq!(event.kind, "delta");
        seen.extend(event.data["backends"].as_array().expect("an array").clone());
        last_id = event.id;
    }
    let changed = seen
        .iter()
        .find(|row| row["id"] == "10.0.0.1:9001")
        .expect("told");
    assert_eq!(changed["weight"], json!(33));
    assert_eq!(changed.get("port"), None, "only what changed: {changed}");
    drop(stream);

    // Who comes back with what it had first is told the same changes again, in order.
    let mut resumed = control
        .open(ask("GET", "/api/v1/events").header("last-event-id", &first.id))
        .await;
    let mut again = Vec::new();
    loop {
        let event = next(&mut resumed).await;
        assert_eq!(event.kind, "delta");
        again.extend(event.data["backends"].as_array().expect("an array").clone());
        if event.id == last_id {
            break;
        }
    }
    assert_eq!(again, seen);
    // Who comes from another life of the server gets the whole.
    let mut fresh = control
        .open(ask("GET", "/api/v1/events").header("last-event-id", "0-7"))
        .await;
    assert_eq!(next(&mut fresh).await.kind, "snapshot");
    // And the end of the server ends the stream.
    control.app.feed.close();
    let end = tokio::time::timeout(DEADLINE, async { while resumed.frame().await.is_some() {} });
    end.await.expect("the stream ends");
}

#[tokio::test]
async fn the_audit_log_is_read_by_number_and_followed() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let (_, newest) = control.ask(ask("GET", "/api/v1/audit?limit=1")).await;
    assert_eq!(newest["lines"].as_array().expect("an array").len(), 1);
    let (_, all) = control.ask(ask("GET", "/api/v1/audit?after=0")).await;
    let numbers: Vec<u64> = all["lines"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|line| line["seq"].as_u64().expect("a number"))
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
    // A read has a line of its own, the first time.
    let (_, all) = control.ask(ask("GET", "/api/v1/audit?after=0")).await;
    let path = format!("/api/v1/audit?after={}&follow=true", all["next"]);
    let (followed, _) = tokio::join!(control.ask(ask("GET", &path)), control.register("10.0.0.2"));
    let followed = followed.1;
    assert_eq!(
        followed["lines"][0]["target"],
        json!("10.0.0.2:9001"),
        "{followed}"
    );
}

#[tokio::test]
async fn each_probe_is_told_as_it_ends() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let body = json!({ "ip": "127.0.0.1", "probes": 2 });
    let (status, _, text) = control
        .ask_raw(ask("POST", "/api/v1/pings").body(&body))
        .await;
    assert_eq!(status, 200, "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .map(|line| line["kind"].as_str().expect("text"))
        .collect();
    assert_eq!(kinds, ["start", "probe", "probe", "summary"]);
    assert!(["icmp", "tcp"].contains(&lines[0]["via"].as_str().expect("text")));
    assert_eq!(lines[3]["sent"], json!(2));
    for bad in [
        json!({"ip": "10.0.0.9"}),
        json!({"ip": "127.0.0.1", "probes": 21}),
        json!({}),
    ] {
        let (status, _) = control.ask(ask("POST", "/api/v1/pings").body(&bad)).await;
        assert_eq!(status, 400, "{bad}");
    }
    assert_eq!(folder.audited("ping").len(), 4);
}
