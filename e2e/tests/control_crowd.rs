//! A fleet that registers at once: each call is stored before it is answered, whatever happens to control next,
//! and all of it is published.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::ports::free_address;
use testkit::{Control, Folder, LONG, until};

/// More than a registry that is written whole has.
const FLEET: usize = 1_200;
const CLIENTS: usize = 64;

fn backend(at: usize) -> SocketAddr {
    format!("10.1.{}.{}:8000", at / 250, 1 + at % 250)
        .parse()
        .expect("an address")
}

/// Registers `fleet`, by all clients at once; the answers.
fn register(control: &Control, fleet: std::ops::Range<usize>) -> Vec<Value> {
    let (next, answers) = (AtomicUsize::new(fleet.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= fleet.end {
                        return;
                    }
                    let addr = backend(at);
                    let body =
                        json!({ "ip": addr.ip(), "port": addr.port(), "weight": 1 + at % 9 });
                    let (status, answer) = control.api.post("/api/register", &body);
                    assert_eq!(status, 200, "{answer}");
                    answers.lock().expect("no holder panics").push(answer);
                }
            });
        }
    });
    answers.into_inner().expect("no holder panics")
}

fn listed(control: &Control) -> usize {
    let (_, list) = control.api.get("/api/backends");
    list["backends"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_fleet_that_registers_at_once_is_stored_and_published_and_survives_a_kill() {
    let folder = Folder::new();
    let settings = json!({ "runtime_ttl_sec": 600, "proxy": { "health": { "probe": "off" } } });
    let mut control = Control::start(&folder, free_address(), &settings);
    let answers = register(&control, 0..FLEET);
    let batched = |answer: &&Value| answer["sync"]["reload"]["reason"] == "batched";
    assert!(
        answers.iter().any(|answer| batched(&answer)),
        "nobody had to wait"
    );
    assert!(answers.iter().all(|answer| answer["sync"]["ok"] == true));
    // Larger than what is written whole: these are in the journal when the last one is answered.
    register(&control, FLEET..FLEET + 200);
    control.program.signal(Signal::KILL);
    control.program.wait_exit(LONG);
    let mut control = Control::start_on(&folder, control.addr);
    assert_eq!(listed(&control), FLEET + 200, "each was answered");
    let published = || {
        let config = folder.proxy_config()?;
        let count = config["backends"].as_array()?.len();
        (count == FLEET + 200).then_some(())
    };
    until("all are published", LONG, published);
    let journal = folder.root.backends_runtime().with_extension("journal");
    let stored = || {
        let count = read(&folder.root.backends_runtime())?["backends"]
            .as_array()?
            .len();
        let is_folded = std::fs::metadata(&journal).ok()?.len() == 0;
        (count == FLEET + 200 && is_folded).then_some(())
    };
    until("the file has all of them", LONG, stored);
    // A person's edit waits until it runs, however many register.
    let edited = backend(7);
    let (status, answer) = control.api.set_weight(edited, 5);
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["sync"]["reload"]["reason"], "batched", "{answer}");
    control.program.signal(Signal::KILL);
    control.program.wait_exit(LONG);
    let control = Control::start_on(&folder, control.addr);
    let path = format!("/api/v1/backends/{edited}");
    let (_, row) = control.api.get(&path);
    assert_eq!(row["backend"]["override"]["weight"], 5, "{row}");
}

#[test]
fn a_journal_that_is_put_back_brings_nobody_back() {
    let folder = Folder::new();
    let settings = json!({
        "runtime_ttl_sec": 600, "auto_sync_interval_sec": 1, "proxy": { "health": { "probe": "off" } },
    });
    let mut control = Control::start(&folder, free_address(), &settings);
    let path = folder.root.backends_runtime().with_extension("journal");
    register(&control, 0..FLEET);
    // As a backup would find it while the last ones register.
    let old = until("the journal holds something", LONG, || {
        register(&control, FLEET..FLEET + 20);
        for at in FLEET..FLEET + 20 {
            let addr = backend(at);
            let body = json!({ "ip": addr.ip(), "port": addr.port() });
            let (status, answer) = control.api.delete("/api/register", Some(&body));
            assert_eq!(status, 200, "{answer}");
        }
        std::fs::read(&path).ok().filter(|bytes| !bytes.is_empty())
    });
    let is_empty = || std::fs::metadata(&path).is_ok_and(|found| found.len() == 0);
    until("the journal is folded", LONG, || is_empty().then_some(()));
    assert_eq!(listed(&control), FLEET);
    let put = |bytes: &[u8]| {
        let other = path.with_extension("other");
        std::fs::write(&other, bytes).expect("written");
        std::fs::rename(&other, &path).expect("renamed");
    };

    for bytes in [&*old, b"no journal"] {
        put(bytes);
        until("what others have put there is removed", LONG, || {
            is_empty().then_some(())
        });
    }
    put(&old);
    control.program.signal(Signal::KILL);
    control.program.wait_exit(LONG);
    let control = Control::start_on(&folder, control.addr);
    assert_eq!(
        listed(&control),
        FLEET,
        "those that were deregistered stay away"
    );
}
