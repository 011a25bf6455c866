//! Files that somebody puts back as they once were, or breaks.

use std::fs;

use serde_json::{Value, json};

use super::{Backup, World};

impl World {
    /// Somebody keeps the settings by API, or puts them back, with a time that says nothing.
    pub(super) async fn back_up_or_restore(&mut self) {
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

    pub(super) fn put_back(&mut self) {
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
