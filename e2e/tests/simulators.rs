//! What each simulator says that it does.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::folder::read;
use testkit::ports::{LOOPBACK, free_address};
use testkit::process::run;
use testkit::proxy::announced;
use testkit::{Control, Folder, LONG, Program, Proxy, proxy_config, until};

fn rows(control: &Control) -> Vec<Value> {
    let (status, table) = control.api.get("/api/backends");
    assert_eq!(status, 200, "{table}");
    table["backends"].as_array().expect("a list").clone()
}

fn row(control: &Control, addr: SocketAddr) -> Option<Value> {
    let mut rows = rows(control).into_iter();
    rows.find(|row| row["ip"] == json!(addr.ip()) && row["port"] == json!(addr.port()))
}

#[test]
fn gen_k8s_endpoints_writes_what_it_is_told_to() {
    let folder = Folder::new();
    let path = folder.beside("made/endpoints.json");
    let out = path.to_str().expect("a plain name");
    let output = run("gen_k8s_endpoints", ["--out", out, "--n", "4"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = read(&path).expect("written");
    assert!(
        file["source"].is_string() && file["updated_at"].is_number(),
        "{file}"
    );
    assert_eq!(file["backends"].as_array().map(Vec::len), Some(4), "{file}");

    let named = "127.0.0.1:9001,127.0.0.1:9002";
    let output = run("gen_k8s_endpoints", ["--out", out, "--backends", named]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = read(&path).expect("written");
    let ports = |file: &Value| -> BTreeSet<u64> {
        let backends = file["backends"].as_array().expect("a list").iter();
        backends
            .filter_map(|entry| entry["port"].as_u64())
            .collect()
    };
    assert_eq!(ports(&file), BTreeSet::from([9001, 9002]));
    for bad in [
        &["--n", "many"][..],
        &["--backends", "localhost:1"],
        &["--nonsense"],
    ] {
        let output = run("gen_k8s_endpoints", bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
    }
}

#[test]
fn gen_k8s_endpoints_in_a_loop_lets_nodes_come_and_go_in_whole_files() {
    let folder = Folder::new();
    let path = folder.root.k8s_endpoints();
    let root = folder.root_argument();
    let arguments = ["--root", root, "--n", "5", "--loop", "--interval", "0.05"];
    let mut program = Program::start("gen_k8s_endpoints", arguments);
    let mut counts = BTreeSet::new();
    let mut figures = BTreeSet::new();
    until("nodes come and go, figures drift", LONG, || {
        // A file that is not whole panics there.
        let backends = read(&path)?["backends"].as_array()?.clone();
        assert!(!backends.is_empty(), "at least one stays");
        counts.insert(backends.len());
        figures.insert(backends[0]["gpu_usage"].to_string());
        (counts.len() >= 2 && figures.len() >= 5).then_some(())
    });
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit(LONG).code(), Some(0));
}

#[test]
fn discovery_reaches_the_table() {
    let folder = Folder::new();
    let control = Control::start(&folder, free_address(), &json!({}));
    let root = folder.root_argument();
    let named = "127.0.0.1:9001,127.0.0.1:9002";
    run("gen_k8s_endpoints", ["--root", root, "--backends", named]);
    until("both are in the table", LONG, || {
        (rows(&control).len() == 2).then_some(())
    });
    assert!(
        rows(&control)
            .iter()
            .all(|row| row["source"] == json!("k8s"))
    );
}

#[test]
fn batching_costs_plainly_less_memory_and_modes_can_follow_each_other() {
    let folder = Folder::new();
    let control = Control::start(&folder, free_address(), &json!({}));
    let base = format!("http://{}", control.addr);
    let addr = free_address();
    let port = addr.port().to_string();
    let run_mode = |mode: &str| {
        let arguments = [
            "--mode",
            mode,
            "--base",
            &base,
            "--port",
            &port,
            "--small-reqs",
            "5",
            "--interval",
            "0.1",
        ];
        Program::start("sim_backend_register_batch", arguments)
    };
    let usage = || row(&control, addr)?["vram_usage"].as_f64();

    let mut program = run_mode("nobatch");
    until("unbatched, much memory is held", LONG, || {
        usage().filter(|usage| *usage > 0.6)
    });
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit(LONG).code(), Some(0));
    let mut program = run_mode("batch");
    until("in a batch, little memory is held", LONG, || {
        usage().filter(|usage| *usage < 0.35)
    });
    assert_eq!(rows(&control).len(), 1, "the same row shows");
    program.signal(Signal::INT);
    program.wait_exit(LONG);
}

#[test]
fn demo_backend_answers_with_its_name_and_keeps_its_registration() {
    let folder = Folder::new();
    let control = Control::start(&folder, free_address(), &json!({ "runtime_ttl_sec": 2 }));
    let addr = free_address();
    let listen = addr.to_string();
    let base = format!("http://{}", control.addr);
    let arguments = [
        "--listen",
        &listen,
        "--name",
        "red",
        "--register",
        &base,
        "--interval",
        "0.2",
        "--weight",
        "25",
    ];
    let mut program = Program::start("demo_backend", arguments);
    let enabled = |on: bool| {
        row(&control, addr).filter(|row| row["enabled"] == json!(on) && row["weight"] == json!(25))
    };
    until("it is registered", LONG, || enabled(true));

    let stream = connect(addr).expect("it listens");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("its name");
    assert!(line.contains("red"), "{line}");
    (&stream).write_all(b"hello\n").expect("sent");
    line.clear();
    lines.read_line(&mut line).expect("its answer");
    assert_eq!(line.trim_end(), "red: hello");

    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
    socket.set_read_timeout(Some(LONG)).expect("above zero");
    socket.send_to(b"hello", addr).expect("loopback takes it");
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).expect("its answer");
    assert_eq!((&buffer[..length], from), (&b"red: hello"[..], addr));

    // Its beats keep it, for longer than the TTL.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(3000) {
        assert!(enabled(true).is_some(), "after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit(LONG).code(), Some(0));
    until("it has left", LONG, || {
        let gone = row(&control, addr).is_none_or(|row| row["enabled"] == json!(false));
        gone.then_some(())
    });
}

#[test]
fn dummy_proxy_tells_each_hang_up_and_holds_the_pid_file() {
    let folder = Folder::new();
    let listen = free_address();
    let backend = free_address();
    folder.write_proxy_config(&proxy_config(listen, &[(backend, 17)]));
    let root = ["--root", folder.root_argument()];
    let mut dummy = Program::start("dummy_proxy", root);
    let pid_file = folder.root.proxy_pid();
    until("it is ready", LONG, || {
        (announced(&pid_file) == Some(dummy.pid())).then_some(())
    });
    dummy.wait_for_line("weight=17");
    folder.write_proxy_config(&proxy_config(listen, &[(backend, 18)]));
    dummy.signal(Signal::HUP);
    dummy.wait_for_line("SIGHUP 1");
    dummy.wait_for_line("weight=18");
    folder.write_proxy_config_bytes(b"{");
    dummy.signal(Signal::HUP);
    dummy.wait_for_line("SIGHUP 2: refused");

    // It and the proxy know each other by the lock.
    folder.write_proxy_config(&proxy_config(listen, &[(backend, 19)]));
    let second = run("proxy_server", root);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    dummy.signal(Signal::TERM);
    assert_eq!(dummy.wait_exit(LONG).code(), Some(0));
    let _proxy = Proxy::start_on(&folder, &[]);
    let second = run("dummy_proxy", root);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
}
