//! A bad file changes nothing: it is refused with the place of its fault, logged, counted and shown,
//! and the next good one is taken.

use std::fs;

use e2e::sessions::{assert_alive, open_sessions, weights};
use e2e::spread::Transport;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::pattern::Pattern;
use testkit::ports::free_address;
use testkit::proxy::numbered;
use testkit::{Backend, Folder, LONG, Manner, Proxy, proxy_config, until};

/// The bytes of a configuration, with the generation that runs already, so that the next one is new.
fn as_bytes(config: &Value) -> Vec<u8> {
    numbered(config, 1).to_string().into_bytes()
}

/// Files that must be refused, with a word that the refusal must hold.
fn bad_files(good: &Value) -> Vec<(&'static str, Vec<u8>, String)> {
    let text = good.to_string();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        as_bytes(&value)
    };
    let pool = || good["backends"][0].clone();
    let list = vec![
        ("empty", Vec::new(), "an empty document"),
        ("{}", b"{}".to_vec(), "/listen"),
        ("an array", b"[]".to_vec(), "a JSON object"),
        ("cut", text.as_bytes()[..text.len() / 2].to_vec(), "line 1"),
        ("binary", Pattern::bytes(3, 4096), "line 1"),
        ("10 MB", vec![b' '; 10 << 20], "bytes"),
        ("nested", vec![b'['; 200_000], "line 1"),
        (
            "algorithm",
            changed(&|value| value["algorithm"] = json!("fastest")),
            "/algorithm",
        ),
        (
            "duplicate",
            changed(&|value| value["backends"] = json!([pool(), pool()])),
            "/backends/1",
        ),
        (
            "port 0",
            changed(&|value| value["backends"][0]["port"] = json!(0)),
            "/backends/0/port",
        ),
        (
            "host name",
            changed(&|value| value["backends"][0]["ip"] = json!("localhost")),
            "/backends/0/ip",
        ),
        (
            "weight",
            changed(&|value| value["backends"][0]["weight"] = json!(1001)),
            "/backends/0/weight",
        ),
        (
            "listen port",
            changed(&|value| value["listen"]["port"] = json!(70_000)),
            "/listen/port",
        ),
        (
            "our own listener",
            changed(&|value| value["backends"][0]["port"] = good["listen"]["port"].clone()),
            "/backends/0",
        ),
    ];
    list.into_iter()
        .map(|(what, bytes, word)| (what, bytes, word.to_owned()))
        .collect()
}

#[test]
fn a_bad_file_changes_nothing_and_the_next_good_one_is_taken() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let good = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &good, &[]);
    let mut open = open_sessions(listen, 5);
    let mut files = bad_files(&good);
    // Somebody else's port, on which the proxy could listen only by sharing it.
    let mut taken = proxy_config(b.addr, &weights(&[&a], 10));
    taken["listen"]["udp"] = json!(false);
    let bytes = as_bytes(&taken);
    files.push(("port in use", bytes, b.addr.to_string()));

    for (what, bytes, word) in files {
        let reload = proxy.reload_refused(&bytes);
        let reason = reload.reason.expect("a refusal says why");
        assert!(!reload.ok && reason.contains(&word), "{what}: {reason}");
        let line = proxy.program.wait_for_line("reload config refused");
        assert!(line.contains(&word), "{what}: {line}");
        assert_eq!(Transport::Tcp.ask(listen), "a", "{what}");
        assert_alive(&mut open);
        let status = proxy.status();
        assert_eq!(status.running.listeners[0].addr, listen, "{what}");
        assert_eq!(status.backends.len(), 1, "{what}");
    }
    proxy.reload(&proxy_config(listen, &weights(&[&b], 10)));
    assert_eq!(Transport::Tcp.ask(listen), "b");
    let last = proxy.status().running.last_reload;
    assert!(last.is_some_and(|reload| reload.ok));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let config = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let bytes = as_bytes(&config);
    const STEP: usize = 7;
    for length in (0..bytes.len()).step_by(STEP) {
        proxy.reload_refused(&bytes[..length]);
    }
    assert_eq!(Transport::Tcp.ask(listen), "a");
}

#[test]
fn a_missing_file_is_refused_and_unknown_keys_are_a_warning() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let mut config = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    fs::remove_file(folder.root.proxy_config()).expect("it was there");
    proxy.program.signal(Signal::HUP);
    until("the refusal is counted", LONG, || {
        (proxy.status().reloads_refused == 1).then_some(())
    });
    assert_eq!(Transport::Tcp.ask(listen), "a");
    config["from_the_future"] = json!(1);
    proxy.reload(&config);
    proxy.program.wait_for_line("/from_the_future");
}
