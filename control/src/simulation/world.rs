//! Control in a folder of its own, everybody around it, and one step of a history.

mod backends;
mod folders;
mod look;
mod process;
mod publishing;
mod restores;
mod settings;
mod sources;
mod time;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use contract::{BackendAddr, Root};
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::oracle::{DEFAULT_PORT, Oracle};
use super::proxy::PlayedProxy;
use crate::actor::Actor;
use crate::clock::{Clock, Now};
use crate::keeper::{self, NotStored};
use crate::listening::TURN;
use crate::model::{Mutation, Refusal};
use crate::publish::{self, Outcome};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::store::files::Files;
use restores::Backup;

/// More than a mass expiry needs.
const BACKENDS: u8 = 9;
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
    /// Control stores changes as those of a registry that is too large to be written whole.
    is_large: bool,
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
    /// By the name of the file.
    backups: BTreeMap<&'static str, Backup>,
    /// The one that is put back while control is stopped.
    restored_at_start: Option<&'static str>,
}

/// What a process of control has in memory.
struct Control {
    shared: Arc<Shared>,
    keeper: keeper::Task<Files>,
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
        let is_large = random.u8(0..3) == 0;
        let mut world = World {
            random,
            oracle: Oracle::default(),
            temporary,
            settings,
            monotonic_ms,
            unix_ms,
            clock,
            is_large,
            agents: BTreeMap::new(),
            control: None,
            proxy,
            next_call: 0,
            broken: Vec::new(),
            is_behind: false,
            generations: BTreeMap::new(),
            backups: BTreeMap::new(),
            restored_at_start: None,
        };
        world.discover();
        world.start().await;
        world.begin().await;
        world
    }

    /// One thing happens, and everything is looked at.
    pub async fn step(&mut self) {
        match self.random.u32(0..114) {
            0..20 => self.register().await,
            20..25 => self.unregister().await,
            25..37 => self.set_override().await,
            37..42 => self.clear_override().await,
            42..47 => self.change_many().await,
            47..49 => self.change_algorithm().await,
            49..54 => self.change_port().await,
            54..58 => {
                self.discover();
                self.read_sources().await;
            }
            58..62 => self.break_a_list().await,
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
            97..100 => self.list().await,
            100..101 => self.list_no_more().await,
            101..102 => self.edit_the_static_list().await,
            102..105 => self.back_up_or_restore().await,
            105..111 => self.change_services().await,
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

    fn addr(&mut self) -> BackendAddr {
        BackendAddr::new([10, 0, 0, 1 + self.random.u8(0..BACKENDS)].into(), 9001)
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
}
