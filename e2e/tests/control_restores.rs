//! Files that are links stay links, and files that somebody puts back count: control running or
//! stopped, with older or newer times of modification.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::loop_bench::{LoopBench, published};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::ports::free_address;
use testkit::{Backend, Control, Folder, LONG, Manner, Proxy, until};

/// Registrations and looks at the files as this test needs them.
fn settings() -> Value {
    json!({ "auto_sync_interval_sec": 1, "runtime_ttl_sec": 600 })
}

#[derive(Clone, Copy, Debug)]
enum Age {
    Older,
    Newer,
}

/// Files as they stood once.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    fn of(bench: &LoopBench) -> Backup {
        let root = &bench.folder.root;
        let files = [
            root.proxy_config(),
            root.backends_runtime(),
            root.settings_runtime(),
            root.k8s_endpoints(),
        ];
        let files = files.map(|path| {
            let bytes = fs::read(&path).expect("it stands");
            (path, bytes)
        });
        Backup(files.into())
    }

    /// As tar does it: the old file goes, and the new one gets the time of the archive.
    fn restore(&self, is_meant: impl Fn(&Path) -> bool, age: Age) {
        const DAY: Duration = Duration::from_secs(86_400);
        for (path, bytes) in self.0.iter().filter(|(path, _)| is_meant(path)) {
            let _ = fs::remove_file(path);
            fs::write(path, bytes).expect("a temporary folder");
            let at = match age {
                Age::Older => SystemTime::now() - DAY,
                Age::Newer => SystemTime::now() + DAY,
            };
            let file = File::options()
                .write(true)
                .open(path)
                .expect("just written");
            file.set_modified(at).expect("our own file");
        }
    }
}

/// Discovery knows a with weight 10; b is registered with weight 10 and set to 7; round robin.
fn state_to_keep() -> LoopBench {
    let bench = LoopBench::start(settings());
    bench.register_b();
    assert_eq!(bench.control.api.set_weight(bench.b.addr, 7).0, 200);
    set_algorithm(&bench, "round_robin");
    bench.await_weight(&bench.b, 7);
    bench
}

fn set_algorithm(bench: &LoopBench, name: &str) {
    let body = json!({ "algorithm": name });
    let (status, answer) = bench.control.api.post("/api/settings", &body);
    assert_eq!(status, 200, "{answer}");
}

fn await_algorithm(bench: &LoopBench, name: &str) {
    until(&format!("the proxy runs {name}"), LONG, || {
        (bench.proxy.status().algorithm == name).then_some(())
    });
}

/// Everything changes: a gets an override that it did not have.
fn change_everything(bench: &LoopBench) {
    // Versions of the registry's file are told apart by the second.
    let kept = read(&bench.folder.root.backends_runtime()).expect("it stands");
    let kept_at = kept["updated_at"].as_u64().expect("a time");
    until("the second is over", LONG, || {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        (now.as_secs() > kept_at).then_some(())
    });
    assert_eq!(bench.control.api.set_weight(bench.b.addr, 99).0, 200);
    assert_eq!(bench.control.api.set_weight(bench.a.addr, 55).0, 200);
    set_algorithm(bench, "source_hash");
    bench.await_weight(&bench.a, 55);
    bench.await_weight(&bench.b, 99);
    await_algorithm(bench, "source_hash");
}

#[test]
fn a_file_that_is_put_back_under_a_running_control_counts() {
    for age in [Age::Older, Age::Newer] {
        let mut bench = state_to_keep();
        let backup = Backup::of(&bench);
        change_everything(&bench);
        let before = bench.proxy.status().running.generation;
        let mut restore = |name: &str, line: &str| {
            backup.restore(|path| path.ends_with(name), age);
            bench.control.program.wait_for_line(line);
        };
        restore(
            "settings_runtime.json",
            "settings_runtime.json was changed by others",
        );
        restore(
            "backends_runtime.json",
            "backends_runtime.json was changed by others",
        );
        await_algorithm(&bench, "round_robin");
        bench.await_weight(&bench.a, 10);
        bench.await_weight(&bench.b, 7);
        // Of the published file control is the writer, so that it says what runs.
        let is_published = |path: &Path| path.ends_with("proxy_config.json");
        backup.restore(is_published, age);
        bench
            .control
            .program
            .wait_for_line("proxy_config.json was changed");
        let file = until("it is written again", LONG, || {
            let file = bench.folder.proxy_config()?;
            (file["generation"].as_u64()? > before).then_some(file)
        });
        assert_eq!(file["algorithm"], json!("round_robin"), "{age:?}");
        bench.folder.write_k8s(&[(bench.a.addr, 21)]);
        bench.await_weight(&bench.a, 21);
        backup.restore(|path| path.ends_with("k8s_endpoints.json"), age);
        bench
            .control
            .program
            .wait_for_line("k8s_endpoints.json backends=");
        bench.await_weight(&bench.a, 10);
    }
}

#[test]
fn files_that_are_put_back_while_control_is_stopped_are_published() {
    for age in [Age::Older, Age::Newer] {
        let mut bench = state_to_keep();
        let backup = Backup::of(&bench);
        change_everything(&bench);
        let before = bench.proxy.status().running.generation;
        bench.kill_control();
        backup.restore(|_| true, age);
        bench.restart_control();
        let line = bench
            .control
            .program
            .wait_for_line("was replaced by others");
        assert!(line.contains("proxy_config.json"), "{line}");
        await_algorithm(&bench, "round_robin");
        bench.await_weight(&bench.a, 10);
        bench.await_weight(&bench.b, 7);
        let status = bench.proxy.status();
        assert!(status.running.generation > before, "{age:?}");
        let (_, proxy) = bench.control.api.get("/api/proxy");
        assert_eq!(proxy["applied"], json!(true), "{proxy}");
    }
}

#[test]
fn what_the_proxy_read_from_our_file_while_control_was_stopped_is_replaced() {
    for is_silent in [false, true] {
        let mut bench = state_to_keep();
        let path = bench.folder.root.proxy_config();
        let ours = fs::read(&path).expect("it stands");
        bench.kill_control();
        let mut others = read(&path).expect("JSON");
        others["generation"] = json!(50);
        others["algorithm"] = json!("random");
        fs::write(&path, others.to_string()).expect("a temporary folder");
        bench.proxy.program.signal(Signal::HUP);
        await_algorithm(&bench, "random");
        // So that the file says what is wanted, and nothing is to be published for its sake.
        fs::write(&path, ours).expect("a temporary folder");
        if is_silent {
            bench.proxy.program.signal(Signal::STOP);
        }
        bench.restart_control();
        if is_silent {
            bench.proxy.program.signal(Signal::CONT);
        }
        let line = bench
            .control
            .program
            .wait_for_line("was replaced by others");
        assert!(line.contains("generation 50"), "{line}");
        await_algorithm(&bench, "round_robin");
        until("control says so", LONG, || {
            let (_, proxy) = bench.control.api.get("/api/proxy");
            (proxy["applied"] == json!(true)).then_some(())
        });
        // Once is enough.
        assert_eq!(bench.proxy.status().running.generation, 51);
    }
}

#[test]
fn files_that_are_links_stay_links_and_their_targets_are_written() {
    let folder = Folder::new();
    let volume = folder.beside("volume");
    fs::create_dir(&volume).expect("a temporary folder");
    let root = &folder.root;
    let links = [
        root.proxy_config(),
        root.backends_runtime(),
        root.settings_runtime(),
    ];
    for link in &links {
        let name = link.file_name().expect("a file");
        fs::create_dir_all(link.parent().expect("a folder")).expect("a temporary folder");
        // Relative, and dangling at first.
        symlink(Path::new("../../volume").join(name), link).expect("a temporary folder");
    }
    let a = Backend::start("a", Manner::Echo);
    let listen = free_address();
    let mut control = Control::start(&folder, listen, &settings());
    let config = volume.join("proxy_config.json");
    let config = config.to_str().expect("a plain name");
    let proxy = Proxy::start_on(&folder, &["--config", config]);
    let body = json!({ "ip": a.addr.ip(), "port": a.addr.port() });
    let (status, answer) = control.api.post("/api/register", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], json!(true), "{answer}");
    let (status, answer) = control
        .api
        .post("/api/settings", &json!({ "algorithm": "random" }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(proxy.status().algorithm, "random");
    assert!(published(&folder, a.addr).is_some());
    for link in &links {
        let found = fs::symlink_metadata(link).expect("it stands");
        assert!(found.is_symlink(), "{} was replaced", link.display());
    }
    assert_eq!(
        fs::read_dir(&volume).expect("a folder").count(),
        3,
        "litter"
    );
    // An edit of the target is noticed as one of the file is.
    let target = volume.join("settings_runtime.json");
    let mut edited = read(&target).expect("it stands");
    edited["algorithm"] = json!("source_hash");
    fs::write(&target, edited.to_string()).expect("a temporary folder");
    control
        .program
        .wait_for_line("settings_runtime.json was changed by others");
    until("the edit is published", LONG, || {
        (proxy.status().algorithm == "source_hash").then_some(())
    });
}
