//! Control in a folder of its own, everybody around it, and one step of a history.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::{BackendAddr, LocalAddresses, Root};
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::oracle::{self, DEFAULT_PORT, Oracle, Registration as Answered};
use super::proxy::{PlayedProxy, port_of};
use crate::actor::Actor;
use crate::audit::Audit;
use crate::calls::{OnRefusal, PendingCall, SettingsCall};
use crate::changes::{ChangeSet, OverridePatch, Part};
use crate::clock::{Clock, Now};
use crate::keeper::{self, NotStored};
use crate::listening::TURN;
use crate::model::{Mutation, Refusal};
use crate::publish::{self, Outcome};
use crate::registry::{OverrideChange, Registration, Remover};
use crate::render::{OwnAddresses, ProxyAddresses};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::start::remove_litter;

/// More than a mass expiry needs.
const BACKENDS: u8 = 9;
/// A process id that Linux never gives.
const NOBODY: u32 = 4_194_305;
const TTL_MS: u64 = 15_000;
/// How often agents beat.
const BEAT_MS: u64 = TTL_MS / 3;
/// A stall after which all have a fresh TTL.
const STALL_MS: u64 = TTL_MS / 4;
const TURN_MS: u64 = TURN.as_millis() as u64;

pub struct World {
    random: Rng,
    oracle: Oracle,
    temporary: tempfile::TempDir,
    settings: Settings,
    monotonic_ms: Arc<AtomicU64>,
    unix_ms: Arc<AtomicU64>,
    /// The running process's own.
    clock: Clock,
    /// Backends that go on beating, and when each does next, on the monotonic clock.
    agents: BTreeMap<BackendAddr, u64>,
    control: Option<Control>,
    proxy: PlayedProxy,
    /// The number of the next call for a port.
    next_call: u64,
    /// Folders that are away, with a file in their place.
    broken: Vec<&'static str>,
    /// Time has passed that could not be stored; it is tried again 5 s later.
    is_behind: bool,
    /// What each generation has published.
    generations: BTreeMap<u64, String>,
    backup: Option<Backup>,
    /// It is put back while control is stopped.
    is_restored_at_start: bool,
}

/// `settings_runtime.json` as it was once, and what it sets.
struct Backup {
    bytes: Vec<u8>,
    algorithm: Option<&'static str>,
    port: Option<u16>,
}

/// What a process of control has in memory.
struct Control {
    shared: Arc<Shared>,
    keeper: keeper::Task,
    publisher: publish::Task,
    outcome: watch::Receiver<Outcome>,
}

/// Where files cost least.
fn temporary_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a temporary folder")
}

/// A clock of a process that has just been started.
fn clock_of(monotonic_ms: &Arc<AtomicU64>, unix_ms: &Arc<AtomicU64>) -> Clock {
    let hands = (monotonic_ms.clone(), unix_ms.clone());
    Clock::reading(move || (hands.0.load(Relaxed), hands.1.load(Relaxed)))
}

impl World {
    pub async fn new(seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let temporary = temporary_folder();
        let root = Root(temporary.path().join("control"));
        for folder in ["config", "data", "run", "logs"] {
            fs::create_dir_all(root.0.join(folder)).expect("a folder");
        }
        let config = json!({ "runtime_ttl_sec": TTL_MS / 1000, "expiry_freeze": random.bool() });
        let config = config.to_string();
        let settings = Settings::read(Some(config.as_bytes()), &root).expect("good settings");
        let proxy = PlayedProxy::at(
            settings.proxy_config_path.clone(),
            random.bool(),
            random.bool(),
        );
        let monotonic_ms = Arc::new(AtomicU64::new(0));
        let unix_ms = Arc::new(AtomicU64::new(1_730_000_000_000));
        let clock = clock_of(&monotonic_ms, &unix_ms);
        let mut world = World {
            random,
            oracle: Oracle::default(),
            temporary,
            settings,
            monotonic_ms,
            unix_ms,
            clock,
            agents: BTreeMap::new(),
            control: None,
            proxy,
            next_call: 0,
            broken: Vec::new(),
            is_behind: false,
            generations: BTreeMap::new(),
            backup: None,
            is_restored_at_start: false,
        };
        world.discover();
        world.start().await;
        world.begin().await;
        world
    }

    /// One thing happens, and everything is looked at.
    pub async fn step(&mut self) {
        match self.random.u32(0..100) {
            0..20 => self.register().await,
            20..25 => self.unregister().await,
            25..37 => self.set_override().await,
            37..42 => self.clear_override().await,
            42..47 => self.change_many().await,
            47..49 => self.change_algorithm().await,
            49..50 => self.back_up_or_restore().await,
            50..54 => self.change_port().await,
            54..58 => {
                self.discover();
                self.read_sources().await;
            }
            58..62 => self.break_discovery().await,
            62..66 => self.edit_by_others().await,
            66..72 => self.let_time_pass().await,
            72..74 => self.stall().await,
            74..76 => self.take_no_connections().await,
            76..80 => self.change_the_proxys_mind().await,
            80..82 => self.jump_the_clock(),
            82..88 => self.publish().await,
            88..89 => self.meddle_with_the_published().await,
            89..90 => self.put_the_published_back().await,
            90..94 => self.break_or_mend_a_folder().await,
            94..97 => self.acknowledge().await,
            _ => self.crash().await,
        }
        self.look();
    }

    /// All is well again in the end: what was answered is what is published.
    pub async fn settle(&mut self) {
        self.mend_all();
        self.read_sources().await;
        self.publish().await;
        self.crash().await;
        self.look();
        // The proxy takes everything now.
        {
            let mut proxy = self.proxy.state();
            proxy.refused_ports.clear();
            proxy.is_silent = false;
        }
        for _ in 0..3 {
            self.verify().await;
        }
        self.look_at_the_published(true);
        assert!(self.oracle.port_before.is_none(), "a call has no outcome");
        assert_eq!(
            self.published_port(),
            self.oracle.port.unwrap_or(DEFAULT_PORT)
        );
        let bytes = fs::read(self.published_path()).expect("published");
        let document: Value = serde_json::from_slice(&bytes).expect("JSON");
        let document = document.as_object().expect("an object");
        let digest = contract::config_digest(document);
        let generation = document["generation"].as_u64().expect("a number");
        let proxy = self.proxy.state();
        assert_eq!(
            proxy.runs(),
            (generation, Some(&*digest)),
            "the proxy runs it"
        );
        drop(proxy);
        let incidents = self.control().outcome.borrow().incidents.clone();
        assert!(incidents.is_empty(), "still told: {incidents:?}");
    }

    fn control(&mut self) -> &mut Control {
        self.control.as_mut().expect("one runs between two steps")
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn root(&self) -> PathBuf {
        self.temporary.path().join("control")
    }

    /// A path below the root, wherever its folder is at the moment.
    fn path_of(&self, folder: &'static str, name: &str) -> PathBuf {
        let suffix = if self.broken.contains(&folder) {
            ".away"
        } else {
            ""
        };
        self.root().join(format!("{folder}{suffix}")).join(name)
    }

    fn published_path(&self) -> PathBuf {
        self.path_of("config", "proxy_config.json")
    }

    fn addr(&mut self) -> BackendAddr {
        BackendAddr::new([10, 0, 0, 1 + self.random.u8(0..BACKENDS)].into(), 9001)
    }

    fn can_store(&self) -> bool {
        !self.broken.contains(&"data")
    }

    /// Carries out a mutation; true where it was done. What cannot be stored says so.
    async fn mutate(&mut self, mutation: Mutation) -> Result<bool, Refusal> {
        let can_store = self.can_store();
        let actor = Actor::Control("simulation");
        match self.control().keeper.mutate(mutation, actor).await {
            Ok(_) => Ok(true),
            Err(NotStored::Refused(refusal)) => Err(refusal),
            Err(NotStored::Store { .. }) => {
                assert!(!can_store, "nothing kept it from being stored");
                Ok(false)
            }
            Err(NotStored::NotLasting { .. }) => panic!("folders of this disk can be synced"),
            Err(NotStored::Stopping) => panic!("nobody has told it to stop"),
        }
    }

    async fn register(&mut self) {
        let addr = self.addr();
        let weight = self.random.bool().then(|| self.random.u16(0..50));
        let mut said = Registration::of(addr);
        said.weight = weight;
        said.report.gpu_usage = self
            .random
            .bool()
            .then(|| f64::from(self.random.u8(0..100)) / 100.0);
        let beat = self.control().shared.heartbeat(&said);
        let done = match beat {
            Some(_) => true,
            None => self
                .mutate(Mutation::Register(said))
                .await
                .expect("there is room"),
        };
        if done {
            let before = self
                .oracle
                .registered
                .get(&addr)
                .and_then(|before| before.weight);
            let answered = Answered {
                weight: weight.or(before),
                heard_at_ms: self.now().listened_ms,
                fresh_at_ms: None,
                due_at_ms: None,
                expired_at_ms: None,
            };
            self.oracle.registered.insert(addr, answered);
            if self.random.bool() {
                self.agents.insert(addr, self.now().monotonic_ms + BEAT_MS);
            }
        }
    }

    async fn unregister(&mut self) {
        let addr = self.addr();
        let done = self
            .mutate(Mutation::Unregister(addr, Remover::Operator))
            .await;
        assert_eq!(
            done.is_ok(),
            self.oracle.registered.contains_key(&addr),
            "{addr}"
        );
        if done.unwrap_or(false) {
            self.oracle.registered.remove(&addr);
            self.agents.remove(&addr);
        }
    }

    async fn set_override(&mut self) {
        let addr = self.addr();
        let change = match self.random.u8(0..3) {
            0 => OverrideChange::Weight(self.random.u16(0..1000)),
            1 => OverrideChange::Enabled(self.random.bool()),
            _ => OverrideChange::Drain(self.random.bool()),
        };
        let done = self.mutate(Mutation::SetOverride(addr, change)).await;
        assert_eq!(done.is_ok(), self.oracle.knows(addr), "{addr}");
        if done.unwrap_or(false) {
            let word = self.oracle.overrides.entry(addr).or_default();
            match change {
                OverrideChange::Weight(weight) => word.0 = Some(weight),
                OverrideChange::Enabled(enabled) => word.1 = Some(enabled),
                OverrideChange::Drain(drain) => word.2 = Some(drain),
            }
        }
    }

    async fn clear_override(&mut self) {
        let addr = self.addr();
        if self
            .mutate(Mutation::ClearOverride(addr))
            .await
            .unwrap_or(false)
        {
            self.oracle.overrides.remove(&addr);
        }
    }

    /// Several edits at once: all of them or none.
    async fn change_many(&mut self) {
        let weight = self.random.u16(0..1000);
        let mut edits = BTreeMap::new();
        for _ in 0..self.random.usize(1..5) {
            let patch = OverridePatch {
                weight: Part::Set(weight),
                drain: Part::Clear,
                ..OverridePatch::default()
            };
            edits.insert(self.addr(), patch);
        }
        let addresses: Vec<_> = edits.keys().copied().collect();
        let set = ChangeSet {
            edits: edits.into_iter().collect(),
            if_revision: None,
        };
        let done = self.mutate(Mutation::Change(set)).await;
        let all_known = addresses.iter().all(|addr| self.oracle.knows(*addr));
        assert_eq!(done.is_ok(), all_known, "{addresses:?}");
        if done.unwrap_or(false) {
            for addr in addresses {
                let word = self.oracle.overrides.entry(addr).or_default();
                (word.0, word.2) = (Some(weight), None);
            }
        }
    }

    async fn change_algorithm(&mut self) {
        let names = ["round_robin", "random", "source_hash", "gpu_aware"];
        let name = names[self.random.usize(0..names.len())];
        let patch = json!({ "algorithm": name });
        let patch = patch.as_object().expect("an object").clone();
        let id = self.next_call;
        self.next_call += 1;
        let changed = self
            .mutate(Mutation::ChangeSettings(SettingsCall {
                id,
                patch,
                on_refusal: OnRefusal::KeepTrying,
            }))
            .await;
        if changed.expect("it is one of the algorithms") {
            self.oracle.algorithm = Some(name);
        }
    }

    /// Somebody keeps the settings by API, or puts them back, with a time that says nothing.
    async fn back_up_or_restore(&mut self) {
        // What becomes of a call whose settings are put back amid it is another test's.
        let is_waiting = !self.control().shared.model().pending.is_empty();
        if !self.can_store() || is_waiting || self.oracle.port_before.is_some() {
            return;
        }
        if self.backup.is_none() || self.random.bool() {
            let path = self.path_of("data", "settings_runtime.json");
            let kept = fs::read(path).ok();
            self.backup = kept.map(|bytes| Backup {
                bytes,
                algorithm: self.oracle.algorithm,
                port: self.oracle.port,
            });
            return;
        }
        if self.random.bool() {
            self.is_restored_at_start = true;
            self.crash().await;
        } else {
            self.put_back();
            self.read_sources().await;
        }
    }

    fn put_back(&mut self) {
        const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
        let Some(backup) = &self.backup else {
            return;
        };
        let path = self.path_of("data", "settings_runtime.json");
        fs::write(&path, &backup.bytes).expect("written");
        let now = std::time::SystemTime::now();
        let at = match self.random.bool() {
            true => now + DAY,
            false => now - DAY,
        };
        let file = fs::File::options().write(true).open(&path);
        let file = file.expect("just written");
        file.set_modified(at).expect("our own file");
        self.oracle.algorithm = backup.algorithm;
        self.oracle.port = backup.port;
    }

    /// Somebody asks for another port, and may kill control before they hear what became of it.
    async fn change_port(&mut self) {
        let is_waiting = !self.control().shared.model().pending.is_empty();
        if is_waiting || self.oracle.port_before.is_some() {
            return;
        }
        let port = 7_000 + self.random.u16(0..4);
        let on_refusal = match self.random.bool() {
            true => OnRefusal::RollBack,
            false => OnRefusal::KeepTrying,
        };
        let id = self.next_call;
        self.next_call += 1;
        let patch = json!({ "listen": { "port": port } });
        let patch = patch.as_object().expect("an object").clone();
        let call = SettingsCall {
            id,
            patch,
            on_refusal,
        };
        let changed = self.mutate(Mutation::ChangeSettings(call)).await;
        if !changed.expect("it is a port") {
            return;
        }
        let before = self.oracle.port.replace(port);
        let can_roll_back = on_refusal == OnRefusal::RollBack && before != Some(port);
        self.oracle.port_before = can_roll_back.then_some(before);
        match self.random.u8(0..4) {
            0 => return self.crash().await,
            1 if !self.broken.contains(&"config") => {
                self.control().publisher.reconcile().await;
                return self.crash().await;
            }
            _ => {}
        }
        self.publish().await;
        // Silence is an outcome for whoever waits for an answer: the change stands.
        if self.oracle.port_before.is_some() || on_refusal == OnRefusal::KeepTrying {
            let kept = self.mutate(Mutation::KeepSettings(id)).await;
            let is_kept = match on_refusal {
                OnRefusal::RollBack => kept.expect("it waits"),
                // It may have changed nothing, or its outcome may be known.
                OnRefusal::KeepTrying => kept.unwrap_or(false),
            };
            if is_kept {
                self.oracle.port_before = None;
            }
        }
    }

    /// Looks what became of a call that waits, as a server does after its answer or its start.
    async fn resume(&mut self) {
        let calls = self.control().shared.model().pending.clone();
        for call in calls.into_iter().rev() {
            self.resume_one(&call).await;
        }
    }

    async fn resume_one(&mut self, call: &PendingCall) {
        let outcome = self.control().outcome.borrow().clone();
        let seen = outcome.seen.as_ref().filter(|seen| seen.applied);
        let is_known = seen.is_some_and(|seen| Some(seen.generation) == outcome.generation);
        if !is_known || outcome.failure.is_some() {
            return;
        }
        let head = self.control().shared.model().settings().head();
        let refused = outcome.incidents.iter();
        let is_refused = { refused }
            .any(|incident| head.iter().any(|(key, value)| incident.refuses(key, value)));
        let port = self.oracle.port.unwrap_or(DEFAULT_PORT);
        let may_refuse = self.proxy.state().port != Some(port);
        assert!(
            !is_refused || may_refuse,
            "what the proxy runs was not refused"
        );
        let is_undone = is_refused && call.on_refusal == OnRefusal::RollBack;
        let done = match is_undone {
            true => self.mutate(Mutation::RollBackSettings(call.id)).await,
            false => self.mutate(Mutation::KeepSettings(call.id)).await,
        };
        if done.expect("it waits") && call.on_refusal == OnRefusal::RollBack {
            let before = self.oracle.port_before.take();
            if is_undone {
                self.oracle.port = before.expect("it was to be rolled back");
            }
        }
    }

    /// Ports become free or taken, and the proxy falls silent or speaks again.
    async fn change_the_proxys_mind(&mut self) {
        match self.random.u8(0..4) {
            0 => {
                let is_silent = self.random.bool();
                self.proxy.state().is_silent = is_silent;
            }
            1 => self.proxy.state().refused_ports.clear(),
            _ => {
                let port = 7_000 + self.random.u16(0..4);
                self.proxy.state().refused_ports.insert(port);
            }
        }
        self.verify().await;
    }

    async fn verify(&mut self) {
        self.control().publisher.verify().await;
        self.after_a_publish().await;
    }

    /// The publisher hears what the proxy made of it, and whoever waits for that goes on.
    async fn after_a_publish(&mut self) {
        let sent = self.control().outcome.borrow().sent.clone();
        if let Some(sent) = sent.filter(|_| !self.proxy.state().is_silent) {
            // As long as it is not known what has become of one signal, no other is sent.
            let mut confirmation = sent.confirmation.clone();
            _ = confirmation.wait_for(Option::is_some).await;
        }
        self.control().publisher.look().await;
        let (port, is_silent) = {
            let proxy = self.proxy.state();
            (proxy.port, proxy.is_silent)
        };
        if !is_silent {
            self.oracle.accepted_port = port;
        }
        self.resume().await;
        self.control().publisher.reconcile().await;
    }

    fn published_port(&self) -> u16 {
        let bytes = fs::read(self.published_path()).expect("published");
        let document: Value = serde_json::from_slice(&bytes).expect("JSON");
        port_of(document.as_object().expect("an object"))
    }

    async fn acknowledge(&mut self) {
        // Refused where nothing is held; either way nothing but the freeze is touched.
        let _ = self.mutate(Mutation::AcknowledgeExpiry).await;
    }

    /// Discovery writes another list.
    fn discover(&mut self) {
        if !self.can_store() {
            return;
        }
        let mut found = BTreeMap::new();
        for _ in 0..self.random.usize(0..6) {
            found.insert(
                self.addr(),
                (self.random.u16(0..100), self.random.u8(0..5) > 0),
            );
        }
        let entry = |(addr, (weight, enabled)): (&BackendAddr, &(u16, bool))| json!({ "ip": addr.ip(), "port": addr.port(), "weight": weight, "enabled": enabled });
        let backends: Vec<Value> = found.iter().map(entry).collect();
        let at = self.random.u32(..);
        let document = json!({ "source": "k8s", "updated_at": at, "backends": backends });
        let path = self.path_of("data", "k8s_endpoints.json");
        contract::publish(&path, document.to_string().as_bytes()).expect("written");
        self.oracle.discovered = found;
    }

    /// Discovery writes something else, or nothing, for a while.
    async fn break_discovery(&mut self) {
        let broken: [&[u8]; 5] = [b"", b"{", b"{}", b"\xff\x00", b"{\"backends\": [7]}"];
        let bytes = broken[self.random.usize(0..broken.len())];
        let path = self.path_of("data", "k8s_endpoints.json");
        let good = fs::read(&path).expect("it was written at the start");
        fs::write(&path, bytes).expect("written");
        self.read_sources().await;
        self.look();
        // A restart meanwhile is another test's: here what it last said is to be found again.
        contract::publish(&path, &good).expect("written");
        self.read_sources().await;
    }

    /// Somebody edits a weight in the registry's file.
    async fn edit_by_others(&mut self) {
        let path = self.path_of("data", "backends_runtime.json");
        let is_stored = self.can_store() && !self.is_behind;
        let (true, Ok(bytes)) = (is_stored, fs::read(&path)) else {
            return;
        };
        let mut file: Value = serde_json::from_slice(&bytes).expect("it is always whole");
        let mut entries: Vec<_> = file["backends"]
            .as_array_mut()
            .expect("a list")
            .iter_mut()
            .collect();
        entries.retain(|entry| entry["last_seen"].is_u64() && entry.get("expired").is_none());
        if entries.is_empty() {
            return;
        }
        let entry = self.random.usize(0..entries.len());
        let entry = &mut *entries[entry];
        let port = entry["port"].as_u64().expect("a port") as u16;
        let addr = BackendAddr::new(
            entry["ip"].as_str().expect("an ip").parse().expect("an ip"),
            port,
        );
        let before = entry["weight"].as_u64();
        let weight = self.random.u16(50..99);
        entry["weight"] = weight.into();
        fs::write(&path, file.to_string()).expect("written");
        self.read_sources().await;
        // What is not in the file any more is not in memory either, and so is not edited.
        let edited = self.oracle.registered.get_mut(&addr);
        if let (Some(edited), true) = (edited, before != Some(u64::from(weight))) {
            edited.weight = Some(weight);
            edited.heard_at_ms = self.clock.now().listened_ms;
            edited.fresh_at_ms = None;
            (edited.due_at_ms, edited.expired_at_ms) = (None, None);
        }
    }

    async fn read_sources(&mut self) {
        self.control().keeper.read_sources().await;
    }

    async fn let_time_pass(&mut self) {
        let ms = match self.random.u8(0..10) {
            0 => self.random.u64(0..12 * TTL_MS),
            1..4 => self.random.u64(0..TTL_MS),
            _ => self.random.u64(0..2_000),
        };
        self.pass_ms(ms).await;
    }

    async fn pass_ms(&mut self, ms: u64) {
        let mut left_ms = ms;
        while left_ms > 0 {
            let turn_ms = left_ms.min(TURN_MS);
            self.turn(turn_ms, false).await;
            self.beat().await;
            left_ms -= turn_ms;
        }
    }

    /// Control is stopped for a while, or its clock jumps; its own turn comes before all that waits.
    async fn stall(&mut self) {
        let ms = self.random.u64(2 * TURN_MS + 1..4 * TTL_MS);
        self.jump(ms);
        if ms - TURN_MS >= STALL_MS {
            self.oracle.stalled(self.now());
        }
        self.turn(0, true).await;
        self.come_back(ms).await;
    }

    /// Control runs, and can take no connection for a while.
    async fn take_no_connections(&mut self) {
        let turns = self.random.u64(1..4 * TTL_MS / TURN_MS);
        self.clock.deafen();
        for _ in 0..turns {
            self.turn(TURN_MS, false).await;
        }
        self.clock.hear();
        if turns * TURN_MS >= STALL_MS {
            self.oracle.stalled(self.now());
        }
        self.turn(0, true).await;
        self.come_back(turns * TURN_MS).await;
    }

    /// Whoever has waited for control for so long: it was only late, or has given up and comes again
    /// after its pause.
    async fn come_back(&mut self, waited_ms: u64) {
        let now_ms = self.now().monotonic_ms;
        let random = &mut self.random;
        for next_ms in self
            .agents
            .values_mut()
            .filter(|next_ms| **next_ms <= now_ms)
        {
            *next_ms = match waited_ms < STALL_MS {
                true => now_ms,
                false => now_ms + random.u64(0..TTL_MS - BEAT_MS),
            };
        }
        self.beat().await;
        self.pass_ms(TTL_MS).await;
    }

    /// Those whose time it is beat. None of them has expired.
    async fn beat(&mut self) {
        let now = self.now();
        let due: Vec<BackendAddr> = self
            .agents
            .iter_mut()
            .filter(|(_, next_ms)| **next_ms <= now.monotonic_ms)
            .map(|(addr, next_ms)| {
                *next_ms = now.monotonic_ms + BEAT_MS;
                *addr
            })
            .collect();
        for addr in due {
            let beat = self.control().shared.heartbeat(&Registration::of(addr));
            assert!(beat.is_some(), "{addr} has expired, and went on beating");
            let heard = self.oracle.registered.get_mut(&addr);
            let heard = heard.expect("who beats is registered");
            heard.heard_at_ms = now.listened_ms;
            (heard.fresh_at_ms, heard.due_at_ms) = (None, None);
        }
    }

    fn jump(&mut self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Relaxed);
        self.unix_ms.fetch_add(ms, Relaxed);
    }

    async fn turn(&mut self, ms: u64, may_wait: bool) {
        self.jump(ms);
        self.control().keeper.pass().await;
        self.is_behind |= !self.can_store();
        let (now, policy) = (self.now(), self.settings.expiry);
        let control = self.control.as_ref().expect("one runs between two steps");
        self.oracle
            .pass(&control.shared.model(), now, policy, may_wait);
    }

    /// Somebody sets the wall clock, which must not matter.
    fn jump_the_clock(&mut self) {
        const MOST_MS: u64 = 1_000_000_000;
        let ms = self.random.u64(0..MOST_MS);
        match self.random.bool() {
            true => self.unix_ms.fetch_add(ms, Relaxed),
            false => self.unix_ms.fetch_sub(ms, Relaxed),
        };
    }

    async fn publish(&mut self) {
        if self.random.bool() {
            self.control().publisher.refresh().await;
            self.look_at_the_published(false);
        }
        self.control().publisher.reconcile().await;
        self.after_a_publish().await;
        let failure = self.control().outcome.borrow().failure.clone();
        let can_write = !self.broken.contains(&"config");
        assert!(failure.is_none() || !can_write, "{failure:?}");
        self.look_at_the_published(failure.is_none());
    }

    /// Somebody writes into the published file or removes it; control puts it right.
    async fn meddle_with_the_published(&mut self) {
        if self.broken.contains(&"config") || !self.published_path().exists() {
            return;
        }
        match self.random.bool() {
            true => fs::write(self.published_path(), "{").expect("written"),
            false => fs::remove_file(self.published_path()).expect("removed"),
        }
        self.verify().await;
        self.look_at_the_published(true);
    }

    /// Somebody puts another version of the published file there, older or newer than what the proxy
    /// runs, with control running or stopped. The proxy may read it, and may be silent afterwards;
    /// and the file may be again what it was before control looks.
    async fn put_the_published_back(&mut self) {
        let path = self.published_path();
        if !self.broken.is_empty() || self.is_behind || self.oracle.port_before.is_some() {
            return;
        }
        let Ok(ours) = fs::read(&path) else { return };
        let mut other: Value = serde_json::from_slice(&ours).expect("it is always whole");
        let generation = other["generation"].as_u64().expect("a number");
        let newest = generation + 3;
        other["generation"] = self.random.u64(1..=newest).into();
        if self.random.bool() {
            other["backends"] = json!([]);
        }
        fs::write(&path, other.to_string()).expect("written");
        if self.random.bool() {
            self.proxy.state().reload();
        }
        if self.random.bool() {
            fs::write(&path, &ours).expect("written");
        }
        let is_silent = self.random.bool();
        self.proxy.state().is_silent = is_silent;
        match self.random.bool() {
            true => {
                // Control counts on from the file and what the proxy runs: of generations above both
                // nobody knows any more.
                self.generations.clear();
                self.crash().await;
            }
            false => self.verify().await,
        }
        let is_heard = !self.proxy.state().is_silent;
        if is_heard {
            self.verify().await;
            self.look_at_the_published(true);
            let bytes = fs::read(&path).expect("published");
            let document: Value = serde_json::from_slice(&bytes).expect("JSON");
            let digest = contract::config_digest(document.as_object().expect("an object"));
            let proxy = self.proxy.state();
            let is_refused = !proxy.refused_ports.is_empty();
            assert!(
                is_refused || proxy.runs().1 == Some(&*digest),
                "the proxy runs what others wrote"
            );
        }
    }

    /// A folder that cannot be used, as with a disk that is full or gone.
    async fn break_or_mend_a_folder(&mut self) {
        if !self.broken.is_empty() {
            self.mend_all();
            return;
        }
        let folder = if self.random.bool() { "data" } else { "config" };
        let path = self.root().join(folder);
        fs::rename(&path, path.with_extension("away")).expect("renamed");
        fs::write(&path, "in the way").expect("written");
        self.broken.push(folder);
    }

    fn mend_all(&mut self) {
        for folder in std::mem::take(&mut self.broken) {
            let path = self.root().join(folder);
            fs::remove_file(&path).expect("removed");
            fs::rename(path.with_extension("away"), &path).expect("renamed");
        }
    }

    /// The process dies between two of its steps, maybe in the middle of a file, and starts again.
    async fn crash(&mut self) {
        const STORED_WITHIN_MS: u64 = 5_000;
        self.mend_all();
        if self.is_behind {
            self.pass_ms(STORED_WITHIN_MS).await;
            self.is_behind = false;
        }
        self.control = None;
        for path in [
            &self.settings.proxy_config_path,
            &self.settings.runtime_backends_path,
        ] {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            fs::write(
                path.with_file_name(format!(".{name}.{NOBODY}.tmp")),
                "{\"cut",
            )
            .expect("written");
        }
        if std::mem::take(&mut self.is_restored_at_start) {
            self.put_back();
        }
        self.start().await;
        self.settle_what_was_seen();
        let now = self.now();
        self.oracle.restart(now);
        self.begin().await;
    }

    /// A call whose port the proxy was seen to run has its outcome, though that was not stored.
    fn settle_what_was_seen(&mut self) {
        let pending = self.control().shared.model().pending.clone();
        let mut pending = pending.iter();
        let waits = pending.any(|call| call.on_refusal == OnRefusal::RollBack);
        if self.oracle.port_before.is_some() && !waits {
            assert_eq!(self.oracle.accepted_port, self.oracle.port);
            self.oracle.port_before = None;
        }
    }

    /// The publisher's first steps.
    async fn begin(&mut self) {
        self.control().publisher.begin().await;
        self.after_a_publish().await;
    }

    async fn start(&mut self) {
        remove_litter(&self.settings);
        self.clock = clock_of(&self.monotonic_ms, &self.unix_ms);
        self.clock.turn();
        let own = OwnAddresses {
            control: vec!["127.0.0.1:8080".parse().expect("a literal")],
            local: LocalAddresses::default(),
            proxy: ProxyAddresses::default(),
        };
        let loaded = keeper::load(&self.settings, own, &self.clock);
        let settings = self.settings.clone();
        let audit = Audit::open(
            &settings.audit_log_path,
            settings.audit_max_bytes,
            settings.audit_files,
            self.clock.clone(),
        );
        let proxy = self.proxy.client();
        let shared = Arc::new(Shared::new(
            settings,
            self.clock.clone(),
            audit,
            loaded.model,
        ));
        let (sender, outcome) = watch::channel(Outcome::default());
        self.control = Some(Control {
            keeper: keeper::Task::new(shared.clone(), loaded.files),
            publisher: publish::Task::new(
                shared.clone(),
                proxy,
                loaded.found,
                sender,
                Arc::default(),
            ),
            shared,
            outcome,
        });
    }

    /// What control holds is what was answered; every file is whole, and none is litter.
    fn look(&self) {
        let control = self.control.as_ref().expect("one runs between two steps");
        self.oracle.assert_holds(&control.shared.model());
        for folder in ["config", "data"] {
            for entry in fs::read_dir(self.path_of(folder, "")).expect("it stands") {
                let name = entry.expect("an entry").file_name();
                assert!(
                    !name.to_string_lossy().ends_with(".tmp"),
                    "litter: {name:?}"
                );
            }
        }
        let registry = self.path_of("data", "backends_runtime.json");
        if let Ok(bytes) = fs::read(registry) {
            serde_json::from_slice::<Value>(&bytes).expect("the registry's file is whole");
        }
    }

    /// The published file is one that the proxy takes, its generation never goes back and never
    /// names two states; where it `is_current`, it says what was answered.
    fn look_at_the_published(&mut self, is_current: bool) {
        let Ok(bytes) = fs::read(self.published_path()) else {
            assert!(!is_current, "nothing is published");
            return;
        };
        let checked = contract::check(&bytes, &LocalAddresses::default());
        let config = checked.expect("the proxy takes what is published").config;
        let pool = config
            .pools
            .into_iter()
            .next()
            .expect("the base format has one pool");
        let state: Vec<_> = pool.backends.iter().map(oracle::published).collect();
        let generation = config
            .generation
            .expect("control numbers what it publishes");
        let port = config.listeners[0].addr.port();
        let described = format!("{port} {:?} {state:?}", pool.algorithm);
        let before = self
            .generations
            .entry(generation)
            .or_insert_with(|| described.clone());
        assert_eq!(
            *before, described,
            "generation {generation} names two states"
        );
        let newest = self.generations.keys().next_back();
        assert_eq!(newest, Some(&generation), "a generation went back");
        if is_current {
            assert_eq!(state, self.oracle.published(), "published, answered");
            let algorithm = self.oracle.algorithm.unwrap_or("weighted_round_robin");
            assert_eq!(pool.algorithm.name(), algorithm, "published, answered");
            // What is wanted, or what the proxy was last seen to run.
            let wanted = self.oracle.port.unwrap_or(DEFAULT_PORT);
            let is_right = port == wanted || self.oracle.accepted_port == Some(port);
            assert!(is_right, "{port} is published, {:?}", self.oracle);
        }
    }
}
