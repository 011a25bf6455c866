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
        let refused = open(token).await;
        assert_eq!(refused.status(), 429, "{token} has enough");
        assert_eq!(refused.headers()["retry-after"], "2");
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
async fn without_tokens_one_address_never_takes_all_streams() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(control.respond(ask("GET", "/api/v1/events")).await);
        assert_eq!(held.last().expect("just pushed").status(), 200);
    }
    let refused = control.respond(ask("GET", "/api/v1/events")).await;
    assert_eq!(refused.status(), 429);
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
async fn a_stream_begins_with_what_stands_and_not_with_what_was_told_last() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let mut held = control.open(ask("GET", "/api/v1/events")).await;
    next(&mut held).await;
    for weight in 20..30 {
        control
            .good(
                ask("POST", "/api/backends/10.0.0.1/9001/weight").body(&json!({"weight": weight})),
            )
            .await;
        let mut fresh = control.open(ask("GET", "/api/v1/events")).await;
        let first = next(&mut fresh).await;
        assert_eq!(first.data["backends"][0]["weight"], json!(weight));
    }
}

#[tokio::test]
async fn patches_name_only_what_changed_and_figures_of_named_rows_come_at_once() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    control.register("10.0.0.2").await;
    let path = "/api/v1/events?patch=true&rows=10.0.0.1:9001";
    let mut stream = control.open(ask("GET", path)).await;
    assert_eq!(next(&mut stream).await.kind, "snapshot");
    for ip in ["10.0.0.1", "10.0.0.2"] {
        let weight = format!("/api/backends/{ip}/9001/weight");
        control
            .good(ask("POST", &weight).body(&json!({"weight": 33})))
            .await;
        control
            .good(ask("POST", "/api/register").body(
                &json!({"ip": ip, "port": 9001, "weight": 10, "gpu_usage": 0.25, "vram_usage": 0.5}),
            ))
            .await;
    }
    // The weight comes at once, the figures of a row that nobody named with its turn.
    let mut deltas = 0;
    let mut told = json!({"10.0.0.1:9001": {}, "10.0.0.2:9001": {}});
    let mut named_after = None;
    while told["10.0.0.2:9001"].get("vram_usage").is_none() {
        let event = next(&mut stream).await;
        assert_eq!(event.kind, "delta");
        assert_eq!(
            event.data["status"]
                .get("verdict")
                .and_then(|verdict| verdict.get("level")),
            None
        );
        deltas += 1;
        for row in event.data["backends"].as_array().expect("an array") {
            assert_eq!(row.get("port"), None, "only what changed: {row}");
            let id = row["id"].as_str().expect("an id");
            for (key, value) in row.as_object().expect("a patch") {
                told[id][key] = value.clone();
            }
        }
        let named = &told["10.0.0.1:9001"];
        if named_after.is_none() && named.get("vram_usage") == Some(&json!(0.5)) {
            named_after = Some(deltas);
        }
        assert!(deltas <= 10, "{told}");
    }
    assert_eq!(told["10.0.0.1:9001"]["weight"], json!(33));
    assert_eq!(told["10.0.0.2:9001"]["weight"], json!(33));
    assert!(
        named_after.is_some_and(|after| after <= 3),
        "{named_after:?}"
    );

    for bad in [
        "rows=10.0.0.1:9001",
        "patch=true&rows=here",
        "patch=maybe",
        "pach=true",
    ] {
        let (status, body) = control
            .ask(ask("GET", &format!("/api/v1/events?{bad}")))
            .await;
        assert_eq!(status, 400, "{bad}: {body}");
    }
}

#[tokio::test]
async fn a_compressed_stream_says_each_event_at_once() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let asked = ask("GET", "/api/v1/events").header("accept-encoding", "gzip");
    let response = control.respond(asked).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut body = response.into_body();
    let mut read = flate2::write::GzDecoder::new(Vec::new());
    for kind in ["snapshot", "delta", "delta"] {
        let frame = tokio::time::timeout(DEADLINE, body.frame()).await;
        let frame = frame.expect("in time").expect("open").expect("whole");
        std::io::Write::write_all(&mut read, &frame.into_data().expect("data")).expect("gzip");
        std::io::Write::flush(&mut read).expect("flushed");
        let text = String::from_utf8(std::mem::take(read.get_mut())).expect("text");
        assert!(
            text.contains(&format!("event: {kind}\n")) && text.ends_with("\n\n"),
            "{text}"
        );
    }
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
