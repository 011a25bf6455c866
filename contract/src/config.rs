//! `proxy_config.json`: the text as written, checked into a [`Config`] that is right throughout.
//!
//! The base format has one `listen` and one list of backends; it is lowered here to a listener and
//! a pool, both named `default`, and everything further in knows only listeners and pools. [`check`] is the same function
//! on both sides, so control never publishes what the proxy would refuse.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::address::{ALLOWED_BACKEND_IP, BackendAddr, parse_backend_ip};
use crate::batch::Batch;
use crate::config_digest::config_digest;
use crate::fault::Faults;
use crate::gpu_aware::GpuAware;
use crate::health::ProbeKind;
use crate::name::{DEFAULT_NAME, Name};
use crate::object::{Object, kind, parse_object};
use crate::settings::Settings;

/// The largest file that is read: 20,000 backends take about 5 MB.
pub const MAX_FILE_BYTES: usize = 8 << 20;
/// The most backends of one file.
pub const MAX_BACKENDS: usize = 20_000;
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
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
    pub settings: Settings,
}

/// An address that sessions and flows are accepted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// No other listener has it.
    pub name: Name,
    pub addr: SocketAddr,
    pub tcp: bool,
    pub udp: bool,
    /// Index into [`Config::pools`].
    pub pool: usize,
}

/// The backends behind a listener and how one of them is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// No other pool has it.
    pub name: Name,
    pub algorithm: Algorithm,
    pub warming_share: WarmingShare,
    pub gpu_aware: GpuAware,
    /// In file order, no address twice.
    pub backends: Vec<Backend>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pub addr: BackendAddr,
    /// 0..=1000; 0 takes no new sessions.
    pub weight: u16,
    pub enabled: bool,
    pub is_warming_up: bool,
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
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    WeightedLeastConnections,
    Random,
    PowerOfTwo,
    SourceHash,
    GpuAware,
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
    const ALL: [(&str, WarmingShare); 2] =
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
}

/// A backend that is not used, since it is a listener of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub pool: Name,
    /// Its position in the `backends` of the pool.
    pub index: usize,
    pub addr: BackendAddr,
    pub listen: SocketAddr,
}

impl Skipped {
    /// JSON pointer of the entry.
    pub fn place(&self) -> String {
        let Skipped { pool, index, .. } = self;
        match pool.as_str() {
            DEFAULT_NAME => format!("/backends/{index}"),
            pool => format!("/pools/{pool}/backends/{index}"),
        }
    }

    fn add_to(&self, faults: &mut Faults) {
        let found = format!(
            "{}, which is the proxy's own listener {}",
            self.addr, self.listen
        );
        let allowed = "an address that this proxy does not listen on";
        faults.add(&self.place(), found, allowed);
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
        for pool in &mut config.pools {
            let already = self.skipped.iter().filter(|entry| entry.pool == pool.name);
            let mut of_pool: Vec<Skipped> = already.cloned().collect();
            let backends = std::mem::take(&mut pool.backends);
            let indices = indices_without(&of_pool);
            let (kept, more) = split_own(&pool.name, indices.zip(backends), listening, local);
            pool.backends = kept;
            of_pool.extend(more);
            of_pool.sort_unstable_by_key(|entry| entry.index);
            skipped.extend(of_pool);
        }
        (config, skipped)
    }
}

/// The indices of the entries of a pool that are not skipped. `skipped` is in file order.
fn indices_without(skipped: &[Skipped]) -> impl Iterator<Item = usize> {
    let mut skipped = skipped.iter().map(|skipped| skipped.index).peekable();
    (0..).filter(move |index| skipped.next_if_eq(index).is_none())
}

/// The backends that are used, and those that are one of `listening`. Each comes with its index in the
/// file.
fn split_own(
    pool: &Name,
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
        Some((config, skipped)) if faults.is_empty() => Ok(Checked {
            config,
            skipped,
            config_digest: config_digest(&document),
            unknown_keys,
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
    if let Some((_, skipped)) = &read {
        skipped.iter().for_each(|entry| entry.add_to(&mut faults));
    }
    if let Some((config, _)) = &read {
        add_own_probe(config, local, &mut faults);
    }
    faults.0.extend(unknown_keys.0);
    let config = read.map(|(config, _)| config);
    config.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Reports the first backend whose probe `health.port` leads to a listener of the file. Disabled
/// backends are not probed.
fn add_own_probe(config: &Config, local: &LocalAddresses, faults: &mut Faults) {
    let probe = &config.settings.health.probe;
    let Some(port) = probe.port else {
        return;
    };
    let backends = config.pools.iter().flat_map(|pool| &pool.backends);
    for backend in backends.filter(|backend| backend.enabled) {
        let target = BackendAddr::new(backend.addr.ip(), port);
        let mut listeners = config.listeners.iter();
        let reaches = |listener: &&Listener| {
            listener.takes_probe(probe.kind) && is_own_listener(target, listener.addr, local)
        };
        if let Some(listener) = listeners.find(reaches) {
            let (addr, listen) = (backend.addr, listener.addr);
            let allowed = format!(
                "a port where a probe of {addr} does not reach the proxy's own listener {listen}"
            );
            return faults.add("/health/port", port, allowed);
        }
    }
}

/// The generation of a file that [`check`] refuses, if it can be read that far: clients that wait for
/// this generation then learn of the refusal.
pub fn generation_of(bytes: &[u8]) -> Option<u64> {
    let map = parse_object(bytes, MAX_FILE_BYTES).ok()?;
    Object::new(&map, "").take_integer("generation", 0, u64::MAX, &mut Faults::default())
}

/// `None` only if a part is missing without which there is no configuration; `faults` lists what is
/// wrong.
fn read(
    document: &Map<String, Value>,
    local: &LocalAddresses,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<(Config, Vec<Skipped>)> {
    let mut object = Object::new(document, "");

    let listener = read_listen(&mut object, faults, unknown_keys);
    let algorithm = object.take_choice("algorithm", &Algorithm::ALL, faults);
    let updated_at = object.take_number("updated_at", faults);
    let generation = object.take_integer("generation", 0, u64::MAX, faults);
    let warming_share = object.take_choice("warming_share", &WarmingShare::ALL, faults);
    let gpu_aware = GpuAware::read(&mut object, faults, unknown_keys);
    let settings = Settings::read(&mut object, faults, unknown_keys);
    let backends = read_backends(&mut object, faults, unknown_keys);
    object.unknown_keys(unknown_keys);
    let listener = listener?;
    let name = Name::default();
    let (backends, skipped) = split_own(&name, backends.into_iter(), &[listener.addr], local);

    let pool = Pool {
        name,
        algorithm: algorithm.unwrap_or(Algorithm::WeightedRoundRobin),
        warming_share: warming_share.unwrap_or(WarmingShare::Tenth),
        gpu_aware,
        backends,
    };
    let config = Config {
        generation,
        updated_at,
        listeners: vec![listener],
        pools: vec![pool],
        settings,
    };
    Some((config, skipped))
}

fn read_listen(
    object: &mut Object,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<Listener> {
    let value = object.take_required("listen", "{\"host\": IP, \"port\": PORT}", faults)?;
    let place = object.pointer("listen");
    let Value::Object(map) = value else {
        faults.add(&place, kind(value), "{\"host\": IP, \"port\": PORT}");
        return None;
    };
    const ALLOWED_HOST: &str = "an IPv4 or IPv6 address, 0.0.0.0 or :: for all";
    let mut listen = Object::new(map, place);
    let host = listen.take_required("host", ALLOWED_HOST, faults);
    let ip = host.and_then(|host| {
        let ip = host.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        // `::ffff:127.0.0.1` is `127.0.0.1`, and `::ffff:0.0.0.0` all of IPv4.
        let ip = ip.map(|ip| ip.to_canonical());
        let ip = ip.filter(|ip| !ip.is_multicast());
        if ip.is_none() {
            faults.add(&listen.pointer("host"), host, ALLOWED_HOST);
        }
        ip
    });
    listen.take_required("port", "an integer from 1 to 65535", faults);
    let port = listen.take_integer("port", 1, 65535, faults);
    let tcp = listen.take_bool("tcp", faults).unwrap_or(true);
    let udp = listen.take_bool("udp", faults).unwrap_or(true);
    if !tcp && !udp {
        faults.add(
            &listen.pointer("tcp"),
            "false, with udp false too",
            "true for tcp, udp or both",
        );
    }
    listen.unknown_keys(unknown_keys);
    Some(Listener {
        name: Name::default(),
        addr: SocketAddr::new(ip?, port? as u16),
        tcp,
        udp,
        pool: 0,
    })
}

/// The backends that could be read, each with its index.
fn read_backends(
    object: &mut Object,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Vec<(usize, Backend)> {
    let Some(value) = object.take_required("backends", "an array, which may be empty", faults)
    else {
        return Vec::new();
    };
    let place = object.pointer("backends");
    let Value::Array(items) = value else {
        faults.add(&place, kind(value), "an array, which may be empty");
        return Vec::new();
    };
    if items.len() > MAX_BACKENDS {
        let found = format!("{} backends", items.len());
        faults.add(&place, found, format!("at most {MAX_BACKENDS} backends"));
        return Vec::new();
    }
    let mut backends = Vec::with_capacity(items.len());
    let mut indices: HashMap<BackendAddr, usize> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = format!("{place}/{index}");
        let Some(backend) = read_backend(item, &at, faults, unknown_keys) else {
            continue;
        };
        if let Some(first) = indices.insert(backend.addr, index) {
            let found = format!("{}, already listed at {place}/{first}", backend.addr);
            faults.add(&at, found, "each ip:port once");
        }
        backends.push((index, backend));
    }
    backends
}

fn read_backend(
    value: &Value,
    place: &str,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<Backend> {
    let Value::Object(map) = value else {
        faults.add(place, kind(value), "an object with ip and port");
        return None;
    };
    let mut object = Object::new(map, place);
    let addr = read_backend_addr(&mut object, faults);
    let weight = object.take_integer("weight", 0, MAX_WEIGHT, faults);
    let backend = Backend {
        addr: addr?,
        weight: weight.map_or(DEFAULT_WEIGHT, |weight| weight as u16),
        enabled: object.take_bool("enabled", faults).unwrap_or(true),
        is_warming_up: object.take_bool("is_warming_up", faults).unwrap_or(false),
        report: read_report(&mut object, faults),
        batch: Batch::read(&mut object, faults),
    };
    object.unknown_keys(unknown_keys);
    Some(backend)
}

/// Reads `ip` and `port`; both are required.
pub fn read_backend_addr(object: &mut Object, faults: &mut Faults) -> Option<BackendAddr> {
    let ip = object
        .take_required("ip", ALLOWED_BACKEND_IP, faults)
        .and_then(|value| {
            let ip = value.as_str().and_then(parse_backend_ip);
            if ip.is_none() {
                faults.add(&object.pointer("ip"), value, ALLOWED_BACKEND_IP);
            }
            ip
        });
    object.take_required("port", "an integer from 1 to 65535", faults);
    let port = object.take_integer("port", 1, 65535, faults);
    Some(BackendAddr::new(ip?, port? as u16))
}

/// Reads `gpu_usage`, `vram_usage`, `reported_at_ms` and `heartbeat_ms`; all are optional.
pub fn read_report(object: &mut Object, faults: &mut Faults) -> Report {
    Report {
        gpu_usage: object.take_share("gpu_usage", faults),
        vram_usage: object.take_share("vram_usage", faults),
        reported_at_ms: object.take_integer("reported_at_ms", 0, u64::MAX, faults),
        heartbeat_ms: object.take_integer("heartbeat_ms", 1, 3_600_000, faults),
    }
}

/// Whether a session to `backend` would arrive at `listen`.
pub fn is_own_listener(backend: BackendAddr, listen: SocketAddr, local: &LocalAddresses) -> bool {
    let listen_ip = listen.ip().to_canonical();
    let same_family = listen_ip.is_ipv6() || backend.ip().is_ipv4();
    let same_ip = listen_ip == backend.ip();
    let caught_by_all = listen_ip.is_unspecified() && same_family && local.contain(backend.ip());
    listen.port() == backend.port() && (same_ip || caught_by_all)
}

impl Config {
    /// The configuration as a file again, every key with its effective value. [`check`] reads it
    /// back to an equal `Config`.
    pub fn to_json(&self) -> Value {
        let listener = &self.listeners[0];
        let pool = &self.pools[0];
        let mut object = Map::new();
        object.insert("listen".into(), listener.to_json());
        object.insert("algorithm".into(), pool.algorithm.name().into());
        object.insert("updated_at".into(), json!(self.updated_at));
        object.insert("generation".into(), json!(self.generation));
        let share = WarmingShare::ALL
            .iter()
            .find(|(_, share)| *share == pool.warming_share);
        object.insert("warming_share".into(), json!(share.map(|(name, _)| name)));
        object.insert("gpu_aware".into(), json!(pool.gpu_aware));
        match serde_json::to_value(&self.settings) {
            Ok(Value::Object(settings)) => object.extend(settings),
            _ => unreachable!("Settings is a struct of numbers, words and lists of words"),
        }
        object.extend(self.settings.health.to_json());
        object.insert(
            "backends".into(),
            pool.backends.iter().map(Backend::to_json).collect(),
        );
        Value::Object(object)
    }
}

impl Pool {
    /// A pool of these backends in which everything else is as if unsaid.
    pub fn new(name: Name, algorithm: Algorithm, backends: Vec<Backend>) -> Pool {
        Pool {
            name,
            algorithm,
            warming_share: WarmingShare::Tenth,
            gpu_aware: GpuAware::default(),
            backends,
        }
    }
}

impl Listener {
    /// Whether a probe of this kind that is sent to its address arrives here.
    pub fn takes_probe(&self, kind: ProbeKind) -> bool {
        match kind {
            ProbeKind::Off => false,
            ProbeKind::Tcp | ProbeKind::SendExpect | ProbeKind::Http => self.tcp,
            ProbeKind::Udp => self.udp,
        }
    }

    fn to_json(&self) -> Value {
        let (host, port) = (self.addr.ip(), self.addr.port());
        json!({ "host": host, "port": port, "tcp": self.tcp, "udp": self.udp })
    }
}

impl Backend {
    /// The backend as an entry of the file; absent optional keys stay absent.
    pub fn to_json(&self) -> Value {
        let mut entry = json!({
            "ip": self.addr.ip(),
            "port": self.addr.port(),
            "weight": self.weight,
            "enabled": self.enabled,
            "is_warming_up": self.is_warming_up,
            "gpu_usage": self.report.gpu_usage,
            "vram_usage": self.report.vram_usage,
        });
        let optional = [
            ("reported_at_ms", self.report.reported_at_ms),
            ("heartbeat_ms", self.report.heartbeat_ms),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                entry[key] = value.into();
            }
        }
        if let Some(batch) = self.batch {
            batch.write(&mut entry);
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{
        "listen": { "host": "0.0.0.0", "port": 10080 },
        "algorithm": "weighted_round_robin",
        "updated_at": 1730000000,
        "backends": [ { "ip": "10.0.0.11", "port": 9001, "weight": 10, "enabled": true,
                        "is_warming_up": false, "gpu_usage": 0.2, "vram_usage": 0.4 } ]
    }"#;

    fn local() -> LocalAddresses {
        LocalAddresses(vec!["192.168.7.7".parse().expect("a literal")])
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value: Value = serde_json::from_str(BASE).expect("BASE is JSON");
        change(&mut value);
        value.to_string().into_bytes()
    }

    /// The places that `check` complains of.
    #[track_caller]
    fn places(bytes: &[u8]) -> Vec<String> {
        match check(bytes, &local()) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.0.into_iter().map(|fault| fault.place).collect(),
        }
    }

    #[test]
    fn the_base_format_is_read_field_for_field() {
        let config = check(BASE.as_bytes(), &local()).expect("valid").config;
        assert_eq!(
            config.listeners[0].addr,
            "0.0.0.0:10080".parse().expect("a literal")
        );
        assert!(config.listeners[0].tcp && config.listeners[0].udp);
        let names = (&config.listeners[0].name, &config.pools[0].name);
        assert_eq!(names, (&Name::default(), &Name::default()));
        assert_eq!(config.pools[0].algorithm, Algorithm::WeightedRoundRobin);
        let backend = &config.pools[0].backends[0];
        assert_eq!(backend.addr.to_string(), "10.0.0.11:9001");
        assert_eq!(
            (backend.weight, backend.enabled, backend.is_warming_up),
            (10, true, false)
        );
        assert_eq!(backend.report.vram_usage, Some(0.4));
        assert_eq!(config.generation, None);
    }

    #[test]
    fn no_backends_is_a_valid_configuration() {
        assert!(places(&changed(|value| value["backends"] = json!([]))).is_empty());
    }

    #[test]
    fn a_configuration_written_out_is_read_back_the_same() {
        let with_optional_keys = changed(|value| {
            value["backends"][0]["max_batch"] = json!(8);
            value["backends"][0]["batch_window_ms"] = json!(10);
            value["backends"][0]["heartbeat_ms"] = json!(1000);
        });
        for bytes in [BASE.as_bytes(), &with_optional_keys] {
            let config = check(bytes, &local()).expect("valid").config;
            let again = check(config.to_json().to_string().as_bytes(), &local()).expect("valid");
            assert_eq!(again.config, config);
            assert!(again.unknown_keys.is_empty(), "{}", again.unknown_keys);
        }
    }

    #[test]
    fn each_bad_value_is_named_by_its_place() {
        let cases: [(&str, Value); 25] = [
            ("/listen", json!(7)),
            ("/listen/host", json!("example.org")),
            ("/listen/host", json!(null)),
            ("/listen/port", json!(0)),
            ("/listen/port", json!(65536)),
            ("/listen/tcp", json!("yes")),
            ("/algorithm", json!("fastest")),
            ("/updated_at", json!("yesterday")),
            ("/updated_at", json!([1])),
            ("/generation", json!(-1)),
            ("/connect_attempts", json!(0)),
            ("/session_log", json!("none")),
            ("/backends", json!({})),
            ("/backends", json!(null)),
            ("/backends/0", json!("10.0.0.1:80")),
            ("/backends/0/ip", json!("gpu-node-1")),
            ("/backends/0/ip", json!(null)),
            ("/backends/0/port", json!(0)),
            ("/backends/0/port", json!("9001")),
            ("/backends/0/weight", json!(1001)),
            ("/backends/0/weight", json!(-1)),
            ("/backends/0/enabled", json!(1)),
            ("/backends/0/gpu_usage", json!(1.01)),
            ("/backends/0/vram_usage", json!("half")),
            ("/backends/0/heartbeat_ms", json!(0)),
        ];
        for (place, value) in cases {
            let bytes = changed(|document| {
                let parent = place.rsplit_once('/').expect("a pointer").0;
                let key = place.rsplit_once('/').expect("a pointer").1;
                let parent = document.pointer_mut(parent).expect("BASE has the parent");
                match parent {
                    Value::Array(items) => items[0] = value.clone(),
                    other => other[key] = value.clone(),
                }
            });
            assert_eq!(places(&bytes), [place], "{value}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let bytes = changed(|value| {
            value["algorithm"] = json!("x");
            value["backends"] = json!([{"ip": "a", "port": 0}, {"ip": "10.0.0.1", "port": 70000}]);
        });
        let expected = [
            "/algorithm",
            "/backends/0/ip",
            "/backends/0/port",
            "/backends/1/port",
        ];
        assert_eq!(places(&bytes), expected);
    }

    #[test]
    fn the_same_backend_twice_is_refused() {
        let bytes = changed(|value| {
            value["backends"] =
                json!([{"ip": "10.0.0.1", "port": 1}, {"ip": "::ffff:10.0.0.1", "port": 1}]);
        });
        assert_eq!(places(&bytes), ["/backends/1"]);
    }

    #[test]
    fn the_generation_of_a_refused_file_is_read_where_it_can_be() {
        let refused = changed(|value| {
            value["algorithm"] = json!("fastest");
            value["generation"] = json!(7);
        });
        assert_eq!(generation_of(&refused), Some(7));
        assert_eq!(generation_of(b"{\"generation\": 7"), None);
        assert_eq!(generation_of(b"{\"generation\": \"7\"}"), None);
    }

    #[test]
    fn our_own_listener_is_skipped_and_refused_only_where_a_person_asks() {
        let refused = |listen: &str, ip: &str| {
            let bytes = changed(|value| {
                value["listen"]["host"] = json!(listen);
                value["backends"][0]["ip"] = json!(ip);
                value["backends"][0]["port"] = json!(10080);
            });
            let checked = check(&bytes, &local()).expect("valid, whatever is skipped");
            let is_skipped = !checked.skipped.is_empty();
            assert_eq!(checked.config.pools[0].backends.is_empty(), is_skipped);
            let strictly = check_strictly(&bytes, &local());
            let places = strictly.map_err(|faults| faults.0[0].place.clone());
            assert_eq!(places.err(), is_skipped.then(|| "/backends/0".to_owned()));
            is_skipped
        };
        assert!(refused("0.0.0.0", "127.0.0.1"));
        assert!(refused("0.0.0.0", "127.8.8.8"));
        assert!(refused("0.0.0.0", "192.168.7.7"));
        assert!(refused("::", "192.168.7.7"));
        assert!(refused("10.0.0.1", "10.0.0.1"));
        assert!(refused("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(refused("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(refused("::ffff:0.0.0.0", "127.0.0.1"));
        assert!(refused("::", "::ffff:127.0.0.1"));
        assert!(refused("::", "::1"));
        assert!(!refused("10.0.0.1", "127.0.0.1"));
        assert!(!refused("0.0.0.0", "192.168.7.8"));
        assert!(!refused("0.0.0.0", "::1"));
    }

    #[test]
    fn a_probe_that_would_reach_our_own_listener_is_refused_only_where_a_person_asks() {
        let found = |host: &str, ip: &str, change: &dyn Fn(&mut Value)| {
            let bytes = changed(|value| {
                value["listen"]["host"] = json!(host);
                value["backends"][0]["ip"] = json!(ip);
                value["health"] = json!({"port": 10080});
                change(value);
            });
            let checked = check(&bytes, &local()).expect("valid, whatever is probed");
            assert!(checked.skipped.is_empty(), "{ip}:9001 is no listener");
            let faults = check_strictly(&bytes, &local()).err()?;
            assert_eq!(faults.0.len(), 1, "{faults}");
            Some(faults.to_string())
        };
        let as_it_is = |_: &mut Value| {};
        for (host, ip, is_own) in [
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "192.168.7.7", true),
            ("0.0.0.0", "192.168.7.8", false),
            ("0.0.0.0", "::1", false),
            ("::", "::1", true),
            ("::", "127.0.0.9", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
        ] {
            let right = is_own.then(|| {
                let listen = SocketAddr::new(host.parse().expect("a literal"), 10080);
                let addr = SocketAddr::new(ip.parse().expect("a literal"), 9001);
                format!(
                    "/health/port: found 10080, allowed: a port where a probe of {addr} does not \
                     reach the proxy's own listener {listen}"
                )
            });
            assert_eq!(found(host, ip, &as_it_is), right, "{host} {ip}");
        }
        let is_refused = |change: &dyn Fn(&mut Value)| found("::", "::1", change).is_some();
        let udp = json!({"probe": "udp", "port": 10080, "send": "x"});
        assert!(!is_refused(&|value| value["health"]["port"] = json!(10081)));
        assert!(!is_refused(&|value| value["health"]["probe"] = json!("off")));
        assert!(!is_refused(
            &|value| value["backends"][0]["enabled"] = json!(false)
        ));
        assert!(!is_refused(&|value| value["listen"]["tcp"] = json!(false)));
        assert!(is_refused(&|value| value["health"] = udp.clone()));
        assert!(!is_refused(&|value| {
            value["health"] = udp.clone();
            value["listen"]["udp"] = json!(false);
        }));
    }

    #[test]
    fn what_else_the_proxy_accepts_on_is_skipped_too_by_its_place_in_the_file() {
        let own = |port: u16| json!({"ip": "127.0.0.1", "port": port});
        let bytes = changed(|value| {
            value["backends"] = json!([own(10080), own(1), own(9000), own(2)]);
        });
        let checked = check(&bytes, &local()).expect("valid");
        let ports = |config: &Config| -> Vec<u16> {
            let backends = config.pools[0].backends.iter();
            backends.map(|backend| backend.addr.port()).collect()
        };
        let places =
            |skipped: &[Skipped]| -> Vec<String> { skipped.iter().map(Skipped::place).collect() };
        assert_eq!(ports(&checked.config), [1, 9000, 2]);
        assert_eq!(places(&checked.skipped), ["/backends/0"]);
        let listening = ["127.0.0.1:9000", "[::]:2"].map(|addr| addr.parse().expect("a literal"));
        let (config, skipped) = checked.while_listening(&listening, &local());
        assert_eq!(ports(&config), [1]);
        let right = ["/backends/0", "/backends/2", "/backends/3"];
        assert_eq!(places(&skipped), right);
    }

    #[test]
    fn skipped_entries_are_counted_in_their_own_pool() {
        let own = |port: u16| json!({"ip": "127.0.0.1", "port": port});
        let bytes = changed(|value| value["backends"] = json!([own(10080), own(1), own(9000)]));
        let mut checked = check(&bytes, &local()).expect("valid");
        let mut other = checked.config.pools[0].clone();
        other.name = Name::new("other").expect("a name");
        checked.config.pools.insert(0, other);
        let listening = ["127.0.0.1:9000".parse().expect("a literal")];
        let (config, skipped) = checked.while_listening(&listening, &local());
        let kept = config.pools.iter().map(|pool| pool.backends.len());
        assert_eq!(kept.collect::<Vec<_>>(), [1, 1]);
        let places: Vec<String> = skipped.iter().map(Skipped::place).collect();
        let right = ["/pools/other/backends/1", "/backends/0", "/backends/2"];
        assert_eq!(places, right);
    }

    #[test]
    fn a_listen_host_is_read_in_its_canonical_form() {
        for (host, right) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:0.0.0.0", "0.0.0.0"),
            ("::FFFF:7f00:1", "127.0.0.1"),
            ("0:0:0:0:0:0:0:0", "::"),
            ("::1", "::1"),
        ] {
            let bytes = changed(|value| value["listen"]["host"] = json!(host));
            let config = check(&bytes, &local()).expect("valid").config;
            assert_eq!(config.listeners[0].addr.ip().to_string(), right, "{host}");
        }
        let multicast = changed(|value| value["listen"]["host"] = json!("::ffff:224.0.0.1"));
        assert_eq!(places(&multicast), ["/listen/host"]);
    }

    #[test]
    fn unknown_keys_are_told_apart_from_faults() {
        let bytes = changed(|value| {
            value["algoritm"] = json!("x");
            value["backends"][0]["wight"] = json!(1);
        });
        let checked = check(&bytes, &local()).expect("unknown keys are no faults");
        let places: Vec<String> = checked
            .unknown_keys
            .0
            .into_iter()
            .map(|f| f.place)
            .collect();
        assert_eq!(places, ["/backends/0/wight", "/algoritm"]);
    }

    #[test]
    fn a_file_cut_at_any_byte_is_refused() {
        let whole = BASE.trim_end();
        for length in 0..whole.len() {
            assert!(
                !places(&whole.as_bytes()[..length]).is_empty(),
                "cut at {length}"
            );
        }
        for bad in ["", "{}", "[]", "\u{0}", "null"] {
            assert!(!places(bad.as_bytes()).is_empty(), "{bad:?}");
        }
        assert!(!places(&vec![b' '; MAX_FILE_BYTES + 1]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_check_panic(bytes in proptest::collection::vec(0u8.., 0..400)) {
            let _ = check(&bytes, &LocalAddresses::default());
        }
    }
}
