//! What is played on real sockets: scenarios of the simulation, each with a way of answering.

use bench::sched::choice::{Overrides, choose};
use bench::sched::scenario::Scenario;

use crate::servers::Answers;

/// Whether the proxy also probes its backends and ejects those that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does neither: what is seen is the policy alone, as in the simulation.
    Off,
    /// It does both, as by default, but in times as fast as the model.
    On,
}

#[derive(Debug, Clone)]
pub struct Act {
    pub name: &'static str,
    pub about: &'static str,
    pub scenario: Scenario,
    pub answers: Answers,
    pub health: Health,
}

/// All of them, each with `jobs` arrivals.
pub fn all(jobs: usize) -> Vec<Act> {
    let named = [
        (
            "mixed",
            "mixed_86",
            Answers::Whole,
            Health::Off,
            "fast, middling and slow GPUs (HHHAAMLL), weights left equal",
        ),
        (
            "mixed_streamed",
            "mixed_86",
            Answers::Streamed,
            Health::Off,
            "the same, and answers come in pieces while a job runs",
        ),
        (
            "pressure",
            "pressure_86",
            Answers::Whole,
            Health::Off,
            "the same GPUs, and a job that does not fit into the VRAM is lost",
        ),
        (
            "black_hole",
            "black_hole",
            Answers::Whole,
            Health::Off,
            "equal GPUs, on one of which something else holds most of the VRAM for a while, so that \
             it loses what it gets at once; figures of that time, which is shorter than in the \
             simulation's own page, so that finding it out weighs more",
        ),
        (
            "black_hole_ejected",
            "black_hole",
            Answers::Whole,
            Health::On,
            "the same with what the proxy does about failing backends whatever the policy: probes, and \
             ejection after five failures in a row",
        ),
    ];
    let act = |(name, scenario, answers, health, about)| {
        let found = choose(Some(scenario), None, &Overrides::default());
        let mut found = found.unwrap_or_default();
        let scenario = Scenario {
            jobs,
            ..found.pop().expect("the simulation has it")
        };
        Act {
            name,
            about,
            scenario,
            answers,
            health,
        }
    };
    named.map(act).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_its_scenario_at_the_load_that_its_words_mean() {
        let acts = all(100);
        let loads: Vec<f64> = acts.iter().map(|act| act.scenario.rho).collect();
        assert_eq!(loads, [0.86, 0.86, 0.86, 0.70, 0.70]);
        assert!(acts.iter().all(|act| act.scenario.arrivals(1).len() == 100));
    }
}
