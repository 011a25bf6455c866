//! `/api/v1`: reading with cursors, writing for a revision, problems, and that `openapi.json` is true.

use api::document::{DOCUMENT, operations};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::harness::{Ask, Control, Folder, ask};
use crate::auth::Need;
use crate::web::routes::routes;

const CHANGES: &str = "/api/v1/changes";

/// A control plane that three backends have registered with.
async fn three(folder: &Folder) -> Control {
    let control = folder.start().await;
    for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        control.register(ip).await;
    }
    control
}

async fn etag(control: &Control) -> String {
    let (status, headers, _) = control.ask_raw(ask("GET", "/api/v1/backends")).await;
    assert_eq!(status, 200);
    headers["etag"].to_str().expect("text").to_owned()
}

async fn problem(control: &Control, question: Ask<'_>) -> (StatusCode, Value) {
    let (status, headers, body) = control.ask_raw(question).await;
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{body}"
    );
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["status"], json!(status.as_u16()));
    (status, body)
}

#[tokio::test]
async fn pages_follow_each_other_by_cursor() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let (_, first) = control.ask(ask("GET", "/api/v1/backends?limit=2")).await;
    assert_eq!(
        (&first["total"], &first["next"]),
        (&json!(3), &json!("10.0.0.2:9001"))
    );
    // A backend that comes before the cursor moves nobody.
    control.register("10.0.0.0").await;
    let path = "/api/v1/backends?limit=2&cursor=10.0.0.2%3A9001";
    let (_, second) = control.ask(ask("GET", path)).await;
    assert_eq!(second["backends"][0]["id"], "10.0.0.3:9001");
    assert_eq!(second["next"], Value::Null);
    for bad in ["limit=0", "limit=x", "cursor=nowhere", "page=2"] {
        let path = format!("/api/v1/backends?{bad}");
        let (status, body) = problem(&control, ask("GET", &path)).await;
        assert_eq!(status, 400);
        assert!(body["errors"][0]["parameter"].is_string(), "{body}");
    }
    let (status, _) = problem(&control, ask("GET", "/api/v1/backends/10.9.9.9:1")).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn settings_made_for_older_ones_are_refused() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let (_, config) = control.ask(ask("GET", "/api/v1/config")).await;
    let tag = config["etag"].as_str().expect("a tag").to_owned();
    let call = |attempts: u64| json!({ "proxy": { "connect_attempts": attempts } });
    let first = ask("POST", "/api/settings").body(&call(4));
    control.good(first.header("if-match", &tag)).await;
    let second = ask("POST", "/api/settings").body(&call(5));
    let (status, stale) = control.ask(second.header("if-match", &tag)).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(stale["etag"], json!(etag(&control).await));
    assert_eq!(folder.published()["connect_attempts"], json!(4));
    // Whoever names no tag, or any, changes what stands.
    control
        .good(ask("POST", "/api/settings").body(&call(5)))
        .await;
    let any = ask("POST", "/api/settings").body(&call(6));
    control.good(any.header("if-match", "*")).await;
    assert_eq!(folder.published()["connect_attempts"], json!(6));
}

#[tokio::test]
async fn a_write_needs_the_tag_that_stands() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let tag = etag(&control).await;
    let body = json!({ "changes": [{ "id": "10.0.0.1:9001", "weight": 70 }] });
    let (status, _) = problem(&control, ask("POST", CHANGES).body(&body)).await;
    assert_eq!(status, 428);
    let done = control
        .good(ask("POST", CHANGES).body(&body).header("if-match", &tag))
        .await;
    assert_eq!(done["changes"][0]["new"]["weight"], json!(70));
    assert_eq!(done["sync"]["ok"], json!(true));
    let (status, stale) = problem(
        &control,
        ask("POST", CHANGES).body(&body).header("if-match", &tag),
    )
    .await;
    assert_eq!(
        (status, &stale["etag"]),
        (
            StatusCode::PRECONDITION_FAILED,
            &json!(etag(&control).await)
        )
    );
    // What backends say of themselves is no edit: it makes nobody's tag stale.
    let tag = etag(&control).await;
    control.register("10.0.0.9").await;
    assert_eq!(etag(&control).await, tag);
    let path = "/api/v1/backends/10.0.0.2:9001";
    let patch = json!({ "enabled": false });
    control
        .good(ask("PATCH", path).body(&patch).header("if-match", &tag))
        .await;
    let (status, _) = problem(
        &control,
        ask("PATCH", path)
            .body(&patch)
            .header("if-match", "\"x-1\""),
    )
    .await;
    assert_eq!(status, 412);
    assert!(
        folder
            .published_backends()
            .contains(&"10.0.0.2:9001 10 false".to_owned())
    );
}

#[tokio::test]
async fn many_edits_are_one_change_or_none_and_can_be_undone() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let before = folder.published_backends();
    let bad = json!({ "changes": [
        { "id": "10.0.0.1:9001", "weight": 70 }, { "id": "10.0.0.8:9001", "weight": 70 }] });
    let (status, body) = problem(
        &control,
        ask("POST", CHANGES).body(&bad).header("if-match", "*"),
    )
    .await;
    assert_eq!(
        (status, &body["errors"][0]["pointer"]),
        (StatusCode::BAD_REQUEST, &json!("/changes/1/id"))
    );
    assert_eq!(folder.published_backends(), before);

    let good = json!({ "changes": [
        { "id": "10.0.0.1:9001", "weight": 70 }, { "id": "10.0.0.2:9001", "drain": true, "enabled": true }] });
    let dry = "/api/v1/changes?dry_run=true";
    let tried = control.good(ask("POST", dry).body(&good)).await;
    assert_eq!(
        (&tried["dry_run"], &tried["sync"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(tried["changes"][0]["old"]["weight"], json!(10));
    assert_eq!(
        folder.published_backends(),
        before,
        "a dry run changes nothing"
    );
    let (status, _) = problem(&control, ask("POST", dry).body(&bad)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let misspelled = ask("POST", "/api/v1/changes?dry_rnu=true").body(&good);
    let (status, _) = problem(&control, misspelled.header("if-match", "*")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(folder.published_backends(), before, "it changes nothing");
    let results = folder.audited("changes_dry_run");
    let results = results.iter().map(|line| line["result"] == "ok");
    assert_eq!(results.collect::<Vec<_>>(), [true, false]);

    let generation = folder.published()["generation"].as_u64().expect("a number");
    let done = control
        .good(ask("POST", CHANGES).body(&good).header("if-match", "*"))
        .await;
    let expected = [
        "10.0.0.1:9001 70 true",
        "10.0.0.2:9001 0 true",
        "10.0.0.3:9001 10 true",
    ];
    assert_eq!(folder.published_backends(), expected);
    assert_eq!(
        folder.published()["generation"],
        json!(generation + 1),
        "one change, one reload"
    );
    let lines = folder.audited("changes");
    let line = lines
        .iter()
        .find(|line| line["result"] == "ok")
        .expect("a line");
    assert_eq!(line["target"], "2 backends");
    assert_eq!(line["old"]["10.0.0.1:9001"]["weight"], json!(10));
    assert_eq!(line["new"]["10.0.0.1:9001"]["weight"], json!(70));

    let undo = json!({ "changes": done["undo"] });
    control
        .good(ask("POST", CHANGES).body(&undo).header("if-match", "*"))
        .await;
    assert_eq!(folder.published_backends(), before);
    let (_, one) = control
        .ask(ask("GET", "/api/v1/backends/10.0.0.2:9001"))
        .await;
    assert_eq!(
        one["backend"]["override"],
        Value::Null,
        "no override is left behind"
    );
}

#[tokio::test]
async fn of_two_edits_for_the_same_revision_one_is_stale() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let tag = etag(&control).await;
    let bodies =
        [1, 2].map(|weight| json!({ "changes": [{ "id": "10.0.0.1:9001", "weight": weight }] }));
    let [one, two] = &bodies;
    let (one, two) = tokio::join!(
        control.ask(ask("POST", CHANGES).body(one).header("if-match", &tag)),
        control.ask(ask("POST", CHANGES).body(two).header("if-match", &tag)),
    );
    let mut statuses = [one.0.as_u16(), two.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let folder =
        Folder::new(json!({ "tokens": { "read": "r".repeat(20), "write": "w".repeat(20) } }));
    let control = folder.start().await;
    let read = format!("Bearer {}", "r".repeat(20));
    let cases = [
        (ask("GET", "/api/v1/status"), 401),
        (
            ask("POST", CHANGES)
                .header("authorization", &read)
                .text("{}"),
            403,
        ),
        (
            ask("GET", "/api/v1/status").header("host", "elsewhere"),
            403,
        ),
        (
            ask("GET", "/api/v1/nothing").header("authorization", &read),
            404,
        ),
        (
            ask("DELETE", "/api/v1/status").header("authorization", &read),
            403,
        ),
    ];
    for (question, expected) in cases {
        let (status, body) = problem(&control, question).await;
        assert_eq!(status, expected, "{body}");
    }
    // The older interface's errors keep their form.
    let (status, body) = control.ask(ask("GET", "/api/backends")).await;
    assert_eq!(
        (status, &body["ok"]),
        (StatusCode::UNAUTHORIZED, &json!(false))
    );
}

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("openapi.json is JSON")
}

#[tokio::test]
async fn the_description_lists_what_is_served_and_nothing_else() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let scope = |need: Need| match need {
        Need::Nothing => "",
        Need::Read => "read",
        Need::Register => "register",
        Need::Write => "write",
        Need::Admin => "admin",
    };
    let described = operations().into_iter();
    let mut described: Vec<String> = described
        .map(|call| format!("{} {} needs {}", call.method, call.path, call.need.scope()))
        .collect();
    let routes = routes().into_iter();
    let mut served: Vec<String> = routes
        .filter(|route| route.path.starts_with("/api/"))
        .map(|route| {
            format!(
                "{} {} needs {}",
                route.method,
                route.path,
                scope(route.need)
            )
        })
        .collect();
    described.sort();
    served.sort();
    assert_eq!(described, served);
    let (_, told) = control.ask(ask("GET", "/api/openapi.json")).await;
    assert_eq!(told, document());
}

#[tokio::test]
async fn answers_are_as_described() {
    let folder = Folder::new(json!({}));
    let control = three(&folder).await;
    let one = "/api/v1/backends/10.0.0.1:9001";
    let change = json!({ "changes": [{ "id": "10.0.0.1:9001", "weight": 70 }] });
    let any = ("if-match", "*");
    let registration = json!({ "ip": "10.0.0.9", "port": 9001, "vram_usage": 0.5 });
    let edit = |key: &str| format!("/api/backends/10.0.0.1/9001/{key}");
    let [weight, enabled, drain, r#override] =
        ["weight", "enabled", "drain", "override"].map(|key| (edit(key), described_edit(key)));
    let cases = [
        (ask("GET", "/api/backends"), "/api/backends"),
        (
            ask("POST", "/api/register").body(&registration),
            "/api/register",
        ),
        (
            ask("DELETE", "/api/register").body(&json!({ "ip": "10.0.0.9", "port": 9001 })),
            "/api/register",
        ),
        (
            ask("POST", &weight.0).body(&json!({ "weight": 3 })),
            &weight.1,
        ),
        (
            ask("POST", &enabled.0).body(&json!({ "enabled": true })),
            &enabled.1,
        ),
        (
            ask("POST", &drain.0).body(&json!({ "drain": true })),
            &drain.1,
        ),
        (ask("DELETE", &r#override.0), &r#override.1),
        (ask("POST", "/api/sync"), "/api/sync"),
        (
            ask("POST", "/api/settings").body(&json!({ "proxy": { "udp_idle_ms": 9000 } })),
            "/api/settings",
        ),
        (ask("GET", "/api/settings"), "/api/settings"),
        (
            ask("POST", "/api/ping").body(&json!({ "ip": "127.0.0.1" })),
            "/api/ping",
        ),
        (ask("GET", "/api/proxy"), "/api/proxy"),
        (ask("GET", "/api/logs/audit"), "/api/logs/audit"),
        (ask("GET", "/api/openapi.json"), "/api/openapi.json"),
        (ask("GET", "/api/v1/session"), "/api/v1/session"),
        (ask("DELETE", "/api/v1/session"), "/api/v1/session"),
        (ask("GET", "/api/v1/status"), "/api/v1/status"),
        (ask("GET", "/api/v1/verdict"), "/api/v1/verdict"),
        (ask("GET", "/api/v1/backends"), "/api/v1/backends"),
        (ask("GET", one), "/api/v1/backends/{id}"),
        (
            ask("PATCH", one)
                .body(&json!({ "drain": true }))
                .header(any.0, any.1),
            "/api/v1/backends/{id}",
        ),
        (ask("GET", "/api/v1/config"), "/api/v1/config"),
        (ask("GET", "/api/v1/audit"), "/api/v1/audit"),
        (ask("GET", "/api/v1/series"), "/api/v1/series"),
        (
            ask("POST", "/api/v1/changes?dry_run=true").body(&change),
            "/api/v1/changes",
        ),
        (
            ask("POST", CHANGES).body(&change).header(any.0, any.1),
            "/api/v1/changes",
        ),
        (
            ask("PUT", "/api/v1/static/10.0.0.8:9001").body(&json!({ "weight": 7 })),
            "/api/v1/static/{id}",
        ),
        (ask("GET", "/api/v1/static"), "/api/v1/static"),
        (
            ask("DELETE", "/api/v1/static/10.0.0.8:9001"),
            "/api/v1/static/{id}",
        ),
        (
            ask("POST", "/api/v1/pings").body(&json!({ "ip": "127.0.0.1" })),
            "/api/v1/pings",
        ),
    ];
    let document = document();
    for (question, path) in cases {
        let method = question.method.to_lowercase();
        let (status, headers, text) = control.ask_raw(question).await;
        assert_eq!(status, 200, "{method} {path}: {text}");
        let content = &document["paths"][path][method]["responses"]["200"]["content"];
        let content_type = headers["content-type"].to_str().expect("text");
        let schema = &content[content_type]["schema"];
        assert!(
            schema.is_object(),
            "{path}: {content_type} is not described"
        );
        // A stream of objects has one a line.
        let lines: Vec<&str> = match content_type {
            "application/x-ndjson" => text.lines().collect(),
            _ => vec![&text],
        };
        for line in lines {
            let answer = serde_json::from_str(line).expect("JSON");
            conforms(&document, schema, &answer, path);
        }
    }
    let (_, body) = problem(
        &control,
        ask("POST", CHANGES).text("{}").header("if-match", "*"),
    )
    .await;
    conforms(
        &document,
        &document["components"]["schemas"]["Problem"],
        &body,
        "problem",
    );
    let one = ask("DELETE", "/api/register").body(&json!({ "ip": "10.0.0.2", "port": 9001 }));
    control.good(one).await;
    let (status, body) = problem(&control, ask("GET", "/api/v1/backends/10.0.0.2:9001")).await;
    assert_eq!(status, 404);
    assert_eq!(body["gone"]["sources"][0], "runtime", "{body}");
    assert!(body["gone"]["edits"][0].is_object(), "{body}");
    conforms(
        &document,
        &document["components"]["schemas"]["Problem"],
        &body,
        "a problem of a backend that is gone",
    );
    let (status, body) = control.ask(ask("POST", "/api/register").text("{}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    conforms(
        &document,
        &document["components"]["schemas"]["Refusal"],
        &body,
        "refusal",
    );
}

fn described_edit(key: &str) -> String {
    format!("/api/backends/{{ip}}/{{port}}/{key}")
}

/// Enough of JSON Schema for what `openapi.json` uses; a key that it does not name is a fault too.
fn conforms(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        return conforms(
            document,
            &document["components"]["schemas"][name],
            value,
            place,
        );
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let schema = choices
            .iter()
            .find(|choice| (choice["type"] == "null") == value.is_null());
        return conforms(document, schema.expect("a choice"), value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        // Each is told from the others by its constants.
        let is_meant = |choice: &&Value| {
            let members = choice["properties"].as_object().into_iter().flatten();
            let mut constants = members.filter(|(_, member)| !member["const"].is_null());
            constants.all(|(key, member)| value[key] == member["const"])
        };
        let meant = choices.iter().find(is_meant);
        let schema = meant.unwrap_or_else(|| panic!("{place}: {value} is none of {schema}"));
        return conforms(document, schema, value, place);
    }
    if let Some(choices) = schema["enum"].as_array() {
        return assert!(choices.contains(value), "{place}: {value}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |kind: &str| match &schema["type"] {
        Value::Array(kinds) => kinds.contains(&json!(kind)),
        one => one.is_null() || one == kind,
    };
    let fits = allowed(kind) || (kind == "integer" && allowed("number"));
    assert!(fits, "{place}: {value} is no {}", schema["type"]);
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, place);
    }
    let of_each = &schema["additionalProperties"];
    for member in value.as_object().into_iter().flatten() {
        if of_each.is_object() {
            conforms(
                document,
                of_each,
                member.1,
                &format!("{place}/{}", member.0),
            );
        }
    }
    let empty = Map::new();
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let object = value.as_object().unwrap_or(&empty);
    for (key, value) in object {
        let inner = properties.get(key);
        let inner = inner.unwrap_or_else(|| panic!("{place}: {key:?} is not described"));
        conforms(document, inner, value, &format!("{place}/{key}"));
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().expect("a name");
        assert!(
            value.is_null() || object.contains_key(key),
            "{place}: no {key:?}"
        );
    }
}
