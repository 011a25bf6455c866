//! The static list: by API, by hand, and both together.

use serde_json::{Value, json};

use super::harness::{Folder, ask, read_json, until};

const ID: &str = "/api/v1/static/10.0.0.1:9001";

fn weight_of(folder: &Folder, ip: &str) -> Value {
    let config = read_json(&folder.root.proxy_config());
    let backends = config["backends"].as_array().cloned().unwrap_or_default();
    let one = backends.into_iter().find(|one| one["ip"] == ip);
    one.map_or(Value::Null, |one| one["weight"].clone())
}

#[tokio::test]
async fn a_backend_of_a_pool_that_is_not_defined_is_stored_with_a_warning() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let path = "/api/v1/pools/never/static/10.0.0.1:9001";
    let answer = control.good(ask("PUT", path).body(&json!({}))).await;
    let keys: Vec<&String> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ok", "old", "new", "warnings", "sync"]);
    let warning = "no pool never is defined: the backend is stored, and published once it is";
    assert_eq!(answer["warnings"], json!([warning]));
    let answer = control.good(ask("PUT", ID).body(&json!({}))).await;
    assert_eq!(answer.get("warnings"), None);
}

#[tokio::test]
async fn a_backend_that_is_listed_is_published_and_outlives_every_ttl() {
    let folder = Folder::new(json!({ "runtime_ttl_sec": 15 }));
    let control = folder.start().await;
    let answer = control
        .good(ask("PUT", ID).body(&json!({ "weight": 7 })))
        .await;
    assert_eq!(answer["new"]["weight"], 7);
    assert_eq!(weight_of(&folder, "10.0.0.1"), 7);
    control.pass_ms(1_000_000);
    let listed = control.good(ask("GET", "/api/backends")).await;
    let row = &listed["backends"][0];
    assert_eq!(
        (&row["source"], &row["state"]),
        (&json!("static"), &json!("ready"))
    );

    let (status, _) = control
        .ask(ask("DELETE", "/api/v1/static/10.0.0.9:9001"))
        .await;
    assert_eq!(status, 404);
    control.good(ask("DELETE", ID)).await;
    assert_eq!(weight_of(&folder, "10.0.0.1"), Value::Null);
}

#[tokio::test]
async fn the_list_outlives_a_restart_and_an_edit_by_hand_is_kept() {
    let folder = Folder::new(json!({}));
    let path = folder.root.static_backends();
    let control = folder.start().await;
    control
        .good(ask("PUT", ID).body(&json!({ "weight": 7 })))
        .await;
    let mut file = read_json(&path);
    file["comment"] = json!("rack 7");
    let more = json!({ "ip": "10.0.0.2", "port": 9001, "rack": 7 });
    file["backends"]
        .as_array_mut()
        .expect("a list")
        .push(more.clone());
    folder.write(path.clone(), &file);
    // Not waited for: a change by the API reads the file first.
    control
        .good(ask("PUT", ID).body(&json!({ "weight": 8 })))
        .await;
    let written = read_json(&path);
    assert_eq!(written["comment"], "rack 7");
    assert_eq!(written["backends"][1], more);
    assert_eq!(weight_of(&folder, "10.0.0.2"), 10);
    drop(control);
    let control = folder.start().await;
    let (_, listed) = control.ask(ask("GET", "/api/v1/static")).await;
    assert_eq!(listed["backends"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["backends"][0]["weight"], 8);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_stands_as_it_was_and_is_not_overwritten() {
    let folder = Folder::new(json!({}));
    let path = folder.root.static_backends();
    let control = folder.start().await;
    control
        .good(ask("PUT", ID).body(&json!({ "weight": 7 })))
        .await;
    std::fs::write(&path, "{\"backends\": [").expect("written");
    let (status, answer) = control
        .ask(ask("PUT", ID).body(&json!({ "weight": 8 })))
        .await;
    assert_eq!(status, 409, "{answer}");
    let told = answer["detail"].as_str().or(answer["error"].as_str());
    assert!(
        told.is_some_and(|told| told.contains("static_backends.json")),
        "{answer}"
    );
    assert_eq!(weight_of(&folder, "10.0.0.1"), 7);
    let broken = std::fs::read_to_string(&path).expect("readable");
    assert_eq!(broken, "{\"backends\": [", "nobody's to throw away");
    let status = control.good(ask("GET", "/api/backends")).await;
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("keeping the last valid backends of the static list"),
        "{warnings}"
    );
}

#[tokio::test]
async fn a_list_that_somebody_removed_is_written_again() {
    let folder = Folder::new(json!({}));
    let path = folder.root.static_backends();
    let control = folder.start().await;
    control
        .good(ask("PUT", ID).body(&json!({ "weight": 7 })))
        .await;
    std::fs::remove_file(&path).expect("removed");
    until("the list is written again", || path.exists()).await;
    assert_eq!(read_json(&path)["backends"][0]["weight"], 7);
    assert_eq!(weight_of(&folder, "10.0.0.1"), 7);
}

#[tokio::test]
async fn bad_entries_are_refused_with_their_place() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    for (path, body, place) in [
        (ID, json!({ "weight": 2000 }), "/weight"),
        (ID, json!({ "wieght": 1 }), "/wieght"),
        (ID, json!({ "enabled": "yes" }), "/enabled"),
        ("/api/v1/static/gpu-1:9001", json!({}), "(path) id"),
        ("/api/v1/static/10.0.0.1", json!({}), "(path) id"),
        ("/api/v1/static/224.0.0.1:1", json!({}), "(path) id"),
        ("/api/v1/static/127.0.0.1:10080", json!({}), "/ip"),
        ("/api/v1/static/169.254.169.254:80", json!({}), "link-local"),
        (
            "/api/v1/static/[2001:db8::1]:80",
            json!({}),
            "documentation",
        ),
    ] {
        let (status, answer) = control.ask(ask("PUT", path).body(&body)).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(place), "{answer}");
    }
    assert!(!folder.root.static_backends().exists());
}

#[tokio::test]
async fn a_fault_that_an_edit_mends_is_no_warning_any_more() {
    let folder = Folder::new(json!({}));
    let bad = json!({ "backends": [{ "ip": "10.0.0.1", "port": 9001, "weight": "abc" }] });
    folder.write(folder.root.static_backends(), &bad);
    let control = folder.start().await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert!(listed["warnings"].to_string().contains("abc"), "{listed}");
    control
        .good(ask("PUT", ID).body(&json!({ "weight": 7 })))
        .await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert!(!listed["warnings"].to_string().contains("abc"), "{listed}");
}

#[tokio::test]
async fn a_file_that_somebody_replaces_while_an_edit_is_written_is_not_lost() {
    const ROUNDS: u64 = 12;
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let root = &folder.root;
    for (path, method, call) in [
        (root.static_backends(), "PUT", ID),
        (root.backends_runtime(), "POST", "/api/register"),
    ] {
        for round in 1..=ROUNDS {
            let theirs = json!({ "backends": [{ "ip": "10.0.0.2", "port": 9000 + round }] });
            let (beside, target) = (path.with_extension("theirs"), path.clone());
            folder.write(beside.clone(), &theirs);
            // Anywhere in the milliseconds that an edit takes.
            let rename = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(round));
                std::fs::rename(beside, target).expect("a temporary folder");
            });
            let mut body = json!({ "weight": round });
            if method == "POST" {
                (body["ip"], body["port"]) = (json!("10.0.0.1"), json!(9001));
            }
            control.good(ask(method, call).body(&body)).await;
            rename.join().expect("renamed");
            let listed = read_json(&path)["backends"].to_string();
            let port = (9000 + round).to_string();
            assert!(listed.contains(&port), "{call} {round}: {listed}");
        }
    }
}
