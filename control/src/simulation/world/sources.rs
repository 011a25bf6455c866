//! Discovery, and those who edit control's files by hand.

use std::collections::BTreeMap;
use std::fs;

use contract::BackendAddr;
use serde_json::{Value, json};

use super::super::oracle;
use super::World;
use super::restores::STATIC_LIST;

impl World {
    /// Discovery writes another list.
    pub(super) fn discover(&mut self) {
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

    /// Somebody writes something else into a list of backends, or nothing, for a while.
    pub(super) async fn break_a_list(&mut self) {
        let names = ["k8s_endpoints.json", STATIC_LIST];
        let name = names[self.random.usize(0..names.len())];
        let path = self.path_of("data", name);
        let Ok(good) = fs::read(&path) else { return };
        let broken: [&[u8]; 5] = [b"", b"{", b"{}", b"\xff\x00", b"{\"backends\": [7]}"];
        let bytes = broken[self.random.usize(0..broken.len())];
        fs::write(&path, bytes).expect("written");
        self.read_sources().await;
        self.look();
        // A restart meanwhile is another test's: here what it last said is to be found again.
        contract::publish(&path, &good).expect("written");
        self.read_sources().await;
    }

    /// Somebody writes another static list by hand.
    pub(super) async fn edit_the_static_list(&mut self) {
        if !self.can_store() {
            return;
        }
        let mut listed = BTreeMap::new();
        for _ in 0..self.random.usize(0..4) {
            let weight = self.random.bool().then(|| self.random.u16(100..200));
            let enabled = self.random.bool().then(|| self.random.bool());
            listed.insert(self.addr(), (weight, enabled));
        }
        let entry = |(addr, (weight, enabled)): (&BackendAddr, &oracle::Listed)| json!({ "ip": addr.ip(), "port": addr.port(), "weight": weight, "enabled": enabled });
        let backends: Vec<Value> = listed.iter().map(entry).collect();
        let document = json!({ "owner": "ops", "backends": backends });
        fs::write(self.path_of("data", STATIC_LIST), document.to_string()).expect("written");
        self.oracle.statics = listed;
        match self.random.bool() {
            true => self.read_sources().await,
            // Control finds it when it is asked for an edit.
            false => self.list().await,
        }
    }

    /// Somebody edits a weight in the registry's file.
    pub(super) async fn edit_by_others(&mut self) {
        self.fold().await;
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
        let addr = addr_of(entry);
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

    pub(super) async fn read_sources(&mut self) {
        self.control().keeper.read_sources().await;
    }
}

/// Whose entry of a file it is.
pub(super) fn addr_of(entry: &Value) -> BackendAddr {
    let port = entry["port"].as_u64().and_then(|port| port.try_into().ok());
    let ip = entry["ip"].as_str().and_then(|ip| ip.parse().ok());
    BackendAddr::new(ip.expect("an ip"), port.expect("a port"))
}
