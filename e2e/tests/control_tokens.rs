//! Tokens as an operator handles them: by command, under a running server.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use e2e::api_bench::ApiBench;
use serde_json::json;
use testkit::http::Request;
use testkit::{LONG, until};

fn token(bench: &ApiBench, arguments: &[&str]) -> Output {
    let root = ["--root", bench.folder.root_argument(), "token"];
    let arguments = root.into_iter().chain(arguments.iter().copied());
    testkit::process::run("control_server", arguments)
}

/// A new token, and its id.
fn create(bench: &ApiBench, arguments: &[&str]) -> (String, String) {
    let all: Vec<&str> = ["create"].iter().chain(arguments).copied().collect();
    let made = token(bench, &all);
    assert!(made.status.success(), "{made:?}");
    let secret = String::from_utf8(made.stdout)
        .expect("text")
        .trim()
        .to_owned();
    let about = String::from_utf8(made.stderr).expect("text");
    let id = about.split_whitespace().next().expect("an id").to_owned();
    assert!(
        secret.starts_with("wgt_") && !about.contains(&secret),
        "{about}"
    );
    (secret, id)
}

fn status(bench: &ApiBench, method: &str, path: &str, secret: &str) -> u16 {
    let request = Request::new(method, path);
    let request = request.header("Authorization", &format!("Bearer {secret}"));
    bench.api().call(request).0
}

#[test]
fn tokens_are_made_listed_and_revoked_under_a_running_server() {
    let bench = ApiBench::start(json!({}));
    assert_eq!(bench.api().get("/api/backends").0, 200, "protected mode");
    let (reader, id) = create(&bench, &["--scope", "read", "--name", "wall-display"]);
    until("the token is taken up", LONG, || {
        (bench.api().get("/api/backends").0 == 401).then_some(())
    });
    let (admin, _) = create(&bench, &["--scope", "admin", "--ttl", "90d"]);
    until("the second one too", LONG, || {
        (status(&bench, "POST", "/api/sync", &admin) == 200).then_some(())
    });
    assert_eq!(status(&bench, "GET", "/api/backends", &reader), 200);
    assert_eq!(status(&bench, "POST", "/api/sync", &reader), 403);

    let listed = String::from_utf8(token(&bench, &["list"]).stdout).expect("text");
    let head = listed.lines().next().unwrap_or_default();
    assert!(
        head.starts_with("ID ") && head.ends_with("LAST USED"),
        "{listed}"
    );
    assert!(listed.contains("wall-display"), "{listed}");
    until("the use is listed", LONG, || {
        let listed = String::from_utf8(token(&bench, &["list"]).stdout).expect("text");
        let used = listed
            .lines()
            .filter(|line| !line.ends_with("never"))
            .count();
        // The names of columns, and both tokens.
        (used == 3).then_some(())
    });
    let file = bench.folder.root.tokens();
    let text = fs::read_to_string(&file).expect("there");
    for secret in [&reader, &admin] {
        assert!(!listed.contains(secret.as_str()) && !text.contains(secret.as_str()));
    }
    let mode = fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert!(token(&bench, &["revoke", &id]).status.success());
    until("the revoked one opens nothing", LONG, || {
        (status(&bench, "GET", "/api/backends", &reader) == 401).then_some(())
    });
    assert_eq!(status(&bench, "GET", "/api/backends", &admin), 200);
    let unknown = token(&bench, &["revoke", &id]);
    assert_eq!(unknown.status.code(), Some(1));
    let bad_scope = token(&bench, &["create", "--scope", "root"]);
    assert_eq!(bad_scope.status.code(), Some(2));
}

#[test]
fn the_first_token_says_what_it_changes_and_cuts_nobody_off_at_once() {
    const TTL: Duration = Duration::from_secs(2);
    const GRACE: Duration = Duration::from_secs(8);
    let mut bench = ApiBench::start(json!({ "runtime_ttl_sec": TTL.as_secs() }));
    let backend = SocketAddr::from(([127, 0, 0, 77], 9000));
    let body = json!({ "ip": backend.ip(), "port": backend.port() });
    let beat = |bench: &ApiBench| bench.api().post("/api/register", &body).0;
    assert_eq!(beat(&bench), 200);
    let began = Instant::now();
    let made = token(&bench, &["create", "--scope", "admin", "--grace", "8s"]);
    let told = String::from_utf8(made.stderr).expect("text");
    for word in [
        "first token",
        "401",
        "new registrations",
        "127.0.0.77:9000",
        "until 2",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    until("the token is taken up", LONG, || {
        (bench.api().get("/api/backends").0 == 401).then_some(())
    });
    let new = json!({ "ip": "127.0.0.78", "port": 9000 });
    assert_eq!(bench.api().post("/api/register", &new).0, 401);
    let mut beats = 0;
    let refused = until("the grace is over", LONG, || {
        thread::sleep(TTL / 8);
        let status = beat(&bench);
        beats += u32::from(status == 200);
        (status != 200).then_some(status)
    });
    assert_eq!(refused, 401);
    assert!(
        began.elapsed() > GRACE - Duration::from_secs(1) && beats > 4,
        "{beats}"
    );
    // The silent expire as ever, and not before.
    assert_eq!(
        bench.control.program.count_lines("127.0.0.77:9000 expired"),
        0
    );
    let program = &mut bench.control.program;
    program.wait_for_line("registration expired backend=127.0.0.77:9000");
    // A second one changes nothing for anybody, and says no more than what it is.
    let made = token(&bench, &["create", "--scope", "read"]);
    let told = String::from_utf8(made.stderr).expect("text");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn what_cannot_be_read_for_a_moment_is_read_when_it_can_and_told_once() {
    const TOLD: &str = "the last known tokens stay valid";
    let mut bench = ApiBench::start(json!({}));
    let (reader, id) = create(&bench, &["--scope", "read"]);
    until("the token is taken up", LONG, || {
        (status(&bench, "GET", "/api/backends", &reader) == 200).then_some(())
    });
    bench.control.program.limit_descriptors(3);
    assert!(token(&bench, &["revoke", &id]).status.success());
    bench.control.program.wait_for_line(TOLD);
    // The file is looked at twice a second.
    thread::sleep(Duration::from_millis(1_200));
    bench.control.program.assert_one_line(TOLD);
    bench.control.program.limit_descriptors(1_024);
    until("the revoked one opens nothing", LONG, || {
        (status(&bench, "GET", "/api/backends", &reader) == 401).then_some(())
    });
    let program = &mut bench.control.program;
    program.wait_for_line("tokens reloaded");
}

#[test]
fn a_token_expires_by_the_wall_clock() {
    let bench = ApiBench::start(json!({}));
    let (brief, _) = create(&bench, &["--scope", "read", "--ttl", "3s"]);
    until("it is taken up", LONG, || {
        (status(&bench, "GET", "/api/backends", &brief) == 200).then_some(())
    });
    until("it has expired", LONG, || {
        (status(&bench, "GET", "/api/backends", &brief) == 401).then_some(())
    });
    // Without a good token the door stays shut, for this machine too.
    assert_eq!(bench.api().get("/api/backends").0, 401);
}

#[test]
fn a_token_file_that_others_could_have_written_lets_nobody_in() {
    let mut bench = ApiBench::start(json!({}));
    let (good, _) = create(&bench, &["--scope", "read"]);
    until("it is taken up", LONG, || {
        (status(&bench, "GET", "/api/backends", &good) == 200).then_some(())
    });
    // A running server keeps what it knew, and says why.
    let file = bench.folder.root.tokens();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
    bench
        .control
        .program
        .wait_for_line("found mode 666, allowed: 600");
    assert_eq!(status(&bench, "GET", "/api/backends", &good), 200);
    // And none starts, neither on that nor on a link.
    let refused = || {
        let root = ["--root", bench.folder.root_argument()];
        let started = testkit::process::run("control_server", root);
        let told = String::from_utf8(started.stderr).expect("text");
        (started.status.code(), told)
    };
    bench.control.program.signal(rustix::process::Signal::TERM);
    bench.control.program.wait_exit(LONG);
    let (code, told) = refused();
    assert!(code == Some(1) && told.contains("found mode 666"), "{told}");
    let elsewhere = bench.folder.beside("tokens.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    fs::rename(&file, &elsewhere).expect("moved");
    symlink(&elsewhere, &file).expect("linked");
    let (code, told) = refused();
    assert!(code == Some(1) && told.contains("tokens.json"), "{told}");
}
