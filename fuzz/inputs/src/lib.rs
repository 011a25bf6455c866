//! Every format that others write and our programs read, as functions of bytes.
//!
//! A target returns, whatever it is given, and asserts what must hold of what it accepts. Three
//! callers share them: `cargo fuzz` (with coverage, on nightly), the program `mutate` (by seed, on
//! stable, for as long as one likes), and the test that replays the committed corpora.

pub mod mutate;

use std::path::{Path, PathBuf};

use agent::engines::Engine;
use contract::LocalAddresses;
use contract::status::{Reports, Running, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One format.
pub struct Target {
    /// Also the name of its corpus and of its fuzz target.
    pub name: &'static str,
    pub read: fn(&[u8]),
}

pub const TARGETS: [Target; 11] = [
    target("configuration", configuration),
    target("control_config", control::inputs::settings),
    target("discovery_file", control::inputs::discovery_file),
    target("registry_file", control::inputs::registry_file),
    target("token_file", control::inputs::token_file),
    target("registration", control::inputs::registration),
    target("changes", control::inputs::changes),
    target("audit_log", audit_log),
    target("admin_answers", admin_answers),
    target("expositions", expositions),
    target("agent_config", agent_config),
];

const fn target(name: &'static str, read: fn(&[u8])) -> Target {
    Target { name, read }
}

/// The target of that name.
///
/// # Panics
/// Where there is none.
pub fn named(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target is called {name}"))
}

/// Where the committed corpora are.
pub fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

/// The corpus of a target, in the order of its names.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = corpora().join(name);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path| std::fs::read(path).expect("a committed file");
    paths.iter().map(read).collect()
}

/// `proxy_config.json`. What is accepted is written out and read again as the same.
fn configuration(bytes: &[u8]) {
    let local = LocalAddresses::default();
    let generation = contract::config::generation_of(bytes);
    let Ok(checked) = contract::check(bytes, &local) else {
        return;
    };
    assert_eq!(checked.config.generation, generation);
    let written = checked.config.to_json().to_string();
    let again = contract::check(written.as_bytes(), &local).expect("what we write is accepted");
    assert_eq!(again.config, checked.config);
}

/// What the proxy answers on its admin socket and takes there.
fn admin_answers(bytes: &[u8]) {
    round_trip::<Status>(bytes);
    round_trip::<Running>(bytes);
    round_trip::<Reports>(bytes);
}

fn round_trip<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&read).expect("plain data");
    let again: T = serde_json::from_slice(&written).expect("what we write can be read");
    let again = serde_json::to_vec(&again).expect("plain data");
    assert_eq!(written, again);
}

/// What inference engines say in their metrics, whichever they are.
fn expositions(bytes: &[u8]) {
    for engine in Engine::ALL {
        let Ok(reading) = engine.read(bytes, &[]) else {
            continue;
        };
        let is_cut = !bytes.ends_with(b"\n") && !bytes.ends_with(b"# EOF");
        assert!(!is_cut, "{}: read though it was cut", engine.name());
        let figures = reading.figures;
        for share in [figures.gpu_usage, figures.vram_usage]
            .into_iter()
            .flatten()
        {
            assert!((0.0..=1.0).contains(&share), "{}: {share}", engine.name());
        }
    }
}

fn agent_config(bytes: &[u8]) {
    if let Err(faults) = agent::settings::Settings::read(bytes) {
        assert!(!faults.is_empty(), "a refusal names at least one fault");
    }
}

fn audit_log(bytes: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = temporary_folder();
    }
    FOLDER.with(|folder| control::inputs::audit_log(bytes, &folder.path().join("audit.log")));
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
