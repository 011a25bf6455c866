//! Files that somebody puts back as they once were, or breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use contract::BackendAddr;
use serde_json::{Value, json};

use super::super::oracle::{Listed, Registration, Services, Word};
use super::World;
use super::sources::addr_of;
use crate::calls::{OnRefusal, PendingCall};
use crate::sources::runtime;

pub(super) const SETTINGS: &str = "settings_runtime.json";
pub(super) const REGISTRY: &str = "backends_runtime.json";
pub(super) const STATIC_LIST: &str = "static_backends.json";

/// A file of control as it was once, and what it says.
#[derive(Clone)]
pub(super) struct Backup {
    /// `None` where there was none.
    bytes: Option<Vec<u8>>,
    said: Said,
}

#[derive(Clone)]
enum Said {
    Settings {
        algorithm: Option<&'static str>,
        services: Services,
        port: Option<u16>,
        port_before: Option<Option<u16>>,
        pending: Vec<PendingCall>,
    },
    Registry {
        registered: BTreeMap<BackendAddr, Registration>,
        overrides: BTreeMap<BackendAddr, Word>,
    },
    Statics(BTreeMap<BackendAddr, Listed>),
}

/// What control does while a file is put back.
#[derive(Clone, Copy)]
pub(super) enum Control {
    Running,
    Stopped,
}

impl World {
    /// Somebody keeps a file of control, or puts it back.
    pub(super) async fn back_up_or_restore(&mut self) {
        let names = [SETTINGS, REGISTRY, STATIC_LIST];
        let name = names[self.random.usize(0..names.len())];
        self.back_up_or_restore_file(name).await;
    }

    pub(super) async fn back_up_or_restore_file(&mut self, name: &'static str) {
        if !self.can_store() {
            return;
        }
        self.catch_up().await;
        self.fold().await;
        if !self.backups.contains_key(name) || self.random.bool() {
            let backup = self.backup_of(name);
            let bytes = backup.bytes.as_deref();
            let is_good = match name {
                // Without its settings control begins with what is published, as at a first start.
                SETTINGS => bytes.is_some(),
                // One that somebody has edited is none of control's: put back it is an edit again.
                REGISTRY => {
                    bytes.is_none_or(|bytes| runtime::read(bytes).is_ok_and(|file| file.is_ours))
                }
                _ => true,
            };
            if is_good {
                self.backups.insert(name, backup);
            }
            return;
        }
        match self.random.u8(0..3) {
            0 => {
                self.restored_at_start = Some(name);
                self.crash().await;
            }
            1 => {
                self.put_back(name, Control::Running);
                self.read_sources().await;
            }
            _ => {
                self.put_back(name, Control::Running);
                // The edit may come to nothing; a file that is gone is noticed by its folder's watch.
                match self.backups[name].bytes {
                    Some(_) => self.edit_file(name).await,
                    None => self.read_sources().await,
                }
            }
        }
        self.look();
    }

    /// Control finds a file that was put back when it is asked for an edit.
    async fn edit_file(&mut self, name: &'static str) {
        match name {
            STATIC_LIST => self.list().await,
            REGISTRY => self.change_many().await,
            _ => self.change_algorithm().await,
        }
    }

    fn backup_of(&self, name: &'static str) -> Backup {
        let control = self.control.as_ref().expect("one runs between two steps");
        let oracle = &self.oracle;
        let said = match name {
            STATIC_LIST => Said::Statics(oracle.statics.clone()),
            REGISTRY => Said::Registry {
                registered: oracle.registered.clone(),
                overrides: oracle.overrides.clone(),
            },
            _ => Said::Settings {
                algorithm: oracle.algorithm,
                services: oracle.services,
                port: oracle.port,
                port_before: oracle.port_before,
                pending: control.shared.model().pending.clone(),
            },
        };
        Backup {
            bytes: fs::read(self.path_of("data", name)).ok(),
            said,
        }
    }

    /// The file is again what it was, with a time that says nothing.
    pub(super) fn put_back(&mut self, name: &'static str, control: Control) {
        const DAY: Duration = Duration::from_secs(86_400);
        let path = self.path_of("data", name);
        let before = fs::read(&path).ok();
        let Backup { bytes, said } = self.backups[name].clone();
        let Some(bytes) = bytes else {
            // There was none. A control that runs writes it again.
            let _ = fs::remove_file(&path);
            self.is_behind = true;
            if let Control::Stopped = control {
                self.take_back(said);
            }
            return;
        };
        fs::write(&path, &bytes).expect("written");
        let now = SystemTime::now();
        let at = match self.random.bool() {
            true => now + DAY,
            false => now - DAY,
        };
        let file = fs::File::options().write(true).open(&path);
        let file = file.expect("just written");
        file.set_modified(at).expect("our own file");
        match (control, said) {
            (
                Control::Running,
                Said::Registry {
                    registered,
                    overrides,
                },
            ) => {
                let before = before.as_deref();
                self.take_back_differing(registered, overrides, before, &bytes);
            }
            (
                Control::Running,
                Said::Settings {
                    algorithm,
                    services,
                    port,
                    pending,
                    ..
                },
            ) => {
                // The calls that it does not mention have their outcome.
                let waiting = self.control().shared.model().pending.clone();
                let mut waiting = waiting.iter().filter(|call| pending.contains(call));
                if !waiting.any(|call| call.on_refusal == OnRefusal::RollBack) {
                    self.oracle.port_before = None;
                }
                (self.oracle.algorithm, self.oracle.port) = (algorithm, port);
                self.oracle.services = services;
            }
            (_, said) => self.take_back(said),
        }
    }

    /// A control that starts finds it.
    fn take_back(&mut self, said: Said) {
        let oracle = &mut self.oracle;
        match said {
            Said::Settings {
                algorithm,
                services,
                port,
                port_before,
                ..
            } => {
                (oracle.algorithm, oracle.port) = (algorithm, port);
                oracle.services = services;
                oracle.port_before = port_before;
            }
            Said::Registry {
                registered,
                overrides,
            } => (oracle.registered, oracle.overrides) = (registered, overrides),
            Said::Statics(statics) => oracle.statics = statics,
        }
        self.forget_agents();
    }

    /// A control that runs takes over the entries that differ from those that it knew, and counts
    /// them as heard now.
    fn take_back_differing(
        &mut self,
        mut registered: BTreeMap<BackendAddr, Registration>,
        mut overrides: BTreeMap<BackendAddr, Word>,
        before: Option<&[u8]>,
        after: &[u8],
    ) {
        let now = self.now();
        let (before, after) = (entries(before.unwrap_or(b"{}")), entries(after));
        let addresses: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let addresses = addresses.into_iter();
        for addr in addresses.filter(|addr| before.get(addr) != after.get(addr)) {
            match registered.remove(addr) {
                Some(mut one) => {
                    one.heard_at_ms = now.listened_ms;
                    (one.fresh_at_ms, one.due_at_ms) = (None, None);
                    one.expired_at_ms = one.expired_at_ms.map(|_| now.listened_ms);
                    self.oracle.registered.insert(*addr, one);
                }
                None => _ = self.oracle.registered.remove(addr),
            }
            match overrides.remove(addr) {
                Some(word) => _ = self.oracle.overrides.insert(*addr, word),
                None => _ = self.oracle.overrides.remove(addr),
            }
        }
        self.forget_agents();
    }

    /// Agents whose registration is not there any more are other tests' matter.
    fn forget_agents(&mut self) {
        let registered = &self.oracle.registered;
        self.agents.retain(|addr, _| {
            let registered = registered.get(addr);
            registered.is_some_and(|one| one.expired_at_ms.is_none())
        });
    }

    /// Somebody writes into the published file or removes it; control puts it right.
    pub(super) async fn meddle_with_the_published(&mut self) {
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
    pub(super) async fn put_the_published_back(&mut self) {
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
}

/// The entries of a registry's file.
fn entries(bytes: &[u8]) -> BTreeMap<BackendAddr, Value> {
    let file: Value = serde_json::from_slice(bytes).expect("it is always whole");
    let entries = file["backends"].as_array().cloned().unwrap_or_default();
    let entries = entries.into_iter();
    entries.map(|entry| (addr_of(&entry), entry)).collect()
}
