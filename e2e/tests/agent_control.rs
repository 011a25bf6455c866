//! How the GPU agent finds control: one of several, and as whom the files say by now.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use e2e::api_bench::ApiBench;
use e2e::loop_bench::published;
use rustix::process::Signal;
use serde_json::json;
use testkit::ports::free_address;
use testkit::server::Reply;
use testkit::{Control, Folder, LONG, Program, Server, until};

/// An agent that beats ten times a second, for an engine that says nothing.
fn agent(controls: &[SocketAddr], addr: SocketAddr, more: &[&str]) -> Program {
    agent_every("0.1", controls, addr, more)
}

fn agent_every(
    interval: &str,
    controls: &[SocketAddr],
    addr: SocketAddr,
    more: &[&str],
) -> Program {
    let mut command = testkit::process::command("gpu_agent");
    for control in controls {
        command.args(["--control", &format!("http://{control}")]);
    }
    command.args(["--advertise", &addr.to_string(), "--interval", interval]);
    command.args([
        "--source",
        "command",
        "--command",
        "echo {}",
        "--health",
        "none",
    ]);
    Program::spawn({
        command.args(more);
        command
    })
}

/// Replaces a file whole, as whoever rotates secrets does.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("a temporary folder can be written");
    fs::rename(&beside, path).expect("a temporary folder can be written");
}

#[test]
fn an_engine_comes_to_its_pool_and_leaves_it() {
    let bench = ApiBench::start(json!({ "proxy": { "pools": { "chat": {} } } }));
    let addr = free_address();
    let control = bench.control.addr;
    let mut agent = agent(&[control], addr, &["--pool", "chat"]);
    let known = || {
        let (_, list) = bench.control.api.get("/api/v1/backends");
        let list = list["backends"].as_array().cloned().unwrap_or_default();
        let own = list.into_iter().find(|one| one["port"] == addr.port());
        own.map(|one| one["id"].clone())
    };
    let id = until("it is registered", LONG, known);
    assert_eq!(id, format!("chat/{addr}"));
    agent.signal(Signal::TERM);
    agent.wait_exit(LONG);
    until("it has left", LONG, || known().is_none().then_some(()));
}

#[test]
fn the_next_control_is_called_where_one_is_silent() {
    let first = ApiBench::start(json!({}));
    let ApiBench {
        mut control,
        folder,
        ..
    } = first;
    let stopping = Server::start();
    stopping.answer("/api/register", 503, r#"{"ok":false,"error":"stopping"}"#);
    let hanging = Server::start();
    hanging.reply("/api/register", Reply::Hang);
    // What an ingress says whose route to control is missing, or that wants a login first.
    let unrouted = Server::start();
    unrouted.answer("/api/register", 404, "default backend");
    let login = Server::start();
    login.answer("/api/register", 401, "<html>");
    let second = ApiBench::start(json!({}));
    let addr = free_address();
    let controls = [
        control.addr,
        stopping.addr,
        hanging.addr,
        unrouted.addr,
        login.addr,
        second.control.addr,
    ];
    let mut agent = agent(&controls, addr, &[]);
    agent.wait_for_line(&format!("registered with http://{}", control.addr));
    assert!(second.row(addr).is_none(), "one is enough");

    control.program.signal(Signal::KILL);
    control.program.wait_exit(LONG);
    agent.wait_for_line("trying the next control");
    agent.wait_for_line(&format!("registered with http://{}", second.control.addr));
    until("it beats there", LONG, || second.row(addr));
    // It stays there though the first one comes back, until this one is silent too.
    let mut back = Control::start_on(&folder, control.addr);
    let mut second = second;
    second.control.program.signal(Signal::STOP);
    agent.wait_for_line(&format!("registered with http://{}", control.addr));
    second.control.program.signal(Signal::CONT);

    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(LONG).code(), Some(0));
    assert!(back.program.is_running());
}

#[test]
fn no_pause_lies_between_a_silent_control_and_the_next() {
    let bench = ApiBench::start(json!({}));
    // Nobody listens at the first one, and a pause would be longer than anything is waited for here.
    let controls = [free_address(), bench.control.addr];
    let mut agent = agent_every("60", &controls, free_address(), &[]);
    agent.wait_for_line("trying the next control");
    agent.wait_for_line("registered with");
}

/// Long enough that a registration which nobody refreshes would have ended.
fn outlive_a_ttl() {
    std::thread::sleep(2 * TTL);
}

const TTL: Duration = Duration::from_secs(2);

#[test]
fn a_token_that_is_replaced_ends_the_pause_behind_its_refusal() {
    let bench = ApiBench::start(json!({ "tokens": { "register": "the-new-token" } }));
    let folder = Folder::new();
    let path = folder.beside("token");
    write(&path, "the-old-token\n");
    let file = path.to_str().expect("a plain name");
    // The pauses are no shorter than the interval, and that is longer than anything is waited for here.
    let controls = [bench.control.addr];
    let mut agent = agent_every("60", &controls, free_address(), &["--token-file", file]);
    agent.wait_for_line("status 401");
    write(&path, "the-new-token\n");
    agent.wait_for_line("registered with");
}

#[test]
fn a_bad_token_file_costs_nothing_and_a_good_one_counts() {
    let tokens = json!({ "register": "the-token" });
    let settings = json!({ "tokens": tokens, "runtime_ttl_sec": TTL.as_secs() });
    let bench = ApiBench::start(settings);
    let folder = Folder::new();
    let path = folder.beside("token");
    let addr = free_address();
    write(&path, "the-token\n");
    let file = path.to_str().expect("a plain name");
    let mut agent = agent(&[bench.control.addr], addr, &["--token-file", file]);
    agent.wait_for_line("registered with");

    let is_in_use = || {
        let entry = published(&bench.folder, addr);
        entry.is_some_and(|entry| entry["enabled"] == json!(true))
    };
    until("it is published", LONG, || is_in_use().then_some(()));
    write(&path, "");
    agent.wait_for_line("is empty; using the last good content");
    fs::remove_file(&path).expect("it is there");
    agent.wait_for_line("using the last good content");
    fs::create_dir(&path).expect("nothing is there");
    agent.wait_for_line("is a folder, not a file; using the last good content");
    outlive_a_ttl();
    assert!(is_in_use(), "it beats on");
    assert_eq!(
        agent.count_lines("using the last good content"),
        3,
        "each told once"
    );
    fs::remove_dir(&path).expect("it is empty");
    // Valid, and unknown to control, until the right one comes again.
    write(&path, "another-token");
    agent.wait_for_line("status 401");
    write(&path, "the-token");
    agent.wait_for_line("registered with");
}

#[test]
fn what_an_agent_owns_stays_its_own_under_a_new_secret() {
    let bench = ApiBench::start(json!({}));
    let folder = Folder::new();
    let path = folder.beside("owner");
    let addr = free_address();
    write(&path, "the first secret of node 7\n");
    let file = path.to_str().expect("a plain name");
    let mut agent = agent(&[bench.control.addr], addr, &["--owner-file", file]);
    agent.wait_for_line("registered with");
    write(&path, "the second secret of node 7\n");
    agent.wait_for_line("deregistered; registering again");
    until("it is back", LONG, || bench.row(addr));
    let body = |owner: &str| json!({ "ip": addr.ip(), "port": addr.port(), "owner": owner });
    let delete = |owner| bench.api().delete("/api/register", Some(&body(owner))).0;
    let refused = until("the new secret is in force", LONG, || {
        let status = delete("the first secret of node 7");
        (status == 403).then_some(status)
    });
    assert_eq!(refused, 403);
    assert_eq!(
        agent.count_lines("status 403"),
        0,
        "never kept out by itself"
    );
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(LONG).code(), Some(0));
    assert!(bench.row(addr).is_none(), "it has left with the new one");
}
