//! The two formats of `proxy_config.json`, and the only place that tells them apart: here a document
//! becomes a [`Config`], and a [`Config`] a document again.
//!
//! In the base format, `listen` is the listener `default`, and `algorithm`, `backends` and what belongs
//! to them the pool `default`. In the extended format, `listeners` and `pools` name others, and the
//! optional keys at the top are the defaults of every listener and pool. A key whose value is an object
//! (`health`, `ejection`, `gpu_aware`) is taken whole.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use super::{
    Algorithm, Backend, Config, DEFAULT_WEIGHT, Listener, LocalAddresses, MAX_BACKENDS, MAX_HOSTS,
    MAX_LISTENERS, MAX_POOLS, MAX_WEIGHT, Pool, Report, Skipped, WarmingShare, split_own,
};
use crate::address::{ALLOWED_BACKEND_IP, BackendAddr, parse_backend_ip};
use crate::batch::Batch;
use crate::fault::{Faults, pointer_step};
use crate::gpu_aware::GpuAware;
use crate::keys::Reader;
use crate::name::{ALLOWED_NAME, Name};
use crate::object::{Object, kind};
use crate::route::{self, Named, Routes};
use crate::settings::{ListenerSettings, PoolSettings, ProcessSettings};

const ALLOWED_HOST: &str = "an IPv4 or IPv6 address, 0.0.0.0 or :: for all";
const ALLOWED_LISTEN: &str = "{\"host\": IP, \"port\": PORT}";
const ALLOWED_LISTENERS: &str = "an array of listeners, each with name, host and port";
const ALLOWED_POOLS: &str = "an object of pools by name, each with backends";
/// What a listener takes: the word, TCP, UDP.
const PROTOCOLS: [(&str, (bool, bool)); 3] = [
    ("tcp", (true, false)),
    ("udp", (false, true)),
    ("tcp+udp", (true, true)),
];

/// JSON pointers into the document.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Of each listener.
    pub listeners: Vec<String>,
    /// Of the backends of each pool.
    pub backends: Vec<String>,
    /// Of the probe rules of each pool.
    pub health: Vec<String>,
}

/// What could be read of a document.
pub(super) struct Read {
    /// Without the skipped entries.
    pub config: Config,
    pub skipped: Vec<Skipped>,
    pub places: Places,
}

/// What the keys at the top say for every listener and every pool.
struct Defaults {
    listener: ListenerSettings,
    pool: PoolDefaults,
}

/// All of a pool but its name and its backends.
#[derive(Clone)]
struct PoolDefaults {
    algorithm: Algorithm,
    warming_share: WarmingShare,
    gpu_aware: GpuAware,
    settings: PoolSettings,
}

/// A listener, the pools that it names, and where it stands in the document.
struct ReadListener {
    /// Without its routes.
    listener: Listener,
    routes: Routes<Named>,
    place: String,
}

/// A pool and its backends with their indices.
struct ReadPool {
    name: Name,
    rules: PoolDefaults,
    backends: Vec<(usize, Backend)>,
    /// Of the backends.
    place: String,
    health_place: String,
}

/// `None` only if a part is missing without which there is no configuration; `faults` lists what is
/// wrong.
pub(super) fn read(
    document: &Map<String, Value>,
    local: &LocalAddresses,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<Read> {
    let mut object = Object::new(document, "");
    let listeners = object.take("listeners");
    let pools = object.take("pools");

    let listen = read_listen(&mut object, listeners.is_none(), faults, unknown_keys);
    let algorithm = object.take_choice("algorithm", &Algorithm::ALL, faults);
    let updated_at = object.take_number("updated_at", faults);
    let generation = object.take_integer("generation", 0, u64::MAX, faults);
    let warming_share = read_warming_share(&mut object, None, faults);
    let gpu_aware = GpuAware::read(&mut object, GpuAware::default(), faults, unknown_keys);
    let process = ProcessSettings::read(&mut object, faults);
    let listener = ListenerSettings::read(&mut object, None, faults);
    let settings = PoolSettings::read(&mut object, None, faults, unknown_keys);
    let defaults = Defaults {
        listener,
        pool: PoolDefaults {
            algorithm: algorithm.unwrap_or(Algorithm::WeightedRoundRobin),
            warming_share,
            gpu_aware,
            settings,
        },
    };
    let has_backends = object.take("backends").is_some();
    let base = (pools.is_none() || has_backends).then(|| ReadPool {
        name: Name::default(),
        rules: defaults.pool.clone(),
        backends: read_backends(&mut object, faults, unknown_keys),
        place: object.pointer("backends"),
        health_place: object.pointer("health"),
    });
    let mut pools: Vec<ReadPool> = base
        .into_iter()
        .chain(read_pools(
            pools,
            &defaults.pool,
            has_backends,
            faults,
            unknown_keys,
        ))
        .collect();
    // However they are written, they are the same.
    pools.sort_by_key(|pool| (pool.name != Name::default(), pool.name.clone()));
    object.unknown_keys(unknown_keys);

    let listen = listen.map(|mut listen| {
        listen.listener.settings = defaults.listener.clone();
        listen
    });
    // The listener of the base format is missing, and that has been said.
    if listen.is_none() && listeners.is_none() {
        return None;
    }
    let named = read_listeners(listeners, &defaults.listener, faults, unknown_keys);
    let mut all: Vec<ReadListener> = listen.into_iter().chain(named).collect();
    refuse_names_twice(&all, faults);
    refuse_addresses_twice(&all, faults);
    lead_to_pools(&mut all, &pools, document.get("pools"), faults);
    refuse_wrong_counts(&all, &pools, faults);
    Some(assemble(
        all,
        pools,
        process,
        (generation, updated_at),
        local,
    ))
}

fn assemble(
    listeners: Vec<ReadListener>,
    pools: Vec<ReadPool>,
    process: ProcessSettings,
    (generation, updated_at): (Option<u64>, Option<f64>),
    local: &LocalAddresses,
) -> Read {
    let mut places = Places::default();
    let mut config = Config {
        generation,
        updated_at,
        listeners: Vec::with_capacity(listeners.len()),
        pools: Vec::with_capacity(pools.len()),
        process,
    };
    for read in listeners {
        places.listeners.push(read.place);
        config.listeners.push(read.listener);
    }
    let enabled = config.listeners.iter().filter(|one| one.enabled);
    let listening: Vec<SocketAddr> = enabled.flat_map(Listener::addrs).collect();
    let mut skipped = Vec::new();
    for pool in pools {
        let (name, place) = (pool.name, pool.place);
        let backends = pool.backends.into_iter();
        let (backends, own) = split_own(&name, &place, backends, &listening, local);
        skipped.extend(own);
        places.backends.push(place);
        places.health.push(pool.health_place);
        config.pools.push(Pool {
            name,
            algorithm: pool.rules.algorithm,
            warming_share: pool.rules.warming_share,
            gpu_aware: pool.rules.gpu_aware,
            settings: pool.rules.settings,
            backends,
        });
    }
    Read {
        config,
        skipped,
        places,
    }
}

/// The listener of the base format; missing, it is a fault only where it `is_required`. Its settings are
/// those at the top.
fn read_listen(
    object: &mut Object,
    is_required: bool,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<ReadListener> {
    let value = match is_required {
        true => object.take_required("listen", ALLOWED_LISTEN, faults)?,
        false => object.take("listen")?,
    };
    let place = object.pointer("listen");
    let Value::Object(map) = value else {
        faults.add(&place, kind(value), ALLOWED_LISTEN);
        return None;
    };
    let mut listen = Object::new(map, place.as_str());
    let addr = read_listen_addr(&mut listen, faults);
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
    let listener = Listener {
        tcp,
        udp,
        ..Listener::new(Name::default(), addr?, 0)
    };
    let pool = Named {
        name: Name::default(),
        place: format!("{place}/pool"),
    };
    Some(ReadListener {
        listener,
        routes: Routes::to(pool),
        place,
    })
}

/// Reads `host` and `port`; both are required.
fn read_listen_addr(object: &mut Object, faults: &mut Faults) -> Option<SocketAddr> {
    let host = object.take_required("host", ALLOWED_HOST, faults);
    let ip = host.and_then(|host| read_host(host, &object.pointer("host"), faults));
    let port = read_port(object, faults);
    Some(SocketAddr::new(ip?, port?))
}

/// The same where `host` may be several.
fn read_listen_addrs(object: &mut Object, faults: &mut Faults) -> Option<(Vec<IpAddr>, u16)> {
    let place = object.pointer("host");
    let hosts = match object.take_required("host", ALLOWED_HOST, faults) {
        Some(Value::Array(items)) if (1..=MAX_HOSTS).contains(&items.len()) => {
            let read = items.iter().enumerate();
            let read =
                read.map(|(index, item)| read_host(item, &format!("{place}/{index}"), faults));
            read.collect::<Vec<_>>().into_iter().collect()
        }
        Some(Value::Array(items)) => {
            let allowed = format!("an address, or an array of 1 to {MAX_HOSTS} addresses");
            faults.add(&place, format!("{} addresses", items.len()), allowed);
            None
        }
        Some(host) => read_host(host, &place, faults).map(|ip| vec![ip]),
        None => None,
    };
    let port = read_port(object, faults);
    Some((hosts?, port?))
}

fn read_host(value: &Value, place: &str, faults: &mut Faults) -> Option<IpAddr> {
    let ip = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    // `::ffff:127.0.0.1` is `127.0.0.1`, and `::ffff:0.0.0.0` all of IPv4.
    let ip = ip.map(|ip| ip.to_canonical());
    let ip = ip.filter(|ip| !ip.is_multicast());
    if ip.is_none() {
        faults.add(place, value, ALLOWED_HOST);
    }
    ip
}

fn read_port(object: &mut Object, faults: &mut Faults) -> Option<u16> {
    object.take_required("port", "an integer from 1 to 65535", faults);
    let port = object.take_integer("port", 1, 65535, faults);
    port.map(|port| port as u16)
}

/// The entries of `listeners` that could be read.
fn read_listeners(
    listeners: Option<&Value>,
    default: &ListenerSettings,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Vec<ReadListener> {
    let items = match listeners {
        None => return Vec::new(),
        Some(Value::Array(items)) if items.len() <= MAX_LISTENERS => items,
        Some(Value::Array(items)) => {
            let found = format!("{} listeners", items.len());
            faults.add(
                "/listeners",
                found,
                format!("at most {MAX_LISTENERS} listeners"),
            );
            return Vec::new();
        }
        Some(other) => {
            faults.add("/listeners", kind(other), ALLOWED_LISTENERS);
            return Vec::new();
        }
    };
    let places = (0..).map(|index| format!("/listeners/{index}"));
    let each = items.iter().zip(places);
    each.filter_map(|(item, place)| read_listener(item, place, default, faults, unknown_keys))
        .collect()
}

fn read_listener(
    value: &Value,
    place: String,
    default: &ListenerSettings,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Option<ReadListener> {
    let Value::Object(map) = value else {
        faults.add(&place, kind(value), "an object with name, host and port");
        return None;
    };
    let mut object = Object::new(map, place.as_str());
    object.take_required("name", ALLOWED_NAME, faults);
    let name = take_name(&mut object, "name", faults);
    let addrs = read_listen_addrs(&mut object, faults);
    let enabled = object.take_bool("enabled", faults).unwrap_or(true);
    let protocol = object.take_choice("protocol", &PROTOCOLS, faults);
    let (tcp, udp) = protocol.unwrap_or((true, true));
    let routes = route::read(&mut object, !udp, faults, unknown_keys);
    let settings = ListenerSettings::read(&mut object, Some(default), faults);
    object.unknown_keys(unknown_keys);
    let (hosts, port) = addrs?;
    let listener = Listener {
        name: name?,
        hosts,
        port,
        enabled,
        tcp,
        udp,
        routes: Routes::default(),
        settings,
    };
    Some(ReadListener {
        listener,
        routes,
        place,
    })
}

fn take_name(object: &mut Object, key: &'static str, faults: &mut Faults) -> Option<Name> {
    let value = object.take(key)?;
    let name = value.as_str().and_then(Name::new);
    if name.is_none() {
        faults.add(&object.pointer(key), value, ALLOWED_NAME);
    }
    name
}

/// The entries of `pools` that could be read. `has_base` says that the `backends` at the top are the pool
/// `default`.
fn read_pools(
    pools: Option<&Value>,
    default: &PoolDefaults,
    has_base: bool,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Vec<ReadPool> {
    let map = match pools {
        None => return Vec::new(),
        Some(Value::Object(map)) if map.len() <= MAX_POOLS => map,
        Some(Value::Object(map)) => {
            let found = format!("{} pools", map.len());
            faults.add("/pools", found, format!("at most {MAX_POOLS} pools"));
            return Vec::new();
        }
        Some(other) => {
            faults.add("/pools", kind(other), ALLOWED_POOLS);
            return Vec::new();
        }
    };
    let mut read = Vec::with_capacity(map.len());
    for (key, value) in map {
        let place = format!("/pools{}", pointer_step(key));
        let Some(name) = Name::new(key) else {
            faults.add(&place, format!("the name {key:?}"), ALLOWED_NAME);
            continue;
        };
        if has_base && name == Name::default() {
            let allowed = "the pool default either here or as backends at the top";
            faults.add(&place, "a second pool default", allowed);
            continue;
        }
        let Value::Object(pool) = value else {
            faults.add(&place, kind(value), "an object with backends");
            continue;
        };
        let pool = Object::new(pool, place);
        read.push(read_pool(name, pool, default, faults, unknown_keys));
    }
    read
}

fn read_pool(
    name: Name,
    mut object: Object,
    default: &PoolDefaults,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> ReadPool {
    let algorithm = object.take_choice("algorithm", &Algorithm::ALL, faults);
    let warming_share = read_warming_share(&mut object, Some(default.warming_share), faults);
    let rules = PoolDefaults {
        algorithm: algorithm.unwrap_or(default.algorithm),
        warming_share,
        gpu_aware: GpuAware::read(&mut object, default.gpu_aware, faults, unknown_keys),
        settings: PoolSettings::read(&mut object, Some(&default.settings), faults, unknown_keys),
    };
    let backends = read_backends(&mut object, faults, unknown_keys);
    object.unknown_keys(unknown_keys);
    ReadPool {
        name,
        rules,
        backends,
        place: object.pointer("backends"),
        health_place: object.pointer("health"),
    }
}

fn read_warming_share(
    object: &mut Object,
    top: Option<WarmingShare>,
    faults: &mut Faults,
) -> WarmingShare {
    Reader::new(object, faults).choice("warming_share", &WarmingShare::ALL, top)
}

fn refuse_names_twice(listeners: &[ReadListener], faults: &mut Faults) {
    let mut places: HashMap<&Name, &str> = HashMap::new();
    for ReadListener {
        listener, place, ..
    } in listeners
    {
        if let Some(first) = places.insert(&listener.name, place) {
            let found = format!("{:?}, which {first} has", listener.name.as_str());
            faults.add(&format!("{place}/name"), found, "each name once");
        }
    }
}

/// Each address and protocol leads to one listener, also one that another listener takes for all addresses: which of
/// the two the kernel would choose depends on more than the file.
fn refuse_addresses_twice(listeners: &[ReadListener], faults: &mut Faults) {
    let mut owners: HashMap<(u16, &str), Vec<(IpAddr, &Name)>> = HashMap::new();
    let enabled = listeners.iter().filter(|one| one.listener.enabled);
    for ReadListener {
        listener, place, ..
    } in enabled
    {
        let protocols = [("tcp", listener.tcp), ("udp", listener.udp)];
        for (protocol, _) in protocols.into_iter().filter(|(_, is_taken)| *is_taken) {
            let owners = owners.entry((listener.port, protocol)).or_default();
            for host in &listener.hosts {
                let owner = owners
                    .iter()
                    .find(|(other, _)| share_addresses(*host, *other));
                if let Some((other, owner)) = owner {
                    let addr = SocketAddr::new(*host, listener.port);
                    let other = SocketAddr::new(*other, listener.port);
                    let found = match addr == other {
                        true => format!("{addr}/{protocol}, which listener {owner} has"),
                        false => format!(
                            "{addr}/{protocol}, while listener {owner} has {other}/{protocol}"
                        ),
                    };
                    faults.add(place, found, "each address and protocol once");
                }
                owners.push((*host, &listener.name));
            }
        }
    }
}

/// Whether a client can reach both at one address. All of IPv4 beside all of IPv6 is no question: each family has its
/// own.
fn share_addresses(one: IpAddr, other: IpAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let is_one_for_all = one.is_unspecified() && other.is_unspecified();
    one == other || !is_one_for_all && (covers(one, other) || covers(other, one))
}

/// Finds the pools that the listeners name. What is wrong with one that is `declared` has been said.
fn lead_to_pools(
    listeners: &mut [ReadListener],
    pools: &[ReadPool],
    declared: Option<&Value>,
    faults: &mut Faults,
) {
    let is_declared = |name: &Name| match declared {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => map.contains_key(name.as_str()),
        Some(_) => true,
    };
    let at: HashMap<&Name, usize> = pools.iter().map(|pool| &pool.name).zip(0..).collect();
    for ReadListener {
        listener, routes, ..
    } in listeners
    {
        listener.routes = routes.map(|Named { name, place }| match at.get(name) {
            Some(at) => *at,
            // The faults keep it from being used.
            None if is_declared(name) => usize::MAX,
            None => {
                let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
                let allowed = match names.is_empty() {
                    true => "a pool; the file has none".to_owned(),
                    false => format!("one of {}", names.join(", ")),
                };
                faults.add(place, format!("{:?}", name.as_str()), allowed);
                usize::MAX
            }
        });
    }
}

/// Counts those of the base format too, which stand in no list.
fn refuse_wrong_counts(listeners: &[ReadListener], pools: &[ReadPool], faults: &mut Faults) {
    for (place, what, count, most) in [
        ("/listeners", "listeners", listeners.len(), MAX_LISTENERS),
        ("/pools", "pools", pools.len(), MAX_POOLS),
    ] {
        if count > most {
            let allowed = format!("at most {most}, with those of the base format");
            faults.add(place, format!("{count} {what}"), allowed);
        }
    }
    if pools.is_empty() && faults.is_empty() {
        faults.add("/pools", "no pool", "at least one pool");
    }
    let count: usize = pools.iter().map(|pool| pool.backends.len()).sum();
    if count > MAX_BACKENDS {
        let found = format!("{count} backends");
        let allowed = format!("at most {MAX_BACKENDS} backends in all pools together");
        faults.add("/pools", found, allowed);
    }
}

/// The backends that could be read, each with its index.
fn read_backends(
    object: &mut Object,
    faults: &mut Faults,
    unknown_keys: &mut Faults,
) -> Vec<(usize, Backend)> {
    const ALLOWED: &str = "an array, which may be empty";
    let Some(value) = object.take_required("backends", ALLOWED, faults) else {
        return Vec::new();
    };
    let place = object.pointer("backends");
    let Value::Array(items) = value else {
        faults.add(&place, kind(value), ALLOWED);
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

impl Config {
    /// The configuration as a file again, every key with its effective value: in the base format where
    /// that can say it, else in the extended one. [`check`](super::check) reads it back to an equal
    /// `Config`.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("updated_at".into(), json!(self.updated_at));
        object.insert("generation".into(), json!(self.generation));
        object.extend(self.process.to_json());
        match (&*self.listeners, &*self.pools) {
            ([listener], [pool]) if listener.is_of_base() && pool.name == Name::default() => {
                object.insert("listen".into(), listener.to_base_json());
                object.extend(listener.settings.to_json());
                object.extend(pool.to_json());
            }
            (listeners, pools) => {
                let listeners = listeners.iter();
                let listeners = listeners.map(|listener| listener.to_json(pools));
                let pools = pools.iter();
                let pools: Map<String, Value> = pools
                    .map(|pool| (pool.name.to_string(), Value::Object(pool.to_json())))
                    .collect();
                object.insert("listeners".into(), listeners.collect());
                object.insert("pools".into(), Value::Object(pools));
            }
        }
        Value::Object(object)
    }
}

impl Pool {
    fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("algorithm".into(), self.algorithm.name().into());
        let share = WarmingShare::ALL
            .iter()
            .find(|(_, share)| *share == self.warming_share);
        object.insert("warming_share".into(), json!(share.map(|(name, _)| name)));
        object.insert("gpu_aware".into(), json!(self.gpu_aware));
        object.extend(self.settings.to_json());
        let backends = self.backends.iter().map(Backend::to_json);
        object.insert("backends".into(), backends.collect());
        object
    }
}

impl Listener {
    /// Whether the base format can say all of it, where it has but one pool.
    fn is_of_base(&self) -> bool {
        let is_plain = self.hosts.len() == 1 && self.enabled;
        self.name == Name::default() && is_plain && self.routes.only_pool().is_some()
    }

    fn to_base_json(&self) -> Value {
        let (host, port) = (self.hosts.first(), self.port);
        json!({ "host": host, "port": port, "tcp": self.tcp, "udp": self.udp })
    }

    fn to_json(&self, pools: &[Pool]) -> Value {
        let mut protocols = PROTOCOLS.iter();
        let protocol = protocols.find(|(_, takes)| *takes == (self.tcp, self.udp));
        let mut object = self.settings.to_json();
        object.insert("name".into(), self.name.as_str().into());
        let host = match &*self.hosts {
            [host] => json!(host),
            hosts => json!(hosts),
        };
        object.insert("host".into(), host);
        object.insert("port".into(), self.port.into());
        object.insert("enabled".into(), self.enabled.into());
        object.insert("protocol".into(), json!(protocol.map(|(word, _)| word)));
        let named = self.routes.map(|at| pools[*at].name.clone());
        named.write(&mut object);
        Value::Object(object)
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
