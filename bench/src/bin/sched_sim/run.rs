//! All runs, on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::scenario::Scenario;
use crate::simulation;

/// One scenario under one policy.
pub struct Result {
    pub scenario: Scenario,
    pub policy: Policy,
    /// By seed.
    pub outcomes: Vec<Outcome>,
}

/// Each scenario under each policy, with the seeds from 1 to `seeds`.
pub fn all(scenarios: &[Scenario], policies: &[Policy], seeds: u64) -> Vec<Result> {
    let pairs = scenarios
        .iter()
        .flat_map(|scenario| policies.iter().map(move |policy| (scenario, *policy)));
    let pairs: Vec<(&Scenario, Policy)> = pairs.collect();
    let per_pair = seeds as usize;
    let outcomes = Mutex::new(vec![Outcome::default(); pairs.len() * per_pair]);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Relaxed);
            let Some((scenario, policy)) = pairs.get(at / per_pair) else {
                return;
            };
            let seed = (at % per_pair) as u64 + 1;
            let outcome = simulation::run(scenario, *policy, seed);
            outcomes.lock().unwrap_or_else(PoisonError::into_inner)[at] = outcome;
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter();
    let result = |(scenario, policy): (&Scenario, Policy)| Result {
        scenario: scenario.clone(),
        policy,
        outcomes: outcomes.by_ref().take(per_pair).collect(),
    };
    pairs.into_iter().map(result).collect()
}
