//! The proxy as a process: start, check, signals and exit codes.

use std::fs;
use std::io::{Read as _, Write as _, copy};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use contract::pidfile;
use e2e::proxy_bench::ProxyBench;
use proxy_sys::datagrams::{MOST_SEGMENTS, send};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::ports::free_address;
use testkit::process::run;
use testkit::{Backend, Folder, LONG, Manner, Program, Proxy, Session, proxy_config, until};

/// A proxy before one echoing backend.
fn before_echo(settings: Value) -> (ProxyBench, Backend) {
    let echo = Backend::start("echo", Manner::Echo);
    (ProxyBench::start(&[echo.addr], settings), echo)
}

/// Runs `proxy_server` to its end: exit code, standard output and standard error.
fn proxy_server(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run("proxy_server", arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Whoever reads the log file alone learns why nothing runs.
#[test]
fn a_start_that_fails_is_told_in_the_log_file_too() {
    let folder = Folder::new();
    let listen = free_address();
    folder.write_proxy_config(&proxy_config(listen, &[(free_address(), 10)]));
    let log_path = folder.root.0.join("proxy.log");
    let log_name = log_path.to_str().expect("it is ASCII");
    let always = ["--root", folder.root_argument(), "--log-file", log_name];
    let mut lines = 0;
    for wrong in [
        ["--pid-file", "/proc/self/comm"],
        ["--metrics-listen", "192.0.2.1:1"],
        ["--config", "/proc/none.json"],
    ] {
        let (code, _, said) = proxy_server(&[&always[..], &wrong].concat());
        assert_eq!(code, Some(1), "{said}");
        let log = fs::read_to_string(&log_path).expect("it is written");
        let reason = said.trim_start_matches("proxy_server: ").trim_end();
        lines += 1;
        assert_eq!(log.lines().count(), lines, "{log}");
        let last = log.lines().last().expect("counted above");
        assert!(
            last.contains("ERROR") && last.ends_with(reason),
            "{log}: {said}"
        );
    }
}

#[test]
fn the_pid_file_names_the_proxy_and_proves_it_while_it_runs() {
    let (mut bench, _echo) = before_echo(json!({}));
    let path = bench.folder.root.proxy_pid();
    let text = fs::read_to_string(&path).expect("it is ready");
    assert_eq!(text.trim(), bench.proxy.program.pid().to_string());
    let announced = pidfile::read(&path).expect("one pid");
    assert_eq!(
        announced.evidence().expect("it is open").lock_holder,
        pidfile::LockHolder::Process(bench.proxy.program.pid() as i32)
    );
    let socket = fs::metadata(contract::paths::proxy_socket(&path)).expect("an admin socket");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);

    let second = proxy_server(&["--root", bench.folder.root_argument()]);
    assert_eq!(second.0, Some(1), "{second:?}");
    assert!(
        second.2.contains(&bench.proxy.program.pid().to_string()),
        "{second:?}"
    );
    bench.open().echo(b"unharmed").expect("the first serves");
    assert_eq!(fs::read_to_string(&path).expect("it stands"), text);

    bench.proxy.program.signal(Signal::INT);
    bench.proxy.program.wait_exit(LONG);
    assert!(!path.exists(), "the pid file is removed at the end");
}

#[test]
fn another_config_and_pid_file_can_be_named() {
    let folder = Folder::new();
    let echo = Backend::start("echo", Manner::Echo);
    let listen = free_address();
    let config = folder.beside("elsewhere.json");
    let pid_file = folder.beside("deep/down/other.pid");
    let text = proxy_config(listen, &[(echo.addr, 10)]).to_string();
    fs::write(&config, text).expect("a temporary folder");
    let named = |path: &std::path::Path| path.to_str().expect("a plain name").to_owned();
    let arguments = ["-c", &named(&config), "--pid-file", &named(&pid_file)];
    let program = Program::start("proxy_server", arguments);
    until("the pid file, in folders that were made", LONG, || {
        (testkit::proxy::announced(&pid_file) == Some(program.pid())).then_some(())
    });
    let session = Session::open(listen).expect("a session is served");
    assert_eq!(session.backend, "echo");
    let admin = testkit::admin::Admin::beside(&pid_file);
    assert_eq!(admin.status().running.pid, program.pid());
}

#[test]
fn check_names_every_fault_with_its_place() {
    let folder = Folder::new();
    let root = ["--root", folder.root_argument()];
    let check = || proxy_server(&[root[0], root[1], "--check"]);
    let listen = free_address();
    folder.write_proxy_config(&proxy_config(listen, &[(free_address(), 10)]));
    // Binds nothing: the port is taken, and it does not mind.
    let _taken = TcpListener::bind(listen).expect("free");
    let (code, _, log) = check();
    assert_eq!(code, Some(0), "{log}");
    assert!(!folder.root.proxy_pid().exists());

    let mut config = proxy_config(listen, &[(free_address(), 10), (free_address(), 10)]);
    config["algorithm"] = json!("wieghted_round_robin");
    config["backends"][0]["weight"] = json!(-1);
    config["backends"][0]["gpu_usage"] = json!(1.5);
    config["backends"][1]["ip"] = json!("gpu-7.example");
    config["idle_timout_ms"] = json!(5);
    folder.write_proxy_config(&config);
    let (code, _, log) = check();
    assert_eq!(code, Some(1), "{log}");
    for word in [
        "/algorithm",
        "wieghted_round_robin",
        "weighted_round_robin",
        "/backends/0/weight",
        "/backends/0/gpu_usage",
        "/backends/1/ip",
        "gpu-7.example",
        "/idle_timout_ms",
        "idle_timeout_ms",
    ] {
        assert!(log.contains(word), "{word} is missing: {log}");
    }
}

#[test]
fn check_refuses_a_health_port_that_leads_to_the_proxy_itself() {
    let folder = Folder::new();
    let listen = free_address();
    let mut config = proxy_config(listen, &[(free_address(), 10)]);
    for (port, is_own) in [(free_address().port(), false), (listen.port(), true)] {
        config["health"] = json!({"port": port});
        folder.write_proxy_config(&config);
        let (code, _, log) = proxy_server(&["--root", folder.root_argument(), "--check"]);
        assert_eq!(code, Some(i32::from(is_own)), "{log}");
        let fault = format!("/health/port: found {port}, allowed: a port where a probe of");
        assert_eq!(log.contains(&fault), is_own, "{log}");
    }
}

#[test]
fn exit_codes_are_0_for_right_1_for_a_bad_file_and_2_for_a_bad_call() {
    let folder = Folder::new();
    let root = folder.root_argument();
    folder.write_proxy_config(&proxy_config(free_address(), &[]));
    let cases: [(&[&str], i32); 8] = [
        (&["--root", root, "-t"], 0),
        (&["--root", root, "-T"], 0),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["--root", root, "-t", "-c", "/no/such/file"], 1),
        (&["--root", root, "-c", "/no/such/file"], 1),
        (&["--nonsense"], 2),
        (&["--root", root, "-w", "many"], 2),
    ];
    for (arguments, right) in cases {
        let (code, output, log) = proxy_server(arguments);
        assert_eq!(code, Some(right), "{arguments:?}: {output} {log}");
        if right == 1 {
            assert!(log.contains("/no/such/file"), "{arguments:?}: {log}");
        }
    }
}

#[test]
fn dump_writes_every_setting_and_is_a_configuration_again() {
    let folder = Folder::new();
    let listen = free_address();
    let backend = free_address();
    folder.write_proxy_config(&proxy_config(listen, &[(backend, 7)]));
    let (code, output, log) = proxy_server(&["--root", folder.root_argument(), "--dump"]);
    assert_eq!(code, Some(0), "{log}");
    let dumped: Value = serde_json::from_str(&output).expect("JSON on standard output");
    assert_eq!(dumped["idle_timeout_ms"], json!(3_600_000));
    assert_eq!(dumped["backends"][0]["weight"], json!(7));
    let local = contract::LocalAddresses::default();
    let checked = contract::check(output.as_bytes(), &local).expect("valid");
    assert!(checked.unknown_keys.is_empty());
    let mut addrs = checked.config.listeners[0].addrs();
    assert_eq!(addrs.next(), Some(listen));
}

#[test]
fn the_schema_needs_no_folder_and_is_of_the_table_of_keys() {
    let (code, output, log) = proxy_server(&["--schema"]);
    assert_eq!((code, log.as_str()), (Some(0), ""));
    let schema: Value = serde_json::from_str(&output).expect("JSON on standard output");
    assert_eq!(schema, contract::keys::schema());
}

#[test]
fn an_unreadable_configuration_is_an_error_that_names_it() {
    let folder = Folder::new();
    let path = folder.root.proxy_config();
    let name = path.to_str().expect("a plain name").to_owned();
    let refused = |what: &str| {
        let (code, _, log) = proxy_server(&["--root", folder.root_argument()]);
        assert_eq!(code, Some(1), "{what}: {log}");
        assert!(log.contains(&name), "{what}: {log}");
    };
    refused("missing");
    fs::create_dir_all(&path).expect("a temporary folder");
    refused("a folder in its place");
    fs::remove_dir(&path).expect("it is empty");
    symlink("/dev/zero", &path).expect("a temporary folder");
    refused("endless");
}

#[test]
fn term_and_quit_drain() {
    for signal in [Signal::TERM, Signal::QUIT] {
        let (mut bench, _echo) = before_echo(json!({ "drain_timeout_ms": 60_000 }));
        let mut open = bench.open();
        bench.proxy.program.signal(signal);
        until("new sessions are refused", LONG, || {
            connect(bench.listen).err()
        });
        assert!(bench.proxy.status().draining, "{signal:?}");
        open.echo(b"finishing").expect("an open session goes on");
        open.finish().expect("and ends in order");
        let ended = bench.proxy.program.wait_exit(LONG);
        assert_eq!(ended.code(), Some(0), "{signal:?}");
    }
}

/// The only worker is kept busy with datagrams that nobody takes, so that its turns take long. The drain
/// begins in one of them, and the client is accepted only at the end of that.
#[test]
fn a_client_who_waits_when_the_drain_begins_is_served() {
    const ROUNDS: usize = 5;
    const MANY: u64 = 10_000;
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = backend.local_addr().expect("it is bound");
    thread::spawn(move || {
        for client in backend.incoming().flatten() {
            thread::spawn(move || copy(&mut &client, &mut &client));
        }
    });
    // Once a probe has failed no more flows go there: one in flight would hold the drain up.
    let health =
        json!({ "probe": "udp", "send": "?", "interval_ms": 50, "timeout_ms": 500, "fall": 1 });
    for round in 0..ROUNDS {
        let settings = json!({ "all_down": "reject", "health": health });
        let mut bench = ProxyBench::with_one_worker(&[addr], settings);
        let flood = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        flood.connect(bench.listen).expect("there is a route");
        let is_over = AtomicBool::new(false);
        let served = thread::scope(|scope| {
            let begun = Instant::now();
            let is_over = &is_over;
            scope.spawn(move || {
                // For so long at most, or a failed test would wait for it for ever.
                while !is_over.load(Relaxed) && begun.elapsed() < LONG {
                    // Refused once the proxy has closed.
                    let _ = send(flood.as_fd(), &[&b"flood"[..]; MOST_SEGMENTS], None);
                }
            });
            until("all of them are dropped", LONG, || {
                let totals = bench.proxy.status().totals;
                let dropped = totals.datagrams_dropped.get("no_backend").copied()?;
                (dropped > MANY && totals.counters.flows_active == 0).then_some(())
            });
            let served = connect(bench.listen).and_then(|mut client| {
                bench.proxy.program.signal(Signal::TERM);
                client.write_all(b"hello")?;
                client.read_exact(&mut [0; 5])
            });
            is_over.store(true, Relaxed);
            served
        });
        served.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(bench.proxy.program.wait_exit(LONG).code(), Some(0));
    }
}

#[test]
fn a_second_term_ends_at_once() {
    let (mut bench, _echo) = before_echo(json!({ "drain_timeout_ms": 60_000 }));
    let open = bench.open();
    bench.proxy.program.signal(Signal::TERM);
    until("it drains", LONG, || {
        bench.proxy.status().draining.then_some(())
    });
    bench.proxy.program.signal(Signal::TERM);
    let begun = Instant::now();
    assert_eq!(bench.proxy.program.wait_exit(LONG).code(), Some(0));
    assert!(begun.elapsed() < LONG / 2, "not at once");
    drop(open);
}

#[test]
fn a_drain_ends_at_its_deadline_and_says_so() {
    let (mut bench, _echo) = before_echo(json!({ "drain_timeout_ms": 300 }));
    let _open = bench.open();
    bench.proxy.program.signal(Signal::TERM);
    assert_eq!(bench.proxy.program.wait_exit(LONG).code(), Some(0));
    bench.proxy.program.wait_for_line("shutdown");
}

#[test]
fn int_ends_at_once() {
    let (mut bench, _echo) = before_echo(json!({ "drain_timeout_ms": 60_000 }));
    let _open = bench.open();
    let begun = Instant::now();
    bench.proxy.program.signal(Signal::INT);
    assert_eq!(bench.proxy.program.wait_exit(LONG).code(), Some(0));
    assert!(begun.elapsed() < LONG / 2, "not at once");
}

#[test]
fn a_hang_up_before_the_proxy_is_ready_never_kills_it() {
    let folder = Folder::new();
    let listen = free_address();
    folder.write_proxy_config(&proxy_config(listen, &[]));
    let pid_file = folder.root.proxy_pid();
    // From the first moment that the pid file says anything.
    for _ in 0..10 {
        let arguments = ["--root", folder.root_argument()];
        let mut program = Program::start("proxy_server", arguments);
        until("the pid file is written", LONG, || {
            testkit::proxy::announced(&pid_file)
        });
        program.signal(Signal::HUP);
        let proxy = Proxy::ready(&folder, program);
        until("the hang-up is a reload", LONG, || {
            (proxy.status().reloads_ok == 1).then_some(())
        });
        drop(proxy);
        fs::remove_file(&pid_file).expect("a killed proxy leaves it");
    }
}

#[test]
fn what_a_killed_proxy_left_behind_does_not_hinder_the_next() {
    let (mut bench, _echo) = before_echo(json!({}));
    bench.proxy.program.signal(Signal::KILL);
    bench.proxy.program.wait_exit(LONG);
    assert!(bench.folder.root.proxy_pid().exists());
    let _next = Proxy::start_on(&bench.folder, &[]);
    bench.open().echo(b"served").expect("the next serves");
}
