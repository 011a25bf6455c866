//! What is compared after every step.

use std::fs;

use contract::{DEFAULT_NAME, LocalAddresses};
use serde_json::Value;

use super::super::oracle::{self, DEFAULT_PORT};
use super::World;

impl World {
    /// What control holds is what was answered; every file is whole, and none is litter.
    pub(super) fn look(&self) {
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
    pub(super) fn look_at_the_published(&mut self, is_current: bool) {
        let Ok(bytes) = fs::read(self.published_path()) else {
            assert!(!is_current, "nothing is published");
            return;
        };
        let checked = contract::check(&bytes, &LocalAddresses::default());
        let config = checked.expect("the proxy takes what is published").config;
        let services = oracle::Services::published(&config);
        let mut pools = config.pools.into_iter();
        let pool = pools.find(|pool| pool.name.as_str() == DEFAULT_NAME);
        let pool = pool.expect("each file has this pool");
        let state: Vec<_> = pool.backends.iter().map(oracle::published).collect();
        let generation = config
            .generation
            .expect("control numbers what it publishes");
        let port = config.listeners[0].port;
        let described = format!("{port} {:?} {services:?} {state:?}", pool.algorithm);
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
            assert_eq!(services, self.oracle.services, "published, answered");
            // What is wanted, or what the proxy was last seen to run.
            let wanted = self.oracle.port.unwrap_or(DEFAULT_PORT);
            let is_right = port == wanted || self.oracle.accepted_port == Some(port);
            assert!(is_right, "{port} is published, {:?}", self.oracle);
        }
    }
}
