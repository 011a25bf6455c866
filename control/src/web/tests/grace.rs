//! The first token, under a running server: who is registered is refreshed without one for a while.

use serde_json::{Value, json};

use super::harness::{Ask, Control, Folder, ask};
use crate::auth::{KnownToken, Scope, SecretHash, TokenSet};
use crate::renew;

/// What the clock by hand begins with, in Unix seconds.
const START_S: u64 = 1_730_000_000;
const GRACE_S: u64 = 3_600;

fn registration(ip: &str) -> Value {
    json!({ "ip": ip, "port": 9001, "weight": 7 })
}

fn beat(ip: &str) -> Ask<'static> {
    ask("POST", "/api/register").body(&registration(ip))
}

fn write_first_token(folder: &Folder, grace_until: Option<u64>) {
    let token = json!({
        "name": "first", "scope": "admin", "sha256": contract::digest(b"first"),
    });
    let text = json!({ "tokens": [token], "grace_until": grace_until }).to_string();
    let written = contract::publish::publish_private(&folder.root.tokens(), text.as_bytes());
    written.expect("written");
}

/// As the look at the token file does.
fn take_up(control: &Control) {
    control.app.access.reload().expect("good tokens");
    renew::tokens::begin_grace(&control.app);
}

async fn status(control: &Control, asked: Ask<'_>) -> u16 {
    control.ask_status(asked).await.as_u16()
}

#[tokio::test]
async fn who_is_registered_is_refreshed_without_a_token_for_the_grace_and_nobody_else() {
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.good(beat("10.0.0.1")).await;
    write_first_token(&folder, Some(START_S + GRACE_S));
    take_up(&control);
    let with_token = |asked: Ask<'static>| asked.header("authorization", "Bearer first");
    control.good(with_token(beat("10.0.0.2"))).await;
    // And again, as when the file is read once more.
    take_up(&control);
    let table = [
        ("a beat", beat("10.0.0.1"), 200),
        ("of one that came later", beat("10.0.0.2"), 401),
        ("a new one", beat("10.0.0.3"), 401),
        ("from elsewhere", beat("10.0.0.1").peer("192.0.2.1:9"), 401),
        (
            "forwarded",
            beat("10.0.0.1").header("x-real-ip", "127.0.0.1"),
            401,
        ),
        (
            "a wrong token",
            beat("10.0.0.1").header("authorization", "Bearer x"),
            401,
        ),
        (
            "another host",
            beat("10.0.0.1").header("host", "evil.example"),
            403,
        ),
        (
            "another site",
            beat("10.0.0.1").header("origin", "http://evil.example"),
            403,
        ),
        (
            "its end",
            ask("DELETE", "/api/register").body(&registration("10.0.0.1")),
            401,
        ),
        ("reading", ask("GET", "/api/backends"), 401),
        (
            "an edit",
            ask("POST", "/api/backends/10.0.0.1/9001/weight").body(&json!({ "weight": 1 })),
            401,
        ),
    ];
    for (name, asked, right) in table {
        assert_eq!(status(&control, asked).await, right, "{name}");
    }
    assert!(
        folder
            .audited("refused")
            .iter()
            .any(|line| { line["target"] == json!("POST /api/register 10.0.0.3:9001") })
    );
    assert_eq!(folder.audited("grace").len(), 1);

    // What an operator removes is a new one.
    let remove = ask("DELETE", "/api/register").body(&registration("10.0.0.1"));
    control.good(with_token(remove)).await;
    assert_eq!(status(&control, beat("10.0.0.1")).await, 401);
    control.good(with_token(beat("10.0.0.1"))).await;
    control.good(beat("10.0.0.1")).await;
    control.pass_ms(GRACE_S * 1_000);
    assert_eq!(status(&control, beat("10.0.0.1")).await, 401, "it is over");
    control.good(with_token(beat("10.0.0.1"))).await;
}

#[tokio::test]
async fn a_restart_within_the_grace_does_not_end_it_and_without_one_there_is_none() {
    for (grace_until, right) in [(Some(START_S + GRACE_S), 200), (None, 401)] {
        let folder = Folder::new(json!({}));
        let control = folder.start().await;
        control.good(beat("10.0.0.1")).await;
        write_first_token(&folder, grace_until);
        take_up(&control);
        assert_eq!(status(&control, beat("10.0.0.1")).await, right);
        control.app.keeper.stop().await;
        let control = folder.start().await;
        assert_eq!(status(&control, beat("10.0.0.1")).await, right);
        assert_eq!(status(&control, beat("10.0.0.3")).await, 401);
    }
}

/// As SIGHUP does, once `control_config.json` has tokens.
fn configure(control: &Control, tokens: &[&str]) {
    let known = tokens.iter().map(|token| KnownToken {
        scope: Scope::Admin,
        hash: SecretHash::of(token),
        label: (*token).to_owned(),
        is_generated: false,
        expires_at: None,
    });
    control.app.access.configure(TokenSet(known.collect()));
    renew::tokens::begin_grace(&control.app);
}

#[tokio::test]
async fn tokens_of_the_settings_begin_a_grace_too_which_a_restart_does_not_end() {
    // They come with SIGHUP, or with a restart.
    for is_told in [true, false] {
        let mut folder = Folder::new(json!({}));
        let control = folder.start().await;
        control.good(beat("10.0.0.1")).await;
        if is_told {
            configure(&control, &["first"]);
            assert_eq!(status(&control, beat("10.0.0.1")).await, 200);
            assert_eq!(status(&control, beat("10.0.0.3")).await, 401);
        }
        control.app.keeper.stop().await;

        folder.config = json!({ "tokens": { "write": "first-token" } });
        for _ in 0..2 {
            let control = folder.start().await;
            assert_eq!(status(&control, beat("10.0.0.1")).await, 200);
            assert_eq!(status(&control, beat("10.0.0.3")).await, 401);
            control.app.keeper.stop().await;
        }
        let control = folder.start().await;
        control.pass_ms(GRACE_S * 1_000 + 1_000);
        assert_eq!(status(&control, beat("10.0.0.1")).await, 401, "it is over");
        control.app.keeper.stop().await;
        let path = folder.root.token_uses().with_file_name("grace.json");
        std::fs::remove_file(path).expect("there");
        let control = folder.start().await;
        let found = status(&control, beat("10.0.0.1")).await;
        assert_eq!(found, 401, "tokens may have been there all the time");
    }
}

#[tokio::test]
async fn a_grace_ends_with_the_last_token_and_by_an_operators_word() {
    for end in ["no token", "the word"] {
        let folder = Folder::new(json!({}));
        let control = folder.start().await;
        control.good(beat("10.0.0.1")).await;
        write_first_token(&folder, Some(START_S + GRACE_S));
        take_up(&control);
        assert_eq!(status(&control, beat("10.0.0.1")).await, 200, "{end}");
        match end {
            "no token" => {
                let text = json!({ "tokens": [], "grace_until": START_S + GRACE_S }).to_string();
                let path = folder.root.tokens();
                contract::publish::publish_private(&path, text.as_bytes()).expect("written");
            }
            _ => write_first_token(&folder, Some(0)),
        }
        take_up(&control);
        assert_eq!(status(&control, beat("10.0.0.1")).await, 401, "{end}");
    }
    // The word ends that of the settings too.
    let folder = Folder::new(json!({}));
    let control = folder.start().await;
    control.good(beat("10.0.0.1")).await;
    configure(&control, &["first"]);
    assert_eq!(status(&control, beat("10.0.0.1")).await, 200);
    write_first_token(&folder, Some(0));
    take_up(&control);
    assert_eq!(status(&control, beat("10.0.0.1")).await, 401);
    configure(&control, &["first", "second"]);
    assert_eq!(status(&control, beat("10.0.0.1")).await, 401);
}
