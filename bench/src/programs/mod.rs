//! The programs that are compared: how each is found, started with equal tuning, and ended.

mod peers;
mod started;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::machine::Cores;
use peers::Peers;
pub use started::Started;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// Nothing between load and backend.
    Direct,
    Ours,
    Haproxy,
    Nginx,
    Envoy,
    /// haproxy with `busy-polling`: never asleep, and so a core is gone for good.
    HaproxyBusy,
}

impl Program {
    pub const ALL: [Program; 6] = [
        Program::Direct,
        Program::Ours,
        Program::Haproxy,
        Program::Nginx,
        Program::Envoy,
        Program::HaproxyBusy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Program::Direct => "direct",
            Program::Ours => "ours",
            Program::Haproxy => "haproxy",
            Program::Nginx => "nginx",
            Program::Envoy => "envoy",
            Program::HaproxyBusy => "haproxy busy-polling",
        }
    }

    /// Those that ours is held against.
    pub fn is_peer(self) -> bool {
        match self {
            Program::Haproxy | Program::Nginx | Program::Envoy => true,
            Program::Direct | Program::Ours | Program::HaproxyBusy => false,
        }
    }
}

/// How a program is started, the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setup {
    /// One worker, pinned to a core that nothing of the bench runs on.
    OneWorker,
    /// Like `OneWorker`; ours with `busy_poll_us`.
    BusyPoll,
    /// Two workers, free to run on the program's core and the load's.
    TwoWorkers,
}

impl Setup {
    pub fn workers(self) -> usize {
        match self {
            Setup::OneWorker | Setup::BusyPoll => 1,
            Setup::TwoWorkers => 2,
        }
    }
}

/// How long our proxy spins before it sleeps in [`Setup::BusyPoll`].
pub const BUSY_POLL_US: u64 = 60;
/// Sessions that every program is told to expect at once. Each takes two descriptors, and haproxy
/// plans for a quarter of them to have a pipe too.
const SESSIONS: u64 = 6_000;

/// A program could not be started or has ended.
#[derive(Debug, thiserror::Error)]
#[error("{program}: {why}")]
pub struct ProgramError {
    pub program: &'static str,
    pub why: String,
}

/// Everything that a start needs to know.
#[derive(Debug)]
pub struct Stage {
    ours: PathBuf,
    peers: Peers,
    cores: Cores,
    ports: Ports,
    descriptors: u64,
    folder: tempfile::TempDir,
    starts: u32,
}

impl Stage {
    /// `ours` is the proxy's binary; `bench` the folder with the peers' configurations and cache.
    pub fn set(
        ours: PathBuf,
        bench: &Path,
        cores: Cores,
        own_network: bool,
        descriptors: u64,
    ) -> Result<Stage, String> {
        if !ours.is_file() {
            return Err(format!("{} is not built: make build", ours.display()));
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Stage {
            ours,
            peers: Peers::find(bench),
            cores,
            ports: match own_network {
                true => Ports::Counted(FIRST_OWN_PORT),
                false => Ports::Any,
            },
            descriptors,
            folder,
            starts: 0,
        })
    }

    pub fn cores(&self) -> Cores {
        self.cores
    }

    pub fn has(&self, program: Program) -> bool {
        match program {
            Program::Direct | Program::Ours => true,
            Program::Haproxy | Program::HaproxyBusy => self.peers.haproxy.is_some(),
            Program::Nginx => self.peers.nginx.is_some(),
            Program::Envoy => self.peers.envoy.is_some(),
        }
    }

    /// The first line of what each program says of its version, peers that are missing left out.
    pub fn versions(&self) -> Vec<(String, String)> {
        let asked = [
            (Program::Ours, Some(&self.ours), "--version"),
            (Program::Haproxy, self.peers.haproxy.as_ref(), "-v"),
            (Program::Nginx, self.peers.nginx.as_ref(), "-v"),
            (Program::Envoy, self.peers.envoy.as_ref(), "--version"),
        ];
        let versions = asked.into_iter().filter_map(|(program, binary, argument)| {
            let output = Command::new(binary?).arg(argument).output().ok()?;
            // nginx tells it on standard error.
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
            // envoy and nginx put their own name in front, envoy as a path.
            let version = line
                .split_once("version: ")
                .map_or(line, |(_, version)| version);
            Some((program.name().to_owned(), version.to_owned()))
        });
        versions.collect()
    }

    /// Starts the backend, on the load's core; `everywhere` on all addresses instead of one.
    pub fn start_backend(&mut self, everywhere: bool) -> Result<Started, ProgramError> {
        let addr = self.address()?;
        let ip = if everywhere {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let listen = SocketAddr::from((ip, addr.port()));
        let binary = std::env::current_exe().map_err(fault("backend"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(binary);
        command.args(["backend", "--listen", &listen.to_string()]);
        let started = self.spawn("backend", command, addr)?;
        started.await_answers()
    }

    /// Starts a program in front of the backend at `backend` and awaits that it forwards.
    pub fn start(
        &mut self,
        program: Program,
        setup: Setup,
        backend: SocketAddr,
        nginx_buffer: &str,
    ) -> Result<Started, ProgramError> {
        if program == Program::Direct {
            return Ok(Started {
                program: program.name(),
                child: None,
                addr: backend,
                log: PathBuf::new(),
            });
        }
        let addr = self.address()?;
        let values = peers::Values {
            workers: setup.workers(),
            port: addr.port(),
            backend: backend.port(),
            sessions: SESSIONS,
            descriptors: self.descriptors,
            busy_polling: program == Program::HaproxyBusy,
            nginx_buffer,
        };
        let folder = self.new_folder(program.name())?;
        let mut command = self.on_its_core(setup);
        match program {
            Program::Ours => {
                let config = our_config(addr, &[backend], setup);
                let root = write_our_root(&folder, &config).map_err(fault("ours"))?;
                command.arg(&self.ours).arg("--root").arg(root);
                command.args(["--workers", &setup.workers().to_string()]);
            }
            Program::Haproxy | Program::HaproxyBusy | Program::Nginx | Program::Envoy => {
                let arguments = self.peers.arguments(program, &folder, &values);
                command.args(arguments.map_err(fault(program.name()))?);
            }
            Program::Direct => unreachable!("returned above"),
        }
        self.spawn(program.name(), command, addr)?.await_answers()
    }

    /// Starts ours on a configuration of the caller's; `config` is told the address to listen on.
    /// Returns the folder of the contract too.
    pub fn start_ours_with(
        &mut self,
        config: impl FnOnce(SocketAddr) -> serde_json::Value,
        workers: usize,
    ) -> Result<(Started, contract::Root), ProgramError> {
        let addr = self.address()?;
        let folder = self.new_folder("ours")?;
        let root = write_our_root(&folder, &config(addr)).map_err(fault("ours"))?;
        let mut command = self.on_its_core(Setup::OneWorker);
        command.arg(&self.ours).arg("--root").arg(&root);
        command.args(["--workers", &workers.to_string()]);
        let started = self.spawn("ours", command, addr)?.await_answers()?;
        Ok((started, contract::Root(root)))
    }

    /// The beginning of a command that runs a program where it belongs and ends it with us.
    fn on_its_core(&self, setup: Setup) -> Command {
        let cores = match setup {
            Setup::OneWorker | Setup::BusyPoll => self.cores.program.to_string(),
            Setup::TwoWorkers => self.cores.both(),
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &cores]);
        command
    }

    fn spawn(
        &mut self,
        program: &'static str,
        mut command: Command,
        addr: SocketAddr,
    ) -> Result<Started, ProgramError> {
        let log = self.new_folder(program)?.join("log");
        let output = File::create(&log).map_err(fault(program))?;
        let errors = output.try_clone().map_err(fault(program))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // A tester's own settings must not change what the programs write.
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        let child = command.spawn().map_err(fault(program))?;
        Ok(Started {
            program,
            child: Some(child),
            addr,
            log,
        })
    }

    fn new_folder(&mut self, name: &'static str) -> Result<PathBuf, ProgramError> {
        self.starts += 1;
        let name_and_number = format!("{}-{}", name.replace(' ', "-"), self.starts);
        let folder = self.folder.path().join(name_and_number);
        fs::create_dir(&folder).map_err(fault(name))?;
        Ok(folder)
    }

    fn address(&mut self) -> Result<SocketAddr, ProgramError> {
        let port = self.ports.next().map_err(fault("a free port"))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// A temporary folder's end, or a system's error, as the error of a program.
fn fault<E: std::fmt::Display>(program: &'static str) -> impl FnOnce(E) -> ProgramError {
    move |error| ProgramError {
        program,
        why: error.to_string(),
    }
}

/// In a network of our own, ports below the range that clients are given are all free.
const FIRST_OWN_PORT: u16 = 2_000;
const LAST_OWN_PORT: u16 = 16_000;

#[derive(Debug)]
enum Ports {
    Counted(u16),
    Any,
}

impl Ports {
    fn next(&mut self) -> std::io::Result<u16> {
        match self {
            Ports::Counted(next) => {
                let port = *next;
                *next = if port == LAST_OWN_PORT {
                    FIRST_OWN_PORT
                } else {
                    port + 1
                };
                Ok(port)
            }
            Ports::Any => {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                Ok(listener.local_addr()?.port())
            }
        }
    }
}

/// `proxy_config.json` with everything on and the log of what goes well off, as the peers' is.
pub fn our_config(listen: SocketAddr, backends: &[SocketAddr], setup: Setup) -> serde_json::Value {
    let backends: Vec<_> = backends
        .iter()
        .map(|addr| json!({ "ip": addr.ip(), "port": addr.port(), "weight": 10 }))
        .collect();
    let mut config = json!({
        "listen": { "host": listen.ip(), "port": listen.port() },
        "algorithm": "weighted_round_robin",
        "generation": 1,
        "backends": backends,
        "session_log": "failures",
        "max_sessions": SESSIONS,
    });
    if setup == Setup::BusyPoll {
        config["busy_poll_us"] = BUSY_POLL_US.into();
    }
    config
}

fn write_our_root(folder: &Path, config: &serde_json::Value) -> std::io::Result<PathBuf> {
    let root = folder.join("control");
    let path = contract::Root(root.clone()).proxy_config();
    contract::publish(&path, config.to_string().as_bytes())?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_configuration_is_one_that_the_proxy_takes() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 2000));
        let backend = SocketAddr::from(([127, 0, 0, 1], 2001));
        let config = our_config(listen, &[backend], Setup::OneWorker).to_string();
        let checked =
            contract::check_strictly(config.as_bytes(), &contract::LocalAddresses::default());
        let checked = checked.expect("it is right");
        let session_log = checked.listeners[0].settings.session_log;
        assert_eq!(session_log, contract::SessionLog::Failures);
    }
}
