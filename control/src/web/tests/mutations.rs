//! What the API changes: in the answer, in the files, and over a restart.

use serde_json::{Value, json};

use super::harness::{Folder, ask, read_json, until};
use crate::actor::Actor;
use crate::base::tests::key;
use crate::model::Mutation;
use crate::registry::OverrideChange;

#[tokio::test]
async fn a_registration_is_answered_stored_and_published() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let body = json!({
        "ip": "10.0.0.1", "port": 9001, "weight": 30, "gpu_usage": 0.25, "vram_usage": null,
    });
    let answer = control.good(ask("POST", "/api/register").body(&body)).await;
    assert_eq!(answer["backend"], json!({"ip": "10.0.0.1", "port": 9001}));
    let sync = &answer["sync"];
    assert_eq!(
        (&sync["ok"], &sync["merged_count"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(sync["reload"]["ok"], json!(false), "no proxy runs");
    let info = sync["reload"]["info"].as_str().expect("a string");
    assert!(info.contains("not running"), "{info}");
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 30 true"]);
    let stored = read_json(&folder.root.backends_runtime());
    assert_eq!(stored["source"], json!("runtime_register"));
    assert_eq!(stored["backends"][0]["gpu_usage"], json!(0.25));
    assert_eq!(folder.audited("register").len(), 1);
}

#[tokio::test]
async fn a_heartbeat_makes_no_generation_and_waits_for_nobody() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let generation = folder.published()["generation"].clone();
    let same = control.register("10.0.0.1").await;
    assert_eq!(same["sync"]["reason"], json!("unchanged"));
    assert_eq!(same["sync"]["reload"]["ok"], Value::Null);
    let body = json!({ "ip": "10.0.0.1", "port": 9001, "gpu_usage": 0.75 });
    let figures = control.good(ask("POST", "/api/register").body(&body)).await;
    assert_eq!(figures["sync"]["reason"], json!("telemetry"));
    until("the figures are in the file", || {
        folder.published()["backends"][0]["gpu_usage"] == json!(0.75)
    })
    .await;
    assert_eq!(folder.published()["generation"], generation);
    assert_eq!(
        folder.audited("register").len(),
        1,
        "heartbeats are summed up"
    );
}

#[tokio::test]
async fn a_weight_edit_survives_heartbeats_expiry_and_a_restart_and_can_be_cleared() {
    let folder = Folder::new(json!({"runtime_ttl_sec": 10}));
    let discovered = json!({"updated_at": 7, "backends": [{"ip": "10.0.0.1", "port": 9001}]});
    folder.write(folder.root.k8s_endpoints(), &discovered);
    let path = "/api/backends/10.0.0.1/9001";
    {
        let control = folder.start().await;
        let weight = format!("{path}/weight");
        let edit = ask("POST", &weight).body(&json!({"weight": 77}));
        let answer = control.good(edit).await;
        let expected = json!({"ip": "10.0.0.1", "port": 9001, "weight": 77});
        assert_eq!(answer["updated"], expected);
        control.register("10.0.0.1").await;
        assert_eq!(folder.published_backends(), ["10.0.0.1:9001 77 true"]);
        control.pass_ms(10_000);
        until("expired", || !folder.audited("expire").is_empty()).await;
        assert_eq!(folder.published_backends(), ["10.0.0.1:9001 77 true"]);
        control.app.keeper.stop().await;
    }
    let control = folder.start().await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    let row = &listed["backends"][0];
    assert_eq!(
        (&row["weight"], &row["source"]),
        (&json!(77), &json!("runtime"))
    );
    let clear = format!("{path}/override");
    control.good(ask("DELETE", &clear)).await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 10 true"]);
}

#[tokio::test]
async fn enabled_and_drain_are_overrides_too() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let path = |last: &str| format!("/api/backends/10.0.0.1/9001/{last}");
    let drain = path("drain");
    control
        .good(ask("POST", &drain).body(&json!({"drain": true})))
        .await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 0 true"]);
    control
        .good(ask("POST", &drain).body(&json!({"drain": false})))
        .await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 10 true"]);
    let enabled = path("enabled");
    control
        .good(ask("POST", &enabled).body(&json!({"enabled": false})))
        .await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 10 false"]);
}

#[tokio::test]
async fn an_expired_registration_is_disabled_then_removed() {
    let folder = Folder::new(json!({"runtime_ttl_sec": 10}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    control.pass_ms(10_000);
    until("disabled", || {
        folder.published_backends() == ["10.0.0.1:9001 10 false"]
    })
    .await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(listed["backends"][0]["state"], json!("expired"));
    control.pass_ms(100_000);
    until("removed", || folder.published_backends().is_empty()).await;
}

#[tokio::test]
async fn a_mass_expiry_is_held_back_shown_and_can_be_acknowledged() {
    let folder = Folder::new(json!({"runtime_ttl_sec": 10}));
    let control = folder.start().await;
    for last in 1..=6 {
        control.register(&format!("10.0.0.{last}")).await;
    }
    control.pass_ms(10_000);
    until("frozen", || !folder.audited("freeze_expiry").is_empty()).await;
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert!(listed["freeze"].is_object() && listed["warnings"][0].is_string());
    assert!(
        folder
            .published_backends()
            .iter()
            .all(|line| line.ends_with("true"))
    );
    control.good(ask("POST", "/api/expiry/acknowledge")).await;
    until("expired", || {
        let published = folder.published_backends();
        published.iter().all(|line| line.ends_with("false"))
    })
    .await;
}

#[tokio::test]
async fn an_unregistered_backend_is_gone() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let body = json!({"ip": "10.0.0.1", "port": 9001});
    control
        .good(ask("DELETE", "/api/register").body(&body))
        .await;
    assert_eq!(folder.published_backends(), Vec::<String>::new());
    let (status, _) = control
        .ask(ask("DELETE", "/api/register").body(&body))
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn settings_by_api_are_published_and_survive_a_restart() {
    let folder = Folder::new(json!({"default_algorithm": "source_hash"}));
    {
        let control = folder.start().await;
        let body = json!({"algorithm": "random", "listen": {"port": 7000},
                          "proxy": {"connect_attempts": 2}});
        let answer = control.good(ask("POST", "/api/settings").body(&body)).await;
        assert_eq!(answer["settings"]["algorithm"], json!("random"));
    }
    let control = folder.start().await;
    let published = folder.published();
    assert_eq!(published["algorithm"], json!("random"));
    assert_eq!(
        published["listen"],
        json!({"host": "0.0.0.0", "port": 7000})
    );
    assert_eq!(published["connect_attempts"], json!(2));
    let body = json!({"algorithm": null});
    control.good(ask("POST", "/api/settings").body(&body)).await;
    assert_eq!(folder.published()["algorithm"], json!("source_hash"));
}

#[tokio::test]
async fn what_is_cleared_or_leaves_the_file_of_control_is_gone_after_a_restart_too() {
    let mut folder = Folder::new(json!({"default_algorithm": "source_hash"}));
    {
        let control = folder.start().await;
        control.good(ask("POST", "/api/sync")).await;
        assert_eq!(folder.published()["algorithm"], json!("source_hash"));
    }
    folder.config = json!({});
    {
        let control = folder.start().await;
        let body = json!({"listen": {"tcp": false}, "proxy": {"backend_gone_timeout_ms": 0}});
        control.good(ask("POST", "/api/settings").body(&body)).await;
        let published = folder.published();
        assert_eq!(published["algorithm"], json!("weighted_round_robin"));
        assert_eq!(published["backend_gone_timeout_ms"], json!(0));
    }
    let control = folder.start().await;
    let body = json!({"listen": {"tcp": null}, "proxy": {"backend_gone_timeout_ms": null}});
    control.good(ask("POST", "/api/settings").body(&body)).await;
    let published = folder.published();
    assert_eq!(published.get("backend_gone_timeout_ms"), None);
    assert_eq!(published["listen"].get("tcp"), None);
}

#[tokio::test]
async fn settings_of_a_file_by_hand_are_taken_over_and_can_be_cleared() {
    let folder = Folder::new(json!({"default_algorithm": "source_hash"}));
    let by_hand = json!({
        "listen": {"host": "0.0.0.0", "port": 7000}, "algorithm": "random",
        "connect_attempts": 2, "backends": [],
    });
    folder.write(folder.root.proxy_config(), &by_hand);
    for _ in 0..2 {
        let control = folder.start().await;
        control.good(ask("POST", "/api/sync")).await;
        let published = folder.published();
        assert_eq!(
            published["algorithm"],
            json!("source_hash"),
            "the file of control is above"
        );
        assert_eq!(
            (&published["listen"]["port"], &published["connect_attempts"]),
            (&json!(7000), &json!(2))
        );
    }
    let control = folder.start().await;
    let body = json!({"proxy": {"connect_attempts": null}});
    control.good(ask("POST", "/api/settings").body(&body)).await;
    assert_eq!(folder.published().get("connect_attempts"), None);
}

#[tokio::test]
async fn many_registrations_at_once_share_their_writes() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    let ips: Vec<String> = (1..=60).map(|last| format!("10.0.0.{last}")).collect();
    let local = tokio::task::LocalSet::new();
    let control = std::rc::Rc::new(control);
    local
        .run_until(async {
            let all: Vec<_> = ips
                .iter()
                .map(|ip| {
                    let (control, ip) = (control.clone(), ip.clone());
                    tokio::task::spawn_local(async move { control.register(&ip).await })
                })
                .collect();
            for registered in all {
                registered.await.expect("registered");
            }
        })
        .await;
    assert_eq!(folder.published_backends().len(), 60);
    let generation = folder.published()["generation"].as_u64().expect("a number");
    assert!(generation < 30, "{generation} publishes for one burst");
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_done_and_says_so() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    // A folder in the place of the file: writing fails for root too.
    let path = folder.root.backends_runtime();
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder in its place");
    std::fs::write(path.join("kept"), b"").expect("not empty");
    let weight = "/api/backends/10.0.0.1/9001/weight";
    let edit = || ask("POST", weight).body(&json!({"weight": 5}));
    let (status, answer) = control.ask(edit()).await;
    assert_eq!(
        (status.as_u16(), &answer["ok"]),
        (503, &json!(false)),
        "{answer}"
    );
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 10 true"]);
    let listed = control.good(ask("GET", "/api/backends")).await;
    assert_eq!(listed["backends"][0]["weight"], json!(10));
    std::fs::remove_dir_all(&path).expect("repaired");
    control.good(edit()).await;
    assert_eq!(folder.published_backends(), ["10.0.0.1:9001 5 true"]);
}

#[tokio::test]
async fn a_stored_change_that_cannot_be_published_says_so_and_is_published_later() {
    let folder = Folder::new(json!({"auto_sync_interval_sec": 1}));
    let control = folder.start().await;
    control.register("10.0.0.1").await;
    let path = folder.root.proxy_config();
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder in its place");
    std::fs::write(path.join("kept"), b"").expect("not empty");
    let body = json!({ "ip": "10.0.0.2", "port": 9001 });
    let (status, answer) = control.ask(ask("POST", "/api/register").body(&body)).await;
    assert_eq!(
        (status.as_u16(), &answer["ok"]),
        (503, &json!(false)),
        "{answer}"
    );
    assert_eq!(answer["sync"]["ok"], json!(false));
    std::fs::remove_dir_all(&path).expect("repaired");
    until("published", || {
        path.is_file() && folder.published_backends().len() == 2
    })
    .await;
}

#[tokio::test]
async fn who_may_register_what_is_bounded_and_told() {
    let folder = Folder::new(json!({
        "registration": { "max_backends": 2, "allowed_cidrs": ["10.0.0.0/8", "127.0.0.0/8"],
                          "allowed_ports": ["9000-9999"] },
    }));
    folder.write_tokens(&[("registrar", "register", None), ("operator", "write", None)]);
    let control = folder.start().await;
    let call = |method: &'static str, peer: &'static str, token: &'static str, body: Value| {
        let header = format!("Bearer {token}");
        let control = &control;
        async move {
            let asked = ask(method, "/api/register").peer(peer).body(&body);
            control.ask(asked.header("authorization", &header)).await
        }
    };
    let (here, elsewhere) = ("127.0.0.1:9", "192.0.2.1:9");
    let register = |peer, body| call("POST", peer, "registrar", body);
    for (peer, ip, port, place) in [
        (elsewhere, "11.0.0.1", 9001, "/ip"),
        (elsewhere, "10.0.0.1", 80, "/port"),
        (elsewhere, "127.0.0.1", 9001, "/ip"),
        (here, "169.254.169.254", 9001, "/ip"),
    ] {
        let (status, answer) = register(peer, json!({ "ip": ip, "port": port })).await;
        let found = &answer["faults"][0]["place"];
        assert_eq!(
            (status.as_u16(), found),
            (400, &json!(place)),
            "{ip}: {answer}"
        );
    }
    let (status, answer) = register(here, json!({ "ip": "127.0.0.1", "port": 9001 })).await;
    assert_eq!(status, 200, "{answer}");

    let secret = "0123456789abcdef";
    let owned = json!({ "ip": "10.0.0.1", "port": 9001, "owner": secret });
    let base = json!({ "ip": "10.0.0.1", "port": 9001 });
    for _ in 0..2 {
        let (status, answer) = register(elsewhere, owned.clone()).await;
        assert_eq!(
            (status.as_u16(), &answer["warnings"]),
            (200, &Value::Null),
            "{answer}"
        );
    }
    assert_eq!(register(elsewhere, base.clone()).await.0, 403);
    assert_eq!(
        call("DELETE", elsewhere, "registrar", base.clone()).await.0,
        403
    );
    let (status, answer) = register(elsewhere, json!({ "ip": "10.0.0.2", "port": 9001 })).await;
    assert_eq!(status, 409, "{answer}");
    for bad in [json!(7), json!("short"), json!("x".repeat(257))] {
        let body = json!({ "ip": "10.0.0.1", "port": 9001, "owner": bad });
        let (status, answer) = register(elsewhere, body).await;
        assert_eq!(
            (status.as_u16(), &answer["faults"][0]["place"]),
            (400, &json!("/owner"))
        );
    }
    assert_eq!(call("DELETE", elsewhere, "operator", base).await.0, 200);
    let refused = folder.audited("register");
    let refused = refused.iter().filter(|line| line["result"] != "ok").count();
    assert_eq!(refused, 7, "each refusal has a line, the same one once");
    let everything = [folder.root.audit_log(), folder.root.backends_runtime()];
    for path in everything {
        let text = std::fs::read_to_string(path).expect("written");
        assert!(!text.contains(secret), "the secret leaked: {text}");
    }
}

#[tokio::test]
async fn an_edit_of_an_older_registry_keeps_overrides_made_since_and_a_backup_does_not() {
    // A clock that stands, as one that jumps, makes no backup a newer edit.
    for (is_edited, ms) in [(true, 5_000), (false, 5_000), (false, 0)] {
        let folder = Folder::new(json!({}));
        let control = folder.start().await;
        control.register("10.0.0.1").await;
        control.register("10.0.0.2").await;
        let path = folder.root.backends_runtime();
        let mut copy = read_json(&path);
        control.pass_ms(ms);
        let change = Mutation::SetOverride(key(2), OverrideChange::Weight(7));
        let actor = Actor::Control("test");
        let changed = control.app.keeper.mutate(change, actor).await;
        changed.expect("it is registered");
        let is_later = read_json(&path)["updated_at"].as_u64() > copy["updated_at"].as_u64();
        assert_eq!(is_later, ms > 0);
        if is_edited {
            copy["backends"][0]["weight"] = 33.into();
        }
        folder.write(path, &copy);
        control.app.keeper.read_sources().await;
        let model = control.app.shared.model();
        let entry = |last| model.registry.entries[&key(last)].clone();
        assert_eq!(entry(2).r#override.is_some(), is_edited);
        let weight = entry(1).registered.expect("it stands").weight;
        assert_eq!(weight == Some(33), is_edited, "{weight:?}");
    }
}

#[tokio::test]
async fn faulty_settings_are_put_aside_before_they_are_overwritten() {
    let folder = Folder::new(json!({}));
    let path = folder.root.settings_runtime();
    let faulty = "{\"algorithm\": \"fastest\"}";
    std::fs::write(&path, faulty).expect("written");
    let control = folder.start().await;
    let body = json!({"algorithm": "random"});
    control.good(ask("POST", "/api/settings").body(&body)).await;
    assert_eq!(read_json(&path)["algorithm"], "random");
    let kept = std::fs::read_to_string(path.with_extension("json.broken"));
    assert_eq!(kept.expect("put aside"), faulty);
}
