//! What the scheduling is meant to reach, beside what it reached: every claim in every scenario that
//! was run.

use crate::figures::{mean, of, p99};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::run::Result;
use contract::Algorithm;

/// One figure that is meant to be at most `limit`.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub scenario: String,
    pub what: &'static str,
    pub value: f64,
    pub limit: f64,
}

impl Claim {
    pub fn is_met(&self) -> bool {
        self.value <= self.limit
    }
}

const TWO_CHOICES: Policy = Policy::Picker(Algorithm::PowerOfTwo);
const PEAK_EWMA: Policy = Policy::Picker(Algorithm::PeakEwma);
const WEIGHTED: Policy = Policy::Picker(Algorithm::WeightedLeastConnections);

/// In the order of the scenarios; those that lack a policy to compare with are left out.
pub fn claims(results: &[Result]) -> Vec<Claim> {
    let ours = results.iter().filter(|one| one.policy == Policy::GPU_AWARE);
    ours.flat_map(|ours| claims_of(results, ours)).collect()
}

fn claims_of(results: &[Result], ours: &Result) -> Vec<Claim> {
    let name = &*ours.scenario.name;
    let p99_to = |what, policy, limit| {
        let value = p99(&ours.outcomes) / p99(&of(results, name, policy)?.outcomes);
        Some(claim(name, what, value, limit))
    };
    let to_lc = |limit| p99_to("p99 / least_connections", Policy::LEAST_CONNECTIONS, limit);
    let claims = match ours.scenario.family() {
        "mixed" | "trace" => vec![
            to_lc(0.65),
            p99_to("p99 / power_of_two", TWO_CHOICES, 0.5),
            p99_to("p99 / peak_ewma", PEAK_EWMA, 0.5),
        ],
        "image" => vec![to_lc(0.78)],
        "pressure" | "image_pressure" => vec![
            lost_to(
                results,
                ours,
                "lost / least_connections",
                name,
                Policy::LEAST_CONNECTIONS,
                1.0 / 3.0,
            ),
            lost_to(
                results,
                ours,
                "lost / weighted_least_connections with true weights",
                &tuned(name),
                WEIGHTED,
                1.0,
            ),
        ],
        "black_hole" => vec![Some(claim(name, "lost", lost(&ours.outcomes), 0.01))],
        "equal" => vec![to_lc(1.05)],
        "tuned" => vec![p99_to("p99 / weighted_least_connections", WEIGHTED, 1.10)],
        "slow" | "cold" => vec![to_lc(0.95)],
        "bursts" => vec![
            to_lc(0.6),
            vram_shares(&ours.outcomes)
                .map(|value| claim(name, "VRAM shares a request", value, 0.25)),
        ],
        "four_proxies" => vec![to_lc(0.75)],
        // These only show what is lost by them.
        _ => Vec::new(),
    };
    claims.into_iter().flatten().collect()
}

fn claim(scenario: &str, what: &'static str, value: f64, limit: f64) -> Claim {
    Claim {
        scenario: scenario.to_owned(),
        what,
        value,
        limit,
    }
}

fn lost_to(
    results: &[Result],
    ours: &Result,
    what: &'static str,
    scenario: &str,
    policy: Policy,
    limit: f64,
) -> Option<Claim> {
    let theirs = lost(&of(results, scenario, policy)?.outcomes);
    let value = lost(&ours.outcomes) / theirs;
    (theirs > 0.0).then(|| claim(&ours.scenario.name, what, value, limit))
}

/// The scenario with the same load, servers and arrivals and with true weights.
fn tuned(name: &str) -> String {
    let (family, rho) = name.rsplit_once('_').unwrap_or((name, ""));
    format!("{family}_tuned_{rho}")
}

pub fn lost(outcomes: &[Outcome]) -> f64 {
    mean(outcomes.iter().map(Outcome::lost_share))
}

/// What a request takes of VRAM, in parts of what it would take alone.
pub fn vram_shares(outcomes: &[Outcome]) -> Option<f64> {
    let shares: Option<f64> = outcomes.iter().map(|outcome| outcome.vram_shares).sum();
    let requests: usize = outcomes.iter().map(Outcome::requests).sum();
    shares.map(|shares| shares / requests.max(1) as f64)
}
