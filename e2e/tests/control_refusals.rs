//! What the proxy refuses costs nothing else, is told until it is over, and is rolled back or tried
//! again as the call has asked.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;
use std::thread;

use e2e::loop_bench::published;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::client::connect;
use testkit::folder::read;
use testkit::host::Host;
use testkit::http::Request;
use testkit::ports::{LOOPBACK, free_address, free_address_on};
use testkit::process::{User, can_become, command};
use testkit::{
    Api, Backend, Control, Folder, LONG, Manner, Program, Proxy, Session, skipped, until,
};

/// To whom a proxy of root gives its rights up.
const USER: User = User {
    uid: 64_111,
    gid: 64_110,
};

/// Both planes over one folder, with one backend that discovery has found.
struct Bench {
    folder: Folder,
    control: Control,
    proxy: Proxy,
    /// Where the proxy listens.
    listen: SocketAddr,
    backend: Backend,
}

fn start(proxy_arguments: impl FnOnce(&Folder) -> Vec<String>) -> Bench {
    start_every(1, proxy_arguments)
}

/// Control looks at files and proxy every `seconds`.
fn start_every(seconds: u64, proxy_arguments: impl FnOnce(&Folder) -> Vec<String>) -> Bench {
    let folder = Folder::new();
    let backend = Backend::start("a", Manner::Echo);
    folder.write_k8s(&[(backend.addr, 10)]);
    let listen = free_address();
    let control = Control::start(&folder, listen, &json!({"auto_sync_interval_sec": seconds}));
    until("the first file is published", LONG, || {
        published(&folder, backend.addr)
    });
    let arguments = proxy_arguments(&folder);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let proxy = Proxy::start_on(&folder, &arguments);
    Bench {
        folder,
        control,
        proxy,
        listen,
        backend,
    }
}

impl Bench {
    fn api(&self) -> Api {
        self.control.api
    }

    fn ask_to_listen(&self, addr: SocketAddr, on_refusal: Option<&str>) -> (u16, Value) {
        let mut body = json!({"listen": {"host": addr.ip(), "port": addr.port()}});
        if let Some(on_refusal) = on_refusal {
            body["on_refusal"] = on_refusal.into();
        }
        self.api().post("/api/settings", &body)
    }

    fn published_listen(&self) -> Value {
        self.folder.proxy_config().expect("published")["listen"].clone()
    }

    /// Everything else is applied: a weight, a registration, another setting.
    #[track_caller]
    fn assert_the_rest_is_applied(&self, is_warned: bool) {
        let api = self.api();
        let joining = free_address();
        // Each time another value, so that there is something to apply.
        let timeout_ms = 100_000 + u64::from(joining.port());
        let body = json!({"ip": joining.ip(), "port": joining.port(), "weight": 0});
        let answers = [
            api.set_weight(self.backend.addr, 7),
            api.post("/api/register", &body),
            api.post(
                "/api/settings",
                &json!({"proxy": {"idle_timeout_ms": timeout_ms}}),
            ),
            api.set_weight(self.backend.addr, 9),
        ];
        for (status, answer) in answers {
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["ok"], true, "{answer}");
            assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
            assert_eq!(answer["sync"]["reload"]["verified"], true, "{answer}");
            let warnings = answer["sync"]["warnings"].to_string();
            assert_eq!(warnings.contains("address_in_use"), is_warned, "{answer}");
        }
        assert_eq!(self.proxy.backend(self.backend.addr).weight, 9);
        assert!(self.ready()["ok"].as_bool().expect("it says"));
    }

    /// The body of `/readyz`.
    #[track_caller]
    fn ready(&self) -> Value {
        let (status, body) = self.api().get("/readyz");
        assert_eq!(status, 200, "{body}");
        body
    }

    #[track_caller]
    fn assert_serves(&self, addr: SocketAddr) {
        let served = until("served", LONG, || Some(Session::open(addr).ok()?.backend));
        assert_eq!(served, "a");
    }

    fn metrics(&self) -> String {
        let (_, text) = self.api().get("/metrics");
        text.as_str().expect("text").to_owned()
    }
}

fn kill(program: &mut Program) {
    program.signal(Signal::KILL);
    program.wait_exit(LONG);
}

fn of(addr: SocketAddr) -> Value {
    json!({"host": addr.ip(), "port": addr.port()})
}

#[test]
fn a_port_in_use_is_rolled_back_and_nothing_is_held_up() {
    let mut bench = start(|_| vec![]);
    let before = bench.published_listen();
    let taken = TcpListener::bind(free_address()).expect("free");
    let addr = taken.local_addr().expect("bound");
    for on_refusal in [None, Some("roll_back")] {
        let (status, answer) = bench.ask_to_listen(addr, on_refusal);
        assert_eq!(status, 409, "{answer}");
        assert_eq!(answer["ok"], false);
        assert_eq!(answer["rolled_back"], true);
        let error = answer["error"].as_str().expect("text");
        assert!(error.contains("address_in_use"), "{error}");
        assert!(error.contains(&format!("{addr}/tcp")), "{error}");
        assert_eq!(bench.published_listen(), before);
        bench.assert_the_rest_is_applied(false);
    }
    bench.assert_serves(bench.listen);
    assert_eq!(bench.ready()["refusals"], json!([]));
    let begun = bench.control.program.wait_for_line("proxy_refused ");
    assert!(
        begun.contains("code=address_in_use place=/listen"),
        "{begun}"
    );
    bench.control.program.wait_for_line("proxy_refusal_over ");
    // A restart finds what the published file says.
    kill(&mut bench.proxy.program);
    bench.proxy = Proxy::start_on(&bench.folder, &[]);
    bench.assert_serves(bench.listen);
}

#[test]
fn a_port_in_use_is_tried_again_until_it_is_free_and_meanwhile_all_else_goes_on() {
    let mut bench = start(|_| vec![]);
    let before = bench.published_listen();
    let taken = TcpListener::bind(free_address()).expect("free");
    let addr = taken.local_addr().expect("bound");
    let (status, answer) = bench.ask_to_listen(addr, Some("keep_trying"));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["ok"], &answer["applied"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(answer["sync"]["ok"], true, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], false, "{answer}");
    bench.assert_the_rest_is_applied(true);
    let refusal = bench.ready()["refusals"][0].clone();
    assert_eq!(refusal["code"], "address_in_use", "{refusal}");
    assert_eq!(refusal["kept"], before, "{refusal}");
    let line = "wicketgate_control_refusals{code=\"address_in_use\",place=\"/listen\"} 1";
    assert!(bench.metrics().contains(line), "{}", bench.metrics());
    // The last accepted one stays published, so that a proxy that comes back meanwhile serves.
    assert_eq!(bench.published_listen(), before);
    kill(&mut bench.proxy.program);
    bench.proxy = Proxy::start_on(&bench.folder, &[]);
    bench.assert_serves(bench.listen);
    // So does a control that comes back.
    kill(&mut bench.control.program);
    bench.control = Control::start_on(&bench.folder, bench.control.addr);
    until("told again", LONG, || {
        (bench.ready()["refusals"] != json!([])).then_some(())
    });
    assert_eq!(bench.published_listen(), before);
    bench.assert_serves(bench.listen);
    drop(taken);
    until("taken", LONG, || {
        (bench.published_listen() == of(addr)).then_some(())
    });
    bench.assert_serves(addr);
    until("the old listener is closed", LONG, || {
        connect(bench.listen).err()
    });
    until("over", LONG, || {
        (bench.ready()["refusals"] == json!([])).then_some(())
    });
    bench.control.program.wait_for_line("proxy_refusal_over ");
    bench.assert_the_rest_is_applied(false);
    for line in ["proxy_refused ", "proxy_refusal_over "] {
        bench.control.program.assert_one_line(line);
    }
}

#[test]
fn a_port_that_is_refused_after_silence_and_a_restart_costs_nobody_the_old_one() {
    for on_refusal in ["roll_back", "keep_trying"] {
        let mut bench = start(|_| vec![]);
        bench.assert_serves(bench.listen);
        let before = bench.published_listen();
        let taken = TcpListener::bind(free_address()).expect("free");
        let addr = taken.local_addr().expect("bound");
        kill(&mut bench.proxy.program);
        let (status, answer) = bench.ask_to_listen(addr, Some(on_refusal));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(bench.published_listen(), of(addr));
        kill(&mut bench.control.program);
        bench.control = Control::start_on(&bench.folder, bench.control.addr);
        bench.proxy = Proxy::start_on(&bench.folder, &[]);
        until("the accepted address is published", LONG, || {
            (bench.published_listen() == before).then_some(())
        });
        bench.assert_serves(bench.listen);
        // Silence has rolled nothing back.
        let stored = read(&bench.folder.root.settings_runtime()).expect("stored");
        assert_eq!(stored["listen"], of(addr), "{stored}");
        drop(taken);
        bench.assert_serves(addr);
    }
}

/// A proxy that gives its rights up, as process 1 of a container of its own.
struct Contained(Program);

impl Contained {
    fn start(folder: &Folder, more: &[&str]) -> Contained {
        let proxy = command("proxy_server");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).arg(proxy.get_program());
        command.args(["--root", folder.root_argument()]);
        let user = format!("{}:{}", USER.uid, USER.gid);
        command.args(["--user", &user]).args(more);
        Contained(Program::spawn(command))
    }
}

impl Drop for Contained {
    /// `--kill-child` of unshare(1) ends with the rights that the proxy gives up.
    fn drop(&mut self) {
        let unshare = self.0.pid();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let child = children.split_whitespace().next();
        if let Some(child) = child.and_then(|child| Pid::from_raw(child.parse().ok()?)) {
            // It may have ended by itself.
            let _ = kill_process(child, Signal::KILL);
            self.0.wait_exit(LONG);
        }
    }
}

#[test]
fn a_port_that_needs_a_restart_is_tried_with_the_next_process_though_it_has_the_same_id() {
    if !can_become(USER) {
        return;
    }
    let folder = Folder::new();
    let run = folder.root.0.join("run");
    fs::create_dir_all(&run).expect("a temporary folder");
    chown(&run, Some(USER.uid), Some(USER.gid)).expect("root may");
    let temporary = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.beside(""), temporary).expect("ours");
    let backend = Backend::start("a", Manner::Echo);
    folder.write_k8s(&[(backend.addr, 10)]);
    let listen = free_address();
    let control = Control::start(&folder, listen, &json!({"auto_sync_interval_sec": 1}));
    until("the first file is published", LONG, || {
        published(&folder, backend.addr)
    });
    let proxy = Contained::start(&folder, &[]);
    let api = control.api;
    let runs = || {
        let (_, seen) = api.get("/api/proxy");
        (seen["applied"] == true).then(|| seen["status"]["pid"].clone())
    };
    assert_eq!(until("it runs", LONG, runs), 1);
    let low = (700..1024).map(|port| SocketAddr::new(LOOPBACK, port));
    let is_free =
        |addr: &SocketAddr| TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok();
    let low = { low }.find(is_free).expect("one of 324 is free");
    let body = json!({"listen": of(low), "on_refusal": "keep_trying"});
    let (status, answer) = api.post("/api/settings", &body);
    assert_eq!(
        (status, &answer["applied"]),
        (200, &json!(false)),
        "{answer}"
    );
    let refusal = &answer["refusals"][0];
    assert_eq!(refusal["code"], "needs_restart", "{answer}");
    assert_eq!(refusal["try_again_s"], Value::Null, "{answer}");
    let published_listen = || folder.proxy_config().expect("published")["listen"].clone();
    assert_eq!(published_listen(), of(listen));

    drop(proxy);
    let _proxy = Contained::start(&folder, &["--keep-bind"]);
    until("taken", LONG, || {
        (published_listen() == of(low)).then_some(())
    });
    let served = until("served", LONG, || Some(Session::open(low).ok()?.backend));
    assert_eq!(served, "a");
    until("over", LONG, || {
        (api.get("/readyz").1["refusals"] == json!([])).then_some(())
    });
    assert_eq!(until("it runs", LONG, runs), 1);
}

#[test]
fn an_address_that_comes_to_this_host_is_taken_at_once() {
    let Some(host) = Host::new() else {
        return skipped("making network namespaces");
    };
    host.enter();
    let bench = start_every(3_600, |_| vec![]);
    let later = SocketAddr::from(([198, 51, 100, 7], bench.listen.port()));
    let (status, answer) = bench.ask_to_listen(later, Some("keep_trying"));
    assert_eq!(
        (status, &answer["applied"]),
        (200, &json!(false)),
        "{answer}"
    );
    let refusal = &answer["refusals"][0];
    assert_eq!(refusal["code"], "address_not_available", "{answer}");
    host.add_address(later.ip());
    until("taken", LONG, || {
        (bench.published_listen() == of(later)).then_some(())
    });
    bench.assert_serves(later);
    assert_eq!(bench.ready()["refusals"], json!([]));
}

#[test]
fn a_control_that_is_killed_before_the_outcome_brings_the_call_to_its_end() {
    for is_refused in [true, false] {
        let mut bench = start(|_| vec![]);
        let before = bench.published_listen();
        let taken = TcpListener::bind(free_address()).expect("free");
        let addr = taken.local_addr().expect("bound");
        let _taken = is_refused.then_some(taken);
        bench.proxy.program.signal(Signal::STOP);
        let api = bench.api();
        let body = json!({"listen": of(addr)}).to_string();
        let call = thread::spawn(move || {
            let request = Request::new("POST", "/api/settings").body(body);
            api.exchange(request.header("Content-Type", "application/json"))
        });
        let stored = bench.folder.root.settings_runtime();
        until("stored", LONG, || {
            (read(&stored)?["listen"] == of(addr)).then_some(())
        });
        kill(&mut bench.control.program);
        assert!(
            call.join().expect("no panic").is_err(),
            "nothing was answered"
        );
        let pending = read(&stored).expect("stored")["pending"].clone();
        assert!(pending.is_array(), "what stood before is lost: {pending}");
        bench.proxy.program.signal(Signal::CONT);
        bench.control = Control::start_on(&bench.folder, bench.control.addr);
        let (right, serves) = match is_refused {
            true => (before, bench.listen),
            false => (of(addr), addr),
        };
        until("brought to its end", LONG, || {
            let stored = read(&stored)?;
            let is_done = stored["pending"].is_null() && bench.published_listen() == right;
            is_done.then_some(())
        });
        let stored = read(&stored).expect("stored");
        assert_eq!(stored["listen"] == of(addr), !is_refused, "{stored}");
        bench.assert_serves(serves);
        bench.assert_the_rest_is_applied(false);
    }
}

#[test]
fn the_control_servers_own_address_is_refused_at_once() {
    let bench = start(|_| vec![]);
    let generation = bench.proxy.status().running.generation;
    for host in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
        let body = json!({"listen": {"host": host, "port": bench.control.addr.port()}});
        for on_refusal in ["roll_back", "keep_trying"] {
            let mut body = body.clone();
            body["on_refusal"] = on_refusal.into();
            let (status, answer) = bench.api().post("/api/settings", &body);
            assert_eq!(status, 400, "{answer}");
            assert_eq!(answer["faults"][0]["place"], "/listen", "{answer}");
        }
    }
    assert_eq!(bench.proxy.status().running.generation, generation);
    bench.assert_the_rest_is_applied(false);
}

#[test]
fn a_proxy_that_reads_another_file_is_told_with_both_paths() {
    let copy = |folder: &Folder| folder.beside("copy.json");
    let bench = start(|folder| {
        let copy = copy(folder);
        std::fs::copy(folder.root.proxy_config(), &copy).expect("copied");
        vec!["--config".to_owned(), copy.display().to_string()]
    });
    // The same content by another name is what was published.
    let (_, answer) = bench.api().set_weight(bench.backend.addr, 7);
    let reload = &answer["sync"]["reload"];
    assert_eq!(answer["sync"]["ok"], true, "{answer}");
    assert_eq!(reload["applied"], false, "{answer}");
    let path = copy(&bench.folder).display().to_string();
    // Whatever generation that file says.
    let mut document = read(&copy(&bench.folder)).expect("JSON");
    document["generation"] = 50.into();
    document["backends"] = json!([]);
    std::fs::write(&path, document.to_string()).expect("written");
    bench.api().post_nothing("/api/sync");
    let (_, answer) = bench.api().set_weight(bench.backend.addr, 8);
    assert_eq!(answer["sync"]["reload"]["applied"], false, "{answer}");
    let reason = answer["sync"]["reload"]["reason"].as_str().expect("text");
    assert!(reason.contains("reads another file"), "{reason}");
    assert!(reason.contains("copy.json"), "{reason}");
    assert!(reason.contains("proxy_config.json"), "{reason}");
    until("the page is told", LONG, || {
        let (_, seen) = bench.api().get("/api/proxy");
        let proxy = seen["other_file"]["proxy"].as_str()?.to_owned();
        (proxy.ends_with("copy.json") && seen["applied"] == false).then_some(())
    });
    bench.ready();
}

#[test]
fn what_others_broke_in_the_file_is_not_laid_to_what_control_publishes() {
    let mut bench = start_every(3_600, |_| vec![]);
    for _ in 0..10 {
        let mut broken = bench.folder.proxy_config().expect("published");
        let generation = broken["generation"].as_u64().expect("a number");
        // The number that control would give to what it publishes next.
        broken["generation"] = (generation + 1).into();
        broken["algorithm"] = "fastest".into();
        bench.proxy.reload_refused(broken.to_string().as_bytes());
        let (_, answer) = bench.api().post_nothing("/api/sync");
        assert_eq!(answer["reload"]["applied"], true, "{answer}");
        assert_eq!(answer["warnings"], json!([]), "{answer}");
        assert_eq!(bench.ready()["refusals"], json!([]));
    }
    // Those of the file itself name no place.
    assert_eq!(bench.control.program.count_lines("place=/"), 0);
}

#[test]
fn a_backend_that_is_the_listener_to_be_is_left_out_and_the_rest_applied() {
    let bench = start(|_| vec![]);
    // Both are known to discovery before the listener moves there.
    let next = free_address();
    bench
        .folder
        .write_k8s(&[(bench.backend.addr, 10), (next, 10)]);
    until("published", LONG, || published(&bench.folder, next));
    let (status, answer) = bench.ask_to_listen(next, None);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
    let warnings = answer["sync"]["warnings"].to_string();
    assert!(
        warnings.contains(&format!("{next} is left out")),
        "{warnings}"
    );
    bench.assert_serves(next);
}

/// As with control in a container of its own: it knows the proxy's addresses from the proxy alone.
#[test]
fn the_listener_of_a_proxy_in_another_network_is_left_out_and_holds_nothing_up() {
    let unspecified = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    for is_on_all in [false, true] {
        let Some(host) = Host::new() else {
            return skipped("making network namespaces");
        };
        let folder = Folder::new();
        let backend = Backend::start_at(free_address_on(host.here), "a", Manner::Echo);
        folder.write_k8s(&[(backend.addr, 10)]);
        let own = SocketAddr::new(host.addr, free_address().port());
        let listen_host = if is_on_all { unspecified } else { own.ip() };
        let listen = SocketAddr::new(listen_host, own.port());
        let control = Control::start(&folder, listen, &json!({"auto_sync_interval_sec": 1}));
        until("the first file is published", LONG, || {
            published(&folder, backend.addr)
        });
        let start = || {
            let mut command = command("proxy_server");
            command.args(["--root", folder.root_argument()]);
            Proxy::ready(&folder, Program::spawn(host.run(&command)))
        };
        let mut proxy = start();

        // By the agent's token, and by discovery.
        let body = json!({"ip": own.ip(), "port": own.port()});
        let (status, answer) = control.api.post("/api/register", &body);
        // Refused at once, or taken and left out where the proxy says that it listens there.
        let is_left_out = answer["sync"]["warnings"]
            .to_string()
            .contains("is left out");
        assert!(status == 400 || is_left_out, "{status} {answer}");
        assert!(answer.to_string().contains(&own.to_string()), "{answer}");
        folder.write_k8s(&[(backend.addr, 10), (own, 10)]);
        let warning = until("it is named", LONG, || {
            let (_, answer) = control.api.get("/api/backends");
            let warnings = answer["warnings"].to_string();
            warnings.contains(&own.to_string()).then_some(warnings)
        });
        assert!(warning.contains("left out"), "{warning}");
        for weight in [7, 9] {
            let (status, answer) = control.api.set_weight(backend.addr, weight);
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["sync"]["reload"]["applied"], true, "{answer}");
            assert_eq!(u64::from(proxy.backend(backend.addr).weight), weight);
        }
        assert_eq!(published(&folder, own), None);
        // A proxy that is restarted meanwhile serves.
        kill(&mut proxy.program);
        proxy = start();
        let served = until("served", LONG, || Some(Session::open(own).ok()?.backend));
        assert_eq!(served, "a");
        kill(&mut proxy.program);
    }
}
