//! A root folder of the contract, made for one test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A temporary root folder with the contract's files in it; removed when dropped.
#[derive(Debug)]
pub struct Folder {
    pub root: Root,
    temporary: TempDir,
}

impl Folder {
    /// An empty one: not even the folders inside exist.
    pub fn new() -> Folder {
        let temporary = TempDir::new().expect("a temporary folder can be made");
        let root = Root(temporary.path().join("control"));
        fs::create_dir(&root.0).expect("a temporary folder can be written");
        Folder { root, temporary }
    }

    /// A place beside the root, for files that are no part of the contract.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    /// The root as an argument of a command line.
    pub fn root_argument(&self) -> &str {
        self.root
            .0
            .to_str()
            .expect("temporary folders have plain names")
    }

    pub fn write_proxy_config(&self, config: &Value) {
        publish(&self.root.proxy_config(), config);
    }

    /// Puts any bytes in the place of `proxy_config.json`, as whole as a right one.
    pub fn write_proxy_config_bytes(&self, bytes: &[u8]) {
        let path = self.root.proxy_config();
        contract::publish(&path, bytes).expect("a temporary folder can be written");
    }

    pub fn write_control_config(&self, config: &Value) {
        publish(&self.root.control_config(), config);
    }

    pub fn write_k8s(&self, backends: &[(SocketAddr, u64)]) {
        publish(&self.root.k8s_endpoints(), &k8s_endpoints(backends));
    }

    /// `proxy_config.json` as it stands, if it does.
    pub fn proxy_config(&self) -> Option<Value> {
        read(&self.root.proxy_config())
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

/// A file of JSON; `None` where there is none.
///
/// # Panics
/// Where the file is not whole: no reader may ever see such a version.
pub fn read(path: &Path) -> Option<Value> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => panic!("{} is not whole JSON: {error}", path.display()),
    }
}

/// What discovery writes.
pub fn k8s_endpoints(backends: &[(SocketAddr, u64)]) -> Value {
    let backends: Vec<Value> = backends.iter().map(entry).collect();
    json!({ "source": "k8s", "updated_at": 1_730_000_000, "backends": backends })
}

/// A `proxy_config.json` with nothing but the keys of the base format. Tests add to it by index.
pub fn proxy_config(listen: SocketAddr, backends: &[(SocketAddr, u64)]) -> Value {
    let backends: Vec<Value> = backends.iter().map(entry).collect();
    json!({
        "listen": { "host": listen.ip(), "port": listen.port() },
        "algorithm": "weighted_round_robin",
        "updated_at": 1_730_000_000,
        "backends": backends,
    })
}

/// `settings` without probes: for tests that count what reaches a backend, where a probe is one more
/// connection.
pub fn without_probes(mut settings: Value) -> Value {
    settings["health"] = json!({ "probe": "off" });
    settings
}

fn entry((addr, weight): &(SocketAddr, u64)) -> Value {
    json!({
        "ip": addr.ip(),
        "port": addr.port(),
        "weight": weight,
        "enabled": true,
        "is_warming_up": false,
        "gpu_usage": 0.2,
        "vram_usage": null,
    })
}

fn publish(path: &Path, value: &Value) {
    let bytes = serde_json::to_vec_pretty(value).expect("a JSON value is written");
    contract::publish(path, &bytes).expect("a temporary folder can be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_configuration_is_one_that_the_contract_takes() {
        let folder = Folder::new();
        let listen = crate::ports::free_address();
        let backend = crate::ports::free_address();
        folder.write_proxy_config(&proxy_config(listen, &[(backend, 30)]));
        let bytes = fs::read(folder.root.proxy_config()).expect("it was written");
        let checked = contract::check(&bytes, &contract::LocalAddresses::default());
        let checked = checked.expect("it is right");
        assert!(
            checked.unknown_keys.is_empty(),
            "{:?}",
            checked.unknown_keys
        );
        let mut addrs = checked.config.listeners[0].addrs();
        assert_eq!(addrs.next(), Some(listen));
        assert_eq!(checked.config.pools[0].backends[0].weight, 30);
    }
}
