//! What is simulated: servers, weights, load and disturbances.

use std::ops::Range;

use contract::Batch;

use crate::server::{Kind, Mode};
use crate::workload::{Arrival, Workload};

#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// That of its family, and its load where the family has several.
    pub name: String,
    pub about: &'static str,
    pub servers: Vec<Kind>,
    /// As configured; a policy may go by them or not.
    pub weights: Vec<u16>,
    pub workload: Workload,
    /// Offered work in parts of what all servers can do.
    pub rho: f64,
    pub mode: Mode,
    pub proxies: usize,
    pub disturbance: Disturbance,
    /// What servers merge, and say so.
    pub batch: Option<Batch>,
    /// The share of VRAM, and of its GPU, that every other server reports whatever is true.
    pub lie: Option<f64>,
    /// Arrivals of a run; a trace has its own.
    pub jobs: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disturbance {
    None,
    /// The first server works at a quarter of its speed from 20 to 80 % of the run.
    Slow,
    /// The last server joins at 30 % of the run, and warms up. Only `gpu_aware` is told so; the
    /// others go by what they see, as balancers do that know no warm-up.
    Cold,
    /// The same, and all are told.
    ColdTold,
    /// Something else holds most of the first server's VRAM from 30 to 50 % of the run.
    BlackHole,
}

/// What the command line says in place of the scenarios.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    pub rho: Option<f64>,
    pub mode: Option<Mode>,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScenarioError {
    #[error(
        "--scenario: found {found:?}, allowed: all, list, {allowed}, or one of these and its load, as mixed_86"
    )]
    Unknown { found: String, allowed: String },
    #[error("--scenario trace needs --trace FILE; mixed needs no file")]
    NoTrace,
}

/// The part of a run that is left out at its start, until loads are what they tend to be.
const SETTLING: f64 = 0.1;
const JOBS: usize = 24_000;
const FIVE: Batch = Batch {
    max: 8,
    window_ms: 10,
};

impl Disturbance {
    /// Seconds that a joining server says it warms up, and then takes to its full speed.
    pub const WARMING: f64 = 15.0;
    const RISING: f64 = 20.0;

    fn span(self) -> (f64, f64) {
        match self {
            Disturbance::None => (SETTLING, 1.0),
            Disturbance::Slow => (0.2, 0.8),
            Disturbance::Cold | Disturbance::ColdTold => (0.3, 1.0),
            Disturbance::BlackHole => (0.3, 0.5),
        }
    }

    pub fn is_on(self, passed: f64) -> bool {
        let (from, to) = self.span();
        // Events stand exactly at the ends.
        (from - 1e-9..to - 1e-9).contains(&passed)
    }

    /// The arrivals that are looked at, in a run of `duration` seconds.
    pub fn window(self, duration: f64) -> Range<f64> {
        let (from, to) = self.span();
        let from = from * duration;
        match self {
            Disturbance::None => from..f64::INFINITY,
            Disturbance::Slow | Disturbance::BlackHole => from..to * duration,
            Disturbance::Cold | Disturbance::ColdTold => {
                from..from + Disturbance::WARMING + Disturbance::RISING
            }
        }
    }

    /// When something changes; gradual changes in steps.
    pub fn changes_at(self, duration: f64, step: f64) -> Vec<f64> {
        let (from, to) = self.span();
        match self {
            Disturbance::None => Vec::new(),
            Disturbance::Slow | Disturbance::BlackHole => vec![from * duration, to * duration],
            Disturbance::Cold | Disturbance::ColdTold => {
                let steps = ((Disturbance::WARMING + Disturbance::RISING) / step) as usize;
                let at = |count: usize| from * duration + count as f64 * step;
                (0..=steps).map(at).collect()
            }
        }
    }

    /// Whether the last server is not there from the start.
    pub fn is_joining(self) -> bool {
        matches!(self, Disturbance::Cold | Disturbance::ColdTold)
    }

    /// Speed of the joining server, `age` seconds after its joining.
    pub fn pace_of_cold(age: f64) -> f64 {
        if age < Disturbance::WARMING {
            return 0.1;
        }
        let risen = (age - Disturbance::WARMING) / Disturbance::RISING;
        (0.4 + 0.6 * risen).min(1.0)
    }
}

const LLM_H: Kind = Kind {
    speed: 1.0,
    slots: 16,
    base: 0.35,
    scale: 1.0,
    beta: 0.1,
};
const LLM_A: Kind = Kind {
    speed: 0.55,
    ..LLM_H
};
const LLM_M: Kind = Kind {
    speed: 0.5,
    slots: 10,
    base: 0.45,
    scale: 1.7,
    beta: 0.1,
};
const LLM_L: Kind = Kind {
    speed: 0.25,
    slots: 6,
    base: 0.5,
    scale: 3.0,
    beta: 0.1,
};
const LLM_EQUAL: [Kind; 8] = [LLM_H; 8];
const LLM_MIXED: [Kind; 8] = [LLM_H, LLM_H, LLM_H, LLM_A, LLM_A, LLM_M, LLM_L, LLM_L];

const IMAGE_H: Kind = Kind {
    speed: 1.0,
    slots: 4,
    base: 0.3,
    scale: 1.0,
    beta: 0.9,
};
const IMAGE_A: Kind = Kind {
    speed: 0.55,
    ..IMAGE_H
};
const IMAGE_L: Kind = Kind {
    speed: 0.3,
    slots: 2,
    base: 0.4,
    scale: 2.0,
    beta: 0.9,
};
const IMAGE_MIXED: [Kind; 8] = [
    IMAGE_H, IMAGE_H, IMAGE_H, IMAGE_A, IMAGE_A, IMAGE_A, IMAGE_L, IMAGE_L,
];

impl Scenario {
    /// The name without the load.
    pub fn family(&self) -> &str {
        let load = self.name.rsplit_once('_');
        load.filter(|(_, load)| load.parse::<f64>().is_ok())
            .map_or(&self.name, |(family, _)| family)
    }

    /// Those that the command line asks for: `all`, a family, or one; without a name, the trace if
    /// there is one, else all.
    pub fn choose(
        name: Option<&str>,
        trace: Option<Vec<Arrival>>,
        overrides: &Overrides,
    ) -> Result<Vec<Scenario>, ScenarioError> {
        let has_trace = trace.is_some();
        let name = name.unwrap_or(if has_trace { "trace" } else { "all" });
        if name == "trace" && !has_trace {
            return Err(ScenarioError::NoTrace);
        }
        let families = families(trace);
        let mut chosen = Vec::new();
        for family in &families {
            for &rho in &family.rhos {
                let scenario = family.at(rho);
                if name == "all" || name == family.base.name || name == scenario.name {
                    chosen.push(scenario);
                }
            }
        }
        if chosen.is_empty() {
            let names: Vec<&str> = families.iter().map(|family| &*family.base.name).collect();
            return Err(ScenarioError::Unknown {
                found: name.to_owned(),
                allowed: names.join(", "),
            });
        }
        if let Some(rho) = overrides.rho {
            let at_rho = families.iter().map(|family| family.at(rho));
            let is_chosen = |one: &Scenario| chosen.iter().any(|other| other.about == one.about);
            chosen = at_rho.filter(is_chosen).collect();
        }
        if let Some(mode) = overrides.mode {
            chosen.iter_mut().for_each(|scenario| scenario.mode = mode);
        }
        Ok(chosen)
    }
}

/// All scenarios that need no file, a line each.
pub fn list() -> String {
    let line = |family: Family| format!("{:<22} {}\n", family.base.name, family.base.about);
    families(None).into_iter().map(line).collect()
}

/// One scenario at several loads.
struct Family {
    base: Scenario,
    rhos: Vec<f64>,
}

impl Family {
    fn at(&self, rho: f64) -> Scenario {
        let name = if self.rhos.len() == 1 && self.rhos[0] == rho {
            self.base.name.clone()
        } else {
            format!("{}_{}", self.base.name, (rho * 1000.0).round() / 10.0)
        };
        Scenario {
            name,
            rho,
            ..self.base.clone()
        }
    }
}

fn family(name: &str, about: &'static str, servers: &[Kind], rhos: &[f64]) -> Family {
    Family {
        base: Scenario {
            name: name.to_owned(),
            about,
            servers: servers.to_vec(),
            weights: vec![10; servers.len()],
            workload: Workload::Llm,
            rho: 0.0,
            mode: Mode::Queue,
            proxies: 1,
            disturbance: Disturbance::None,
            batch: None,
            lie: None,
            jobs: JOBS,
        },
        rhos: rhos.to_vec(),
    }
}

const HIGH: [f64; 3] = [0.80, 0.86, 0.92];

fn families(trace: Option<Vec<Arrival>>) -> Vec<Family> {
    let mut all = vec![
        family(
            "mixed",
            "LLM-like, mixed GPUs, weights left equal",
            &LLM_MIXED,
            &HIGH,
        ),
        family(
            "image",
            "image-like, mixed GPUs, weights left equal",
            &IMAGE_MIXED,
            &HIGH,
        ),
        family(
            "pressure",
            "LLM-like, mixed GPUs, what does not fit is lost",
            &LLM_MIXED,
            &HIGH,
        ),
        family(
            "pressure_tuned",
            "LLM-like, mixed GPUs, weights tuned to the true speeds, what does not fit is lost",
            &LLM_MIXED,
            &HIGH,
        ),
        family(
            "image_pressure",
            "image-like, mixed GPUs, what does not fit is lost",
            &IMAGE_MIXED,
            &HIGH,
        ),
        family(
            "image_pressure_tuned",
            "image-like, mixed GPUs, weights tuned to the true speeds, what does not fit is lost",
            &IMAGE_MIXED,
            &HIGH,
        ),
        family(
            "black_hole",
            "equal GPUs, one of which fails fast for a while; figures of that time",
            &LLM_EQUAL,
            &[0.70],
        ),
        family(
            "equal",
            "LLM-like, equal GPUs",
            &LLM_EQUAL,
            &[0.80, 0.88, 0.95],
        ),
        family(
            "tuned",
            "LLM-like, mixed GPUs, weights tuned to the true speeds",
            &LLM_MIXED,
            &HIGH,
        ),
        family(
            "slow",
            "equal GPUs, one of which is slow for a while; figures of that time",
            &LLM_EQUAL,
            &[0.72],
        ),
        family(
            "cold",
            "equal GPUs, one of which joins and warms up; figures of that time; only gpu_aware \
             is told that it warms",
            &LLM_EQUAL,
            &[0.72],
        ),
        family(
            "cold_told",
            "the same, and every policy is told, which then gives it a tenth",
            &LLM_EQUAL,
            &[0.72],
        ),
        family(
            "bursts",
            "five small requests at once, which servers merge",
            &LLM_MIXED,
            &[0.80],
        ),
        family(
            "lies_low",
            "LLM-like, mixed GPUs, every other one of which says that it does nothing",
            &LLM_MIXED,
            &[0.86],
        ),
        family(
            "lies_high",
            "LLM-like, mixed GPUs, every other one of which says that it is full",
            &LLM_MIXED,
            &[0.86],
        ),
        family(
            "four_proxies",
            "LLM-like, mixed GPUs behind four proxies",
            &LLM_MIXED,
            &HIGH,
        ),
    ];
    for family in &mut all {
        set_apart(&mut family.base);
    }
    if let Some(arrivals) = trace {
        let about = "arrivals and sizes from the file given, mixed GPUs, weights left equal; `make \
                     sched` takes the code trace of the Azure Public Dataset (Microsoft, CC-BY-4.0, \
                     \"Splitwise: Efficient generative LLM inference using phase splitting\", ISCA \
                     2024)";
        let mut family = family("trace", about, &LLM_MIXED, &[0.70]);
        family.base.workload = Workload::Trace(arrivals);
        all.push(family);
    }
    all
}

/// What distinguishes a family beside servers and load.
fn set_apart(base: &mut Scenario) {
    match &*base.name {
        "image" => base.workload = Workload::Image,
        "pressure" => base.mode = Mode::Oom,
        "pressure_tuned" => {
            base.mode = Mode::Oom;
            base.weights = tuned(&base.servers);
        }
        "image_pressure" => {
            base.mode = Mode::Oom;
            base.workload = Workload::Image;
        }
        "image_pressure_tuned" => {
            base.mode = Mode::Oom;
            base.workload = Workload::Image;
            base.weights = tuned(&base.servers);
        }
        "black_hole" => {
            base.mode = Mode::Oom;
            base.disturbance = Disturbance::BlackHole;
        }
        "tuned" => base.weights = tuned(&base.servers),
        "slow" => base.disturbance = Disturbance::Slow,
        "cold" => base.disturbance = Disturbance::Cold,
        "cold_told" => base.disturbance = Disturbance::ColdTold,
        "bursts" => {
            base.workload = Workload::Bursts;
            base.batch = Some(FIVE);
        }
        "four_proxies" => base.proxies = 4,
        "lies_low" => base.lie = Some(0.0),
        "lies_high" => base.lie = Some(0.98),
        _ => {}
    }
}

/// Weights as the true capacities, the largest 100.
fn tuned(servers: &[Kind]) -> Vec<u16> {
    let largest = servers.iter().map(Kind::capacity).fold(0.0, f64::max);
    let weight = |kind: &Kind| (kind.capacity() / largest * 100.0).round() as u16;
    servers.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: Option<&str>, trace: Option<Vec<Arrival>>, rho: Option<f64>) -> Vec<String> {
        let overrides = Overrides { rho, mode: None };
        let chosen = Scenario::choose(name, trace, &overrides).expect("scenarios");
        chosen.into_iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn a_family_a_member_or_all_can_be_chosen() {
        assert_eq!(
            names(Some("mixed"), None, None),
            ["mixed_80", "mixed_86", "mixed_92"]
        );
        assert_eq!(names(Some("image_86"), None, None), ["image_86"]);
        assert_eq!(names(Some("mixed"), None, Some(0.9)), ["mixed_90"]);
        assert_eq!(names(Some("slow"), None, Some(0.72)), ["slow"]);
        assert_eq!(names(None, Some(Vec::new()), None), ["trace"]);
        let all = names(None, None, None);
        assert!(all.len() > 20 && !all.contains(&"trace".to_owned()));
        assert_eq!(
            names(Some("all"), Some(Vec::new()), None).len(),
            all.len() + 1
        );
    }

    #[test]
    fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let unknown = Scenario::choose(Some("mixd"), None, &Overrides::default());
        let text = unknown.expect_err("unknown").to_string();
        assert!(
            text.contains("\"mixd\"") && text.contains("black_hole"),
            "{text}"
        );
        let no_trace = Scenario::choose(Some("trace"), None, &Overrides::default());
        assert_eq!(no_trace, Err(ScenarioError::NoTrace));
    }

    #[test]
    fn names_come_apart_into_family_and_load() {
        for scenario in Scenario::choose(None, None, &Overrides::default()).expect("all") {
            let family = scenario.family();
            assert!(
                families(None).iter().any(|one| one.base.name == family),
                "{family}"
            );
        }
    }

    #[test]
    fn a_cold_server_rises_from_a_tenth_to_full_speed() {
        let pace = [0.0, 14.9, 15.0, 25.0, 35.0, 99.0].map(Disturbance::pace_of_cold);
        assert_eq!(pace, [0.1, 0.1, 0.4, 0.7, 1.0, 1.0]);
    }
}
