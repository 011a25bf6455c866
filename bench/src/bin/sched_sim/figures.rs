//! From outcomes to the figures that are shown.

use serde::Serialize;

use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::run::Result;

/// One scenario under one policy. Latencies are means over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub scenario: String,
    pub policy: &'static str,
    pub seeds: usize,
    pub p50_s: f64,
    pub p99_s: f64,
    pub lost_share: f64,
    /// `p99_s` in parts of that of least_connections; absent where that was not run.
    pub p99_ratio_to_lc: Option<f64>,
}

pub fn rows(results: &[Result]) -> Vec<Row> {
    let row = |result: &Result| {
        let p99_s = p99(&result.outcomes);
        let reference = reference(results, result).map(|reference| p99(&reference.outcomes));
        Row {
            scenario: result.scenario.name.clone(),
            policy: result.policy.name(),
            seeds: result.outcomes.len(),
            p50_s: mean(result.outcomes.iter().map(|outcome| outcome.quantile(0.5))),
            p99_s,
            lost_share: mean(result.outcomes.iter().map(Outcome::lost_share)),
            p99_ratio_to_lc: reference.map(|reference| p99_s / reference),
        }
    };
    results.iter().map(row).collect()
}

/// least_connections in the same scenario.
pub fn reference<'a>(results: &'a [Result], result: &Result) -> Option<&'a Result> {
    of(results, &result.scenario.name, Policy::LEAST_CONNECTIONS)
}

pub fn of<'a>(results: &'a [Result], scenario: &str, policy: Policy) -> Option<&'a Result> {
    let mut all = results.iter();
    all.find(|one| one.scenario.name == scenario && one.policy == policy)
}

/// Mean over the seeds.
pub fn p99(outcomes: &[Outcome]) -> f64 {
    mean(outcomes.iter().map(|outcome| outcome.quantile(0.99)))
}

pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}
