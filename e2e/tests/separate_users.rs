//! Control and proxy without root, as one user or as two, and each in a container of its own: every
//! change still reaches the proxy, and the answer says by which way.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command};

use contract::paths::proxy_socket;
use e2e::loop_bench::published;
use e2e::spread::Transport;
use serde_json::{Value, json};
use testkit::admin::Admin;
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::process::{User, can_become, command, command_as};
use testkit::{Api, Backend, Folder, LONG, Manner, Program, Proxy, until};

/// Two users with a common group.
const PROXY: User = User {
    uid: 64_101,
    gid: 64_100,
};
const CONTROL: User = User {
    uid: 64_102,
    gid: 64_100,
};

fn give(path: &Path, owner: User, mode: u32) {
    fs::create_dir_all(path).expect("a temporary folder");
    chown(path, Some(owner.uid), Some(owner.gid)).expect("root may");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

/// A folder as `docs/operations.md` has it: what is in `run` is the proxy's, all else control's.
fn folder_of(proxy: User, control: User) -> Folder {
    let folder = Folder::new();
    let temporary = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.beside(""), temporary).expect("ours");
    for name in ["", "config", "data", "logs"] {
        give(&folder.root.0.join(name), control, 0o2750);
    }
    give(&folder.root.0.join("run"), proxy, 0o2770);
    folder
}

/// Control as `user` over a backend that discovery has found, and where the proxy is to listen.
struct Bench {
    _control: Program,
    api: Api,
    backend: Backend,
    listen: SocketAddr,
}

impl Bench {
    fn start(folder: &Folder, control: Command) -> Bench {
        let backend = Backend::start("a", Manner::Echo);
        let (listen, addr) = (free_address(), free_address());
        folder.write_k8s(&[(backend.addr, 10)]);
        folder.write_control_config(&json!({
            "host": addr.ip(), "port": addr.port(),
            "default_listen_host": listen.ip(), "default_listen_port": listen.port(),
        }));
        let mut control = control;
        control.args(["--root", folder.root_argument()]);
        let program = Program::spawn(control);
        let api = Api::at(addr);
        until("control serves", LONG, || {
            api.exchange(Request::new("GET", "/livez")).ok()
        });
        until("the first file", LONG, || published(folder, backend.addr));
        Bench {
            _control: program,
            api,
            backend,
            listen,
        }
    }

    /// Changes a weight, which the proxy has to apply; how it was told.
    #[track_caller]
    fn applied_by(&self, weight: u64) -> String {
        let (status, answer) = self.api.set_weight(self.backend.addr, weight);
        assert_eq!(status, 200, "{answer}");
        let reload: &Value = &answer["sync"]["reload"];
        assert_eq!(reload["ok"], json!(true), "{reload}");
        assert_eq!(reload["applied"], json!(true), "{reload}");
        assert_eq!(Transport::Tcp.ask(self.listen), "a");
        reload["info"].as_str().expect("text").to_owned()
    }
}

#[test]
fn both_run_as_one_user_without_root() {
    if !can_become(PROXY) {
        return;
    }
    let folder = folder_of(PROXY, PROXY);
    let bench = Bench::start(&folder, command_as(PROXY, "control_server"));
    let mut proxy = command_as(PROXY, "proxy_server");
    proxy.args(["--root", folder.root_argument()]);
    let proxy = Proxy::ready(&folder, Program::spawn(proxy));
    let info = bench.applied_by(20);
    assert_eq!(info, format!("sent SIGHUP to pid={}", proxy.program.pid()));
}

#[test]
fn two_users_with_a_common_group_need_no_signal() {
    if !can_become(PROXY) {
        return;
    }
    let folder = folder_of(PROXY, CONTROL);
    let bench = Bench::start(&folder, command_as(CONTROL, "control_server"));
    let user = format!("{}:{}", PROXY.uid, PROXY.gid);
    let group = PROXY.gid.to_string();
    let proxy = Proxy::start_on(&folder, &["--user", &user, "--socket-group", &group]);
    let socket = fs::metadata(proxy_socket(&folder.root.proxy_pid())).expect("it is ready");
    assert_eq!(
        (socket.mode() & 0o777, socket.uid(), socket.gid()),
        (0o660, PROXY.uid, PROXY.gid)
    );
    let info = bench.applied_by(20);
    assert!(info.contains("proxy.sock"), "{info}");
    assert!(
        info.contains(&format!(
            "pid={}: Operation not permitted",
            proxy.program.pid()
        )),
        "{info}"
    );
}

#[test]
fn without_the_group_the_answer_says_what_is_missing() {
    if !can_become(PROXY) {
        return;
    }
    let folder = folder_of(PROXY, CONTROL);
    let bench = Bench::start(&folder, command_as(CONTROL, "control_server"));
    let user = format!("{}:{}", PROXY.uid, PROXY.gid);
    let _proxy = Proxy::start_on(&folder, &["--user", &user]);
    let (_, answer) = bench.api.set_weight(bench.backend.addr, 20);
    let reload = &answer["sync"]["reload"];
    assert_eq!(
        (&reload["ok"], &reload["applied"]),
        (&json!(false), &json!(false)),
        "{reload}"
    );
    let info = reload["info"].as_str().expect("text");
    assert!(info.contains("--socket-group"), "{info}");
}

/// A program in a process namespace of its own, where it is process 1. Dropped, it is killed.
struct Container(Child);

impl Container {
    fn start(program: &Command) -> Container {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child"]);
        unshare.arg(program.get_program()).args(program.get_args());
        Container(unshare.spawn().expect("util-linux"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_proxy_in_another_container_is_reached_over_the_shared_folder() {
    if !can_become(PROXY) {
        return;
    }
    let folder = Folder::new();
    let bench = Bench::start(&folder, command("control_server"));
    let mut proxy = command("proxy_server");
    proxy.args(["--root", folder.root_argument()]);
    let _proxy = Container::start(&proxy);
    let pid_file = folder.root.proxy_pid();
    until("it is ready", LONG, || {
        (testkit::proxy::announced(&pid_file) == Some(1)).then_some(())
    });
    assert_eq!(Admin::beside(&pid_file).status().running.pid, 1);
    let info = bench.applied_by(20);
    assert!(info.contains("proxy.sock, pid=1"), "{info}");
}
