//! A bad file changes nothing: it is refused with the place of its fault, logged, counted and shown,
//! and the next good one is taken.

use std::fs;

use contract::RefusalCode;
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
    for (what, bytes, word) in bad_files(&good) {
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
        let refusals = status.running.refusals;
        assert!(!refusals.is_empty() && refusals.len() <= 16, "{what}");
        for refusal in &refusals {
            assert_eq!(refusal.code, RefusalCode::Invalid, "{what}: {refusal:?}");
        }
    }
    proxy.reload(&proxy_config(listen, &weights(&[&b], 10)));
    assert_eq!(Transport::Tcp.ask(listen), "b");
    let running = proxy.status().running;
    assert!(running.last_reload.is_some_and(|reload| reload.ok));
    assert!(running.refusals.is_empty(), "{:?}", running.refusals);
}

#[test]
fn a_fault_that_stays_keeps_the_time_of_its_beginning_and_is_logged_once() {
    let folder = Folder::new();
    let good = proxy_config(free_address(), &[]);
    let mut proxy = Proxy::start(&folder, &good, &[]);
    let mut bad = good.clone();
    bad["algorithm"] = json!("fastest");
    proxy.reload_refused(&as_bytes(&bad));
    let first = proxy.await_refusals(&[(RefusalCode::Invalid, "/algorithm", "\"fastest\"")]);
    bad["backends"] = json!([{ "ip": "a", "port": 1 }]);
    proxy.reload_refused(&as_bytes(&bad));
    let both = proxy.await_refusals(&[
        (RefusalCode::Invalid, "/algorithm", "\"fastest\""),
        (RefusalCode::Invalid, "/backends/0/ip", "\"a\""),
    ]);
    assert_eq!(both[0].since, first[0].since);
    let metrics = proxy.admin.metrics();
    let metric = "wicketgate_proxy_refusals{code=\"invalid\",place=\"/algorithm\"} 1";
    assert!(metrics.contains(metric), "{metrics}");
    fs::remove_file(folder.root.proxy_config()).expect("it was there");
    proxy.program.signal(Signal::HUP);
    let path = folder.root.proxy_config();
    let path = path.to_str().expect("a plain name");
    proxy.await_refusals(&[(RefusalCode::Unreadable, "", path)]);
    proxy.reload(&good);
    proxy.await_refusals(&[]);
    for refused in ["code=invalid place=/algorithm", "code=unreadable"] {
        let begun = format!("refused {refused}");
        proxy.program.assert_one_line(&begun);
        let over = format!("refusal over {refused}");
        proxy.program.assert_one_line(&over);
    }
    assert!(!proxy.admin.metrics().contains("refusals{"));
}

/// As a container that registers the proxy's host would bring about.
#[test]
fn an_own_listener_among_the_backends_is_skipped_and_the_rest_is_in_force() {
    let [a, b] = ["a", "b"].map(|name| Backend::start(name, Manner::Echo));
    let folder = Folder::new();
    let listen = free_address();
    let mut proxy = Proxy::start(&folder, &proxy_config(listen, &weights(&[&a], 10)), &[]);
    let mut open = open_sessions(listen, 3);
    let own = [(a.addr, 0), (listen, 10), (b.addr, 10)];
    let config = proxy_config(listen, &own);
    proxy.reload(&config);
    let refused = [(
        RefusalCode::OwnListener,
        "/backends/1",
        &*listen.to_string(),
    )];
    let first = proxy.await_refusals(&refused);
    for transport in [Transport::Tcp, Transport::Udp] {
        for _ in 0..4 {
            assert_eq!(transport.ask(listen), "b");
        }
    }
    assert_alive(&mut open);
    let line = proxy.program.wait_for_line("refused code=own_listener");
    assert!(line.contains("WARN"), "{line}");

    // Neither in the way of a restart, nor fine for a person who asks.
    proxy.reload(&config);
    assert_eq!(proxy.await_refusals(&refused)[0].since, first[0].since);
    proxy.program.assert_one_line("refused code=own_listener");
    drop(proxy);
    let mut proxy = Proxy::start(&folder, &config, &[]);
    proxy.await_refusals(&refused);
    assert_eq!(Transport::Tcp.ask(listen), "b");
    let root = folder.root_argument();
    let checked = testkit::process::run("proxy_server", ["--root", root, "--check"]);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("/backends/1"), "{said}");

    proxy.reload(&proxy_config(listen, &weights(&[&a], 10)));
    proxy.await_refusals(&[]);
    proxy
        .program
        .wait_for_line("refusal over code=own_listener");
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
