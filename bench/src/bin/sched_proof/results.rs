//! All samples of a run of the program, and what they come to by act and policy.

use std::path::Path;

use bench::machine::Machine;
use bench::statistics::range;
use serde_json::{Value, json};

use crate::act::Act;
use crate::clock::SPEED;
use crate::sample::Sample;

pub struct Results {
    pub machine: Machine,
    pub version: String,
    pub acts: Vec<Act>,
    pub samples: Vec<Sample>,
}

/// One act under one policy: means over the valid rounds, as the simulation has means over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub policy: &'static str,
    pub rounds: usize,
    pub invalid: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p99_range_ms: (f64, f64),
    pub p99_is_at_least: bool,
    pub lost_share: f64,
    pub lost_range: (f64, f64),
    pub unanswered_share: f64,
    pub simulated_p99_ms: f64,
    pub simulated_lost_share: f64,
    pub cores_used: f64,
}

pub const LEAST_CONNECTIONS: &str = "least_connections";
pub const GPU_AWARE: &str = "gpu_aware";

impl Results {
    /// The rows of an act, in the order in which its policies first ran in the first round.
    pub fn rows(&self, act: &str) -> Vec<Row> {
        let of_act = || self.samples.iter().filter(|sample| sample.act == act);
        let mut policies: Vec<&'static str> = of_act().map(|sample| sample.policy).collect();
        policies.sort_by_key(|policy| place_of(policy));
        policies.dedup();
        let rows = policies.into_iter().filter_map(|policy| {
            let samples = of_act().filter(|sample| sample.policy == policy);
            row(policy, &samples.collect::<Vec<_>>())
        });
        rows.collect()
    }

    pub fn to_json(&self) -> Value {
        let acts = self.acts.iter().map(|act| {
            json!({
                "name": act.name, "about": act.about, "scenario": act.scenario.name,
                "load": act.scenario.rho, "answers": act.answers, "jobs": act.scenario.jobs,
            })
        });
        json!({
            "what": "models of GPU servers on real sockets, through the real planes; no GPU took part",
            "version": self.version, "machine": self.machine, "model_seconds_a_second": SPEED,
            "acts": acts.collect::<Vec<_>>(), "samples": self.samples,
        })
    }

    pub fn write_raw(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&self.to_json())?;
        std::fs::write(path, text + "\n")
    }
}

/// As the simulation orders them.
fn place_of(policy: &str) -> usize {
    use bench::sched::policy::Policy;
    let all = Policy::ALL.iter();
    let place = all.clone().position(|one| one.name() == policy);
    place.unwrap_or(all.len())
}

/// `None` where no round was valid.
fn row(policy: &'static str, samples: &[&Sample]) -> Option<Row> {
    let valid: Vec<&&Sample> = samples.iter().filter(|sample| sample.is_valid).collect();
    let mean = |figure: fn(&Sample) -> f64| {
        let sum: f64 = valid.iter().map(|sample| figure(sample)).sum();
        sum / valid.len() as f64
    };
    let all = |figure: fn(&Sample) -> f64| range(valid.iter().map(|sample| figure(sample)));
    Some(Row {
        policy,
        rounds: valid.len(),
        invalid: samples.len() - valid.len(),
        p50_ms: mean(|sample| sample.p50_ms),
        p99_ms: mean(|sample| sample.p99_ms),
        p99_range_ms: all(|sample| sample.p99_ms)?,
        p99_is_at_least: valid.iter().any(|sample| sample.p99_is_at_least),
        lost_share: mean(|sample| sample.lost_share),
        lost_range: all(|sample| sample.lost_share)?,
        unanswered_share: mean(|sample| sample.unanswered_share),
        simulated_p99_ms: mean(|sample| sample.simulated.p99_ms),
        simulated_lost_share: mean(|sample| sample.simulated.lost_share),
        cores_used: mean(|sample| sample.cores_used),
    })
}

/// `figure` in parts of that of least_connections; `None` where that has none.
pub fn to_least_connections(rows: &[Row], row: &Row, figure: fn(&Row) -> f64) -> Option<f64> {
    let reference = rows.iter().find(|row| row.policy == LEAST_CONNECTIONS)?;
    let reference = figure(reference);
    (reference > 0.0).then(|| figure(row) / reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Simulated;

    fn sample(policy: &'static str, is_valid: bool, p99_ms: f64) -> Sample {
        Sample {
            act: "mixed",
            policy,
            round: 1,
            is_valid,
            jobs: 10,
            p50_ms: p99_ms / 10.0,
            p99_ms,
            p99_is_at_least: false,
            lost_share: 0.0,
            unanswered_share: 0.0,
            by_server: vec![10],
            simulated: Simulated {
                p50_ms: 1.0,
                p99_ms: 2.0,
                lost_share: 0.0,
            },
            sent_late_share: 0.0,
            answered_late_share: 0.0,
            cores_used: 0.2,
            cores_of_others: 0.0,
            reports_taken_by_control: 1,
            reports_failed: 0,
            reloads: 0,
            oldest_report_ms: 1,
        }
    }

    fn results(samples: Vec<Sample>) -> Results {
        Results {
            machine: Machine::look(false),
            version: String::new(),
            acts: Vec::new(),
            samples,
        }
    }

    #[test]
    fn only_valid_rounds_count_and_ratios_are_to_least_connections() {
        let results = results(vec![
            sample(GPU_AWARE, true, 30.0),
            sample(LEAST_CONNECTIONS, true, 80.0),
            sample(GPU_AWARE, true, 50.0),
            sample(GPU_AWARE, false, 9_000.0),
        ]);
        let rows = results.rows("mixed");
        let names: Vec<&str> = rows.iter().map(|row| row.policy).collect();
        assert_eq!(names, [LEAST_CONNECTIONS, GPU_AWARE]);
        let ours = &rows[1];
        assert_eq!((ours.rounds, ours.invalid, ours.p99_ms), (2, 1, 40.0));
        assert_eq!(ours.p99_range_ms, (30.0, 50.0));
        let ratio = |figure| to_least_connections(&rows, ours, figure);
        assert_eq!(ratio(|row| row.p99_ms), Some(0.5));
        assert_eq!(ratio(|row| row.lost_share), None);
    }

    #[test]
    fn without_a_valid_round_there_is_no_row() {
        assert_eq!(
            results(vec![sample(GPU_AWARE, false, 1.0)]).rows("mixed"),
            []
        );
    }
}
