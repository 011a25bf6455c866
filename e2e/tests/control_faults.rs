//! What is broken around control stays outside: broken files, folders that cannot be written, a pid
//! file that names somebody else, a proxy that is dead or stopped.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use e2e::loop_bench::{LoopBench, published};
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::json;
use testkit::folder::{k8s_endpoints, read};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::wait::within;
use testkit::{Control, Folder, LONG, Program, Proxy, until};

fn in_place(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a temporary folder");
}

#[test]
fn a_broken_source_keeps_its_last_good_backends() {
    let mut bench = LoopBench::start(json!({}));
    bench.register_b();
    until("b is published", LONG, || {
        published(&bench.folder, bench.b.addr)
    });
    let k8s = bench.folder.root.k8s_endpoints();
    let runtime = bench.folder.root.backends_runtime();
    let broken: [&[u8]; 5] = [b"", b"{", b"{}", b"[]", b"\xff\x00\x01"];
    for bytes in broken {
        for path in [&k8s, &runtime] {
            in_place(path, bytes);
            let (status, answer) = bench.control.api.post_nothing("/api/sync");
            assert!(status < 500, "{answer}");
            for backend in [&bench.a, &bench.b] {
                let entry = published(&bench.folder, backend.addr);
                assert!(
                    entry.is_some(),
                    "{:?}: {path:?}",
                    String::from_utf8_lossy(bytes)
                );
            }
        }
    }
    // One entry that cannot be read does not take the others away.
    let mut mixed = k8s_endpoints(&[(bench.b.addr, 10), (bench.a.addr, 44)]);
    mixed["backends"][0]["ip"] = json!("gpu-1");
    in_place(&k8s, mixed.to_string().as_bytes());
    bench.await_weight(&bench.a, 44);
    // Nor does a restart, with nothing good to read, lose what was published.
    bench.kill_control();
    in_place(&k8s, b"{");
    bench.restart_control();
    bench.control.api.post_nothing("/api/sync");
    bench.await_reached("a");
    bench.folder.write_k8s(&[(bench.a.addr, 33)]);
    bench.await_weight(&bench.a, 33);
}

#[test]
fn a_place_that_cannot_be_written_is_told_and_recovers_without_a_restart() {
    let bench = LoopBench::start(json!({}));
    let set = |weight| bench.control.api.set_weight(bench.a.addr, weight);
    assert_eq!(set(20).0, 200);
    // A file in the place of the folder stops root, too.
    let root = &bench.folder.root.0;
    let (folder, away) = (root.join("data"), root.join("data.away"));
    fs::rename(&folder, &away).expect("a temporary folder");
    fs::write(&folder, b"in the way").expect("a temporary folder");
    let (status, answer) = set(30);
    assert!(status == 503 || status == 507, "{status} {answer}");
    assert_eq!(answer["ok"], json!(false), "{answer}");
    assert!(
        answer.to_string().contains("backends_runtime.json"),
        "{answer}"
    );
    assert_eq!(
        bench.proxy.backend(bench.a.addr).weight,
        20,
        "not half done"
    );
    assert_eq!(Transport::Tcp.ask(bench.listen), "a");
    fs::remove_file(&folder).expect("it is ours");
    fs::rename(&away, &folder).expect("a temporary folder");
    let (status, answer) = set(40);
    assert_eq!(status, 200, "{answer}");
    bench.await_weight(&bench.a, 40);

    let (folder, away) = (root.join("config"), root.join("config.away"));
    fs::rename(&folder, &away).expect("a temporary folder");
    fs::write(&folder, b"in the way").expect("a temporary folder");
    let (_, answer) = set(50);
    assert_eq!(answer["sync"]["ok"], json!(false), "{answer}");
    assert!(answer.to_string().contains("proxy_config.json"), "{answer}");
    assert_eq!(Transport::Tcp.ask(bench.listen), "a");
    fs::remove_file(&folder).expect("it is ours");
    fs::rename(&away, &folder).expect("a temporary folder");
    let (_, answer) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(answer["ok"], json!(true), "{answer}");
    bench.await_weight(&bench.a, 50);
}

#[test]
fn nobody_but_the_proxy_is_signalled() {
    let folder = Folder::new();
    let control = Control::start(&folder, free_address(), &json!({}));
    let pid_file = folder.root.proxy_pid();
    fs::create_dir_all(pid_file.parent().expect("a folder")).expect("a temporary folder");
    // A hang-up would end it, also where these tests run under nohup.
    let mut command = std::process::Command::new("env");
    command.args(["--default-signal=HUP", "sleep", "600"]);
    let mut bystander = Program::spawn(command);
    let contents = [
        String::new(),
        "garbage".to_owned(),
        "1".to_owned(),
        "-1".to_owned(),
        "0".to_owned(),
        format!("-{}", bystander.pid()),
        "4194305".to_owned(),
        bystander.pid().to_string(),
        format!("{}\n{}", bystander.pid(), bystander.pid()),
        control.program.pid().to_string(),
        "9".repeat(100),
    ];
    let check = |what: &str| {
        let (status, sync) = control.api.post_nothing("/api/sync");
        assert_eq!(status, 200, "{what}: {sync}");
        assert_eq!(sync["reload"]["ok"], json!(false), "{what}: {sync}");
        assert_ne!(sync["reload"]["applied"], json!(true), "{what}: {sync}");
        let info = sync["reload"]["info"].as_str().expect("text");
        assert!(
            !info.is_empty() && !info.contains("sent SIGHUP"),
            "{what}: {info}"
        );
    };
    for content in &contents {
        fs::write(&pid_file, content).expect("a temporary folder");
        check(content);
    }
    // A link to somewhere else.
    fs::remove_file(&pid_file).expect("it is ours");
    let elsewhere = folder.beside("elsewhere.pid");
    fs::write(&elsewhere, bystander.pid().to_string()).expect("a temporary folder");
    std::os::unix::fs::symlink(&elsewhere, &pid_file).expect("a temporary folder");
    check("a link");
    assert!(bystander.is_running(), "the bystander was signalled");
}

#[test]
fn a_dead_proxy_is_told_and_its_successor_is_found() {
    let mut bench = LoopBench::start(json!({}));
    bench.proxy.program.signal(Signal::KILL);
    bench.proxy.program.wait_exit(LONG);
    let (status, answer) = bench.control.api.set_weight(bench.a.addr, 5);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["ok"], json!(true), "{answer}");
    assert_eq!(answer["sync"]["reload"]["ok"], json!(false), "{answer}");
    assert_ne!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    bench.proxy = Proxy::start_on(&bench.folder, &[]);
    assert_eq!(bench.proxy.backend(bench.a.addr).weight, 5);
    let (_, answer) = bench.control.api.set_weight(bench.a.addr, 6);
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
}

#[test]
fn a_stopped_proxy_is_not_said_to_have_applied() {
    let mut bench = LoopBench::start(json!({}));
    bench.proxy.program.signal(Signal::STOP);
    let begun = Instant::now();
    let (status, answer) = bench.control.api.set_weight(bench.a.addr, 5);
    let took = begun.elapsed();
    bench.proxy.program.signal(Signal::CONT);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["ok"], json!(true), "{answer}");
    assert_eq!(
        answer["sync"]["reload"]["applied"],
        json!(false),
        "{answer}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    bench.await_weight(&bench.a, 5);
}

#[test]
fn what_was_answered_survives_a_kill_at_any_moment() {
    const ROUNDS: u64 = 8;
    let mut bench = LoopBench::start(json!({}));
    let mut next = 1;
    for round in 0..ROUNDS {
        let answered = AtomicU64::new(0);
        let (api, addr) = (bench.control.api, bench.a.addr);
        let last = std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let path = format!("/api/backends/{}/{}/weight", addr.ip(), addr.port());
                let mut last = next - 1;
                for weight in next.. {
                    let body = json!({ "weight": weight }).to_string();
                    let request = Request::new("POST", &path).body(body);
                    match api.exchange(request) {
                        Ok(answer) if answer.status == 200 => last = weight,
                        Ok(answer) => panic!("{}", answer.text()),
                        Err(_) => break,
                    }
                    answered.fetch_add(1, Relaxed);
                }
                last
            });
            let enough = || (answered.load(Relaxed) > round).then_some(());
            let was_enough = within(LONG, enough);
            // Only this ends the caller, also where the test fails.
            bench.kill_control();
            was_enough.expect("some are answered");
            caller.join().expect("every answer is a success")
        });
        // Whole, or the reading of them panics.
        let root = &bench.folder.root;
        read(&root.proxy_config()).expect("it stands");
        read(&root.backends_runtime()).expect("it stands");
        bench.restart_control();
        let (_, table) = bench.control.api.get("/api/backends");
        let weight = table["backends"][0]["weight"].as_u64().expect("a number");
        assert!(
            weight == last || weight == last + 1,
            "{weight} after {last}"
        );
        next = weight + 1;
    }
    bench.control.api.post_nothing("/api/sync");
    bench.await_weight(&bench.a, (next - 1) as u16);
}

#[test]
fn a_proxy_that_is_killed_is_in_the_warnings_until_it_is_back() {
    let mut bench = LoopBench::start(json!({}));
    let warnings = |bench: &LoopBench| {
        let (_, answer) = bench.control.api.get("/api/backends");
        answer["warnings"].to_string()
    };
    let is_told = |bench: &LoopBench| warnings(bench).contains("the proxy no longer answers");
    // A refusal of before says that it is of before.
    let marked = "(reported before the proxy stopped answering)";
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let body = json!({ "listen": { "port": port }, "on_refusal": "keep_trying" });
    let (status, answer) = bench.control.api.post("/api/settings", &body);
    assert_eq!(
        (status, &answer["applied"]),
        (200, &json!(false)),
        "{answer}"
    );
    assert!(warnings(&bench).contains("address_in_use"));
    let (_, sync) = bench.control.api.post_nothing("/api/sync");
    assert_eq!(sync["reload"]["applied"], json!(true), "control hears it");
    assert!(!is_told(&bench));
    bench.proxy.program.signal(Signal::KILL);
    bench.proxy.program.wait_exit(LONG);
    until("it is told", LONG, || is_told(&bench).then_some(()));
    assert!(warnings(&bench).contains(marked), "{}", warnings(&bench));
    bench.proxy = Proxy::start_on(&bench.folder, &["-w", "1"]);
    until("it is over", LONG, || (!is_told(&bench)).then_some(()));
    assert!(!warnings(&bench).contains(marked), "{}", warnings(&bench));
}
