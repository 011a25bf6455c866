//! Many services through control: listeners and pools by settings call and by file, backends by registration,
//! discovery and static list, each in its pool, from the edit to the sessions.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use e2e::spread::{Spread, spread};
use e2e::traffic::Traffic;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::folder::read;
use testkit::http::Request;
use testkit::ports::{LOOPBACK, free_address};
use testkit::process::run;
use testkit::{Api, Backend, Control, Folder, LONG, Manner, Proxy, Session, until};

/// Both planes over one folder; `default` has the backend `d`.
struct Bench {
    folder: Folder,
    control: Control,
    proxy: Proxy,
    listen: SocketAddr,
    default: Backend,
}

impl Bench {
    fn start(settings: Value) -> Bench {
        let folder = Folder::new();
        let default = echo("d");
        folder.write_k8s(&[(default.addr, 10)]);
        let listen = free_address();
        let mut settings = settings;
        settings["auto_sync_interval_sec"] = 1.into();
        settings["proxy"]["health"] = json!({ "probe": "off" });
        let control = Control::start(&folder, listen, &settings);
        until("the first file is published", LONG, || {
            folder.proxy_config()
        });
        let proxy = Proxy::start_on(&folder, &["-w", "2"]);
        Bench {
            folder,
            control,
            proxy,
            listen,
            default,
        }
    }

    fn api(&self) -> Api {
        self.control.api
    }

    fn set(&self, proxy: Value) -> Value {
        let (status, answer) = self.api().post("/api/settings", &json!({ "proxy": proxy }));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
        answer
    }

    fn register(&self, backend: &Backend, more: Value) -> Value {
        let mut call = json!({ "ip": backend.addr.ip(), "port": backend.addr.port() });
        for (key, value) in more.as_object().expect("an object") {
            call[key] = value.clone();
        }
        let (status, answer) = self.api().post("/api/register", &call);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn published(&self) -> Value {
        self.folder.proxy_config().expect("published")
    }

    /// Waits for what is told of the pool chat; the whole verdict then.
    fn await_verdict(&self, code: &str) -> Value {
        until(code, LONG, || {
            let (_, verdict) = self.api().get("/api/v1/verdict");
            (verdict["pools"]["chat"]["code"] == code).then_some(verdict)
        })
    }

    fn warnings(&self) -> String {
        self.api().get("/api/v1/status").1["warnings"].to_string()
    }

    /// Each new session at `addr` reaches one of `expected` by its weight.
    #[track_caller]
    fn await_spread<const N: usize>(&self, addr: SocketAddr, expected: [(&str, u64); N]) {
        let count: u64 = expected.iter().map(|(_, count)| count).sum();
        let expected = spread(expected);
        until(&format!("{expected:?} at {addr}"), LONG, || {
            let mut found = Spread::new();
            for _ in 0..count {
                let backend = Session::open(addr).ok()?.backend;
                *found.entry(backend).or_default() += 1;
            }
            (found == expected).then_some(())
        });
    }
}

fn echo(name: &str) -> Backend {
    Backend::start(name, Manner::Echo)
}

fn listener(addr: SocketAddr, pool: &str) -> Value {
    json!({ "host": addr.ip(), "port": addr.port(), "pool": pool })
}

/// A pool in which sessions follow the weights, unprobed.
fn pool() -> Value {
    json!({ "algorithm": "weighted_round_robin", "health": { "probe": "off" } })
}

#[test]
fn a_second_service_comes_is_served_by_its_own_backends_and_goes() {
    let bench = Bench::start(json!({}));
    let base = bench.published();
    let (one, two) = (echo("one"), echo("two"));
    let chat = free_address();
    bench.set(json!({
        "listeners": { "chat": listener(chat, "chat") }, "pools": { "chat": pool() },
    }));
    assert!(Session::open(chat).is_err(), "nobody is there yet");
    let answer = bench.register(&one, json!({ "pool": "chat", "weight": 1 }));
    assert_eq!(answer["backend"]["pool"], "chat");
    assert_eq!(answer.get("warnings"), None);
    // Discovery names one, and the static list nobody.
    let mut discovered = testkit::folder::k8s_endpoints(&[(bench.default.addr, 10)]);
    let entry = json!({
        "ip": two.addr.ip(), "port": two.addr.port(), "weight": 1, "pool": "chat",
    });
    discovered["backends"]
        .as_array_mut()
        .expect("a list")
        .push(entry);
    fs::write(bench.folder.root.k8s_endpoints(), discovered.to_string()).expect("written");
    bench.await_spread(chat, [("one", 2), ("two", 2)]);
    bench.await_spread(bench.listen, [("d", 4)]);
    // An edit in one pool moves its sessions alone.
    let id = format!("chat/{}", one.addr);
    let change = json!({ "changes": [{ "id": id, "weight": 3 }] });
    let request = Request::new("POST", "/api/v1/changes").header("if-match", "*");
    let request = request.header("content-type", "application/json");
    let (status, answer) = bench.api().call(request.body(change.to_string()));
    assert_eq!(status, 200, "{answer}");
    bench.await_spread(chat, [("one", 6), ("two", 2)]);
    bench.await_spread(bench.listen, [("d", 4)]);
    let (_, list) = bench.api().get("/api/v1/backends?pool=chat");
    assert_eq!(list["total"], 2, "{list}");
    assert_eq!(list["backends"][0]["pool"], "chat", "{list}");
    let (_, status) = bench.api().get("/api/v1/status");
    assert_eq!(status["listeners"][1]["name"], "chat", "{status}");
    assert_eq!(status["pools"][0]["backends"], 2, "{status}");
    // A session outlives its service, which ends as it came: the file is in the base format again.
    let mut session = Session::open(chat).expect("served");
    let call = json!({ "ip": one.addr.ip(), "port": one.addr.port(), "pool": "chat" });
    let (status, answer) = bench.api().delete("/api/register", Some(&call));
    assert_eq!(status, 200, "{answer}");
    bench.folder.write_k8s(&[(bench.default.addr, 10)]);
    bench.set(json!({ "listeners": { "chat": null }, "pools": { "chat": null } }));
    until("the base format", LONG, || {
        let mut now = bench.published();
        for key in ["generation", "updated_at"] {
            now[key] = base[key].clone();
        }
        (now == base).then_some(())
    });
    session.echo(b"still here").expect("it goes on");
    // The removal was one edit, and can be undone.
    let (_, edits) = bench.api().get("/api/v1/edits");
    let removal = &edits["edits"].as_array().expect("a list")[0];
    let path = format!("/api/v1/edits/{}/roll_back", removal["number"]);
    let request = Request::new("POST", &path).header("if-match", "*");
    let request = request.header("content-type", "application/json");
    let (status, answer) = bench.api().call(request.body("{}"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bench.published()["listeners"][0]["port"], chat.port());
    bench.set(json!({ "listeners": { "chat": null }, "pools": { "chat": null } }));
    assert_eq!(bench.published().get("listeners"), None);
    bench.await_spread(bench.listen, [("d", 4)]);
    assert_eq!(
        bench
            .proxy
            .status()
            .totals
            .sessions_ended
            .get("internal_error"),
        None
    );
}

#[test]
fn one_address_in_two_pools_is_two_backends() {
    let bench = Bench::start(json!({}));
    let (both, other) = (echo("both"), echo("other"));
    let [left, right] = [free_address(), free_address()];
    bench.set(json!({
        "listeners": [
            { "name": "left", "host": left.ip(), "port": left.port(), "pool": "left" },
            { "name": "right", "host": right.ip(), "port": right.port(), "pool": "right" },
        ],
        "pools": { "left": pool(), "right": pool() },
    }));
    for (pool, weight) in [("left", 1), ("right", 3)] {
        bench.register(&both, json!({ "pool": pool, "weight": weight }));
        bench.register(&other, json!({ "pool": pool, "weight": 1 }));
    }
    bench.await_spread(left, [("both", 2), ("other", 2)]);
    bench.await_spread(right, [("both", 6), ("other", 2)]);
    let path = |pool: &str| format!("/api/v1/pools/{pool}/backends/{}", both.addr);
    let request = Request::new("PATCH", &path("left")).header("if-match", "*");
    let request = request.header("content-type", "application/json");
    let (status, answer) = bench
        .api()
        .call(request.body(json!({"drain": true}).to_string()));
    assert_eq!(status, 200, "{answer}");
    bench.await_spread(left, [("other", 4)]);
    bench.await_spread(right, [("both", 6), ("other", 2)]);
    let state = |pool| bench.api().get(&path(pool)).1["backend"]["state"].clone();
    assert_eq!([state("left"), state("right")], ["drain", "ready"]);
    assert_eq!(bench.api().get(&path("default")).0, 404);
}

#[test]
fn a_listener_whose_port_is_taken_is_an_incident_and_all_else_is_applied() {
    let bench = Bench::start(json!({}));
    let one = echo("one");
    let holder = TcpListener::bind((LOOPBACK, 0)).expect("a free port");
    let taken = holder.local_addr().expect("bound");
    let chat = free_address();
    let proxy = json!({
        "listeners": { "chat": listener(chat, "chat"), "code": listener(taken, "chat") },
        "pools": { "chat": pool() },
    });
    // By default, the whole call is rolled back.
    let (status, answer) = bench
        .api()
        .post("/api/settings", &json!({ "proxy": proxy }));
    assert_eq!(status, 409, "{answer}");
    assert_eq!(
        answer["refusals"][0]["place"], "/listeners/code",
        "{answer}"
    );
    assert_eq!(bench.published().get("listeners"), None);
    let call = json!({ "proxy": proxy, "on_refusal": "keep_trying" });
    let (status, answer) = bench.api().post("/api/settings", &call);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["refusals"][0]["code"], "address_in_use", "{answer}");
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_spread(chat, [("one", 2)]);
    bench.await_spread(bench.listen, [("d", 2)]);
    assert!(
        bench.warnings().contains("/listeners/code"),
        "{}",
        bench.warnings()
    );
    drop(holder);
    bench.await_spread(taken, [("one", 2)]);
    until("the incident is over", LONG, || {
        (!bench.warnings().contains("/listeners/code")).then_some(())
    });
}

#[test]
fn a_restart_of_control_keeps_every_service() {
    let chat = free_address();
    let mut bench = Bench::start(json!({
        "proxy": { "listeners": [{ "name": "chat", "host": chat.ip(), "port": chat.port(), "pool": "chat" }],
                   "pools": { "chat": pool() } },
    }));
    let (one, two) = (echo("one"), echo("two"));
    let code = free_address();
    bench.set(json!({
        "listeners": { "code": listener(code, "code"), "chat": { "max_sessions": 77 } },
        "pools": { "code": pool(), "chat": { "slow_start_ms": 0 } },
    }));
    bench.register(&one, json!({ "pool": "chat" }));
    let path = format!("/api/v1/pools/code/static/{}", two.addr);
    let (status, answer) = bench.api().put(&path, &json!({ "weight": 5 }));
    assert_eq!(status, 200, "{answer}");
    bench.await_spread(chat, [("one", 2)]);
    bench.await_spread(code, [("two", 2)]);
    let before = bench.published();
    let at = bench.control.addr;
    drop(bench.control);
    bench.control = Control::start_on(&bench.folder, at);
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_spread(chat, [("one", 2)]);
    bench.await_spread(code, [("two", 2)]);
    let mut after = bench.published();
    after["updated_at"] = before["updated_at"].clone();
    assert_eq!(
        after["generation"], before["generation"],
        "nothing has changed"
    );
    assert_eq!(after["listeners"], before["listeners"]);
    assert_eq!(after["listeners"][0]["max_sessions"], 77);
    // What the file defines is not a call's to take off.
    let call = json!({ "proxy": { "listeners": { "chat": null } } });
    assert_eq!(
        bench.api().post("/api/settings", &call).0,
        200,
        "the call's own key"
    );
    let (status, answer) = bench.api().post("/api/settings", &call);
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer.to_string().contains("control_config.json"),
        "{answer}"
    );
    bench.await_spread(chat, [("one", 2)]);
}

#[test]
fn a_pool_in_use_is_not_taken_away_and_backends_outlive_one_that_is() {
    let bench = Bench::start(json!({}));
    let one = echo("one");
    let chat = free_address();
    let both = json!({
        "listeners": { "chat": listener(chat, "chat") }, "pools": { "chat": pool() },
    });
    let answer = bench.register(&one, json!({ "pool": "chat" }));
    let warning = answer["warnings"].to_string();
    assert!(warning.contains("no pool chat is defined"), "{answer}");
    assert!(bench.warnings().contains("no pool chat is defined"));
    bench.set(both.clone());
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_spread(chat, [("one", 2)]);
    let without = json!({ "proxy": { "pools": { "chat": null } } });
    let (status, answer) = bench.api().post("/api/settings", &without);
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer
            .to_string()
            .contains("/proxy/pools/chat: found removed, while listener chat"),
        "{answer}"
    );
    bench.set(json!({ "listeners": { "chat": null }, "pools": { "chat": null } }));
    let answer = bench.register(&one, json!({ "pool": "chat" }));
    assert!(
        answer["warnings"].to_string().contains("no pool chat"),
        "{answer}"
    );
    assert_eq!(bench.published().get("pools"), None);
    // Everything tells the same of it.
    let verdict = bench.await_verdict("no_pool");
    assert_eq!(verdict["code"], "serving", "{verdict}");
    let counts = &verdict["args"]["backends"];
    assert_eq!(
        [&counts["no_pool"], &counts["left_out"]],
        [1, 0],
        "{verdict}"
    );
    let path = format!("/api/v1/pools/chat/backends/{}", one.addr);
    let (_, detail) = bench.api().get(&path);
    assert_eq!(detail["backend"]["state"], "no_pool", "{detail}");
    let (_, metrics) = bench.api().call(Request::new("GET", "/metrics"));
    for (name, value) in [("in_use", 0), ("left_out", 0), ("no_pool", 1)] {
        let line = format!("wicketgate_control_backends_{name}{{pool=\"chat\"}} {value}");
        assert!(
            metrics.as_str().unwrap_or_default().contains(&line),
            "{line}"
        );
    }
    // A pool that no listener leads to takes nothing.
    bench.set(json!({ "pools": { "chat": pool() } }));
    let verdict = bench.await_verdict("no_listener");
    assert_eq!(verdict["code"], "serving", "{verdict}");
    assert_eq!(verdict["args"]["backends"]["no_listener"], 1, "{verdict}");
    bench.set(both);
    bench.await_spread(chat, [("one", 2)]);
    until("nothing is told of the pool", LONG, || {
        let (_, verdict) = bench.api().get("/api/v1/verdict");
        (verdict["pools"]["chat"]["code"] == "serving").then_some(())
    });
}

#[test]
fn a_backend_that_no_listener_leads_to_is_in_no_use_and_says_why() {
    let bench = Bench::start(json!({}));
    let one = echo("one");
    bench.set(json!({ "pools": { "chat": pool() } }));
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_verdict("no_listener");
    let path = format!("/api/v1/pools/chat/backends/{}", one.addr);
    until(
        "the state, the proxy and the last change say so",
        LONG,
        || {
            let (_, detail) = bench.api().get(&path);
            let (backend, last) = (&detail["backend"], &detail["history"][0]);
            let states = [&backend["state"], &last["operational"]];
            let reasons = [&backend["proxy"]["reasons"], &last["reasons"]];
            let is_said = states.iter().all(|state| *state == "no_listener");
            let is_explained = reasons.iter().all(|all| all[0]["code"] == "no_listener");
            (is_said && is_explained).then_some(())
        },
    );
    let (_, metrics) = bench.api().call(Request::new("GET", "/metrics"));
    let metrics = metrics.as_str().unwrap_or_default();
    for (name, value) in [
        ("", 1),
        ("_in_use", 0),
        ("_no_pool", 0),
        ("_no_listener", 1),
    ] {
        let line = format!("wicketgate_control_backends{name}{{pool=\"chat\"}} {value}\n");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[test]
fn sessions_that_fail_in_one_pool_are_told_of_it_beside_a_busy_one() {
    let bench = Bench::start(json!({ "proxy": { "ejection": { "failures": 0 } } }));
    let chat = free_address();
    bench.set(json!({
        "listeners": { "chat": listener(chat, "chat") }, "pools": { "chat": pool() },
    }));
    let nobody = free_address();
    let call = json!({ "ip": nobody.ip(), "port": nobody.port(), "pool": "chat" });
    assert_eq!(bench.api().post("/api/register", &call).0, 200);
    let verdict = until("chat fails", LONG, || {
        for _ in 0..100 {
            Session::open(bench.listen).expect("served");
        }
        // Less than one in a hundred of all sessions.
        assert!(Session::open(chat).is_err(), "nobody serves there");
        let (_, verdict) = bench.api().get("/api/v1/verdict");
        (verdict["code"] == "sessions_failing").then_some(verdict)
    });
    assert_eq!(verdict["pool"], "chat", "{verdict}");
    assert_eq!(verdict["pools"]["default"]["code"], "serving", "{verdict}");
    assert!(verdict["args"]["of"].as_u64() < Some(100), "{verdict}");
}

#[test]
fn a_listener_that_does_not_fit_keeps_what_was_accepted_at_a_start() {
    let [chat, code] = [free_address(), free_address()];
    let mut bench = Bench::start(json!({ "proxy": { "pools": { "chat": pool() } } }));
    let (one, two) = (echo("one"), echo("two"));
    bench.set(json!({
        "listeners": { "chat": listener(chat, "chat"), "code": listener(code, "code") },
        "pools": { "code": pool() },
    }));
    bench.register(&one, json!({ "pool": "code" }));
    bench.register(&two, json!({ "pool": "chat" }));
    bench.await_spread(code, [("one", 2)]);
    bench.await_spread(chat, [("two", 2)]);
    let at = bench.control.addr;
    drop(bench.control);
    let file = bench.folder.root.control_config();
    let mut settings = read(&file).expect("a file");
    settings["proxy"]["pools"] = json!({});
    bench.folder.write_control_config(&settings);
    bench.control = Control::start_on(&bench.folder, at);
    until("the listener is named", LONG, || {
        let warnings = bench.warnings();
        warnings
            .contains("listener chat: its settings are not applied")
            .then_some(())
    });
    let verdict = until("the verdict names it", LONG, || {
        let (_, verdict) = bench.api().get("/api/v1/verdict");
        (verdict["code"] == "listener_not_applied").then_some(verdict)
    });
    let args = &verdict["args"];
    assert_eq!(
        [&args["listener"], &args["place"]],
        ["chat", "/listeners/chat/pool"]
    );
    assert_eq!(args["kept"], true, "{verdict}");
    assert_eq!(
        verdict["pools"]["chat"]["code"], "serving",
        "kept, and served: {verdict}"
    );
    bench.register(&one, json!({ "pool": "code" }));
    bench.register(&two, json!({ "pool": "chat" }));
    let (status, answer) = bench.api().set_weight(bench.default.addr, 7);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    bench.await_spread(code, [("one", 2)]);
    bench.await_spread(chat, [("two", 2)]);
    bench.await_spread(bench.listen, [("d", 2)]);
    // What was never accepted has nothing to keep: it is left out alone.
    settings["proxy"]["listeners"] = json!({ "talk": listener(free_address(), "nowhere") });
    let at = bench.control.addr;
    drop(bench.control);
    bench.folder.write_control_config(&settings);
    bench.control = Control::start_on(&bench.folder, at);
    until("the new listener is named", LONG, || {
        bench
            .warnings()
            .contains("listener talk: its")
            .then_some(())
    });
    bench.await_spread(chat, [("two", 2)]);
    let published = bench.published();
    let listeners = published["listeners"].as_array().expect("a list");
    let names: Vec<&Value> = listeners.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["chat", "code"]);
    bench.set(json!({ "pools": { "chat": pool(), "nowhere": pool() } }));
    until("all are published", LONG, || {
        (bench.published()["listeners"].as_array()?.len() == 3).then_some(())
    });
    bench.await_spread(chat, [("two", 2)]);
}

#[test]
fn after_a_damage_of_the_stored_settings_the_file_keeps_what_it_says() {
    let [chat, moved] = [free_address(), free_address()];
    let mut settings = json!({
        "proxy": { "pools": { "chat": pool() }, "connect_attempts": 3,
                   "listeners": { "chat": listener(chat, "chat") } },
    });
    let mut bench = Bench::start(settings.clone());
    settings = read(&bench.folder.root.control_config()).unwrap_or(settings);
    let one = echo("one");
    bench.set(json!({ "pools": { "chat": { "slow_start_ms": 0 } } }));
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_spread(chat, [("one", 2)]);
    let at = bench.control.addr;
    drop(bench.control);
    // By hand, the listener got a second name.
    let damage = json!({ "proxy": { "listeners": { "chat": { "name": "zz", "max_flows": 7 } } } });
    fs::write(bench.folder.root.settings_runtime(), damage.to_string()).expect("written");
    bench.control = Control::start_on(&bench.folder, at);
    let named = until("the damage is named", LONG, || {
        let warnings = bench.warnings();
        warnings
            .contains("settings_runtime.json")
            .then_some(warnings)
    });
    assert!(named.contains("/proxy/listeners/chat/name"), "{named}");
    let (_, answer) = bench.api().get("/api/settings");
    let by_api = &answer["settings"]["by_api"];
    let expected = json!({ "proxy": { "pools": { "chat": { "slow_start_ms": 0 } } } });
    assert_eq!(*by_api, expected, "{answer}");
    bench.register(&one, json!({ "pool": "chat" }));
    bench.await_spread(chat, [("one", 2)]);
    // A later edit of the file has its effect.
    settings["proxy"]["listeners"]["chat"]["port"] = moved.port().into();
    settings["proxy"]["listeners"]["chat"]["host"] = moved.ip().to_string().into();
    bench.folder.write_control_config(&settings);
    bench.control.program.signal(Signal::HUP);
    bench.await_spread(moved, [("one", 2)]);
}

#[test]
fn the_first_file_may_hold_several_services() {
    let folder = Folder::new();
    let one = echo("one");
    let chat = free_address();
    let mut only = listener(chat, "chat");
    only["name"] = "chat".into();
    let mut of_chat = pool();
    of_chat["backends"] = json!([{ "ip": one.addr.ip(), "port": one.addr.port(), "weight": 3 }]);
    let written = json!({ "listeners": [only], "pools": { "chat": of_chat } });
    folder.write_proxy_config(&written);
    let proxy = Proxy::start_on(&folder, &["-w", "1"]);
    assert_eq!(Session::open(chat).expect("served").backend, "one");
    let at = free_address();
    folder.write_control_config(&json!({ "host": at.ip(), "port": at.port() }));
    let control = Control::start_on(&folder, at);
    until("control has published", LONG, || {
        folder.proxy_config()?.get("generation").cloned()
    });
    let published = folder.proxy_config().expect("published");
    assert_eq!(
        published.get("listen"),
        None,
        "no address that nobody asked for"
    );
    assert_eq!(published["listeners"][0]["port"], chat.port());
    assert_eq!(published["pools"]["chat"]["backends"][0]["weight"], 3);
    assert_eq!(Session::open(chat).expect("served").backend, "one");
    let (_, settings) = control.api.get("/api/settings");
    let by_api = &settings["settings"]["by_api"]["proxy"];
    assert_eq!(by_api["pools"]["chat"]["algorithm"], "weighted_round_robin");
    let check = run(
        "proxy_server",
        ["--check", "--root", folder.root_argument()],
    );
    assert!(check.status.success(), "{check:?}");
    drop(proxy);
}

#[test]
fn a_split_moves_sessions_from_blue_to_green_without_a_failed_one() {
    let bench = Bench::start(json!({ "proxy": {} }));
    let [blue, green, web] =
        ["blue", "green", "web"].map(|name| Backend::start(name, Manner::Duplex));
    let addr = free_address();
    let leads = |target: Value| {
        let mut listener = json!({ "host": addr.ip(), "port": addr.port(), "protocol": "tcp" });
        let target = target.as_object().expect("an object").clone();
        listener.as_object_mut().expect("an object").extend(target);
        json!({ "listeners": { "chat": listener } })
    };
    let mut all = leads(json!({ "split": { "blue": 1, "green": 0 } }));
    all["pools"] = json!({ "blue": pool(), "green": pool(), "web": pool() });
    bench.set(all);
    for (backend, pool) in [(&blue, "blue"), (&green, "green"), (&web, "web")] {
        bench.register(backend, json!({ "pool": pool }));
    }
    bench.await_spread(addr, [("blue", 10)]);
    let traffic = Traffic::start(addr, 4);
    for step in 1..=10 {
        bench.set(leads(
            json!({ "split": { "blue": 10 - step, "green": step } }),
        ));
        traffic.await_sessions(10);
    }
    bench.await_spread(addr, [("green", 10)]);
    traffic.stop_without_failure();

    // A route takes the place of the split. A pool that it leads to stays.
    let routes = json!([
        { "sni": ["a.example"], "pool": "web" },
        { "source": ["127.0.0.0/8"], "split": { "blue": 1, "green": 1 } },
    ]);
    bench.set(leads(json!({ "routes": routes })));
    let (status, answer) = bench.api().post(
        "/api/settings",
        &json!({ "proxy": { "pools": { "web": null } } }),
    );
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|text| text.contains("chat")),
        "{answer}"
    );
    let published = bench.published();
    let listeners = published["listeners"].as_array().expect("listeners");
    let chat = listeners
        .iter()
        .find(|one| one["name"] == "chat")
        .expect("it is published");
    assert_eq!((&chat["routes"], &chat["split"]), (&routes, &Value::Null));
}
