//! From merged rows to the bytes of `proxy_config.json`, checked as the proxy will check them.
//!
//! Pure. An entry that the proxy would refuse is left out and named; it never affects the good ones. With nothing
//! but the listener and the pool `default`, the file is in the base format, else in the extended one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use contract::config::{MAX_BACKENDS, is_own_listener};
use contract::status::Running;
use contract::{
    Backend, BackendAddr, BackendKey, DEFAULT_NAME, Fault, Faults, LocalAddresses, Name, check,
};
use serde_json::{Map, Value, json};

use crate::base::backend_at;
use crate::services::{self, Kind, Listening, with_name};
use crate::sources::{push_backends, push_items};

/// Everything of the file but backends, `updated_at` and `generation`: the keys at the top in file order, then each
/// listener and each pool ([`services`]).
pub type Head = Vec<(String, Value)>;

/// What is to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub head: Head,
    /// The backends of each pool.
    pub pools: BTreeMap<Name, Vec<Backend>>,
}

/// A backend that is not published, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftOut {
    pub key: BackendKey,
    pub why: String,
}

/// Addresses that no backend may have, since sessions to them would loop back.
#[derive(Debug, Clone)]
pub struct OwnAddresses {
    /// Where control listens: through the proxy, any client would reach it from loopback.
    pub control: Vec<SocketAddr>,
    /// The addresses of control's host.
    pub local: LocalAddresses,
    pub proxy: ProxyAddresses,
}

/// The proxy's own addresses as it reports them, since it may be in another container or network
/// namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The addresses of its host; empty if it does not report them.
    pub addresses: Vec<IpAddr>,
    pub listeners: Vec<SocketAddr>,
}

impl ProxyAddresses {
    pub fn of(running: &Running) -> ProxyAddresses {
        let listeners = running.listeners.iter().map(|listener| listener.addr);
        let mut addresses: Vec<IpAddr> =
            running.addresses.iter().map(IpAddr::to_canonical).collect();
        addresses.sort();
        addresses.dedup();
        ProxyAddresses {
            addresses,
            listeners: listeners.collect(),
        }
    }
}

impl OwnAddresses {
    /// The addresses of the proxy's host; those of control's if the proxy does not report them.
    pub fn of_proxy(&self) -> LocalAddresses {
        match self.proxy.addresses.is_empty() {
            true => self.local.clone(),
            false => LocalAddresses(self.proxy.addresses.clone()),
        }
    }

    /// Why `addr` cannot be a backend of a proxy with these listeners.
    pub fn refuse(&self, addr: BackendAddr, listening: &[Listening]) -> Option<String> {
        let local = self.of_proxy();
        let wanted = listening.iter().map(|one| &one.addr);
        let mut listeners = wanted.chain(&self.proxy.listeners);
        if let Some(listen) = listeners.find(|listen| is_own_listener(addr, **listen, &local)) {
            return Some(format!("it is the proxy's own listener {listen}"));
        }
        let mut control = self.control.iter();
        if let Some(control) = control.find(|own| is_own_listener(addr, **own, &self.local)) {
            return Some(format!("it is the control server's own address {control}"));
        }
        None
    }

    /// The address of control that conflicts with this listener.
    pub fn control_at(&self, listening: &Listening) -> Option<SocketAddr> {
        if !listening.is_tcp || !self.shares_network() {
            return None;
        }
        let mut control = self.control.iter();
        { control.find(|own| overlaps(**own, listening.addr)) }.copied()
    }

    /// Whether control and the proxy see the same addresses, as far as the proxy reports them.
    fn shares_network(&self) -> bool {
        let mut own = self
            .local
            .0
            .iter()
            .filter(|ip| !ip.is_loopback())
            .peekable();
        self.proxy.addresses.is_empty()
            || own.peek().is_none()
            || own.any(|ip| self.proxy.addresses.contains(&ip.to_canonical()))
    }
}

/// Whether two sockets cannot both listen on these. `::` takes IPv4 too.
fn overlaps(one: SocketAddr, two: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), two.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one.port() == two.port() && (a == b || covers(a, b) || covers(b, a))
}

impl Plan {
    /// A plan without backends.
    pub fn of_head(head: Head) -> Plan {
        let pools = BTreeMap::new();
        Plan { head, pools }
    }

    /// Gives listeners that the settings do not make the value that the proxy last accepted, and the pool that it leads
    /// to, where the rest lets them stand: what serves goes on, also when control starts on settings that do not fit.
    /// What was kept is the answer.
    pub fn keep_accepted(&mut self, unusable: impl Iterator<Item = Name>, accepted: &Head) -> Head {
        let before: BTreeSet<String> = self.head.iter().map(|(key, _)| key.clone()).collect();
        let accepted = Plan::of_head(accepted.clone());
        for name in unusable {
            let key = Kind::Listener.key(name.as_str());
            let Some(listener) = accepted.value(&key) else {
                continue;
            };
            let mut with = Plan::of_head(self.head.clone());
            with.set(&key, Some(listener));
            let pool = listener.get("pool").and_then(Value::as_str);
            let pool = pool.map(|pool| Kind::Pool.key(pool));
            if let Some(pool) = pool.filter(|pool| with.value(pool).is_none()) {
                with.set(&pool, accepted.value(&pool));
            }
            if check(&with.render(0, 0), &LocalAddresses::default()).is_ok() {
                self.head = with.head;
            }
        }
        let kept = self.head.iter().filter(|(key, _)| !before.contains(key));
        kept.cloned().collect()
    }

    /// All backends, by pool.
    pub fn backends(&self) -> impl Iterator<Item = (BackendKey, &Backend)> {
        let pools = self.pools.iter();
        pools.flat_map(|(pool, backends)| {
            let key = |backend: &Backend| BackendKey::new(pool.clone(), backend.addr);
            backends.iter().map(move |backend| (key(backend), backend))
        })
    }

    pub fn backend(&self, key: &BackendKey) -> Option<&Backend> {
        let mut of_pool = self.pools.get(&key.pool)?.iter();
        of_pool.find(|backend| backend.addr == key.addr)
    }

    /// The backend at a place in the rendered file, a JSON pointer.
    pub fn backend_at(&self, place: &str) -> Option<BackendKey> {
        let (pool, index) = backend_at(place)?;
        let addr = self.pools.get(&pool)?.get(index)?.addr;
        Some(BackendKey::new(pool, addr))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&BackendKey) -> bool) {
        for (pool, backends) in &mut self.pools {
            backends.retain(|backend| keep(&BackendKey::new(pool.clone(), backend.addr)));
        }
    }

    /// The listeners of the head.
    pub fn listening(&self) -> Vec<Listening> {
        services::listening(&self.head)
    }

    /// Whether the head defines this pool.
    pub fn has_pool(&self, pool: &Name) -> bool {
        pool.as_str() == DEFAULT_NAME || self.value(&Kind::Pool.key(pool.as_str())).is_some()
    }

    /// The key of the head at a place in the rendered file, a JSON pointer.
    pub fn key_at(&self, place: &str) -> Option<String> {
        let mut steps = place.strip_prefix('/')?.split('/');
        let first = steps.next()?.replace("~1", "/").replace("~0", "~");
        let key = match (first.as_str(), steps.next()) {
            ("listeners", Some(index)) => {
                let (key, _) = self.named(Kind::Listener).nth(index.parse().ok()?)?;
                key.to_owned()
            }
            ("pools", Some(name)) => Kind::Pool.key(name),
            (_, _) => first,
        };
        self.value(&key).is_some().then_some(key)
    }

    /// A fault of the rendered file with the name of its listener in place of the index.
    pub fn by_name(&self, fault: &Fault) -> Fault {
        let mut named = fault.clone();
        if let Some(key) = self.key_at(&fault.place)
            && let Some((Kind::Listener, _)) = services::part(&key)
        {
            let rest: Vec<&str> = fault.place.splitn(4, '/').skip(3).collect();
            let rest = rest.iter().map(|rest| format!("/{rest}"));
            named.place = format!("/{key}{}", rest.collect::<String>());
        }
        named
    }

    /// The place in the rendered file of a key of the head.
    pub fn place_of(&self, key: &str) -> String {
        let mut listeners = self.named(Kind::Listener);
        match listeners.position(|(own, _)| own == key) {
            Some(index) => format!("/listeners/{index}"),
            None => format!("/{key}"),
        }
    }

    fn named(&self, kind: Kind) -> impl Iterator<Item = (&str, &Value)> {
        let named = self.head.iter();
        let named =
            named.filter(move |(key, _)| services::part(key).is_some_and(|(own, _)| own == kind));
        named.map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key of the head.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let found = self.head.iter().find(|(own, _)| own == key);
        found.map(|(_, value)| value)
    }

    /// Sets a key of the head; `None` removes the key.
    pub fn set(&mut self, key: &str, value: Option<&Value>) {
        let place = self.head.iter().position(|(own, _)| own == key);
        match (place, value) {
            (Some(place), Some(value)) => self.head[place].1 = value.clone(),
            (Some(place), None) => _ = self.head.remove(place),
            // Listeners and pools stay in their order, behind the keys at the top.
            (None, Some(value)) => {
                let part = services::part(key);
                let after = |(own, _): &(String, Value)| match (services::part(own), &part) {
                    (Some(own), Some(part)) => own > *part,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                let place = self.head.iter().position(after);
                let place = place.unwrap_or(self.head.len());
                self.head.insert(place, (key.to_owned(), value.clone()));
            }
            (None, None) => {}
        }
    }

    /// Whether both are the same except for load figures. The report interval is not one of them: the proxy
    /// learns it only from the file.
    pub fn has_same_state(&self, other: &Plan) -> bool {
        fn states(plan: &Plan) -> impl Iterator<Item = impl PartialEq> {
            let heartbeat = |b: &Backend| (b.batch, b.report.heartbeat_ms);
            let backends = plan.backends();
            backends.map(move |(key, b)| (key, b.weight, b.enabled, b.is_warming_up, heartbeat(b)))
        }
        self.head == other.head && states(self).eq(states(other))
    }

    /// The file's bytes: base keys first, one listener or backend a line. Backends of a pool that the head does
    /// not define have no place: [`Plan::fit`] leaves them out.
    pub fn render(&self, generation: u64, updated_at: u64) -> Vec<u8> {
        const WRITTEN: &str = "writing to a String does not fail";
        let mut text = String::from("{\n");
        let numbers = [("updated_at", updated_at), ("generation", generation)];
        let numbers = numbers.map(|(key, value)| (key.to_owned(), json!(value)));
        let top = { self.head.iter() }.filter(|(key, _)| services::part(key).is_none());
        for (key, value) in top.chain(&numbers) {
            let key = Value::from(key.as_str());
            writeln!(text, "  {key}: {value},").expect(WRITTEN);
        }
        let mut listeners = self.named(Kind::Listener).peekable();
        if listeners.peek().is_some() {
            text.push_str("  \"listeners\": [");
            let listeners = listeners.filter_map(|(key, value)| {
                let (_, name) = services::part(key)?;
                Some(with_name(&name, value.as_object()?))
            });
            push_items(&mut text, listeners);
            text.push_str(",\n");
        }
        let pools: Vec<String> = { self.named(Kind::Pool) }
            .filter_map(|(key, value)| {
                let (_, name) = services::part(key)?;
                Some(self.pool_text(&name, value.as_object()?))
            })
            .collect();
        let has_base = self.value(&Kind::Pool.key(DEFAULT_NAME)).is_none();
        if !pools.is_empty() {
            let end = if has_base { "," } else { "\n}" };
            let pools = pools.join(",\n");
            writeln!(text, "  \"pools\": {{\n{pools}\n  }}{end}").expect(WRITTEN);
        }
        if has_base {
            let backends = self.pools.get(&Name::default()).into_iter().flatten();
            push_backends(&mut text, backends.map(Backend::to_json));
        }
        text.into_bytes()
    }

    /// Whether the proxy would take the head.
    ///
    /// # Errors
    /// The faults, each at the name of its listener or pool.
    pub fn check(&self, local: &LocalAddresses) -> Result<(), Faults> {
        let checked = check(&self.render(0, 0), local);
        let named = |faults: Faults| Faults(faults.0.iter().map(|one| self.by_name(one)).collect());
        checked.map(drop).map_err(named)
    }

    /// A member of `pools`, as deep as it stands there.
    fn pool_text(&self, name: &Name, keys: &Map<String, Value>) -> String {
        let mut text = format!("    \"{name}\": {{\n");
        for (key, value) in keys {
            let key = Value::from(key.as_str());
            writeln!(text, "      {key}: {value},").expect("writing to a String does not fail");
        }
        let backends = self.pools.get(name).into_iter().flatten();
        let mut items = String::new();
        push_items(&mut items, backends.map(Backend::to_json));
        text.push_str("      \"backends\": [");
        text.push_str(&items.replace('\n', "\n    "));
        text.push_str("\n    }");
        text
    }

    /// Leaves out the backends that the proxy would refuse, each with the reason.
    ///
    /// # Errors
    /// Faults outside the backends: then nothing can be published.
    pub fn fit(self, own: &OwnAddresses) -> Result<(Plan, Vec<LeftOut>), Faults> {
        let listening = self.listening();
        let Plan { head, pools } = self;
        let mut left_out = Vec::new();
        let mut plan = Plan::of_head(head);
        let mut count = 0;
        for (pool, backends) in pools {
            let mut kept = Vec::with_capacity(backends.len());
            let is_defined = plan.has_pool(&pool);
            for backend in backends {
                let why = match own.refuse(backend.addr, &listening) {
                    None if !is_defined => Some(format!("no pool {pool} is defined")),
                    None if count == MAX_BACKENDS => {
                        Some(format!("more than {MAX_BACKENDS} backends"))
                    }
                    why => why,
                };
                match why {
                    Some(why) => {
                        let key = BackendKey::new(pool.clone(), backend.addr);
                        left_out.push(LeftOut { key, why });
                    }
                    None => {
                        kept.push(backend);
                        count += 1;
                    }
                }
            }
            if is_defined {
                plan.pools.insert(pool, kept);
            }
        }
        let local = own.of_proxy();
        // The first check reports all faults, so the second one finds none in a backend.
        if let Err(faults) = check(&plan.render(0, 0), &local) {
            plan.drop_faulty(&faults, &mut left_out);
            check(&plan.render(0, 0), &local)?;
        }
        Ok((plan, left_out))
    }

    fn drop_faulty(&mut self, faults: &Faults, left_out: &mut Vec<LeftOut>) {
        let faults = faults.0.iter();
        let mut faulty: Vec<((Name, usize), String)> = faults
            .filter_map(|fault| Some((backend_at(&fault.place)?, fault.to_string())))
            .collect();
        faulty.sort_by(|(one, _), (other, _)| other.cmp(one));
        faulty.dedup_by(|(one, _), (other, _)| one == other);
        for ((pool, index), why) in faulty {
            let of_pool = self.pools.get_mut(&pool);
            if let Some(backends) = of_pool.filter(|backends| index < backends.len()) {
                let key = BackendKey::new(pool, backends.remove(index).addr);
                left_out.push(LeftOut { key, why });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use contract::{Batch, Report};
    use proptest::prelude::*;

    fn backend(ip: [u8; 4], port: u16) -> Backend {
        Backend {
            addr: BackendAddr::new(ip.into(), port),
            weight: 10,
            enabled: true,
            is_warming_up: false,
            report: Report::default(),
            batch: None,
        }
    }

    fn plan(backends: Vec<Backend>) -> Plan {
        Plan {
            head: Layer::default().head(),
            pools: [(Name::default(), backends)].into(),
        }
    }

    fn of_default(plan: &Plan) -> &[Backend] {
        &plan.pools[&Name::default()]
    }

    fn own() -> OwnAddresses {
        OwnAddresses {
            control: vec!["0.0.0.0:8080".parse().expect("a literal")],
            local: LocalAddresses(vec![[192, 168, 7, 7].into()]),
            proxy: ProxyAddresses::default(),
        }
    }

    #[test]
    fn the_rendered_file_has_the_base_keys_and_is_read_back_the_same() {
        let mut one = backend([10, 0, 0, 1], 9001);
        one.report.gpu_usage = Some(0.25);
        for plan in [plan(vec![one, backend([10, 0, 0, 2], 1)]), plan(vec![])] {
            let bytes = plan.render(7, 1_730_000_000);
            let checked = check(&bytes, &LocalAddresses::default()).expect("valid");
            assert!(checked.unknown_keys.is_empty());
            assert_eq!(checked.config.generation, Some(7));
            assert_eq!(checked.config.pools[0].backends, of_default(&plan));
            let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else {
                panic!("an object")
            };
            let keys: Vec<&str> = document.keys().map(String::as_str).collect();
            let base = [
                "listen",
                "algorithm",
                "updated_at",
                "generation",
                "backends",
            ];
            assert_eq!(keys, base, "optional keys only where they were set");
            assert_eq!(Layer::of_published(&document).head(), plan.head);
        }
    }

    #[test]
    fn what_the_proxy_would_refuse_is_left_out_alone_and_named() {
        let backends = vec![
            backend([10, 0, 0, 1], 9001),
            backend([127, 0, 0, 1], 10080),
            backend([192, 168, 7, 7], 8080),
            backend([10, 0, 0, 2], 9001),
            backend([10, 0, 0, 1], 9001),
        ];
        let (fitted, left_out) = plan(backends).fit(&own()).expect("fits");
        let kept: Vec<String> = fitted.backends().map(|(key, _)| key.to_string()).collect();
        assert_eq!(kept, ["10.0.0.1:9001", "10.0.0.2:9001"]);
        let out: Vec<String> = left_out.iter().map(|out| out.key.to_string()).collect();
        assert_eq!(
            out,
            ["127.0.0.1:10080", "192.168.7.7:8080", "10.0.0.1:9001"]
        );
    }

    #[test]
    fn a_backend_of_a_pool_that_is_not_defined_is_left_out_and_named() {
        let mut both = plan(vec![backend([10, 0, 0, 1], 9001)]);
        let chat = Name::new("chat").expect("a name");
        let same = vec![backend([10, 0, 0, 1], 9001), backend([127, 0, 0, 1], 10080)];
        both.pools.insert(chat, same);
        let alone = plan(vec![backend([10, 0, 0, 1], 9001)]);
        assert!(!both.has_same_state(&alone));
        let (fitted, left_out) = both.fit(&own()).expect("fits");
        assert!(fitted.has_same_state(&alone));
        assert_eq!(fitted.render(7, 8), alone.render(7, 8));
        let out: Vec<String> = { left_out.iter() }
            .map(|out| format!("{}: {}", out.key, out.why))
            .collect();
        let expected = [
            "chat/10.0.0.1:9001: no pool chat is defined".to_owned(),
            "chat/127.0.0.1:10080: it is the proxy's own listener 0.0.0.0:10080".to_owned(),
        ];
        assert_eq!(out, expected);
    }

    /// Two services beside `default`, with one address in two pools.
    fn several() -> Plan {
        let layer = Layer::default().patched(
            json!({"proxy": {
                "idle_timeout_ms": 9,
                "listeners": [
                    {"name": "dns", "host": "127.0.0.1", "port": 7001, "pool": "dns"},
                    {"name": "chat", "host": "::1", "port": 7002, "pool": "chat", "protocol": "tcp"},
                ],
                "pools": {"chat": {"algorithm": "gpu_aware"}, "dns": {}},
            }})
            .as_object()
            .expect("an object"),
        );
        let mut plan = Plan::of_head(layer.expect("good").head());
        let name = |name| Name::new(name).expect("a name");
        let in_chat = Backend {
            weight: 3,
            ..backend([10, 0, 0, 1], 9001)
        };
        plan.pools = BTreeMap::from([
            (Name::default(), vec![backend([10, 0, 0, 1], 9001)]),
            (name("chat"), vec![in_chat, backend([10, 0, 0, 2], 9001)]),
            (name("dns"), vec![]),
        ]);
        plan
    }

    #[test]
    fn several_services_are_written_in_the_extended_format_and_read_back_the_same() {
        let plan = several();
        let bytes = plan.render(7, 8);
        let text = String::from_utf8(bytes.clone()).expect("text");
        let checked = check(&bytes, &LocalAddresses::default()).expect(&text);
        assert!(checked.unknown_keys.is_empty());
        let Ok(Value::Object(document)) = serde_json::from_slice(&bytes) else {
            panic!("an object: {text}")
        };
        let pools = checked.config.pools.into_iter();
        let pools = pools.map(|pool| (pool.name, pool.backends)).collect();
        let head = Layer::of_published(&document).head();
        assert_eq!(Plan { head, pools }, plan);
        let lines = |start: &str| {
            let lines = text
                .lines()
                .filter(|line| line.trim_start().starts_with(start));
            lines.count()
        };
        assert_eq!((lines("{\"name\""), lines("{\"ip\"")), (2, 3), "{text}");
    }

    #[test]
    fn each_place_of_the_file_is_one_listener_pool_or_backend() {
        let mut plan = several();
        for (place, key) in [
            ("/listen/port", Some("listen")),
            ("/listeners/0", Some("listeners/chat")),
            ("/listeners/1/port", Some("listeners/dns")),
            ("/listeners/2", None),
            ("/listeners", None),
            ("/pools/chat/algorithm", Some("pools/chat")),
            ("/pools/gone", None),
            ("/idle_timeout_ms", Some("idle_timeout_ms")),
            ("", None),
        ] {
            assert_eq!(plan.key_at(place).as_deref(), key, "{place}");
        }
        assert_eq!(plan.place_of("listeners/dns"), "/listeners/1");
        assert_eq!(plan.place_of("listen"), "/listen");
        let at = |place| plan.backend_at(place).map(|key| key.to_string());
        assert_eq!(
            at("/pools/chat/backends/1").as_deref(),
            Some("chat/10.0.0.2:9001")
        );
        assert_eq!(at("/backends/0").as_deref(), Some("10.0.0.1:9001"));
        // A value that is held back comes in where it stood.
        let before = plan.head.clone();
        for key in ["listeners/chat", "pools/chat", "listeners/dns"] {
            let value = plan.value(key).cloned();
            plan.set(key, None);
            plan.set(key, value.as_ref());
            assert_eq!(plan.head, before, "{key}");
        }
    }

    #[test]
    fn in_each_pool_what_the_proxy_would_refuse_is_left_out_alone() {
        let mut plan = several();
        let chat = Name::new("chat").expect("a name");
        let own_listener = backend([127, 0, 0, 1], 7001);
        plan.pools
            .get_mut(&chat)
            .expect("there")
            .insert(0, own_listener);
        let multicast = backend([224, 0, 0, 1], 9001);
        plan.pools.get_mut(&chat).expect("there").push(multicast);
        let (fitted, left_out) = plan.fit(&own()).expect("fits");
        let out: Vec<String> = left_out.iter().map(|out| out.key.to_string()).collect();
        assert_eq!(out, ["chat/127.0.0.1:7001", "chat/224.0.0.1:9001"]);
        assert_eq!(fitted, several());
    }

    /// Good and bad ones: our own listeners, addresses that are none, batches by halves.
    fn any_backend() -> impl Strategy<Value = Backend> {
        let ip = prop_oneof![
            Just([10, 0, 0, 1]),
            Just([10, 0, 0, 2]),
            Just([127, 0, 0, 1]),
            Just([192, 168, 7, 7]),
            Just([224, 0, 0, 1]),
            Just([0, 0, 0, 0]),
        ];
        let port = prop_oneof![Just(9001), Just(8080), Just(10080), Just(0)];
        let share = proptest::option::of(prop_oneof![0.0..=1.0, Just(7.0)]);
        (ip, port, 0u16..2000, any::<bool>(), share).prop_map(
            |(ip, port, weight, enabled, share)| {
                let mut one = backend(ip, port);
                (one.weight, one.enabled, one.report.gpu_usage) = (weight, enabled, share);
                one
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_merged_the_proxy_takes_what_is_published_and_the_rest_is_named(
            backends in proptest::collection::vec(any_backend(), 0..12),
            generation in any::<u64>(),
        ) {
            // As merge hands them over: each address once.
            let backends: BTreeMap<_, _> = backends.into_iter().map(|one| (one.addr, one)).collect();
            let merged = plan(backends.values().cloned().collect());
            let (fitted, left_out) = merged.fit(&own()).expect("the head is good");
            prop_assert_eq!(fitted.backends().count() + left_out.len(), backends.len());
            let checked = check(&fitted.render(generation, 1), &own().local);
            let config = checked.expect("the proxy takes it").config;
            prop_assert_eq!(config.generation, Some(generation));
            prop_assert_eq!(&config.pools[0].backends[..], of_default(&fitted));
            for out in &left_out {
                let alone = plan(vec![backends[&out.key.addr].clone()]);
                let (fitted, _) = alone.fit(&own()).expect("the head is good");
                prop_assert!(of_default(&fitted).is_empty(), "a good one was left out: {:?}", out);
            }
        }
    }

    #[test]
    fn telemetry_alone_is_the_same_state_and_anything_else_is_not() {
        let before = plan(vec![backend([10, 0, 0, 1], 9001)]);
        let changed = |change: &dyn Fn(&mut Backend)| {
            let mut after = before.clone();
            change(&mut after.pools.get_mut(&Name::default()).expect("there")[0]);
            !before.has_same_state(&after)
        };
        assert!(!changed(&|b| b.report.vram_usage = Some(0.5)));
        assert!(changed(&|b| b.weight = 11));
        assert!(changed(&|b| b.enabled = false));
        assert!(changed(&|b| b.is_warming_up = true));
        let batch = Batch {
            max: 8,
            window_ms: 10,
        };
        assert!(changed(&|b| b.batch = Some(batch)));
        assert!(changed(&|b| b.report.heartbeat_ms = Some(1_000)));
        let mut after = before.clone();
        after.head[1].1 = "random".into();
        assert!(!before.has_same_state(&after));
        assert!(!before.has_same_state(&plan(vec![])));
    }
}
