//! The families of scenarios: the kinds of servers, and what is simulated on them at which loads.

use contract::Batch;

use super::disturbance::Disturbance;
use super::scenario::Scenario;
use super::server::{Kind, Mode};
use super::workload::{Arrival, Workload};

/// One scenario at several loads.
pub struct Family {
    pub base: Scenario,
    pub rhos: Vec<f64>,
}

impl Family {
    pub fn at(&self, rho: f64) -> Scenario {
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

/// A family as it is written down below.
struct Described {
    name: &'static str,
    about: &'static str,
    servers: &'static [Kind],
    rhos: &'static [f64],
    /// What it has beside servers and loads.
    change: fn(&mut Scenario),
}

const FAMILIES: [Described; 16] = [
    Described {
        name: "mixed",
        about: "LLM-like, mixed GPUs, weights left equal",
        servers: &LLM_MIXED,
        rhos: &HIGH,
        change: |_| {},
    },
    Described {
        name: "image",
        about: "image-like, mixed GPUs, weights left equal",
        servers: &IMAGE_MIXED,
        rhos: &HIGH,
        change: |one| one.workload = Workload::Image,
    },
    Described {
        name: "pressure",
        about: "LLM-like, mixed GPUs, what does not fit is lost",
        servers: &LLM_MIXED,
        rhos: &HIGH,
        change: |one| one.mode = Mode::Oom,
    },
    Described {
        name: "pressure_tuned",
        about: "LLM-like, mixed GPUs, weights tuned to the true speeds, what does not fit is lost",
        servers: &LLM_MIXED,
        rhos: &HIGH,
        change: |one| {
            one.mode = Mode::Oom;
            tune(one);
        },
    },
    Described {
        name: "image_pressure",
        about: "image-like, mixed GPUs, what does not fit is lost",
        servers: &IMAGE_MIXED,
        rhos: &HIGH,
        change: |one| {
            one.workload = Workload::Image;
            one.mode = Mode::Oom;
        },
    },
    Described {
        name: "image_pressure_tuned",
        about: "image-like, mixed GPUs, weights tuned to the true speeds, what does not fit is lost",
        servers: &IMAGE_MIXED,
        rhos: &HIGH,
        change: |one| {
            one.workload = Workload::Image;
            one.mode = Mode::Oom;
            tune(one);
        },
    },
    Described {
        name: "black_hole",
        about: "equal GPUs, one of which fails fast for a while; figures of that time",
        servers: &LLM_EQUAL,
        rhos: &[0.70],
        change: |one| {
            one.mode = Mode::Oom;
            one.disturbance = Disturbance::BlackHole;
        },
    },
    Described {
        name: "equal",
        about: "LLM-like, equal GPUs",
        servers: &LLM_EQUAL,
        rhos: &[0.80, 0.88, 0.95],
        change: |_| {},
    },
    Described {
        name: "tuned",
        about: "LLM-like, mixed GPUs, weights tuned to the true speeds",
        servers: &LLM_MIXED,
        rhos: &HIGH,
        change: tune,
    },
    Described {
        name: "slow",
        about: "equal GPUs, one of which is slow for a while; figures of that time",
        servers: &LLM_EQUAL,
        rhos: &[0.72],
        change: |one| one.disturbance = Disturbance::Slow,
    },
    Described {
        name: "cold",
        about: "equal GPUs, one of which joins and warms up; figures of that time; only gpu_aware \
                is told that it warms",
        servers: &LLM_EQUAL,
        rhos: &[0.72],
        change: |one| one.disturbance = Disturbance::Cold,
    },
    Described {
        name: "cold_told",
        about: "the same, and every policy is told, which then gives it a tenth",
        servers: &LLM_EQUAL,
        rhos: &[0.72],
        change: |one| one.disturbance = Disturbance::ColdTold,
    },
    Described {
        name: "bursts",
        about: "five small requests at once, which servers merge",
        servers: &LLM_MIXED,
        rhos: &[0.80],
        change: |one| {
            one.workload = Workload::Bursts;
            one.batch = Some(EIGHT);
        },
    },
    Described {
        name: "lies_low",
        about: "LLM-like, mixed GPUs, every other one of which says that it does nothing",
        servers: &LLM_MIXED,
        rhos: &[0.86],
        change: |one| one.lie = Some(0.0),
    },
    Described {
        name: "lies_high",
        about: "LLM-like, mixed GPUs, every other one of which says that it is full",
        servers: &LLM_MIXED,
        rhos: &[0.86],
        change: |one| one.lie = Some(0.98),
    },
    Described {
        name: "four_proxies",
        about: "LLM-like, mixed GPUs behind four proxies",
        servers: &LLM_MIXED,
        rhos: &HIGH,
        change: |one| one.proxies = 4,
    },
];

/// All families; that of the trace where there is one.
pub fn families(trace: Option<Vec<Arrival>>) -> Vec<Family> {
    let mut all: Vec<Family> = FAMILIES.iter().map(Described::family).collect();
    if let Some(arrivals) = trace {
        let mut family = TRACE.family();
        family.base.workload = Workload::Trace(arrivals);
        all.push(family);
    }
    all
}

const TRACE: Described = Described {
    name: "trace",
    about: "arrivals and sizes from the file given, mixed GPUs, weights left equal; `make sched` \
            takes the code trace of the Azure Public Dataset (Microsoft, CC-BY-4.0, \"Splitwise: \
            Efficient generative LLM inference using phase splitting\", ISCA 2024)",
    servers: &LLM_MIXED,
    rhos: &[0.70],
    change: |_| {},
};

impl Described {
    fn family(&self) -> Family {
        let mut base = Scenario {
            name: self.name.to_owned(),
            about: self.about,
            servers: self.servers.to_vec(),
            weights: vec![10; self.servers.len()],
            workload: Workload::Llm,
            rho: 0.0,
            mode: Mode::Queue,
            proxies: 1,
            disturbance: Disturbance::None,
            batch: None,
            lie: None,
            jobs: JOBS,
        };
        (self.change)(&mut base);
        Family {
            base,
            rhos: self.rhos.to_vec(),
        }
    }
}

/// Weights as the true capacities, the largest 100.
fn tune(scenario: &mut Scenario) {
    let capacities = || scenario.servers.iter().map(Kind::capacity);
    let largest = capacities().fold(0.0, f64::max);
    let weights = capacities().map(|capacity| (capacity / largest * 100.0).round() as u16);
    scenario.weights = weights.collect();
}

const JOBS: usize = 24_000;
const EIGHT: Batch = Batch {
    max: 8,
    window_ms: 10,
};
const HIGH: [f64; 3] = [0.80, 0.86, 0.92];

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
