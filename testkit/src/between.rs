//! Which proxy stands between scripted peers: ours, or one that people know, so that the same test
//! can be played through each. The others are set up as a careful operator would for sessions that
//! must not fail: connects are retried elsewhere, half-closes are passed on.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::folder::{Folder, proxy_config, without_probes};
use crate::installed::{binary, load_stream_module};
use crate::ports::free_address;
use crate::process::{Program, resident_bytes};
use crate::proxy::Proxy;
use crate::wait::{LONG, until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Other(Peer),
}

/// A proxy that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Haproxy,
    Nginx,
}

/// A running proxy of some kind. Dropped, it is gone with all its processes.
#[derive(Debug)]
pub struct Between {
    pub kind: Kind,
    pub listen: SocketAddr,
    folder: Folder,
    runs: Runs,
    backends: Vec<SocketAddr>,
    reloads: u64,
}

#[derive(Debug)]
enum Runs {
    Ours(Box<Proxy>),
    Other(Peer, Program),
}

/// How long any of them waits for a backend's answer to a connect.
const CONNECT_TIMEOUT_MS: u64 = 500;
/// Enough for every test here, and for two descriptors a session within the usual hard limit.
const MOST_SESSIONS: u64 = 9_500;

impl Kind {
    pub const ALL: [Kind; 3] = [
        Kind::Ours,
        Kind::Other(Peer::Haproxy),
        Kind::Other(Peer::Nginx),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ours => "wicketgate",
            Kind::Other(peer) => peer.name(),
        }
    }

    /// Whether it can be started here.
    pub fn is_at_hand(self) -> bool {
        match self {
            Kind::Ours => true,
            Kind::Other(peer) => binary(peer.name()).is_some(),
        }
    }
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Haproxy => "haproxy",
            Peer::Nginx => "nginx",
        }
    }

    fn reload_signal(self) -> Signal {
        match self {
            Peer::Haproxy => Signal::USR2,
            Peer::Nginx => Signal::HUP,
        }
    }
}

impl Between {
    /// Starts one before `backends` of equal weight and awaits that it serves.
    ///
    /// # Panics
    /// Where there is no such program.
    #[track_caller]
    pub fn start(kind: Kind, backends: &[SocketAddr]) -> Between {
        let folder = Folder::new();
        let listen = free_address();
        let runs = match kind {
            Kind::Ours => {
                let config = our_config(listen, backends, 0);
                Runs::Ours(Box::new(Proxy::start(&folder, &config, &["-w", "1"])))
            }
            Kind::Other(peer) => Runs::Other(peer, start_other(peer, &folder, listen, backends)),
        };
        let backends = backends.to_vec();
        Between {
            kind,
            listen,
            folder,
            runs,
            backends,
            reloads: 0,
        }
    }

    /// Ours, for what only it can be asked.
    pub fn ours(&self) -> Option<&Proxy> {
        match &self.runs {
            Runs::Ours(proxy) => Some(proxy),
            Runs::Other(..) => None,
        }
    }

    /// Writes a configuration with other weights and has it read.
    #[track_caller]
    pub fn reload(&mut self) {
        self.reloads += 1;
        match &mut self.runs {
            Runs::Ours(proxy) => {
                proxy.reload(&our_config(self.listen, &self.backends, self.reloads));
            }
            Runs::Other(peer, program) => {
                let text = other_config(
                    *peer,
                    self.listen,
                    &self.backends,
                    self.reloads,
                    &self.folder,
                );
                fs::write(config_path(&self.folder), text).expect("a temporary folder");
                program.signal(peer.reload_signal());
            }
        }
    }

    /// Has it read a file in which nothing stands.
    #[track_caller]
    pub fn reload_empty(&mut self) {
        match &mut self.runs {
            Runs::Ours(proxy) => drop(proxy.reload_refused(b"")),
            Runs::Other(peer, program) => {
                fs::write(config_path(&self.folder), "").expect("a temporary folder");
                program.signal(peer.reload_signal());
            }
        }
    }

    /// The process that was started and those that it has made since.
    pub fn processes(&self) -> Vec<u32> {
        self.program().tree()
    }

    /// Memory of all its processes that is resident.
    pub fn resident_bytes(&self) -> u64 {
        self.processes()
            .into_iter()
            .filter_map(resident_bytes)
            .sum()
    }

    /// Descriptors that all its processes have open.
    pub fn open_descriptors(&self) -> usize {
        let count = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.processes().into_iter().map(count).sum()
    }

    fn program(&self) -> &Program {
        match &self.runs {
            Runs::Ours(proxy) => &proxy.program,
            Runs::Other(_, program) => program,
        }
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        // All are our own descendants, and the first is not reaped before it is dropped.
        for pid in self.processes() {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn our_config(listen: SocketAddr, backends: &[SocketAddr], reload: u64) -> Value {
    let weighted: Vec<_> = backends
        .iter()
        .map(|addr| (*addr, 10 + reload % 2))
        .collect();
    let mut config = without_probes(proxy_config(listen, &weighted));
    config["session_log"] = json!("off");
    config["connect_timeout_ms"] = json!(CONNECT_TIMEOUT_MS);
    config
}

fn start_other(
    peer: Peer,
    folder: &Folder,
    listen: SocketAddr,
    backends: &[SocketAddr],
) -> Program {
    let path = config_path(folder);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
    let text = other_config(peer, listen, backends, 0, folder);
    fs::write(&path, text).expect("a temporary folder");
    let name = peer.name();
    let binary = binary(name).unwrap_or_else(|| panic!("{name} is not installed"));
    let mut command = Command::new(binary);
    match peer {
        // With a master process, since only that one reads its file again.
        Peer::Haproxy => command.args(["-W", "-f"]).arg(&path),
        Peer::Nginx => command.args(["-e", "stderr", "-c"]).arg(&path),
    };
    let mut program = Program::spawn(command);
    until(&format!("{name} serves"), LONG, || {
        assert!(program.is_running(), "{name} has ended");
        std::net::TcpStream::connect(listen).ok().map(drop)
    });
    program
}

fn config_path(folder: &Folder) -> PathBuf {
    folder.beside("other/proxy.conf")
}

fn other_config(
    peer: Peer,
    listen: SocketAddr,
    backends: &[SocketAddr],
    reload: u64,
    folder: &Folder,
) -> String {
    let weight = 10 + reload % 2;
    let mut servers = String::new();
    for (index, addr) in backends.iter().enumerate() {
        let line = match peer {
            Peer::Haproxy => format!("    server s{index} {addr} weight {weight}"),
            Peer::Nginx => format!("        server {addr} weight={weight};"),
        };
        writeln!(servers, "{line}").expect("writing to a String does not fail");
    }
    match peer {
        Peer::Haproxy => haproxy_config(listen, &servers, &folder.beside("other")),
        Peer::Nginx => nginx_config(listen, &servers, &folder.beside("other")),
    }
}

fn haproxy_config(listen: SocketAddr, servers: &str, folder: &Path) -> String {
    let folder = folder.display();
    // Its listeners are handed to the next process, so that no connect is refused meanwhile.
    format!(
        "global
    nbthread 1
    maxconn {MOST_SESSIONS}
    stats socket {folder}/haproxy.sock mode 600 level admin expose-fd listeners
defaults
    mode tcp
    maxconn {MOST_SESSIONS}
    timeout connect {CONNECT_TIMEOUT_MS}ms
    timeout client 1h
    timeout server 1h
    retries 3
    option redispatch 1
listen all
    bind {listen}
    balance roundrobin
{servers}"
    )
}

fn nginx_config(listen: SocketAddr, servers: &str, folder: &Path) -> String {
    let module = load_stream_module();
    let folder = folder.display();
    let connections = 2 * MOST_SESSIONS;
    format!(
        "{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile {connections};
pid {folder}/nginx.pid;
events {{ worker_connections {connections}; }}
stream {{
    access_log off;
    proxy_connect_timeout {CONNECT_TIMEOUT_MS}ms;
    proxy_next_upstream_tries 4;
    upstream all {{
{servers}    }}
    server {{
        listen {listen} reuseport;
        proxy_timeout 1h;
        proxy_half_close on;
        proxy_pass all;
    }}
    server {{
        listen {listen} udp reuseport;
        proxy_timeout 30s;
        proxy_pass all;
    }}
}}
"
    )
}
