//! The machine: what it is, a network of our own on it, and which core does what.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

/// What a reader of the results must know of the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub congestion_control: String,
    /// Whether loopback was one of our own, without the machine's packet filters.
    pub own_network: bool,
}

impl Machine {
    pub fn look(own_network: bool) -> Machine {
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
        Machine {
            cpu: model.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            own_network,
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Which core does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Load, backend and driver: none of them is what is measured.
    pub load: usize,
    /// The program under test, alone.
    pub program: usize,
    /// One that has neither, where there are three.
    pub spare: Option<usize>,
}

impl Cores {
    /// The first and the last core that we may use.
    ///
    /// # Errors
    /// Where there is only one: load and program would then take turns.
    pub fn choose() -> Result<Cores, String> {
        let allowed = rustix::thread::sched_getaffinity(None).map_err(|error| error.to_string())?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&core| allowed.is_set(core))
            .collect();
        match allowed[..] {
            [load, ref between @ .., program] => Ok(Cores {
                load,
                program,
                spare: between.first().copied(),
            }),
            [] | [_] => Err("at least two cores are needed, one of them for the load".to_owned()),
        }
    }

    /// Moves this thread, and what it starts from now on, to the load's core.
    pub fn keep_to_load(self) -> io::Result<()> {
        pin(None, self.load)
    }

    /// A core for what must not disturb the program; the load's where there is no other.
    pub fn other_than_program(self) -> usize {
        self.spare.unwrap_or(self.load)
    }

    /// As `taskset --cpu-list` reads it.
    pub fn both(self) -> String {
        format!("{},{}", self.load, self.program)
    }
}

/// Keeps a thread to one core; `None` is the calling one.
pub fn pin(thread: Option<rustix::process::Pid>, core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(thread, &set)?)
}

/// Tells the second start that it is inside.
const INSIDE: &str = "BENCH_OWN_NETWORK";

/// Starts this program over in a network namespace of its own, where we may: other traffic, packet
/// filters and used-up ports of the machine then play no part. It goes away with the process.
/// Returns whether we are in one; without the right to make one, measuring goes on outside.
pub fn enter_own_network() -> io::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        prepare_network()?;
        return Ok(true);
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    // It comes back only when it has failed.
    Err(command.exec())
}

fn prepare_network() -> io::Result<()> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err(io::Error::other("ip link set lo up: failed"));
    }
    // bbr would pace the streams. A namespace may only choose what the machine allows everyone.
    if set("tcp_congestion_control", "cubic").is_err() {
        set("tcp_congestion_control", "reno")?;
    }
    let settings = [
        // Short connections use up ports; those below are ours to listen on.
        ("ip_local_port_range", "16384 65535"),
        ("tcp_tw_reuse", "1"),
        ("tcp_max_syn_backlog", "4096"),
    ];
    settings
        .into_iter()
        .try_for_each(|(name, value)| set(name, value))
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
}

/// As many descriptors as the hard limit allows, for us and for what we start.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(maximum.unwrap_or(u64::MAX))
}
