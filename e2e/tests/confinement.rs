//! The proxy gives up what it does not need, also where root starts it, and says what is refused for
//! that.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use contract::RefusalCode;
use e2e::proxy_bench::ProxyBench;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::ports::{LOOPBACK, free_address};
use testkit::process::{User, can_become};
use testkit::proxy::numbered;
use testkit::{Backend, Folder, LONG, Manner, Program, Proxy, Session, proxy_config, until};

const USER: User = User {
    uid: 64_101,
    gid: 64_100,
};

/// A proxy that root has started as [`USER`], listening on `listen`, and its configuration.
fn as_user(folder: &Folder, listen: SocketAddr, more: &[&str]) -> (Proxy, Value) {
    let echo = [(free_address(), 10)];
    let config = proxy_config(listen, &echo);
    folder.write_proxy_config(&numbered(&config, 1));
    let run = folder.root.0.join("run");
    fs::create_dir_all(&run).expect("a temporary folder");
    chown(&run, Some(USER.uid), Some(USER.gid)).expect("root may");
    let temporary = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.beside(""), temporary).expect("ours");
    let user = format!("{}:{}", USER.uid, USER.gid);
    let arguments = [&["--user", &user], more].concat();
    (Proxy::start_on(folder, &arguments), config)
}

/// An address on loopback with a port that only the privileged may bind; each once.
fn free_privileged_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(600);
    let next = || Some(NEXT.fetch_add(1, Relaxed)).filter(|port| *port < 1024);
    let mut addresses = std::iter::from_fn(next).map(|port| SocketAddr::new(LOOPBACK, port));
    let is_free =
        |addr: &SocketAddr| TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok();
    addresses.find(is_free).expect("one of 424 is free")
}

#[test]
fn every_thread_is_confined_and_the_log_says_how() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({}));
    let line = bench.proxy.program.wait_for_line("confined:");
    assert!(line.contains("no capabilities, no_new_privs"), "{line}");
    let proxy = &bench.proxy.program;
    let everywhere = |key: &str, right: &str| {
        let said = proxy.kernel_says(key);
        assert!(said.len() > 1, "workers have threads of their own");
        said.iter().all(|said| said == right)
    };
    for key in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert!(everywhere(key, "0000000000000000"), "{key}");
    }
    assert!(everywhere("NoNewPrivs", "1"));
    if line.contains("seccomp") {
        assert!(everywhere("Seccomp", "2"));
    } else {
        bench.proxy.program.wait_for_line("no seccomp");
    }
}

#[test]
fn without_the_sandbox_the_log_says_so() {
    let folder = Folder::new();
    let config = proxy_config(free_address(), &[]);
    let mut proxy = Proxy::start(&folder, &config, &["--no-sandbox"]);
    proxy.program.wait_for_line("--no-sandbox");
    for key in ["NoNewPrivs", "Seccomp"] {
        assert!(
            proxy
                .program
                .kernel_says(key)
                .iter()
                .all(|said| said == "0")
        );
    }
}

#[test]
fn a_proxy_of_roots_runs_as_the_user_that_it_is_told() {
    if !can_become(USER) {
        return;
    }
    let folder = Folder::new();
    let listen = free_address();
    let (mut proxy, config) = as_user(&folder, listen, &[]);
    let [uid, gid] = [USER.uid, USER.gid].map(|id| vec![id.to_string(); 4].join("\t"));
    for (key, right) in [("Uid", uid), ("Gid", gid), ("Groups", USER.gid.to_string())] {
        let said = proxy.program.kernel_says(key);
        assert!(said.iter().all(|said| *said == right), "{key}: {said:?}");
    }
    proxy.reload(&config);
    proxy.program.signal(Signal::TERM);
    assert_eq!(proxy.program.wait_exit(LONG).code(), Some(0));
    let left = fs::read_dir(folder.root.0.join("run")).expect("it stands");
    assert_eq!(left.count(), 0, "pid file and socket are removed");
}

#[test]
fn a_low_port_is_bound_before_the_right_to_it_is_given_up() {
    if !can_become(USER) {
        return;
    }
    let folder = Folder::new();
    let listen = free_privileged_address();
    let (mut proxy, mut config) = as_user(&folder, listen, &[]);
    // Held by nobody else; free after the other one, whose port is taken.
    let other = free_privileged_address();
    config["listen"]["port"] = json!(other.port());
    proxy.reload(&config);
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("{other}/{protocol}"));
    let refused = |value| (RefusalCode::NeedsRestart, "/listen", value);
    let refusals = proxy.await_refusals(&[refused(&*tcp), refused(&*udp)]);
    let detail = &refusals[0].detail;
    assert!(detail.contains("--keep-bind"), "{detail}");
    assert_eq!(proxy.status().running.listeners[0].addr, listen);
    drop(proxy);

    let folder = Folder::new();
    let (mut proxy, mut config) = as_user(&folder, free_address(), &["--keep-bind"]);
    config["listen"]["port"] = json!(other.port());
    proxy.reload(&config);
    let kept = format!("{:016x}", 1 << 10);
    assert!(
        proxy
            .program
            .kernel_says("CapEff")
            .iter()
            .all(|said| *said == kept)
    );
}

/// It is taken when the proxy starts, which then gives up the right to it.
#[test]
fn a_low_port_that_is_taken_at_the_start_needs_a_restart() {
    if !can_become(USER) {
        return;
    }
    let folder = Folder::new();
    let listen = free_privileged_address();
    let taken = TcpListener::bind(listen).expect("free");
    let (proxy, _) = as_user(&folder, listen, &[]);
    let value = format!("{listen}/tcp");
    proxy.await_refusals(&[(RefusalCode::NeedsRestart, "/listen", &*value)]);
    drop((proxy, taken));

    let folder = Folder::new();
    let taken = TcpListener::bind(listen).expect("free");
    let (proxy, _) = as_user(&folder, listen, &["--keep-bind"]);
    proxy.await_refusals(&[(RefusalCode::AddressInUse, "/listen", &*value)]);
    drop(taken);
    proxy.await_refusals(&[]);
}

#[test]
fn who_cannot_become_somebody_is_told() {
    let folder = Folder::new();
    folder.write_proxy_config(&proxy_config(free_address(), &[]));
    let root = folder.root_argument();
    for (arguments, right) in [
        (["--user", "no such user"], "no such user"),
        (["--user", "root:no such group"], "no such group"),
        (["--socket-group", "no such group"], "--socket-group"),
    ] {
        let arguments = [&["--root", root], &arguments[..]].concat();
        let mut program = Program::start("proxy_server", arguments);
        assert_eq!(program.wait_exit(LONG).code(), Some(1), "{right}");
        program.wait_for_line(right);
    }
}

/// A folder as Kubernetes mounts a ConfigMap: the file is a link into a folder that is replaced.
struct ConfigMap<'a> {
    mount: &'a Path,
    versions: u32,
}

impl ConfigMap<'_> {
    fn publish(&mut self, config: &Value) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let folder = self.mount.join(&version);
        fs::create_dir_all(&folder).expect("a temporary folder");
        fs::write(folder.join("proxy_config.json"), config.to_string()).expect("ours");
        let (new, data) = (self.mount.join("..new"), self.mount.join("..data"));
        symlink(&version, &new).expect("ours");
        fs::rename(&new, &data).expect("ours");
        if self.versions > 1 {
            let old = self.mount.join(format!("..{}", self.versions - 1));
            fs::remove_dir_all(old).expect("ours");
        }
    }
}

#[test]
fn a_config_map_goes_on_being_read() {
    let folder = Folder::new();
    let mount = folder.beside("mounted");
    let mut map = ConfigMap {
        mount: &mount,
        versions: 0,
    };
    let config = proxy_config(free_address(), &[]);
    map.publish(&numbered(&config, 1));
    let path = mount.join("proxy_config.json");
    symlink("..data/proxy_config.json", &path).expect("ours");
    let named = path.to_str().expect("a plain name");
    let proxy = Proxy::start_on(&folder, &["--config", named]);
    for generation in 2..5 {
        map.publish(&numbered(&config, generation));
        let running = proxy.admin.reload();
        assert_eq!(running.generation, generation, "{running:?}");
        let right = format!("mounted/..{generation}/proxy_config.json");
        let found = running.config_path.expect("a new proxy says so");
        assert!(found.ends_with(&right), "{found}");
    }
}

#[test]
fn a_link_is_followed_to_where_it_stood_at_the_start_and_no_further() {
    let folder = Folder::new();
    let [near, far, path] = ["near", "far", "link"].map(|name| folder.beside(name));
    let config = proxy_config(free_address(), &[]);
    for (generation, to) in [(1, &near), (2, &far)] {
        fs::create_dir(to).expect("a temporary folder");
        let text = numbered(&config, generation).to_string();
        fs::write(to.join("proxy_config.json"), text).expect("ours");
    }
    fs::create_dir(&path).expect("a temporary folder");
    let path = path.join("proxy_config.json");
    let point_to = |target: &Path| {
        let new = path.with_extension("new");
        symlink(target.join("proxy_config.json"), &new).expect("ours");
        fs::rename(&new, &path).expect("ours");
    };
    point_to(&near);
    let named = path.to_str().expect("a plain name");
    let mut proxy = Proxy::start_on(&folder, &["--config", named]);
    let line = proxy.program.wait_for_line("confined:");
    contract::publish(
        &near.join("proxy_config.json"),
        numbered(&config, 3).to_string().as_bytes(),
    )
    .expect("ours");
    assert_eq!(proxy.admin.reload().generation, 3);
    point_to(&far);
    let running = proxy.admin.reload();
    if !line.contains("Landlock") {
        testkit::skipped("the rest: this kernel has no Landlock");
        return;
    }
    assert_eq!(running.generation, 3);
    let reason = running.last_reload.and_then(|reload| reload.reason);
    let reason = reason.expect("refused");
    assert!(
        reason.contains("Landlock") && reason.contains("near"),
        "{reason}"
    );
}

#[test]
fn a_log_behind_a_link_is_opened_anew_where_it_was_moved_away() {
    let folder = Folder::new();
    let far = folder.beside("volume");
    fs::create_dir(&far).expect("a temporary folder");
    let (log, link) = (far.join("proxy.log"), folder.beside("proxy.log"));
    fs::write(&log, "").expect("written");
    symlink(&log, &link).expect("linked");
    let config = proxy_config(free_address(), &[]);
    let named = link.to_str().expect("a plain name");
    let mut proxy = Proxy::start(&folder, &config, &["--log-file", named]);
    fs::rename(&log, far.join("proxy.log.1")).expect("moved");
    proxy.program.signal(Signal::USR1);
    until("the log is opened anew", LONG, || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("log file reopened").then_some(())
    });
}

#[test]
fn a_reload_over_the_socket_answers_with_its_outcome() {
    let echo = Backend::start("echo", Manner::Echo);
    let bench = ProxyBench::start(&[echo.addr], json!({}));
    let mut open = Session::open(bench.listen).expect("served");
    let config = |generation| {
        let config = proxy_config(bench.listen, &[(echo.addr, 10)]);
        numbered(&config, generation).to_string()
    };
    bench.proxy.publish(config(2).as_bytes());
    let running = bench.proxy.admin.reload();
    assert_eq!(running.generation, 2);
    assert!(running.last_reload.is_some_and(|reload| reload.ok));
    bench.proxy.publish(b"{");
    let running = bench.proxy.admin.reload();
    assert_eq!(running.generation, 2);
    assert!(
        running
            .last_reload
            .is_some_and(|reload| !reload.ok && reload.reason.is_some())
    );
    bench.proxy.publish(config(3).as_bytes());
    let before = bench.proxy.status().reloads_ok;
    std::thread::scope(|scope| {
        let asked = [(); 40].map(|()| scope.spawn(|| bench.proxy.admin.reload().generation));
        for asked in asked {
            assert_eq!(asked.join().expect("answered"), 3);
        }
    });
    let reloads = bench.proxy.status().reloads_ok - before;
    assert!((1..=40).contains(&reloads), "{reloads}");
    open.echo(b"unharmed").expect("it goes on");
}

#[test]
fn a_proxy_that_drains_takes_no_reload() {
    let echo = Backend::start("echo", Manner::Echo);
    let mut bench = ProxyBench::start(&[echo.addr], json!({ "drain_timeout_ms": 60_000 }));
    let _open = bench.open();
    bench.proxy.program.signal(Signal::TERM);
    until("it drains", LONG, || {
        bench.proxy.status().draining.then_some(())
    });
    let request = testkit::http::Request::new("POST", "/reload");
    let answer = bench.proxy.admin.exchange(request).expect("it answers");
    assert_eq!(answer.status, 503, "{}", answer.text());
}
