//! The units of `packaging/systemd/` under a systemd that runs: users, folders and confinement as they
//! will be, and the loop through them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use e2e::repository::packaged;
use e2e::spread::Transport;
use serde_json::{Value, json};
use testkit::http::Request;
use testkit::ports::free_address;
use testkit::process::command;
use testkit::systemd::Systemd;
use testkit::{Api, Backend, Folder, LONG, Manner, Session, until};

const PROXY: &str = "wicketgate-proxy";
const CONTROL: &str = "wicketgate-control";
/// In the place of the unit's ten seconds and one.
const SOONER: &str = "[Service]\nWatchdogSec=2\nRestartSec=100ms\n";
/// More than systemd grants by itself.
const STARTS: u32 = 8;

struct Units {
    systemd: Systemd,
    api: Api,
    listen: SocketAddr,
}

impl Units {
    /// Both units installed; `None`, which is told, where no systemd can run.
    fn install() -> Option<Units> {
        let folder = Folder::new();
        let (listen, addr) = (free_address(), free_address());
        let settings = json!({
            "host": addr.ip(), "port": addr.port(),
            "default_listen_host": listen.ip(), "default_listen_port": listen.port(),
        });
        let [settings_file, sooner] = ["settings", "sooner"].map(|name| folder.beside(name));
        fs::write(&settings_file, settings.to_string()).expect("a temporary folder");
        fs::write(&sooner, SOONER).expect("a temporary folder");
        let built = |name: &str| PathBuf::from(command(name).get_program());
        let booted = Systemd::boot(&[
            (built("proxy_server"), "usr/local/bin/proxy_server"),
            (built("control_server"), "usr/local/bin/control_server"),
            (
                packaged("wicketgate-proxy.service"),
                "etc/systemd/system/wicketgate-proxy.service",
            ),
            (
                packaged("wicketgate-control.service"),
                "etc/systemd/system/wicketgate-control.service",
            ),
            (
                sooner,
                "etc/systemd/system/wicketgate-proxy.service.d/sooner.conf",
            ),
            (
                packaged("wicketgate.sysusers"),
                "etc/sysusers.d/wicketgate.conf",
            ),
            (
                packaged("wicketgate.tmpfiles"),
                "etc/tmpfiles.d/wicketgate.conf",
            ),
            (
                settings_file,
                "var/lib/wicketgate/config/control_config.json",
            ),
        ]);
        let systemd = match booted {
            Ok(systemd) => systemd,
            Err(reason) => {
                testkit::skipped(&reason);
                return None;
            }
        };
        Some(Units {
            systemd,
            api: Api::at(addr),
            listen,
        })
    }

    fn await_control(&self) {
        until("control serves", LONG, || {
            self.api.exchange(Request::new("GET", "/livez")).ok()
        });
    }

    /// Changes a weight, which the proxy has to apply; the answer's part about the reload.
    #[track_caller]
    fn weigh(&self, backend: SocketAddr, weight: u64) -> Value {
        let (status, answer) = self.api.set_weight(backend, weight);
        let reload = answer["sync"]["reload"].clone();
        assert_eq!(
            (status, &reload["applied"]),
            (200, &json!(true)),
            "{answer}"
        );
        reload
    }

    /// The process of the proxy once it serves and is not `pid`.
    fn successor(&self, pid: &str) -> String {
        until("systemd has started it", LONG, || {
            let found = self.systemd.show(PROXY, "MainPID");
            let is_active = self.systemd.show(PROXY, "ActiveState") == "active";
            (is_active && found != "0" && found != pid).then_some(found)
        })
    }
}

#[test]
fn the_units_confine_close_the_loop_and_come_back() {
    let Some(units) = Units::install() else {
        return;
    };
    let systemd = &units.systemd;

    // Without its first file, which control writes, the proxy starts in vain.
    systemd.say("systemctl", &["start", "--no-block", PROXY]);
    until("it was tried again and again", LONG, || {
        let restarts = systemd.show(PROXY, "NRestarts").parse::<u32>();
        (restarts.expect("a number") >= STARTS).then_some(())
    });
    systemd.say("systemctl", &["start", CONTROL]);
    units.await_control();
    let pid = units.successor("");

    let user = systemd.say("id", &["-u", PROXY]);
    let status = systemd.say("cat", &[&format!("/proc/{pid}/status")]);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {status}"))
            .split_whitespace()
            .next()
    };
    assert_eq!(field("Uid:"), Some(user.as_str()));
    assert_eq!(field("CapEff:"), Some("0000000000000000"));
    assert_eq!(field("NoNewPrivs:"), Some("1"));
    assert_eq!(field("Seccomp:"), Some("2"));
    until("the journal says what it gave up", LONG, || {
        let lines = systemd.say("journalctl", &["-o", "cat", "-u", PROXY]);
        let confined = lines.lines().rfind(|line| line.contains("confined: "))?;
        (confined.contains("no_new_privs") && confined.contains("seccomp")).then_some(())
    });

    let backend = Backend::start("a", Manner::Echo);
    let registration = json!({ "ip": backend.addr.ip(), "port": backend.addr.port() });
    let (status, answer) = units.api.post("/api/register", &registration);
    assert_eq!(status, 200, "{answer}");
    let mut session = until("a session reaches it", LONG, || {
        Session::open(units.listen).ok()
    });
    let told = units.weigh(backend.addr, 20);
    let told = told["info"].as_str().expect("text");
    assert!(told.contains("over proxy.sock"), "{told}");
    systemd.say("systemctl", &["reload", PROXY]);
    systemd.say("systemctl", &["restart", CONTROL]);
    units.await_control();
    units.weigh(backend.addr, 30);
    assert_eq!(systemd.show(PROXY, "MainPID"), pid);
    session.echo(b"all along").expect("the session lives");

    // What ends without being asked to, or still has a process and does nothing, is started again.
    for (signal, weight) in [("KILL", 40), ("STOP", 50)] {
        let pid = systemd.show(PROXY, "MainPID");
        let signal = format!("--signal={signal}");
        systemd.say("systemctl", &["kill", "--kill-who=main", &signal, PROXY]);
        units.successor(&pid);
        assert_eq!(Transport::Tcp.ask(units.listen), "a", "after {signal}");
        units.weigh(backend.addr, weight);
    }
    systemd.say("systemctl", &["stop", PROXY]);
    assert_eq!(systemd.show(PROXY, "Result"), "success");
    let left = systemd.say("ls", &["/var/lib/wicketgate/run"]);
    assert_eq!(left, "control.pid");
}
