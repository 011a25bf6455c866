//! What the GPU agent says of its engines, and what becomes of it in control.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use e2e::api_bench::ApiBench;
use e2e::loop_bench::published;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::ports::free_address;
use testkit::process::run;
use testkit::server::Reply;
use testkit::{Control, LONG, Program, Server, until};

const VLLM: &str = include_str!("../../agent/tests/fixtures/vllm_0.11.txt");

/// A vLLM with what the fixture shows: 3 requests wait, 21 run, the cache is at 0.6218...
fn vllm() -> Server {
    let engine = Server::start();
    serve(&engine);
    engine
}

fn serve(engine: &Server) {
    engine.answer("/metrics", 200, VLLM);
    engine.answer("/health", 200, "");
}

/// An agent that beats ten times a second for `engine`, which clients reach at `addr`.
fn agent(control: SocketAddr, engine: &Server, addr: SocketAddr, more: &[&str]) -> Program {
    let mut command = agent_command(control, engine, addr);
    command.args(more);
    Program::spawn(command)
}

fn agent_command(control: SocketAddr, engine: &Server, addr: SocketAddr) -> Command {
    let mut command = testkit::process::command("gpu_agent");
    command.args(["--control", &format!("http://{control}")]);
    command.args(["--advertise", &addr.to_string()]);
    command.args(["--source", "vllm", "--url", &engine.url("/metrics")]);
    command.args(["--interval", "0.1"]);
    command
}

/// The row, once `is` holds of it.
#[track_caller]
fn row(bench: &ApiBench, addr: SocketAddr, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(what, LONG, || bench.row(addr).filter(|row| is(row)))
}

fn is_whole(row: &Value) -> bool {
    row["queue"] == json!(3) && row["is_warming_up"] == json!(false)
}

fn is_unknown(row: &Value) -> bool {
    let figures = ["gpu_usage", "vram_usage", "queue", "running"];
    figures.iter().all(|key| row[*key].is_null())
}

#[test]
fn an_engine_is_shown_with_its_figures_and_leaves_at_a_signal() {
    let bench = ApiBench::start(json!({}));
    let engine = vllm();
    for signal in [Signal::TERM, Signal::INT] {
        let addr = free_address();
        let batch = [
            "--max-batch",
            "8",
            "--batch-window-ms",
            "10",
            "--weight",
            "20",
        ];
        let mut agent = agent(bench.control.addr, &engine, addr, &batch);
        let row = row(&bench, addr, "its figures", is_whole);
        assert_eq!((&row["running"], &row["weight"]), (&json!(21), &json!(20)));
        assert_eq!(row["vram_usage"], json!(0.6218750000000001));
        assert!(row["gpu_usage"].is_null(), "it does not say it: {row}");
        assert_eq!(
            (&row["enabled"], &row["source"]),
            (&json!(true), &json!("runtime"))
        );
        let entry = until("it is published", LONG, || {
            published(&bench.folder, addr).filter(|entry| entry["is_warming_up"] == json!(false))
        });
        for (key, value) in [
            ("heartbeat_ms", 100),
            ("max_batch", 8),
            ("batch_window_ms", 10),
        ] {
            assert_eq!(entry[key], json!(value), "{key}: {entry}");
        }
        agent.signal(signal);
        assert_eq!(agent.wait_exit(LONG).code(), Some(0));
        assert!(bench.row(addr).is_none(), "it has left");
    }
}

#[test]
fn an_engine_warms_up_until_it_answers_goes_and_comes_back() {
    let bench = ApiBench::start(json!({}));
    let engine = Server::start();
    let engine_addr = engine.addr;
    engine.answer("/health", 503, "");
    let addr = free_address();
    let mut agent = agent(bench.control.addr, &engine, addr, &["--stale", "0.5"]);
    let cold = row(&bench, addr, "it is registered", |_| true);
    assert!(
        is_unknown(&cold) && cold["is_warming_up"] == json!(true),
        "{cold}"
    );
    agent.wait_for_line("figures unknown");

    serve(&engine);
    row(&bench, addr, "it is warm", is_whole);
    agent.wait_for_line("figures read");
    drop(engine);
    let gone = row(&bench, addr, "it has gone", |row| {
        is_unknown(row) && row["is_warming_up"] == json!(true)
    });
    assert_eq!(
        gone["enabled"],
        json!(true),
        "it is the operator who disables"
    );
    agent.wait_for_line("warming up");

    let engine = Server::start_at(engine_addr);
    serve(&engine);
    row(&bench, addr, "it is back", is_whole);
}

#[test]
fn a_reading_said_again_keeps_its_time_until_it_is_too_old() {
    let bench = ApiBench::start(json!({}));
    let engine = vllm();
    let addr = free_address();
    let mut agent = agent(bench.control.addr, &engine, addr, &["--stale", "2"]);
    row(&bench, addr, "its figures", is_whole);
    engine.answer("/metrics", 500, "");
    agent.wait_for_line("cannot be read");
    let before = bench.row(addr).expect("it is registered");
    let ttl_of = |row: &Value| row["ttl_remaining_ms"].as_u64().expect("a number");
    let mut beats = 0;
    let mut ttl = 0;
    let unknown = until("its figures are too old", LONG, || {
        let row = bench.row(addr).expect("it beats");
        if is_unknown(&row) {
            return Some(row);
        }
        assert_eq!(
            row["reported_at_ms"], before["reported_at_ms"],
            "not a fresh one"
        );
        beats += u64::from(ttl_of(&row) > ttl);
        ttl = ttl_of(&row);
        None
    });
    assert!(beats > 1, "it was said again");
    assert_eq!(
        unknown["is_warming_up"],
        json!(false),
        "it still answers its check"
    );
    agent.wait_for_line("figures unknown");
}

#[test]
fn control_may_come_late_and_go_and_come_back() {
    let bench = ApiBench::start(json!({}));
    let ApiBench {
        mut control,
        folder,
        ..
    } = bench;
    control.program.signal(Signal::KILL);
    control.program.wait_exit(LONG);
    let engine = vllm();
    let addr = free_address();
    let mut agent = agent(control.addr, &engine, addr, &[]);
    agent.wait_for_line("control does not answer");
    for _ in 0..2 {
        control = Control::start_on(&folder, control.addr);
        agent.wait_for_line("registered with");
        control.program.signal(Signal::KILL);
        control.program.wait_exit(LONG);
        agent.wait_for_line("control does not answer");
    }
    // Away or not, it ends when told to.
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(LONG).code(), Some(0));
}

#[test]
fn control_that_is_away_is_asked_ever_less_often() {
    let control = Server::start();
    control.answer("/api/register", 503, r#"{"ok":false,"error":"stopping"}"#);
    let engine = vllm();
    let _agent = agent(control.addr, &engine, free_address(), &[]);
    assert_backs_off(&control);
}

/// Of ten beats a second, those of the first three seconds are at most 7: after 0.1, 0.2, 0.4, 0.8
/// and 1.6 seconds, each up to a quarter shorter.
#[track_caller]
fn assert_backs_off(control: &Server) {
    until("the first attempt", LONG, || {
        (!control.asked().is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let attempts = control.asked().len();
    assert!((3..=7).contains(&attempts), "{attempts} attempts in 3 s");
}

#[test]
fn a_refused_token_is_told_plainly_and_not_hammered() {
    let refusing = Server::start();
    refusing.answer(
        "/api/register",
        401,
        r#"{"ok":false,"error":"a token is needed"}"#,
    );
    let engine = vllm();
    let mut refused = agent(refusing.addr, &engine, free_address(), &[]);
    let line = refused.wait_for_line("status 401");
    assert!(
        line.contains("a token is needed") && line.contains("--token-file"),
        "{line}"
    );
    assert_backs_off(&refusing);
    refused.assert_one_line("status 401");
}

#[test]
fn the_token_is_taken_from_the_command_line_a_file_or_the_environment() {
    let tokens = json!({ "register": "register-token", "read": "read-token" });
    let bench = ApiBench::start(json!({ "tokens": tokens }));
    let engine = vllm();
    let file = bench.folder.beside("token");
    std::fs::write(&file, "register-token\n").expect("a temporary folder can be written");
    let file = file.to_str().expect("a plain name");
    for more in [&["--token", "register-token"], &["--token-file", file]] {
        let mut agent = agent(bench.control.addr, &engine, free_address(), more);
        agent.wait_for_line("registered with");
    }
    let mut command = agent_command(bench.control.addr, &engine, free_address());
    command.env("WICKETGATE_TOKEN", "register-token");
    Program::spawn(command).wait_for_line("registered with");
    let mut wrong = agent(
        bench.control.addr,
        &engine,
        free_address(),
        &["--token", "wrong-token"],
    );
    wrong.wait_for_line("status 401");
}

#[test]
fn an_engine_that_hangs_does_not_keep_another_from_being_said() {
    let bench = ApiBench::start(json!({}));
    let [hanging, lively] = [vllm(), vllm()];
    let addresses = [free_address(), free_address()];
    let entry = |server: &Server, addr: SocketAddr| json!({ "advertise": addr.to_string(), "source": "vllm", "url": server.url("/metrics") });
    let config = json!({
        "control": format!("http://{}", bench.control.addr), "interval_ms": 100, "stale_ms": 500,
        "engines": [entry(&hanging, addresses[0]), entry(&lively, addresses[1])],
    });
    let path = bench.folder.beside("agent.json");
    std::fs::write(&path, config.to_string()).expect("a temporary folder can be written");
    let path = path.to_str().expect("a plain name");
    let checked = run("gpu_agent", ["--config", path, "--check"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let mut agent = Program::start("gpu_agent", ["--config", path]);
    for addr in addresses {
        row(&bench, addr, "both are shown", is_whole);
    }
    hanging.reply("/metrics", Reply::Hang);
    row(&bench, addresses[0], "what hangs is unknown", is_unknown);
    let more = VLLM.replace("} 3.0", "} 4.0");
    lively.answer("/metrics", 200, &more);
    row(&bench, addresses[1], "the other one goes on", |row| {
        row["queue"] == json!(4)
    });
    let hung = bench.row(addresses[0]).expect("it beats");
    let ttl = hung["ttl_remaining_ms"].as_u64().expect("a number");
    assert!(ttl > 10_000, "it beats though it cannot be read: {hung}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(LONG).code(), Some(0));
    for addr in addresses {
        assert!(bench.row(addr).is_none(), "both have left");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // Whoever waits for an answer from there waits for seconds.
    let control = Server::start();
    control.reply("/api/register", Reply::Hang);
    let engine = vllm();
    let mut agent = agent(control.addr, &engine, free_address(), &[]);
    until("it waits for an answer", LONG, || {
        (!control.asked().is_empty()).then_some(())
    });
    agent.signal(Signal::TERM);
    agent.wait_for_line("stopping");
    agent.signal(Signal::TERM);
    let ended = agent.wait_exit(Duration::from_secs(1));
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn a_command_is_read_and_none_outlives_the_agent() {
    let bench = ApiBench::start(json!({}));
    let pids = bench.folder.beside("pids");
    let script = format!(
        "echo $$ >> {}; echo '{{\"gpu_usage\": 0.25, \"queue\": 3}}'; test -e {} && sleep 600",
        pids.display(),
        bench.folder.beside("hang").display()
    );
    let script = script + "; true";
    let addr = free_address().to_string();
    let control = format!("http://{}", bench.control.addr);
    let mut agent = Program::start(
        "gpu_agent",
        [
            "--control",
            &control,
            "--advertise",
            &addr,
            "--source",
            "command",
            "--command",
            &script,
            "--interval",
            "0.1",
            "--health",
            "none",
            "--timeout-ms",
            "1000",
        ],
    );
    let addr: SocketAddr = addr.parse().expect("an address");
    let row = row(&bench, addr, "its figures", is_whole);
    assert_eq!(
        (&row["gpu_usage"], &row["vram_usage"]),
        (&json!(0.25), &Value::Null)
    );
    std::fs::write(bench.folder.beside("hang"), "").expect("a temporary folder can be written");
    agent.wait_for_line("ran longer than 1s");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(LONG).code(), Some(0));
    let pids = std::fs::read_to_string(&pids).expect("the command wrote it");
    for pid in pids.lines() {
        let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        assert!(
            !cmdline.is_ok_and(|line| line.contains("sleep 600")),
            "{pid} lives on"
        );
    }
}

#[test]
fn it_reads_once_for_a_person_and_says_what_is_wrong() {
    let engine = vllm();
    let once = |arguments: &[&str]| {
        let always = ["--advertise", "127.0.0.1:9001", "--once"];
        let output = run("gpu_agent", [&always, arguments].concat());
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code(),
            serde_json::from_str::<Value>(&line).unwrap_or_default(),
        )
    };
    let url = engine.url("");
    let (code, said) = once(&["--source", "vllm", "--url", &url]);
    assert_eq!(
        (code, &said["running"], &said["health"]),
        (Some(0), &json!(21), &json!("ok"))
    );
    let (code, said) = once(&["--source", "sglang", "--url", &url]);
    assert_eq!(code, Some(1));
    assert!(
        said["faults"][0]
            .as_str()
            .expect("a fault")
            .contains("sglang:"),
        "{said}"
    );
    // Where there is a GPU it is read, and where there is none it is said what was looked for.
    let (code, said) = once(&["--source", "nvml", "--gpu", "0"]);
    let looked_for = said["faults"].to_string().contains("libnvidia-ml.so.1");
    assert!(code == Some(0) || looked_for, "{said}");
    for bad in [
        &["--source", "vlm"][..],
        &["--source", "nvml"],
        &["--nonsense"],
    ] {
        assert_eq!(once(bad).0, Some(2), "{bad:?}");
    }
    assert_eq!(
        once(&["--source", "vllm", "--check"]).0,
        Some(2),
        "one of the two"
    );
}
