//! `make run`: what its script starts, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::ports::free_address;
use testkit::process::command;
use testkit::{Folder, LONG, Program};

/// The script, which stops what it has started when it is told to end, and not when it is killed.
struct Run(Program);

impl Drop for Run {
    fn drop(&mut self) {
        if !self.0.is_running() {
            return;
        }
        self.0.signal(Signal::TERM);
        let deadline = Instant::now() + LONG;
        while self.0.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The script over a folder of its own, once it has introduced itself.
fn run(folder: &Folder) -> Run {
    let [control, proxy] = [(); 2].map(|()| free_address().port().to_string());
    let proxy_server = command("proxy_server").get_program().to_owned();
    let programs = Path::new(&proxy_server).parent();
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/run.sh"));
    script
        .env("BIN", programs.expect("it stands in a folder"))
        .env("ROOT", folder.root_argument())
        .env("CONTROL_PORT", control)
        .env("PROXY_PORT", proxy)
        .env("BACKEND_PORT", five_in_a_row().to_string());
    let mut run = Run(Program::spawn(script));
    run.0.wait_for_line("Ctrl-C stops everything");
    run
}

/// The first of five free ports that nobody else in this process gets.
fn five_in_a_row() -> u16 {
    loop {
        let ports = [(); 5].map(|()| free_address().port());
        if ports[4] == ports[0] + 4 {
            return ports[0];
        }
    }
}

fn stop(mut run: Run) {
    run.0.signal(Signal::TERM);
    assert_eq!(run.0.wait_exit(LONG).code(), Some(0));
}

fn path(folder: &Folder, file: &str) -> PathBuf {
    Path::new(folder.root_argument()).join(file)
}

fn backends(folder: &Folder, file: &str) -> Value {
    let file = read(&path(folder, file)).expect("it is there");
    file["backends"].clone()
}

#[test]
fn nothing_of_a_run_stays_in_the_sources() {
    let folder = Folder::new();
    let program = run(&folder);
    assert_eq!(
        backends(&folder, "config/proxy_config.json")
            .as_array()
            .map(Vec::len),
        Some(5)
    );
    stop(program);
    assert!(!path(&folder, "data/k8s_endpoints.json").exists());
    for file in ["config/proxy_config.json", "data/backends_runtime.json"] {
        assert_eq!(backends(&folder, file), json!([]), "{file}");
    }
}

#[test]
fn a_list_that_was_there_before_comes_back() {
    let folder = Folder::new();
    let list = path(&folder, "data/k8s_endpoints.json");
    let before = json!({ "backends": [{ "ip": "192.0.2.1", "port": 9 }] }).to_string();
    std::fs::create_dir_all(list.parent().expect("in a folder")).expect("created");
    std::fs::write(&list, &before).expect("written");
    stop(run(&folder));
    assert_eq!(std::fs::read_to_string(&list).expect("there"), before);
    assert!(!path(&folder, "data/k8s_endpoints.json.before_run").exists());
}
