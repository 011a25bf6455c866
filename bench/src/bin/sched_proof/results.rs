//! All samples of a run of the program, and what they come to by act and policy.

use bench::machine::Machine;
use bench::statistics::range;
use contract::Algorithm;
use serde::{Deserialize, Serialize};

use crate::act::{self, Act};
use crate::sample::Sample;

/// What is kept as raw figures, and enough to draw the rest again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub what: String,
    pub version: String,
    pub machine: Machine,
    pub model_seconds_a_second: f64,
    /// Jobs of each run.
    pub jobs: usize,
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

pub const ROUND_ROBIN: &str = "round_robin";
pub const LEAST_CONNECTIONS: &str = "least_connections";
pub const GPU_AWARE: &str = "gpu_aware";

impl Results {
    /// Those that were played.
    pub fn acts(&self) -> Vec<Act> {
        let was_played = |act: &Act| self.samples.iter().any(|sample| sample.act == act.name);
        act::all(self.jobs).into_iter().filter(was_played).collect()
    }

    /// The rows of an act, in the order in which the contract names policies.
    pub fn rows(&self, act: &str) -> Vec<Row> {
        let rows = Algorithm::ALL.iter().filter_map(|&(policy, _)| {
            let samples = self.samples.iter();
            let samples = samples.filter(|sample| sample.act == act && sample.policy == policy);
            row(policy, &samples.collect::<Vec<_>>())
        });
        rows.collect()
    }
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

    fn sample(policy: &str, is_valid: bool, p99_ms: f64) -> Sample {
        Sample {
            act: "mixed".to_owned(),
            policy: policy.to_owned(),
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
            what: String::new(),
            version: String::new(),
            machine: Machine::look(false),
            model_seconds_a_second: 20.0,
            jobs: 100,
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
        assert_eq!(results.acts().len(), 1);
    }

    #[test]
    fn without_a_valid_round_there_is_no_row() {
        assert_eq!(
            results(vec![sample(GPU_AWARE, false, 1.0)]).rows("mixed"),
            []
        );
    }
}
