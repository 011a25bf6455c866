//! The six demonstrations of `docs/demonstrations.md`, with every program that takes part in them.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Shutdown, SocketAddr};

use serde_json::{Value, json};
use testkit::client::connect;
use testkit::ports::free_address;
use testkit::process::run;
use testkit::{Control, Folder, LONG, Program, Proxy, until};

/// Control and proxy, with two demo backends that discovery has handed out.
struct Stage {
    control: Control,
    proxy: Proxy,
    folder: Folder,
    listen: SocketAddr,
    red: DemoBackend,
    green: DemoBackend,
}

struct DemoBackend {
    program: Program,
    addr: SocketAddr,
}

impl DemoBackend {
    fn start(name: &str, more: &[&str]) -> DemoBackend {
        let addr = free_address();
        let listen = addr.to_string();
        let arguments = ["--listen", &listen, "--name", name];
        let program = Program::start("demo_backend", arguments.iter().chain(more));
        until("a demo backend listens", LONG, || connect(addr).ok());
        DemoBackend { program, addr }
    }
}

impl Stage {
    fn set() -> Stage {
        let folder = Folder::new();
        let listen = free_address();
        let [red, green] = ["red", "green"].map(|name| DemoBackend::start(name, &[]));
        discover(&folder, &[&red, &green]);
        let control = Control::start(&folder, listen, &json!({}));
        until("both are published", LONG, || {
            let config = folder.proxy_config()?;
            (config["backends"].as_array()?.len() == 2).then_some(())
        });
        let proxy = Proxy::start_on(&folder, &[]);
        Stage {
            control,
            proxy,
            folder,
            listen,
            red,
            green,
        }
    }

    /// Awaits that of some new sessions each of `names` gets one, and no one else.
    #[track_caller]
    fn await_served_by(&self, names: &[&str]) {
        const SESSIONS: usize = 20;
        until(&format!("new sessions reach {names:?}"), LONG, || {
            let ask = |_| ask(self.listen).expect("a session is served");
            let reached: Vec<String> = (0..SESSIONS).map(ask).collect();
            let all = names.iter().all(|name| reached.iter().any(|is| is == name));
            let only = reached.iter().all(|is| names.contains(&is.as_str()));
            (all && only).then_some(())
        });
    }

    fn row(&self, addr: SocketAddr) -> Option<Value> {
        let (_, table) = self.control.api.get("/api/backends");
        let mut rows = table["backends"].as_array().expect("a list").iter();
        rows.find(|row| row["port"] == json!(addr.port())).cloned()
    }
}

/// Plays discovery, once.
fn discover(folder: &Folder, backends: &[&DemoBackend]) {
    let addresses: Vec<String> = backends
        .iter()
        .map(|backend| backend.addr.to_string())
        .collect();
    let arguments = ["--root", folder.root_argument(), "--backends"];
    let named = addresses.join(",");
    let output = run(
        "gen_k8s_endpoints",
        arguments.into_iter().chain([named.as_str()]),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The name that a session is greeted with.
fn ask(addr: SocketAddr) -> io::Result<String> {
    let stream = connect(addr)?;
    stream.shutdown(Shutdown::Write)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let name = line.split_whitespace().next();
    name.map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no name: {line:?}")))
}

#[test]
fn first_backends_follow_discovery() {
    let stage = Stage::set();
    stage.await_served_by(&["red", "green"]);
    discover(&stage.folder, &[&stage.green]);
    stage.await_served_by(&["green"]);
    discover(&stage.folder, &[&stage.red, &stage.green]);
    stage.await_served_by(&["red", "green"]);
}

#[test]
fn second_a_server_registers_itself_and_leaves() {
    let stage = Stage::set();
    let base = format!("http://{}", stage.control.addr);
    let mut blue = DemoBackend::start("blue", &["--register", &base, "--interval", "0.5"]);
    stage.await_served_by(&["red", "green", "blue"]);
    let row = stage.row(blue.addr).expect("registered");
    assert_eq!(row["source"], json!("runtime"));
    blue.program.signal(rustix::process::Signal::TERM);
    assert_eq!(blue.program.wait_exit(LONG).code(), Some(0));
    stage.await_served_by(&["red", "green"]);
}

#[test]
fn third_a_weight_edit_takes_effect_without_a_restart() {
    let mut stage = Stage::set();
    let pid = stage.proxy.status().running.pid;
    let (status, answer) = stage.control.api.set_weight(stage.red.addr, 0);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    for _ in 0..20 {
        assert_eq!(ask(stage.listen).expect("a session is served"), "green");
    }
    stage.control.api.set_weight(stage.red.addr, 10);
    stage.await_served_by(&["red", "green"]);
    assert!(stage.proxy.program.is_running());
    assert_eq!(stage.proxy.status().running.pid, pid);
}

#[test]
fn fourth_and_fifth_a_ping_answers_and_the_audit_log_tells_of_it() {
    let stage = Stage::set();
    let ip = stage.green.addr.ip();
    let (status, answer) = stage.control.api.post("/api/ping", &json!({ "ip": ip }));
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    until("the audit log tells of the ping", LONG, || {
        let (_, answer) = stage.control.api.get("/api/logs/audit?tail=100");
        answer["data"].as_str()?.contains("ping").then_some(())
    });
}

#[test]
fn sixth_batching_holds_less_memory_than_not_batching() {
    let stage = Stage::set();
    let base = format!("http://{}", stage.control.addr);
    let simulate = |mode: &str| {
        let addr = free_address();
        let port = addr.port().to_string();
        let arguments = [
            "--mode",
            mode,
            "--base",
            &base,
            "--port",
            &port,
            "--interval",
            "0.1",
        ];
        (
            Program::start("sim_backend_register_batch", arguments),
            addr,
        )
    };
    let usage = |addr| stage.row(addr)?["vram_usage"].as_f64();
    let (mut one_by_one, unbatched) = simulate("nobatch");
    let (mut in_batches, batched) = simulate("batch");
    until("both hold memory, one of them much", LONG, || {
        (usage(unbatched)? > 0.6 && usage(batched)? > 0.2).then_some(())
    });
    for _ in 0..20 {
        let (much, little) = (usage(unbatched), usage(batched));
        assert!(
            little < Some(0.35) && much > Some(0.6),
            "{much:?}, {little:?}"
        );
    }
    for (program, cost) in [
        (&mut one_by_one, "8.0% of VRAM each"),
        (&mut in_batches, "1.6% of VRAM each"),
    ] {
        program.signal(rustix::process::Signal::TERM);
        assert!(program.wait_for_line("requests took").contains(cost));
    }
}
