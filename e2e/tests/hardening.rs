//! What goes on around the data path harms neither it nor its neighbours: silent clients of the
//! admin side, a log that nobody reads, files that are not what they should be.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::proxy_bench::ProxyBench;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::admin::Admin;
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::process::command;
use testkit::proxy::announced;
use testkit::wait::within;
use testkit::{Backend, Folder, LONG, Manner, Program, Proxy, Session, proxy_config, until};

fn until_it_says(log: &Path, words: &str) {
    until(words, LONG, || {
        let text = fs::read_to_string(log).ok()?;
        text.contains(words).then_some(())
    });
}

fn name(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// A program whose streams the test keeps for itself. Dropped, it is killed.
struct Raw(Child);

impl Raw {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("our own child");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn silent_clients_of_the_metrics_take_no_descriptors_from_the_sessions() {
    let folder = Folder::new();
    let echo = Backend::start("echo", Manner::Echo);
    let (listen, metrics) = (free_address(), free_address());
    let config = proxy_config(listen, &[(echo.addr, 10)]);
    let addr = metrics.to_string();
    let proxy = Proxy::start(&folder, &config, &["--metrics-listen", &addr]);
    let before = proxy.program.open_descriptors();
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(metrics).expect("it listens"))
        .collect();
    // Each answer shows that the accept loops have had their turn.
    let most = (0..20).map(|_| {
        proxy.status();
        proxy.program.open_descriptors()
    });
    assert!(most.max() < Some(before + 30), "from {before}");
    let mut session = Session::open(listen).expect("a session is served");
    session.echo(b"unharmed").expect("and goes on");
    // The oldest of them make room: the last would be closed for its silence after 18 s.
    const SOON: Duration = Duration::from_secs(8);
    let mut stream = TcpStream::connect(metrics).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("not zero");
    let request = Request::new("GET", "/metrics").header("Host", "proxy");
    let scraped = request.exchange(&mut stream).expect("a scrape is answered");
    assert_eq!(scraped.status, 200);
    drop(silent);
}

#[test]
fn a_silent_client_is_closed_on() {
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let socket = contract::paths::proxy_socket(&bench.folder.root.proxy_pid());
    let mut silent = UnixStream::connect(&socket).expect("it listens");
    silent.set_read_timeout(Some(LONG)).expect("not zero");
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).expect("closed in time");
}

#[test]
fn a_log_that_nobody_reads_stops_neither_reloads_nor_the_end() {
    let folder = Folder::new();
    let echo = Backend::start("echo", Manner::Echo);
    let listen = free_address();
    let config = proxy_config(listen, &[(echo.addr, 10)]);
    folder.write_proxy_config(&config);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    // A page, so that a few lines fill it.
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("smaller is always allowed");
    let mut command = command("proxy_server");
    command.args(["--root", folder.root_argument()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer);
    let mut program = Raw(command.spawn().expect("it starts"));
    drop(command);
    let pid_file = folder.root.proxy_pid();
    until("it is ready", LONG, || {
        (announced(&pid_file) == Some(program.0.id())).then_some(())
    });
    for _ in 0..300 {
        let session = Session::open(listen).expect("served");
        session.finish().expect("to its end");
    }
    let admin = Admin::beside(&pid_file);
    program.signal(Signal::HUP);
    until("the reload", LONG, || {
        (admin.status().reloads_ok == 1).then_some(())
    });
    program.signal(Signal::TERM);
    let ended = within(LONG, || program.0.try_wait().expect("our own child"));
    assert_eq!(ended.expect("it ends").code(), Some(0));
    drop(reader);
}

#[test]
fn two_proxies_share_a_folder_and_no_socket() {
    let folder = Folder::new();
    let start = |pid_file: &Path| {
        let config = folder.beside("config.json");
        let text = proxy_config(free_address(), &[]).to_string();
        fs::write(&config, text).expect("a temporary folder");
        Program::start(
            "proxy_server",
            ["-c", name(&config), "--pid-file", name(pid_file)],
        )
    };
    let pid_files = [folder.beside("proxy.pid"), folder.beside("second.pid")];
    let programs = pid_files.each_ref().map(|pid_file| {
        let program = start(pid_file);
        until("it is ready", LONG, || {
            (announced(pid_file) == Some(program.pid())).then_some(())
        });
        program
    });
    for (program, pid_file) in programs.iter().zip(&pid_files) {
        let status = Admin::beside(pid_file).status();
        assert_eq!(status.running.pid, program.pid());
    }
    // A third whose socket would be the second's is refused, and the second keeps it.
    let mut third = start(&folder.beside("second.run"));
    assert_eq!(third.wait_exit(LONG).code(), Some(1));
    third.wait_for_line("another proxy answers");
    let status = Admin::beside(&pid_files[1]).status();
    assert_eq!(status.running.pid, programs[1].pid());
}

#[test]
fn a_configuration_named_as_pid_file_is_kept() {
    let folder = Folder::new();
    folder.write_proxy_config(&proxy_config(free_address(), &[]));
    let path = folder.root.proxy_config();
    let before = fs::read(&path).expect("written");
    let arguments = ["-c", name(&path), "--pid-file", name(&path)];
    let mut program = Program::start("proxy_server", arguments);
    assert_eq!(program.wait_exit(LONG).code(), Some(1));
    assert_eq!(fs::read(&path).expect("kept"), before);
}

#[test]
fn a_configuration_that_is_no_regular_file_is_refused_at_once() {
    let folder = Folder::new();
    let fifo = folder.beside("fifo.json");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("coreutils").success());
    let one = folder.beside("folder.json");
    fs::create_dir(&one).expect("a temporary folder");
    for path in [&fifo, &one] {
        let mut program = Program::start("proxy_server", ["--check", "-c", name(path)]);
        assert_eq!(program.wait_exit(LONG).code(), Some(1));
        program.wait_for_line(name(path));
    }
}

#[test]
fn a_dump_whose_reader_has_seen_enough_ends_quietly() {
    let folder = Folder::new();
    let backends: Vec<_> = (1..2_000)
        .map(|port| (format!("10.0.0.1:{port}").parse().expect("an address"), 10))
        .collect();
    folder.write_proxy_config(&proxy_config(free_address(), &backends));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    drop(reader);
    let output = command("proxy_server")
        .args(["--root", folder.root_argument(), "--dump"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), log.as_str()), (Some(0), ""));
}

#[test]
fn a_refusal_names_the_generation_and_many_unknown_keys_take_one_line() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({}));
    let mut config = proxy_config(bench.listen, &[(echo.addr, 5_000)]);
    config["generation"] = json!(9);
    let refused = bench.proxy.reload_refused(config.to_string().as_bytes());
    assert_eq!(refused.generation, Some(9));
    // So whoever waits for it hears at once.
    let told = bench.proxy.admin.generation(9, Duration::from_secs(10));
    assert!(told.last_reload.is_some_and(|reload| !reload.ok));

    let backends: Vec<_> = (1..500)
        .map(|port| (format!("10.0.0.1:{port}").parse().expect("an address"), 10))
        .collect();
    let mut config = proxy_config(bench.listen, &backends);
    for backend in config["backends"].as_array_mut().expect("an array") {
        backend["zone"] = json!("a");
    }
    bench.proxy.reload(&config);
    bench.proxy.program.wait_for_line("reload config success");
    bench.proxy.program.assert_one_line("unknown key");
}

#[test]
fn an_older_report_does_not_replace_a_newer_one() {
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let report = |at_ms: u64, gpu_usage: Option<f64>| {
        let body = json!({ "reports": [{
            "ip": echo.addr.ip(), "port": echo.addr.port(), "gpu_usage": gpu_usage,
            "vram_usage": null, "reported_at_ms": at_ms,
        }] });
        let request = Request::new("POST", "/reports").header("Content-Type", "application/json");
        let answer = bench.proxy.admin.exchange(request.body(body.to_string()));
        assert_eq!(answer.expect("an answer").status, 200);
        bench.proxy.backend(echo.addr).gpu_usage
    };
    assert_eq!(report(1_000_000, Some(0.5)), Some(0.5));
    assert_eq!(
        report(999_000, Some(0.1)),
        Some(0.5),
        "overtaken on its way"
    );
    assert_eq!(report(1_001_000, Some(0.6)), Some(0.6));
    // A clock that was set back is no report that was overtaken.
    assert_eq!(report(1_000, Some(0.2)), Some(0.2));
    assert_eq!(report(1_002_000, None), None, "figures end");
    assert_eq!(bench.proxy.backend(echo.addr).reported_at_ms, None);
}

#[test]
fn the_log_file_is_opened_anew_while_lines_come() {
    let folder = Folder::new();
    let log = folder.beside("proxy.log");
    let moved = folder.beside("proxy.log.1");
    let config = proxy_config(free_address(), &[]);
    let mut proxy = Proxy::start(&folder, &config, &["--log-file", name(&log)]);
    until_it_says(&log, "serving generation=1");
    fs::rename(&log, &moved).expect("moved away");
    proxy.program.signal(Signal::USR1);
    until_it_says(&log, "log file reopened");
    let old = fs::read_to_string(&moved).expect("the old file");
    assert!(old.contains("serving generation=1"), "{old}");
}

#[test]
fn systemd_hears_that_the_proxy_is_ready_and_that_its_workers_turn() {
    let folder = Folder::new();
    folder.write_proxy_config(&proxy_config(free_address(), &[]));
    let socket = folder.beside("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a temporary folder");
    systemd.set_read_timeout(Some(LONG)).expect("not zero");
    let mut command = command("proxy_server");
    command
        .args(["--root", folder.root_argument()])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "300000");
    let _program = Program::spawn(command);
    let hear = || {
        let mut text = [0; 256];
        let length = systemd.recv(&mut text).expect("told in time");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    for _ in 0..3 {
        assert!(hear().contains("WATCHDOG=1"));
    }
}
