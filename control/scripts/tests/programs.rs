//! The simulators as programs: their arguments, exit codes, signals and calls.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use contract::reload::{DEFAULT_PROCESS_NAMES, send_sighup};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(20);

const GEN: &str = env!("CARGO_BIN_EXE_gen_k8s_endpoints");
const SIM: &str = env!("CARGO_BIN_EXE_sim_backend_register_batch");
const DUMMY: &str = env!("CARGO_BIN_EXE_dummy_proxy");
const DEMO: &str = env!("CARGO_BIN_EXE_demo_backend");

/// A running program that does not outlive its test.
struct Program {
    child: Child,
    /// What it prints and what it complains of.
    lines: Receiver<String>,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Program {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built with this test");
        let (sender, lines) = channel();
        forward_lines(child.stdout.take().expect("piped above"), sender.clone());
        forward_lines(child.stderr.take().expect("piped above"), sender);
        Program { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line in time")
    }

    /// Sends TERM and waits for the exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not end within {DEADLINE:?}");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -$0 $1", name, &pid])
            .status();
        assert!(sent.expect("sh runs").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward_lines(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments);
    testkit::process::finish(command)
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("set");
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("set");
            return stream;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no call within {DEADLINE:?}");
}

/// One call as a scripted control sees it: the request line and the body. Answers `ok`.
fn take_call(listener: &TcpListener) -> (String, Value) {
    let mut stream = accept(listener);
    stream.set_read_timeout(Some(DEADLINE)).expect("set");
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.expect("a length").parse().expect("a number");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let answer = r#"{"ok":true,"sync":{"reload":{"info":"sent SIGHUP to pid=7"}}}"#;
    let length = answer.len();
    let head_of_answer =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    // Who asked may have been told to end meanwhile.
    let _ = write!(
        stream,
        "{head_of_answer}content-length: {length}\r\n\r\n{answer}"
    );
    (head.remove(0), serde_json::from_slice(&body).expect("JSON"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

fn addrs(document: &Value) -> Vec<String> {
    let backends = document["backends"].as_array().expect("an array");
    let addr =
        |entry: &Value| format!("{}:{}", entry["ip"].as_str().expect("an ip"), entry["port"]);
    backends.iter().map(addr).collect()
}

#[test]
fn a_bad_argument_is_named_with_what_is_allowed_and_exits_2() {
    let cases: [(&str, &[&str], &str); 15] = [
        (GEN, &["--n", "-1"], "--n"),
        (GEN, &["--n", "1001"], "0..=1000"),
        (GEN, &["--interval", "0"], "0.05 to 3600"),
        (GEN, &["--backends", "127.0.0.1"], "IP:PORT"),
        (GEN, &["--backends", "127.0.0.1:1", "--n", "1"], "--n"),
        (GEN, &["surplus"], "surplus"),
        (SIM, &[], "--mode"),
        (SIM, &["--mode", "both"], "nobatch, batch"),
        (SIM, &["--mode", "batch", "--port", "0"], "1..=65535"),
        (SIM, &["--mode", "batch", "--ip", "localhost"], "unicast"),
        (
            SIM,
            &["--mode", "batch", "--base", "ftp://a"],
            "http://HOST",
        ),
        (DUMMY, &["--pid"], "--pid"),
        (DEMO, &["--listen", "9001"], "IP:PORT"),
        (DEMO, &["--gpu", "1.5", "--register", "http://a"], "0 to 1"),
        (
            DEMO,
            &["--listen", "0.0.0.0:0", "--register", "http://a"],
            "--advertise",
        ),
    ];
    for (program, arguments, expected) in cases {
        let output = run(program, arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{program} {arguments:?}: {message}"
        );
        assert!(
            message.contains(expected),
            "{program} {arguments:?}: {message}"
        );
    }
}

#[test]
fn discovery_hands_out_invented_nodes_or_just_those_named() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("made/k8s_endpoints.json");
    let out = path.to_str().expect("text");
    assert!(run(GEN, &["--out", out, "--n", "4"]).status.success());
    let document = read_json(&path);
    assert!(document["updated_at"].as_u64() > Some(1_700_000_000));
    assert!(document["source"].is_string());
    assert_eq!(addrs(&document).len(), 4);
    assert!(
        run(GEN, &["--out", out, "--backends", "127.0.0.1:1,[::1]:2"])
            .status
            .success()
    );
    assert_eq!(addrs(&read_json(&path)), ["127.0.0.1:1", "::1:2"]);
    assert_eq!(read_json(&path)["backends"][0].get("pool"), None);
    let in_pool = ["--out", out, "--n", "2", "--pool", "chat"];
    assert!(run(GEN, &in_pool).status.success());
    let backends = read_json(&path)["backends"].take();
    let pools = backends.as_array().expect("a list").iter();
    assert!(pools.clone().all(|one| one["pool"] == "chat"), "{backends}");
    assert_eq!(pools.count(), 2);
}

#[test]
fn discovery_that_cannot_write_says_so_and_fails() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let blocking = temp.path().join("file");
    std::fs::write(&blocking, "").expect("written");
    let out = blocking.join("k8s_endpoints.json");
    let output = run(GEN, &["--out", out.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("k8s_endpoints.json"));
}

#[test]
fn discovery_in_a_loop_changes_what_it_lists_and_stops_when_told() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let path = temp.path().join("k8s_endpoints.json");
    let all = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
    let arguments = [
        "--out",
        path.to_str().expect("text"),
        "--backends",
        &all.join(","),
        "--loop",
        "--interval",
        "0.05",
    ];
    let program = Program::start(GEN, &arguments);
    let deadline = Instant::now() + DEADLINE;
    let mut has_left = false;
    let mut has_come = false;
    while !(has_left && has_come) {
        assert!(Instant::now() < deadline, "nobody came or left");
        let line = program.line();
        has_left |= line.contains(" -127.0.0.1:");
        has_come |= line.contains(" +127.0.0.1:");
        let listed = addrs(&read_json(&path));
        assert!(!listed.is_empty() && listed.iter().all(|addr| all.contains(&addr.as_str())));
    }
    assert_eq!(program.stop(), Some(0));
}

#[test]
fn a_demo_backend_serves_registers_beats_and_leaves() {
    let control = TcpListener::bind("127.0.0.1:0").expect("bound");
    let base = format!("http://{}", control.local_addr().expect("bound"));
    let arguments = [
        "--port",
        "0",
        "--name",
        "gpu-7",
        "--register",
        &base,
        "--interval",
        "0.05",
        "--weight",
        "30",
        "--gpu",
        "0.5",
    ];
    let program = Program::start(DEMO, &arguments);
    let first = program.line();
    let addr = first
        .split_whitespace()
        .find(|word| word.starts_with("127.0.0.1:"));
    let addr = addr.expect("the first line names the address").to_owned();
    for _ in 0..2 {
        let (line, call) = take_call(&control);
        assert_eq!(line, "post /api/register http/1.1");
        assert_eq!(
            format!("{}:{}", call["ip"].as_str().expect("an ip"), call["port"]),
            addr
        );
        assert_eq!(
            (&call["weight"], &call["gpu_usage"]),
            (&30.into(), &0.5.into())
        );
        assert!(call["vram_usage"].is_f64());
    }
    let mut name = String::new();
    let stream = TcpStream::connect(&addr).expect("connected");
    BufReader::new(stream).read_line(&mut name).expect("a line");
    assert_eq!(name, "gpu-7\n");

    program.signal("TERM");
    let left = loop {
        let (line, call) = take_call(&control);
        if line.starts_with("delete") {
            break (line, call);
        }
    };
    assert_eq!(left.0, "delete /api/register http/1.1");
    assert!(addr.ends_with(&format!(":{}", left.1["port"])));
    assert_eq!(program.stop(), Some(0));
}

#[test]
fn batching_registers_plainly_less_vram_on_the_same_address() {
    let mut settled = Vec::new();
    for (mode, other) in [("nobatch", "batch"), ("batch", "nobatch")] {
        // One of its own, since who ends may leave a last call behind in the queue.
        let control = TcpListener::bind("127.0.0.1:0").expect("bound");
        let base = format!("http://{}", control.local_addr().expect("bound"));
        let arguments = [
            "--mode",
            mode,
            "--base",
            &base,
            "--port",
            "4242",
            "--interval",
            "0.05",
        ];
        let program = Program::start(SIM, &arguments);
        let mut usage = 0.0;
        for _ in 0..12 {
            let (_, call) = take_call(&control);
            assert_eq!(
                (&call["ip"], &call["port"]),
                (&"127.0.0.1".into(), &4242.into())
            );
            usage = call["vram_usage"].as_f64().expect("a share");
            let batch = (mode == "batch").then_some(5);
            assert_eq!(call["max_batch"].as_u64(), batch, "{call}");
            assert_eq!(call["running"], 5, "{call}");
        }
        settled.push(usage);
        program.signal("TERM");
        // What these requests cost comes first, then what they cost in the other mode.
        for billed in [mode, other] {
            let begin = format!("{billed}: ");
            let is_bill =
                |line: &str| line.trim_start().starts_with(&begin) && line.contains("at the peak");
            while !is_bill(&program.line()) {}
        }
        assert_eq!(program.stop(), Some(0));
    }
    assert!(
        settled[0] > 3.0 * settled[1] && settled[0] <= 1.0,
        "{settled:?}"
    );
}

#[test]
fn a_server_outlives_the_absence_of_control() {
    // Bound and dropped: an address where nobody answers, until we come back to it.
    let away = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = away.local_addr().expect("bound");
    drop(away);
    let base = format!("http://{addr}");
    let program = Program::start(
        SIM,
        &["--mode", "batch", "--base", &base, "--interval", "0.05"],
    );
    loop {
        let line = program.line();
        if line.contains("does not answer") && line.contains("retrying") {
            break;
        }
    }
    let back = TcpListener::bind(addr).expect("still free");
    assert!(take_call(&back).0.starts_with("post"));
    assert_eq!(program.stop(), Some(0));
}

#[test]
fn dummy_proxy_tells_each_hang_up_and_what_the_file_says_then() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let root = temp.path().to_str().expect("text").to_owned();
    let pid_file = temp.path().join("run/proxy.pid");
    let program = Program::start(DUMMY, &["--root", &root]);
    assert!(program.line().contains("holds"));
    assert!(
        program.line().starts_with("start: refused"),
        "there is no file yet"
    );

    let second = run(DUMMY, &["--root", &root]);
    assert_eq!(second.status.code(), Some(1), "the pid file is held");

    let config = r#"{"listen": {"host": "127.0.0.1", "port": 10080}, "generation": 9,
                     "backends": [{"ip": "10.0.0.1", "port": 9001, "weight": 30}]}"#;
    let path = temp.path().join("config/proxy_config.json");
    contract::publish(&path, config.as_bytes()).expect("published");
    let names = DEFAULT_PROCESS_NAMES.map(str::to_owned);
    send_sighup(&pid_file, &names).expect("sent");
    let line = program.line();
    assert!(line.starts_with("SIGHUP 1: generation=9 "), "{line}");
    assert!(program.line().contains("10.0.0.1:9001 weight=30"));

    contract::publish(&path, b"{}").expect("published");
    send_sighup(&pid_file, &names).expect("sent");
    assert!(program.line().starts_with("SIGHUP 2: refused"));

    assert_eq!(program.stop(), Some(0));
    assert!(!pid_file.exists(), "a clean end removes the pid file");
}
