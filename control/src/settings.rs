//! `control_config.json`: the control plane's own settings, read at the start and again on SIGHUP
//! ([`reread`](crate::reread)).
//!
//! The file may be absent or partial. All its faults are reported at once, each with its place; an
//! unknown key is refused with the nearest known one, since a misspelt key that is silently ignored
//! is the worst kind of setting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use contract::reload::DEFAULT_PROCESS_NAMES;
use contract::{Algorithm, Faults, Object, Root, parse_object};
use serde_json::{Map, Value};

use crate::admission::Admission;
use crate::auth::{KnownToken, Scope, SecretHash, TokenSet};
use crate::bounded_read::read_file;
use crate::layer::{self, Layer};
use crate::registry::ExpiryPolicy;
use crate::series;

/// The largest `control_config.json` that is read.
const MAX_FILE_BYTES: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub proxy_config_path: PathBuf,
    pub proxy_pid_path: PathBuf,
    pub k8s_endpoints_path: PathBuf,
    pub static_backends_path: PathBuf,
    pub runtime_backends_path: PathBuf,
    pub settings_runtime_path: PathBuf,
    pub settings_accepted_path: PathBuf,
    pub published_sources_path: PathBuf,
    pub edits_path: PathBuf,
    pub audit_log_path: PathBuf,
    pub control_pid_path: PathBuf,
    /// Explicit settings for the proxy: `default_*` and `proxy`.
    pub proxy: Layer,
    pub auto_sync_interval_s: u64,
    pub expiry: ExpiryPolicy,
    /// Those of this file; `tokens_path` has the others.
    pub tokens: TokenSet,
    pub tokens_path: PathBuf,
    pub token_uses_path: PathBuf,
    pub allowed_hosts: Vec<String>,
    /// `/metrics`, and the details of `/readyz`, need no token.
    pub open_metrics: bool,
    pub admission: Admission,
    pub tls: Option<TlsSettings>,
    pub audit_max_bytes: u64,
    /// The log itself and its older parts together.
    pub audit_files: u64,
    /// For the history that the console's charts show.
    pub history_max_bytes: u64,
    /// Process names that count as a proxy if the pid file has no lock.
    pub proxy_process_names: Vec<String>,
}

/// The console by TLS, on a port of its own beside the one that programs use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `control_config.json`, and what overrides it.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    pub root: Root,
    /// The address of the command line.
    pub listen: Option<SocketAddr>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{path}: {faults}", path = .path.display())]
    Faults { path: PathBuf, faults: Faults },
    #[error("{path}: {error}", path = .path.display())]
    Unread { path: PathBuf, error: io::Error },
}

impl SettingsFile {
    /// Without a command line.
    pub fn at(root: &Root) -> SettingsFile {
        SettingsFile {
            root: root.clone(),
            listen: None,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.root.control_config()
    }

    /// # Errors
    /// The file cannot be read, or every fault of it.
    pub fn read(&self) -> Result<Settings, SettingsError> {
        let path = self.path();
        let bytes = match read_file(&path, MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => return Err(SettingsError::Unread { path, error }),
        };
        let settings = Settings::read(bytes.as_deref(), &self.root)
            .map_err(|faults| SettingsError::Faults { path, faults })?;
        Ok(Settings {
            listen: self.listen.unwrap_or(settings.listen),
            ..settings
        })
    }
}

impl Settings {
    /// Reads `control_config.json` below `root`; `bytes` is `None` if there is no such file.
    ///
    /// # Errors
    /// Every fault of the file, unknown keys included.
    pub fn read(bytes: Option<&[u8]>, root: &Root) -> Result<Settings, Faults> {
        let map = match bytes {
            Some(bytes) => parse_object(bytes, MAX_FILE_BYTES)?,
            None => Map::new(),
        };
        let mut faults = Faults::default();
        let mut object = Object::new(&map, "");
        let settings = read_known_keys(&mut object, root, &mut faults);
        object.unknown_keys(&mut faults);
        if faults.is_empty() {
            Ok(settings)
        } else {
            Err(faults)
        }
    }
}

impl Settings {
    /// A timer of `auto_sync_interval_sec`, whose first tick comes at once.
    pub fn auto_sync(&self) -> tokio::time::Interval {
        let mut timer = tokio::time::interval(Duration::from_secs(self.auto_sync_interval_s));
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer
    }
}

fn read_known_keys(object: &mut Object, root: &Root, faults: &mut Faults) -> Settings {
    const DAY_S: u64 = 86_400;
    let host = layer::take_ip(object, "host", faults);
    let mut integer = |key, min, max, default| {
        object
            .take_integer(key, min, max, faults)
            .unwrap_or(default)
    };
    // Port 0 lets the kernel choose; the log then says which.
    let port = integer("port", 0, 65535, 8080) as u16;
    let auto_sync_interval_s = integer("auto_sync_interval_sec", 1, DAY_S, 5);
    let ttl_s = integer("runtime_ttl_sec", 1, DAY_S, 15);
    let warmup_s = integer("warmup_sec", 0, DAY_S, 0);
    let audit_max_bytes = integer("audit_max_bytes", 4096, 1 << 40, 10 << 20);
    let audit_files = integer("audit_files", 1, 1000, 5);
    let history_max_bytes = integer(
        "history_max_bytes",
        series::LEAST_BYTES,
        1 << 40,
        series::DEFAULT_BYTES,
    );
    let mut path = |key, default: PathBuf| {
        let named = object.take_string(key, faults);
        named.map_or(default, |named| root.0.join(named))
    };
    Settings {
        listen: SocketAddr::new(host.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port),
        proxy_config_path: path("proxy_config_path", root.proxy_config()),
        proxy_pid_path: path("proxy_pid_path", root.proxy_pid()),
        k8s_endpoints_path: path("k8s_endpoints_path", root.k8s_endpoints()),
        static_backends_path: path("static_backends_path", root.static_backends()),
        runtime_backends_path: path("runtime_backends_path", root.backends_runtime()),
        settings_runtime_path: root.settings_runtime(),
        settings_accepted_path: root.settings_accepted(),
        published_sources_path: root.published_sources(),
        edits_path: root.edits(),
        audit_log_path: path("audit_log_path", root.audit_log()),
        control_pid_path: root.0.join("run/control.pid"),
        proxy: read_proxy_layer(object, faults),
        auto_sync_interval_s,
        expiry: ExpiryPolicy {
            ttl_ms: ttl_s * 1000,
            warmup_ms: warmup_s * 1000,
            freeze: object.take_bool("expiry_freeze", faults).unwrap_or(true),
        },
        tokens: read_tokens(object, faults),
        tokens_path: root.tokens(),
        token_uses_path: root.token_uses(),
        admission: Admission::read(object, faults),
        tls: read_tls(object, host, root, faults),
        allowed_hosts: read_words(object, "allowed_hosts", faults).unwrap_or_default(),
        open_metrics: object.take_bool("open_metrics", faults).unwrap_or(false),
        audit_max_bytes,
        audit_files,
        history_max_bytes,
        proxy_process_names: read_words(object, "proxy_process_names", faults)
            .unwrap_or_else(|| DEFAULT_PROCESS_NAMES.map(str::to_owned).to_vec()),
    }
}

fn read_proxy_layer(object: &mut Object, faults: &mut Faults) -> Layer {
    let host: Option<IpAddr> = layer::take_ip(object, "default_listen_host", faults);
    let port = object.take_integer("default_listen_port", 1, 65535, faults);
    let algorithm = object.take_choice("default_algorithm", &Algorithm::ALL, faults);
    let mut layer = layer::of_proxy(object, faults);
    layer.host = host;
    layer.port = port.map(|port| port as u16);
    layer.algorithm = algorithm;
    layer
}

/// `tls: {host?, port?, certificate, key}`; `host` is the one of the other port by default.
fn read_tls(
    object: &mut Object,
    host: Option<IpAddr>,
    root: &Root,
    faults: &mut Faults,
) -> Option<TlsSettings> {
    const PORT: u64 = 8443;
    let place = object.pointer("tls");
    let map = match object.take("tls")? {
        Value::Object(map) => map,
        other => {
            faults.add(&place, other, "an object {host, port, certificate, key}");
            return None;
        }
    };
    let mut object = Object::new(map, place);
    let own_host = layer::take_ip(&mut object, "host", faults);
    let port = object
        .take_integer("port", 0, 65535, faults)
        .unwrap_or(PORT);
    let mut path = |key| {
        object.take_required(key, "the path of a PEM file", faults)?;
        Some(root.0.join(object.take_string(key, faults)?))
    };
    let (certificate, key) = (path("certificate"), path("key"));
    object.unknown_keys(faults);
    let host = own_host.or(host).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    Some(TlsSettings {
        listen: SocketAddr::new(host, port as u16),
        certificate: certificate?,
        key: key?,
    })
}

/// `tokens: {read, register, write}`. `write` is older than the scope `admin`, and may do everything.
fn read_tokens(object: &mut Object, faults: &mut Faults) -> TokenSet {
    const KEYS: [(&str, Scope); 3] = [
        ("read", Scope::Read),
        ("register", Scope::Register),
        ("write", Scope::Admin),
    ];
    let mut tokens = TokenSet::default();
    let place = object.pointer("tokens");
    let map = match object.take("tokens") {
        None => return tokens,
        Some(Value::Object(map)) => map,
        Some(_) => {
            faults.add(&place, "no object", "an object {read, register, write}");
            return tokens;
        }
    };
    let mut object = Object::new(map, place.clone());
    for (key, scope) in KEYS {
        let Some(text) = object.take_string(key, faults) else {
            continue;
        };
        match SecretHash::parse(text) {
            Some(hash) => tokens.0.push(KnownToken {
                hash,
                scope,
                label: format!("the {key} token"),
                expires_at: None,
                is_generated: false,
            }),
            // The value itself is a secret, even a bad one.
            None => faults.add(
                &format!("{place}/{key}"),
                "an unusable token",
                "at least 8 printable ASCII characters without spaces, or sha256: and 64 \
                 hexadecimal digits",
            ),
        }
    }
    object.unknown_keys(faults);
    if map.values().all(Value::is_null) {
        faults.add(&place, "no token", "at least one of read, register, write");
    }
    tokens
}

/// A list of words; `None` if the key is absent.
fn read_words(object: &mut Object, key: &'static str, faults: &mut Faults) -> Option<Vec<String>> {
    let place = object.pointer(key);
    let Value::Array(items) = object.take(key)? else {
        faults.add(&place, "no array", "an array of strings");
        return None;
    };
    let mut words = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().filter(|word| !word.trim().is_empty()) {
            Some(word) => words.push(word.trim().to_owned()),
            None => faults.add(&format!("{place}/{index}"), item, "a string, not empty"),
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn read(value: Value) -> Result<Settings, Faults> {
        Settings::read(Some(value.to_string().as_bytes()), &Root("r".into()))
    }

    #[test]
    fn an_absent_file_means_the_documented_defaults() {
        let settings = Settings::read(None, &Root("r".into())).expect("defaults");
        assert_eq!(settings.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(
            settings.proxy_config_path,
            Path::new("r/config/proxy_config.json")
        );
        assert_eq!(
            (settings.auto_sync_interval_s, settings.expiry.ttl_ms),
            (5, 15_000)
        );
        assert!(settings.expiry.freeze && settings.tokens.0.is_empty());
        assert_eq!(settings.proxy, Layer::default());
    }

    #[test]
    fn relative_paths_are_relative_to_the_root_and_absolute_ones_are_not() {
        let settings = read(json!({"proxy_pid_path": "x/p.pid", "audit_log_path": "/var/a.log"}))
            .expect("good");
        assert_eq!(settings.proxy_pid_path, Path::new("r/x/p.pid"));
        assert_eq!(settings.audit_log_path, Path::new("/var/a.log"));
    }

    #[test]
    fn every_key_of_the_field_is_known() {
        read(json!({
            "host": "127.0.0.1", "port": 8081, "proxy_config_path": "a", "proxy_pid_path": "b",
            "k8s_endpoints_path": "c", "static_backends_path": "f", "runtime_backends_path": "d", "audit_log_path": "e",
            "default_listen_host": "127.0.0.1", "default_listen_port": 10081,
            "default_algorithm": "random", "auto_sync_interval_sec": 1, "runtime_ttl_sec": 2,
            "warmup_sec": 3, "tokens": {"write": "long-enough"}, "allowed_hosts": ["a.example"],
            "proxy": {"connect_attempts": 2}, "expiry_freeze": false, "audit_max_bytes": 10000,
            "audit_files": 2, "proxy_process_names": ["proxy_server"],
            "registration": {"max_backends": 9}, "open_metrics": true,
            "tls": {"host": "127.0.0.1", "port": 8444, "certificate": "c.pem", "key": "k.pem"},
        }))
        .expect("good");
    }

    #[test]
    fn all_faults_are_told_at_once_each_with_its_place() {
        let faults = read(json!({
            "host": "localhost", "port": 70000, "runtime_ttl_sec": 0, "default_algorithm": "rr",
            "tokens": {"write": "short", "admin": "x"}, "allowed_hosts": ["a", 7],
            "proxy": {"connect_attempts": 99}, "audit_log_path": 3, "runtime_ttl": 5,
            "open_metrics": "yes",
            "tls": {"certificate": 1, "port": 70000, "crt": "x"},
        }))
        .expect_err("bad");
        let mut places: Vec<&str> = faults.0.iter().map(|fault| fault.place.as_str()).collect();
        places.sort_unstable();
        let expected = [
            "/allowed_hosts/1",
            "/audit_log_path",
            "/default_algorithm",
            "/host",
            "/open_metrics",
            "/port",
            "/proxy/connect_attempts",
            "/runtime_ttl",
            "/runtime_ttl_sec",
            "/tls/certificate",
            "/tls/crt",
            "/tls/key",
            "/tls/port",
            "/tokens/admin",
            "/tokens/write",
        ];
        assert_eq!(places, expected);
        let text = faults.to_string();
        assert!(text.contains("did you mean \"runtime_ttl_sec\""), "{text}");
        assert!(!text.contains("short"), "a token leaked: {text}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["", "[]", "{", "null", "{\"port\": NaN}"] {
            assert!(Settings::read(Some(bad.as_bytes()), &Root("r".into())).is_err());
        }
    }
}
