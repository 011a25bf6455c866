//! Against a stand-in for the proxy that refuses parts of what is published.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::routing::{get, post};
use axum::{Json, Router};
use contract::refusal::{Refusal, RefusalCode};
use contract::status::{ListenerStatus, Reload, Running};
use rustix::fs::{CWD, RenameFlags};
use serde_json::{Map, Value, json};

use super::harness::{Control, Folder, ask, read_json, until};
use super::proxy::{Process, running, serve};

/// After every signal of these tests.
const LATER_MS: u64 = 4_000_000_000_000;

/// What it refuses: JSON of a top-level key's value, and why.
type Refused = BTreeMap<String, RefusalCode>;

/// A proxy that reads the published file when it is asked.
#[derive(Clone)]
struct Fake {
    path: PathBuf,
    refused: Arc<Mutex<Refused>>,
    last: Arc<Mutex<Running>>,
    /// A refusal costs the whole file.
    whole: bool,
    /// Knows refusals and digests.
    is_new: bool,
    /// It has not read the file yet.
    is_slow: Arc<AtomicBool>,
}

impl Fake {
    fn of(folder: &Folder) -> Fake {
        Fake {
            path: folder.root.proxy_config(),
            refused: Arc::default(),
            last: Arc::new(Mutex::new(running(0, None))),
            whole: false,
            is_new: true,
            is_slow: Arc::default(),
        }
    }

    /// Listens on the socket; `can_check` is whether it can be asked beforehand.
    fn serve(&self, folder: &Folder, can_check: bool) {
        let (one, two) = (self.clone(), self.clone());
        let tell = async move || {
            // As the proxy does where it has not got so far.
            if one.is_slow.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Json(one.look())
        };
        let mut router = Router::new().route("/generation", get(tell));
        if can_check {
            let check = async move |body: Bytes| {
                let document = serde_json::from_slice(&body).expect("JSON");
                Json(json!({ "refusals": two.refusals(&document) }))
            };
            router = router.route("/check", post(check));
        }
        serve(folder, router);
    }

    fn refuse(&self, value: &Value, code: RefusalCode) {
        let mut refused = self.refused.lock().expect("no panic");
        refused.insert(value.to_string(), code);
    }

    fn take_everything(&self) {
        self.refused.lock().expect("no panic").clear();
    }

    fn refusals(&self, document: &Map<String, Value>) -> Vec<Refusal> {
        let refused = self.refused.lock().expect("no panic");
        let found = document.iter().filter_map(|(key, value)| {
            let code = *refused.get(&value.to_string())?;
            Some(Refusal {
                code,
                place: format!("/{key}"),
                value: "the value".to_owned(),
                detail: "the reason".to_owned(),
                since: 5,
            })
        });
        found.collect()
    }

    /// Reads the file and runs what it takes of it.
    fn look(&self) -> Running {
        if self.is_slow.load(Ordering::Relaxed) {
            return self.last.lock().expect("no panic").clone();
        }
        let Value::Object(document) = read_json(&self.path) else {
            return self.last.lock().expect("no panic").clone();
        };
        let generation = document["generation"].as_u64();
        let refusals = self.refusals(&document);
        let is_refused = self.whole && !refusals.is_empty();
        let mut last = self.last.lock().expect("no panic");
        last.last_reload = Some(Reload {
            at_ms: LATER_MS,
            ok: !is_refused,
            generation,
            reason: is_refused.then(|| "the reason".to_owned()),
        });
        last.refusals = if self.is_new { refusals } else { vec![] };
        if !is_refused {
            last.generation = generation.expect("a number");
            last.config_digest = self.is_new.then(|| contract::config_digest(&document));
        }
        last.clone()
    }
}

/// Control over a folder with one registered backend, and the proxy beside it.
async fn start(
    change: impl FnOnce(&mut Fake),
    can_check: bool,
) -> (Folder, Process, Fake, Control) {
    let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1});
    let folder = Folder::new(config);
    let process = Process::start(&folder);
    let mut fake = Fake::of(&folder);
    change(&mut fake);
    fake.serve(&folder, can_check);
    let control = folder.start().await;
    let answer = control.register("10.0.0.1").await;
    assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    (folder, process, fake, control)
}

fn listen(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port})
}

async fn set(control: &Control, body: Value) -> (u16, Value) {
    let (status, answer) = control.ask(ask("POST", "/api/settings").body(&body)).await;
    (status.as_u16(), answer)
}

/// The body of `/readyz`, which stays ready.
async fn readyz(control: &Control) -> Value {
    control.good(ask("GET", "/readyz")).await
}

fn text(value: &Value) -> String {
    value.to_string()
}

#[tokio::test]
async fn a_call_that_the_proxy_refuses_is_rolled_back() {
    for can_check in [false, true] {
        let (folder, _process, fake, control) = start(|_| (), can_check).await;
        let before = folder.published()["listen"].clone();
        fake.refuse(&listen(7001), RefusalCode::AddressInUse);
        let body = json!({"listen": listen(7001), "algorithm": "random"});
        let (status, answer) = set(&control, body).await;
        assert_eq!(status, 409, "{answer}");
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["rolled_back"], true);
        assert_eq!(answer["sync"]["ok"], true, "stored and published: {answer}");
        assert_eq!(answer["sync"]["reload"]["applied"], false);
        assert!(
            text(&answer["error"]).contains("address_in_use"),
            "{answer}"
        );
        assert!(text(&answer["error"]).contains("the reason"), "{answer}");
        // All of the call is as it was, in the file that is stored and in the one that is published.
        let stored = read_json(&folder.root.settings_runtime());
        assert_eq!(stored["listen"], Value::Null, "{stored}");
        assert_eq!(stored["algorithm"], Value::Null, "{stored}");
        assert_eq!(stored["pending"], Value::Null, "{stored}");
        assert_eq!(folder.published()["listen"], before);
        assert_eq!(folder.published()["algorithm"], "weighted_round_robin");
        let audited = folder.audited("roll_back_settings");
        assert_eq!(audited.len(), 1);
        assert!(
            text(&audited[0]["actor"]).contains("control"),
            "{audited:?}"
        );
        // It is over, and nothing is held up.
        let answer = control.register("10.0.0.2").await;
        assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
        assert_eq!(readyz(&control).await["refusals"], json!([]));
    }
}

#[tokio::test]
async fn a_call_that_says_a_refused_value_again_takes_nothing_back() {
    let (folder, _process, fake, control) = start(|_| (), true).await;
    fake.refuse(&listen(7001), RefusalCode::AddressInUse);
    let body = json!({"listen": listen(7001), "on_refusal": "keep_trying"});
    assert_eq!(set(&control, body).await.0, 200);
    // Whole settings, as tools send them, of which one is new.
    let body = json!({"listen": listen(7001), "algorithm": "random"});
    for _ in 0..2 {
        let (status, answer) = set(&control, body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["applied"], false, "{answer}");
        assert_eq!(answer["refusals"][0]["place"], "/listen", "{answer}");
        assert_eq!(folder.published()["algorithm"], "random");
    }
    assert_eq!(folder.audited("roll_back_settings").len(), 0);
    let stored = read_json(&folder.root.settings_runtime());
    assert_eq!(stored["pending"], Value::Null, "{stored}");
    assert_eq!(stored["listen"]["port"], 7001, "{stored}");
}

#[tokio::test]
async fn a_call_that_keeps_trying_is_applied_when_the_proxy_takes_it() {
    for can_check in [false, true] {
        let (folder, _process, fake, control) = start(|_| (), can_check).await;
        let before = folder.published()["listen"].clone();
        fake.refuse(&listen(7001), RefusalCode::AddressInUse);
        let body = json!({"listen": listen(7001), "on_refusal": "keep_trying"});
        let (status, answer) = set(&control, body).await;
        assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
        assert_eq!(answer["applied"], false, "{answer}");
        assert_eq!(answer["sync"]["ok"], true);
        assert_eq!(answer["sync"]["reload"]["applied"], false, "{answer}");
        assert!(text(&answer["sync"]["reload"]["reason"]).contains("address_in_use"));
        assert_eq!(answer["settings"]["listen"], listen(7001), "it is wanted");
        assert_eq!(answer["refusals"][0]["kept"], before, "{answer}");
        // What was accepted stays published, everything else is applied, and everybody is told.
        assert_eq!(folder.published()["listen"], before);
        let other = control.register("10.0.0.2").await;
        assert_eq!(other["sync"]["reload"]["applied"], true, "{other}");
        assert!(
            text(&other["sync"]["warnings"]).contains("address_in_use"),
            "{other}"
        );
        assert_eq!(folder.published()["listen"], before);
        let ready = readyz(&control).await;
        assert_eq!(ready["refusals"][0]["place"], "/listen");
        assert!(text(&ready["warnings"]).contains("the reason"), "{ready}");
        let (_, _, metrics) = control.ask_raw(ask("GET", "/metrics")).await;
        let line = "wicketgate_control_refusals{code=\"address_in_use\",place=\"/listen\"} 1";
        assert!(metrics.contains(line), "{metrics}");
        let seen = control.good(ask("GET", "/api/proxy")).await;
        assert_eq!(seen["refusals"][0]["code"], "address_in_use");
        // Nobody has to say it again. A proxy that cannot be asked is told again at each interval, and
        // the incident is one all the time.
        let tries = |folder: &Folder| folder.published()["generation"].as_u64();
        let before = tries(&folder);
        until("tried again", || {
            can_check || tries(&folder) > before.map(|g| g + 3)
        })
        .await;
        let ready = readyz(&control).await;
        assert_eq!(ready["refusals"][0]["since"], 5, "{ready}");
        fake.take_everything();
        until("taken", || folder.published()["listen"] == listen(7001)).await;
        until("over", || {
            control.app.publisher.outcome().incidents.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_refused_as_a_whole_keeps_its_parts_and_the_rest_is_applied() {
    // By a proxy that names the place, and by an older one that has no codes.
    for is_new in [true, false] {
        let change = |fake: &mut Fake| (fake.whole, fake.is_new) = (true, is_new);
        let (folder, _process, fake, control) = start(change, false).await;
        fake.refuse(&json!("random"), RefusalCode::Invalid);
        let body = json!({"algorithm": "random", "on_refusal": "keep_trying"});
        let (status, answer) = set(&control, body).await;
        assert_eq!(
            (status, &answer["applied"]),
            (200, &json!(false)),
            "{answer}"
        );
        assert_eq!(folder.published()["algorithm"], "weighted_round_robin");
        let other = control.register("10.0.0.2").await;
        let reload = &other["sync"]["reload"];
        assert_eq!(reload["applied"], true, "{other}");
        assert_eq!(reload["verified"], is_new, "{other}");
        assert!(
            text(&other["sync"]["warnings"]).contains("invalid"),
            "{other}"
        );
        let (status, answer) = set(&control, json!({"proxy": {"connect_attempts": 2}})).await;
        assert_eq!(
            (status, &answer["sync"]["reload"]["applied"]),
            (200, &json!(true)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn silence_never_rolls_back() {
    let folder = Folder::new(json!({"proxy_process_names": ["sh"]}));
    let _process = Process::start(&folder);
    let control = folder.start().await;
    let (status, answer) = set(&control, json!({"listen": listen(7001)})).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], Value::Null, "{answer}");
    assert_eq!(folder.published()["listen"], listen(7001));
    let stored = read_json(&folder.root.settings_runtime());
    assert_eq!(stored["listen"], listen(7001));
}

#[tokio::test]
async fn a_call_that_a_crash_has_cut_is_looked_up_and_completed_or_rolled_back() {
    for is_refused in [true, false] {
        for is_published in [true, false] {
            let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1});
            let folder = Folder::new(config);
            let _process = Process::start(&folder);
            let fake = Fake::of(&folder);
            if is_refused {
                fake.refuse(&listen(7001), RefusalCode::AddressInUse);
            }
            // As a killed control leaves them.
            let call =
                json!({"id": 3, "old": {"listen": listen(7000)}, "new": {"listen": listen(7001)}});
            let stored = json!({"listen": listen(7001), "pending": [call], "updated_at": 1});
            folder.write(folder.root.settings_runtime(), &stored);
            let port = if is_published { 7001 } else { 7000 };
            let published = json!({
                "listen": listen(port), "algorithm": "weighted_round_robin", "updated_at": 1,
                "generation": 5, "backends": [],
            });
            folder.write(folder.root.proxy_config(), &published);
            fake.serve(&folder, true);
            let control = folder.start().await;
            let port = if is_refused { 7000 } else { 7001 };
            let what = format!("refused {is_refused}, published {is_published}");
            until(&what, || {
                let stored = read_json(&folder.root.settings_runtime());
                stored["listen"] == listen(port) && stored["pending"] == Value::Null
            })
            .await;
            until(&what, || folder.published()["listen"] == listen(port)).await;
            until(&what, || control.app.shared.model().pending.is_empty()).await;
            let lines = usize::from(is_refused);
            until(&what, || {
                folder.audited("roll_back_settings").len() == lines
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_was_accepted_before_a_published_value_outlives_control() {
    // Control was killed before the outcome of a call that keeps trying, or had answered that the
    // proxy is silent. The proxy cannot be asked beforehand.
    let call = json!({
        "id": 3, "on_refusal": "keep_trying", "old": {"listen": listen(7000)},
        "new": {"listen": listen(7001)},
    });
    for pending in [json!([call]), json!([])] {
        let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1});
        let folder = Folder::new(config);
        let _process = Process::start(&folder);
        let fake = Fake::of(&folder);
        fake.refuse(&listen(7001), RefusalCode::AddressInUse);
        let stored = json!({"listen": listen(7001), "pending": pending, "updated_at": 1});
        folder.write(folder.root.settings_runtime(), &stored);
        for (path, port) in [
            (folder.root.proxy_config(), 7001),
            (folder.root.settings_accepted(), 7000),
        ] {
            let document = json!({
                "listen": listen(port), "algorithm": "weighted_round_robin", "updated_at": 1,
                "generation": 5, "backends": [],
            });
            folder.write(path, &document);
        }
        fake.serve(&folder, false);
        let control = folder.start().await;
        until("accepted", || folder.published()["listen"] == listen(7000)).await;
        until("done", || control.app.shared.model().pending.is_empty()).await;
        let stored = read_json(&folder.root.settings_runtime());
        assert_eq!(stored["listen"], listen(7001), "it is wanted still");
        assert_eq!(folder.audited("roll_back_settings").len(), 0);
        until("told", || {
            control.app.publisher.outcome().generation.is_some()
        })
        .await;
        let ready = readyz(&control).await;
        assert_eq!(ready["refusals"][0]["kept"], listen(7000), "{ready}");
    }
}

/// As a control that was killed leaves them.
fn write_a_cut_call(folder: &Folder, accepted: u16) {
    let call = json!({"id": 3, "old": {"listen": listen(7000)}, "new": {"listen": listen(7001)}});
    let stored = json!({"listen": listen(7001), "pending": [call], "updated_at": 1});
    folder.write(folder.root.settings_runtime(), &stored);
    for (path, port) in [
        (folder.root.proxy_config(), 7001),
        (folder.root.settings_accepted(), accepted),
    ] {
        let document = json!({
            "listen": listen(port), "algorithm": "weighted_round_robin", "updated_at": 1,
            "generation": 5, "backends": [],
        });
        folder.write(path, &document);
    }
}

/// Its outcome could not be stored, and the answer was given.
#[tokio::test]
async fn a_call_whose_values_the_proxy_has_run_is_not_rolled_back_at_a_later_start() {
    for (accepted, lines) in [(7001, 0), (7000, 1)] {
        let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1});
        let folder = Folder::new(config);
        let _process = Process::start(&folder);
        let fake = Fake::of(&folder);
        fake.refuse(&listen(7001), RefusalCode::AddressInUse);
        write_a_cut_call(&folder, accepted);
        fake.serve(&folder, true);
        let control = folder.start().await;
        until("told", || {
            !control.app.publisher.outcome().incidents.is_empty() || lines > 0
        })
        .await;
        until("done", || control.app.shared.model().pending.is_empty()).await;
        let is_told = || folder.audited("roll_back_settings").len() == lines;
        until("rolled back or not", is_told).await;
        let stored = read_json(&folder.root.settings_runtime());
        assert_eq!(stored["listen"] == listen(7001), lines == 0, "{stored}");
    }
}

/// A backup says what is wanted: no call from before it takes that back, be it one that waits or one
/// that the backup itself names.
#[tokio::test]
async fn what_a_restore_says_stands_while_a_call_waits() {
    let other = json!({"id": 9, "old": {"listen": listen(7000)}, "new": {"listen": listen(7001)}});
    for pending in [None, Some(other)] {
        let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1});
        let folder = Folder::new(config);
        let _process = Process::start(&folder);
        let fake = Fake::of(&folder);
        fake.refuse(&listen(7001), RefusalCode::AddressInUse);
        write_a_cut_call(&folder, 7000);
        // Nobody says yet what becomes of the call.
        let control = folder.start().await;
        let mut restored = json!({"listen": listen(7001), "updated_at": 1});
        if let Some(call) = &pending {
            restored["pending"] = json!([call]);
        }
        folder.write(folder.root.settings_runtime(), &restored);
        control.app.keeper.read_sources().await;
        assert!(control.app.shared.model().pending.is_empty());
        let stored = read_json(&folder.root.settings_runtime());
        assert_eq!(stored["pending"], Value::Null, "{stored}");
        fake.serve(&folder, true);
        until("an incident", || {
            !control.app.publisher.outcome().incidents.is_empty()
        })
        .await;
        let stored = read_json(&folder.root.settings_runtime());
        assert_eq!(stored["listen"], listen(7001), "{stored}");
        assert!(folder.audited("roll_back_settings").is_empty());
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_is_told_and_stored_as_soon_as_it_can() {
    let (folder, _process, fake, control) = start(|_| (), false).await;
    fake.is_slow.store(true, Ordering::Relaxed);
    let stored = folder.root.settings_runtime();
    let data = stored.parent().expect("a folder").to_owned();
    let away = data.with_extension("away");
    let break_it = async {
        until("published", || folder.published()["listen"] == listen(7001)).await;
        std::fs::rename(&data, &away).expect("renamed");
        std::fs::write(&data, "in the way").expect("written");
    };
    let call = set(&control, json!({"listen": listen(7001)}));
    let ((status, answer), ()) = tokio::join!(call, break_it);
    assert_eq!(status, 200, "{answer}");
    let warnings = text(&answer["sync"]["warnings"]);
    assert!(warnings.contains("settings_runtime.json"), "{answer}");
    assert!(!control.app.shared.model().pending.is_empty());
    // At one stroke: control makes a folder where there is none.
    let swap = RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, &away, CWD, &data, swap).expect("swapped");
    until("stored", || read_json(&stored)["pending"] == Value::Null).await;
    assert_eq!(read_json(&stored)["listen"], listen(7001));
}

#[tokio::test]
async fn a_refusal_that_comes_after_the_answer_rolls_nothing_back() {
    let (folder, _process, fake, control) = start(|_| (), false).await;
    let before = folder.published()["listen"].clone();
    fake.refuse(&listen(7001), RefusalCode::AddressInUse);
    fake.is_slow.store(true, Ordering::Relaxed);
    let (status, answer) = set(&control, json!({"listen": listen(7001)})).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], false, "{answer}");
    assert_eq!(answer["rolled_back"], Value::Null, "{answer}");
    fake.is_slow.store(false, Ordering::Relaxed);
    until("refused", || folder.published()["listen"] == before).await;
    let ready = readyz(&control).await;
    assert_eq!(ready["refusals"][0]["kept"], before, "{ready}");
    let stored = read_json(&folder.root.settings_runtime());
    assert_eq!(stored["listen"], listen(7001), "it is wanted still");
    assert_eq!(folder.audited("roll_back_settings").len(), 0);
    fake.take_everything();
    until("taken", || folder.published()["listen"] == listen(7001)).await;
}

#[tokio::test]
async fn what_others_broke_in_the_file_is_an_incident_until_it_is_over() {
    for has_generation in [true, false] {
        let config = json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 3600});
        let folder = Folder::new(config);
        let _process = Process::start(&folder);
        let mut fake = Fake::of(&folder);
        fake.whole = true;
        fake.serve(&folder, true);
        let control = folder.start().await;
        let answer = control.register("10.0.0.1").await;
        assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
        fake.refuse(&json!("fastest"), RefusalCode::Invalid);
        let mut broken = folder.published();
        broken["algorithm"] = "fastest".into();
        if !has_generation {
            broken["generation"] = Value::Null;
        }
        std::fs::write(folder.root.proxy_config(), broken.to_string()).expect("written");
        let is_told = || !control.app.publisher.outcome().incidents.is_empty();
        until("told", is_told).await;
        let ready = readyz(&control).await;
        assert_eq!(ready["refusals"][0]["code"], "invalid", "{ready}");
        assert!(text(&ready["warnings"]).contains("the reason"), "{ready}");
        let (_, _, metrics) = control.ask_raw(ask("GET", "/metrics")).await;
        let line = "wicketgate_control_refusals{code=\"invalid\",place=\"\"} 1";
        assert!(metrics.contains(line), "{metrics}");
        // What control wants is as before: nothing of it is refused.
        let wanted = control.good(ask("POST", "/api/sync")).await;
        assert_eq!(wanted["reload"]["applied"], true, "{wanted}");
        assert_eq!(folder.published()["algorithm"], "weighted_round_robin");
        assert_eq!(readyz(&control).await["refusals"], json!([]));
    }
}

#[tokio::test]
async fn a_file_of_accepted_settings_that_cannot_be_read_holds_nothing_up() {
    let folder = Folder::new(json!({"proxy_process_names": ["sh"], "auto_sync_interval_sec": 1}));
    let _process = Process::start(&folder);
    let path = folder.root.settings_accepted();
    std::fs::write(&path, "{\"listen\": 7}").expect("written");
    Fake::of(&folder).serve(&folder, true);
    let control = folder.start().await;
    let answer = control.register("10.0.0.1").await;
    assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    let published = folder.published()["listen"].clone();
    until("written again", || read_json(&path)["listen"] == published).await;
}

#[tokio::test]
async fn a_proxy_that_reads_another_file_has_applied_nothing() {
    let (folder, _process, mut fake, control) = start(|_| (), true).await;
    let copy = folder.root.0.join("copy.json");
    let mut document = folder.published();
    document["generation"] = 50.into();
    document["algorithm"] = "random".into();
    std::fs::write(&copy, document.to_string()).expect("written");
    let socket = contract::paths::proxy_socket(&folder.root.proxy_pid());
    std::fs::remove_file(&socket).expect("removed");
    fake.path = copy.clone();
    fake.last.lock().expect("no panic").config_path = Some(copy.display().to_string());
    fake.serve(&folder, true);
    let answer = control.register("10.0.0.2").await;
    let reload = &answer["sync"]["reload"];
    assert_eq!(answer["sync"]["ok"], true);
    assert_eq!(reload["applied"], false, "{answer}");
    assert!(
        text(&reload["reason"]).contains("reads another file"),
        "{answer}"
    );
    assert!(
        text(&answer["sync"]["warnings"]).contains("copy.json"),
        "{answer}"
    );
    let seen = control.good(ask("GET", "/api/proxy")).await;
    assert_eq!(seen["applied"], false);
    assert_eq!(seen["other_file"]["proxy"], json!(copy));
    readyz(&control).await;
}

#[tokio::test]
async fn controls_own_address_is_none_to_listen_on() {
    let (folder, _process, _fake, control) = start(|_| (), true).await;
    let published = folder.published();
    for host in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
        let body = json!({"listen": {"host": host, "port": 8080}});
        let (status, answer) = set(&control, body).await;
        assert_eq!(status, 400, "{host}: {answer}");
        assert_eq!(answer["faults"][0]["place"], "/listen", "{answer}");
    }
    assert_eq!(folder.published(), published);
    for other in [
        json!({"host": "::1", "port": 8080}),
        json!({"host": "127.0.0.1", "port": 8080, "tcp": false}),
    ] {
        let (status, answer) = set(&control, json!({"listen": other})).await;
        assert_eq!(status, 200, "{other}: {answer}");
    }
}

#[tokio::test]
async fn controls_own_address_is_an_incident_from_the_first_start_on() {
    let config = json!({
        "proxy_process_names": ["sh"], "default_listen_host": "127.0.0.1",
        "default_listen_port": 8080, "auto_sync_interval_sec": 1,
    });
    let folder = Folder::new(config);
    let _process = Process::start(&folder);
    let control = folder.start().await;
    until("published", || {
        control.app.publisher.outcome().generation.is_some()
    })
    .await;
    let ready = readyz(&control).await;
    assert_eq!(ready["refusals"][0]["place"], "/listen", "{ready}");
    let told = text(&ready["warnings"]);
    assert!(told.contains("the control server listens on"), "{told}");
    // A proxy in another network has an address of its own there.
    let fake = Fake::of(&folder);
    fake.last.lock().expect("no panic").addresses = vec![[10, 79, 0, 1].into()];
    fake.serve(&folder, true);
    let has_no_address = crate::own_addresses::local_addresses()
        .iter()
        .all(|ip| ip.is_loopback());
    until("over", || {
        has_no_address || control.app.publisher.outcome().incidents.is_empty()
    })
    .await;
    assert_eq!(folder.published()["listen"], listen(8080));
}

#[tokio::test]
async fn what_the_configuration_file_asks_for_in_vain_keeps_the_accepted_value() {
    let config = json!({
        "proxy_process_names": ["sh"], "default_listen_host": "127.0.0.1",
        "default_listen_port": 8080,
    });
    let folder = Folder::new(config);
    folder.write(folder.root.settings_runtime(), &json!({"updated_at": 1}));
    let published = json!({
        "listen": listen(7000), "algorithm": "weighted_round_robin", "updated_at": 1,
        "generation": 5, "backends": [],
    });
    folder.write(folder.root.proxy_config(), &published);
    let _process = Process::start(&folder);
    Fake::of(&folder).serve(&folder, true);
    let control = folder.start().await;
    let answer = control.register("10.0.0.1").await;
    assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    assert_eq!(folder.published()["listen"], listen(7000));
    let told = text(&readyz(&control).await["warnings"]);
    assert!(told.contains("the control server listens on"), "{told}");
}

#[tokio::test]
async fn a_backend_that_is_the_proxys_own_listener_is_left_out() {
    let change = |fake: &mut Fake| {
        let mut last = fake.last.lock().expect("no panic");
        last.addresses = vec![[10, 79, 0, 1].into()];
        last.listeners = vec![ListenerStatus {
            name: contract::DEFAULT_NAME.to_owned(),
            addr: "0.0.0.0:7000".parse().expect("a literal"),
            tcp: true,
            udp: true,
        }];
    };
    let (folder, _process, _fake, control) = start(change, true).await;
    // By another name than that of control's host, as in a container of its own.
    let body = json!({"ip": "10.79.0.1", "port": 7000});
    let (status, answer) = control.ask(ask("POST", "/api/register").body(&body)).await;
    assert_eq!(status, 400, "{answer}");
    let discovered = json!({"source": "k8s", "updated_at": 1, "backends": [
        {"ip": "10.79.0.1", "port": 7000}, {"ip": "10.79.0.1", "port": 7001},
    ]});
    folder.write(folder.root.k8s_endpoints(), &discovered);
    control.app.keeper.read_sources().await;
    let other = control.register("10.0.0.2").await;
    assert_eq!(other["sync"]["reload"]["applied"], true, "{other}");
    assert!(
        text(&other["sync"]["warnings"]).contains("10.79.0.1:7000"),
        "{other}"
    );
    let published = folder.published_backends().join(",");
    assert!(!published.contains("10.79.0.1:7000"), "{published}");
    assert!(published.contains("10.79.0.1:7001"), "{published}");
}
