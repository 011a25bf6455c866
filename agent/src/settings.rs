//! What to read, for which addresses, and how often. Comes from a JSON file or the command line, both with
//! the same checks; all faults are reported at once, each with its place.

mod engine;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contract::{Faults, Object, parse_object};
use control_client::BaseUrl;
use control_client::arguments::{base_url, given_twice};
use serde_json::Value;

pub use engine::{EngineSettings, Source, read_engine};

use crate::watched::MAX_FILE_BYTES;

/// The most controls.
pub const MAX_CONTROLS: usize = 8;
/// The most engines of one node.
pub const MAX_ENGINES: usize = 64;

pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(1_000);
const DEFAULT_STALE: Duration = Duration::from_millis(5_000);

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// In the order in which they are called; empty if none is set.
    pub control: Vec<BaseUrl>,
    pub token_file: Option<PathBuf>,
    pub owner_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    /// Where the agent serves its own metrics.
    pub metrics_listen: Option<SocketAddr>,
    pub interval: Duration,
    /// The age up to which a reading is reported.
    pub stale_after: Duration,
    pub engines: Vec<EngineSettings>,
}

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// Every fault of the file, unknown keys included.
    pub fn read(bytes: &[u8]) -> Result<Settings, Faults> {
        let map = parse_object(bytes, MAX_FILE_BYTES)?;
        let mut faults = Faults::default();
        let mut object = Object::new(&map, "");
        let control = read_controls(&mut object, &mut faults);
        let mut path = |key| object.take_string(key, &mut faults).map(PathBuf::from);
        let (token_file, owner_file) = (path("token_file"), path("owner_file"));
        let ca_file = path("ca_file");
        let metrics_listen = read_listen(&mut object, &mut faults);
        let mut duration = |key, min, max, default| {
            let ms = object.take_integer(key, min, max, &mut faults);
            ms.map_or(default, Duration::from_millis)
        };
        let settings = Settings {
            control,
            token_file,
            owner_file,
            ca_file,
            metrics_listen,
            interval: duration("interval_ms", 100, 60_000, DEFAULT_INTERVAL),
            stale_after: duration("stale_ms", 100, 600_000, DEFAULT_STALE),
            engines: read_engines(&mut object, &mut faults),
        };
        object.unknown_keys(&mut faults);
        if faults.is_empty() {
            Ok(settings)
        } else {
            Err(faults)
        }
    }

    /// The settings of one engine alone.
    pub fn of(engine: EngineSettings) -> Settings {
        Settings {
            control: Vec::new(),
            token_file: None,
            owner_file: None,
            ca_file: None,
            metrics_listen: None,
            interval: DEFAULT_INTERVAL,
            stale_after: DEFAULT_STALE,
            engines: vec![engine],
        }
    }
}

fn read_listen(object: &mut Object, faults: &mut Faults) -> Option<SocketAddr> {
    let value = object.take("metrics_listen")?;
    let listen = value.as_str().and_then(|text| text.parse().ok());
    if listen.is_none() {
        let allowed = "an address and port such as 127.0.0.1:9105";
        faults.add("/metrics_listen", value, allowed);
    }
    listen
}

/// `allowed` as the parsers of command lines word it.
fn add(faults: &mut Faults, place: &str, found: &Value, allowed: &str) {
    faults.add(place, found, allowed.trim_start_matches("allowed: "));
}

/// One URL, or several in an array.
fn read_controls(object: &mut Object, faults: &mut Faults) -> Vec<BaseUrl> {
    let items = match object.take("control") {
        None => return Vec::new(),
        Some(Value::Array(items)) => items.as_slice(),
        Some(single) => std::slice::from_ref(single),
    };
    if !(1..=MAX_CONTROLS).contains(&items.len()) {
        let allowed = format!("1 to {MAX_CONTROLS} URLs");
        faults.add("/control", format!("{} URLs", items.len()), allowed);
        return Vec::new();
    }
    let mut controls = Vec::with_capacity(items.len());
    for item in items {
        match item.as_str().map(base_url) {
            Some(Ok(control)) => controls.push(control),
            // It may hold a password.
            Some(Err(allowed)) if item.to_string().contains('@') => {
                add(
                    faults,
                    "/control",
                    &"a URL with USER:PASSWORD@".into(),
                    &allowed,
                );
            }
            Some(Err(allowed)) => add(faults, "/control", item, &allowed),
            None => faults.add("/control", item, "a URL, or several URLs in an array"),
        }
    }
    if let Some(twice) = given_twice(&controls) {
        faults.add(
            "/control",
            format!("{} a second time", twice.0),
            "each URL once",
        );
    }
    controls
}

fn read_engines(object: &mut Object, faults: &mut Faults) -> Vec<EngineSettings> {
    let allowed = format!("an array of 1 to {MAX_ENGINES} engines");
    let Some(value) = object.take_required("engines", &allowed, faults) else {
        return Vec::new();
    };
    let items = match value {
        Value::Array(items) if (1..=MAX_ENGINES).contains(&items.len()) => items,
        Value::Array(items) => {
            faults.add("/engines", format!("{} engines", items.len()), allowed);
            return Vec::new();
        }
        other => {
            faults.add("/engines", other, allowed);
            return Vec::new();
        }
    };
    let mut engines: Vec<EngineSettings> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = format!("/engines/{index}");
        let Value::Object(map) = item else {
            faults.add(&place, item, "an object with advertise and source");
            continue;
        };
        let Some(engine) = read_engine(map, &place, faults) else {
            continue;
        };
        let place = format!("{place}/advertise");
        match engines
            .iter()
            .any(|other| other.advertise == engine.advertise)
        {
            true => faults.add(&place, engine.advertise, "each address once"),
            false => engines.push(engine),
        }
    }
    engines
}
