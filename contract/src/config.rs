//! `proxy_config.json`: the text as written, checked into a [`Config`] that is right throughout.
//!
//! The base format has one `listen` and one list of backends; the extended one has `listeners` and
//! `pools` by name. Both become listeners and pools in `document`, and everything further in knows only
//! those. [`check`] is the same function on both sides, so control never publishes what the proxy would
//! refuse.

mod document;

use std::net::{IpAddr, SocketAddr};

use crate::address::BackendAddr;
use crate::batch::Batch;
use crate::config_digest::config_digest;
use crate::fault::Faults;
use crate::gpu_aware::GpuAware;
use crate::health::ProbeKind;
use crate::name::Name;
use crate::object::{Object, parse_object};
use crate::route::Routes;
use crate::settings::{ListenerSettings, PoolSettings, ProcessSettings};

use document::{Places, Read, read};
pub use document::{read_backend_addr, read_report};

/// The largest file that is read: 20,000 backends take about 5 MB.
pub const MAX_FILE_BYTES: usize = 8 << 20;
/// The most backends of one file, over all pools.
pub const MAX_BACKENDS: usize = 20_000;
/// The most listeners of one file: each takes descriptors in every worker.
pub const MAX_LISTENERS: usize = 1_024;
/// The most pools of one file.
pub const MAX_POOLS: usize = 1_024;
/// The most addresses of one listener.
pub const MAX_HOSTS: usize = 64;
/// The largest weight.
pub const MAX_WEIGHT: u64 = 1000;
/// The weight of a backend that names none; a tenth of it is a whole number.
pub const DEFAULT_WEIGHT: u16 = 10;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Control's number of this configuration; `None` in a file that control did not write.
    pub generation: Option<u64>,
    /// Unix seconds, as written.
    pub updated_at: Option<f64>,
    /// That of the base format first, then in file order.
    pub listeners: Vec<Listener>,
    /// `default` first, if there is one, then by name.
    pub pools: Vec<Pool>,
    /// What holds for the process as a whole.
    pub process: ProcessSettings,
}

/// The addresses that sessions and flows are accepted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// No other listener has it.
    pub name: Name,
    /// Where it accepts, each once and at least one; an unspecified one stands for all, `::` also for those of IPv4.
    pub hosts: Vec<IpAddr>,
    /// The port at each of them.
    pub port: u16,
    /// False: it is as if it were not configured.
    pub enabled: bool,
    /// Whether it accepts sessions.
    pub tcp: bool,
    /// Whether it takes datagrams.
    pub udp: bool,
    /// Where its sessions and flows go; pools are indices into [`Config::pools`].
    pub routes: Routes<usize>,
    /// What its sessions and flows go by.
    pub settings: ListenerSettings,
}

/// The backends behind a listener and how one of them is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// No other pool has it.
    pub name: Name,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// What warming backends get.
    pub warming_share: WarmingShare,
    /// The parameters of [`Algorithm::GpuAware`].
    pub gpu_aware: GpuAware,
    /// How its backends are connected to and judged.
    pub settings: PoolSettings,
    /// In file order, no address twice.
    pub backends: Vec<Backend>,
}

/// A server that sessions and flows are sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Where it accepts.
    pub addr: BackendAddr,
    /// 0..=1000; 0 takes no new sessions.
    pub weight: u16,
    /// False: no new sessions and flows.
    pub enabled: bool,
    /// It gets the [`WarmingShare`] of its weight.
    pub is_warming_up: bool,
    /// Its last load report.
    pub report: Report,
    /// `None`: no batches are formed for it.
    pub batch: Option<Batch>,
}

/// What a backend last said of its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Share in use, 0..=1.
    pub gpu_usage: Option<f64>,
    /// Share in use, 0..=1.
    pub vram_usage: Option<f64>,
    /// Unix milliseconds of the report.
    pub reported_at_ms: Option<u64>,
    /// How often this backend reports.
    pub heartbeat_ms: Option<u64>,
}

/// How a backend is chosen for a new session or flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says, and evenly spread.
    WeightedRoundRobin,
    /// The one with the fewest sessions or flows.
    LeastConnections,
    /// The one with the fewest sessions or flows for its weight.
    WeightedLeastConnections,
    /// At random, by weight.
    Random,
    /// The less loaded of two that are drawn by weight.
    PowerOfTwo,
    /// By the address of the client, so that it keeps its backend (Maglev).
    SourceHash,
    /// The one that costs least, by load reports and observed latencies.
    GpuAware,
    /// The one with the least latency times load, by a moving average that follows peaks at once.
    PeakEwma,
}

impl Algorithm {
    /// Every algorithm with the name that files and calls use.
    pub const ALL: [(&str, Algorithm); 9] = [
        ("round_robin", Algorithm::RoundRobin),
        ("weighted_round_robin", Algorithm::WeightedRoundRobin),
        ("least_connections", Algorithm::LeastConnections),
        (
            "weighted_least_connections",
            Algorithm::WeightedLeastConnections,
        ),
        ("random", Algorithm::Random),
        ("power_of_two", Algorithm::PowerOfTwo),
        ("source_hash", Algorithm::SourceHash),
        ("gpu_aware", Algorithm::GpuAware),
        ("peak_ewma", Algorithm::PeakEwma),
    ];

    /// The name in files and calls.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, algorithm)| *algorithm == self);
        named.expect("ALL lists every algorithm").0
    }
}

/// What a warming backend gets of its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmingShare {
    /// A tenth, rounded up.
    Tenth,
    /// No new sessions until it is warm.
    None,
}

impl WarmingShare {
    pub(crate) const ALL: [(&str, WarmingShare); 2] =
        [("tenth", WarmingShare::Tenth), ("none", WarmingShare::None)];
}

/// The addresses of this host, used to recognize backends that are listeners of this proxy.
/// Loopback is always included; empty means that only loopback and exact matches are recognized.
#[derive(Debug, Clone, Default)]
pub struct LocalAddresses(pub Vec<IpAddr>);

impl LocalAddresses {
    fn contain(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.0.iter().any(|own| own.to_canonical() == ip)
    }
}

/// What [`check`] makes of a file.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Without the skipped entries.
    pub config: Config,
    /// Backends that are one of the file's own listeners, in file order: a session to one of them would
    /// loop forever. The other entries are used; [`check_strictly`] refuses the file.
    pub skipped: Vec<Skipped>,
    /// [`config_digest`](crate::config_digest()) of the document.
    pub config_digest: String,
    /// Unknown keys: a warning, so that a newer control plane can talk to an older proxy; refused by
    /// [`check_strictly`].
    pub unknown_keys: Faults,
    places: Places,
}

/// A backend that is not used, since it is a listener of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The pool that lists it.
    pub pool: Name,
    /// Its position in the `backends` of the pool.
    pub index: usize,
    /// JSON pointer of the entry.
    pub place: String,
    /// Where the backend would accept.
    pub addr: BackendAddr,
    /// The listener that accepts there.
    pub listen: SocketAddr,
}

impl Skipped {
    fn add_to(&self, faults: &mut Faults) {
        let found = format!(
            "{}, which is the proxy's own listener {}",
            self.addr, self.listen
        );
        let allowed = "an address that this proxy does not listen on";
        faults.add(&self.place, found, allowed);
    }
}

impl Checked {
    /// The configuration for a proxy that accepts on `listening` as well, and every entry that is then
    /// skipped, in file order.
    pub fn while_listening(
        &self,
        listening: &[SocketAddr],
        local: &LocalAddresses,
    ) -> (Config, Vec<Skipped>) {
        let mut config = self.config.clone();
        let mut skipped = Vec::new();
        for (pool, place) in config.pools.iter_mut().zip(&self.places.backends) {
            let already = self.skipped.iter().filter(|entry| entry.pool == pool.name);
            let mut of_pool: Vec<Skipped> = already.cloned().collect();
            let backends = std::mem::take(&mut pool.backends);
            let indices = indices_without(&of_pool);
            let backends = indices.zip(backends);
            let (kept, more) = split_own(&pool.name, place, backends, listening, local);
            pool.backends = kept;
            of_pool.extend(more);
            of_pool.sort_unstable_by_key(|entry| entry.index);
            skipped.extend(of_pool);
        }
        (config, skipped)
    }

    /// JSON pointer of a listener of the configuration.
    pub fn place_of(&self, listener: &Name) -> &str {
        let mut listeners = self.config.listeners.iter().zip(&self.places.listeners);
        let found = listeners.find(|(one, _)| one.name == *listener);
        found.map_or("", |(_, place)| place)
    }
}

/// The indices of the entries of a pool that are not skipped. `skipped` is in file order.
fn indices_without(skipped: &[Skipped]) -> impl Iterator<Item = usize> {
    let mut skipped = skipped.iter().map(|skipped| skipped.index).peekable();
    (0..).filter(move |index| skipped.next_if_eq(index).is_none())
}

/// The backends that are used, and those that are one of `listening`. Each comes with its index in the
/// array at `place`.
fn split_own(
    pool: &Name,
    place: &str,
    backends: impl Iterator<Item = (usize, Backend)>,
    listening: &[SocketAddr],
    local: &LocalAddresses,
) -> (Vec<Backend>, Vec<Skipped>) {
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for (index, backend) in backends {
        let addr = backend.addr;
        let mut own = listening.iter();
        match own.find(|listen| is_own_listener(addr, **listen, local)) {
            Some(&listen) => skipped.push(Skipped {
                pool: pool.clone(),
                index,
                place: format!("{place}/{index}"),
                addr,
                listen,
            }),
            None => kept.push(backend),
        }
    }
    (kept, skipped)
}

/// Reads a `proxy_config.json`.
///
/// # Errors
/// Every fault of the file at once, each with its place, what was found and what is allowed.
pub fn check(bytes: &[u8], local: &LocalAddresses) -> Result<Checked, Faults> {
    let mut faults = Faults::default();
    let mut unknown_keys = Faults::default();
    let document = parse_object(bytes, MAX_FILE_BYTES)?;
    match read(&document, local, &mut faults, &mut unknown_keys) {
        Some(read) if faults.is_empty() => Ok(Checked {
            config: read.config,
            skipped: read.skipped,
            config_digest: config_digest(&document),
            unknown_keys,
            places: read.places,
        }),
        _ => Err(faults),
    }
}

/// Like [`check`], but an unknown key, a skipped entry and a probe that would reach a listener of the
/// file are faults too. For `--check`, whose caller can correct the file.
pub fn check_strictly(bytes: &[u8], local: &LocalAddresses) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    let mut unknown_keys = Faults::default();
    let document = parse_object(bytes, MAX_FILE_BYTES)?;
    let read = read(&document, local, &mut faults, &mut unknown_keys);
    if let Some(read) = &read {
        read.skipped
            .iter()
            .for_each(|entry| entry.add_to(&mut faults));
        add_own_probes(read, local, &mut faults);
    }
    faults.0.extend(unknown_keys.0);
    let config = read.map(|read| read.config);
    config.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Reports of each pool the first backend whose probe `health.port` leads to a listener of the file.
/// Disabled backends are not probed.
fn add_own_probes(read: &Read, local: &LocalAddresses, faults: &mut Faults) {
    for (pool, place) in read.config.pools.iter().zip(&read.places.health) {
        let probe = &pool.settings.health.probe;
        let Some(port) = probe.port else {
            continue;
        };
        let probed = pool.backends.iter().filter(|backend| backend.enabled);
        let own = probed.filter_map(|backend| {
            let target = BackendAddr::new(backend.addr.ip(), port);
            let mut listeners = read.config.listeners.iter();
            let reaches = |listener: &&Listener| {
                listener.takes_probe(probe.kind) && listener.is_at(target, local).is_some()
            };
            let reached = listeners.find(reaches)?;
            Some((backend.addr, reached.is_at(target, local)?))
        });
        if let Some((addr, listen)) = own.into_iter().next() {
            let allowed = format!(
                "a port where a probe of {addr} does not reach the proxy's own listener {listen}"
            );
            faults.add(&format!("{place}/port"), port, allowed);
        }
    }
}

/// The generation of a file that [`check`] refuses, if it can be read that far: clients that wait for
/// this generation then learn of the refusal.
pub fn generation_of(bytes: &[u8]) -> Option<u64> {
    let map = parse_object(bytes, MAX_FILE_BYTES).ok()?;
    Object::new(&map, "").take_integer("generation", 0, u64::MAX, &mut Faults::default())
}

/// Whether a session to `backend` would arrive at `listen`.
pub fn is_own_listener(backend: BackendAddr, listen: SocketAddr, local: &LocalAddresses) -> bool {
    let listen_ip = listen.ip().to_canonical();
    let same_family = listen_ip.is_ipv6() || backend.ip().is_ipv4();
    let same_ip = listen_ip == backend.ip();
    let caught_by_all = listen_ip.is_unspecified() && same_family && local.contain(backend.ip());
    listen.port() == backend.port() && (same_ip || caught_by_all)
}

impl Pool {
    /// A pool of these backends in which everything else is as if unsaid.
    pub fn new(name: Name, algorithm: Algorithm, backends: Vec<Backend>) -> Pool {
        Pool {
            name,
            algorithm,
            warming_share: WarmingShare::Tenth,
            gpu_aware: GpuAware::default(),
            settings: PoolSettings::default(),
            backends,
        }
    }
}

impl Listener {
    /// A listener for both protocols at one address in which everything else is as if unsaid. `pool` is an index into
    /// [`Config::pools`].
    pub fn new(name: Name, addr: SocketAddr, pool: usize) -> Listener {
        Listener {
            name,
            hosts: vec![addr.ip()],
            port: addr.port(),
            enabled: true,
            tcp: true,
            udp: true,
            routes: Routes::to(pool),
            settings: ListenerSettings::default(),
        }
    }

    /// Where it accepts, whether or not it is enabled.
    pub fn addrs(&self) -> impl Iterator<Item = SocketAddr> {
        let hosts = self.hosts.iter();
        hosts.map(|host| SocketAddr::new(*host, self.port))
    }

    /// The address of it, if any, at which a session to `backend` would arrive.
    fn is_at(&self, backend: BackendAddr, local: &LocalAddresses) -> Option<SocketAddr> {
        let mut addrs = self.addrs();
        addrs.find(|addr| is_own_listener(backend, *addr, local))
    }

    /// Whether a probe of this kind that is sent to its address arrives here.
    pub fn takes_probe(&self, kind: ProbeKind) -> bool {
        let takes = match kind {
            ProbeKind::Off => false,
            ProbeKind::Tcp | ProbeKind::SendExpect | ProbeKind::Http => self.tcp,
            ProbeKind::Udp => self.udp,
        };
        takes && self.enabled
    }
}

#[cfg(test)]
mod tests;
