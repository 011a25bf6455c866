//! Another host: a network namespace with a link of its own, which can vanish without a word. Making
//! one takes root and ip(8).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait::{LONG, within};

/// Exists until dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
    /// Its own address.
    pub addr: IpAddr,
    /// This host's address on the link between both.
    pub here: IpAddr,
}

/// Of the addresses for tests of network devices (RFC 2544).
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Two hosts, the network and its broadcast.
const LINK_BITS: u32 = 2;
/// Processes that run at the same time begin far apart.
const LINKS_A_PROCESS: u32 = 16;
const PROCESSES: u32 = 2_000;
static MADE: AtomicU32 = AtomicU32::new(0);

impl Host {
    /// Makes one; `None` where that is not allowed.
    pub fn new() -> Option<Host> {
        let process = std::process::id() % PROCESSES;
        let number = process * LINKS_A_PROCESS + MADE.fetch_add(1, Relaxed) % LINKS_A_PROCESS;
        let base = FIRST.to_bits() + (number << LINK_BITS);
        let [here, addr] = [1, 2].map(|last| Ipv4Addr::from_bits(base + last));
        let name = format!("wg{number}");
        let (outer, inner) = (format!("{name}o"), format!("{name}i"));
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let host = Host {
            addr: addr.into(),
            here: here.into(),
            name,
        };
        let name = host.name.as_str();
        let steps: [&[&str]; 6] = [
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name,
            ],
            &["addr", "add", &format!("{here}/30"), "dev", &outer],
            &["link", "set", &outer, "up"],
            &[
                "-n",
                name,
                "addr",
                "add",
                &format!("{addr}/30"),
                "dev",
                &inner,
            ],
            &["-n", name, "link", "set", &inner, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ];
        let is_made = steps.into_iter().all(ip);
        is_made.then_some(host)
    }

    /// Gives it one more address of its own, to which nothing is routed from here.
    pub fn add_address(&self, addr: IpAddr) {
        let addr = addr.to_string();
        assert!(ip(&["-n", &self.name, "addr", "add", &addr, "dev", "lo"]));
    }

    /// Every address of `network` is its own from now on.
    pub fn own_network(&self, network: &str) {
        let route = ["-n", &self.name, "-6", "route", "add", "local", network];
        assert!(ip(&[&route[..], &["dev", "lo"]].concat()));
        self.set("ipv6/ip_nonlocal_bind", "1");
    }

    /// What this thread connects to from now on is seen from that host.
    pub fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name));
        let file = file.expect("ip(8) names it there");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).expect("root may");
    }

    /// From now on nothing that is sent to it or by it arrives, and nobody is told.
    pub fn vanish(&self) {
        let here = format!("{}/32", self.here);
        assert!(ip(&["-n", &self.name, "route", "add", "blackhole", &here]));
    }

    pub fn come_back(&self) {
        let here = format!("{}/32", self.here);
        assert!(ip(&["-n", &self.name, "route", "del", "blackhole", &here]));
    }

    /// From now on what it sends arrives nowhere, and it sends on.
    pub fn lose_answers(&self) {
        const NOBODY: &str = "02:00:00:00:00:01";
        let here = self.here.to_string();
        let inner = format!("{}i", self.name);
        let to = ["replace", &here, "lladdr", NOBODY, "dev", &inner];
        let name = ["-n", &self.name, "neigh"];
        assert!(ip(&[&name[..], &to].concat()));
    }

    pub fn let_answers_through(&self) {
        let here = self.here.to_string();
        let inner = format!("{}i", self.name);
        assert!(ip(&[
            "-n", &self.name, "neigh", "del", &here, "dev", &inner
        ]));
    }

    /// Connects to it of which the first step has arrived there (SYN_RECV).
    pub fn half_open_connects(&self) -> usize {
        const SYN_RECV: &str = "03";
        let mut command = Command::new("cat");
        command.arg("/proc/net/tcp");
        let output = self.run(&command).output().expect("ip(8) runs");
        let table = String::from_utf8(output.stdout).expect("ASCII");
        let is_half_open = |row: &&str| row.split_whitespace().nth(3) == Some(SYN_RECV);
        table.lines().filter(is_half_open).count()
    }

    /// Its address on the link alone, as it is reached from here; `None` where there is no IPv6.
    pub fn link_local(&self) -> Option<(Ipv6Addr, u32)> {
        let [outer, inner] = ["o", "i"].map(|end| format!("{}{end}", self.name));
        let links = output(&["-o", "link", "show", "dev", &outer])?;
        let (here, _) = links.split_once(':')?;
        // Until nobody else is known to have it, an address is tentative (RFC 4862), at either end.
        let settled = |show: &[&str]| {
            within(LONG, || {
                let addrs = output(show)?;
                let is_settled = addrs.contains("fe80") && !addrs.contains("tentative");
                is_settled.then_some(addrs)
            })
        };
        settled(&["-6", "-o", "addr", "show", "dev", &outer])?;
        let addrs = settled(&["-n", &self.name, "-6", "-o", "addr", "show", "dev", &inner])?;
        let mut words = addrs.split_whitespace();
        let addr = words.find_map(|word| word.strip_suffix("/64"))?;
        Some((addr.parse().ok()?, here.trim().parse().ok()?))
    }

    /// Leaves it so many ports to connect from; returns the first.
    pub fn set_local_ports(&self, count: u16) -> u16 {
        const FIRST: u16 = 40_000;
        let range = format!("{FIRST} {}", FIRST + count - 1);
        self.set("ipv4/ip_local_port_range", &range);
        FIRST
    }

    /// It gives a connection up after so few retransmissions.
    pub fn set_retransmissions(&self, count: u8) {
        self.set("ipv4/tcp_retries2", &count.to_string());
    }

    fn set(&self, key: &str, value: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("echo {value} > /proc/sys/net/{key}")]);
        let status = self.run(&shell).status();
        assert!(status.is_ok_and(|status| status.success()), "{key}");
    }

    /// `command` as it would be typed on that host.
    pub fn run(&self, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.name]);
        there.arg(command.get_program()).args(command.get_args());
        there
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The link goes with it.
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    output(arguments).is_some()
}

/// What ip(8) said; `None` where it failed.
fn output(arguments: &[&str]) -> Option<String> {
    let run = Command::new("ip").args(arguments).output().ok()?;
    let said = run.status.success().then_some(run.stdout)?;
    String::from_utf8(said).ok()
}
