//! A proxy that starts while a listener cannot be bound: what can be bound serves, the rest follows when
//! it can, and with none the proxy waits as one that runs.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use contract::RefusalCode;
use e2e::sessions::weights;
use e2e::spread::Transport;
use rustix::process::Signal;
use testkit::ports::free_address;
use testkit::process::{User, can_become, run};
use testkit::proxy::numbered;
use testkit::tmpfs::Tmpfs;
use testkit::{Backend, Folder, LONG, Manner, Program, Proxy, proxy_config, skipped};

const USER: User = User {
    uid: 64_301,
    gid: 64_300,
};

#[test]
fn what_can_be_bound_serves_and_the_rest_follows() {
    let a = Backend::start("a", Manner::Echo);
    for (held, other) in [
        (Transport::Tcp, Transport::Udp),
        (Transport::Udp, Transport::Tcp),
    ] {
        let folder = Folder::new();
        let listen = free_address();
        let (tcp, udp) = match held {
            Transport::Tcp => (Some(TcpListener::bind(listen).expect("free")), None),
            Transport::Udp => (None, Some(UdpSocket::bind(listen).expect("free"))),
        };
        let config = proxy_config(listen, &weights(&[&a], 10));
        let mut proxy = Proxy::start(&folder, &config, &[]);
        let value = match held {
            Transport::Tcp => format!("{listen}/tcp"),
            Transport::Udp => format!("{listen}/udp"),
        };
        let refused = [(RefusalCode::AddressInUse, "/listen", &*value)];
        proxy.await_refusals(&refused);
        assert_eq!(other.ask(listen), "a");
        let line = proxy.program.wait_for_line("refused code=address_in_use");
        assert!(line.contains("ERROR") && line.contains(&value), "{line}");
        let listener = &proxy.status().running.listeners[0];
        assert_eq!(listener.tcp, udp.is_some());
        assert_eq!(listener.udp, tcp.is_some());
        drop((tcp, udp));
        proxy.await_refusals(&[]);
        assert_eq!(held.ask(listen), "a");
        assert_eq!(other.ask(listen), "a");
        proxy.program.assert_one_line("refused code=address_in_use");
    }
}

#[test]
fn with_no_listener_it_waits_as_one_that_runs() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    let taken = (
        TcpListener::bind(listen).expect("free"),
        UdpSocket::bind(listen).expect("free"),
    );
    let config = proxy_config(listen, &weights(&[&a], 10));
    let mut proxy = Proxy::start(&folder, &config, &[]);
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("{listen}/{protocol}"));
    let refused = |value| (RefusalCode::AddressInUse, "/listen", value);
    proxy.await_refusals(&[refused(&*tcp), refused(&*udp)]);
    assert!(proxy.status().running.listeners.is_empty());
    proxy.program.wait_for_line("listen=none");

    // A hang-up is a reload, another one is refused the folder, and weights are taken.
    let mut moved = config.clone();
    moved["algorithm"] = "random".into();
    proxy.reload(&moved);
    assert_eq!(proxy.status().algorithm, "random");
    let second = run("proxy_server", ["--root", folder.root_argument()]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&proxy.program.pid().to_string()), "{said}");

    drop(taken);
    proxy.await_refusals(&[]);
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(Transport::Udp.ask(listen), "a");
}

#[test]
fn while_it_waits_it_takes_another_address_and_ends_when_it_is_told() {
    let a = Backend::start("a", Manner::Echo);
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        let [taken, free] = [free_address(), free_address()];
        let _tcp = TcpListener::bind(taken).expect("free");
        let _udp = UdpSocket::bind(taken).expect("free");
        let config = |listen| proxy_config(listen, &weights(&[&a], 10));
        let mut proxy = Proxy::start(&folder, &config(taken), &[]);
        proxy.reload(&config(free));
        proxy.await_refusals(&[]);
        assert_eq!(Transport::Tcp.ask(free), "a");
        // Back to one that cannot be bound: nothing that serves is given up.
        proxy.reload(&config(taken));
        assert_eq!(Transport::Tcp.ask(free), "a");
        drop(proxy);
        fs::remove_file(folder.root.proxy_pid()).expect("a killed proxy leaves it");

        let mut proxy = Proxy::start_on(&folder, &[]);
        assert!(proxy.status().running.listeners.is_empty());
        proxy.program.signal(signal);
        assert_eq!(proxy.program.wait_exit(LONG).code(), Some(0));
        assert!(!folder.root.proxy_pid().exists());
    }
}

/// The port of another proxy, which shares it with itself.
#[test]
fn the_port_of_another_proxy_is_taken_too() {
    let a = Backend::start("a", Manner::Echo);
    let [one, other] = [Folder::new(), Folder::new()];
    let listen = free_address();
    let config = proxy_config(listen, &weights(&[&a], 10));
    let first = Proxy::start(&one, &config, &["-w", "2"]);
    let second = Proxy::start(&other, &config, &["-w", "2"]);
    assert!(second.status().running.listeners.is_empty());
    for _ in 0..8 {
        assert_eq!(Transport::Tcp.ask(listen), "a");
        assert_eq!(Transport::Udp.ask(listen), "a");
    }
    assert_eq!(second.status().totals.counters.sessions_total, 0);
    assert_eq!(second.status().totals.counters.flows_total, 0);
    drop(first);
    second.await_refusals(&[]);
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(second.status().totals.counters.sessions_total, 1);
}

/// Neither the disk nor a pid file is what clients are served with; another proxy is still kept out.
#[test]
fn on_a_full_disk_it_serves_and_writes_its_pid_file_when_there_is_room() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let listen = free_address();
    folder.write_proxy_config(&proxy_config(listen, &weights(&[&a], 10)));
    let run_folder = folder.root.0.join("run");
    fs::create_dir_all(&run_folder).expect("a temporary folder");
    let Some(disk) = Tmpfs::over(&run_folder, 64) else {
        return skipped("a file system cannot be mounted here");
    };
    disk.fill();
    let mut program = Program::start("proxy_server", ["--root", folder.root_argument()]);
    let line = program.wait_for_line("serving without a pid file");
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(Transport::Udp.ask(listen), "a");
    let second = run("proxy_server", ["--root", folder.root_argument()]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&program.pid().to_string()), "{said}");
    disk.empty();
    let proxy = Proxy::ready(&folder, program);
    proxy.program.assert_one_line("serving without a pid file");
    assert_eq!(proxy.status().running.listeners[0].addr, listen);
}

/// Starts a proxy whose pid file and admin socket cannot be made; it serves. Then `mend`s the cause, and
/// both are there, as those of any proxy: for a hang-up, for questions, and gone at the end.
fn made_when_it_can_be(folder: &Folder, arguments: &[&str], mend: impl FnOnce()) {
    let a = Backend::start("a", Manner::Echo);
    let listen = free_address();
    let config = proxy_config(listen, &weights(&[&a], 10));
    folder.write_proxy_config(&numbered(&config, 1));
    let root = ["--root", folder.root_argument()];
    let mut program = Program::start("proxy_server", root.iter().chain(arguments));
    let without = ["a pid file", "an admin socket"].map(|what| format!("serving without {what}"));
    for without in &without {
        let line = program.wait_for_line(without);
        assert!(line.contains("WARN") && line.contains("every second"));
    }
    assert_eq!(Transport::Tcp.ask(listen), "a");
    assert_eq!(Transport::Udp.ask(listen), "a");
    program.signal(Signal::HUP);
    program.wait_for_line("reload config success");

    mend();
    let mut proxy = Proxy::ready(folder, program);
    proxy.program.wait_for_line("the admin socket is ready");
    proxy.program.wait_for_line("the pid file is written");
    proxy.reload(&config);
    assert_eq!(proxy.status().running.pid, proxy.program.pid());
    for without in &without {
        proxy.program.assert_one_line(without);
    }
    let second = run("proxy_server", root.iter().chain(arguments));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&proxy.program.pid().to_string()), "{said}");
    let pid_file = folder.root.proxy_pid();
    let socket = pid_file.with_extension("sock");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    let is_shared = arguments.contains(&"--socket-group");
    assert_eq!(mode(&socket), if is_shared { 0o660 } else { 0o600 });
    assert_eq!(mode(&pid_file), 0o644);
    // The UDP session is still open, and a drain would wait for it.
    proxy.program.signal(Signal::INT);
    assert_eq!(proxy.program.wait_exit(LONG).code(), Some(0));
    assert!(!pid_file.exists() && !socket.exists());
}

#[test]
fn on_a_read_only_disk_pid_file_and_socket_are_made_when_it_can_be_written() {
    for arguments in [&["--socket-group", "0"][..], &["--no-sandbox"]] {
        let folder = Folder::new();
        let run_folder = folder.root.0.join("run");
        fs::create_dir_all(&run_folder).expect("a temporary folder");
        let Some(disk) = Tmpfs::over(&run_folder, 64) else {
            return skipped("a file system cannot be mounted here");
        };
        disk.set_read_only(true);
        made_when_it_can_be(&folder, arguments, || disk.set_read_only(false));
    }
}

#[test]
fn without_rights_in_its_folder_pid_file_and_socket_are_made_when_it_has_them() {
    if !can_become(USER) {
        return skipped("another user cannot be taken on here");
    }
    let folder = Folder::new();
    let run_folder = folder.root.0.join("run");
    fs::create_dir_all(&run_folder).expect("a temporary folder");
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.beside(""), everybody).expect("ours");
    let user = format!("{}:{}", USER.uid, USER.gid);
    made_when_it_can_be(&folder, &["--user", &user], || {
        chown(&run_folder, Some(USER.uid), Some(USER.gid)).expect("root may");
    });
}

#[test]
fn folders_in_the_way_of_pid_file_and_socket_are_replaced_when_they_are_gone() {
    let folder = Folder::new();
    let pid_file = folder.root.proxy_pid();
    let socket = pid_file.with_extension("sock");
    let in_the_way = [socket, pid_file];
    for place in &in_the_way {
        fs::create_dir_all(place).expect("a temporary folder");
    }
    made_when_it_can_be(&folder, &[], || {
        for place in &in_the_way {
            fs::remove_dir(place).expect("ours");
        }
    });
}

/// A folder that is not there and cannot be made is outside of what Landlock lets the proxy write in.
#[test]
fn without_a_folder_for_them_it_serves_until_a_restart_or_makes_it_unconfined() {
    let a = Backend::start("a", Manner::Echo);
    for (argument, outlook) in [("--keep-bind", "restart"), ("--no-sandbox", "every second")] {
        let folder = Folder::new();
        let listen = free_address();
        folder.write_proxy_config(&numbered(&proxy_config(listen, &weights(&[&a], 10)), 1));
        let in_the_way = folder.root.0.join("run");
        fs::write(&in_the_way, "").expect("a temporary folder");
        let arguments = ["--root", folder.root_argument(), argument];
        let mut program = Program::start("proxy_server", arguments);
        let line = program.wait_for_line("serving without a pid file");
        assert!(line.contains(outlook), "{line}");
        program.wait_for_line("serving without an admin socket");
        assert_eq!(Transport::Tcp.ask(listen), "a");
        fs::remove_file(&in_the_way).expect("ours");
        if argument == "--no-sandbox" {
            Proxy::ready(&folder, program).status();
        }
    }
}

#[test]
fn the_log_names_the_folder_the_addresses_and_that_no_backend_is_in_use() {
    let a = Backend::start("a", Manner::Echo);
    let folder = Folder::new();
    let [listen, moved] = [free_address(), free_address()];
    let drained = proxy_config(listen, &weights(&[&a], 0));
    let mut proxy = Proxy::start(&folder, &drained, &[]);
    proxy
        .program
        .wait_for_line(&format!("starting root={}", folder.root_argument()));
    for protocol in ["tcp", "udp"] {
        let line = format!("no backend in use protocol={protocol}");
        assert!(
            proxy.program.wait_for_line(&line).contains("WARN"),
            "{line}"
        );
    }
    proxy
        .program
        .wait_for_line(&format!("listen={listen}/tcp+udp"));
    proxy.reload(&drained);
    proxy.reload(&proxy_config(moved, &weights(&[&a], 10)));
    for protocol in ["tcp", "udp"] {
        let line = format!("a backend is in use again protocol={protocol}");
        assert!(
            proxy.program.wait_for_line(&line).contains("INFO"),
            "{line}"
        );
        let begun = format!("no backend in use protocol={protocol}");
        proxy.program.assert_one_line(&begun);
    }
    let line = proxy.program.wait_for_line("reload config success");
    assert!(line.contains(&format!("listen={moved}/tcp+udp")), "{line}");
}
